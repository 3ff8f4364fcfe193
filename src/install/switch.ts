/**
 * The stage `switch`: the kubelet is sent to Holdfast, and comes back by itself unless it is seen to do well there. What brings it back is
 * armed before the first change and needs neither this process nor Holdfast nor the API server (revert-script.ts).
 */

import { type Asks, nodeAsks } from './asks.js';
import { holdfastWatch, type Seen, waitUntilWell } from './confirmation.js';
import { changedSources, type EndpointChange, planEndpoint, shownChange } from './endpoint-plan.js';
import { endpointFlag, kubeletSetup, runningFlag, shownSource } from './kubelet.js';
import { type Health, kubeletHealth, waitUntilHealthy } from './kubelet-health.js';
import { complaint, type Machine } from './machine.js';
import { findKubelet, type Kubelet, type NodeFacts } from './node-facts.js';
import { holdfastEndpoint, paths } from './paths.js';
import { relabel } from './placing.js';
import { backUp, backupFolder, readRecord, updateRecord } from './record.js';
import { Refusal } from './refusal.js';
import { marks, revert, revertScript, revertUnitText } from './revert-script.js';
import { RevertedError } from './reverted-error.js';
import type { Steps } from './steps.js';
import { systemctl, unitState } from './systemctl.js';
import { waitForVersion } from './units.js';
import { arm, armTimer, claim, disarm, isOpen, undo } from './way-back.js';

/** A kubelet or a Holdfast that has been started a moment ago may take that long. */
const wellBeforeMs = 10_000;
/** A kubelet that was sent back, and starts. */
const healthyWithinMs = 90_000;

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
  if (isOpen(machine, revert) && !steps.dryRun) {
    steps.note('an earlier switch was not confirmed yet');
    if (changes.length === 0 && !wasInVain) {
      await armTimer(machine, revert, confirmWithinMs);
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
  await armSwitch(machine, steps, changes, facts, confirmWithinMs);
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

async function armSwitch(
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
  const reverting = { kubeletUnit: unit, endpoint: holdfastEndpoint, fallback: `unix://${runtime}` };
  await arm(machine, revert, {
    script: revertScript(recorded, reverting),
    unit: revertUnitText(unit),
    text: time.toISOString(),
    withinMs: confirmWithinMs,
  });
  steps.note(`taken back in ${confirmWithinMs / 1000} s (${revert.timer}), and at a reboot, unless confirmed`);
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
  const watch = holdfastWatch(machine);
  let seen = await lists(machine);
  const lookAtAll = async (): Promise<Seen> => {
    const [lost, health, now] = [await watch(), await look(), await lists(machine)];
    const trouble = lost.trouble ?? troubleOf(health, confirming.before, seen, now);
    seen = now;
    return { trouble, isCertain: lost.isCertain, invocation: `${lost.invocation} ${health.invocation}` };
  };
  const goesOn = () => clock.now() < until && files.has(marks.unconfirmed);
  const trouble = await waitUntilWell(machine, lookAtAll, goesOn);
  if (trouble === undefined && claim(machine, revert)) {
    await disarm(machine, revert);
    steps.note(`confirmed: ${kubeletUnit} is well, and its lists come through Holdfast`);
    return;
  }
  const why = trouble ?? 'its time was over';
  steps.note(`not confirmed (${why}): it is taken back`);
  await takeBack(machine);
  const after = await waitUntilHealthy(machine, look, healthyWithinMs);
  throw new RevertedError(
    `the kubelet did not do well behind Holdfast (${why}); its endpoint is as before and ` +
      (after === undefined ? 'it is well' : `it is not well: ${after}`),
  );
}

function troubleOf(
  { trouble, invocation }: Health,
  before: string,
  seen: number | undefined,
  now: number | undefined,
): string | undefined {
  if (trouble !== undefined) return trouble;
  if (before !== '' && invocation === before) return 'it has not been started anew';
  if (now === undefined) return `Holdfast does not tell its calls, neither on ${paths.adminSocket} nor by its metrics`;
  if (seen === undefined || now <= seen) return 'no list of the kubelet comes through Holdfast';
  return undefined;
}

/** What was changed after the timer had taken back what was there by then. */
function isChanged({ files }: Machine): boolean {
  const changes = readRecord(files)?.changes ?? [];
  return changes.some(({ file, before, after }) => {
    const now = files.text(file);
    return now !== undefined && now === files.text(after) && now !== (before && files.text(before));
  });
}

/** What the timer would do, now, unless it has. */
async function takeBack(machine: Machine): Promise<void> {
  const fault = await undo(machine, revert, () => isChanged(machine));
  if (fault !== undefined) {
    throw new RevertedError(`the kubelet's endpoint could not be taken back: ${fault}`);
  }
  updateRecord(machine.files, { changes: [] });
}
