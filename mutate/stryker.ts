/** Runs StrykerJS over some of the sources and says what came of each mutant. Knows nothing of pieces and reasons. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { PartialStrykerOptions } from '@stryker-mutator/api/core';
import { Stryker } from '@stryker-mutator/core';
import type { Outcome } from './judge.js';

type Result = Awaited<ReturnType<Stryker['runMutationTest']>>[number];

/**
 * Copies the project to a temporary folder and breaks it there.
 *
 * @param sources Files, globs or ranges (`src/a.ts:1:0-2:3`, lines from 1, columns from 0).
 * @param tests Files, each run by itself; the first that fails ends the run of a mutant.
 */
export async function mutate(sources: readonly string[], tests: readonly string[]): Promise<readonly Outcome[]> {
  const tempDirName = mkdtempSync(path.join(tmpdir(), 'hf-mutate-'));
  const options: PartialStrykerOptions = {
    mutate: [...sources],
    tempDirName,
    tap: { testFiles: [...tests], nodeArgs: ['--import', 'tsx'] },
  };
  try {
    const results = await new Stryker(options).runMutationTest();
    return results.map(outcomeOf);
  } finally {
    rmSync(tempDirName, { recursive: true, force: true });
  }
}

function outcomeOf({ fileName, location: { start, end }, mutatorName, replacement, status }: Result): Outcome {
  const lines = readFileSync(fileName, 'utf8').split('\n');
  const changed = lines.slice(start.line, end.line + 1);
  const last = changed.length - 1;
  // The end first: on a single line the start moves it.
  changed[last] = changed[last]?.slice(0, end.column) ?? '';
  changed[0] = changed[0]?.slice(start.column) ?? '';
  return {
    file: path.relative('.', fileName),
    line: start.line + 1,
    column: start.column,
    endLine: end.line + 1,
    endColumn: end.column,
    text: lines[start.line]?.trim() ?? '',
    mutator: mutatorName,
    from: changed.join('\n'),
    to: replacement ?? '',
    state: stateOf(status),
  };
}

function stateOf(status: Result['status']): Outcome['state'] {
  if (status === 'Killed' || status === 'Timeout') return 'killed';
  return status === 'Survived' || status === 'NoCoverage' ? 'survived' : 'error';
}
