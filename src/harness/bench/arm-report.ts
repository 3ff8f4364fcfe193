/** From what was seen of the repeats of an arm to its figures. */
import type { ArmReport, OwnPods, WorkDone } from '../report-data.js';

/** What one run of an arm yields. */
export type RunResult = Omit<ArmReport, 'name' | 'title'>;

/** @param runs At least one; the first gives the timelines. */
export function armReport(name: string, title: string, runs: readonly [RunResult, ...RunResult[]]): ArmReport {
  const orNull = (figure: (run: RunResult) => number | null) => median(runs.map(figure));
  const of = (figure: (run: RunResult) => number) => orNull(figure) ?? 0;
  const cpuMs = orNull(({ holdfast }) => holdfast?.cpuMs ?? null);
  const rssBytes = orNull(({ holdfast }) => holdfast?.rssBytes ?? null);
  return {
    name,
    title,
    neverRun: of(({ neverRun }) => neverRun),
    converged: runs.every(({ converged }) => converged),
    runningMs: {
      p50: orNull(({ runningMs }) => runningMs.p50),
      p95: orNull(({ runningMs }) => runningMs.p95),
      all: orNull(({ runningMs }) => runningMs.all),
    },
    staticPods: ownPodsOf(runs.map(({ staticPods }) => staticPods)),
    criticalPods: ownPodsOf(runs.map(({ criticalPods }) => criticalPods)),
    creationsPerPod: of(({ creationsPerPod }) => creationsPerPod),
    deadlineErrors: of(({ deadlineErrors }) => deadlineErrors),
    reservedErrors: of(({ reservedErrors }) => reservedErrors),
    otherErrors: of(({ otherErrors }) => otherErrors),
    restarts: of(({ restarts }) => restarts),
    highestAttempt: of(({ highestAttempt }) => highestAttempt),
    work: workOf(runs),
    duplicatesAlive: of(({ duplicatesAlive }) => duplicatesAlive),
    leftOvers: of(({ leftOvers }) => leftOvers),
    listMs: { p50: orNull(({ listMs }) => listMs.p50), p99: orNull(({ listMs }) => listMs.p99) },
    holdfast: cpuMs === null || rssBytes === null ? null : { cpuMs, rssBytes },
    durationMs: of(({ durationMs }) => durationMs),
    timelines: runs[0].timelines,
  };
}

/** They are the same in each run. */
function ownPodsOf(runs: readonly (OwnPods | null)[]): OwnPods | null {
  const [first] = runs;
  return first ? { pods: first.pods, allMs: median(runs.map((own) => own?.allMs ?? null)) } : null;
}

function workOf(runs: readonly RunResult[]): RunResult['work'] {
  const works = runs.flatMap(({ work }) => work ?? []);
  const of = (figure: (work: WorkDone) => number) => median(works.map(figure)) ?? 0;
  if (works.length < runs.length) return null;
  return { pods: of(({ pods }) => pods), once: of(({ once }) => once), more: of(({ more }) => more) };
}

/** Null counts as endless, and is the median where that is. */
function median(values: readonly (number | null)[]): number | null {
  const sorted = values.map((value) => value ?? Number.POSITIVE_INFINITY).sort((a, b) => a - b);
  const middle = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.floor(sorted.length / 2)]] as [
    number,
    number,
  ];
  const value = (middle[0] + middle[1]) / 2;
  return Number.isFinite(value) ? value : null;
}

/**
 * The time by which a share of so many had their value.
 *
 * @param values One for each that ever had it, in any order.
 * @param count How many there are.
 * @returns null: fewer ever had it.
 */
export function percentile(values: readonly number[], share: number, count = values.length): number | null {
  return values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(share * count) - 1)] ?? null;
}

/** How often each of those that were made was made. */
export function perDifferent(made: readonly string[]): number {
  return made.length === 0 ? 0 : made.length / new Set(made).size;
}
