/**
 * Decides when new work may begin. It holds work back and never refuses it. Knows classes of work, not what the work is.
 */
import pLimit from 'p-limit';
import type { Clock } from '../clock.js';
import type { ConcurrencyLimit } from './concurrency-limit.js';
import { Pace, type PaceOptions } from './pace.js';
import { isPaced, type Work, type WorkClass, WorkQueue } from './work-queue.js';

export interface AdmissionOptions {
  /** How much of a runtime handler runs at once, for those that have a limit of their own. */
  readonly handlerLimits: ReadonlyMap<string, number>;
  /** How fast creations begin; undefined: as fast as the limit allows. */
  readonly pace: PaceOptions | undefined;
  /**
   * Work that takes longer goes on without its place, in ms: what hangs in the runtime must not keep back the rest of the node.
   */
  readonly placeMs: number;
  /** Work begins, `waitedMs` after it was asked for. */
  readonly admitted?: (work: Work, waitedMs: number) => void;
}

interface Waiting {
  readonly sinceMs: number;
  resolve(succeeded: boolean): void;
  reject(error: unknown): void;
}

export class Admission {
  readonly #limit: ConcurrencyLimit;
  readonly #clock: Clock;
  readonly #options: AdmissionOptions;
  readonly #queue: WorkQueue;
  readonly #waiting = new Map<Work, Waiting>();
  readonly #pace: Pace | undefined;
  readonly #gate: ReturnType<typeof pLimit>;
  #running = 0;
  /** One turn is asked for at a time, and each asks for the next: what goes is chosen when there is a place, not before. */
  #turnAsked = false;
  #cancelPaceTimer: (() => void) | undefined;

  constructor(limit: ConcurrencyLimit, clock: Clock, options: AdmissionOptions) {
    this.#limit = limit;
    this.#clock = clock;
    this.#options = options;
    this.#queue = new WorkQueue(options.handlerLimits);
    this.#pace = options.pace && new Pace(clock, options.pace);
    this.#gate = pLimit(limit.value);
    limit.onMove = () => {
      this.#gate.concurrency = limit.value;
    };
  }

  /**
   * Runs `work` when it may go; what it was queued behind does not depend on who still waits for it.
   *
   * @returns Settles as `work.run()` does.
   */
  admit(work: Work): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(work, { sinceMs: this.#clock.now(), resolve, reject });
      this.#queue.add(work);
      this.#askTurn();
    });
  }

  /** Takes back work that is queued: it will not run, and its `admit` stays unanswered. Without effect on any other. */
  withdraw(work: Work): void {
    if (this.#waiting.delete(work)) this.#queue.delete(work);
  }

  /** Ends its timers; what is queued stays queued. */
  close(): void {
    this.#limit.close();
    this.#cancelPaceTimer?.();
  }

  /** How much may run at once now. */
  get limit(): number {
    return this.#limit.value;
  }

  /** Work that has a place now. */
  get inFlight(): number {
    return this.#running;
  }

  /** Work that waits for its turn. */
  get queued(): number {
    return this.#waiting.size;
  }

  /** Work that waits for its turn, by class. */
  get queuedByClass(): Readonly<Record<WorkClass, number>> {
    return this.#queue.sizes;
  }

  #askTurn(): void {
    if (this.#turnAsked) return;
    const waitMs = this.#pace?.waitMs ?? 0;
    if (this.#queue.mayTake(waitMs === 0)) {
      this.#turnAsked = true;
      void this.#gate(() => this.#takeTurn());
    } else if (this.#queue.mayTake(true)) {
      this.#cancelPaceTimer ??= this.#clock.after(waitMs, () => {
        this.#cancelPaceTimer = undefined;
        this.#askTurn();
      });
    }
  }

  async #takeTurn(): Promise<void> {
    this.#turnAsked = false;
    // The limit may have gone down since the turn was given.
    const hasPlace = this.#running < this.#limit.value;
    const work = hasPlace ? this.#queue.take((this.#pace?.waitMs ?? 0) === 0) : undefined;
    const waiting = work && this.#waiting.get(work);
    if (work === undefined || waiting === undefined) return this.#askTurn();
    this.#waiting.delete(work);
    if (isPaced(work)) this.#pace?.take();
    this.#options.admitted?.(work, this.#clock.now() - waiting.sinceMs);
    this.#askTurn();

    this.#running += 1;
    const end = this.#limit.begin(work);
    const running = (async () => work.run())();
    running.then(end, () => end(false));
    running.then(waiting.resolve, waiting.reject);
    await this.#whileInPlace(running);
    this.#running -= 1;
    this.#queue.ended(work);
    this.#askTurn();
  }

  /** Until it has ended or has had its place for long enough. */
  #whileInPlace(running: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#clock.after(this.#options.placeMs, resolve);
      const leave = () => {
        cancel();
        resolve();
      };
      running.then(leave, leave);
    });
  }
}
