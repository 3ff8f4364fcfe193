/**
 * Starts of containers: each is carried out once and finished whoever left; a repeat joins it or is answered again. What becomes of
 * them is told to the SecondCopyGuard. Knows bytes and time; the runtime is reached through `StartRuntime` alone.
 */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import type { Admission } from '../throttle/admission.js';
import type { AdmissionView } from '../throttle/admission-view.js';
import type { Urgency } from '../throttle/work-queue.js';
import type { StartView } from './creation-view.js';
import { type DetachedCall, DroppedError, failureStep, untilAborted, WaiterLeftError } from './detached-call.js';
import { DetachedCalls } from './detached-calls.js';
import { onlyMatch } from './id-prefix.js';
import { Oldest, type OldestMs } from './oldest.js';
import type { Progress } from './progress.js';
import type { ContainerAttempt, ContainerNow, SecondCopyGuard, WatchedStart } from './second-copy-guard.js';
import { SetMap } from './set-map.js';

/** Whose container it is, and where it is. */
export interface StartIdentity extends ContainerAttempt {
  readonly podSandboxId: string;
}

export interface StartRequest<Origin> {
  readonly containerId: string;
  /** The downstream's own bytes: what goes upstream. */
  readonly bytes: Buffer;
  readonly origin: Origin;
  /** Whose container it is, where the caller knows; else the runtime is asked. */
  readonly known?: StartIdentity | undefined;
  readonly urgency?: Urgency;
}

export type StartStep =
  | 'queued'
  | 'hangs'
  | 'started'
  | 'waiter joined'
  | 'waiter left'
  | 'answered'
  | 'held'
  | 'replayed'
  | 'delivered'
  | 'guarded'
  | 'let go'
  | 'dropped'
  | 'timed out'
  | 'failed';

export interface StartRuntime<Origin, Answer> {
  /** The one upstream call. */
  start(bytes: Buffer, origin: Origin, signal: AbortSignal): Promise<Answer>;
  /**
   * Whether an error of `start` says that the container does not run: the runtime's own, and not that it was away, out of time or
   * told to stop.
   */
  isRefusal(error: unknown): boolean;
  /**
   * @returns undefined where the runtime does not know the container, or it is not a pod's.
   * @throws Where it cannot be told.
   */
  identify(containerId: string, origin: Origin, signal: AbortSignal): Promise<StartIdentity | undefined>;
  /** How the container is now. Settles in bounded time. @throws Where it cannot be told. */
  stateOf(containerId: string, origin: Origin, signal: AbortSignal): Promise<ContainerNow>;
}

export interface StartGrant<Answer> {
  readonly role: 'started' | 'joined' | 'replayed';
  readonly answer: Answer;
  /** Whether the waiter is known to have got it. */
  settle(delivered: boolean): void;
}

export interface StartStoreOptions {
  readonly creationTimeoutMs: number;
  readonly holdTtlMs: number;
  readonly replayTtlMs: number;
  readonly maxEntries: number;
}

/**
 * How long a start is kept back until the runtime has said whose container it is, in ms: as long as a kubelet waits for a status.
 * Nobody else waits for that, and a runtime that is frozen for a minute loses no start by it.
 */
const identifyTimeoutMs = 120_000;

/** Looks in a row that could not tell whether a finished start is still true. Then the runtime judges the next request. */
const failedLooksAtMost = 3;

/** One start of a container: in flight, or past and not known to have reached anybody. Its request is not kept here. */
export class Start<Origin, Answer> {
  readonly containerId: string;
  readonly origin: Origin;
  readonly call: DetachedCall<Answer>;
  /** Undefined while nothing is known of the container, and where nobody can say. */
  identity: StartIdentity | undefined;
  /** As the guard sees it; undefined where there is no identity. */
  watched: WatchedStart | undefined;
  /** What a repeat is answered with, once it went through. */
  replayable: Answer | undefined;
  /** When it ended, in ms of the clock. */
  endedMs: number | undefined;
  failedLooks = 0;
  /** Its container or pod sandbox was stopped or removed. */
  isOver = false;
  /** An earlier start of this container may have gone through, so that a refusal of this one says nothing. */
  readonly isDoubtful: boolean;

  constructor(containerId: string, origin: Origin, call: DetachedCall<Answer>, isDoubtful: boolean) {
    this.containerId = containerId;
    this.origin = origin;
    this.call = call;
    this.isDoubtful = isDoubtful;
  }
}

type Observe<Origin, Answer> = (
  step: StartStep,
  start: Start<Origin, Answer>,
  detail: Readonly<Record<string, unknown>>,
) => void;

export class StartStore<Origin, Answer> {
  readonly #runtime: StartRuntime<Origin, Answer>;
  readonly #guard: SecondCopyGuard;
  readonly #admission: Admission;
  readonly #clock: Clock;
  readonly #observe: Observe<Origin, Answer>;
  readonly #faulted: (start: Start<Origin, Answer>, error: unknown) => void;
  readonly #calls: DetachedCalls<Answer>;
  readonly #replayTtlMs: number;
  readonly #inFlight = new Map<string, Start<Origin, Answer>>();
  /** Went through or failed unclearly, and nobody is known to have been told. */
  readonly #past: LRUCache<string, Start<Origin, Answer>>;
  /** Both of these, by the pod sandbox they are in. */
  readonly #inside = new SetMap<Start<Origin, Answer>>();

  constructor(
    runtime: StartRuntime<Origin, Answer>,
    guard: SecondCopyGuard,
    admission: Admission,
    clock: Clock,
    observe: Observe<Origin, Answer>,
    options: StartStoreOptions,
    faulted: (start: Start<Origin, Answer>, error: unknown) => void = () => {},
  ) {
    this.#faulted = faulted;
    this.#runtime = runtime;
    this.#guard = guard;
    this.#admission = admission;
    this.#clock = clock;
    this.#observe = observe;
    this.#calls = new DetachedCalls(admission, clock, options);
    this.#replayTtlMs = options.replayTtlMs;
    this.#past = new LRUCache({
      max: options.maxEntries,
      ttl: options.replayTtlMs,
      ttlResolution: 0,
      perf: { now: () => clock.now() },
      dispose: (start) => this.#forgotten(start),
    });
  }

  /** Starts in flight, those that are past and may be answered again or held against a creation, and pod sandboxes with any of them. */
  get sizes(): { readonly inFlight: number; readonly past: number; readonly podSandboxes: number } {
    this.#past.purgeStale();
    return { inFlight: this.#inFlight.size, past: this.#past.size, podSandboxes: this.#inside.size };
  }

  /** For each stage the age of the start that has been in it for longest, in ms: for gauges. */
  get oldest(): OldestMs {
    const oldest = new Oldest(this.#clock.now());
    for (const start of this.#inFlight.values()) oldest.addProgress(this.#progress(start));
    return oldest.ages;
  }

  /**
   * Joins, repeats or begins the start of a container.
   *
   * @param signal The waiter's deadline or cancel; firing ends its wait, never the start.
   * @param attached Told which start it is about, whenever that is another one.
   * @throws {WaiterLeftError} `signal` fired first; `progress` says what it waited for.
   * @throws What the runtime answered, to the start or to the look that goes first; CallTimeoutError or DroppedError.
   */
  async request(
    request: StartRequest<Origin>,
    signal: AbortSignal,
    attached: (start: Start<Origin, Answer>) => void = () => {},
  ): Promise<StartGrant<Answer>> {
    for (;;) {
      if (signal.aborted) throw new WaiterLeftError();
      const running = this.#inFlight.get(request.containerId);
      if (running !== undefined) {
        attached(running);
        this.#step('waiter joined', running, { waiters: running.call.waiters + 1 });
        return this.#wait(running, 'joined', signal);
      }
      const past = this.#past.get(request.containerId);
      if (past?.replayable === undefined) return this.#wait(this.#begin(request, past, attached), 'started', signal);
      attached(past);
      const answer = await this.#replay(past, signal);
      if (answer !== undefined) return this.#grant(past, 'replayed', answer);
    }
  }

  /**
   * What an id or a unique prefix of it names has been stopped or removed: nothing waits for its starts any more, one that is queued
   * is dropped, and one that went through is not answered again. What runs upstream goes on.
   */
  ended(kind: 'podSandbox' | 'container', idOrPrefix: string): void {
    const error = new DroppedError('the container or its pod sandbox was stopped or removed before it was started');
    for (const start of kind === 'container' ? this.#named(idOrPrefix) : this.#startsInside(idOrPrefix)) {
      start.isOver = true;
      start.watched?.over();
      this.#past.delete(start.containerId);
      if (start.call.phase === 'queued') start.call.fail(error);
    }
  }

  /** What a start of this container would find. */
  found(containerId: string): Start<Origin, Answer> | undefined {
    return this.#inFlight.get(containerId) ?? this.#past.peek(containerId);
  }

  /**
   * Something went wrong in Holdfast with a request for this start: the next request begins anew. What runs upstream goes on, for it
   * cannot be done twice and may have other waiters; what has not begun ends with `error`.
   */
  abandon(start: Start<Origin, Answer>, error: unknown): void {
    if (start.call.phase === 'running') return;
    start.call.fail(error);
    this.#forget(start, error);
  }

  /** What the start of a container is at; undefined where none is in flight. */
  progressOf(containerId: string): Progress | undefined {
    const start = this.#inFlight.get(containerId);
    return start && this.#progress(start);
  }

  /** Every start that is in flight or held against a creation, as it is now. For people: it costs what there is. */
  views(): readonly StartView[] {
    const admission = this.#admission.view();
    return [...this.#inFlight.values(), ...this.#past.values()].map((start) => this.#view(start, admission));
  }

  /** Cuts short what runs upstream. */
  close(): void {
    this.#calls.close();
  }

  #step(step: StartStep, start: Start<Origin, Answer>, detail: Readonly<Record<string, unknown>> = {}): void {
    this.#observe(step, start, { ageMs: this.#clock.now() - start.call.begunMs, ...detail });
  }

  #view(start: Start<Origin, Answer>, { places, hungSinceMs }: AdmissionView): StartView {
    const { containerId, identity, call, replayable, endedMs } = start;
    const { begunMs, runningSinceMs, lastAskedMs, waiters, inFlight } = call;
    const work = this.#calls.workOf(call);
    const flying = runningSinceMs === undefined ? 'queued' : 'running';
    const past = replayable === undefined ? 'unclear' : 'started';
    return {
      containerId,
      family: identity?.family,
      attempt: identity?.attempt,
      state: inFlight ? flying : past,
      begunMs,
      stateSinceMs: endedMs ?? runningSinceMs ?? begunMs,
      lastAskedMs,
      waiters,
      progress: inFlight ? this.#progress(start) : undefined,
      place: work && places.get(work),
      hungSinceMs: work && hungSinceMs.get(work),
    };
  }

  #progress({ call }: Start<Origin, Answer>): Progress {
    if (!call.inFlight) return { at: 'checked', sinceMs: call.lastAskedMs };
    if (call.runningSinceMs !== undefined) return { at: 'running', sinceMs: call.runningSinceMs };
    return { at: 'queued', sinceMs: call.begunMs, behind: Math.max(0, this.#admission.queued - 1) };
  }

  async #wait(
    start: Start<Origin, Answer>,
    role: 'started' | 'joined',
    signal: AbortSignal,
  ): Promise<StartGrant<Answer>> {
    return this.#grant(start, role, await this.#orProgress(start, start.call.join(signal)));
  }

  /** Whoever leaves is told what it waited for. */
  async #orProgress<Result>(start: Start<Origin, Answer>, promise: Promise<Result>): Promise<Result> {
    try {
      return await promise;
    } catch (error) {
      if (error instanceof WaiterLeftError) throw new WaiterLeftError(this.#progress(start));
      throw error;
    }
  }

  #begin(
    request: StartRequest<Origin>,
    past: Start<Origin, Answer> | undefined,
    attached: (start: Start<Origin, Answer>) => void,
  ): Start<Origin, Answer> {
    const { containerId, bytes, origin, known = past?.identity, urgency = {} } = request;
    const call = this.#calls.open(bytes, {
      waiterJoined: () => start.watched?.attended(true),
      waiterLeft: (waiters) => {
        this.#step('waiter left', start, { waiters });
        start.watched?.attended(waiters > 0);
      },
      succeeded: (answer, waiters) => this.#succeeded(start, answer, waiters),
      failed: (error, waiters) => this.#failed(start, error, waiters),
      faulted: (error) => this.#forget(start, error),
    });
    const start: Start<Origin, Answer> = new Start(containerId, origin, call, past !== undefined);
    attached(start);
    this.#past.delete(containerId);
    this.#inFlight.set(containerId, start);
    this.#step('queued', start, { behind: this.#admission.queued });
    if (known !== undefined) this.#queue(start, known, urgency);
    else void this.#identifyAndQueue(start, urgency);
    return start;
  }

  /** See second-copy-guard.ts for why it does not go upstream before. */
  async #identifyAndQueue(start: Start<Origin, Answer>, urgency: Urgency): Promise<void> {
    try {
      await this.#queueIdentified(start, urgency);
    } catch (error) {
      start.call.fail(error);
    }
  }

  async #queueIdentified(start: Start<Origin, Answer>, urgency: Urgency): Promise<void> {
    const settle = this.#guard.unidentified();
    let identity: StartIdentity | undefined;
    let failure: unknown;
    try {
      identity = await this.#identify(start);
    } catch (error) {
      failure = error;
    }
    const mayGo = settle(identity);
    if (failure !== undefined) start.call.fail(failure);
    else if (!mayGo) start.call.fail(new DroppedError('a further attempt of the container was asked for meanwhile'));
    else if (start.call.inFlight) {
      this.#queue(start, identity, urgency);
      start.watched?.attended(start.call.waiters > 0);
    }
  }

  /** Ends with the start, in bounded time. */
  async #identify({ containerId, origin, call }: Start<Origin, Answer>): Promise<StartIdentity | undefined> {
    const abort = new AbortController();
    const aborted = new Promise<never>((_, reject) => {
      abort.signal.addEventListener('abort', () => reject(abort.signal.reason));
    });
    const tooLate = new DroppedError(`the runtime did not say within ${identifyTimeoutMs} ms whose container it is`);
    const cancelTimer = this.#clock.after(identifyTimeoutMs, () => abort.abort(tooLate));
    void call.ended.then(() => abort.abort());
    try {
      return await Promise.race([this.#runtime.identify(containerId, origin, abort.signal), aborted]);
    } finally {
      cancelTimer();
    }
  }

  #queue(start: Start<Origin, Answer>, identity: StartIdentity | undefined, urgency: Urgency): void {
    const { call, origin } = start;
    if (identity !== undefined) this.#watch(start, identity);
    this.#calls.queue(call, {
      kind: 'start',
      urgency: () => urgency,
      begun: () => this.#step('started', start),
      hangs: (overdue) => this.#step('hangs', start, { ...overdue }),
      perform: (bytes, signal) => this.#runtime.start(bytes, origin, signal),
    });
  }

  #watch(start: Start<Origin, Answer>, identity: StartIdentity): void {
    const { containerId, origin, call } = start;
    start.identity = identity;
    start.watched = this.#guard.watch({
      containerId,
      family: identity.family,
      attempt: identity.attempt,
      sinceMs: call.begunMs,
      keptMs: this.#replayTtlMs,
      look: (signal) => this.#runtime.stateOf(containerId, origin, signal),
      guarded: (askedAttempt, now) => this.#step('guarded', start, { askedAttempt, state: now?.state }),
      letGo: (error) => this.#step('let go', start, { error }),
    });
    this.#inside.add(identity.podSandboxId, start);
  }

  #succeeded(start: Start<Origin, Answer>, answer: Answer, waiters: number): void {
    this.#inFlight.delete(start.containerId);
    start.endedMs = this.#clock.now();
    this.#step(waiters > 0 ? 'answered' : 'held', start, { waiters });
    if (start.isOver) {
      this.#leave(start);
      return;
    }
    start.replayable = answer;
    start.watched?.succeeded();
    this.#past.set(start.containerId, start);
  }

  #failed(start: Start<Origin, Answer>, error: unknown, waiters: number): void {
    const { containerId, watched, isDoubtful, isOver } = start;
    this.#inFlight.delete(containerId);
    start.endedMs = this.#clock.now();
    this.#step(failureStep(error), start, { waiters, error });
    const neverRan = !isDoubtful && (error instanceof DroppedError || this.#runtime.isRefusal(error));
    if (watched === undefined || isOver || neverRan) {
      watched?.over();
      this.#leave(start);
      return;
    }
    watched.failedUnclearly();
    this.#past.set(containerId, start);
  }

  /** @returns undefined where it is not true any more and the request has to begin anew. */
  async #replay(start: Start<Origin, Answer>, signal: AbortSignal): Promise<Answer | undefined> {
    const { containerId, origin, call } = start;
    const answer = start.replayable;
    call.lastAskedMs = this.#clock.now();
    let state: ContainerNow['state'];
    try {
      const looked = untilAborted(this.#runtime.stateOf(containerId, origin, signal), signal);
      ({ state } = await this.#orProgress(start, looked));
    } catch (error) {
      if (!(error instanceof WaiterLeftError)) this.#couldNotLook(start);
      throw error;
    }
    start.failedLooks = 0;
    if (state !== 'created' && state !== 'gone' && !start.isOver) {
      this.#step('replayed', start);
      return answer;
    }
    if (this.#past.peek(containerId) === start) this.#past.delete(containerId);
    return undefined;
  }

  /** The guard keeps it in mind: what it has started may run. */
  #couldNotLook(start: Start<Origin, Answer>): void {
    start.failedLooks += 1;
    if (start.failedLooks >= failedLooksAtMost) start.replayable = undefined;
  }

  #grant(start: Start<Origin, Answer>, role: StartGrant<Answer>['role'], answer: Answer): StartGrant<Answer> {
    return {
      role,
      answer,
      settle: (delivered) => {
        if (!delivered || this.#past.peek(start.containerId) !== start) return;
        this.#past.delete(start.containerId);
        this.#step('delivered', start);
      },
    };
  }

  /** Something went wrong with it in Holdfast itself. Never throws. */
  #forget(start: Start<Origin, Answer>, error: unknown): void {
    const { containerId, watched } = start;
    this.#faulted(start, error);
    try {
      if (this.#inFlight.get(containerId) === start) this.#inFlight.delete(containerId);
      if (this.#past.peek(containerId) === start) this.#past.delete(containerId);
      watched?.over();
      this.#leave(start);
    } catch (another) {
      this.#faulted(start, another);
    }
  }

  /** Somebody is known to have been told of it, it is too long ago, or it has made room. */
  #forgotten(start: Start<Origin, Answer>): void {
    start.watched?.told();
    this.#leave(start);
  }

  #leave(start: Start<Origin, Answer>): void {
    if (start.identity !== undefined) this.#inside.delete(start.identity.podSandboxId, start);
  }

  #named(idOrPrefix: string): Iterable<Start<Origin, Answer>> {
    const exact = this.#inFlight.get(idOrPrefix) ?? this.#past.peek(idOrPrefix);
    const start = exact ?? onlyMatch(idOrPrefix, this.#inFlight, this.#past);
    return start === undefined ? [] : [start];
  }

  #startsInside(idOrPrefix: string): Iterable<Start<Origin, Answer>> {
    return this.#inside.get(idOrPrefix) ?? onlyMatch(idOrPrefix, this.#inside) ?? [];
  }
}
