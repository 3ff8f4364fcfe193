/**
 * A node that gets slower the more it does at once: processor sharing, with a cost of sharing on top. Work under way slows down
 * when other work comes and speeds up when it goes. Knows nothing of what the work is.
 */
import type { Clock } from '../../clock.js';

export interface ContentionOptions {
  /** How much each piece of work at once slows down all of it: `coefficient × (n ÷ capacity − cores)^1.5`, where that is above 0. */
  readonly coefficient: number;
  /** How much work at once is not slowed down. */
  readonly cores: number;
  /** Share of the time in which something else on the node stands still, whatever there is of work, from 0 to 1; default 0. */
  readonly busy?: number;
}

/** As the kernel averages pressure (kernel/sched/psi.c: PSI_FREQ, EXP_10s). */
const averageEveryMs = 2_000;
const keptPerAverage = Math.exp(-2 / 10);

/** Rounding error of progress, in ms. */
const tolerance = 1e-6;

interface Load {
  /** Progress of the node at which it is done, in ms. */
  readonly doneAt: number;
  readonly end: () => void;
}

export class Contention {
  readonly #clock: Clock;
  readonly #options: ContentionOptions;
  readonly #underWay = new Set<Load>();
  /** How long uncontended work would have taken for what each piece under way has got done, since the start, in ms. */
  #progress = 0;
  #capacity = 1;
  #settledMs: number;
  /** Since the last average, and in all. */
  #stalledMs = 0;
  #totalStalledMs = 0;
  #averageDueMs: number;
  #average: number;
  #cancelTimer = (): void => undefined;

  constructor(clock: Clock, options: ContentionOptions) {
    this.#clock = clock;
    this.#options = options;
    this.#settledMs = clock.now();
    this.#averageDueMs = this.#settledMs + averageEveryMs;
    this.#average = options.busy ?? 0;
  }

  /** Work under way. */
  get running(): number {
    return this.#underWay.size;
  }

  /** What the node has of its normal capacity, 1 at first: at 0.5 any number of pieces is slowed down as twice as many were. */
  get capacity(): number {
    return this.#capacity;
  }

  set capacity(capacity: number) {
    this.#change(() => {
      this.#capacity = capacity;
    });
  }

  /** How many times as long as alone work takes now. */
  get slowdown(): number {
    const { coefficient, cores } = this.#options;
    return 1 + coefficient * Math.max(0, this.running / this.#capacity - cores) ** 1.5;
  }

  /** Share of the time in which some of the work, or something else, stands still, from 0 to 1, where each does so by itself. */
  get stalledShare(): number {
    const { busy = 0 } = this.#options;
    return 1 - (1 - busy) * (1 / this.slowdown) ** this.running;
  }

  /** The same, averaged over some 10 s, in percent: what the kernel shows as `avg10`. */
  get avg10(): number {
    this.#settle();
    return 100 * this.#average;
  }

  /** For how long some of the work, or something else, has stood still since the start, in ms. */
  get totalStalledMs(): number {
    this.#settle();
    return this.#totalStalledMs;
  }

  /** Resolves when work that takes `baseMs` alone is done, or when the signal fires: then it is given up. */
  carryOut(baseMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.#settle();
      const work: Load = {
        doneAt: this.#progress + baseMs,
        end: () => {
          signal.removeEventListener('abort', giveUp);
          this.#underWay.delete(work);
          resolve();
        },
      };
      const giveUp = () => this.#change(work.end);
      signal.addEventListener('abort', giveUp);
      this.#change(() => this.#underWay.add(work));
    });
  }

  /** Settles what was got done under the conditions so far, changes them, and waits for the next piece to be done. */
  #change(change: () => void): void {
    this.#settle();
    change();
    this.#cancelTimer();
    const next = Math.min(...[...this.#underWay].map(({ doneAt }) => doneAt));
    if (next !== Infinity) {
      this.#cancelTimer = this.#clock.after((next - this.#progress) * this.slowdown, () => this.#finish());
    }
  }

  #finish(): void {
    this.#change(() => {
      for (const work of this.#underWay) {
        if (work.doneAt <= this.#progress + tolerance) work.end();
      }
    });
  }

  #settle(): void {
    const nowMs = this.#clock.now();
    this.#progress += (nowMs - this.#settledMs) / this.slowdown;
    for (; this.#averageDueMs <= nowMs; this.#averageDueMs += averageEveryMs) {
      this.#stall(this.#averageDueMs);
      this.#average = this.#average * keptPerAverage + (this.#stalledMs / averageEveryMs) * (1 - keptPerAverage);
      this.#stalledMs = 0;
    }
    this.#stall(nowMs);
  }

  #stall(untilMs: number): void {
    const stalledMs = (untilMs - this.#settledMs) * this.stalledShare;
    this.#stalledMs += stalledMs;
    this.#totalStalledMs += stalledMs;
    this.#settledMs = untilMs;
  }
}
