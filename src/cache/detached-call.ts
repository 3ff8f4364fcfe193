/**
 * One upstream call that outlives whoever asked for it: waiters come and go, the call is made once and finished. Knows
 * nothing of what the call does.
 */
import type { Clock } from '../clock.js';
import type { Progress } from './progress.js';

/** A waiter's own signal fired first. Nothing is wrong with the call it waited for. */
export class WaiterLeftError extends Error {
  override readonly name = 'WaiterLeftError';
  /** What it waited for, where that is known. */
  readonly progress: Progress | undefined;

  constructor(progress?: Progress) {
    super('the waiter left');
    this.progress = progress;
  }
}

/**
 * Waits for what is done on behalf of a waiter.
 *
 * @param signal The waiter's own deadline or cancel. Firing ends the wait, not what is waited for.
 * @throws {WaiterLeftError} `signal` fired first.
 */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(new WaiterLeftError());
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}

/** The runtime did not answer within Holdfast's own limit (`creationTimeout`). */
export class CallTimeoutError extends Error {
  override readonly name = 'CallTimeoutError';
  constructor(timeoutMs: number) {
    super(`the runtime did not answer within ${timeoutMs} ms (creation-timeout)`);
  }
}

/** The runtime took far longer over it than over others, and is asked anew. */
export class GivenUpError extends Error {
  override readonly name = 'GivenUpError';
  constructor(tookMs: number) {
    super(`the runtime did not answer within ${Math.round(tookMs)} ms, far longer than it takes otherwise`);
  }
}

/** The call was dropped before it began: nobody asked for it any more, or it had become pointless. */
export class DroppedError extends Error {
  override readonly name = 'DroppedError';
}

/** A container was dropped because its pod sandbox was stopped or removed. */
export class PodSandboxEndedError extends DroppedError {
  constructor(podSandboxId: string) {
    super(`holdfast: pod sandbox ${podSandboxId} was stopped or removed before this container was made in it`);
  }
}

/** Holdfast ends; what the runtime makes of a call that is cut short is its own affair. */
export class ShutDownError extends Error {
  override readonly name = 'ShutDownError';
}

/** The step a failure is logged and counted as. */
export function failureStep(error: unknown): 'dropped' | 'timed out' | 'failed' {
  if (error instanceof DroppedError) return 'dropped';
  return error instanceof CallTimeoutError ? 'timed out' : 'failed';
}

/** What the work of a call gives where it has to be done anew: the call is queued again, and its waiters wait on. */
export const again = Symbol('again');

interface Waiter<Result> {
  resolve(result: Result): void;
  reject(error: unknown): void;
}

export interface DetachedCallEvents<Result> {
  waiterJoined?(waiters: number): void;
  waiterLeft(waitersLeft: number): void;
  /** Before any waiter hears of it. */
  succeeded(result: Result, waiters: number): void;
  failed(error: unknown, waiters: number): void;
  /** One of the above threw: what it is about is to be forgotten. The call has ended or is to end. */
  faulted?(error: unknown): void;
}

const nothing = () => {};
const nobody: DetachedCallEvents<unknown> = { waiterLeft: nothing, succeeded: nothing, failed: nothing };

export class DetachedCall<Result> {
  phase: 'queued' | 'running' | 'succeeded' | 'failed' = 'queued';
  /** What the call was answered with, once `phase` is 'succeeded'. */
  result: Result | undefined;
  /** When somebody last asked for it or stopped waiting for it, in ms of the clock. */
  lastAskedMs: number;
  readonly begunMs: number;
  /** When the upstream call began, in ms of the clock; undefined while it is queued. */
  runningSinceMs: number | undefined;
  /** Whether the upstream call was ever begun, so that the runtime may have heard of it. */
  hasBegun = false;
  /** Whether it was cut short to be made anew, and has not begun again. */
  givenUp = false;
  /** Settles, without a value and never with an error, when the call has ended either way. */
  readonly ended: Promise<void>;
  readonly #clock: Clock;
  /** Let go of at the end: an ended call is kept for long and shall be small. */
  #events: DetachedCallEvents<Result>;
  #waiters: Set<Waiter<Result>> | undefined;
  /** Of the call while it runs. */
  #abort: AbortController | undefined;
  #markEnded: () => void = nothing;
  /** What it failed with: it may do so before the first waiter has come. */
  #failure: unknown;

  constructor(clock: Clock, events: DetachedCallEvents<Result>) {
    this.#clock = clock;
    this.#events = events;
    this.begunMs = clock.now();
    this.lastAskedMs = this.begunMs;
    this.ended = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
  }

  get waiters(): number {
    return this.#waiters?.size ?? 0;
  }

  /** Whether nobody has waited for it for longer than `ms`. */
  unaskedFor(ms: number): boolean {
    return this.waiters === 0 && this.#clock.now() - this.lastAskedMs > ms;
  }

  get inFlight(): boolean {
    return this.phase === 'queued' || this.phase === 'running';
  }

  /**
   * Waits for the call's end.
   *
   * @param signal The waiter's own deadline or cancel. Firing ends the wait, not the call.
   * @throws {WaiterLeftError} `signal` fired first.
   * @throws What the call failed with, the same for every waiter.
   */
  join(signal: AbortSignal): Promise<Result> {
    this.lastAskedMs = this.#clock.now();
    return new Promise<Result>((resolve, reject) => {
      if (signal.aborted || this.phase === 'failed') {
        reject(signal.aborted ? new WaiterLeftError() : this.#failure);
        return;
      }
      this.#waiters ??= new Set();
      const waiters = this.#waiters;
      const leave = () => {
        waiters.delete(waiter);
        this.lastAskedMs = this.#clock.now();
        reject(new WaiterLeftError());
        try {
          this.#events.waiterLeft(this.waiters);
        } catch (error) {
          this.#faulted(error);
        }
      };
      const waiter: Waiter<Result> = {
        resolve(result) {
          signal.removeEventListener('abort', leave);
          resolve(result);
        },
        reject(error) {
          signal.removeEventListener('abort', leave);
          reject(error);
        },
      };
      waiters.add(waiter);
      signal.addEventListener('abort', leave, { once: true });
      this.#events.waiterJoined?.(this.waiters);
    });
  }

  /**
   * Makes the call. Never rejects: its end is told to the waiters.
   *
   * @param work Gets a signal that fires at `timeoutMs`, at `giveUp` and at `shutDown`, never because a waiter left. Where it gives
   *   `again` the call is as if it had not begun.
   */
  async run(timeoutMs: number, work: (signal: AbortSignal) => Promise<Result | typeof again>): Promise<void> {
    this.phase = 'running';
    this.hasBegun = true;
    this.givenUp = false;
    this.runningSinceMs = this.#clock.now();
    const abort = new AbortController();
    const { signal } = abort;
    this.#abort = abort;
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    const cancelTimer = this.#clock.after(timeoutMs, () => abort.abort(new CallTimeoutError(timeoutMs)));
    try {
      const result = await Promise.race([work(signal), aborted]);
      if (result === again) this.#queueAgain();
      else this.#succeed(result);
    } catch (error) {
      if (error instanceof GivenUpError && error === signal.reason) this.#queueAgain();
      else this.fail(error);
    } finally {
      cancelTimer();
      this.#abort = undefined;
    }
  }

  /** Cuts what runs upstream short, as if it had not begun. */
  giveUp(error: GivenUpError): void {
    if (this.#abort === undefined) return;
    this.givenUp = true;
    this.#abort.abort(error);
  }

  /** Cuts the call short if it has not ended. */
  shutDown(): void {
    const error = new ShutDownError('Holdfast is shutting down');
    if (this.#abort === undefined) this.fail(error);
    else this.#abort.abort(error);
  }

  /** Ends the call with an error; also the way to end one that has not begun. */
  fail(error: unknown): void {
    if (!this.inFlight) return;
    this.phase = 'failed';
    this.#failure = error;
    const waiters = this.#takeWaiters();
    try {
      this.#events.failed(error, waiters.length);
    } catch (fault) {
      this.#faulted(fault);
    }
    for (const waiter of waiters) waiter.reject(error);
    this.#end();
  }

  /** A listener threw. Whoever waits hears of it: what the listener keeps of the call cannot be relied on. */
  #faulted(error: unknown): void {
    try {
      this.#events.faulted?.(error);
    } catch {
      // What comes of a fault is of no interest beside it; whoever waits must not wait for ever.
    }
    this.fail(error);
  }

  #succeed(result: Result): void {
    if (!this.inFlight) return;
    this.phase = 'succeeded';
    this.result = result;
    const waiters = this.#takeWaiters();
    try {
      this.#events.succeeded(result, waiters.length);
      for (const waiter of waiters) waiter.resolve(result);
    } catch (error) {
      this.#faulted(error);
      for (const waiter of waiters) waiter.reject(error);
    }
    this.#end();
  }

  #queueAgain(): void {
    if (this.phase !== 'running') return;
    this.phase = 'queued';
    this.runningSinceMs = undefined;
  }

  #end(): void {
    this.#events = nobody;
    this.#markEnded();
    this.#markEnded = nothing;
  }

  #takeWaiters(): Waiter<Result>[] {
    const waiters = [...(this.#waiters ?? [])];
    this.#waiters = undefined;
    return waiters;
  }
}
