/** Which pods of a run are to come to run, and when they did. */
import type { PodPlan } from '../kubelet/pod.js';
import type { PodHistory } from '../kubelet/pod-history.js';
import { percentile, type RunResult } from './arm-report.js';
import { upSince } from './timeline.js';

/** @param timelines In the order of the plans. */
export function convergence(
  timelines: readonly PodHistory[],
  plans: readonly PodPlan[],
): Pick<RunResult, 'neverRun' | 'converged' | 'runningMs' | 'staticPods' | 'criticalPods'> {
  const stay = plans.flatMap((plan, n) => {
    const timeline = timelines[n];
    const isDeleted = plan.deleteMs !== undefined && plan.returnMs === undefined;
    return isDeleted || timeline === undefined ? [] : [{ plan, upMs: upSince(timeline) }];
  });
  const wanted = stay.filter(({ plan }) => plan.neverRuns !== true);
  const times = wanted.flatMap(({ upMs }) => upMs ?? []);
  const at = (share: number) => percentile(times, share, wanted.length);
  const waited = (pods: typeof wanted) => {
    const waits = pods.flatMap(({ plan, upMs }) => (upMs === undefined ? [] : [upMs - askedMs(plan)]));
    return pods.length === 0 ? null : { pods: pods.length, allMs: percentile(waits, 1, pods.length) };
  };
  return {
    neverRun: stay.length - wanted.length,
    converged: times.length === wanted.length,
    runningMs: { p50: at(0.5), p95: at(0.95), all: at(1) },
    staticPods: waited(wanted.filter(({ plan }) => plan.isStatic === true)),
    criticalPods: waited(wanted.filter(({ plan }) => plan.isStatic !== true && plan.namespace === 'kube-system')),
  };
}

/** The last time. */
function askedMs({ arriveMs, returnMs }: PodPlan): number {
  return returnMs ?? arriveMs;
}
