/**
 * Starts of containers: each is carried out once and finished whoever left; a repeat joins it or is answered again. What becomes of
 * them is told to the SecondCopyGuard. Knows bytes and time; the runtime is reached through `StartRuntime` alone.
 */
import type { Clock } from '../clock.js';
import type { Admission } from '../throttle/admission.js';
import type { Urgency } from '../throttle/work-queue.js';
import { DroppedError, failureStep, untilAborted, WaiterLeftError } from './detached-call.js';
import { DetachedCalls } from './detached-calls.js';
import type { ContainerNow, SecondCopyGuard } from './second-copy-guard.js';
import { Start, type StartRequest, type StartStep } from './start.js';
import { StartCensus } from './start-census.js';
import { StartIdentification } from './start-identification.js';
import { StartIndex } from './start-index.js';
import { progressOfStart } from './start-progress.js';
import type { StartIdentity, StartRuntime } from './start-runtime.js';

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

/** Looks in a row that could not tell whether a finished start is still true. Then the runtime judges the next request. */
const failedLooksAtMost = 3;

type Observe<Origin, Answer> = (
  step: StartStep,
  start: Start<Origin, Answer>,
  detail: Readonly<Record<string, unknown>>,
) => void;

export class StartStore<Origin, Answer> {
  /** What is told of starts. */
  readonly census: StartCensus<Origin, Answer>;
  readonly #runtime: StartRuntime<Origin, Answer>;
  readonly #guard: SecondCopyGuard;
  readonly #admission: Admission;
  readonly #clock: Clock;
  readonly #observe: Observe<Origin, Answer>;
  readonly #faulted: (start: Start<Origin, Answer>, error: unknown) => void;
  readonly #calls: DetachedCalls<Answer>;
  readonly #index: StartIndex<Origin, Answer>;
  readonly #identification: StartIdentification<Origin, Answer>;
  readonly #replayTtlMs: number;

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
    // Somebody is known to have been told of it, it is too long ago, or it has made room.
    this.#index = new StartIndex(clock, { ...options, forgotten: ({ watched }) => watched?.told() });
    this.#identification = new StartIdentification(runtime, guard, clock);
    this.census = new StartCensus({ index: this.#index, calls: this.#calls, admission, clock });
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
      const running = this.#index.inFlight(request.containerId);
      if (running !== undefined) {
        attached(running);
        this.#step('waiter joined', running, { waiters: running.call.waiters + 1 });
        return this.#wait(running, 'joined', signal);
      }
      const past = this.#index.past(request.containerId);
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
    for (const start of this.#index.named(kind, idOrPrefix)) {
      start.isOver = true;
      start.watched?.over();
      this.#index.letGo(start);
      if (start.call.phase === 'queued') start.call.fail(error);
    }
  }

  /** What a start of this container would find. */
  found(containerId: string): Start<Origin, Answer> | undefined {
    return this.#index.find(containerId);
  }

  isInFlight(containerId: string): boolean {
    return this.#index.inFlight(containerId) !== undefined;
  }

  /**
   * Something went wrong in Holdfast with a request for this start: the next request begins anew. What runs upstream goes on, for it
   * cannot be done twice and may have other waiters; what has not begun ends with `error`.
   */
  forgetAfterFault(start: Start<Origin, Answer>, error: unknown): void {
    if (start.call.phase === 'running') return;
    start.call.fail(error);
    this.#forgetAfterFault(start, error);
  }

  /** Cuts short what runs upstream. */
  close(): void {
    this.#calls.close();
  }

  #step(step: StartStep, start: Start<Origin, Answer>, detail: Readonly<Record<string, unknown>> = {}): void {
    this.#observe(step, start, { ageMs: this.#clock.now() - start.call.begunMs, ...detail });
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
      if (error instanceof WaiterLeftError) throw new WaiterLeftError(progressOfStart(start, this.#admission));
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
      faulted: (error) => this.#forgetAfterFault(start, error),
    });
    const start: Start<Origin, Answer> = new Start(containerId, origin, call, past !== undefined);
    attached(start);
    this.#index.began(start);
    this.#step('queued', start, { behind: this.#admission.queued });
    if (known !== undefined) this.#queue(start, known, urgency);
    else void this.#queueIdentified(start, urgency);
    return start;
  }

  #queueIdentified(start: Start<Origin, Answer>, urgency: Urgency): Promise<void> {
    return this.#identification.identify(start, (identity) => {
      this.#queue(start, identity, urgency);
      start.watched?.attended(start.call.waiters > 0);
    });
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
    this.#index.identified(start, identity.podSandboxId);
  }

  #succeeded(start: Start<Origin, Answer>, answer: Answer, waiters: number): void {
    start.endedMs = this.#clock.now();
    this.#step(waiters > 0 ? 'answered' : 'held', start, { waiters });
    this.#index.landed(start, !start.isOver);
    start.replayable = answer;
    start.watched?.succeeded();
  }

  #failed(start: Start<Origin, Answer>, error: unknown, waiters: number): void {
    const { watched, isDoubtful, isOver } = start;
    start.endedMs = this.#clock.now();
    this.#step(failureStep(error), start, { waiters, error });
    const neverRan = !isDoubtful && (error instanceof DroppedError || this.#runtime.isRefusal(error));
    const isKept = watched !== undefined && !isOver && !neverRan;
    this.#index.landed(start, isKept);
    if (isKept) watched.failedUnclearly();
    else watched?.over();
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
    this.#index.letGo(start);
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
        if (delivered && this.#index.letGo(start)) this.#step('delivered', start);
      },
    };
  }

  /** Something went wrong with it in Holdfast itself. Never throws. */
  #forgetAfterFault(start: Start<Origin, Answer>, error: unknown): void {
    this.#faulted(start, error);
    try {
      this.#index.remove(start);
      start.watched?.over();
    } catch (another) {
      this.#faulted(start, another);
    }
  }
}
