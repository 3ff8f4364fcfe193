/** Mutants that no test has to notice, each with the reason. */

export interface Equivalent {
  readonly file: string;
  /** The whole line that is changed, without the space before it. */
  readonly line: string;
  /** What stands there instead of something on it; undefined: whatever does. */
  readonly by?: readonly string[];
  readonly why: string;
}

export const equivalents: readonly Equivalent[] = [];
