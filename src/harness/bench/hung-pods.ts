/** Which pods of a run the runtime hangs on, and what that means for the plans. */
import type { PodPlan } from '../kubelet/pod.js';
import { Random } from '../random.js';
import type { Hangs } from './scenario.js';

export interface PlansWithHung {
  /** In the order they were in. */
  readonly plans: readonly PodPlan[];
  /** Those of them whose pod sandboxes hang, named as the runtime's podOf does. */
  readonly hung: ReadonlySet<string>;
}

/** The same for the same seed. */
export function withHung(plans: readonly PodPlan[], { share, times, leadMs }: Hangs, seed: number): PlansWithHung {
  const hung = hungPods(plans, share, seed);
  const told = plans.map((plan) => {
    if (!hung.has(plan)) return later(plan, leadMs);
    const own = groupOf(plan) === 'other' ? plan : later(plan, leadMs);
    return times === undefined ? { ...own, neverRuns: true } : own;
  });
  return { plans: told, hung: new Set([...hung].map(({ name, namespace }) => `${name}_${namespace}`)) };
}

/**
 * The share is one of the static pods, of the other pods in kube-system, and of the rest, each for itself: where there are two or
 * more of a group, at least one of them hangs and one does not.
 */
function hungPods(plans: readonly PodPlan[], share: number, seed: number): ReadonlySet<PodPlan> {
  const random = new Random(seed);
  const drawn = plans.map((plan) => ({ plan, at: random.uint32() })).sort((a, b) => a.at - b.at);
  const groups = ['static', 'critical', 'other'].map((group) => drawn.filter(({ plan }) => groupOf(plan) === group));
  const hung = groups.flatMap((group) => group.slice(0, countOf(share, group.length)).map(({ plan }) => plan));
  return new Set(hung);
}

function groupOf({ isStatic, namespace }: PodPlan): 'static' | 'critical' | 'other' {
  if (isStatic === true) return 'static';
  return namespace === 'kube-system' ? 'critical' : 'other';
}

function countOf(share: number, pods: number): number {
  if (share === 0 || share === 1) return share * pods;
  return Math.max(0, Math.min(pods - 1, Math.max(1, Math.round(share * pods))));
}

function later(plan: PodPlan, byMs: number): PodPlan {
  const { arriveMs, deleteMs, returnMs } = plan;
  return {
    ...plan,
    arriveMs: arriveMs + byMs,
    ...(deleteMs === undefined ? {} : { deleteMs: deleteMs + byMs }),
    ...(returnMs === undefined ? {} : { returnMs: returnMs + byMs }),
  };
}
