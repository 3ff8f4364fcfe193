/**
 * The stage `artifacts`: the program with the node binary it is run by, its launcher and its configuration. Those of a Holdfast that runs
 * are left alone: the new ones wait beside them for the stage `units`, and have shown by then that they can be started.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { Machine } from './machine.js';
import { configuredRuntime } from './node-facts.js';
import { paths } from './paths.js';
import { isInUse, newest, put, putBeside } from './placing.js';
import { tryProgram, versionOf } from './program-trial.js';
import { digest, readRecord, updateRecord } from './record.js';
import { Refusal } from './refusal.js';
import { waitsIn } from './rollback-script.js';
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

/** @throws {Refusal} The node cannot run the node binary, or the configuration is for another runtime or refused by the program. */
export async function installArtifacts(
  machine: Machine,
  steps: Steps,
  artifacts: Artifacts,
  runtime: string,
  config?: string,
): Promise<void> {
  const { files } = machine;
  const lay = isInUse(files) ? putBeside : put;
  try {
    await lay(machine, steps, paths.node, givenFile('node', artifacts.node), 0o755);
    await lay(machine, steps, paths.bundle, givenFile('program', artifacts.program), 0o644);
    await lay(machine, steps, paths.launcher, Buffer.from(launcherText), 0o755);
    const program = { node: newest(files, paths.node), bundle: newest(files, paths.bundle) };
    if (!steps.dryRun) steps.note(`it runs: Holdfast ${await versionOf(machine, program)}`);
    await installLink(machine, steps);
    await installConfig(machine, steps, lay, runtime, config);
    if (!steps.dryRun) await tryProgram(machine, program, newest(files, paths.config));
  } catch (error) {
    if (!steps.dryRun && lay === putBeside) files.remove(waitsIn);
    throw error;
  }
  if (steps.dryRun) await tryUnlaid(machine, artifacts, config);
  else updateRecord(files, { runtime });
}

/** With what it would be started, where nothing has been put on the node; a container's files cannot be run there. */
async function tryUnlaid(machine: Machine, { node, program }: Artifacts, config: string | undefined): Promise<void> {
  const { files } = machine;
  if (files.root !== '/' || config !== undefined || !files.has(paths.config)) return;
  await tryProgram(machine, { node, bundle: program }, paths.config);
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
  lay: typeof put,
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
    await lay(machine, steps, paths.config, Buffer.from(wanted), 0o644);
    return;
  }
  const told = configuredRuntime(there);
  if (told !== runtime) {
    throw new Refusal(
      `${paths.config} is there and its runtime is ${told ?? 'none that is a socket'}, not ${runtime}`,
      `change that line in ${paths.config}, or install for the runtime that it names`,
    );
  }
  if (!steps.dryRun) files.remove(waitsIn + paths.config);
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
