/** When pods come and go: open loop, so the pods do not wait for the node. One seed gives one list of plans. */
import type { PodPlan } from './kubelet/pod.js';
import { Random } from './random.js';

export interface ArrivalOptions {
  readonly pods: number;
  readonly seed: number;
  /** Evenly spread within a time, or a Poisson process with a mean rate. */
  readonly pattern: { readonly withinMs: number } | { readonly perSecond: number };
  /** Names of the containers of each; default `['app']`. */
  readonly containers?: readonly string[];
  /** Share of the pods in kube-system rather than default, from 0 to 1; default 0. */
  readonly criticalShare?: number;
  /** Share of the pods that are deleted, and how long after their arrival; default: none. */
  readonly deletions?: { readonly share: number; readonly afterMs: number };
}

/** In the order of arrival. Changing the shares changes no time, and another share keeps the pods of the smaller one. */
export function arrivals(options: ArrivalOptions): PodPlan[] {
  const { pods, seed, pattern, containers = ['app'], criticalShare = 0, deletions } = options;
  const random = new Random(seed);
  const fraction = () => random.uint32() / 2 ** 32;
  let latestMs = 0;
  const plans = Array.from({ length: pods }, () => {
    const [when, critical, deleted] = [fraction(), fraction(), fraction()];
    if ('perSecond' in pattern) latestMs -= (1_000 * Math.log(1 - when)) / pattern.perSecond;
    const arriveMs = 'perSecond' in pattern ? latestMs : when * pattern.withinMs;
    return {
      namespace: critical < criticalShare ? 'kube-system' : 'default',
      arriveMs,
      ...(deletions !== undefined && deleted < deletions.share ? { deleteMs: arriveMs + deletions.afterMs } : {}),
      containers,
    };
  });
  return plans.sort((a, b) => a.arriveMs - b.arriveMs).map((plan, n) => ({ name: `pod-${n}`, ...plan }));
}
