/**
 * What creations and starts have in common: detached calls that wait for admission with their request, are bounded while nobody waits
 * for them, dropped where nobody has asked for long, and let go of their request when they have ended.
 */
import type { Clock } from '../clock.js';
import type { Admission } from '../throttle/admission.js';
import type { Overdue, Urgency, Work, WorkKind } from '../throttle/work-queue.js';
import { AbandonedCalls, maxAbandonedBytes } from './abandoned-calls.js';
import { type again, DetachedCall, type DetachedCallEvents, DroppedError, GivenUpError } from './detached-call.js';

export interface DetachedCallsOptions {
  readonly creationTimeoutMs: number;
  /** How long a queued call is kept that nobody asks for, in ms. */
  readonly holdTtlMs: number;
  /** How many queued calls are kept that nobody waits for. */
  readonly maxEntries: number;
}

/** How a call is carried out. */
export interface Job<Result> {
  readonly kind: WorkKind;
  readonly handler?: string | undefined;
  /** See {@link Work.isQuick}. */
  readonly isQuick?: boolean;
  /** How often it was given up before. */
  readonly timesGivenUp?: number;
  /** Of the newest request. Its importance is asked when the call is queued, its deadline when it is its turn. */
  urgency(): Urgency;
  /** Asked when it is its turn. Where it says no, the call is queued no more, and is for its owner to queue again. */
  mayBegin?(): boolean;
  /** The upstream call is about to be made. */
  begun(): void;
  /** The upstream call. @param request The downstream's own bytes. */
  perform(request: Buffer, signal: AbortSignal): Promise<Result | typeof again>;
  /** `perform` gave `again`, or it was given up: the call is for its owner to queue again. */
  again?(): void;
  /** It takes so long that the work of others no longer waits for it. */
  hangs(overdue: Overdue): void;
  /** It took far longer than others and is cut short. Without it, it never is. */
  givenUp?(overdue: Overdue): void;
}

/** A kubelet that still wants something asks for it every 10 to 15 s. What it has not asked for in so long is not made anew, in ms. */
const forgottenMs = 60_000;

interface Queued {
  /** The downstream's own bytes: what goes upstream. */
  request: Buffer;
  /** While it is in the queue. */
  work: Work | undefined;
  /** Once it has been its turn. */
  admitted: Work | undefined;
}

export class DetachedCalls<Result> {
  readonly #admission: Admission;
  readonly #clock: Clock;
  readonly #options: DetachedCallsOptions;
  readonly #abandoned: AbandonedCalls;
  /** Calls that have not ended. */
  readonly #open = new Map<DetachedCall<Result>, Queued>();
  #closed = false;

  constructor(admission: Admission, clock: Clock, options: DetachedCallsOptions) {
    this.#admission = admission;
    this.#clock = clock;
    this.#options = options;
    this.#abandoned = new AbandonedCalls(options.maxEntries, maxAbandonedBytes);
  }

  /** A call that has not begun and has no place in the queue yet. */
  open(request: Buffer, events: DetachedCallEvents<Result>): DetachedCall<Result> {
    const queued: Queued = { request, work: undefined, admitted: undefined };
    const call: DetachedCall<Result> = new DetachedCall<Result>(this.#clock, {
      waiterJoined: (waiters) => {
        this.#abandoned.delete(call);
        this.#noteAwaited(queued, waiters);
        events.waiterJoined?.(waiters);
      },
      waiterLeft: (waiters) => {
        this.#noteAbandoned(call, queued);
        this.#noteAwaited(queued, waiters);
        events.waiterLeft(waiters);
      },
      succeeded: (result, waiters) => {
        this.#release(call);
        events.succeeded(result, waiters);
      },
      failed: (error, waiters) => {
        this.#release(call);
        events.failed(error, waiters);
      },
      faulted: (error) => {
        // First: what met the fault may be the release.
        events.faulted?.(error);
        this.#release(call);
      },
    });
    this.#open.set(call, queued);
    return call;
  }

  /** Takes another request for one that has not begun. */
  replace(call: DetachedCall<Result>, request: Buffer): void {
    const queued = this.#open.get(call);
    if (queued !== undefined) queued.request = request;
  }

  /** Whether the call waits for its turn. */
  isQueued(call: DetachedCall<Result>): boolean {
    return this.#open.get(call)?.work !== undefined;
  }

  /** What it is to the admission: while it waits for its turn, and from its turn on until it has ended. */
  workOf(call: DetachedCall<Result>): Work | undefined {
    const queued = this.#open.get(call);
    return queued?.work ?? queued?.admitted;
  }

  /** Gives a call that has not begun a place in the queue, its only one; it is carried out when it is its turn. */
  queue(call: DetachedCall<Result>, job: Job<Result>): void {
    const queued = this.#open.get(call);
    if (queued === undefined || call.phase !== 'queued') return;
    this.withdraw(call);
    const { kind, handler, isQuick = false, timesGivenUp = 0, givenUp } = job;
    const work: Work = {
      kind,
      handler,
      isQuick,
      importance: job.urgency().importance,
      get deadlineMs() {
        return job.urgency().deadlineMs;
      },
      get isAwaited() {
        return call.waiters > 0;
      },
      get isForgotten() {
        return call.unaskedFor(forgottenMs);
      },
      givenUp: timesGivenUp,
      run: () => this.#carryOut(call, queued, job),
      hangs: (overdue) => job.hangs(overdue),
      ...(givenUp && {
        giveUp: (overdue) => {
          call.giveUp(new GivenUpError(overdue.tookMs));
          givenUp(overdue);
        },
      }),
    };
    queued.work = work;
    // It rejects for a fault alone.
    this.#admission.admit(work).catch((error) => call.fail(error));
  }

  /** Takes it out of the queue again. */
  withdraw(call: DetachedCall<Result>): void {
    const queued = this.#open.get(call);
    if (queued?.work === undefined) return;
    this.#admission.withdraw(queued.work);
    queued.work = undefined;
  }

  /** Cuts short what runs upstream; what is queued will not run. */
  close(): void {
    this.#closed = true;
    for (const call of [...this.#open.keys()]) call.shutDown();
  }

  /** The one upstream call. @returns Whether it succeeded. */
  async #carryOut(call: DetachedCall<Result>, queued: Queued, job: Job<Result>): Promise<boolean> {
    queued.admitted = queued.work;
    queued.work = undefined;
    this.#abandoned.delete(call);
    if (this.#closed) {
      call.shutDown();
      return false;
    }
    if (call.unaskedFor(this.#options.holdTtlMs)) {
      call.fail(new DroppedError('nobody asked for it any more'));
      return false;
    }
    if (job.mayBegin?.() === false) {
      this.#noteAbandoned(call, queued);
      return false;
    }
    // First: where it throws, nothing has gone upstream.
    job.begun();
    await call.run(this.#options.creationTimeoutMs, (signal) => job.perform(queued.request, signal));
    if (call.phase === 'queued') {
      this.#noteAbandoned(call, queued);
      if (call.givenUp && call.unaskedFor(forgottenMs)) call.fail(new DroppedError('nobody asked for it any more'));
      else job.again?.();
    }
    return call.phase === 'succeeded';
  }

  /** What somebody waits for goes first, and may have the place of what nobody waits for. */
  #noteAwaited({ work, admitted }: Queued, waiters: number): void {
    const asked = work ?? admitted;
    if (asked !== undefined && waiters <= 1) this.#admission.moved(asked);
  }

  #noteAbandoned(call: DetachedCall<Result>, { request }: Queued): void {
    if (call.waiters === 0 && call.phase === 'queued') this.#abandoned.add(call, request.length);
  }

  #release(call: DetachedCall<Result>): void {
    this.#abandoned.delete(call);
    this.withdraw(call);
    this.#open.delete(call);
  }
}
