/** Changes that no test has to notice, each with the reason: equivalent.yaml. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

export interface Equivalent {
  readonly file: string;
  /** The whole line that is changed, without the space before it. */
  readonly line: string;
  /** What stands there instead of something on it; undefined: whatever does. */
  readonly by?: readonly string[];
  readonly why: string;
}

interface Reason {
  readonly why: string;
  readonly lines: readonly string[];
  readonly by?: readonly string[];
}

export function readEquivalents(path = 'mutate/equivalent.yaml'): readonly Equivalent[] {
  const byFile: Readonly<Record<string, readonly Reason[]>> = parse(readFileSync(path, 'utf8'));
  return Object.entries(byFile).flatMap(([file, reasons]) =>
    reasons.flatMap(({ lines, ...reason }) => lines.map((line) => ({ file, line, ...reason }))),
  );
}
