/** The stage `units`: systemd gets Holdfast's units, starts them, and Holdfast has to pass on a call before a kubelet is sent there. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Asks, nodeAsks } from './asks.js';
import { holdfastWatch } from './confirmation.js';
import { type AskVersion, type CriVersion, shownFault } from './cri-version.js';
import { type Machine, pause } from './machine.js';
import type { Kubelet } from './node-facts.js';
import { paths, programFiles, unitNames } from './paths.js';
import { isInUse, newest, put, putBeside } from './placing.js';
import { defaultRuntimes } from './platform.js';
import { tryProgram, versionOf } from './program-trial.js';
import { digest, readRecord, updateRecord } from './record.js';
import { Refusal } from './refusal.js';
import { keptIn, rollback, waitsIn } from './rollback-script.js';
import { shippedFile } from './shipped-files.js';
import type { Steps } from './steps.js';
import { startAnew, systemctl, unitState } from './systemctl.js';
import { upgradeHoldfast } from './upgrade.js';

const service = 'holdfast.service';

/** Start-up takes a second or two, on a loaded node several. */
const answerWithinMs = 30_000;
const askEachMs = 250;

export interface UnitsFor {
  readonly runtime: string;
  readonly kubeletUnit: string;
  /** Folder with unit files; undefined: those that came with the program. */
  readonly folder: string | undefined;
  /** What has to do well after an upgrade, too, how soon, and how long one that was taken back is not tried again, ms. */
  readonly kubelet: Kubelet | undefined;
  readonly confirmWithinMs: number;
  readonly retryAfterMs: number;
}

/** @returns Names and texts of those that are there, for this runtime and this kubelet. */
export function unitFiles({
  runtime,
  kubeletUnit,
  folder,
}: Pick<UnitsFor, 'runtime' | 'kubeletUnit' | 'folder'>): [name: string, text: string][] {
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

/**
 * @throws {Refusal} systemd does not take them, or Holdfast does not answer.
 * @throws {RevertedError} What is new did not do well, and what was there before is back.
 */
export async function installUnits(
  machine: Machine,
  steps: Steps,
  units: UnitsFor,
  asks: Asks = nodeAsks,
): Promise<void> {
  const { files } = machine;
  const wanted = unitFiles(units);
  if (!wanted.some(([name]) => name === service)) {
    throw new Refusal(
      `there is no ${service} ${units.folder === undefined ? 'with this program' : `in ${units.folder}`}`,
      'say the folder with the unit files: --units DIR',
    );
  }
  const lay = isInUse(files) ? putBeside : put;
  // An earlier stage would have, in a dry run.
  let changed = steps.dryRun && steps.changed > 0;
  for (const [name, text] of wanted) {
    changed = (await lay(machine, steps, `${paths.units}/${name}`, Buffer.from(text), 0o644)) || changed;
  }
  const places = [...programFiles, ...wanted.map(([name]) => `${paths.units}/${name}`)];
  const waiting = lay === putBeside ? places.filter((file) => files.has(waitsIn + file)) : [];
  const program = [paths.node, paths.bundle, paths.config].map((file) => files.bytes(newest(files, file)) ?? '');
  const startedWith = digest([...program, ...wanted.map(([, text]) => text)].map((part) => digest(part)).join());
  // An earlier run may have come no further than the files.
  const isNew = changed || readRecord(files)?.startedWith !== startedWith;
  // Those with an [Install] section are for the boot; the others are started by them.
  const names = wanted.filter(([, text]) => /^\[Install\]/m.test(text)).map(([name]) => name);
  if (!steps.dryRun) {
    await refuseBypassedByHand(machine);
    if (isNew && lay === putBeside) await tryNewest(machine);
  }
  const starting = async () => {
    if (isNew && !steps.dryRun) await systemctl(machine, 'daemon-reload');
    await enable(machine, steps, names);
    await start(machine, steps, names, isNew);
  };
  if (waiting.length > 0 && !steps.dryRun) {
    const [from, to] = await versions(machine);
    await upgradeHoldfast(machine, steps, { ...units, waiting, startedWith, from, to, start: starting }, asks);
  } else {
    await starting();
  }
  if (steps.dryRun) {
    const within = `${units.confirmWithinMs / 1000} s`;
    if (isNew && lay === putBeside) steps.note(`what is new would be taken back unless it does well within ${within}`);
    return;
  }
  const { runtimeName, runtimeVersion } = await waitForVersion(machine, asks.version, answerWithinMs);
  for (const left of [rollback.undone, waitsIn, keptIn]) files.remove(left);
  updateRecord(files, { startedWith, kubeletUnit: units.kubeletUnit, runtime: units.runtime });
  steps.note(`${runtimeName} ${runtimeVersion} answers through ${paths.socket}`);
}

/** @throws {Refusal} The program would not start as it would be started now. */
async function tryNewest(machine: Machine): Promise<void> {
  const [node, bundle, config] = [paths.node, paths.bundle, paths.config].map((file) => newest(machine.files, file));
  if (node !== undefined && bundle !== undefined && config !== undefined) {
    await tryProgram(machine, { node, bundle }, config);
  }
}

/** @returns Of what is in place and of what waits. */
async function versions(machine: Machine): Promise<[from: string, to: string]> {
  const { files } = machine;
  const now = await machine.run(paths.launcher, ['--version']);
  const next = { node: newest(files, paths.node), bundle: newest(files, paths.bundle) };
  return [now.code === 0 ? now.stdout.trim() : 'that does not run', await versionOf(machine, next)];
}

async function enable(machine: Machine, steps: Steps, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const { stdout } = await machine.run('systemctl', ['is-enabled', name]);
    if (stdout.trim() === 'enabled') steps.already(`${name} is enabled`);
    else await steps.do(`${name} enabled`, () => systemctl(machine, 'enable', name));
  }
}

/** @param isNew Whether there is something that the service, where it runs, was not started with. */
async function start(machine: Machine, steps: Steps, names: readonly string[], isNew: boolean): Promise<void> {
  const isActive = async (name: string) => (await unitState(machine, name, 'ActiveState')).ActiveState === 'active';
  const ran = await isActive(service);
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
    await steps.do(`${service} started`, () => startAnew(machine, 'start', service));
  } else if (isNew) {
    await steps.do(`${service} restarted with what is new`, () => startAnew(machine, 'restart', service));
  } else {
    steps.already(`${service} is active`);
  }
}

/** Whoever has taken Holdfast out of the way wants it to stay there, also where something installs it again and again. */
async function refuseBypassedByHand(machine: Machine): Promise<void> {
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

/** @throws {Refusal} No answer in time, or from what stands in for Holdfast, or certainly none any more. */
export async function waitForVersion(machine: Machine, ask: AskVersion, withinMs: number): Promise<CriVersion> {
  const until = machine.clock.now() + withinMs;
  const watch = holdfastWatch(machine);
  for (;;) {
    let fault: string;
    try {
      const version = await ask(machine.files.real(paths.socket), Math.min(10_000, withinMs));
      if (!machine.files.has(paths.bypassed)) return version;
      fault = 'Holdfast is bypassed';
    } catch (error) {
      fault = `Holdfast does not answer on ${paths.socket}: ${shownFault(error)}`;
    }
    const { trouble, isCertain } = await watch();
    if (isCertain || machine.clock.now() >= until) {
      const remedy = 'see journalctl -u holdfast.service; the kubelet has not been touched';
      throw new Refusal(trouble ?? fault, remedy);
    }
    await pause(machine, askEachMs);
  }
}
