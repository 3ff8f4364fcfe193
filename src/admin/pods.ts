/** Finds a pod in what a running Holdfast tells, by what somebody types. */
import type { ReportedIdentity } from '../proxy/creation-report.js';

/** @param asked `namespace/name`, a name, or the begin of a uid; what is meant is tried in this order. */
export function ofPod<Reported extends ReportedIdentity>(
  creations: readonly Reported[],
  asked: string,
): readonly Reported[] {
  const ways = [
    ({ namespace, pod }: Reported) => pod !== undefined && `${namespace}/${pod}` === asked,
    ({ pod }: Reported) => pod === asked,
    ({ uid }: Reported) => uid?.startsWith(asked) === true,
  ];
  for (const matches of ways) {
    const found = creations.filter(matches);
    if (found.length > 0) return found;
  }
  return [];
}

/** Each pod once, as people tell them apart. */
export function podsIn(creations: readonly ReportedIdentity[]): ReadonlyMap<string, string> {
  return new Map(
    creations.flatMap(({ namespace, pod, uid }) =>
      uid === undefined ? [] : [[uid, `${namespace}/${pod} (uid ${uid})`]],
    ),
  );
}
