/**
 * A container runtime for tests and the demo: CRI v1 and v1alpha2 on a unix socket, nothing behind it. It behaves towards its
 * callers as containerd 1.6 or CRI-O does where that matters to somebody who repeats a creation; time, gates and answers are in
 * the hands of whoever started it. A container's process runs on, unless its annotations say when it ends (exit-plan.ts). What it
 * is made of is in runtime/.
 */
import { setMaxListeners } from 'node:events';
import { status } from '@grpc/grpc-js';
import { type Clock, systemClock } from '../clock.js';
import type { Contention } from './runtime/contention.js';
import { Creations } from './runtime/creations.js';
import type { Fate } from './runtime/failures.js';
import { Gates, type Hold, type InjectedAnswer, type Step } from './runtime/gates.js';
import { answer } from './runtime/methods.js';
import { type Container, NodeState, type Sandbox } from './runtime/node-state.js';
import { Processes } from './runtime/processes.js';
import type { Profile } from './runtime/profiles.js';
import { type RawCall, RawGrpcServer, type RawReply } from './runtime/raw-grpc-server.js';
import { Starts } from './runtime/starts.js';
import {
  aborted,
  type Duration,
  InjectedMessage,
  type Made,
  StatusError,
  type Timing,
  throwInjected,
} from './runtime/work.js';

export interface SimulatedRuntimeOptions {
  /** Absolute path of the unix socket; at most 107 bytes. */
  readonly socketPath: string;
  /** Default `containerd`. */
  readonly profile?: Profile;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** How long the work of each takes before anything of it can be seen, in ms; default 0. */
  readonly runPodSandboxMs?: Duration;
  readonly createContainerMs?: Duration;
  readonly startContainerMs?: Duration;
  /** What slows these down when many are under way at once, on the same clock; default: nothing does. */
  readonly contention?: Contention;
  /** How long a container is listed, and its CREATED event out, before CreateContainer answers, in ms; default 0. */
  readonly createContainerAnswerMs?: Duration;
  /** How long undoing takes; the name stays reserved until then. Default 0. */
  readonly rollbackMs?: Duration;
  /**
   * Whether CreateContainer makes `<log_directory>/<log_path>` right at its start; default: as the profile does (CRI-O does). Where
   * the directory does not exist no log is written; making it is the kubelet's part.
   */
  readonly earlyLogFile?: boolean;
  /** What becomes of a start whose caller left; default: `undone` for containerd (EXITED, 128, StartError), `completes` for CRI-O. */
  readonly lateStart?: 'undone' | 'completes';
  /** Tries that come to nothing. */
  readonly failures?: Readonly<Partial<Record<Maker, Fate>>>;
  /**
   * Whether it has GetContainerEvents and says in PodSandboxStatus what the containers are, as since containerd 1.7; default true.
   * Without, the profile `containerd` is 1.6 in this, too.
   */
  readonly events?: boolean;
}

/** A call as it came in. */
export interface ReceivedCall {
  /** As in the .proto, e.g. `CreateContainer`. */
  readonly method: string;
  readonly version: 'v1' | 'v1alpha2';
  readonly request: Buffer;
  readonly metadata: RawCall['metadata'];
  /** What was left of the deadline, in ms; undefined: none was sent. */
  readonly timeoutMs: number | undefined;
  /** Whether the caller left before the answer. */
  cancelled: boolean;
  /** gRPC status code of the answer; undefined before it. */
  code: number | undefined;
}

/** Oldest calls are forgotten beyond this many. */
const maxReceived = 10_000;

/** Steps with a duration of their own, and their option. */
const durations = {
  runPodSandbox: 'runPodSandboxMs',
  createContainer: 'createContainerMs',
  startContainer: 'startContainerMs',
  createContainerAnswer: 'createContainerAnswerMs',
  rollback: 'rollbackMs',
} as const;

/** Steps that make something. */
type Maker = 'runPodSandbox' | 'createContainer' | 'startContainer';

export class SimulatedRuntime {
  readonly socketPath: string;
  /** Calls received, oldest first. */
  readonly received: ReceivedCall[] = [];
  readonly #options: SimulatedRuntimeOptions;
  readonly #profile: Profile;
  readonly #gates = new Gates();
  readonly #node = new NodeState();
  readonly #processes: Processes;
  readonly #creations: Creations;
  readonly #starts: Starts;
  readonly #server: RawGrpcServer;
  readonly #underWay = new Set<Promise<RawReply>>();
  #killed = untilKilled();

  constructor(options: SimulatedRuntimeOptions) {
    this.#options = options;
    this.socketPath = options.socketPath;
    const profile = options.profile ?? 'containerd';
    this.#profile = profile;
    const clock = options.clock ?? systemClock;
    const timing: Timing = {
      gates: this.#gates,
      clock,
      contention: options.contention,
      durationMs: (step, name) => this.#durationMs(step, name),
      injected: (step, name) => this.#gates.takeAnswer(step) ?? options.failures?.[step as Maker]?.(name),
    };
    this.#processes = new Processes(this.#node, clock);
    this.#creations = new Creations(this.#node, timing, {
      profile,
      earlyLogFile: options.earlyLogFile ?? profile !== 'containerd',
    });
    this.#starts = new Starts(this.#node, this.#processes, timing, {
      profile,
      lateStart: options.lateStart ?? (profile === 'containerd' ? 'undone' : 'completes'),
    });
    this.#server = new RawGrpcServer(options.socketPath, (call) => this.serve(call));
  }

  /** Serves the socket, also anew after `kill`, in the place of a socket file left over. */
  listen(): Promise<void> {
    return this.#server.listen();
  }

  /** Serves a call that comes in process; never rejects. */
  serve(call: RawCall): Promise<RawReply> {
    const { method, version, request, metadata, timeoutMs, signal } = call;
    const received: ReceivedCall = {
      method: method.name,
      version,
      request,
      metadata,
      timeoutMs,
      cancelled: false,
      code: undefined,
    };
    this.received.push(received);
    if (this.received.length > maxReceived) this.received.shift();
    signal.addEventListener('abort', () => {
      received.cancelled = true;
    });
    const reply = this.#carryOut(call, this.#killed.signal)
      .catch(asReply)
      .then((ended) => {
        received.code = ended.code;
        this.#underWay.delete(reply);
        return ended;
      });
    this.#underWay.add(reply);
    return reply;
  }

  /**
   * Dies as by SIGKILL: connections are cut, work under way is gone and its names with it, what was finished stays (READY
   * sandboxes, containers in whatever state; one being started stays CREATED), CRI-O's unclaimed results are lost. containerd finds
   * half-made sandboxes NOTREADY afterwards, and cannot start what it was starting.
   */
  async kill(): Promise<void> {
    this.#killed.abort();
    await this.#server.cut();
    await Promise.all(this.#underWay);
    this.#creations.forgetUnclaimed();
    this.#killed = untilKilled();
  }

  /** Ends everything; calls under way are cut. */
  async close(): Promise<void> {
    await this.kill();
    this.#processes.close();
    await this.#server.close();
  }

  /** Makes calls wait at a step: see Step. `matches` gets the reserved name, of methods that make nothing an empty string. */
  hold(step: Step, matches?: (name: string) => boolean): Hold {
    return this.#gates.hold(step, matches);
  }

  /** The next call of a method (`runPodSandbox`, `listContainers`, …) that is not refused at once gets this answer. */
  answerNext(step: Step, injected: InjectedAnswer): void {
    this.#gates.answerNext(step, injected);
  }

  /** The next call of a method fails: for a creation or start after its time and gate, and it is undone. */
  failNext(step: Step, failure: InjectedAnswer & { readonly code: number }): void {
    this.#gates.answerNext(step, failure);
  }

  /** What was really made or begun, oldest first. */
  get made(): Made {
    return { ...this.#creations.made, starts: this.#starts.made };
  }

  /** Names taken by what is there, by work under way and by rollbacks. */
  get reservedNames(): readonly string[] {
    return this.#creations.reservedNames;
  }

  /** All sandboxes, also those CRI-O hides. */
  get sandboxes(): readonly Readonly<Sandbox>[] {
    return [...this.#node.sandboxes.values()];
  }

  /** All containers, also those CRI-O hides. */
  get containers(): readonly Readonly<Container>[] {
    return [...this.#node.containers.values()];
  }

  /** Open GetContainerEvents streams. */
  get subscribers(): number {
    return this.#node.subscribers;
  }

  /** Resolves once `count` GetContainerEvents streams are open. */
  subscribed(count = 1): Promise<void> {
    return this.#node.subscribed(count);
  }

  /** Calls of a method received so far (of the last 10 000 calls). */
  calls(method: string): readonly ReceivedCall[] {
    return this.received.filter((call) => call.method === method);
  }

  /** Most copies of one container of one pod that ever ran at once. */
  mostCopies(podUid: string, containerName: string): number {
    return this.#processes.mostCopies(podUid, containerName);
  }

  /** How often the process of a container of a pod began its work, all attempts counted together. */
  runs(podUid: string, containerName: string): number {
    return this.#processes.runs(podUid, containerName);
  }

  /** Ends a sandbox (NOTREADY, what runs in it EXITED) or a running container without anybody having asked for it. */
  stopBehindTheBack(id: string): void {
    const sandbox = this.#node.sandboxes.get(id);
    const container = this.#node.containers.get(id);
    if (sandbox !== undefined) this.#node.stopSandbox(sandbox);
    else if (container !== undefined) this.#node.exit(container, 1, 'Error');
    else throw new RangeError(`no sandbox or container ${id}`);
  }

  /** Takes a sandbox with its containers, or a container, off the node without a trace. */
  removeBehindTheBack(id: string): void {
    const gone = this.#node.sandboxes.get(id) ?? this.#node.containers.get(id);
    if (gone === undefined) throw new RangeError(`no sandbox or container ${id}`);
    for (const container of [...this.#node.containers.values()]) {
      if (container.sandboxId === id) this.removeBehindTheBack(container.id);
    }
    this.#node.sandboxes.delete(id);
    this.#node.containers.delete(id);
    this.#creations.releaseName(gone);
  }

  #durationMs(step: Step, name: string): number {
    const option = Object.hasOwn(durations, step) ? durations[step as keyof typeof durations] : undefined;
    const duration = option === undefined ? 0 : (this.#options[option] ?? 0);
    return typeof duration === 'number' ? duration : duration(name);
  }

  async #carryOut(call: RawCall, killed: AbortSignal): Promise<RawReply> {
    const { name } = call.method;
    if (name === 'RunPodSandbox') return this.#creations.runPodSandbox(call, killed);
    if (name === 'CreateContainer') return this.#creations.createContainer(call, killed);
    if (name === 'StartContainer') return this.#starts.startContainer(call, killed);
    const step = name.charAt(0).toLowerCase() + name.slice(1);
    const injected = this.#gates.takeAnswer(step);
    const over = AbortSignal.any([call.signal, killed]);
    await this.#gates.pass(step, '', over);
    if (injected?.headers !== undefined) call.sendHeaders(injected.headers);
    if (injected?.hang === true) await aborted(over);
    if (over.aborted) throw new StatusError(status.CANCELLED, 'context canceled');
    throwInjected(injected);
    const message = await answer(
      {
        node: this.#node,
        creations: this.#creations,
        starts: this.#starts,
        profile: this.#profile,
        events: this.#options.events ?? true,
        runtimeName: this.#profile === 'containerd' ? 'containerd' : 'cri-o',
      },
      call,
      over,
    );
    await this.#gates.pass(`${step}Answer`, '', over);
    return { code: status.OK, message, ...(injected?.trailers === undefined ? {} : { trailers: injected.trailers }) };
  }
}

/** All work under way listens to its signal. */
function untilKilled(): AbortController {
  const killed = new AbortController();
  setMaxListeners(0, killed.signal);
  return killed;
}

function asReply(error: unknown): RawReply {
  if (error instanceof InjectedMessage) return { code: status.OK, message: error.bytes, trailers: error.trailers };
  if (error instanceof StatusError) return { code: error.code, details: error.message, trailers: error.trailers };
  return { code: status.INTERNAL, details: String(error) };
}
