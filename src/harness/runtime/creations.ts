/**
 * RunPodSandbox and CreateContainer as containerd 1.6 and as CRI-O carry them out, down to what becomes of work whose caller has
 * left (profiles.ts). Knows no transport.
 *
 * Source: containerd 1.6 pkg/cri/server/{sandbox_run,container_create}.go and pkg/registrar; CRI-O
 * server/{sandbox_run_linux,container_create,utils}.go and internal/resourcestore.
 */
import { rmSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import { sleep } from '../sleep.js';
import { findOr } from './find.js';
import { logFileOf, openLog } from './log-file.js';
import { type CreateContainerRequest, decode, encode, type RunPodSandboxRequest } from './messages.js';
import type { NodeState, Sandbox } from './node-state.js';
import { type CreationKind, containerName, type Profile, refusal, sandboxName } from './profiles.js';
import type { RawCall, RawReply } from './raw-grpc-server.js';
import { ResourceStore } from './resource-store.js';
import { newId, timestamp } from './stamps.js';
import { end, labour, type Making, newMaking, pass, reply, StatusError, type Timing } from './work.js';

export interface CreationRules {
  readonly profile: Profile;
  /** Whether CreateContainer makes the log file right at its start, as CRI-O's conmon does; containerd makes it at the start. */
  readonly earlyLogFile: boolean;
}

/** CRI-O lets a retry without a deadline wait this long for the creation it repeats (server/utils.go:getResourceOrWait). */
const crioStallMs = 4 * 60_000;

const steps = { podSandbox: 'runPodSandbox', container: 'createContainer' } as const;

interface Plan {
  readonly kind: CreationKind;
  readonly making: Making;
  /** Whether it is given up when its caller leaves. */
  readonly cancelled: boolean;
  readonly begin?: () => void;
  /** Undoes `begin`. */
  readonly undo?: () => void;
  /** Adds the result to the node; hidden: into CRI-O's resource store. */
  readonly finish: (hidden: boolean) => void;
  /** What a runtime that was killed meanwhile finds when it starts again; default: nothing, and the name is free. */
  readonly leave?: () => void;
  readonly show: () => void;
  readonly remove: () => void;
  readonly answer: (id: string) => Buffer;
}

export class Creations {
  /** Oldest first. */
  readonly made: { readonly sandboxes: Making[]; readonly containers: Making[] } = { sandboxes: [], containers: [] };
  readonly #node: NodeState;
  readonly #timing: Timing;
  readonly #rules: CreationRules;
  readonly #names = new Map<string, string>();
  readonly #store: ResourceStore;

  constructor(node: NodeState, timing: Timing, rules: CreationRules) {
    this.#node = node;
    this.#timing = timing;
    this.#rules = rules;
    this.#store = new ResourceStore(timing.clock);
  }

  /** Names that are taken: by something there, by work under way, or by a rollback. */
  get reservedNames(): readonly string[] {
    return [...this.#names.keys()];
  }

  /** Harmless once something else has the name. */
  releaseName({ name, id }: { readonly name: string; readonly id: string }): void {
    if (this.#names.get(name) === id) this.#names.delete(name);
  }

  /** What of the runtime's memory is lost with its process. */
  forgetUnclaimed(): void {
    this.#store.removeAll();
  }

  runPodSandbox(call: RawCall, killed: AbortSignal): Promise<RawReply> {
    const request = decode<RunPodSandboxRequest>('RunPodSandboxRequest', call.request);
    const { config } = request;
    if (config?.metadata == null) throw new StatusError(status.UNKNOWN, 'sandbox config must include metadata');
    const { metadata } = config;
    const { profile } = this.#rules;
    const name = sandboxName(profile, metadata);
    const id = newId();
    const identity = { id, name, podUid: metadata.uid, attempt: metadata.attempt };
    const making = newMaking('podSandbox', call, identity, this.#timing.clock);
    const add = (state: Sandbox['state'], hidden: boolean): void => {
      this.#node.sandboxes.set(id, {
        id,
        name,
        metadata,
        config,
        runtimeHandler: request.runtime_handler,
        createdAt: timestamp(),
        ip: this.#node.newIp(),
        state,
        hidden,
      });
    };
    return this.#create(call, killed, this.made.sandboxes, {
      kind: 'podSandbox',
      making,
      cancelled: profile === 'containerd',
      finish: (hidden) => add('SANDBOX_READY', hidden),
      ...(profile === 'containerd' ? { leave: () => add('SANDBOX_NOTREADY', false) } : {}),
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
    const name = containerName(this.#rules.profile, metadata, podConfig.metadata);
    const id = newId();
    const making = newMaking('container', call, { id, name, podUid, attempt: metadata.attempt }, this.#timing.clock);
    const logFile = logFileOf(podConfig, config.log_path);
    return this.#create(call, killed, this.made.containers, {
      kind: 'container',
      making,
      // containerd never looks at its caller again once the container's sandbox was found.
      cancelled: false,
      begin: () => {
        if (this.#rules.earlyLogFile) openLog(logFile);
      },
      undo: () => {
        if (this.#rules.earlyLogFile && logFile !== undefined) rmSync(logFile, { force: true });
      },
      finish: (hidden) => {
        if (this.#rules.profile !== 'containerd' && !this.#node.sandboxes.has(sandbox.id)) throw noSandbox(sandbox.id);
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
          startCutShort: false,
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

  async #create(call: RawCall, killed: AbortSignal, records: Making[], plan: Plan): Promise<RawReply> {
    const { kind, making } = plan;
    const { profile } = this.#rules;
    const { clock } = this.#timing;
    const step = steps[kind];
    const holder = this.#names.get(making.name);
    if (holder !== undefined) return this.#repeat(call, killed, plan, holder);
    this.#names.set(making.name, making.id);
    records.push(making);
    const injected = this.#timing.injected(step, making.name);
    try {
      plan.begin?.();
      const giveUp = plan.cancelled ? AbortSignal.any([call.signal, killed]) : killed;
      await labour(this.#timing, step, making, call, injected, giveUp);
      const late = profile !== 'containerd' && making.callerLeft;
      if (late && profile === 'crio-remove') throw new StatusError(status.CANCELLED, 'context canceled');
      plan.finish(late);
      end(making, 'finished', clock);
      if (late) this.#keep(plan);
      else plan.show();
    } catch (error) {
      await pass(this.#timing, 'rollback', making.name, killed);
      end(making, killed.aborted ? 'cut short' : 'rolled back', clock);
      if (killed.aborted && plan.leave !== undefined) plan.leave();
      else {
        plan.undo?.();
        this.releaseName(making);
      }
      throw error;
    }
    return reply(this.#timing, step, making, call, injected, plan.answer(making.id), killed);
  }

  /** A request whose name is taken. */
  async #repeat(call: RawCall, killed: AbortSignal, plan: Plan, holder: string): Promise<RawReply> {
    const { kind, making, answer } = plan;
    const { profile } = this.#rules;
    if (profile !== 'crio-store') throw refusal(profile, kind, making.name, { holder, refused: making.id });
    if (this.#node.sandboxes.has(holder) || this.#node.containers.has(holder)) {
      this.#store.claim(holder);
      return { code: status.OK, message: answer(holder) };
    }
    const over = AbortSignal.any([call.signal, killed]);
    await sleep(this.#timing.clock, crioStallMs, over);
    throw stalled(making.name, over.aborted);
  }

  #keep({ making, show, remove }: Plan): void {
    this.#store.keep(making.id, {
      show,
      remove: () => {
        remove();
        this.releaseName(making);
      },
    });
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
}

/** What a retry of a creation that is still under way ends with. */
function stalled(name: string, callerLeft: boolean): StatusError {
  const why = callerLeft
    ? 'context deadline exceeded'
    : `waited too long for request to timeout or sandbox ${name} to be created`;
  return new StatusError(
    callerLeft ? status.DEADLINE_EXCEEDED : status.UNKNOWN,
    'kubelet may be retrying requests that are timing out in CRI-O due to system load. ' +
      `Currently at stage unknown: ${why}: name is reserved`,
  );
}

function noSandbox(id: string): StatusError {
  return new StatusError(status.NOT_FOUND, `failed to find sandbox id "${id}": not found`);
}
