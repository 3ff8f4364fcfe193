/**
 * A limit that follows what the node can do: additive increase, multiplicative decrease. It hears of two things: how much of its
 * deadline a piece of work took, and the pressure on cpu, io and memory.
 */
import type { Clock } from '../clock.js';
import type { ConcurrencyLimit } from './concurrency-limit.js';
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
  readonly reason: 'work ends in time' | 'work is late' | 'pressure';
  readonly detail: Readonly<Record<string, unknown>>;
}

/**
 * Work is late only where it also took more than this many times as long as its kind took when it was quick. If it is slow
 * by itself (a CNI plugin that waits for a controller), less of it at once is not quicker. Twice: where half as much at once
 * takes half as long, as much gets done at either limit, so the best one is between the two.
 */
const slowdownThatCounts = 2;

/** How often pressure is read while work runs, in ms. */
const sampleEveryMs = 1_000;

export class AdaptiveLimit implements ConcurrencyLimit {
  onMove: () => void = () => {};
  readonly #clock: Clock;
  readonly #options: AdaptiveLimitOptions;
  #value: number;
  #running = 0;
  /** Counts the decreases. Only work that began since the last one tells whether the next is needed. */
  #round = 0;
  #roundBeganMs = Number.NEGATIVE_INFINITY;
  /** Work that began and ended in this round. */
  #ended = 0;
  /** Work that ended in time while the limit was in use, since it last moved. */
  #inTime = 0;
  /** Of work that began in this round, and in the one before. */
  #usual = { now: new UsualTime(), before: new UsualTime() };
  #sampledMs = Number.NEGATIVE_INFINITY;
  #cancelSample: (() => void) | undefined;

  constructor(clock: Clock, options: AdaptiveLimitOptions) {
    this.#clock = clock;
    this.#options = options;
    this.#value = options.start;
  }

  get value(): number {
    return this.#value;
  }

  begin({ kind, deadlineMs }: Pick<Work, 'kind' | 'deadlineMs'>): (succeeded: boolean) => void {
    const round = this.#round;
    const beganMs = this.#clock.now();
    this.#running += 1;
    this.#keepSampling();
    let late = false;
    const stopWatch = this.#watch(kind, deadlineMs, (deadline) => {
      late = true;
      const ranMs = this.#clock.now() - beganMs;
      if (round === this.#round) this.#decrease('work is late', { kind, ranMs, deadlineMs: deadline });
    });
    return (succeeded) => {
      stopWatch();
      const inUse = this.#running >= this.#value;
      this.#running -= 1;
      if (!succeeded) return;
      (round === this.#round ? this.#usual.now : this.#usual.before).add(kind, this.#clock.now() - beganMs);
      if (round !== this.#round) return;
      this.#ended += 1;
      if (inUse && !late && this.#options.pressure?.over === undefined) this.#endedInTime();
    };
  }

  close(): void {
    this.#cancelSample?.();
  }

  /** Calls `late` once, as soon as the work is late. @returns stops watching. */
  #watch(kind: WorkKind, deadlineMs: number | undefined, late: (deadlineMs: number) => void): () => void {
    if (deadlineMs === undefined) return () => {};
    const beganMs = this.#clock.now();
    let cancel = () => {};
    const arm = () => {
      const dueMs = beganMs + Math.max(deadlineMs * this.#options.deadlineShare, this.#leastLateMs(kind));
      if (this.#clock.now() >= dueMs) late(deadlineMs);
      else cancel = this.#clock.after(dueMs - this.#clock.now(), arm);
    };
    cancel = this.#clock.after(deadlineMs * this.#options.deadlineShare, arm);
    return () => cancel();
  }

  #leastLateMs(kind: WorkKind): number {
    const usualMs = Math.min(this.#usual.now.of(kind), this.#usual.before.of(kind));
    return Number.isFinite(usualMs) ? slowdownThatCounts * usualMs : 0;
  }

  #endedInTime(): void {
    this.#inTime += 1;
    if (this.#inTime < this.#value || this.#value >= this.#options.most) return;
    this.#move(this.#value + 1, 'work ends in time', {});
  }

  #decrease(reason: 'work is late' | 'pressure', detail: LimitMove['detail']): void {
    const to = Math.max(this.#options.least, Math.floor(this.#value * this.#options.decreaseFactor));
    if (to >= this.#value) return;
    this.#round += 1;
    this.#roundBeganMs = this.#clock.now();
    this.#ended = 0;
    this.#usual = { now: new UsualTime(), before: this.#usual.now };
    this.#move(to, reason, detail);
  }

  #move(to: number, reason: LimitMove['reason'], detail: LimitMove['detail']): void {
    const from = this.#value;
    this.#value = to;
    this.#inTime = 0;
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
    this.#options.pressure.sample();
    this.#heedPressure();
    this.#keepSampling();
  }

  /** The average shows what a move has done only after its window; until then another would be for the same reason. */
  #heedPressure(): void {
    const over = this.#options.pressure?.over;
    if (over === undefined || this.#running < this.#value || this.#ended === 0) return;
    if (this.#clock.now() - this.#roundBeganMs < pressureWindowMs) return;
    this.#decrease('pressure', { ...over });
  }
}
