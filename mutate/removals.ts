/** Leaves out statements, which StrykerJS does not do: calls, assignments and the like. */
import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { BrokenCopy, type Change } from './copy.js';
import type { Outcome } from './judge.js';

/** The name of this kind of break beside those of StrykerJS. */
export const removal = 'StatementRemoval';

/** @returns A change for each, in the order of the file. Fields that a constructor fills are left: nothing works without them. */
export function removalsIn(file: string): readonly Change[] {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true);
  const found: Change[] = [];
  const look = (node: ts.Node): void => {
    if (ts.isExpressionStatement(node) && !isOfConstructor(node)) {
      found.push({ file, start: node.getStart(source), end: node.getEnd(), to: ';' });
    }
    ts.forEachChild(node, look);
  };
  look(source);
  return found;
}

/** @param told Of each when it is known. */
export async function remove(
  changes: readonly Change[],
  tests: readonly string[],
  told: (outcome: Outcome) => void,
): Promise<readonly Outcome[]> {
  if (changes.length === 0) return [];
  const left = [...changes];
  const outcomes: Outcome[] = [];
  const work = async (copy: BrokenCopy) => {
    try {
      for (let change = left.shift(); change !== undefined; change = left.shift()) {
        const outcome = outcomeOf(change, await copy.notices(change, tests));
        outcomes.push(outcome);
        told(outcome);
      }
    } finally {
      copy.remove();
    }
  };
  const first = new BrokenCopy();
  const failing = await first.firstFailing(tests);
  if (failing !== undefined) {
    first.remove();
    throw new Error(`${failing} fails with nothing broken`);
  }
  await Promise.all([work(first), work(new BrokenCopy())]);
  return outcomes;
}

export function outcomeOf({ file, start, end, to }: Change, noticed: boolean): Outcome {
  const whole = readFileSync(file, 'utf8');
  const source = ts.createSourceFile(file, whole, ts.ScriptTarget.Latest);
  const [from, until] = [start, end].map((at) => source.getLineAndCharacterOfPosition(at));
  const line = from?.line ?? 0;
  return {
    file,
    line: line + 1,
    column: from?.character ?? 0,
    endLine: (until?.line ?? 0) + 1,
    endColumn: until?.character ?? 0,
    text: whole.split('\n')[line]?.trim() ?? '',
    mutator: removal,
    from: whole.slice(start, end),
    to,
    state: noticed ? 'killed' : 'survived',
  };
}

function isOfConstructor({ parent }: ts.Node): boolean {
  return ts.isBlock(parent) && ts.isConstructorDeclaration(parent.parent);
}
