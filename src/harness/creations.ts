/**
 * RunPodSandbox, CreateContainer and StartContainer as containerd 1.6 and as CRI-O carry them out, down to what becomes of work
 * whose caller has left. Knows no transport.
 *
 * Source: containerd 1.6 pkg/cri/server/{sandbox_run,container_create,container_start}.go and pkg/registrar; CRI-O
 * server/{sandbox_run_linux,container_create,utils}.go and internal/resourcestore.
 */
import { appendFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { untilAborted } from './gates.js';
import {
  type ContainerMetadata,
  type CreateContainerRequest,
  decode,
  encode,
  type PodSandboxConfig,
  type PodSandboxMetadata,
  type RunPodSandboxRequest,
} from './messages.js';
import {
  type Container,
  markExited,
  type NodeState,
  newId,
  type Sandbox,
  timestamp,
  UnknownIdError,
} from './node-state.js';
import type { RawCall, RawReply } from './raw-grpc-server.js';
import { labour, type Made, type Making, pass, StatusError, type Timing } from './work.js';

export interface CreationRules {
  readonly profile: 'containerd' | 'crio';
  /** Whether CreateContainer makes the log file right at its start, as CRI-O's conmon does; containerd makes it at the start. */
  readonly earlyLogFile: boolean;
  /** What becomes of a start whose caller has left. */
  readonly lateStart: 'undone' | 'completes';
  /** CRI-O: how long a result that nobody came for is kept, in ms. */
  readonly unclaimedMs: number;
}

/** CRI-O lets a retry without a deadline wait this long for the creation it repeats (server/utils.go:getResourceOrWait). */
const crioStallMs = 4 * 60_000;

type CreationStep = 'runPodSandbox' | 'createContainer';

interface Plan {
  readonly step: CreationStep;
  readonly kind: 'sandbox' | 'container';
  readonly making: Making;
  readonly begin?: () => void;
  /** Undoes `begin`. */
  readonly undo?: () => void;
  /** Adds the result to the node; hidden: into CRI-O's resource store. */
  readonly finish: (hidden: boolean) => void;
  readonly show: () => void;
  readonly remove: () => void;
  readonly answer: (id: string) => Buffer;
}

export class Creations {
  readonly made: Made = { sandboxes: [], containers: [], starts: [] };
  readonly #node: NodeState;
  readonly #timing: Timing;
  readonly #rules: CreationRules;
  readonly #names = new Map<string, string>();
  /** CRI-O's resource store: ids of results kept for a retry, with what ends their wait. */
  readonly #unclaimed = new Map<string, { cancelReaping: () => void; drop: () => void; show: () => void }>();

  constructor(node: NodeState, timing: Timing, rules: CreationRules) {
    this.#node = node;
    this.#timing = timing;
    this.#rules = rules;
  }

  /** Names that are taken: by something there, by work under way, or by a rollback. */
  get reservedNames(): readonly string[] {
    return [...this.#names.keys()];
  }

  /** Harmless once something else has the name. */
  releaseName({ name, id }: { readonly name: string; readonly id: string }): void {
    if (this.#names.get(name) === id) this.#names.delete(name);
  }

  /** CRI-O keeps its resource store in memory only. */
  forgetUnclaimed(): void {
    for (const [id, { cancelReaping, drop }] of this.#unclaimed) {
      cancelReaping();
      drop();
      this.#unclaimed.delete(id);
    }
  }

  runPodSandbox(call: RawCall, killed: AbortSignal): Promise<RawReply> {
    const request = decode<RunPodSandboxRequest>('RunPodSandboxRequest', call.request);
    const { config } = request;
    if (config?.metadata == null) throw new StatusError(status.UNKNOWN, 'sandbox config must include metadata');
    const { metadata } = config;
    const making = this.#making(
      call,
      newId(),
      sandboxName(metadata, this.#rules.profile),
      metadata.uid,
      metadata.attempt,
    );
    const { id, name } = making;
    return this.#create(call, killed, this.made.sandboxes, {
      step: 'runPodSandbox',
      kind: 'sandbox',
      making,
      finish: (hidden) => {
        this.#node.sandboxes.set(id, {
          id,
          name,
          metadata,
          config,
          runtimeHandler: request.runtime_handler,
          createdAt: timestamp(),
          ip: this.#node.newIp(),
          state: 'SANDBOX_READY',
          hidden,
        });
      },
      show: () => {
        const sandbox = this.#node.sandboxes.get(id);
        if (sandbox === undefined) return;
        sandbox.hidden = false;
        this.#node.emit(id, 'CONTAINER_CREATED_EVENT', sandbox);
        this.#node.emit(id, 'CONTAINER_STARTED_EVENT', sandbox);
      },
      remove: () => this.#node.sandboxes.delete(id),
      answer: (made) => encode('RunPodSandboxResponse', { pod_sandbox_id: made }),
    });
  }

  createContainer(call: RawCall, killed: AbortSignal): Promise<RawReply> {
    const request = decode<CreateContainerRequest>('CreateContainerRequest', call.request);
    const sandbox = this.#sandboxForContainer(request.pod_sandbox_id);
    const { config, sandbox_config: podConfig } = request;
    if (config?.metadata == null) throw new StatusError(status.UNKNOWN, 'container config must include metadata');
    if (podConfig?.metadata == null) throw new StatusError(status.UNKNOWN, 'sandbox config must include metadata');
    const { metadata } = config;
    const podUid = podConfig.metadata.uid;
    const name = containerName(metadata, podConfig.metadata, this.#rules.profile);
    const making = this.#making(call, newId(), name, podUid, metadata.attempt);
    const { id } = making;
    const logFile = logFileOf(podConfig, config.log_path);
    return this.#create(call, killed, this.made.containers, {
      step: 'createContainer',
      kind: 'container',
      making,
      begin: () => {
        if (this.#rules.earlyLogFile) openLog(logFile);
      },
      undo: () => {
        if (this.#rules.earlyLogFile && logFile !== undefined) rmSync(logFile, { force: true });
      },
      finish: (hidden) => {
        if (!this.#node.sandboxes.has(sandbox.id)) throw noSandbox(sandbox.id);
        this.#node.containers.set(id, {
          id,
          name,
          podUid,
          sandboxId: sandbox.id,
          metadata,
          config,
          logFile,
          createdAt: timestamp(),
          state: 'CONTAINER_CREATED',
          starting: false,
          startedAt: '0',
          finishedAt: '0',
          exitCode: 0,
          reason: '',
          message: '',
          hidden,
        });
      },
      show: () => {
        const container = this.#node.containers.get(id);
        if (container === undefined) return;
        container.hidden = false;
        this.#node.emit(id, 'CONTAINER_CREATED_EVENT', this.#node.sandboxes.get(container.sandboxId));
      },
      remove: () => this.#node.containers.delete(id),
      answer: (made) => encode('CreateContainerResponse', { container_id: made }),
    });
  }

  /**
   * containerd runs a start under its caller's context: when the caller leaves, the task is deleted and the container ends EXITED
   * with code 128, reason StartError; until that is done it is shown CREATED. `lateStart: 'completes'` is the race it can lose
   * (kubernetes#139670), and what CRI-O does, whose runtime is not told of the caller. A start cut short by the end of the runtime
   * leaves the container CREATED (restart.go).
   */
  async startContainer(call: RawCall, killed: AbortSignal): Promise<RawReply> {
    const { container_id: asked } = decode<{ container_id: string }>('StartContainerRequest', call.request);
    const container = findOr(status.NOT_FOUND, `an error occurred when try to find container "${asked}"`, () =>
      this.#node.container(asked),
    );
    const refuse = (why: string): StatusError =>
      new StatusError(status.UNKNOWN, `failed to set starting state for container "${container.id}": ${why}`);
    if (container.state !== 'CONTAINER_CREATED') throw refuse(`container is in ${container.state} state`);
    if (container.starting) throw refuse('container is already in starting state');
    container.starting = true;
    const making = this.#making(call, container.id, container.name, container.podUid, container.metadata.attempt);
    this.made.starts.push(making);
    const injected = this.#timing.gates.takeAnswer('startContainer');
    const giveUp = this.#rules.lateStart === 'completes' ? killed : AbortSignal.any([call.signal, killed]);
    try {
      this.#checkSandboxRuns(container);
      openLog(container.logFile);
      await labour(this.#timing, 'startContainer', making, call, injected, giveUp);
      this.#checkSandboxRuns(container);
      this.#node.run(container);
      making.outcome = 'finished';
    } catch (error) {
      await pass(this.#timing, 'rollback', container.name, killed);
      making.outcome = 'rolled back';
      if (!killed.aborted) markExited(container, 128, 'StartError', String(error));
      throw error;
    } finally {
      container.starting = false;
    }
    return this.#reply(call, killed, 'startContainer', making, Buffer.alloc(0), injected);
  }

  async #create(call: RawCall, killed: AbortSignal, records: Making[], plan: Plan): Promise<RawReply> {
    const { step, making } = plan;
    const holder = this.#names.get(making.name);
    if (holder !== undefined) return this.#repeat(call, killed, plan, holder);
    this.#names.set(making.name, making.id);
    records.push(making);
    const injected = this.#timing.gates.takeAnswer(step);
    const patient = this.#rules.profile === 'crio';
    try {
      plan.begin?.();
      await labour(
        this.#timing,
        step,
        making,
        call,
        injected,
        patient ? killed : AbortSignal.any([call.signal, killed]),
      );
      const unclaimed = patient && making.callerLeft;
      plan.finish(unclaimed);
      making.outcome = 'finished';
      if (unclaimed) this.#keep(plan);
      else plan.show();
    } catch (error) {
      await pass(this.#timing, 'rollback', making.name, killed);
      plan.undo?.();
      making.outcome = 'rolled back';
      this.releaseName(making);
      throw error;
    }
    return this.#reply(call, killed, step, making, plan.answer(making.id), injected);
  }

  async #reply(
    call: RawCall,
    killed: AbortSignal,
    step: string,
    making: Making,
    message: Buffer,
    injected: { headers?: RawReply['trailers']; trailers?: RawReply['trailers'] } | undefined,
  ): Promise<RawReply> {
    await pass(this.#timing, `${step}Answer`, making.name, killed);
    if (injected?.headers !== undefined) call.sendHeaders(injected.headers);
    return { code: status.OK, message, ...(injected?.trailers === undefined ? {} : { trailers: injected.trailers }) };
  }

  /** A request whose name is taken. */
  async #repeat(call: RawCall, killed: AbortSignal, plan: Plan, holder: string): Promise<RawReply> {
    const { kind, making, answer } = plan;
    if (this.#rules.profile === 'containerd') {
      throw new StatusError(
        status.UNKNOWN,
        `failed to reserve ${kind} name "${making.name}": name "${making.name}" is reserved for "${holder}"`,
      );
    }
    if (this.#node.sandboxes.has(holder) || this.#node.containers.has(holder)) {
      this.#claim(holder);
      return { code: status.OK, message: answer(holder) };
    }
    await this.#stall(AbortSignal.any([call.signal, killed]));
    throw new StatusError(
      status.DEADLINE_EXCEEDED,
      'kubelet may be retrying requests that are timing out in CRI-O due to system load. Currently at stage unknown: ' +
        `context deadline exceeded: name is reserved`,
    );
  }

  async #stall(until: AbortSignal): Promise<void> {
    let cancel = (): void => undefined;
    const tooLong = new Promise<void>((resolve) => {
      cancel = this.#timing.clock.after(crioStallMs, resolve);
    });
    await untilAborted(tooLong, until);
    cancel();
  }

  #keep(plan: Plan): void {
    const { id } = plan.making;
    const drop = (): void => {
      plan.remove();
      this.releaseName(plan.making);
    };
    const cancelReaping = this.#timing.clock.after(this.#rules.unclaimedMs, () => {
      this.#unclaimed.delete(id);
      drop();
    });
    this.#unclaimed.set(id, { cancelReaping, drop, show: plan.show });
  }

  #claim(id: string): void {
    const unclaimed = this.#unclaimed.get(id);
    this.#unclaimed.delete(id);
    unclaimed?.cancelReaping();
    unclaimed?.show();
  }

  #making(call: RawCall, id: string, name: string, podUid: string, attempt: number): Making {
    const { request, metadata } = call;
    return { id, name, podUid, attempt, request, metadata, outcome: 'under way', callerLeft: false };
  }

  /** containerd 1.6 asks for the sandbox's task, so one that was stopped counts as not found. */
  #sandboxForContainer(id: string): Sandbox {
    const sandbox = findOr(status.NOT_FOUND, `failed to find sandbox id "${id}"`, () => this.#node.sandbox(id));
    if (sandbox.state !== 'SANDBOX_READY') {
      throw new StatusError(
        status.NOT_FOUND,
        `failed to get sandbox container task: no running task found: task ${sandbox.id} not found: not found`,
      );
    }
    return sandbox;
  }

  #checkSandboxRuns(container: Container): void {
    if (this.#node.sandboxes.get(container.sandboxId)?.state === 'SANDBOX_READY') return;
    throw new StatusError(status.UNKNOWN, `sandbox container "${container.sandboxId}" is not running`);
  }
}

/** containerd: pkg/cri/server/helpers.go:makeSandboxName; CRI-O: internal/lib/sandbox/builder.go:GenerateNameAndID. */
function sandboxName({ name, namespace, uid, attempt }: PodSandboxMetadata, profile: string): string {
  return `${profile === 'crio' ? 'k8s_' : ''}${name}_${namespace}_${uid}_${attempt}`;
}

function containerName(container: ContainerMetadata, pod: PodSandboxMetadata, profile: string): string {
  const prefix = profile === 'crio' ? 'k8s_' : '';
  return `${prefix}${container.name}_${pod.name}_${pod.namespace}_${pod.uid}_${container.attempt}`;
}

function logFileOf(pod: PodSandboxConfig, logPath: string): string | undefined {
  return pod.log_directory === '' || logPath === '' ? undefined : path.join(pod.log_directory, logPath);
}

/** The kubelet makes the directory, so where there is none no log is wanted. */
function openLog(file: string | undefined): void {
  if (file === undefined) return;
  try {
    appendFileSync(file, '');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function noSandbox(id: string): StatusError {
  return new StatusError(status.NOT_FOUND, `failed to find sandbox id "${id}": not found`);
}

/** @throws {StatusError} With `code` where there is none, UNKNOWN where there are several. */
export function findOr<T>(code: number, text: string, find: () => T): T {
  try {
    return find();
  } catch (error) {
    if (!(error instanceof UnknownIdError)) throw error;
    throw new StatusError(error.found === 0 ? code : status.UNKNOWN, `${text}: ${error.message}`);
  }
}
