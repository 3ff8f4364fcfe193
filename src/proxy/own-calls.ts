/**
 * Holdfast's own small calls to the runtime, in the API version of the call they are made for. Knows what CRI says, and not why it
 * is asked.
 */
import { PodSandboxState } from '../cri/enums.js';
import { messageType } from '../cri/schema.js';
import { GrpcCode } from './grpc-code.js';
import type { Metadata } from './taken-call.js';
import { type Upstream, type UpstreamCallOptions, UpstreamStatusError } from './upstream.js';

/** How a creation or a start was asked for. */
export interface Origin {
  /** `/package.Service/Method`: Holdfast's own calls for it use the same API version. */
  readonly path: string;
  readonly metadata: Metadata;
}

export type CallLimits = Pick<UpstreamCallOptions, 'timeoutMs' | 'signal'>;

/** PodSandbox, as far as it matters here. */
export interface ListedPodSandbox {
  readonly id: string;
  readonly metadata?: PodSandboxMetadata | null;
  readonly state: number;
}

export interface PodSandboxMetadata {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly attempt: number;
}

/** Container, as far as it matters here. `labels`, `annotations` and `image` are those it was asked for with. */
export interface ListedContainer {
  readonly id: string;
  readonly pod_sandbox_id: string;
  readonly metadata?: { readonly name: string; readonly attempt: number } | null;
  readonly image?: { readonly image: string } | null;
  readonly state: number;
  readonly labels: StringMap;
  readonly annotations: StringMap;
}

/** ContainerStatus, as far as it matters here. */
export interface ContainerStatus {
  readonly state: number;
  /** In ns since 1970; 0 where it has not been so. */
  readonly started_at: bigint | number | string;
  readonly finished_at: bigint | number | string;
  readonly exit_code: number;
}

export type StringMap = Readonly<Record<string, string>>;

/** A peer sent what is not the message it should be. */
export class UnreadableError extends Error {
  override readonly name = 'UnreadableError';
  constructor(type: string, cause: unknown) {
    super(`cannot read ${type}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** Bound of a call, in ms: as long as the kubelet gives them by default (`runtimeRequestTimeout`). */
const usualTimeoutMs = 120_000;

/** Every method rejects with the runtime's error, but where it says NOT_FOUND to an id. */
export class OwnCalls {
  readonly #upstream: Upstream;

  constructor(upstream: Upstream) {
    this.#upstream = upstream;
  }

  /** @returns false where there is no such pod sandbox, too. */
  async isReady(podSandboxId: string, origin: Origin, limits?: CallLimits): Promise<boolean> {
    return (await this.podSandboxState(podSandboxId, origin, limits)) === PodSandboxState.ready;
  }

  /** @returns undefined where there is no such pod sandbox. */
  async podSandboxState(id: string, origin: Origin, limits?: CallLimits): Promise<number | undefined> {
    const answer = await this.withId('PodSandboxStatus', id, origin, limits);
    return answer && read<{ status?: { state: number } | null }>('PodSandboxStatusResponse', answer).status?.state;
  }

  /** @returns undefined where there is no such container. */
  async containerStatus(id: string, origin: Origin, limits?: CallLimits): Promise<ContainerStatus | undefined> {
    const answer = await this.withId('ContainerStatus', id, origin, limits);
    return (answer && read<{ status?: ContainerStatus | null }>('ContainerStatusResponse', answer).status) ?? undefined;
  }

  /** @param filter PodSandboxFilter; default: all. */
  async podSandboxes(origin: Origin, filter?: object, limits?: CallLimits): Promise<readonly ListedPodSandbox[]> {
    const request = write('ListPodSandboxRequest', { filter });
    const answer = await this.call('ListPodSandbox', request, origin, limits);
    return read<{ items: ListedPodSandbox[] }>('ListPodSandboxResponse', answer).items;
  }

  /** @param filter ContainerFilter; default: all. */
  async containers(origin: Origin, filter?: object, limits?: CallLimits): Promise<readonly ListedContainer[]> {
    const answer = await this.call('ListContainers', write('ListContainersRequest', { filter }), origin, limits);
    return read<{ containers: ListedContainer[] }>('ListContainersResponse', answer).containers;
  }

  /** A call whose request is an id in field 1. @returns undefined where the runtime does not know the id. */
  async withId(method: string, id: string, origin: Origin, limits?: CallLimits): Promise<Buffer | undefined> {
    try {
      return await this.call(method, write('PodSandboxStatusRequest', { pod_sandbox_id: id }), origin, limits);
    } catch (error) {
      if (error instanceof UpstreamStatusError && error.status.code === GrpcCode.notFound) return undefined;
      throw error;
    }
  }

  async call(method: string, request: Buffer, { path }: Origin, limits?: CallLimits): Promise<Buffer> {
    const options = { timeoutMs: usualTimeoutMs, ...limits };
    return (await this.#upstream.unary(siblingPath(path, method), request, options)).message;
  }
}

/** Another method of the same service, so of the same API version. */
export function siblingPath(path: string, method: string): string {
  return path.slice(0, path.lastIndexOf('/') + 1) + method;
}

/** How CRI calls the method that was asked for. */
export function methodNameOf({ path }: Origin): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** The bytes of a message of CRI. */
export function write(type: string, message: object): Buffer {
  const bytes = messageType(type).encode(message).finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** @throws {UnreadableError} The bytes are not such a message. */
export function read<T>(type: string, bytes: Buffer): T {
  const known = messageType(type);
  try {
    return known.decode(bytes) as unknown as T;
  } catch (error) {
    throw new UnreadableError(type, error);
  }
}
