/** A comparison: each arm of a scenario on a fresh node, repeat after repeat, every arm with the same seed. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { systemClock } from '../../clock.js';
import { Random } from '../random.js';
import type { Report } from '../report-data.js';
import { armReport, type RunResult } from './arm-report.js';
import { type Arm, armOf } from './arms.js';
import { withHung } from './hung-pods.js';
import type { NodeUnderTest } from './node-under-test.js';
import { podPlans } from './pod-plans.js';
import type { RealRuntime } from './real-runtime.js';
import { runArm } from './run-arm.js';
import { type ArmName, noHangs, type Scenario } from './scenario.js';
import { SimulatedNode } from './simulated-node.js';

export interface BenchOptions {
  readonly scenario: Scenario;
  readonly arms: readonly ArmName[];
  readonly seed: number;
  readonly repeats: number;
  /** Undefined: simulated. */
  readonly runtime: RealRuntime | undefined;
  readonly onProgress: (progress: ArmState) => void;
}

/** How far an arm is. */
export interface ArmState {
  readonly arm: string;
  /** From 1. */
  readonly repeat: number;
  /** Pods. */
  readonly running: number;
  readonly elapsedMs: number;
  readonly isOver: boolean;
}

/** @throws The signal fired, or an arm could not be run. Either way nothing is left behind. */
export async function runBench(options: BenchOptions, signal: AbortSignal): Promise<Report> {
  const { scenario, seed, repeats, runtime } = options;
  const arms = options.arms.map((name) => armOf(name, scenario, runtime?.name));
  const runs = new Map(arms.map((arm): [Arm, RunResult[]] => [arm, []]));
  const directory = mkdtempSync(path.join(tmpdir(), 'hf-bench-'));
  try {
    for (let repeat = 1; repeat <= repeats; repeat += 1) {
      // Neither arm is always the one that comes first.
      const inTurn = repeat % 2 === 1 ? arms : arms.toReversed();
      const run = async (arm: Arm, over: AbortSignal): Promise<void> => {
        const own = path.join(directory, `${repeat}${arms.indexOf(arm)}`);
        mkdirSync(own);
        runs.get(arm)?.push(await runOnce(options, arm, repeat, own, over));
      };
      if (scenario.sideBySide && runtime === undefined) await together(inTurn, run, signal);
      else for (const arm of inTurn) await run(arm, signal);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return {
    scenario: scenario.name,
    description: scenario.description,
    seed,
    pods: scenario.pods,
    repeats,
    runtime: runtime?.name ?? 'simulated',
    arms: arms.map((arm) => armReport(arm.name, arm.title, runs.get(arm) as [RunResult, ...RunResult[]])),
  };
}

/** Ends when all have ended, early where one has failed. */
async function together(
  arms: readonly Arm[],
  run: (arm: Arm, over: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const failed = new AbortController();
  const over = AbortSignal.any([signal, failed.signal]);
  await Promise.allSettled(
    arms.map((arm) =>
      run(arm, over).catch((error: unknown) => {
        failed.abort(error);
        throw error;
      }),
    ),
  );
  signal.throwIfAborted();
  failed.signal.throwIfAborted();
}

async function runOnce(
  { scenario, seed, runtime, onProgress }: BenchOptions,
  arm: Arm,
  repeat: number,
  directory: string,
  signal: AbortSignal,
): Promise<RunResult> {
  // Each purpose has numbers of its own, so that one arm cannot use up another's.
  const seeds = new Random(seed + repeat - 1);
  const [forPlans, forNode, forKubelet] = [seeds.uint32(), generator(seeds), generator(seeds)];
  // A real runtime hangs on none.
  const hangs = runtime === undefined ? scenario.runtime.hangs : noHangs;
  const { plans, hung } = withHung(podPlans(scenario, forPlans), hangs, seeds.uint32());
  const node: NodeUnderTest =
    runtime?.node() ?? (await SimulatedNode.start(directory, scenario.runtime, hung, arm.profile, forNode));
  const beganMs = systemClock.now();
  let state = { running: 0, elapsedMs: 0 };
  const say = (isOver: boolean) => onProgress({ arm: arm.name, repeat, ...state, isOver });
  try {
    say(false);
    const onRunning = (running: number) => {
      state = { running, elapsedMs: systemClock.now() - beganMs };
      say(false);
    };
    return await runArm({ scenario, arm, node, directory, plans, random: forKubelet, onRunning }, signal);
  } finally {
    await node.close();
    say(true);
  }
}

function generator(seeds: Random): () => number {
  const random = new Random(seeds.uint32());
  return () => random.uint32() / 2 ** 32;
}
