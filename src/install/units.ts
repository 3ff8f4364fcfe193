/** The stage `units`: systemd gets Holdfast's units, starts them, and Holdfast has to pass on a call before a kubelet is sent there. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { put } from './artifacts.js';
import { type AskVersion, type CriVersion, criVersion, shownFault } from './cri-version.js';
import { unitState } from './kubelet.js';
import { complaint, type Machine, pause } from './machine.js';
import { paths, unitNames } from './paths.js';
import { defaultRuntimes } from './platform.js';
import { digest, readRecord, updateRecord } from './record.js';
import { Refusal } from './refusal.js';
import { shippedFile } from './shipped-files.js';
import type { Steps } from './steps.js';

/** Start-up takes a second or two, on a loaded node several. */
const answerWithinMs = 30_000;
const askEachMs = 250;

export interface UnitsFor {
  readonly runtime: string;
  readonly kubeletUnit: string;
  /** Folder with unit files; undefined: those that came with the program. */
  readonly folder: string | undefined;
}

/** @returns Names and texts of those that are there, for this runtime and this kubelet. */
export function unitFiles({ runtime, kubeletUnit, folder }: UnitsFor): [name: string, text: string][] {
  return unitNames.flatMap((name): [string, string][] => {
    const text = folder === undefined ? shippedFile(`systemd/${name}`) : readIfThere(join(folder, name));
    if (text === undefined) return [];
    const adapted = text
      .replaceAll(defaultRuntimes.containerd, () => runtime)
      .replaceAll(/\bkubelet\.service\b/g, () => kubeletUnit);
    return [[name, adapted]];
  });
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** @throws {Refusal} systemd does not take them, or Holdfast does not answer. */
export async function installUnits(
  machine: Machine,
  steps: Steps,
  units: UnitsFor,
  ask: AskVersion = criVersion,
): Promise<void> {
  const { files } = machine;
  const wanted = unitFiles(units);
  if (!wanted.some(([name]) => name === 'holdfast.service')) {
    throw new Refusal(
      `there is no holdfast.service ${units.folder === undefined ? 'with this program' : `in ${units.folder}`}`,
      'say the folder with the unit files: --units DIR',
    );
  }
  let changed = false;
  for (const [name, text] of wanted) {
    changed = (await put(machine, steps, `${paths.units}/${name}`, Buffer.from(text), 0o644)) || changed;
  }
  const program = [paths.node, paths.bundle, paths.config].map((file) => files.bytes(file) ?? '');
  const startedWith = digest([...program, ...wanted.map(([, text]) => text)].map((part) => digest(part)).join());
  // An earlier run may have come no further than the files.
  const isNew = changed || readRecord(files)?.startedWith !== startedWith;
  if (isNew && !steps.dryRun) await systemctl(machine, 'daemon-reload');
  // Those with an [Install] section are for the boot; the others are started by them.
  const names = wanted.filter(([, text]) => /^\[Install\]/m.test(text)).map(([name]) => name);
  for (const name of names) {
    const { stdout } = await machine.run('systemctl', ['is-enabled', name]);
    if (stdout.trim() === 'enabled') steps.already(`${name} is enabled`);
    else await steps.do(`${name} enabled`, () => systemctl(machine, 'enable', name));
  }
  await start(machine, steps, names, startedWith);
  if (steps.dryRun) return;
  const { runtimeName, runtimeVersion } = await waitForVersion(machine, ask, answerWithinMs);
  updateRecord(files, { startedWith, kubeletUnit: units.kubeletUnit, runtime: units.runtime });
  steps.note(`${runtimeName} ${runtimeVersion} answers through ${paths.socket}`);
}

async function start(machine: Machine, steps: Steps, names: readonly string[], startedWith: string): Promise<void> {
  const service = 'holdfast.service';
  const isActive = async (name: string) => (await unitState(machine, name, 'ActiveState')).ActiveState === 'active';
  const ran = await isActive(service);
  if (!steps.dryRun) await refuseBypassedByHand(machine, service);
  for (const name of names.filter((unit) => unit !== service)) {
    if (await isActive(name)) {
      steps.already(`${name} is active`);
      continue;
    }
    await steps.do(`${name} started`, async () => {
      // systemd starts no socket of a service that runs: one of an earlier version has made its socket itself.
      if (ran && name.endsWith('.socket')) await systemctl(machine, 'stop', service);
      await systemctl(machine, 'start', name);
    });
  }
  if (!(await isActive(service))) {
    await steps.do(`${service} started`, async () => {
      await machine.run('systemctl', ['reset-failed', service]);
      await systemctl(machine, 'start', service);
    });
  } else if (readRecord(machine.files)?.startedWith !== startedWith) {
    await steps.do(`${service} restarted with what is new`, () => systemctl(machine, 'restart', service));
  } else {
    steps.already(`${service} is active`);
  }
}

/** Whoever has taken Holdfast out of the way wants it to stay there, also where something installs it again and again. */
async function refuseBypassedByHand(machine: Machine, service: string): Promise<void> {
  const [bypass, own] = await Promise.all([
    unitState(machine, 'holdfast-bypass.service', 'ActiveState'),
    unitState(machine, service, 'ActiveState'),
  ]);
  // After a failure it is failed, or about to be tried again.
  if (bypass.ActiveState !== 'active' || own.ActiveState !== 'inactive') return;
  throw new Refusal(
    `Holdfast is bypassed by hand: ${machine.files.text(paths.bypassed)?.trim() ?? 'holdfast-bypass.service runs'}`,
    `systemctl start ${service} ends that; then run this again`,
  );
}

/** @throws {Refusal} No answer in time, or from what stands in for Holdfast. */
export async function waitForVersion(machine: Machine, ask: AskVersion, withinMs: number): Promise<CriVersion> {
  const until = machine.clock.now() + withinMs;
  for (;;) {
    let fault: string;
    try {
      const version = await ask(machine.files.real(paths.socket), Math.min(10_000, withinMs));
      const why = machine.files.text(paths.bypassed);
      if (why === undefined) return version;
      fault = `Holdfast is bypassed: ${why.trim()}`;
    } catch (error) {
      fault = `Holdfast does not answer on ${paths.socket}: ${shownFault(error)}`;
    }
    if (machine.clock.now() >= until) {
      throw new Refusal(fault, 'see journalctl -u holdfast.service; the kubelet has not been touched');
    }
    await pause(machine, askEachMs);
  }
}

/** @throws {Refusal} It failed. */
export async function systemctl({ run }: Pick<Machine, 'run'>, ...args: readonly string[]): Promise<void> {
  const ran = await run('systemctl', args);
  if (ran.code !== 0) {
    throw new Refusal(`systemctl ${args.join(' ')}: ${complaint(ran)}`, 'put that right, and run this again');
  }
}
