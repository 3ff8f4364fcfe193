/** The stage `artifacts`: the program with the node binary it is run by, its launcher and its configuration. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { complaint, type Machine } from './machine.js';
import { configuredRuntime } from './node-facts.js';
import { paths } from './paths.js';
import { digest, readRecord, updateRecord } from './record.js';
import { Refusal } from './refusal.js';
import { shippedFile } from './shipped-files.js';
import type { Steps } from './steps.js';

export interface Artifacts {
  /** Files of this process's own root. */
  readonly node: string;
  readonly program: string;
}

const launcherText = `#!/bin/sh
# Made by holdfast install.
exec ${paths.node} ${paths.bundle} "$@"
`;

/** @returns The one file that holds all of Holdfast; undefined where it runs from many. */
export function ownProgram(): string | undefined {
  const own = fileURLToPath(import.meta.url);
  const built = fileURLToPath(new URL('../holdfast.mjs', import.meta.url));
  return [own, built].find((file) => basename(file) === basename(paths.bundle) && existsSync(file));
}

/** @throws {Refusal} The node cannot run the node binary, or the configuration is for another runtime. */
export async function installArtifacts(
  machine: Machine,
  steps: Steps,
  artifacts: Artifacts,
  runtime: string,
  config?: string,
): Promise<void> {
  const { files, run } = machine;
  await put(machine, steps, paths.node, givenFile('node', artifacts.node), 0o755);
  await put(machine, steps, paths.bundle, givenFile('program', artifacts.program), 0o644);
  await put(machine, steps, paths.launcher, Buffer.from(launcherText), 0o755);
  if (!steps.dryRun) {
    const ran = await run(paths.launcher, ['--version']);
    if (ran.code !== 0) {
      throw new Refusal(
        `${paths.launcher} does not run here: ${complaint(ran)}`,
        'give a node binary for this machine (20.19 or later, with the C library it was built for): --node FILE',
      );
    }
    steps.note(`it runs: Holdfast ${ran.stdout.trim()}`);
  }
  await installLink(machine, steps);
  await installConfig(machine, steps, runtime, config);
  if (!steps.dryRun) updateRecord(files, { runtime });
}

/** @throws {Refusal} There is no such file; a pipe or a device would be read for ever. */
function givenFile(option: string, file: string): Buffer {
  try {
    if (statSync(file).isFile()) return readFileSync(file);
  } catch (error) {
    throw new Refusal(
      `--${option}: cannot read ${file}: ${error instanceof Error ? error.message : error}`,
      'give a file',
    );
  }
  throw new Refusal(`--${option}: ${file} is not a regular file`, 'give a file');
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
  const there = files.bytes(file);
  const isSame = there?.equals(content) === true && ((files.stat(file)?.mode ?? 0) & 0o777) === mode;
  if (isSame) {
    steps.already(file);
  } else {
    await steps.do(there === undefined ? file : `${file}, in the place of another`, async () => {
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

async function installLink({ files }: Machine, steps: Steps): Promise<void> {
  const target = files.linkTarget(paths.link);
  if (target === paths.launcher) {
    steps.already(`${paths.link} → ${paths.launcher}`);
  } else if (target !== undefined || files.has(paths.link)) {
    steps.warn(`${paths.link} is something else and stays; the command is ${paths.launcher}`);
  } else {
    try {
      await steps.do(`${paths.link} → ${paths.launcher}`, () => files.link(paths.link, paths.launcher));
    } catch (error) {
      steps.warn(`${paths.link} cannot be made (${String(error)}); the command is ${paths.launcher}`);
    }
  }
}

/** @param given A file of this process's own root, which takes the place of one that `install` has put there; of no other. */
async function installConfig(
  machine: Machine,
  steps: Steps,
  runtime: string,
  given: string | undefined,
): Promise<void> {
  const { files } = machine;
  const text =
    given === undefined
      ? (shippedFile('holdfast.yaml') ?? `listen: ${paths.socket}\n`)
      : parsedConfig(givenFile('config', given).toString(), given);
  const line = `runtime: ${runtime}`;
  const wanted = /^runtime:/m.test(text) ? text.replace(/^runtime:.*$/m, () => line) : `${line}\n${text}`;
  const there = files.text(paths.config);
  const isAsInstalled = there !== undefined && digest(there) === readRecord(files)?.installed[paths.config];
  if (there === undefined || there === wanted || (given !== undefined && isAsInstalled)) {
    await put(machine, steps, paths.config, Buffer.from(wanted), 0o644);
    return;
  }
  const told = configuredRuntime(there);
  if (told !== runtime) {
    throw new Refusal(
      `${paths.config} is there and its runtime is ${told ?? 'none that is a socket'}, not ${runtime}`,
      `change that line in ${paths.config}, or install for the runtime that it names`,
    );
  }
  const which = given === undefined ? 'the one of this version' : given;
  steps.already(`${paths.config}, which is kept; ${which} differs in`);
  for (const other of difference(there, wanted)) steps.note(`  ${other}`);
}

/** @throws {Refusal} It is no mapping in YAML, and Holdfast would not start with it. */
function parsedConfig(text: string, file: string): string {
  try {
    const parsed: unknown = parse(text) ?? {};
    if (typeof parsed === 'object' && !Array.isArray(parsed)) return text;
  } catch {
    // Said below.
  }
  throw new Refusal(
    `${file} is not a configuration in YAML`,
    'give options of holdfast serve, one a line, like metrics: off',
  );
}

/** @returns Lines that only one of two texts has: `- ` the one that is there, `+ ` the new one; without comments. */
function difference(there: string, wanted: string): string[] {
  const lines = (text: string) => text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const [old, now] = [lines(there), lines(wanted)];
  return [
    ...old.filter((line) => !now.includes(line)).map((line) => `- ${line}`),
    ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line}`),
  ];
}
