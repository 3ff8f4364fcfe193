/** Whether a pod is over (kubernetes 1.26 pkg/kubelet/kubelet_pods.go:getPhase, :convertToAPIContainerStatuses). */
import type { Pod } from './pod.js';
import type { PodStatus } from './pod-status.js';

/** What a container comes to: it runs, or has ended with a code, this time or the time before. */
interface Life {
  readonly state: 'none' | 'waiting' | 'running' | 'ended';
  /** Undefined: it has not ended so far, or runs. */
  readonly exitCode: number | undefined;
}

/** @returns Undefined: it is not over. */
export function podOutcome(pod: Pod, status: PodStatus): 'succeeded' | 'failed' | undefined {
  const { restartPolicy } = pod;
  const init = pod.initContainers.map((name) => lifeOf(status, name));
  const failed = init.some(({ exitCode }) => exitCode !== undefined && exitCode !== 0);
  if (failed && restartPolicy === 'Never') return 'failed';
  if (restartPolicy === 'Always' || init.some(({ exitCode }) => exitCode === undefined)) return undefined;
  const lives = pod.containers.map((name) => lifeOf(status, name));
  if (lives.some(({ exitCode }) => exitCode === undefined)) return undefined;
  if (lives.every(({ state, exitCode }) => state === 'ended' && exitCode === 0)) return 'succeeded';
  return restartPolicy === 'Never' ? 'failed' : undefined;
}

function lifeOf({ containers }: PodStatus, name: string): Life {
  const [newest, before] = containers.filter(({ metadata }) => metadata.name === name);
  if (newest === undefined) return { state: 'none', exitCode: undefined };
  if (newest.state === 'CONTAINER_RUNNING') return { state: 'running', exitCode: undefined };
  if (newest.state === 'CONTAINER_EXITED') return { state: 'ended', exitCode: newest.exit_code };
  return { state: 'waiting', exitCode: before?.state === 'CONTAINER_EXITED' ? before.exit_code : undefined };
}
