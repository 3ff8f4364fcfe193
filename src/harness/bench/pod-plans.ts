/** Which pods a scenario asks for, when, and which of them are deleted. */
import { arrivals } from '../arrivals.js';
import type { PodPlan } from '../kubelet/pod.js';
import type { Scenario } from './scenario.js';

/** The same for the same seed. */
export function podPlans({ pods, kubelet }: Scenario, seed: number): readonly PodPlan[] {
  const { arrivalsPerSecond, critical } = kubelet;
  const containers = Array.from({ length: kubelet.containers }, (_, n) => (n === 0 ? 'app' : `app-${n}`));
  const first = Array.from({ length: critical?.pods ?? 0 }, (_, n): PodPlan => {
    return { name: `critical-${n}`, namespace: 'kube-system', arriveMs: critical?.afterMs ?? 0, containers };
  });
  const others = arrivals({
    pods: pods - first.length,
    seed,
    pattern: arrivalsPerSecond === undefined ? { withinMs: 0 } : { perSecond: arrivalsPerSecond },
    containers,
    ...(kubelet.delete === undefined ? {} : { deletions: kubelet.delete }),
  });
  return [...others, ...first];
}
