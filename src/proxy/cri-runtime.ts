/** The runtime as the stores see it: makes, looks at and removes pod sandboxes and containers through upstream calls. */
import type { Creation, Made } from '../cache/creation.js';
import type { CreationRuntime } from '../cache/creation-store.js';
import { containerFamily, type Fingerprint } from '../cache/fingerprint.js';
import type { StartIdentity, StartRuntime } from '../cache/start-store.js';
import { readStringField } from '../cri/requests.js';
import { messageType } from '../cri/schema.js';
import { GrpcCode } from './grpc-code.js';
import { EmptyIdError } from './rescue.js';
import type { Metadata } from './taken-call.js';
import type { Turns } from './turns.js';
import { type Upstream, type UpstreamAnswer, UpstreamStatusError } from './upstream.js';

/** How a creation or a start was asked for. */
export interface Origin {
  /** `/package.Service/Method`: Holdfast's own calls for it use the same API version. */
  readonly path: string;
  readonly metadata: Metadata;
}

/** Bound of Holdfast's own small calls, in ms: as long as the kubelet gives them by default (`runtimeRequestTimeout`). */
const ownCallTimeoutMs = 120_000;
/** Bound for finding out whose container is started, in ms: creations may wait for the answer. */
const identifyTimeoutMs = 10_000;

const podSandboxStatusRequest = messageType('PodSandboxStatusRequest');
const podSandboxStatusResponse = messageType('PodSandboxStatusResponse');
const containerStatusResponse = messageType('ContainerStatusResponse');
const states = { podSandboxReady: 0, containerCreated: 0, containerRunning: 1 } as const;

interface ContainerStatus {
  readonly state: number;
  readonly metadata?: { readonly name: string; readonly attempt: number } | null;
  readonly labels: Readonly<Record<string, string>>;
}

export class CriRuntime implements CreationRuntime<Origin, UpstreamAnswer>, StartRuntime<Origin, UpstreamAnswer> {
  readonly #upstream: Upstream;
  readonly #turns: Turns;
  readonly #creationTimeoutMs: number;
  /** See {@link CreationRuntime.beforeCreate}. */
  readonly beforeCreate: (fingerprint: Fingerprint) => Promise<void>;

  constructor(
    upstream: Upstream,
    turns: Turns,
    creationTimeoutMs: number,
    beforeCreate: (fingerprint: Fingerprint) => Promise<void>,
  ) {
    this.#upstream = upstream;
    this.#turns = turns;
    this.#creationTimeoutMs = creationTimeoutMs;
    this.beforeCreate = beforeCreate;
  }

  async create(
    bytes: Buffer,
    _fingerprint: Fingerprint,
    origin: Origin,
    signal: AbortSignal,
  ): Promise<Made<UpstreamAnswer>> {
    const answer = await this.#make(bytes, origin, signal);
    const id = readStringField(answer.message, 1);
    if (id === '') throw new EmptyIdError(origin.path);
    return { id, answer };
  }

  start(bytes: Buffer, origin: Origin, signal: AbortSignal): Promise<UpstreamAnswer> {
    return this.#make(bytes, origin, signal);
  }

  async isAsMade(creation: Creation<Origin, UpstreamAnswer>, signal: AbortSignal): Promise<boolean> {
    const { made, origin, podSandboxId } = creation;
    if (made === undefined) return false;
    if (creation.kind === 'podSandbox') return this.#isReady(made.id, origin, signal);
    const [container, ready] = await Promise.all([
      this.#containerStatus(made.id, origin, signal),
      this.#isReady(podSandboxId, origin, signal),
    ]);
    return container?.state === states.containerCreated && ready;
  }

  async remove(creation: Creation<Origin, UpstreamAnswer>): Promise<void> {
    const { made, origin } = creation;
    if (made === undefined) return;
    if (creation.kind === 'container') {
      await this.#own(origin, 'RemoveContainer', made.id);
      return;
    }
    await this.#own(origin, 'StopPodSandbox', made.id);
    await this.#own(origin, 'RemovePodSandbox', made.id);
  }

  async identify(containerId: string, origin: Origin): Promise<StartIdentity | undefined> {
    try {
      const container = await this.#containerStatus(containerId, origin, AbortSignal.timeout(identifyTimeoutMs));
      if (container?.metadata == null) return undefined;
      const { labels, metadata } = container;
      const namespace = labels['io.kubernetes.pod.namespace'];
      const name = labels['io.kubernetes.pod.name'];
      const uid = labels['io.kubernetes.pod.uid'];
      if (namespace === undefined || name === undefined || uid === undefined) return undefined;
      const family = containerFamily({ namespace, name, uid, container: metadata.name });
      return { family, attempt: metadata.attempt };
    } catch {
      return undefined;
    }
  }

  async stateOf(containerId: string, origin: Origin): Promise<'created' | 'running' | 'exited' | 'gone'> {
    const container = await this.#containerStatus(containerId, origin);
    if (container === undefined) return 'gone';
    if (container.state === states.containerCreated) return 'created';
    return container.state === states.containerRunning ? 'running' : 'exited';
  }

  /** The downstream's own bytes and metadata, without its deadline or its cancel. */
  async #make(bytes: Buffer, { path, metadata }: Origin, signal: AbortSignal): Promise<UpstreamAnswer> {
    try {
      const timeoutMs = this.#creationTimeoutMs;
      return await this.#upstream.unary(path, bytes, { metadata, timeoutMs, signal, lane: 'work' });
    } finally {
      await this.#turns.next();
    }
  }

  async #isReady(podSandboxId: string, origin: Origin, signal: AbortSignal): Promise<boolean> {
    const answer = await this.#own(origin, 'PodSandboxStatus', podSandboxId, signal);
    if (answer === undefined) return false;
    const { status: found } = decode<{ status?: { state: number } | null }>(podSandboxStatusResponse, answer);
    return found?.state === states.podSandboxReady;
  }

  async #containerStatus(id: string, origin: Origin, signal?: AbortSignal): Promise<ContainerStatus | undefined> {
    const answer = await this.#own(origin, 'ContainerStatus', id, signal);
    if (answer === undefined) return undefined;
    return decode<{ status?: ContainerStatus | null }>(containerStatusResponse, answer).status ?? undefined;
  }

  /** A call whose request is an id in field 1. @returns undefined where the runtime does not know the id. */
  async #own(origin: Origin, method: string, id: string, signal?: AbortSignal): Promise<Buffer | undefined> {
    const path = siblingPath(origin.path, method);
    const options = { timeoutMs: ownCallTimeoutMs, ...(signal && { signal }) };
    try {
      return (await this.#upstream.unary(path, idRequest(id), options)).message;
    } catch (error) {
      if (error instanceof UpstreamStatusError && error.status.code === GrpcCode.notFound) return undefined;
      throw error;
    }
  }
}

/** Another method of the same service, so of the same API version. */
export function siblingPath(path: string, method: string): string {
  return path.slice(0, path.lastIndexOf('/') + 1) + method;
}

/** Any request that names a resource in its field 1. */
function idRequest(id: string): Buffer {
  return Buffer.from(podSandboxStatusRequest.encode({ pod_sandbox_id: id }).finish());
}

function decode<T>(type: ReturnType<typeof messageType>, bytes: Buffer): T {
  return type.decode(bytes) as unknown as T;
}
