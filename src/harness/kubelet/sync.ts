/**
 * One try to bring a pod to what it should be: its sandbox, then its next init container, or its containers in order. What has to
 * be done is said by pod-actions.ts.
 *
 * Source: kubernetes 1.26 pkg/kubelet/kuberuntime/kuberuntime_manager.go:SyncPod.
 */
import path from 'node:path';
import type { Clock } from '../../clock.js';
import { restartCount } from './attempts.js';
import { type Calls, gracePeriodSeconds } from './calls.js';
import type { ImagePulls } from './image-pulls.js';
import { removeInitContainers } from './init-containers.js';
import type { Pod } from './pod.js';
import { type PodActions, podActions } from './pod-actions.js';
import { describe, type Phase } from './pod-history.js';
import { killPod, type PodStatus } from './pod-status.js';
import type { Requests } from './requests.js';

/** What syncs of all pods share. */
export interface SyncTools {
  readonly calls: Calls;
  readonly requests: Requests;
  readonly clock: Clock;
  /** Undefined: the image is there, and no pull is needed. */
  readonly pulls: ImagePulls | undefined;
  /** Fires at the end: what fails from then on is cut short and says nothing. */
  readonly signal: AbortSignal;
  record(pod: Pod, phase: Phase, text: string, error?: boolean): void;
}

/** @returns The texts of what went wrong. */
export async function syncPod(pod: Pod, status: PodStatus, tools: SyncTools): Promise<string[]> {
  const errors: string[] = [];
  const attempt = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work();
    } catch (error) {
      errors.push(String(error));
      if (!tools.signal.aborted) tools.record(pod, 'waiting', describe(error), true);
      return undefined;
    }
  };
  const actions = podActions(pod, status);
  const { init, start } = actions;
  const sandbox = await attempt(() => prepare(pod, status, actions, tools));
  if (sandbox === undefined) return errors;
  for (const name of init === undefined ? start : [init]) {
    if (tools.signal.aborted) break;
    await attempt(() => startContainer(pod, name, status, sandbox, tools));
  }
  const isUp = init === undefined && (actions.runs || start.length > 0);
  if (errors.length === 0 && isUp && pod.phase !== 'running' && !tools.signal.aborted) {
    tools.record(pod, 'running', pod.phase === 'StartContainer' ? 'running' : 'seen running');
  }
  return errors;
}

/**
 * Stops and removes what is in the way, and sees to the sandbox.
 *
 * @returns The sandbox to use.
 */
async function prepare(
  pod: Pod,
  status: PodStatus,
  { kill, sandbox: { create, attempt, id: visible }, stop }: PodActions,
  { calls, requests, record }: SyncTools,
): Promise<{ id: string; attempt: number }> {
  const running = status.containers.filter(({ state }) => state === 'CONTAINER_RUNNING');
  if (kill) await killPod(calls, ids(running), ids(status.sandboxes), gracePeriodSeconds);
  else await killPod(calls, ids(stop), [], gracePeriodSeconds);
  await removeInitContainers(pod, status, calls, create);
  if (!create) {
    if (!pod.sandboxIds.has(visible)) record(pod, 'waiting', `sees sandbox ${attempt}, adopts it`);
    pod.sandboxIds.add(visible);
    return { id: visible, attempt };
  }
  record(pod, 'RunPodSandbox', `RunPodSandbox, attempt ${attempt}`);
  const { pod_sandbox_id: id } = await calls.call<{ pod_sandbox_id: string }>('RunPodSandbox', {
    config: requests.sandbox(pod, attempt),
  });
  if (id === '') throw new Error('sandbox id is empty');
  pod.sandboxIds.add(id);
  await calls.call('PodSandboxStatus', { pod_sandbox_id: id });
  return { id, attempt };
}

async function startContainer(
  pod: Pod,
  name: string,
  status: PodStatus,
  sandbox: { readonly id: string; readonly attempt: number },
  { calls, requests, clock, pulls, record }: SyncTools,
): Promise<void> {
  if (pod.crashLoops.holdsBack(status, name, clock.now()))
    throw new Error(`back-off restarting failed container ${name}`);
  const which = pod.containers.length + pod.initContainers.length === 1 ? '' : ` ${name}`;
  if (pulls !== undefined) {
    record(pod, 'waiting', `pulls the image${which === '' ? '' : ` of${which}`}`);
    await pulls.pull();
  }
  const attempt = restartCount(status, name, path.join(pod.logDirectory, name));
  record(pod, 'CreateContainer', `CreateContainer${which}, attempt ${attempt}`);
  const { container_id: id } = await calls.call<{ container_id: string }>(
    'CreateContainer',
    requests.container(pod, name, attempt, sandbox),
  );
  if (id === '') throw new Error('container id is empty');
  record(pod, 'StartContainer', `StartContainer${which}`);
  await calls.call('StartContainer', { container_id: id });
}

/** Stops what can be seen of it (kubelet.go:syncTerminatingPod). @throws {grpc.ServiceError} */
export async function terminatePod({ sandboxes, containers }: PodStatus, calls: Calls): Promise<void> {
  const running = containers.filter(({ state }) => state === 'CONTAINER_RUNNING');
  await killPod(calls, ids(running), ids(sandboxes), gracePeriodSeconds);
}

function ids(items: readonly { readonly id: string }[]): string[] {
  return items.map(({ id }) => id);
}
