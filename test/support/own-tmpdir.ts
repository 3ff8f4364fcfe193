import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';

/** A temporary directory of its own, in which what is left behind is seen. */
export function ownTmpdir(test: Test): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'demo-'));
  const before = process.env.TMPDIR;
  process.env.TMPDIR = directory;
  test.teardown(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}
