/** Brings the pods of a scenario up once, on one node, with or without Holdfast in between. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { systemClock } from '../../clock.js';
import { CriCaller } from '../cri-caller.js';
import { KubeletLike } from '../kubelet/kubelet-like.js';
import type { PodPlan } from '../kubelet/pod.js';
import type { Work } from '../report-data.js';
import { sleep } from '../sleep.js';
import { percentile, perDifferent, type RunResult } from './arm-report.js';
import type { Arm } from './arms.js';
import { convergence } from './convergence.js';
import { begunBy, type PodWork, workOf } from './holdfast-log.js';
import { HoldfastProcess } from './holdfast-process.js';
import type { NodeMaking, NodeUnderTest } from './node-under-test.js';
import type { Scenario } from './scenario.js';
import { timelineOf, upSince } from './timeline.js';
import { WatchedCaller } from './watched-caller.js';
import { workDone } from './work-done.js';

/** How long what came too late may take to come, to be seen and to be removed, after all pods were deleted, in ms. */
const graceMs = 10_000;
const lookEveryMs = 250;

export interface ArmRun {
  readonly scenario: Scenario;
  readonly arm: Arm;
  readonly node: NodeUnderTest;
  /** Of its own, and short: sockets are made in it. */
  readonly directory: string;
  readonly plans: readonly PodPlan[];
  /** From 0 up to 1. */
  readonly random: () => number;
  readonly onRunning: (pods: number) => void;
}

/** @throws The signal fired, Holdfast could not be started, or the client could not go on. */
export async function runArm(run: ArmRun, signal: AbortSignal): Promise<RunResult> {
  const { arm, node, directory } = run;
  if (arm.holdfast === undefined) return bringUp(run, undefined, signal);
  const holdfast = await HoldfastProcess.start(
    {
      socketPath: path.join(directory, 'h.sock'),
      runtimeSocketPath: node.socketPath,
      args: [...node.holdfastArguments, ...arm.holdfast],
    },
    signal,
  );
  try {
    return await bringUp(run, holdfast, signal);
  } finally {
    await holdfast.stop();
  }
}

async function bringUp(run: ArmRun, holdfast: HoldfastProcess | undefined, signal: AbortSignal): Promise<RunResult> {
  const { scenario, node, directory, plans, random } = run;
  const { containers, requestTimeoutMs, backoffMs, relistMs, events, pullMs } = scenario.kubelet;
  const podLogsDirectory = path.join(directory, 'pods');
  mkdirSync(podLogsDirectory);
  let watching = true;
  const caller = new WatchedCaller(new CriCaller(holdfast?.socketPath ?? node.socketPath), containers, (pods) => {
    if (watching) run.onRunning(pods);
  });
  try {
    const kubelet = new KubeletLike({
      caller,
      podLogsDirectory,
      pods: plans,
      requestTimeoutMs,
      backoffMs,
      relistMs,
      events,
      random,
      ...(pullMs === undefined ? {} : { pullMs }),
      ...(node.imageName === undefined ? {} : { imageName: node.imageName }),
      ...(node.podDefaults === undefined ? {} : { podDefaults: node.podDefaults }),
    });
    const usedBefore = holdfast?.usage();
    const beganMs = systemClock.now();
    const beganAt = Date.now();
    const watched = new AbortController();
    const cancel = systemClock.after(scenario.watchMs, () => watched.abort());
    node.begin();
    const limit = AbortSignal.any([signal, watched.signal]);
    const timelines = await kubelet.run(limit, scenario.watchesAll);
    cancel();
    watching = false;
    signal.throwIfAborted();
    const durationMs = Math.round(systemClock.now() - beganMs);
    const usage = holdfast?.usage();
    run.onRunning(timelines.filter((timeline) => upSince(timeline) !== undefined).length);
    const { errors } = caller;
    const makings = node.makings();
    const behind =
      holdfast === undefined
        ? workOfNode(makings ?? [], beganMs, durationMs)
        : workOf(holdfast.log, beganAt, durationMs);
    const figures = {
      ...convergence(timelines, plans),
      creationsPerPod: perDifferent(
        makings === undefined ? (holdfast === undefined ? caller.begun : begunBy(holdfast.log)) : identities(makings),
      ),
      deadlineErrors: errors.deadline,
      reservedErrors: errors.reserved,
      otherErrors: errors.other,
      listMs: { p50: percentile(kubelet.listTimesMs, 0.5), p99: percentile(kubelet.listTimesMs, 0.99) },
      holdfast:
        usage === undefined ? null : { cpuMs: usage.cpuMs - (usedBefore?.cpuMs ?? 0), rssBytes: usage.rssBytes },
      durationMs,
      timelines: timelines.map((timeline) => timelineOf(timeline, behind.get(timeline.uid), durationMs)),
    };
    const leftOvers = await cleanUp(kubelet, node, signal);
    const plansByUid = new Map(timelines.flatMap(({ uid }, n) => (plans[n] === undefined ? [] : [[uid, plans[n]]])));
    // Late copies are copies too.
    return {
      ...figures,
      restarts: node.restarts(),
      highestAttempt: node.highestAttempt(),
      work: workDone(plansByUid, (uid, name) => node.runs(uid, name)),
      duplicatesAlive: node.duplicatesAlive(),
      leftOvers,
    };
  } finally {
    caller.close();
  }
}

/** @returns What the runtime still has. */
async function cleanUp(kubelet: KubeletLike, node: NodeUnderTest, signal: AbortSignal): Promise<number> {
  const endMs = systemClock.now() + graceMs;
  const over = new AbortController();
  const cancel = systemClock.after(graceMs, () => over.abort());
  const limit = AbortSignal.any([signal, over.signal]);
  try {
    for (;;) {
      await kubelet.removeAll(limit);
      const left = await node.leftOvers(signal);
      if (left === 0 || systemClock.now() >= endMs) return left;
      await sleep(systemClock, lookEveryMs, limit);
      signal.throwIfAborted();
    }
  } finally {
    cancel();
  }
}

/** Names without the attempt: more than one with the same text was made more than once. */
function identities(makings: readonly NodeMaking[]): readonly string[] {
  return makings.filter(({ kind }) => kind !== 'start').map(({ kind, name }) => `${kind} ${name.replace(/_\d+$/, '')}`);
}

function workOfNode(makings: readonly NodeMaking[], beganMs: number, durationMs: number): ReadonlyMap<string, PodWork> {
  const pods = new Map<string, { work: Work[]; marks: [] }>();
  for (const making of makings) {
    const fromMs = Math.round(making.beganMs - beganMs);
    const toMs = Math.round(Math.min((making.endedMs ?? Number.POSITIVE_INFINITY) - beganMs, durationMs));
    if (toMs <= fromMs) continue;
    const pod = pods.get(making.podUid) ?? { work: [], marks: [] };
    pods.set(making.podUid, pod);
    const lost = making.outcome === 'rolled back' || making.outcome === 'cut short' ? { thrownAway: true } : {};
    pod.work.push({ fromMs, toMs, state: making.kind, ...lost });
  }
  return pods;
}
