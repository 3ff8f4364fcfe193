/**
 * Tells work that hangs from work that is slow: what takes far longer than others of its sort do now. It no longer counts as load, and
 * where others succeed all the while it may be given up. Knows neither the limit nor the queue.
 */
import type { Clock } from '../clock.js';
import { RecentTimes } from './recent-times.js';
import type { Work } from './work-queue.js';

export interface HungWorkOptions {
  /** Before anything of its sort is known: work that took more than this share of its deadline hangs; above 0, at most 1. */
  readonly deadlineShare: number;
  /** How much of what hangs does not count as load; whatever hangs beside it keeps its place. */
  readonly most: number;
  /** Undefined: nothing is given up. */
  readonly giveUp: GiveUpOptions | undefined;
}

export interface GiveUpOptions {
  /** Work may take so many times as long as others of its sort did. */
  readonly times: number;
  /** And at least this long, in ms; undefined: twice its deadline (the first of its sort: six times), but no less than 30 s. */
  readonly leastMs: number | undefined;
}

/** What hangs took more than this many times as long as its sort did lately. */
const timesUsual = 2;

/** And at least this long, in ms: a sort that takes a few ms may take a second without anything being wrong. */
const leastMs = 2_000;

/** Before anything of its sort is known nothing keeps others waiting for longer, in ms: on a node that starts, all may hang. */
const unknownMs = 4_000;

/** While the node is short of something, what hangs and what is slow are told apart as soon as it is not, in ms. */
const lookAgainMs = 1_000;

/** See {@link GiveUpOptions.leastMs}. Whoever waits shall have asked once more by then, and a slow CNI plugin have ended. */
const deadlines = 2;
const leastGiveUpMs = 30_000;

/** The same where there is nothing to compare it with. With a kubelet's default of 4 min that is longer than `creation-timeout`. */
const deadlinesOfFirst = 6;

/** What was given up and made anew may take this many times as long each time, so that what is slow after all gets done. */
const morePatience = 4;

/** Work that began no longer than this before another, in ms, began at the same time as far as the node is concerned. */
const sameTimeMs = 1_000;

interface Running {
  readonly work: Work;
  readonly sort: string;
  readonly beganMs: number;
  readonly deadlineMs: number;
  /** Told once that it hangs. */
  readonly hangs: () => void;
  /** Since when it counts as hung, in ms of the clock. */
  hungSinceMs: number | undefined;
  isGivenUp: boolean;
  /** Work of its sort has succeeded that began no earlier. */
  isOvertaken: boolean;
  /** The same of work that began when this counted as hung. What it takes in the end is not what work takes now. */
  isLeftBehind: boolean;
}

export class HungWork {
  readonly #clock: Clock;
  readonly #options: HungWorkOptions;
  readonly #isShort: () => boolean;
  /** Of what was not left behind. */
  readonly #times = new RecentTimes();
  /** Of all: some work is slow by itself, and what is as slow is not given up for it. */
  readonly #allTimes = new RecentTimes();
  readonly #running = new Set<Running>();
  readonly #countOfSort = new Map<string, number>();
  #hung = 0;
  #isClosed = false;
  /** When the timer is due, in ms of the clock. */
  #lookMs = Number.POSITIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;

  /** @param isShort Whether the node is short of something now, so that all it does is slow. */
  constructor(clock: Clock, options: HungWorkOptions, isShort: () => boolean) {
    this.#clock = clock;
    this.#options = options;
    this.#isShort = isShort;
  }

  /** Work that hangs now, as far as it does not count as load. */
  get size(): number {
    return this.#hung;
  }

  /**
   * Work begins.
   *
   * @param hangs Called at most once, when it no longer counts as load.
   * @returns To be called once, when it has ended: whether it did what it was to do. Gives whether it did, and what it took tells
   *   something of the node.
   */
  begin(work: Work, hangs: () => void): (succeeded: boolean) => boolean {
    const running: Running = {
      work,
      sort: sortOf(work),
      beganMs: this.#clock.now(),
      deadlineMs: work.deadlineMs ?? Number.POSITIVE_INFINITY,
      hangs,
      hungSinceMs: undefined,
      isGivenUp: false,
      isOvertaken: false,
      isLeftBehind: false,
    };
    this.#running.add(running);
    this.#count(running, 1);
    // Nothing else is due any earlier for it.
    this.#lookBy(Math.min(this.#hangsMs(running, running.beganMs), this.#givenUpMs(running)));
    return (succeeded) => {
      this.#running.delete(running);
      this.#count(running, -1);
      if (running.hungSinceMs !== undefined) this.#hung -= 1;
      if (succeeded) this.#succeeded(running);
      this.#look();
      return succeeded && !running.isLeftBehind;
    };
  }

  /** Ends its timer. Nothing hangs or is given up any more. */
  close(): void {
    this.#isClosed = true;
    this.#cancelTimer?.();
  }

  #count({ sort }: Running, by: 1 | -1): void {
    const count = (this.#countOfSort.get(sort) ?? 0) + by;
    if (count === 0) this.#countOfSort.delete(sort);
    else this.#countOfSort.set(sort, count);
  }

  #succeeded({ sort, beganMs, isLeftBehind }: Running): void {
    const tookMs = this.#clock.now() - beganMs;
    this.#allTimes.succeeded(sort, tookMs);
    if (!isLeftBehind) this.#times.succeeded(sort, tookMs);
    for (const other of this.#running) {
      if (other.sort !== sort) continue;
      if (beganMs >= other.beganMs - sameTimeMs) other.isOvertaken = true;
      if (beganMs >= (other.hungSinceMs ?? Number.POSITIVE_INFINITY)) other.isLeftBehind = true;
    }
  }

  /** Tells what hangs, gives up what is to be given up, and looks again when the next may be due. */
  #look(): void {
    if (this.#isClosed) return;
    const nowMs = this.#clock.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const running of [...this.#running]) {
      const hangsMs = this.#hangsMs(running, nowMs);
      if (hangsMs <= nowMs) this.#nowHangs(running, nowMs);
      else nextMs = Math.min(nextMs, hangsMs);
      const givenUpMs = this.#givenUpMs(running);
      if (givenUpMs <= nowMs) this.#nowGivenUp(running, nowMs);
      else nextMs = Math.min(nextMs, givenUpMs);
    }
    this.#cancelTimer?.();
    this.#lookMs = Number.POSITIVE_INFINITY;
    this.#lookBy(nextMs);
  }

  #lookBy(dueMs: number): void {
    if (this.#isClosed || dueMs >= this.#lookMs) return;
    this.#cancelTimer?.();
    this.#lookMs = dueMs;
    this.#cancelTimer = this.#clock.after(dueMs - this.#clock.now(), () => this.#look());
  }

  /** When it counts as hung or is to be looked at again, in ms of the clock. */
  #hangsMs({ sort, beganMs, deadlineMs, hungSinceMs, isOvertaken }: Running, nowMs: number): number {
    if (hungSinceMs !== undefined || this.#hung >= this.#options.most) return Number.POSITIVE_INFINITY;
    const longestMs = this.#times.longestMs(sort);
    const lateMs = deadlineMs * this.#options.deadlineShare;
    const tooLongMs = longestMs === undefined ? Math.min(unknownMs, lateMs) : timesUsual * longestMs;
    const dueMs = beganMs + Math.max(leastMs, tooLongMs);
    if (isOvertaken || !this.#isShort()) return dueMs;
    return Math.max(dueMs, Math.min(beganMs + lateMs, nowMs + lookAgainMs));
  }

  #nowHangs(running: Running, nowMs: number): void {
    const { work, sort, beganMs, hangs } = running;
    running.hungSinceMs = nowMs;
    this.#hung += 1;
    work.hangs?.({ tookMs: nowMs - beganMs, usualMs: this.#times.longestMs(sort) });
    hangs();
  }

  /** When it is given up, in ms of the clock. */
  #givenUpMs(running: Running): number {
    const { giveUp } = this.#options;
    const { work, beganMs, deadlineMs, isGivenUp, isOvertaken } = running;
    if (giveUp === undefined || work.giveUp === undefined || isGivenUp) return Number.POSITIVE_INFINITY;
    if (!isOvertaken && !this.#isFirstOfItsSort(running)) return Number.POSITIVE_INFINITY;
    const atLeastMs =
      giveUp.leastMs ?? Math.max(leastGiveUpMs, (isOvertaken ? deadlines : deadlinesOfFirst) * deadlineMs);
    const patienceMs = Math.max(atLeastMs, giveUp.times * (this.#allTimes.longestMs(running.sort) ?? 0));
    return beganMs + patienceMs * morePatience ** (work.givenUp ?? 0);
  }

  /** With nothing to compare it with: whether it hangs or is slow, one more try tells. */
  #isFirstOfItsSort({ sort, work: { givenUp = 0 } }: Running): boolean {
    return givenUp === 0 && this.#allTimes.longestMs(sort) === undefined && this.#countOfSort.get(sort) === 1;
  }

  #nowGivenUp(running: Running, nowMs: number): void {
    running.isGivenUp = true;
    running.work.giveUp?.({ tookMs: nowMs - running.beganMs, usualMs: this.#allTimes.longestMs(running.sort) });
  }
}

/** What takes about as long. */
function sortOf({ kind, handler = '' }: Work): string {
  return `${kind} ${handler}`;
}
