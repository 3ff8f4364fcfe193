/**
 * One try to bring a pod to what it should be: its sandbox, then its containers in order.
 *
 * Source: kubernetes 1.26 pkg/kubelet/kuberuntime/kuberuntime_manager.go:SyncPod, :computePodActions.
 */
import path from 'node:path';
import type { Clock } from '../../clock.js';
import { restartCount, type SandboxDecision, sandboxDecision } from './attempts.js';
import { type Calls, gracePeriodSeconds } from './calls.js';
import type { Pod } from './pod.js';
import { describe, type Phase } from './pod-history.js';
import { killPod, type PodStatus } from './pod-status.js';
import type { Requests } from './requests.js';

/** What syncs of all pods share. */
export interface SyncTools {
  readonly calls: Calls;
  readonly requests: Requests;
  readonly clock: Clock;
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
  const decision = sandboxDecision(status);
  const sandbox = await attempt(() => ensureSandbox(pod, status, decision, tools));
  if (sandbox === undefined) return errors;
  for (const name of pod.containers) {
    if (tools.signal.aborted) break;
    if (!decision.create && runs(status, name)) continue;
    await attempt(() => startContainer(pod, name, status, sandbox, tools));
  }
  if (errors.length === 0 && pod.phase !== 'running' && !tools.signal.aborted) {
    tools.record(pod, 'running', pod.phase === 'StartContainer' ? 'running' : 'seen running');
  }
  return errors;
}

function runs({ containers }: PodStatus, name: string): boolean {
  return containers.find(({ metadata }) => metadata.name === name)?.state === 'CONTAINER_RUNNING';
}

/** Of its name. */
function isNewest(containers: PodStatus['containers'], at: number): boolean {
  const name = containers[at]?.metadata.name;
  return containers.findIndex(({ metadata }) => metadata.name === name) === at;
}

/** The sandbox to use, made where none can be. */
async function ensureSandbox(
  pod: Pod,
  { sandboxes, containers }: PodStatus,
  { create, attempt, id: visible }: SandboxDecision,
  { calls, requests, record }: SyncTools,
): Promise<{ id: string; attempt: number }> {
  if (!create) {
    const unknown = containers.filter(
      (container, at) => container.state === 'CONTAINER_UNKNOWN' && isNewest(containers, at),
    );
    await killPod(calls, ids(unknown), [], gracePeriodSeconds);
    if (!pod.sandboxIds.has(visible)) record(pod, 'waiting', `sees sandbox ${attempt}, adopts it`);
    pod.sandboxIds.add(visible);
    return { id: visible, attempt };
  }
  const running = containers.filter(({ state }) => state === 'CONTAINER_RUNNING');
  await killPod(calls, ids(running), ids(sandboxes), gracePeriodSeconds);
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
  { calls, requests, clock, record }: SyncTools,
): Promise<void> {
  if (pod.crashLoops.holdsBack(status, name, clock.now()))
    throw new Error(`back-off restarting failed container ${name}`);
  const attempt = restartCount(status, name, path.join(pod.logDirectory, name));
  const which = pod.containers.length === 1 ? '' : ` ${name}`;
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
