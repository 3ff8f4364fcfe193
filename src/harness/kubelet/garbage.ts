/**
 * What is left on the node beside the workers: housekeeping stops what runs of deleted pods, garbage collection removes what is
 * dead. Unlike a kubelet, which takes the whole node for its own, it touches nothing but its own pods.
 *
 * Source: kubernetes 1.26 pkg/kubelet/kubelet_pods.go:HandlePodCleanups, kuberuntime/kuberuntime_gc.go.
 */
import { rmSync } from 'node:fs';
import type { ContainerState, PodSandboxState, StringMap } from '../runtime/messages.js';
import type { Calls } from './calls.js';
import type { Pod } from './pod.js';
import { killPod, newestFirst, podUidLabel } from './pod-status.js';
import { removeContainer } from './remove-container.js';

interface Sandbox {
  readonly id: string;
  readonly state: PodSandboxState;
  readonly created_at: string;
  readonly labels: StringMap;
}

interface Container {
  readonly id: string;
  readonly pod_sandbox_id: string;
  readonly metadata: { readonly name: string };
  readonly state: ContainerState;
  readonly created_at: string;
  readonly labels: StringMap;
  readonly annotations: StringMap;
}

/** Of an orphan (kubelet_pods.go:HandlePodCleanups). */
const orphanGraceSeconds = 1;

export class Garbage {
  readonly #calls: Calls;
  readonly #podsByUid: ReadonlyMap<string, Pod>;
  readonly #hasWorker: (pod: Pod) => boolean;

  /** @param podsByUid Those that are its own. */
  constructor(calls: Calls, podsByUid: ReadonlyMap<string, Pod>, hasWorker: (pod: Pod) => boolean) {
    this.#calls = calls;
    this.#podsByUid = podsByUid;
    this.#hasWorker = hasWorker;
  }

  /** Stops what runs of pods without a worker. @throws {grpc.ServiceError} A call failed. */
  async housekeep(): Promise<void> {
    const { sandboxes, containers } = await this.#lists('SANDBOX_READY', 'CONTAINER_RUNNING');
    const orphans = [...grouped(sandboxes, podUid), ...grouped(containers, podUid)].map(([uid]) => uid);
    await Promise.all(
      [...new Set(orphans)].map(async (uid) => {
        const pod = this.#podsByUid.get(uid);
        if (pod === undefined || this.#hasWorker(pod)) return;
        const ids = (items: readonly (Sandbox | Container)[]) =>
          items.filter((item) => podUid(item) === uid).map(({ id }) => id);
        await killPod(this.#calls, ids(containers), ids(sandboxes), orphanGraceSeconds);
      }),
    );
  }

  /**
   * Removes what is dead, and the logs of what is gone; what cannot be removed stays for the next time.
   *
   * @returns How much of its pods there was before, dead or alive.
   * @throws {grpc.ServiceError} A list failed.
   */
  async collect(): Promise<number> {
    const before = await this.#lists();
    for (const containers of grouped(before.containers, ({ labels, metadata }) =>
      JSON.stringify([labels[podUidLabel], metadata.name]),
    ).values()) {
      const dead = containers.filter(({ state }) => state !== 'CONTAINER_RUNNING').sort(newestFirst);
      for (const container of dead.slice(this.#kept(dead[0]))) {
        const pod = this.#podsByUid.get(podUid(container));
        await removeContainer(this.#calls, pod, container).catch(() => undefined);
      }
    }
    const { sandboxes, containers } = await this.#lists();
    const inUse = new Set(containers.map(({ pod_sandbox_id }) => pod_sandbox_id));
    for (const ofPod of grouped(sandboxes, podUid).values()) {
      for (const { id, state } of ofPod.sort(newestFirst).slice(this.#kept(ofPod[0]))) {
        if (state === 'SANDBOX_READY' || inUse.has(id)) continue;
        await this.#try('StopPodSandbox', { pod_sandbox_id: id });
        await this.#try('RemovePodSandbox', { pod_sandbox_id: id });
      }
    }
    for (const pod of this.#podsByUid.values()) {
      if (this.#isGone(pod)) rmSync(pod.logDirectory, { recursive: true, force: true });
    }
    return before.sandboxes.length + before.containers.length;
  }

  /** How many of the newest stay. */
  #kept(item: Sandbox | Container | undefined): 0 | 1 {
    const pod = item === undefined ? undefined : this.#podsByUid.get(podUid(item));
    return pod !== undefined && this.#isGone(pod) ? 0 : 1;
  }

  #isGone(pod: Pod): boolean {
    return pod.isDeleted && !this.#hasWorker(pod);
  }

  async #try(method: string, request: object): Promise<void> {
    try {
      await this.#calls.call(method, request);
    } catch {}
  }

  /** Of its own pods: all, or those in a state. */
  async #lists(sandboxState?: PodSandboxState, containerState?: ContainerState) {
    const filter = (state: string | undefined) => (state === undefined ? {} : { filter: { state: { state } } });
    const { items } = await this.#calls.call<{ items: Sandbox[] }>('ListPodSandbox', filter(sandboxState));
    const { containers } = await this.#calls.call<{ containers: Container[] }>(
      'ListContainers',
      filter(containerState),
    );
    const isOurs = (item: Sandbox | Container) => this.#podsByUid.get(podUid(item)) !== undefined;
    return { sandboxes: items.filter(isOurs), containers: containers.filter(isOurs) };
  }
}

function podUid({ labels }: { readonly labels: StringMap }): string {
  return labels[podUidLabel] ?? '';
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return groups;
}
