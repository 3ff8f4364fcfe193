/**
 * StartContainer as containerd 1.6 and as CRI-O carry it out, down to what becomes of a start whose caller has left. Knows no
 * transport.
 *
 * Source: containerd 1.6 pkg/cri/server/container_start.go.
 */
import { status } from '@grpc/grpc-js';
import { findOr } from './find.js';
import type { InjectedAnswer } from './gates.js';
import { openLog } from './log-file.js';
import { decode } from './messages.js';
import { type Container, markExited, type NodeState } from './node-state.js';
import type { Processes } from './processes.js';
import type { Profile } from './profiles.js';
import type { RawCall, RawReply } from './raw-grpc-server.js';
import { end, labour, type Making, newMaking, pass, reply, StatusError, type Timing } from './work.js';

export interface StartRules {
  readonly profile: Profile;
  /** What becomes of a start whose caller has left. */
  readonly lateStart: 'undone' | 'completes';
}

export class Starts {
  /** Oldest first. */
  readonly made: Making[] = [];
  readonly #node: NodeState;
  readonly #processes: Processes;
  readonly #timing: Timing;
  readonly #rules: StartRules;
  readonly #underWay = new Set<{ readonly sandboxId: string; readonly ended: Promise<unknown> }>();

  constructor(node: NodeState, processes: Processes, timing: Timing, rules: StartRules) {
    this.#node = node;
    this.#processes = processes;
    this.#timing = timing;
    this.#rules = rules;
  }

  /** Resolves when none of a sandbox's containers is being started. */
  async ended(sandboxId: string): Promise<void> {
    await Promise.all([...this.#underWay].filter((start) => start.sandboxId === sandboxId).map(({ ended }) => ended));
  }

  /**
   * containerd runs a start under its caller's context: when the caller leaves, the task is deleted and the container ends EXITED
   * with code 128, reason StartError; until that is done it is shown CREATED. `lateStart: 'completes'` is the race it can lose
   * (kubernetes#139670), and what CRI-O does, whose runtime is not told of the caller. A start cut short by the end of containerd
   * leaves the container CREATED (restart.go), and its task in the way of the next start.
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
    const { id, name, podUid, metadata, sandboxId } = container;
    const making = newMaking('start', call, { id, name, podUid, attempt: metadata.attempt }, this.#timing.clock);
    this.made.push(making);
    const injected = this.#timing.injected('startContainer', name);
    container.starting = true;
    const ended = this.#start(container, making, call, killed, injected);
    const starting = { sandboxId, ended: ended.catch(() => undefined) };
    this.#underWay.add(starting);
    try {
      await ended;
    } finally {
      this.#underWay.delete(starting);
    }
    return reply(this.#timing, 'startContainer', making, call, injected, Buffer.alloc(0), killed);
  }

  async #start(
    container: Container,
    making: Making,
    call: RawCall,
    killed: AbortSignal,
    injected: InjectedAnswer | undefined,
  ): Promise<void> {
    const { clock } = this.#timing;
    const giveUp = this.#rules.lateStart === 'completes' ? killed : AbortSignal.any([call.signal, killed]);
    try {
      this.#checkSandboxRuns(container);
      openLog(container.logFile);
      if (container.startCutShort)
        throw new StatusError(status.ALREADY_EXISTS, `${noTask}task ${container.id}: already exists`);
      await labour(this.#timing, 'startContainer', making, call, injected, giveUp);
      this.#checkSandboxRuns(container);
      this.#processes.run(container);
      end(making, 'finished', clock);
    } catch (error) {
      await pass(this.#timing, 'rollback', container.name, killed);
      end(making, killed.aborted ? 'cut short' : 'rolled back', clock);
      if (killed.aborted) container.startCutShort = this.#rules.profile === 'containerd';
      else markExited(container, 128, 'StartError', startError(error, giveUp));
      throw error;
    } finally {
      container.starting = false;
    }
  }

  #checkSandboxRuns({ sandboxId }: Container): void {
    const sandbox = this.#node.sandboxes.get(sandboxId);
    if (sandbox === undefined) throw new StatusError(status.NOT_FOUND, `sandbox "${sandboxId}" not found: not found`);
    if (sandbox.state === 'SANDBOX_READY') return;
    throw new StatusError(status.UNKNOWN, `sandbox container "${sandboxId}" is not running`);
  }
}

const noTask = 'failed to create containerd task: ';

/** What the status of a container says that could not be started. */
function startError(error: unknown, giveUp: AbortSignal): string {
  if (giveUp.aborted) return `${noTask}failed to create shim task: context canceled: unknown`;
  return error instanceof Error ? error.message : String(error);
}
