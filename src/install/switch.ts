/**
 * The stage `switch`: the kubelet is sent to Holdfast, and comes back by itself unless it is seen to do well there. What brings it back is
 * armed before the first change and needs neither this process nor Holdfast nor the API server (revert-script.ts).
 */
import { relabel } from './artifacts.js';
import { type AskVersion, criVersion } from './cri-version.js';
import { changedSources, type EndpointChange, planEndpoint, shownChange } from './endpoint-plan.js';
import { listsThrough } from './holdfast-calls.js';
import { endpointFlag, kubeletSetup, runningFlag, shownSource, unitState } from './kubelet.js';
import { type AskHealthz, askHealthz, type Health, kubeletHealth, waitUntilHealthy } from './kubelet-health.js';
import { complaint, type Machine, pause } from './machine.js';
import { findKubelet, type Kubelet, type NodeFacts } from './node-facts.js';
import { holdfastEndpoint, paths } from './paths.js';
import { backUp, backupFolder, readRecord, updateRecord } from './record.js';
import { Refusal } from './refusal.js';
import { marks, revertScript, revertTimer, revertUnit, revertUnitText } from './revert-script.js';
import type { Steps } from './steps.js';
import { systemctl, waitForVersion } from './units.js';

/** How the node is asked; a test brings its own. */
export interface Asks {
  readonly version: AskVersion;
  readonly healthz: AskHealthz;
  /** How many lists came through Holdfast; undefined where it does not say. */
  readonly lists: (machine: Machine) => Promise<number | undefined>;
}

export const nodeAsks: Asks = { version: criVersion, healthz: askHealthz, lists: listsThrough };

/** So often in a row the kubelet has to be well, with new lists each time. */
const wellInARow = 3;
const lookEachMs = 1_000;
/** A kubelet or a Holdfast that has been started a moment ago may take that long. */
const wellBeforeMs = 10_000;
/** The revert itself: some files, and a kubelet that starts. */
const revertWithinMs = 90_000;

/** The kubelet did not do well behind Holdfast, and was sent back. */
export class RevertedError extends Error {
  override readonly name = 'RevertedError';
}

/**
 * @throws {Refusal} Nothing has been changed.
 * @throws {RevertedError} It has been, and was taken back.
 */
export async function switchKubelet(
  machine: Machine,
  steps: Steps,
  facts: NodeFacts & { readonly kubelet: Kubelet },
  confirmWithinMs: number,
  asks: Asks = nodeAsks,
): Promise<void> {
  const { files } = machine;
  const { sources } = facts.kubelet;
  const kubeletUnit = sources.unit;
  const look = () => kubeletHealth(machine, kubeletUnit, kubeletSetup(sources).config, asks.healthz);
  const confirming = { look, lists: asks.lists, kubeletUnit, withinMs: confirmWithinMs };

  const changes = planEndpoint(sources, facts.platform, holdfastEndpoint);
  const wasInVain = files.has(marks.reverting);
  if ((files.has(marks.unconfirmed) || wasInVain) && !steps.dryRun) {
    steps.note('an earlier switch was not confirmed yet');
    if (changes.length === 0 && !wasInVain) {
      await armTimer(machine, confirmWithinMs);
      await confirm(machine, steps, { ...confirming, before: '' });
      return;
    }
    await takeBack(machine);
    // It may have been half done, and what was planned went on from there.
    const kubelet = await findKubelet(machine, kubeletUnit, facts.platform === 'k3s');
    if (kubelet === undefined) throw new Refusal(`there is no ${kubeletUnit} any more`, 'see systemctl list-units');
    return switchKubelet(machine, steps, { ...facts, kubelet }, confirmWithinMs, asks);
  }
  if (changes.length === 0) {
    steps.already(`the kubelet's endpoint is ${holdfastEndpoint} (${shownSource(facts.kubelet.setup.from)})`);
    await refuseNotStarted(machine, facts.kubelet);
    return;
  }
  if (steps.dryRun) {
    for (const change of changes) await steps.do(shownChange(change), () => {});
    const within = `${confirmWithinMs / 1000} s`;
    await steps.do(`${kubeletUnit} restarted, and taken back unless it does well within ${within}`, () => {});
    return;
  }
  await waitForVersion(machine, asks.version, wellBeforeMs);
  await refuseHiddenFlag(machine, facts.kubelet);
  await validateFlags(machine, facts.kubelet, changes);
  const trouble = await waitUntilHealthy(machine, look, wellBeforeMs);
  if (trouble !== undefined) {
    throw new Refusal(
      `the kubelet is not well as it is: ${trouble}`,
      'put that right first, since else nobody could tell whether it does well behind Holdfast',
    );
  }
  const before = (await look()).invocation;
  await arm(machine, steps, changes, facts, confirmWithinMs);
  try {
    for (const change of changes) {
      await steps.do(shownChange(change), async () => {
        if (!files.has(marks.unconfirmed)) throw new Error('the time to confirm it was over before it was made');
        files.write(change.file, change.after);
        await relabel(machine, change.file);
      });
    }
    if (changes.some(({ kind }) => kind === 'unit')) await systemctl(machine, 'daemon-reload');
    await steps.do(`${kubeletUnit} restarted`, () => systemctl(machine, '--no-block', 'restart', kubeletUnit));
  } catch (error) {
    await takeBack(machine);
    throw new RevertedError(`the switch failed and was taken back: ${error instanceof Error ? error.message : error}`);
  }
  await confirm(machine, steps, { ...confirming, before });
}

/** The files say Holdfast, and the kubelet may still run with what they said before. */
async function refuseNotStarted(machine: Machine, { sources, setup }: Kubelet): Promise<void> {
  const { MainPID } = await unitState(machine, sources.unit, 'MainPID');
  const started = machine.files.stat(`/proc/${MainPID}`)?.ctimeMs;
  const place =
    setup.from.kind === 'flag' ? setup.from.word.origin.file : setup.from.kind === 'default' ? '' : setup.from.file;
  const changed = machine.files.stat(place)?.mtimeMs;
  if (MainPID === '0' || started === undefined || changed === undefined || changed < started + 1_000) return;
  throw new Refusal(
    `${sources.unit} has not been started since ${place} was changed`,
    `systemctl restart ${sources.unit}, then holdfast check`,
  );
}

/** A flag that a wrapper adds is nowhere to be seen but in the process, and would win. */
async function refuseHiddenFlag(machine: Machine, { sources, setup }: Kubelet): Promise<void> {
  if (sources.ownConfigDir !== undefined || setup.from.kind === 'flag') return;
  const endpoint = await runningFlag(machine, sources.unit);
  if (endpoint === undefined) return;
  throw new Refusal(
    `the kubelet runs with ${endpointFlag}=${endpoint}, which ${sources.unit} does not say`,
    `change it in what starts the kubelet to ${holdfastEndpoint}; holdfast install --platform none does the rest`,
  );
}

/** Kubelets parse their flags before they print their version; none validates a configuration and ends. */
async function validateFlags(
  machine: Machine,
  { sources }: Kubelet,
  changes: readonly EndpointChange[],
): Promise<void> {
  if (changes.every(({ kind }) => kind === 'config')) return;
  const { words } = kubeletSetup(changedSources(sources, changes));
  const [program = '', ...args] = words.map(({ text }) => text);
  const ran = await machine.run(program, [...args, '--version']);
  if (ran.code !== 0) {
    throw new Refusal(`the kubelet does not take its flags as they would be: ${complaint(ran)}`, 'nothing was changed');
  }
}

async function arm(
  machine: Machine,
  steps: Steps,
  changes: readonly EndpointChange[],
  { kubelet, runtime }: NodeFacts & { readonly kubelet: Kubelet },
  confirmWithinMs: number,
): Promise<void> {
  const { files } = machine;
  const { unit, ownConfigDir } = kubelet.sources;
  const time = machine.date();
  const backup = backupFolder(time);
  const recorded = backUp(files, changes, backup);
  updateRecord(files, { kubeletUnit: unit, ownConfigDir, runtime, changes: recorded });
  steps.note(`what is changed is kept in ${backup}`);
  files.remove(marks.reverted);
  const reverting = { kubeletUnit: unit, endpoint: holdfastEndpoint, fallback: `unix://${runtime}` };
  files.write(marks.script, revertScript(recorded, reverting), 0o700, true);
  files.write(`${paths.units}/${revertUnit}`, revertUnitText(unit), 0o644, true);
  await systemctl(machine, 'daemon-reload');
  await systemctl(machine, 'enable', revertUnit);
  files.write(marks.unconfirmed, `${time.toISOString()}\n`);
  try {
    await armTimer(machine, confirmWithinMs);
  } catch (error) {
    files.remove(marks.unconfirmed);
    await forget(machine);
    throw error;
  }
  steps.note(`taken back in ${confirmWithinMs / 1000} s (${revertTimer}), and at a reboot, unless confirmed`);
}

async function armTimer(machine: Machine, withinMs: number): Promise<void> {
  await machine.run('systemctl', ['stop', revertTimer]);
  const seconds = Math.ceil(withinMs / 1000);
  const args = [`--on-active=${seconds}s`, '--timer-property=AccuracySec=100ms', `--unit=${revertUnit}`];
  const ran = await machine.run('systemd-run', args);
  const { ActiveState } = await unitState(machine, revertTimer, 'ActiveState');
  if (ran.code !== 0 || ActiveState !== 'active') {
    throw new Refusal(
      `the timer that would take the switch back cannot be armed: ${complaint(ran)}`,
      'without a way back no kubelet is switched; nothing was changed',
    );
  }
}

interface Confirming {
  readonly look: () => Promise<Health>;
  /** The kubelet's run before the switch; empty where that is not known. */
  readonly before: string;
  readonly withinMs: number;
  readonly lists: Asks['lists'];
  readonly kubeletUnit: string;
}

async function confirm(machine: Machine, steps: Steps, confirming: Confirming): Promise<void> {
  const { files, clock } = machine;
  const { look, lists, kubeletUnit } = confirming;
  const until = clock.now() + confirming.withinMs;
  let seen = await lists(machine);
  let [well, invocation, trouble] = [0, '', 'nothing was seen of it'];
  while (well < wellInARow && clock.now() < until && files.has(marks.unconfirmed)) {
    await pause(machine, lookEachMs);
    const [health, now] = [await look(), await lists(machine)];
    trouble = troubleOf(machine, health, confirming.before, seen, now) ?? '';
    const goesOn = well === 0 || health.invocation === invocation;
    well = trouble === '' && goesOn ? well + 1 : 0;
    [seen, invocation] = [now, health.invocation];
  }
  if (well >= wellInARow && claim(machine)) {
    await disarm(machine);
    steps.note(`confirmed: ${kubeletUnit} is well, and its lists come through Holdfast`);
    return;
  }
  steps.note(`not confirmed (${trouble}): it is taken back`);
  const back = clock.now() + revertWithinMs;
  while (!files.has(marks.reverted) && clock.now() < back) await pause(machine, lookEachMs / 4);
  if (!files.has(marks.reverted) || isChanged(machine)) await takeBack(machine);
  else await forget(machine);
  const after = await waitUntilHealthy(machine, look, revertWithinMs);
  throw new RevertedError(
    `the kubelet did not do well behind Holdfast (${trouble}); its endpoint is as before and ` +
      (after === undefined ? 'it is well' : `it is not well: ${after}`),
  );
}

function troubleOf(
  { files }: Machine,
  { trouble, invocation }: Health,
  before: string,
  seen: number | undefined,
  now: number | undefined,
): string | undefined {
  if (trouble !== undefined) return trouble;
  if (before !== '' && invocation === before) return 'it has not been started anew';
  const bypassed = files.text(paths.bypassed);
  if (bypassed !== undefined) return `Holdfast is bypassed: ${bypassed.trim()}`;
  if (now === undefined) return `Holdfast does not tell its calls, neither on ${paths.adminSocket} nor by its metrics`;
  if (seen === undefined || now <= seen) return 'no list of the kubelet comes through Holdfast';
  return undefined;
}

/** @returns Whether the switch is confirmed: the revert has not begun, and will not. */
function claim({ files }: Machine): boolean {
  try {
    files.rename(marks.unconfirmed, `${paths.state}/confirmed`);
    files.remove(`${paths.state}/confirmed`);
    return true;
  } catch {
    return false;
  }
}

/** Takes the timer and its unit away; harmless where they are not there. */
export async function disarm(machine: Machine): Promise<void> {
  const { files, run } = machine;
  await run('systemctl', ['stop', revertTimer]);
  if (!files.has(`${paths.units}/${revertUnit}`)) return;
  await run('systemctl', ['disable', revertUnit]);
  files.remove(`${paths.units}/${revertUnit}`);
  files.remove(marks.script);
  await run('systemctl', ['daemon-reload']);
}

/** What was changed after the timer had taken back what was there by then. */
function isChanged({ files }: Machine): boolean {
  const changes = readRecord(files)?.changes ?? [];
  return changes.some(({ file, before, after }) => {
    const now = files.text(file);
    return now !== undefined && now === files.text(after) && now !== (before && files.text(before));
  });
}

/** What the timer would do, now, whether it has or not. */
async function takeBack(machine: Machine): Promise<void> {
  const { files } = machine;
  if (!files.has(marks.unconfirmed) && !files.has(marks.reverting)) {
    files.write(marks.unconfirmed, `${machine.date().toISOString()}\n`);
  }
  const ran = await machine.run('/bin/sh', [marks.script]);
  if (ran.code === 0) return forget(machine);
  throw new RevertedError(
    `the kubelet's endpoint could not be taken back (${complaint(ran)}): run /bin/sh ${marks.script} by hand`,
  );
}

/** What was changed is as before. */
async function forget(machine: Machine): Promise<void> {
  await disarm(machine);
  updateRecord(machine.files, { changes: [] });
}
