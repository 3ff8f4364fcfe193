/** What came of each mutant, beside the reasons that are written down, and the score of each file. Knows nothing of how mutants are run. */
import type { Equivalent } from './equivalent.js';

/** One change to a file, and whether a test noticed it. */
export interface Outcome {
  /** Relative to the project. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 0. */
  readonly column: number;
  readonly endLine: number;
  readonly endColumn: number;
  /** The whole first line of what is changed, without the space before it. */
  readonly text: string;
  readonly mutator: string;
  /** What is changed, and into what. */
  readonly from: string;
  readonly to: string;
  readonly state: 'killed' | 'survived' | 'error';
}

export interface Verdict {
  readonly outcome: Outcome;
  /** Why no test has to notice it; undefined: none is written down. */
  readonly why: string | undefined;
}

/** @returns What survived. */
export function judge(outcomes: readonly Outcome[], equivalents: readonly Equivalent[]): readonly Verdict[] {
  return outcomes
    .filter(({ state }) => state === 'survived')
    .map((outcome) => ({ outcome, why: equivalents.find((reason) => applies(reason, outcome))?.why }));
}

/** Reasons for changes that are not made any more, though their file was broken. One that is noticed after all does no harm. */
export function idle(outcomes: readonly Outcome[], equivalents: readonly Equivalent[]): readonly Equivalent[] {
  const files = new Set(outcomes.map(({ file }) => file));
  return equivalents.filter(
    (reason) => files.has(reason.file) && !outcomes.some((outcome) => applies(reason, outcome)),
  );
}

export interface Score {
  readonly file: string;
  readonly killed: number;
  /** Survivors with a reason. */
  readonly explained: number;
  /** Survivors without. */
  readonly survived: number;
  /** Those that could not be run; they count neither way. */
  readonly errors: number;
  /** How many per cent of those without a reason were noticed. */
  readonly percent: number;
}

/** Of each file, by name. */
export function scores(outcomes: readonly Outcome[], verdicts: readonly Verdict[]): readonly Score[] {
  const files = [...new Set(outcomes.map(({ file }) => file))].sort();
  return files.map((file) => {
    const count = (state: Outcome['state']) =>
      outcomes.filter((outcome) => outcome.file === file && outcome.state === state).length;
    const killed = count('killed');
    const own = verdicts.filter(({ outcome }) => outcome.file === file);
    const explained = own.filter(({ why }) => why !== undefined).length;
    const survived = own.length - explained;
    const judged = killed + survived;
    return {
      file,
      killed,
      explained,
      survived,
      errors: count('error'),
      percent: judged === 0 ? 100 : (100 * killed) / judged,
    };
  });
}

function applies({ file, line, by }: Equivalent, outcome: Outcome): boolean {
  return (
    file === outcome.file &&
    line === outcome.text &&
    (by === undefined || by.some((each) => onOneLine(each) === onOneLine(outcome.to)))
  );
}

/** Mutators lay out anew what they make. */
function onOneLine(code: string): string {
  return code.replaceAll(/\s+/g, ' ');
}
