/** Many pods at once on one node that gets slower the more it does, through Holdfast's whole call path, in virtual time. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { Metrics } from '../../src/admin/metrics.js';
import type { HoldfastConfig } from '../../src/config/config.js';
import { defaults } from '../../src/config/defaults.js';
import { arrivals } from '../../src/harness/arrivals.js';
import { type PlansWithHung, withHung } from '../../src/harness/bench/hung-pods.js';
import { noHangs } from '../../src/harness/bench/scenario.js';
import type { Caller } from '../../src/harness/cri-caller.js';
import { KubeletLike } from '../../src/harness/kubelet/kubelet-like.js';
import type { PodHistory } from '../../src/harness/kubelet/pod-history.js';
import { Random } from '../../src/harness/random.js';
import { Contention } from '../../src/harness/runtime/contention.js';
import { hanging } from '../../src/harness/runtime/failures.js';
import { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import { newCore } from '../../src/proxy/core.js';
import { ManualClock } from '../../test/support/manual-clock.js';
import { callerThrough, upstreamTo } from './in-process.js';

export interface StormOptions {
  readonly pods: number;
  /** How long the kubelet waits for RunPodSandbox, in ms; for all else it waits half of that. */
  readonly deadlineMs: number;
  /** How long a pod sandbox, a container and a start take each on an idle node, in ms. */
  readonly baseMs: number;
  /** See ContentionOptions. */
  readonly contention: number;
  readonly cores: number;
  /** Share of the pods whose pod sandboxes hang for ever, from 0 to below 1. */
  readonly hungShare: number;
  /** Whether the kernel tells of pressure. */
  readonly psi: boolean;
  readonly seed: number;
}

/** How Holdfast admits. A limit knows of the pods that hang: it has a place more for each of them. */
export type Arm = 'off' | 'adaptive' | { readonly limit: number };

export interface Sample {
  /** Since the storm began. */
  readonly atMs: number;
  readonly limit: number;
  /** Creations and starts the runtime is at. */
  readonly running: number;
  readonly queued: number;
  /** What the kernel would show as `some avg10` of the CPU, in percent. */
  readonly pressure: number;
}

export interface Outcome {
  /** When the last pod that does not hang, and the last of the first 95 % of them, ran; null: not within `longestMs`. */
  readonly allRunningMs: number | null;
  readonly p95RunningMs: number | null;
  /** RunPodSandbox, CreateContainer and StartContainer calls of the kubelet that ended in an error. */
  readonly failedCalls: number;
  /** Pod sandboxes, containers and starts that the runtime began. */
  readonly creations: number;
  readonly samples: readonly Sample[];
}

/** How long an arm is watched at most. */
export const longestMs = 3_600_000;
const sampleEveryMs = 1_000;
/** The pods are asked for within this. */
const spreadMs = 1_000;
const relistMs = 1_000;
const backoffMs = [10_000, 15_000] as const;

const making = new Set(['RunPodSandbox', 'CreateContainer', 'StartContainer']);

/** The pods, and which of them hang. */
export function podsOf({ pods, hungShare, seed }: StormOptions): PlansWithHung {
  const plans = arrivals({ pods, seed, pattern: { withinMs: spreadMs } });
  return withHung(plans, { ...noHangs, share: hungShare }, seed);
}

/** What hangs neither leaves its place nor is made anew. */
const knowsOfThem = { maxHung: 0, giveUpTimes: 'off' } as const;

/** @param hung How many pods hang. */
function configOf(arm: Arm, { cores, psi }: StormOptions, hung: number, directory: string): HoldfastConfig {
  const admission =
    typeof arm === 'string'
      ? { admission: arm }
      : ({ admission: 'fixed', maxCreations: arm.limit + hung, ...(hung > 0 && knowsOfThem) } as const);
  return {
    ...defaults,
    listen: path.join(directory, 'holdfast.sock'),
    runtime: path.join(directory, 'runtime.sock'),
    // Links are made by calls of the file system, which end in real time.
    linkLogs: false,
    // What the defaults would be on a machine like the simulated one.
    startCreations: Math.max(8, 4 * cores),
    maxCreations: Math.max(64, 16 * cores),
    ...(psi ? {} : ({ pressureCpu: 'off', pressureIo: 'off', pressureMemory: 'off' } as const)),
    ...admission,
  };
}

/** One storm on a fresh node: the same figures for the same options and arm. */
export async function storm(options: StormOptions, arm: Arm): Promise<Outcome> {
  const directory = mkdtempSync(path.join(tmpdir(), 'hfstorm-'));
  try {
    return await stormIn(directory, options, arm);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function stormIn(directory: string, options: StormOptions, arm: Arm): Promise<Outcome> {
  const { pods, deadlineMs, baseMs, cores, seed } = options;
  const clock = new ManualClock();
  const startMs = clock.now();
  const { plans, hung } = podsOf(options);
  const config = configOf(arm, options, hung.size, directory);
  const contention = new Contention(clock, { coefficient: options.contention, cores });
  const runtime = new SimulatedRuntime({
    socketPath: config.runtime,
    clock,
    contention,
    runPodSandboxMs: baseMs,
    createContainerMs: baseMs,
    startContainerMs: baseMs,
    failures: { runPodSandbox: hanging(hung, Infinity) },
  });
  const core = newCore(config, {
    log: pino({ enabled: false }),
    clock,
    metrics: new Metrics(),
    upstream: upstreamTo(runtime, clock),
    readPressure: (resource) =>
      resource === 'cpu'
        ? { avg10: contention.avg10, stalledMs: contention.totalStalledMs }
        : { avg10: 0, stalledMs: 0 },
  });
  const { caller, failures } = countFailures(callerThrough(core, runtime, clock));
  const random = new Random(seed);
  const kubelet = new KubeletLike({
    caller,
    podLogsDirectory: path.join(directory, 'logs'),
    pods: plans,
    requestTimeoutMs: deadlineMs / 2,
    backoffMs,
    relistMs,
    clock,
    random: () => random.uint32() / 2 ** 32,
  });

  const samples: Sample[] = [];
  const tooLong = new AbortController();
  let over = false;
  const running = kubelet.run(tooLong.signal).finally(() => {
    over = true;
  });
  while (!over && clock.now() - startMs < longestMs) {
    samples.push({
      atMs: clock.now() - startMs,
      limit: core.admission.limit,
      running: contention.running,
      queued: core.admission.queued,
      pressure: contention.avg10,
    });
    await clock.advance(sampleEveryMs);
  }
  tooLong.abort();
  const runningMs = whenRunning(await running);
  const { made } = runtime;
  const living = pods - hung.size;
  const outcome: Outcome = {
    allRunningMs: runningMs[living - 1] ?? null,
    p95RunningMs: runningMs[Math.ceil(living * 0.95) - 1] ?? null,
    failedCalls: failures(),
    creations: made.sandboxes.length + made.containers.length + made.starts.length,
    samples,
  };
  core.close();
  await runtime.close();
  return outcome;
}

/** Counts the failed calls that make something; one that the storm's end cuts short has not failed. */
function countFailures(inner: Caller): { caller: Caller; failures(): number } {
  let failed = 0;
  return {
    caller: {
      async call(method, request, timeoutMs, signal) {
        try {
          return await inner.call(method, request, timeoutMs, signal);
        } catch (error) {
          if (making.has(method) && !signal.aborted) failed += 1;
          throw error;
        }
      },
      close: () => inner.close(),
    },
    failures: () => failed,
  };
}

/** When each pod that runs came to run, in ms since the start, earliest first. */
function whenRunning(timelines: readonly PodHistory[]): number[] {
  return timelines
    .flatMap(({ events }) => events.filter(({ phase }) => phase === 'running').slice(0, 1))
    .map(({ atMs }) => atMs)
    .sort((a, b) => a - b);
}
