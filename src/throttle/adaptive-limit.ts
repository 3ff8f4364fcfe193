/**
 * A limit that follows what the node can do: additive increase, multiplicative decrease. It hears of two things: how much of its
 * deadline a piece of work took, and the pressure on cpu, io and memory.
 */
import type { Clock } from '../clock.js';
import type { ConcurrencyLimit, Counted } from './concurrency-limit.js';
import { type Pressure, pressureWindowMs } from './pressure.js';
import { UsualTime } from './usual-time.js';
import type { Work, WorkKind } from './work-queue.js';

export interface AdaptiveLimitOptions {
  readonly start: number;
  readonly least: number;
  readonly most: number;
  /** What the limit is multiplied by when it goes down; above 0, below 1. */
  readonly decreaseFactor: number;
  /** Work that took more than this share of its deadline is late; above 0, at most 1. */
  readonly deadlineShare: number;
  /** Undefined: only deadlines count. */
  readonly pressure?: Pressure | undefined;
  readonly moved?: (move: LimitMove) => void;
}

export interface LimitMove {
  readonly from: number;
  readonly to: number;
  readonly reason: 'work ends in time' | 'the node is idle' | 'work hangs' | 'work is late' | 'pressure';
  readonly detail: Readonly<Record<string, unknown>>;
}

/**
 * Work is late only where it also took more than this many times as long as its kind took when it was quick. If it is slow
 * by itself (a CNI plugin that waits for a controller), less of it at once is not quicker. Twice: where half as much at once
 * takes half as long, as much gets done at either limit, so the best one is between the two.
 */
const slowdownThatCounts = 2;

/**
 * What the limit is multiplied by in a second in which all it allows ran, nothing ended and nothing on the node was short. Such work waits for
 * something else (a CNI controller, a registry, a hung mount), and more of it costs the node nothing.
 */
const idleFactor = 2;

interface Ended {
  readonly kind: WorkKind;
  readonly deadlineMs: number | undefined;
  /** In which it began. */
  readonly round: number;
  readonly tookMs: number;
}

/** How often pressure is read while work runs, in ms. */
const sampleEveryMs = 1_000;

export class AdaptiveLimit implements ConcurrencyLimit {
  onMove: () => void = () => {};
  readonly #clock: Clock;
  readonly #options: AdaptiveLimitOptions;
  #value: number;
  #running = 0;
  /** Counts the moves down. Work that began before the last one ran under another limit. */
  #round = 0;
  #roundBeganMs = Number.NEGATIVE_INFINITY;
  /** Work that ended in this round, whenever it began. */
  #ended = 0;
  /** Work that ended in time, and the most that ran at once, since the limit moved or so much work was counted. */
  #inTime = 0;
  #mostAtOnce = 0;
  /** What the limit went up by since it last went down because the node was idle, and not back for work that hangs. */
  #raisedForIdle = 0;
  /** Of work that began in this round, and in the one before. */
  #usual = { now: new UsualTime(), before: new UsualTime() };
  #sampledMs = Number.NEGATIVE_INFINITY;
  #endedMs = Number.NEGATIVE_INFINITY;
  /** When some work was load last. */
  #loadedMs = Number.NEGATIVE_INFINITY;
  /** The pressure was not read since work began after so long a pause that what it shows is not from work. */
  #workBegins = false;
  #cancelSample: (() => void) | undefined;

  constructor(clock: Clock, options: AdaptiveLimitOptions) {
    this.#clock = clock;
    this.#options = options;
    this.#value = options.start;
  }

  get value(): number {
    return this.#value;
  }

  get isShort(): boolean {
    return this.#options.pressure?.isShort ?? false;
  }

  /** A quarter, but one at least, of a limit of one none; while the node is short of something none. */
  get lendable(): number {
    if (this.isShort || this.#value === 1) return 0;
    return Math.max(1, Math.floor(this.#value / 4));
  }

  begin({ kind, deadlineMs }: Pick<Work, 'kind' | 'deadlineMs'>): Counted {
    const round = this.#round;
    const beganMs = this.#clock.now();
    if (this.#running === 0 && beganMs - this.#loadedMs >= pressureWindowMs) this.#workBegins = true;
    this.#running += 1;
    this.#mostAtOnce = Math.max(this.#mostAtOnce, this.#running);
    this.#keepSampling();
    let isLoad = true;
    const unload = () => {
      if (!isLoad) return;
      isLoad = false;
      this.#running -= 1;
      this.#loadedMs = this.#clock.now();
    };
    return {
      hangs: () => {
        unload();
        this.#takeBack();
      },
      ended: (succeeded) => {
        unload();
        this.#ended += 1;
        this.#endedMs = this.#clock.now();
        if (succeeded) this.#judge({ kind, deadlineMs, round, tookMs: this.#endedMs - beganMs });
      },
    };
  }

  close(): void {
    this.#cancelSample?.();
  }

  /** Only success tells something of the node: what fails or hangs may have reasons of its own. */
  #judge({ kind, deadlineMs = Number.POSITIVE_INFINITY, round, tookMs }: Ended): void {
    const { now, before } = this.#usual;
    const usualMs = now.of(kind) ?? before.of(kind) ?? 0;
    const isOfThisRound = round === this.#round;
    (isOfThisRound ? now : before).add(kind, tookMs);
    const isLate = tookMs > deadlineMs * this.#options.deadlineShare && tookMs > slowdownThatCounts * usualMs;
    // Work from before the limit went down is no reason to go down again, unless it is worse than late.
    const isWorse = tookMs > deadlineMs && this.#ended >= this.#value;
    if (isLate && (isOfThisRound || isWorse)) this.#goDown('work is late', { kind, tookMs, deadlineMs });
    else if (!isLate && isOfThisRound && this.#options.pressure?.over === undefined) this.#endedInTime();
  }

  #endedInTime(): void {
    this.#inTime += 1;
    if (this.#inTime < this.#value) return;
    const wasInUse = this.#mostAtOnce >= this.#value;
    this.#countAnew();
    if (wasInUse) this.#moveUp(this.#value + 1, 'work ends in time');
  }

  #moveUp(to: number, reason: LimitMove['reason']): void {
    const most = Math.min(to, this.#options.most);
    if (most > this.#value) this.#moveTo(most, reason, {});
  }

  #goDown(reason: 'work is late' | 'pressure', detail: LimitMove['detail']): void {
    const to = Math.max(this.#options.least, Math.floor(this.#value * this.#options.decreaseFactor));
    if (to === this.#value) return;
    this.#round += 1;
    this.#raisedForIdle = 0;
    this.#roundBeganMs = this.#clock.now();
    this.#ended = 0;
    this.#usual = { now: new UsualTime(), before: this.#usual.now };
    this.#countAnew();
    this.#moveTo(to, reason, detail);
  }

  /** While it hung and had its place, the limit went up for want of it: not both that and a free place. */
  #takeBack(): void {
    if (this.#raisedForIdle === 0) return;
    this.#raisedForIdle -= 1;
    this.#moveTo(this.#value - 1, 'work hangs', {});
  }

  #countAnew(): void {
    this.#inTime = 0;
    this.#mostAtOnce = this.#running;
  }

  #moveTo(to: number, reason: LimitMove['reason'], detail: LimitMove['detail']): void {
    const from = this.#value;
    this.#value = to;
    this.#options.moved?.({ from, to, reason, detail });
    this.onMove();
  }

  /** Reads the pressure now if it was not read lately, and then for as long as work runs. */
  #keepSampling(): void {
    if (this.#options.pressure === undefined || this.#cancelSample !== undefined) return;
    const dueMs = this.#sampledMs + sampleEveryMs - this.#clock.now();
    if (dueMs > 0) {
      this.#cancelSample = this.#clock.after(dueMs, () => {
        this.#cancelSample = undefined;
        if (this.#running > 0) this.#keepSampling();
      });
      return;
    }
    this.#sampledMs = this.#clock.now();
    this.#options.pressure.sample(this.#sampledMs, this.#workBegins);
    this.#workBegins = false;
    this.#heedPressure(this.#options.pressure);
    this.#keepSampling();
  }

  #heedPressure({ isIdle, over }: Pressure): void {
    const nothingEnds = this.#sampledMs - this.#endedMs >= sampleEveryMs;
    if (isIdle && nothingEnds && this.#running >= this.#value) {
      const from = this.#value;
      this.#moveUp(from * idleFactor, 'the node is idle');
      this.#raisedForIdle += this.#value - from;
    }
    if (over === undefined || this.#mostAtOnce < this.#value || this.#ended < this.#value) return;
    // The average shows what a move has done only after its window; until then another would be for the same reason.
    if (this.#clock.now() - this.#roundBeganMs < pressureWindowMs) return;
    this.#goDown('pressure', { ...over });
  }
}
