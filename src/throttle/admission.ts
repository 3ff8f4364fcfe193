/**
 * Decides when new work may begin. It holds work back and never refuses it. Knows classes of work, not what the work is.
 *
 * Work has a place from its begin until it ends or hangs: a shared one, as many as the limit says, or one of those that only the node's
 * own pods get. What nobody waits for any more keeps its place, but lends one to what somebody does wait for. So at most limit + what it
 * lets be lent + own places + `hung.most` are in flight, and where as much hangs as may and the rest of it keeps its
 * places, one more of each kind of work of which nothing has one.
 */
import pLimit from 'p-limit';
import type { Clock } from '../clock.js';
import type { AdmissionView } from './admission-view.js';
import type { ConcurrencyLimit } from './concurrency-limit.js';
import { HungWork, type HungWorkOptions } from './hung-work.js';
import { Lenders } from './lenders.js';
import { Pace, type PaceOptions } from './pace.js';
import { classOf, isPaced, type PlaceKind, type Work, type WorkClass, WorkQueue } from './work-queue.js';

export interface AdmissionOptions {
  /** How much of a runtime handler runs at once, for those that have a limit of their own. */
  readonly handlerLimits: ReadonlyMap<string, number>;
  /** How fast creations begin; undefined: as fast as the limit allows. */
  readonly pace: PaceOptions | undefined;
  /** Places that only static and critical work gets, beyond the limit and those of handlers. */
  readonly ownPlaces: number;
  readonly hung: HungWorkOptions;
  /** Work begins, `waitedMs` after it was asked for. */
  readonly admitted?: (work: Work, waitedMs: number) => void;
}

interface Waiting {
  readonly sinceMs: number;
  resolve(succeeded: boolean): void;
  reject(error: unknown): void;
}

/** Places of one kind. */
class Places {
  readonly kind: PlaceKind;
  readonly gate: ReturnType<typeof pLimit>;
  count: number;
  taken = 0;
  /** One turn is asked for at a time, and each asks for the next: what goes is chosen when there is a place, not before. */
  turnAsked = false;

  constructor(kind: PlaceKind, count: number) {
    this.kind = kind;
    this.gate = pLimit(count);
    this.count = count;
  }

  get hasRoom(): boolean {
    return this.taken < this.count;
  }

  resize(count: number): void {
    this.count = count;
    this.gate.concurrency = count;
  }
}

export class Admission {
  readonly #limit: ConcurrencyLimit;
  readonly #clock: Clock;
  readonly #options: AdmissionOptions;
  readonly #queue: WorkQueue;
  readonly #waiting = new Map<Work, Waiting>();
  readonly #pace: Pace | undefined;
  readonly #hung: HungWork;
  readonly #lenders: Lenders;
  readonly #shared: Places;
  readonly #own: Places | undefined;
  /** The own ones first: what gets one of them leaves a shared one to others. */
  readonly #places: readonly Places[];
  #cancelPaceTimer: (() => void) | undefined;

  constructor(limit: ConcurrencyLimit, clock: Clock, options: AdmissionOptions) {
    this.#limit = limit;
    this.#clock = clock;
    this.#options = options;
    this.#queue = new WorkQueue(options.handlerLimits);
    this.#pace = options.pace && new Pace(clock, options.pace);
    this.#hung = new HungWork(
      clock,
      options.hung,
      () => limit.isShort,
      () => this.#askTurns(),
    );
    this.#lenders = new Lenders(clock, () => this.#askTurns());
    this.#shared = new Places('shared', limit.value);
    this.#own = options.ownPlaces === 0 ? undefined : new Places('own', options.ownPlaces);
    const [lent, spare] = [new Places('lent', Number.POSITIVE_INFINITY), new Places('spare', Number.POSITIVE_INFINITY)];
    this.#places = [this.#own ?? [], this.#shared, lent, spare].flat();
    limit.onMove = () => this.#shared.resize(limit.value);
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
      this.#askTurns();
    });
  }

  /** Whether somebody waits for it has changed. */
  moved(work: Work): void {
    this.#queue.moved(work);
    this.#lenders.moved(work);
    this.#askTurns();
  }

  /** Takes back work that is queued: it will not run, and its `admit` stays unanswered. Without effect on any other. */
  withdraw(work: Work): void {
    if (this.#waiting.delete(work)) this.#queue.delete(work);
  }

  /** Ends its timers; what is queued stays queued. */
  close(): void {
    this.#limit.close();
    this.#hung.close();
    this.#lenders.close();
    this.#cancelPaceTimer?.();
  }

  /** How much may run at once now. */
  get limit(): number {
    return this.#limit.value;
  }

  /** Work that has a place now. */
  get inFlight(): number {
    return this.#places.reduce((total, { taken }) => total + taken, 0);
  }

  /** Work that runs without a place, for it hangs. */
  get hung(): number {
    return this.#hung.size;
  }

  /** Work that waits for its turn. */
  get queued(): number {
    return this.#waiting.size;
  }

  /** Work that waits for its turn, by class. */
  get queuedByClass(): Readonly<Record<WorkClass, number>> {
    return this.#queue.sizes;
  }

  /** What waits and what hangs, as it is now. */
  view(): AdmissionView {
    const waiting = this.#queue.inOrder.flatMap((work) => {
      const sinceMs = this.#waiting.get(work)?.sinceMs;
      return sinceMs === undefined ? [] : [{ work, sinceMs }];
    });
    const places = waiting.map(
      ({ work, sinceMs }, before) => [work, { before, class: classOf(work), sinceMs }] as const,
    );
    return { places: new Map(places), hungSinceMs: this.#hung.since };
  }

  #askTurns(): void {
    for (const places of this.#places) this.#askTurn(places);
  }

  #askTurn(places: Places): void {
    const { kind: place, turnAsked, gate } = places;
    if (turnAsked || !this.#isThere(places)) return;
    const waitMs = this.#pace?.waitMs ?? 0;
    if (this.#queue.mayTake({ place, paceAllows: waitMs === 0 })) {
      places.turnAsked = true;
      void gate(() => this.#takeTurn(places));
    } else if (this.#queue.mayTake({ place, paceAllows: true })) {
      this.#cancelPaceTimer ??= this.#clock.after(waitMs, () => {
        this.#cancelPaceTimer = undefined;
        this.#askTurns();
      });
    }
  }

  /** Whether there are such places now. */
  #isThere({ kind, taken }: Places): boolean {
    if (kind === 'spare') return this.#hung.isFull;
    if (kind !== 'lent') return true;
    return taken < Math.min(this.#lenders.count, this.#limit.lendable);
  }

  async #takeTurn(places: Places): Promise<void> {
    places.turnAsked = false;
    const place = places.kind;
    const paceAllows = (this.#pace?.waitMs ?? 0) === 0;
    // What came since the turn was asked for may have a place of its own.
    const yields = place !== 'own' && this.#own?.hasRoom && this.#queue.mayTake({ place: 'own', paceAllows });
    // The limit may have gone down since the turn was given.
    const work = places.hasRoom && !yields ? this.#queue.take({ place, paceAllows }) : undefined;
    const waiting = work && this.#waiting.get(work);
    if (work === undefined || waiting === undefined) return this.#askTurns();
    this.#waiting.delete(work);
    if (isPaced(work)) this.#pace?.take();
    this.#options.admitted?.(work, this.#clock.now() - waiting.sinceMs);
    places.taken += 1;
    if (place === 'shared') this.#lenders.add(work);
    this.#askTurns();

    await this.#whileInPlace(work, waiting);
    places.taken -= 1;
    this.#lenders.delete(work);
    this.#queue.leftPlace(work, place);
    this.#askTurns();
  }

  /** Runs it. Resolves when it has ended or hangs. */
  #whileInPlace(work: Work, waiting: Waiting): Promise<void> {
    return new Promise((leave) => {
      const counted = this.#limit.begin(work);
      const running = (async () => work.run())();
      const ended = this.#hung.begin(work, () => {
        counted.hangs();
        leave();
      });
      const end = (succeeded: boolean) => {
        counted.ended(ended(succeeded));
        leave();
      };
      running.then(end, () => end(false));
      running.then(waiting.resolve, waiting.reject);
    });
  }
}
