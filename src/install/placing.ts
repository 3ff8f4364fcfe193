/**
 * Files that are Holdfast's alone are put in place; new ones of a Holdfast that runs wait beside those in use, which are left alone until
 * the new ones are started. Knows neither what is in them nor when that is.
 */
import type { Machine } from './machine.js';
import type { NodeFiles } from './node-files.js';
import { paths } from './paths.js';
import { digest, readRecord, updateRecord } from './record.js';
import { waitsIn } from './rollback-script.js';
import type { Steps } from './steps.js';

/** Whether there is a Holdfast that has been started and seen to answer: what takes its place is an upgrade. */
export function isInUse(files: NodeFiles): boolean {
  const wasStarted = readRecord(files)?.startedWith !== undefined;
  return wasStarted && files.has(paths.launcher) && files.has(`${paths.units}/holdfast.service`);
}

/** Puts a file there that is Holdfast's alone. @returns Whether it was not so before. */
export async function put(
  machine: Machine,
  steps: Steps,
  file: string,
  content: Buffer,
  mode: number,
): Promise<boolean> {
  const { files } = machine;
  const isSame = isThere(files, file, content, mode);
  if (isSame) {
    steps.already(file);
  } else {
    await steps.do(!files.has(file) ? file : `${file}, in the place of another`, async () => {
      files.write(file, content, mode, true);
      await relabel(machine, file);
    });
  }
  if (!steps.dryRun) {
    const installed = readRecord(files)?.installed ?? {};
    const now = digest(content);
    if (installed[file] !== now) updateRecord(files, { installed: { ...installed, [file]: now } });
  }
  return !isSame;
}

/** SELinux's label, by the node's own rules. */
export async function relabel({ files, run }: Machine, file: string): Promise<void> {
  if (files.has('/sys/fs/selinux/enforce')) await run('restorecon', [file]);
}

/** As `put`, of a file whose place is taken. */
export async function putBeside(
  machine: Machine,
  steps: Steps,
  file: string,
  content: Buffer,
  mode: number,
): Promise<boolean> {
  const { files } = machine;
  if (isThere(files, file, content, mode)) {
    steps.already(file);
    if (!steps.dryRun) files.remove(waitsIn + file);
    return false;
  }
  if (isThere(files, waitsIn + file, content, mode)) {
    steps.already(`${file}: a new one waits beside it`);
    return true;
  }
  await steps.do(`${file}: a new one, beside the one in use`, async () => {
    files.write(waitsIn + file, content, mode, true);
    await relabel(machine, waitsIn + file);
  });
  return true;
}

function isThere(files: NodeFiles, file: string, content: Buffer, mode: number): boolean {
  return files.bytes(file)?.equals(content) === true && ((files.stat(file)?.mode ?? 0) & 0o777) === mode;
}

/** @returns The one that waits, where one does. */
export function newest(files: NodeFiles, file: string): string {
  return files.has(waitsIn + file) ? waitsIn + file : file;
}
