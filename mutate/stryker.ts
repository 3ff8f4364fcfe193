/** Runs StrykerJS over some of the sources and says what came of each mutant. Knows nothing of pieces and reasons. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { PartialStrykerOptions } from '@stryker-mutator/api/core';
import { Stryker } from '@stryker-mutator/core';
import { compiled } from './compiled.js';
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
    // What a run of the tests writes there meanwhile is gone before it is copied.
    ignorePatterns: ['.tap'],
    buildCommand: `tsx ${path.resolve('mutate/compile.ts')}`,
    tap: { testFiles: tests.map(compiled) },
  };
  try {
    const results = await new Stryker(options).runMutationTest();
    return results.map(outcomeOf);
  } finally {
    rmSync(tempDirName, { recursive: true, force: true });
  }
}

/** In its results lines and columns count from 1, in its ranges columns from 0. */
function outcomeOf({
  fileName,
  location: { start, end },
  mutatorName,
  replacement,
  status,
  statusReason,
}: Result): Outcome {
  const lines = readFileSync(fileName, 'utf8').split('\n');
  const changed = lines.slice(start.line - 1, end.line);
  const last = changed.length - 1;
  // The end first: on a single line the start moves it.
  changed[last] = changed[last]?.slice(0, end.column - 1) ?? '';
  changed[0] = changed[0]?.slice(start.column - 1) ?? '';
  return {
    file: path.relative('.', fileName),
    line: start.line,
    column: start.column - 1,
    endLine: end.line,
    endColumn: end.column - 1,
    text: lines[start.line - 1]?.trim() ?? '',
    mutator: mutatorName,
    from: changed.join('\n'),
    to: replacement ?? '',
    state: stateOf(status, statusReason),
  };
}

/** What is said of a test file that ends, or is not allowed to write (as nobody), before it has said what came of its tests. */
const diedOfIt = ['Tap process exited with code', "no such file or directory, open 'stryker-output-"];

/** A test file that dies before it has said of a test that it failed has noticed, too. */
function stateOf(status: Result['status'], reason = ''): Outcome['state'] {
  if (status === 'Killed' || status === 'Timeout' || diedOfIt.some((text) => reason.includes(text))) return 'killed';
  return status === 'Survived' || status === 'NoCoverage' ? 'survived' : 'error';
}
