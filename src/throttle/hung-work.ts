/**
 * Tells work that hangs from work that is slow: what takes far longer than others of its sort do now. It no longer counts as load, and
 * where others succeed all the while it may be given up. Knows neither the limit nor the queue.
 *
 * Work is proven to be stuck where others of its sort that began no earlier took half as long or less. Without that it may be slow like
 * all, so only little of it counts as hung at once.
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

/** How much of a sort may count as hung that is not proven to be. More places than a few times the least limit would be no limit. */
const mostUnproven = 16;

/** A success teaches at most this many times what would have counted as hung when it began: one outage says little of the next. */
const teachesAtMost = 2;

/** While the node is short of something, what hangs and what is slow are told apart as soon as it is not, in ms. */
const lookAgainMs = 1_000;

/** When what may not count as hung for now is looked at again, in ms. */
const fullForMs = 5_000;

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
  /** The longest it may say work of its sort takes, in ms. */
  readonly teachesMs: number;
  /** Told once that it hangs. */
  readonly hangs: () => void;
  /** Since when it counts as hung, in ms of the clock. */
  hungSinceMs: number | undefined;
  isGivenUp: boolean;
  /** Of work of its sort that succeeded and began no earlier: when the first did, in ms of the clock, and the least that one took, in ms. */
  overtaken: { readonly sinceMs: number; readonly byMs: number } | undefined;
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
  #isFull = false;
  #isClosed = false;
  /** When the timer is due, in ms of the clock. */
  #lookMs = Number.POSITIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;

  readonly #becameFull: () => void;

  /**
   * @param isShort Whether the node is short of something now, so that all it does is slow.
   * @param becameFull Told when `isFull` begins.
   */
  constructor(clock: Clock, options: HungWorkOptions, isShort: () => boolean, becameFull: () => void) {
    this.#clock = clock;
    this.#options = options;
    this.#isShort = isShort;
    this.#becameFull = becameFull;
  }

  /** Whether some work keeps its place only since as much hangs as may. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Work that hangs now, as far as it does not count as load. */
  get size(): number {
    return this.#hung;
  }

  /** What hangs and does not count as load, and since when, in ms of the clock. */
  get since(): ReadonlyMap<Work, number> {
    const since = new Map<Work, number>();
    for (const { work, hungSinceMs } of this.#running) if (hungSinceMs !== undefined) since.set(work, hungSinceMs);
    return since;
  }

  /**
   * Work begins.
   *
   * @param hangs Called at most once, when it no longer counts as load.
   * @returns To be called once, when it has ended: whether it did what it was to do. Gives whether it did, and what it took tells
   *   something of the node.
   */
  begin(work: Work, hangs: () => void): (succeeded: boolean) => boolean {
    const sort = sortOf(work);
    const running: Running = {
      work,
      sort,
      beganMs: this.#clock.now(),
      deadlineMs: work.deadlineMs ?? Number.POSITIVE_INFINITY,
      teachesMs: teachesAtMost * this.#tooLongMs(sort, unknownMs),
      hangs,
      hungSinceMs: undefined,
      isGivenUp: false,
      overtaken: undefined,
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

  #succeeded({ sort, beganMs, isLeftBehind, teachesMs }: Running): void {
    const nowMs = this.#clock.now();
    const tookMs = nowMs - beganMs;
    this.#allTimes.succeeded(sort, tookMs);
    if (!isLeftBehind) this.#times.succeeded(sort, Math.min(tookMs, teachesMs));
    for (const other of this.#running) {
      if (other.sort !== sort) continue;
      if (beganMs >= other.beganMs - sameTimeMs) {
        const { sinceMs = nowMs, byMs = tookMs } = other.overtaken ?? {};
        other.overtaken = { sinceMs, byMs: Math.min(byMs, tookMs) };
      }
      if (beganMs >= (other.hungSinceMs ?? Number.POSITIVE_INFINITY)) other.isLeftBehind = true;
    }
  }

  /** Tells what hangs, gives up what is to be given up, and looks again when the next may be due. */
  #look(): void {
    if (this.#isClosed) return;
    const nowMs = this.#clock.now();
    let nextMs = Number.POSITIVE_INFINITY;
    let isFull = false;
    const unproven = this.#unprovenBySort(nowMs);
    for (const running of [...this.#running]) {
      const hangsMs = this.#hangsMs(running, nowMs);
      if (hangsMs > nowMs) nextMs = Math.min(nextMs, hangsMs);
      else {
        const proven = isProven(running, nowMs);
        const others = unproven.get(running.sort) ?? 0;
        if (this.#hung < this.#options.most && (proven || others < mostUnproven)) {
          this.#nowHangs(running, nowMs);
          if (!proven) unproven.set(running.sort, others + 1);
        } else {
          isFull = true;
          if (!proven) nextMs = Math.min(nextMs, provenMs(running));
        }
      }
      const givenUpMs = this.#givenUpMs(running);
      if (givenUpMs <= nowMs) this.#nowGivenUp(running, nowMs);
      else nextMs = Math.min(nextMs, givenUpMs);
    }
    if (isFull) this.#giveUpForgotten(nowMs);
    this.#cancelTimer?.();
    this.#lookMs = Number.POSITIVE_INFINITY;
    this.#lookBy(isFull ? Math.min(nextMs, nowMs + fullForMs) : nextMs);
    const becomesFull = isFull && !this.#isFull;
    this.#isFull = isFull;
    if (becomesFull) this.#becameFull();
  }

  /** What counts as hung and is not proven to be. */
  #unprovenBySort(nowMs: number): Map<string, number> {
    const counts = new Map<string, number>();
    for (const running of this.#running) {
      const { sort, hungSinceMs } = running;
      if (hungSinceMs !== undefined && !isProven(running, nowMs)) counts.set(sort, (counts.get(sort) ?? 0) + 1);
    }
    return counts;
  }

  #lookBy(dueMs: number): void {
    if (this.#isClosed || dueMs >= this.#lookMs) return;
    this.#cancelTimer?.();
    this.#lookMs = dueMs;
    this.#cancelTimer = this.#clock.after(dueMs - this.#clock.now(), () => this.#look());
  }

  /** When it hangs, if as much may, or is to be looked at again, in ms of the clock. */
  #hangsMs(running: Running, nowMs: number): number {
    const { work, sort, beganMs, deadlineMs, hungSinceMs } = running;
    if (hungSinceMs !== undefined || this.#options.most === 0) return Number.POSITIVE_INFINITY;
    const lateMs = deadlineMs * this.#options.deadlineShare;
    const dueMs = beganMs + this.#tooLongMs(sort, Math.min(unknownMs, lateMs));
    // There is little of the node's own pods, and the node needs them.
    if (work.importance !== undefined || !this.#isShort()) return dueMs;
    return Math.max(dueMs, Math.min(provenMs(running), beganMs + lateMs, nowMs + lookAgainMs));
  }

  /** @param ifUnknownMs Where nothing of its sort has succeeded. */
  #tooLongMs(sort: string, ifUnknownMs: number): number {
    const longestMs = this.#times.longestMs(sort);
    return Math.max(leastMs, longestMs === undefined ? ifUnknownMs : timesUsual * longestMs);
  }

  /** Makes room: what has hung for longest of what is stuck and not wanted any more. A kubelet's own deadline would have ended it. */
  #giveUpForgotten(nowMs: number): void {
    if (this.#options.giveUp === undefined) return;
    for (const running of this.#running) {
      const { work, hungSinceMs, isGivenUp } = running;
      if (hungSinceMs === undefined || !isProven(running, nowMs) || isGivenUp || work.isForgotten !== true) continue;
      if (work.giveUp === undefined) continue;
      this.#nowGivenUp(running, nowMs);
      return;
    }
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
    const { work, sort, beganMs, deadlineMs, isGivenUp, overtaken } = running;
    if (giveUp === undefined || work.giveUp === undefined || isGivenUp) return Number.POSITIVE_INFINITY;
    if (overtaken === undefined && !this.#isFirstOfItsSort(running)) return Number.POSITIVE_INFINITY;
    const atLeast = Math.max(leastGiveUpMs, (overtaken === undefined ? deadlinesOfFirst : deadlines) * deadlineMs);
    const patienceMs = Math.max(giveUp.leastMs ?? atLeast, giveUp.times * (this.#allTimes.longestMs(sort) ?? 0));
    const dueMs = beganMs + patienceMs * morePatience ** (work.givenUp ?? 0);
    // What was waited for may just have come back, for this as for the one that was quicker.
    if (overtaken === undefined) return dueMs;
    return Math.max(dueMs, provenMs(running), overtaken.sinceMs + this.#tooLongMs(sort, unknownMs));
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

/** From when on it is proven to be stuck, in ms of the clock. */
function provenMs({ beganMs, overtaken }: Running): number {
  return overtaken === undefined ? Number.POSITIVE_INFINITY : beganMs + timesUsual * overtaken.byMs;
}

function isProven(running: Running, nowMs: number): boolean {
  return provenMs(running) <= nowMs;
}

/** What takes about as long. */
function sortOf({ kind, handler = '', isQuick = false }: Work): string {
  return `${kind} ${handler} ${isQuick}`;
}
