/** The runtime as the stores see it: makes, looks at and removes pod sandboxes and containers through upstream calls. */

import {
  type Condition,
  type CreationRuntime,
  type Made,
  type NameHolder,
  NameReservedError,
  type Subject,
} from '../cache/creation-runtime.js';
import { type ContainerFingerprint, containerFamily, type Fingerprint } from '../cache/fingerprint.js';
import type { ContainerAttempt, ContainerNow } from '../cache/second-copy-guard.js';
import type { StartIdentity, StartRuntime } from '../cache/start-runtime.js';
import type { Clock } from '../clock.js';
import { ContainerState, PodSandboxState } from '../cri/enums.js';
import { readStringField } from '../cri/requests.js';
import { updateResourcesRequest } from '../cri/update-resources.js';
import { GrpcCode } from './grpc-code.js';
import { NameHolders, podLabels, wasUsed } from './name-holder.js';
import { type CallLimits, type ListedContainer, type Origin, OwnCalls, write } from './own-calls.js';
import { EmptyIdError } from './rescue.js';
import { reservation } from './reserved-name.js';
import { StalledCreations } from './stalled-creation.js';
import type { Metadata } from './taken-call.js';
import type { Turns } from './turns.js';
import { type Upstream, type UpstreamAnswer, UpstreamStatusError } from './upstream.js';

export { type Origin, siblingPath } from './own-calls.js';

/** What the runtime says where it cannot be told whether it did what it was asked: it was away, out of time, or told to stop. */
const unclearCodes: ReadonlySet<number> = new Set([
  GrpcCode.unavailable,
  GrpcCode.deadlineExceeded,
  GrpcCode.cancelled,
]);

export interface CriRuntimeOptions {
  readonly creationTimeoutMs: number;
  /** Keys of annotations that differ between two tries without meaning anything. */
  readonly volatileAnnotations: readonly string[];
  /** Comes before each CreateContainer. Never rejects. */
  beforeContainer(fingerprint: ContainerFingerprint): Promise<void>;
  /** Whether a StartContainer of it is under way: it is CREATED for as long as that takes, and somebody's. */
  isBeingStarted(containerId: string): boolean;
  /** What goes upstream with a creation or a start in place of the metadata it was asked for with. Never throws. */
  metadataOf(origin: Origin): Metadata;
}

export class CriRuntime implements CreationRuntime<Origin, UpstreamAnswer>, StartRuntime<Origin, UpstreamAnswer> {
  readonly #upstream: Upstream;
  readonly #calls: OwnCalls;
  readonly #holders: NameHolders;
  readonly #turns: Turns;
  readonly #options: CriRuntimeOptions;
  readonly #stalled: StalledCreations;

  constructor(upstream: Upstream, clock: Clock, turns: Turns, options: CriRuntimeOptions) {
    this.#stalled = new StalledCreations(upstream, clock, options.creationTimeoutMs);
    this.#upstream = upstream;
    this.#calls = new OwnCalls(upstream);
    this.#holders = new NameHolders(this.#calls, new Set(options.volatileAnnotations));
    this.#turns = turns;
    this.#options = options;
  }

  /**
   * The one upstream call.
   *
   * @throws {NameReservedError} The runtime says that the name is taken.
   * @throws {EmptyIdError} It does not say what it made.
   * @throws {UpstreamStatusError} It says anything else but OK.
   */
  async create(
    bytes: Buffer,
    fingerprint: Fingerprint,
    origin: Origin,
    signal: AbortSignal,
  ): Promise<Made<UpstreamAnswer>> {
    if (fingerprint.kind === 'container') await this.#options.beforeContainer(fingerprint);
    let answer: UpstreamAnswer;
    try {
      answer = await this.#make(this.#stalled, bytes, origin, signal);
    } catch (error) {
      if (!(error instanceof UpstreamStatusError)) throw error;
      const reserved = reservation(error.status);
      if (reserved === undefined) throw error;
      throw new NameReservedError(error, reserved.holderId);
    }
    const id = readStringField(answer.message, 1);
    if (id === '') throw new EmptyIdError(origin.path);
    return { id, answer };
  }

  start(bytes: Buffer, origin: Origin, signal: AbortSignal): Promise<UpstreamAnswer> {
    return this.#make(this.#upstream, bytes, origin, signal);
  }

  isRefusal(error: unknown): boolean {
    return error instanceof UpstreamStatusError && !unclearCodes.has(error.status.code);
  }

  /** @throws {UpstreamStatusError} It cannot be told. */
  conditionOf(subject: Subject<Origin>, signal?: AbortSignal): Promise<Condition> {
    return subject.kind === 'podSandbox'
      ? this.#podSandboxCondition(subject, signal)
      : this.#containerCondition(subject, { signal });
  }

  /**
   * What has the name that a creation wants.
   *
   * @param bytes The request.
   * @param holderId Of the NameReservedError.
   * @throws {UpstreamStatusError} It cannot be told.
   */
  holderOf(
    fingerprint: Fingerprint,
    bytes: Buffer,
    origin: Origin,
    holderId: string | undefined,
    signal?: AbortSignal,
  ): Promise<NameHolder> {
    return this.#holders.find({ fingerprint, bytes, origin, holderId }, { signal });
  }

  /** What the runtime would have answered, had it made this: either response has the id in field 1. */
  answerFor(id: string): Made<UpstreamAnswer> {
    const message = write('CreateContainerResponse', { container_id: id });
    return { id, answer: { message, initialMetadata: [], status: { code: GrpcCode.ok, message: '', trailers: [] } } };
  }

  /**
   * Resolves once the runtime no longer has it; a pod sandbox takes its containers along, as CRI says of RemovePodSandbox and both
   * runtimes do (their sandbox_remove.go).
   */
  async remove({ kind, id, origin }: Subject<Origin>): Promise<void> {
    if (kind === 'container') {
      await this.#calls.withId('RemoveContainer', id, origin);
      return;
    }
    await this.#calls.withId('StopPodSandbox', id, origin);
    await this.#calls.withId('RemovePodSandbox', id, origin);
  }

  /** @throws {UpstreamStatusError} Also where there is no such container. */
  async updateResources({ id, origin }: Subject<Origin>, request: Buffer, signal: AbortSignal): Promise<void> {
    await this.#calls.call('UpdateContainerResources', updateResourcesRequest(id, request), origin, { signal });
  }

  /**
   * @param containerId Or a unique prefix of it.
   * @returns undefined where there is no such container, or it is not a kubelet's: its labels do not say whose it is.
   * @throws {UpstreamStatusError} It cannot be told.
   */
  async identify(containerId: string, origin: Origin, signal: AbortSignal): Promise<StartIdentity | undefined> {
    const listed = await this.#calls.containers(origin, { id: containerId }, { signal });
    const found = listed.find(({ id }) => id.startsWith(containerId));
    const attempt = found && attemptOf(found);
    return attempt && { ...attempt, podSandboxId: found.pod_sandbox_id };
  }

  /** @throws {UpstreamStatusError} It cannot be told. */
  async stateOf(containerId: string, origin: Origin, signal: AbortSignal): Promise<ContainerNow> {
    const container = await this.#calls.containerStatus(containerId, origin, { signal });
    if (container === undefined) return { state: 'gone' };
    const state = nameOfState(container.state);
    if (state !== 'exited') return { state };
    const [startedNs, finishedNs] = [Number(container.started_at), Number(container.finished_at)];
    // containerd leaves `started_at` out where the start failed, and says EXITED (its container_start.go).
    if (startedNs === 0) return { state, exitCode: container.exit_code, neverRan: true };
    return { state, exitCode: container.exit_code, ranMs: (finishedNs - startedNs) / 1e6 };
  }

  /** @throws {UpstreamStatusError} It cannot be told. */
  async isInhabited({ kind, id, origin }: Subject<Origin>, signal?: AbortSignal): Promise<boolean> {
    if (kind !== 'podSandbox') return false;
    const inside = await this.#calls.containers(origin, { pod_sandbox_id: id }, { signal });
    return inside.some((each) => wasUsed(each) || this.#options.isBeingStarted(each.id));
  }

  async #podSandboxCondition(subject: Subject<Origin>, signal: AbortSignal | undefined): Promise<Condition> {
    const state = await this.#calls.podSandboxState(subject.id, subject.origin, { signal });
    if (state === undefined) return 'absent';
    if (state === PodSandboxState.ready) return 'as made';
    return (await this.isInhabited(subject, signal)) ? 'in use' : 'unusable';
  }

  async #containerCondition(
    { id, podSandboxId, origin }: Omit<Subject<Origin>, 'kind'>,
    limits: CallLimits,
  ): Promise<Condition> {
    const [container, isReady] = await Promise.all([
      this.#calls.containerStatus(id, origin, limits),
      this.#calls.isReady(podSandboxId, origin, limits),
    ]);
    if (container === undefined) return 'absent';
    if (wasUsed(container) || this.#options.isBeingStarted(id)) return 'in use';
    return isReady ? 'as made' : 'unusable';
  }

  /** The downstream's own bytes and metadata (but for the trace), without its deadline or its cancel. */
  async #make(
    upstream: Pick<Upstream, 'unary'>,
    bytes: Buffer,
    origin: Origin,
    signal: AbortSignal,
  ): Promise<UpstreamAnswer> {
    try {
      const timeoutMs = this.#options.creationTimeoutMs;
      const metadata = this.#options.metadataOf(origin);
      return await upstream.unary(origin.path, bytes, { metadata, timeoutMs, signal, lane: 'work' });
    } finally {
      await this.#turns.next();
    }
  }
}

function attemptOf({ labels, metadata }: ListedContainer): ContainerAttempt | undefined {
  const namespace = labels[podLabels.namespace];
  const name = labels[podLabels.name];
  const uid = labels[podLabels.uid];
  if (namespace === undefined || name === undefined || uid === undefined || metadata == null) return undefined;
  return { family: containerFamily({ namespace, name, uid, container: metadata.name }), attempt: metadata.attempt };
}

function nameOfState(state: number): Exclude<ContainerNow['state'], 'gone'> {
  if (state === ContainerState.created) return 'created';
  if (state === ContainerState.running) return 'running';
  return state === ContainerState.exited ? 'exited' : 'unknown';
}
