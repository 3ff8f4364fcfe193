/**
 * Starts of containers: each is carried out once, finished whoever left, and never followed by a second copy of the same
 * container. Knows bytes and time; the runtime is reached through `StartRuntime` alone.
 */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import type { Admission } from '../throttle/admission.js';
import type { Urgency, Work } from '../throttle/work-queue.js';
import { AbandonedCalls, maxAbandonedBytes } from './abandoned-calls.js';
import { DetachedCall, DroppedError, failureStep, WaiterLeftError } from './detached-call.js';
import type { Fingerprint } from './fingerprint.js';

/** Whose start it is: the container's identity without its attempt, as in `Fingerprint.family`, and the attempt. */
export interface StartIdentity {
  readonly family: string;
  readonly attempt: number;
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
  | 'started'
  | 'waiter joined'
  | 'waiter left'
  | 'answered'
  | 'held'
  | 'replayed'
  | 'delivered'
  | 'guarded'
  | 'dropped'
  | 'timed out'
  | 'failed';

export interface Start<Origin, Answer> {
  readonly containerId: string;
  readonly origin: Origin;
  readonly call: DetachedCall<Answer>;
  /** Undefined where neither Holdfast nor the runtime can say. */
  readonly identity: Promise<StartIdentity | undefined>;
}

export interface StartRuntime<Origin, Answer> {
  start(bytes: Buffer, origin: Origin, signal: AbortSignal): Promise<Answer>;
  /** Never rejects. */
  identify(containerId: string, origin: Origin): Promise<StartIdentity | undefined>;
  /** State of the container now. */
  stateOf(containerId: string, origin: Origin): Promise<'created' | 'running' | 'exited' | 'gone'>;
}

/** A start of a lower attempt went through while nobody waited for it, so the next attempt would be a second copy. */
export class StartedMeanwhileError extends Error {
  override readonly name = 'StartedMeanwhileError';
  constructor(containerId: string, attempt: number) {
    super(
      `container ${containerId} (attempt ${attempt}) was started meanwhile and is running: no further attempt is made`,
    );
  }
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

export class StartStore<Origin, Answer> {
  readonly #runtime: StartRuntime<Origin, Answer>;
  readonly #admission: Admission;
  readonly #clock: Clock;
  readonly #observe: (step: StartStep, start: Start<Origin, Answer>, detail: Readonly<Record<string, unknown>>) => void;
  readonly #options: StartStoreOptions;
  readonly #inFlight = new Map<string, Start<Origin, Answer>>();
  /** Started, and nobody is known to have been told. */
  readonly #finished: LRUCache<string, Start<Origin, Answer>>;
  readonly #abandoned: AbandonedCalls;
  #closed = false;

  constructor(
    runtime: StartRuntime<Origin, Answer>,
    admission: Admission,
    clock: Clock,
    observe: (step: StartStep, start: Start<Origin, Answer>, detail: Readonly<Record<string, unknown>>) => void,
    options: StartStoreOptions,
  ) {
    this.#runtime = runtime;
    this.#admission = admission;
    this.#clock = clock;
    this.#observe = observe;
    this.#options = options;
    this.#abandoned = new AbandonedCalls(options.maxEntries, maxAbandonedBytes);
    this.#finished = new LRUCache({
      max: options.maxEntries,
      ttl: options.replayTtlMs,
      ttlResolution: 0,
      perf: { now: () => clock.now() },
    });
  }

  /**
   * Joins, repeats or begins the start of a container.
   *
   * @param signal The waiter's deadline or cancel; firing ends its wait, never the start.
   * @throws {WaiterLeftError} `signal` fired first.
   * @throws What the runtime answered, or CallTimeoutError.
   */
  async request(request: StartRequest<Origin>, signal: AbortSignal): Promise<StartGrant<Answer>> {
    const { containerId, origin } = request;
    const running = this.#inFlight.get(containerId);
    if (running !== undefined) {
      this.#abandoned.delete(running.call);
      this.#step('waiter joined', running, { waiters: running.call.waiters + 1 });
      return this.#grant(running, 'joined', await running.call.join(signal));
    }
    const finished = this.#finished.get(containerId);
    if (finished?.call.result !== undefined) {
      const state = await this.#runtime.stateOf(containerId, origin);
      if (state === 'running' || state === 'exited') {
        this.#step('replayed', finished);
        return this.#grant(finished, 'replayed', finished.call.result);
      }
      this.#finished.delete(containerId);
      return this.request(request, signal);
    }
    if (signal.aborted) throw new WaiterLeftError();
    const start = this.#begin(request);
    return this.#grant(start, 'started', await start.call.join(signal));
  }

  /** What an id or a prefix of it names was stopped or removed: a finished start of it is worth nothing any more. */
  ended(idOrPrefix: string): void {
    if (idOrPrefix === '') return;
    for (const containerId of [...this.#finished.keys()]) {
      if (containerId.startsWith(idOrPrefix)) this.#finished.delete(containerId);
    }
  }

  /**
   * Holds back the creation of a container while a start of a lower attempt of it is under way that nobody waits for.
   *
   * The kubelet does not repeat a StartContainer that outlived it: it sees CREATED and asks for the next attempt at once.
   *
   * @throws {StartedMeanwhileError} That attempt runs.
   */
  async beforeCreate(fingerprint: Fingerprint): Promise<void> {
    if (fingerprint.kind !== 'container') return;
    for (const start of [...this.#inFlight.values(), ...this.#finished.values()]) {
      if (start.call.inFlight && start.call.waiters > 0) continue;
      const identity = await start.identity;
      if (identity?.family !== fingerprint.family || identity.attempt >= fingerprint.identity.attempt) continue;
      await start.call.ended;
      if (start.call.phase !== 'succeeded') continue;
      if ((await this.#runtime.stateOf(start.containerId, start.origin)) !== 'running') continue;
      this.#step('guarded', start, { askedAttempt: fingerprint.identity.attempt });
      throw new StartedMeanwhileError(start.containerId, identity.attempt);
    }
  }

  /** Cuts short what runs upstream. */
  close(): void {
    this.#closed = true;
    for (const start of this.#inFlight.values()) start.call.shutDown();
  }

  #step(step: StartStep, start: Start<Origin, Answer>, detail: Readonly<Record<string, unknown>> = {}): void {
    this.#observe(step, start, { ageMs: this.#clock.now() - start.call.begunMs, ...detail });
  }

  #begin(request: StartRequest<Origin>): Start<Origin, Answer> {
    const { containerId, bytes, origin, known } = request;
    const start: Start<Origin, Answer> = {
      containerId,
      origin,
      identity: known === undefined ? this.#runtime.identify(containerId, origin) : Promise.resolve(known),
      call: new DetachedCall<Answer>(this.#clock, {
        succeeded: (_, waiters) => this.#succeeded(start, waiters),
        failed: (error, waiters) => this.#failed(start, error, waiters),
        waiterLeft: (waiters) => {
          this.#step('waiter left', start, { waiters });
          if (waiters === 0 && start.call.phase === 'queued') this.#abandoned.add(start.call, bytes.length);
        },
      }),
    };
    this.#inFlight.set(containerId, start);
    this.#step('queued', start, { behind: this.#admission.queued });
    const work: Work = { kind: 'start', ...request.urgency, run: () => this.#carryOut(start, bytes) };
    void start.call.ended.then(() => this.#admission.withdraw(work));
    void this.#admission.admit(work);
    return start;
  }

  /** The one upstream call. @returns Whether it succeeded. */
  async #carryOut(start: Start<Origin, Answer>, bytes: Buffer): Promise<boolean> {
    const { call } = start;
    this.#abandoned.delete(call);
    if (this.#closed || call.unaskedFor(this.#options.holdTtlMs)) call.fail(new DroppedError());
    if (!call.inFlight) return false;
    const running = call.run(this.#options.creationTimeoutMs, (signal) =>
      this.#runtime.start(bytes, start.origin, signal),
    );
    this.#step('started', start);
    await running;
    return call.result !== undefined;
  }

  #succeeded(start: Start<Origin, Answer>, waiters: number): void {
    this.#inFlight.delete(start.containerId);
    this.#finished.set(start.containerId, start);
    this.#step(waiters > 0 ? 'answered' : 'held', start, { waiters });
  }

  #failed(start: Start<Origin, Answer>, error: unknown, waiters: number): void {
    this.#inFlight.delete(start.containerId);
    this.#abandoned.delete(start.call);
    this.#step(failureStep(error), start, { waiters, error });
  }

  #grant(start: Start<Origin, Answer>, role: StartGrant<Answer>['role'], answer: Answer): StartGrant<Answer> {
    return {
      role,
      answer,
      settle: (delivered) => {
        if (!delivered || this.#finished.peek(start.containerId) !== start) return;
        this.#finished.delete(start.containerId);
        this.#step('delivered', start);
      },
    };
  }
}
