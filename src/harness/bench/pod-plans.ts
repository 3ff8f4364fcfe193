/** Which pods a scenario asks for, when, which of them are deleted, and what becomes of their containers by themselves. */
import { arrivals } from '../arrivals.js';
import type { ExitPlan } from '../exit-plan.js';
import type { PodPlan } from '../kubelet/pod.js';
import type { KubeletPart, Scenario } from './scenario.js';

/** The same for the same seed. */
export function podPlans({ pods, kubelet }: Scenario, seed: number): readonly PodPlan[] {
  const { arrivalsPerSecond, critical, restartPolicies } = kubelet;
  const containers = names('app', kubelet.containers);
  const statics = Array.from({ length: kubelet.static?.pods ?? 0 }, (_, n) =>
    staticPod(`static-${n}`, containers, kubelet),
  );
  const life = lifeOf(containers, kubelet);
  const first = Array.from({ length: critical?.pods ?? 0 }, (_, n): PodPlan => {
    return { name: `critical-${n}`, namespace: 'kube-system', arriveMs: critical?.afterMs ?? 0, containers, ...life };
  });
  const others = arrivals({
    pods: pods - first.length - statics.length,
    seed,
    pattern: arrivalsPerSecond === undefined ? { withinMs: 0 } : { perSecond: arrivalsPerSecond },
    containers,
    ...(kubelet.delete === undefined ? {} : { deletions: kubelet.delete }),
  });
  const all = [...others.map((plan) => ({ ...plan, ...life })), ...first].map((plan, n) => {
    return { ...plan, restartPolicy: restartPolicies[n % restartPolicies.length] ?? restartPolicies[0] };
  });
  return [...all, ...statics];
}

function names(name: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, n) => (n === 0 ? name : `${name}-${n}`));
}

function staticPod(name: string, containers: readonly string[], { static: times }: KubeletPart): PodPlan {
  return {
    ...{ name, namespace: 'kube-system', arriveMs: times?.afterMs ?? 0, containers, isStatic: true },
    ...times?.away,
  };
}

/** How a pod begins, and how its containers end. */
function lifeOf(containers: readonly string[], { initContainers: init, exits }: KubeletPart): Partial<PodPlan> {
  const inits = names('init', init?.count ?? 0);
  const ends: Record<string, ExitPlan> = {};
  for (const name of inits) ends[name] = { afterMs: init?.runMs ?? 0, code: 0 };
  if (exits !== undefined) for (const name of containers) ends[name] = exits;
  return { initContainers: inits, exits: ends };
}
