/** Small reports made by hand. */
import type { ArmReport, Report, Timeline } from '../../../src/harness/report-data.js';

export function report(arms: readonly ArmReport[], changes: Partial<Report> = {}): Report {
  const plain = {
    scenario: 'slow-cni',
    description: 'A slow network',
    seed: 5,
    pods: 2,
    repeats: 1,
    runtime: 'simulated',
  };
  return { ...plain, arms, ...changes };
}

/** By default it converged within 4 of 8 s. */
export function arm(name: string, changes: Partial<ArmReport> = {}): ArmReport {
  return {
    name,
    title: 'one of them',
    neverRun: 0,
    converged: true,
    runningMs: { p50: 2_000, p95: 4_000, all: 4_000 },
    staticPods: null,
    criticalPods: null,
    creationsPerPod: 1,
    deadlineErrors: 0,
    reservedErrors: 0,
    otherErrors: 0,
    restarts: 0,
    highestAttempt: 0,
    work: null,
    duplicatesAlive: 0,
    leftOvers: 0,
    listMs: { p50: 2, p99: 40 },
    holdfast: null,
    durationMs: 8_000,
    timelines: [timeline('web-0'), timeline('web-1', { calls: [{ fromMs: 4_000, toMs: 8_000, state: 'running' }] })],
    ...changes,
  };
}

export function timeline(pod: string, changes: Partial<Timeline> = {}): Timeline {
  return {
    pod,
    calls: [
      { fromMs: 0, toMs: 2_000, state: 'podSandbox' },
      { fromMs: 2_000, toMs: 8_000, state: 'running' },
    ],
    work: [{ fromMs: 0, toMs: 2_000, state: 'podSandbox' }],
    marks: [],
    ...changes,
  };
}

/** Never converged, and everything that can be null is. */
export const stuck: Partial<ArmReport> = {
  converged: false,
  runningMs: { p50: 3_000, p95: null, all: null },
  listMs: { p50: null, p99: null },
  timelines: [
    timeline('web-0'),
    timeline('web-1', {
      calls: [
        { fromMs: 0, toMs: 4_000, state: 'podSandbox' },
        { fromMs: 4_000, toMs: 8_000, state: 'waiting' },
      ],
      work: [{ fromMs: 0, toMs: 4_200, state: 'podSandbox', thrownAway: true }],
      marks: [{ atMs: 4_000, kind: 'deadline passed', text: 'context deadline exceeded' }],
    }),
  ],
};
