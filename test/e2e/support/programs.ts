/** Programs of this machine that e2e tests need. */
import fs from 'node:fs';
import path from 'node:path';

/** HOLDFAST_TEST_CONTAINERD: a folder with another containerd, its ctr and its shim than those in the PATH. */
export const containerdFolder =
  process.env.HOLDFAST_TEST_CONTAINERD && path.resolve(process.env.HOLDFAST_TEST_CONTAINERD);

/** Where programs are looked for: root's own directories too, which not every shell has in its PATH. */
export const searchPath = [containerdFolder, process.env.PATH, '/usr/sbin', '/sbin'].filter(Boolean).join(':');

/** @param program A name, or an absolute path. */
export function find(program: string): string | undefined {
  return searchPath
    .split(':')
    .map((directory) => path.resolve(directory, program))
    .find((file) => fs.existsSync(file));
}

/**
 * What the `skip` of an e2e test has to be: `reason` where there is one, else false. With `CI=true` it is false in any case: a
 * test that cannot run has failed there.
 */
export function skipFor(reason: string | undefined): string | false {
  return process.env.CI === 'true' ? false : (reason ?? false);
}

/** @returns A reason where some of these are not there. */
export function missingPrograms(...programs: readonly string[]): string | undefined {
  const absent = programs.filter((program) => find(program) === undefined);
  return absent.length > 0 ? `needs ${absent.join(', ')}` : undefined;
}
