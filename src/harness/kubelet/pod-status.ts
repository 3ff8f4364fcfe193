/** What the runtime shows of one pod. Source: kubernetes 1.26 pkg/kubelet/kuberuntime/kuberuntime_manager.go:GetPodStatus. */
import * as grpc from '@grpc/grpc-js';
import type { ContainerState, PodSandboxMetadata, PodSandboxState, StringMap } from '../runtime/messages.js';
import type { Calls } from './calls.js';

export interface SandboxStatus {
  readonly id: string;
  readonly metadata: PodSandboxMetadata;
  readonly state: PodSandboxState;
  readonly created_at: string;
  readonly network: { readonly ip: string } | null;
  readonly linux: { readonly namespaces: { readonly options: { readonly network: string } | null } | null } | null;
}

export interface ContainerStatus {
  readonly id: string;
  readonly metadata: { readonly name: string; readonly attempt: number };
  readonly state: ContainerState;
  readonly created_at: string;
  /** 0 unless it has ended with another. */
  readonly exit_code: number;
  readonly annotations: StringMap;
}

/** Newest first. */
export interface PodStatus {
  readonly sandboxes: readonly SandboxStatus[];
  readonly containers: readonly ContainerStatus[];
}

export const nothing: PodStatus = { sandboxes: [], containers: [] };

export const podUidLabel = 'io.kubernetes.pod.uid';

/** The newest container of a name. */
export function newestOf({ containers }: PodStatus, name: string): ContainerStatus | undefined {
  return containers.find(({ metadata }) => metadata.name === name);
}

export function restartCountOf({ annotations }: Pick<ContainerStatus, 'annotations'>): number {
  return Number(annotations['io.kubernetes.container.restartCount'] ?? 0);
}

export function newestFirst(a: { readonly created_at: string }, b: { readonly created_at: string }): number {
  return Number(BigInt(b.created_at) - BigInt(a.created_at));
}

/** @throws {grpc.ServiceError} A call failed, but for NotFound of something that was listed. */
export async function podStatus(calls: Calls, uid: string): Promise<PodStatus> {
  const filter = { label_selector: { [podUidLabel]: uid } };
  const { items } = await calls.call<{ items: readonly { id: string }[] }>('ListPodSandbox', { filter });
  const sandboxes = await statuses<SandboxStatus>(items, ({ id }) =>
    calls.call('PodSandboxStatus', { pod_sandbox_id: id }),
  );
  const listed = await calls.call<{ containers: readonly { id: string }[] }>('ListContainers', { filter });
  const containers = await statuses<ContainerStatus>(listed.containers, ({ id }) =>
    calls.call('ContainerStatus', { container_id: id }),
  );
  return { sandboxes: sandboxes.sort(newestFirst), containers: containers.sort(newestFirst) };
}

async function statuses<T>(
  items: readonly { readonly id: string }[],
  ask: (item: { readonly id: string }) => Promise<{ status: T | null }>,
): Promise<T[]> {
  const found: T[] = [];
  for (const item of items) {
    try {
      const { status } = await ask(item);
      if (status !== null) found.push(status);
    } catch (error) {
      if ((error as Partial<grpc.ServiceError>).code !== grpc.status.NOT_FOUND) throw error;
    }
  }
  return found;
}

/** Ends what runs of a pod, then all its sandboxes (kuberuntime_manager.go:killPodWithSyncResult). @throws {grpc.ServiceError} */
export async function killPod(
  calls: Calls,
  runningIds: readonly string[],
  sandboxIds: readonly string[],
  gracePeriodSeconds: number,
): Promise<void> {
  await Promise.all(
    runningIds.map((id) => calls.call('StopContainer', { container_id: id, timeout: gracePeriodSeconds })),
  );
  for (const id of sandboxIds) {
    try {
      await calls.call('StopPodSandbox', { pod_sandbox_id: id });
    } catch (error) {
      if ((error as Partial<grpc.ServiceError>).code !== grpc.status.NOT_FOUND) throw error;
    }
  }
}
