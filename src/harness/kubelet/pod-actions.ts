/**
 * What has to be done about a pod, from what is visible of it. Does nothing itself.
 *
 * Source: kubernetes 1.26 pkg/kubelet/kuberuntime/kuberuntime_manager.go:computePodActions and
 * pkg/kubelet/container/helpers.go:ShouldContainerBeRestarted.
 */
import { type SandboxDecision, sandboxDecision } from './attempts.js';
import { nextInit } from './init-containers.js';
import type { Pod, RestartPolicy } from './pod.js';
import { type ContainerStatus, newestOf, type PodStatus } from './pod-status.js';

export interface PodActions {
  /** Whether all that is there is stopped first. */
  readonly kill: boolean;
  readonly sandbox: SandboxDecision;
  /** Containers to be stopped before another attempt is made: what they do is not known. */
  readonly stop: readonly ContainerStatus[];
  /** The init container to start; then no other is. */
  readonly init: string | undefined;
  /** The containers to start, in this order. */
  readonly start: readonly string[];
  /** Whether its init containers have all run and one of its containers runs. */
  readonly runs: boolean;
}

export function podActions(pod: Pod, status: PodStatus): PodActions {
  const sandbox = sandboxDecision(status);
  return sandbox.create ? afresh(pod, status, sandbox) : further(pod, status, sandbox);
}

/** In a new sandbox, where one is to be made at all. */
function afresh(pod: Pod, status: PodStatus, sandbox: SandboxDecision): PodActions {
  const { containers, initContainers, restartPolicy } = pod;
  const nothing: PodActions = {
    ...{ kill: true, sandbox: { ...sandbox, create: false } },
    ...{ stop: [], init: undefined, start: [], runs: false },
  };
  if (restartPolicy === 'Never' && sandbox.attempt !== 0 && status.containers.length > 0) return nothing;
  const start = containers.filter((name) => restartPolicy !== 'OnFailure' || !hasSucceeded(newestOf(status, name)));
  if (start.length === 0 && nextInit(pod, status).done) return nothing;
  const [init] = initContainers;
  return { ...nothing, sandbox, ...(init === undefined ? { start } : { init }) };
}

/** In the sandbox that is there. */
function further(pod: Pod, status: PodStatus, sandbox: SandboxDecision): PodActions {
  const nothing: PodActions = { kill: false, sandbox, stop: [], init: undefined, start: [], runs: false };
  const { done, next, failed } = nextInit(pod, status);
  if (!done) {
    if (failed !== undefined && pod.restartPolicy === 'Never') return { ...nothing, kill: true };
    return { ...nothing, stop: unknown(failed), init: next };
  }
  const newest = pod.containers.map((name) => [name, newestOf(status, name)] as const);
  const runs = newest.some(([, container]) => container?.state === 'CONTAINER_RUNNING');
  const start = newest.filter(([, container]) => isToStart(container, pod.restartPolicy));
  return {
    ...nothing,
    stop: start.flatMap(([, container]) => unknown(container)),
    start: start.map(([name]) => name),
    runs,
  };
}

function unknown(container: ContainerStatus | undefined): readonly ContainerStatus[] {
  return container?.state === 'CONTAINER_UNKNOWN' ? [container] : [];
}

/** One that is CREATED has an exit code of 0, too. */
function hasSucceeded(container: ContainerStatus | undefined): boolean {
  return container !== undefined && container.state !== 'CONTAINER_RUNNING' && container.exit_code === 0;
}

/** One that is CREATED or UNKNOWN is followed whatever the policy is. */
function isToStart(container: ContainerStatus | undefined, policy: RestartPolicy): boolean {
  if (container === undefined) return true;
  if (container.state === 'CONTAINER_RUNNING') return false;
  if (container.state !== 'CONTAINER_EXITED') return true;
  return policy === 'Always' || (policy === 'OnFailure' && container.exit_code !== 0);
}
