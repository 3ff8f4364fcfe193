/** How often the work of pods was done that end by themselves. */
import { containerNames, endsByItself, type PodPlan } from '../kubelet/pod.js';
import type { WorkDone } from '../report-data.js';

/**
 * @param plans By the pods' uids.
 * @param runsOf How often the process of a container of a pod ran; undefined: that is not known.
 * @returns Null where there is no such pod, or where it is not known.
 */
export function workDone(
  plans: ReadonlyMap<string, PodPlan>,
  runsOf: (podUid: string, containerName: string) => number | undefined,
): WorkDone | null {
  const jobs = [...plans].filter(([, plan]) => endsByItself(plan));
  const runs = jobs.map(([uid, plan]) => containerNames(plan).map((name) => runsOf(uid, name)));
  if (runs.length === 0 || runs.flat().includes(undefined)) return null;
  return {
    pods: runs.length,
    once: runs.filter((ofPod) => ofPod.every((count) => count === 1)).length,
    more: runs.filter((ofPod) => ofPod.some((count) => count !== undefined && count > 1)).length,
  };
}
