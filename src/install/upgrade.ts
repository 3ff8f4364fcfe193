/**
 * An upgrade of a Holdfast that runs, or a downgrade: what is new takes its place, is started, and has to do as well as what was there.
 * Else that comes back, by this process or by what it has armed before the first change (rollback-script.ts).
 */

import type { Asks } from './asks.js';
import { holdfastWatch, type Seen, waitUntilWell } from './confirmation.js';
import { shownFault } from './cri-version.js';
import { isSameEndpoint, kubeletSetup } from './kubelet.js';
import { kubeletHealth, waitUntilHealthy } from './kubelet-health.js';
import { type Machine, pause } from './machine.js';
import type { Kubelet } from './node-facts.js';
import type { NodeFiles } from './node-files.js';
import { holdfastEndpoint, paths, programFiles, unitNames } from './paths.js';
import { relabel } from './placing.js';
import { digest, readRecord, updateRecord } from './record.js';
import { Refusal } from './refusal.js';
import { RevertedError } from './reverted-error.js';
import { keptIn, rollback, rollbackScript, rollbackUnitText, waitsIn } from './rollback-script.js';
import type { Steps } from './steps.js';
import { unitState } from './systemctl.js';
import { arm, claim, disarm, isOpen, pauseEnds, undo } from './way-back.js';

/** Start-up takes a second or two, on a loaded node several. */
const answerWithinMs = 30_000;
const askTimeoutMs = 5_000;
const askEachMs = 250;
/** A kubelet that has been started a moment ago may take that long. */
const wellBeforeMs = 10_000;
/** A kubelet lists each second. */
const listsWithinMs = 3_000;

export interface Upgrade {
  /** Files whose new ones wait, in the order in which they are put in place. */
  readonly waiting: readonly string[];
  /** Of all that holdfast.service will be started with. */
  readonly startedWith: string;
  /** Versions. */
  readonly from: string;
  readonly to: string;
  readonly kubelet: Kubelet | undefined;
  readonly confirmWithinMs: number;
  /** How long one that was taken back is not tried again, ms. */
  readonly retryAfterMs: number;
  /** Starts what is in place. */
  readonly start: () => Promise<void>;
}

/**
 * @throws {Refusal} Nothing has been changed.
 * @throws {RevertedError} It has been, and was taken back.
 */
export async function upgradeHoldfast(machine: Machine, steps: Steps, upgrade: Upgrade, asks: Asks): Promise<void> {
  const { files, clock } = machine;
  refuseTooSoon(machine, upgrade);
  const proof = await proofOf(machine, steps, upgrade, asks);
  await armRollback(machine, upgrade);
  const until = clock.now() + upgrade.confirmWithinMs;
  steps.note(
    `taken back in ${upgrade.confirmWithinMs / 1000} s (${rollback.timer}), and at a reboot, unless confirmed`,
  );
  let trouble: string | undefined;
  try {
    await steps.do('what is new is in its place, and what was there is kept', async () => {
      for (const file of upgrade.waiting) await putInPlace(machine, file);
    });
    await upgrade.start().catch((error: unknown) => {
      // systemd goes on to start it, up to the limit.
      if (!(error instanceof Refusal)) throw error;
      steps.note(error.message);
    });
    trouble = await waitUntilWell(machine, proof, () => clock.now() < until && files.has(rollback.pending));
  } catch (error) {
    trouble = error instanceof Error ? error.message : String(error);
  }
  if (trouble === undefined && claim(machine, rollback)) {
    await confirmed(machine, upgrade);
    steps.note(`confirmed: Holdfast ${upgrade.from === upgrade.to ? upgrade.to : `${upgrade.from} → ${upgrade.to}`}`);
    return;
  }
  const why = trouble ?? 'its time was over';
  steps.note(`not confirmed (${why}): it is taken back`);
  await takeBack(machine);
  const after = await faultAfter(machine, asks);
  throw new RevertedError(
    `Holdfast ${upgrade.to} did not do well (${why}) and was taken back: Holdfast ${upgrade.from} is in its place again and ` +
      (after === undefined ? 'answers' : `does not do well either: ${after}`),
  );
}

/** One that a killed process has left. What was new waits still. */
export async function endInterruptedUpgrade(machine: Machine, steps: Steps, asks: Asks): Promise<void> {
  if (!isOpen(machine, rollback)) return;
  await steps.do('an earlier upgrade, which was not confirmed, is taken back', () => takeBack(machine));
  const fault = await faultAfter(machine, asks);
  if (fault !== undefined) steps.warn(`what was there before it does not do well: ${fault}`);
}

/** For who takes Holdfast away altogether. */
export async function forgetUpgrade(machine: Machine): Promise<void> {
  // One that is at work would put back what is taken away.
  await machine.run('systemctl', ['stop', rollback.timer, rollback.unit]);
  for (const mark of [rollback.pending, rollback.undoing, rollback.undone]) machine.files.remove(mark);
  await disarm(machine, rollback);
}

function refuseTooSoon(machine: Machine, { retryAfterMs, startedWith, to }: Upgrade): void {
  const [time, what] = machine.files.text(rollback.undone)?.trim().split(' ') ?? [];
  const againAt = pauseEnds(machine, time, retryAfterMs);
  if (what !== startedWith || againAt === undefined) return;
  throw new Refusal(
    `the upgrade to Holdfast ${to} was taken back at ${time} and is not tried again before ${againAt}`,
    `find out why first (journalctl -u holdfast.service); without ${rollback.undone} it is tried at once`,
  );
}

/** @returns What to look at for whether all does well: what did so before has to do so after. */
async function proofOf(machine: Machine, steps: Steps, { kubelet }: Upgrade, asks: Asks): Promise<() => Promise<Seen>> {
  const watch = holdfastWatch(machine);
  const ofHoldfast = async (): Promise<Seen> => {
    const seen = await watch();
    if (seen.trouble !== undefined) return seen;
    const fault = await faultOf(machine, asks);
    return { ...seen, trouble: fault };
  };
  if (kubelet === undefined || !isSameEndpoint(kubelet.setup.endpoint, holdfastEndpoint)) return ofHoldfast;
  const { sources } = kubelet;
  const look = () => kubeletHealth(machine, sources.unit, kubeletSetup(sources).config, asks.healthz);
  const before = await waitUntilHealthy(machine, look, wellBeforeMs);
  if (before !== undefined) {
    steps.warn(`${sources.unit} is not well as it is (${before}): only Holdfast itself is looked at`);
    return ofHoldfast;
  }
  const needsLists = await hadLists(machine, asks);
  if (!needsLists) {
    steps.warn('no list of the kubelet comes through Holdfast as it is: they are not waited for');
  }
  let hasListed = !needsLists;
  return async () => {
    const seen = await ofHoldfast();
    if (seen.trouble !== undefined) return seen;
    const health = await look();
    // It begins anew with each process.
    hasListed ||= ((await asks.lists(machine)) ?? 0) > 0;
    const trouble = health.trouble ?? (hasListed ? undefined : 'no list of the kubelet comes through Holdfast');
    return { trouble, isCertain: false, invocation: `${seen.invocation} ${health.invocation}` };
  };
}

/** Where Holdfast does not run it is not known, and a kubelet that is well behind the bypass will come. */
async function hadLists(machine: Machine, asks: Asks): Promise<boolean> {
  const { ActiveState } = await unitState(machine, 'holdfast.service', 'ActiveState');
  if (ActiveState !== 'active') return true;
  const first = await asks.lists(machine);
  const until = machine.clock.now() + listsWithinMs;
  while (first !== undefined && machine.clock.now() < until) {
    await pause(machine, askEachMs);
    if (((await asks.lists(machine)) ?? 0) > first) return true;
  }
  return false;
}

/** @returns What is wrong with Holdfast's answer; undefined: it is well. */
async function faultOf({ files }: Machine, asks: Asks): Promise<string | undefined> {
  try {
    await asks.version(files.real(paths.socket), askTimeoutMs);
  } catch (error) {
    return `Holdfast does not answer on ${paths.socket}: ${shownFault(error)}`;
  }
  const bypassed = files.text(paths.bypassed);
  return bypassed === undefined ? undefined : `Holdfast is bypassed: ${bypassed.trim()}`;
}

async function faultAfter(machine: Machine, asks: Asks): Promise<string | undefined> {
  const until = machine.clock.now() + answerWithinMs;
  for (;;) {
    const { ActiveState } = await unitState(machine, 'holdfast.service', 'ActiveState');
    const fault = await faultOf(machine, asks);
    if (fault === undefined && ActiveState === 'active') return undefined;
    if (machine.clock.now() >= until) return fault ?? `holdfast.service is ${ActiveState}`;
    await pause(machine, askEachMs);
  }
}

async function armRollback(machine: Machine, { waiting, startedWith, to, confirmWithinMs }: Upgrade): Promise<void> {
  const { files } = machine;
  files.remove(keptIn);
  const replaced = waiting.map((file) => {
    const isKept = files.has(file);
    if (isKept) files.putSame(file, keptIn + file);
    return { file, isKept };
  });
  await arm(machine, rollback, {
    script: rollbackScript(replaced),
    unit: rollbackUnitText,
    text: `${machine.date().toISOString()} ${startedWith} ${to}`,
    withinMs: confirmWithinMs,
  });
}

async function putInPlace(machine: Machine, file: string): Promise<void> {
  const { files } = machine;
  if (!files.has(rollback.pending)) throw new Error('the time to confirm it was over before it was made');
  const from = waitsIn + file;
  // A node binary is large; of others the owner stays that of the one that was there.
  if (file.startsWith(`${paths.program}/`)) files.putSame(from, file);
  else files.write(file, files.bytes(from) ?? '', (files.stat(from)?.mode ?? 0o644) & 0o777, true);
  await relabel(machine, file);
}

async function confirmed(machine: Machine, { waiting, startedWith }: Upgrade): Promise<void> {
  const { files } = machine;
  const now = waiting.map((file) => [file, digest(files.bytes(file) ?? '')] as const);
  updateRecord(files, { startedWith, installed: { ...readRecord(files)?.installed, ...Object.fromEntries(now) } });
  await disarm(machine, rollback);
  for (const folder of [waitsIn, keptIn]) files.remove(folder);
}

async function takeBack(machine: Machine): Promise<void> {
  const { files } = machine;
  const fault = await undo(machine, rollback, () => isLeft(files));
  if (fault === undefined) {
    files.remove(keptIn);
    return;
  }
  throw new RevertedError(`the Holdfast that was here before could not be put back: ${fault}`);
}

/** What was put in place after the timer had put back what was there by then. */
function isLeft(files: NodeFiles): boolean {
  const places = [...programFiles, ...unitNames.map((name) => `${paths.units}/${name}`)];
  return places.some((file) => {
    const kept = files.bytes(keptIn + file);
    return kept !== undefined && files.bytes(file)?.equals(kept) !== true;
  });
}
