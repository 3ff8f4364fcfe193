/** The stage `host-check`: whether this node can have Holdfast at all; changes nothing. */
import { statfsSync } from 'node:fs';
import { type AskVersion, criVersion, shownFault, versionWithinMs } from './cri-version.js';
import { shownSource } from './kubelet.js';
import { complaint, type Machine } from './machine.js';
import type { NodeFacts } from './node-facts.js';
import type { NodeFiles } from './node-files.js';
import { Refusal } from './refusal.js';
import type { Steps } from './steps.js';

/** The program with its node binary, once more while it is replaced. */
export const neededBytes = 400 * 1024 * 1024;
/** What the units of Holdfast and `systemd-run --on-active` with a unit's name ask for. */
const leastSystemd = 240;
/** Since 1.27 the endpoint is a field of the configuration. */
const leastWithField = 27;

/** @throws {Refusal} It cannot. */
export async function hostCheck(
  machine: Machine,
  steps: Steps,
  { platform, kubelet, kubeletUnit, runtime }: NodeFacts,
  ask: AskVersion = criVersion,
): Promise<void> {
  steps.note(`platform ${platform}, kubelet in ${kubeletUnit}, runtime ${runtime}`);
  if (kubelet !== undefined) {
    steps.note(`the kubelet's endpoint is ${kubelet.setup.endpoint} (${shownSource(kubelet.setup.from)})`);
  }
  await refuseWithoutSystemd(machine, steps);
  const version = await ask(machine.files.real(runtime), versionWithinMs).catch((error: unknown) => {
    throw new Refusal(
      `the runtime does not answer on ${runtime}: ${shownFault(error)}`,
      'start it, or say its socket: --runtime',
    );
  });
  steps.note(`the runtime is ${version.runtimeName} ${version.runtimeVersion}, CRI ${version.apiVersion}`);
  const free = freeBytes(machine, '/opt') ?? neededBytes;
  if (free < neededBytes) {
    throw new Refusal(`/opt has ${mebibytes(free)} MiB left, of ${mebibytes(neededBytes)} needed`, 'make room there');
  }
  if (kubelet === undefined || kubelet.setup.from.kind === 'flag' || kubelet.sources.ownConfigDir !== undefined) return;
  const [program = 'kubelet'] = kubelet.setup.words.map(({ text }) => text);
  const { stdout } = await machine.run(program, ['--version']);
  if (Number(/v1\.(\d+)/.exec(stdout)?.[1] ?? leastWithField) < leastWithField) {
    throw new Refusal(
      `${stdout.trim()} knows the endpoint as a flag only, and ${kubeletUnit} has no such flag`,
      "give it --container-runtime-endpoint with the runtime's socket first; Holdfast then changes that",
    );
  }
}

async function refuseWithoutSystemd({ files, run }: Machine, steps: Steps): Promise<void> {
  const ran = await run('systemctl', ['--version']);
  const version = Number(/^systemd (\d+)/.exec(ran.stdout)?.[1] ?? 0);
  if (version < leastSystemd || !files.has('/run/systemd/system')) {
    throw new Refusal(
      version < leastSystemd ? `systemd ${leastSystemd} is needed: ${complaint(ran)}` : 'systemd does not run here',
      'systemd starts, watches and bypasses Holdfast: nodes without it are not supported',
    );
  }
  if (!hasSocketProxy(files)) {
    steps.warn('systemd-socket-proxyd is not there: nothing stands in for a Holdfast that crashes again and again');
  }
}

/** What stands in for Holdfast. Distributions have it in either folder. */
export function hasSocketProxy(files: NodeFiles): boolean {
  return ['/usr/lib', '/lib'].some((folder) => files.has(`${folder}/systemd/systemd-socket-proxyd`));
}

/** @returns undefined where that cannot be told. */
export function freeBytes({ files }: Pick<Machine, 'files'>, folder: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(files.real(files.has(folder) ? folder : '/'));
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

export function mebibytes(bytes: number): number {
  return Math.floor(bytes / 1024 / 1024);
}
