/**
 * Init containers: which one is next, and which of them are removed.
 *
 * Source: kubernetes 1.26 pkg/kubelet/kuberuntime/kuberuntime_container.go:findNextInitContainerToRun,
 * :pruneInitContainersBeforeStart, :purgeInitContainers.
 */
import type { Calls } from './calls.js';
import type { Pod } from './pod.js';
import { type ContainerStatus, newestOf, type PodStatus } from './pod-status.js';
import { removeContainer } from './remove-container.js';

export interface NextInit {
  /** Whether all have run, or need not any more. */
  readonly done: boolean;
  /** Name of the one to start; undefined: none, now. */
  readonly next?: string;
  /** Its newest container, where that has failed. */
  readonly failed?: ContainerStatus;
}

export function nextInit({ initContainers, containers }: Pod, status: PodStatus): NextInit {
  if (initContainers.length === 0) return { done: true };
  // They must have run then, though they may have been removed since.
  if (containers.some((name) => newestOf(status, name)?.state === 'CONTAINER_RUNNING')) return { done: true };
  for (const name of initContainers.toReversed()) {
    const newest = newestOf(status, name);
    if (newest !== undefined && hasFailed(newest)) return { done: false, next: name, failed: newest };
  }
  for (const [at, name] of [...initContainers.entries()].toReversed()) {
    const state = newestOf(status, name)?.state;
    if (state === 'CONTAINER_RUNNING') return { done: false };
    if (state !== 'CONTAINER_EXITED') continue;
    const next = initContainers[at + 1];
    return next === undefined ? { done: true } : { done: false, next };
  }
  return { done: false, ...(initContainers[0] === undefined ? {} : { next: initContainers[0] }) };
}

/** One that is CREATED has not. */
function hasFailed({ state, exit_code }: ContainerStatus): boolean {
  return state === 'CONTAINER_UNKNOWN' || (state === 'CONTAINER_EXITED' && exit_code !== 0);
}

/**
 * Removes those that have ended, but the newest of each name; what cannot be removed stays.
 *
 * @param all Whether the newest go too, and those that have not ended.
 */
export async function removeInitContainers(pod: Pod, status: PodStatus, calls: Calls, all: boolean): Promise<void> {
  for (const name of pod.initContainers) {
    const named = status.containers.filter(({ metadata }) => metadata.name === name);
    const ended = named.filter(({ state }) => state === 'CONTAINER_EXITED' || state === 'CONTAINER_UNKNOWN');
    for (const container of all ? named : ended.slice(1)) {
      await removeContainer(calls, pod, container).catch(() => undefined);
    }
  }
}
