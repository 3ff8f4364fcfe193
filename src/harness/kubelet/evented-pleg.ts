/**
 * GetContainerEvents as a kubelet uses it in the place of most relists.
 *
 * Source: kubernetes 1.26 pkg/kubelet/pleg/evented.go. It reads the events' times as seconds; here an event counts from when it
 * comes, as the authors meant.
 */
import type { Clock } from '../../clock.js';
import type { Caller } from '../cri-caller.js';
import { repeat } from '../sleep.js';
import type { Pleg } from './pleg.js';
import { type ContainerStatus, newestFirst, type SandboxStatus } from './pod-status.js';

interface ContainerEvent {
  readonly container_event_type: string;
  readonly pod_sandbox_status: SandboxStatus | null;
  readonly containers_statuses: readonly ContainerStatus[];
}

/** kubelet.go: eventedPlegMaxStreamRetries, eventedPlegRelistPeriod; pleg/evented.go: globalCacheUpdatePeriod. */
const mostFailures = 5;
const relistSeconds = 300;
const confirmSeconds = 5;

/**
 * Follows the events until the calls fail too often, or the signal fires. Relists now and then beside it.
 *
 * @param secondMs See KubeletLikeOptions.relistMs.
 */
export async function followEvents(
  caller: Caller,
  pleg: Pleg,
  clock: Clock,
  secondMs: number,
  wake: (uid: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const given = new AbortController();
  const over = AbortSignal.any([signal, given.signal]);
  pleg.trusting = true;
  const beside = [
    repeat(clock, relistSeconds * secondMs, over, () => pleg.relist()),
    repeat(clock, confirmSeconds * secondMs, over, () => pleg.confirm()),
  ];
  for (let failures = 0; failures < mostFailures && !signal.aborted; failures += 1) {
    await follow(caller, pleg, wake, signal);
    if (!signal.aborted) await pleg.relist().catch(() => undefined);
  }
  pleg.trusting = false;
  given.abort();
  await Promise.all(beside);
}

/** Until the call ends, however it does. */
async function follow(caller: Caller, pleg: Pleg, wake: (uid: string) => void, signal: AbortSignal): Promise<void> {
  const take = (event: ContainerEvent): void => {
    const { pod_sandbox_status: sandbox, containers_statuses: containers } = event;
    const uid = sandbox?.metadata.uid;
    if (sandbox === null || uid === undefined) return;
    pleg.replace(uid, { sandboxes: [sandbox], containers: containers.toSorted(newestFirst) });
    if (event.container_event_type !== 'CONTAINER_CREATED_EVENT') wake(uid);
  };
  try {
    await caller.stream?.<ContainerEvent>('GetContainerEvents', {}, take, signal);
  } catch {}
}
