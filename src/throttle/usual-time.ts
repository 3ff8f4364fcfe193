/** How long work of each kind takes when it is quick: the lowest mean of several in a row, since a single one may be quick by chance. */
import type { WorkKind } from './work-queue.js';

/** Work that makes up one mean. */
const batch = 8;

/** Fewer than this say nothing. */
const least = 3;

interface Times {
  sumMs: number;
  count: number;
  lowestMeanMs: number | undefined;
}

export class UsualTime {
  readonly #times = new Map<WorkKind, Times>();

  add(kind: WorkKind, tookMs: number): void {
    const times = this.#times.get(kind) ?? { sumMs: 0, count: 0, lowestMeanMs: undefined };
    this.#times.set(kind, times);
    times.sumMs += tookMs;
    times.count += 1;
    if (times.count < batch) return;
    times.lowestMeanMs = Math.min(times.sumMs / times.count, times.lowestMeanMs ?? Number.POSITIVE_INFINITY);
    times.sumMs = 0;
    times.count = 0;
  }

  /** @returns ms; undefined while too little of this kind has ended. */
  of(kind: WorkKind): number | undefined {
    const { sumMs = 0, count = 0, lowestMeanMs } = this.#times.get(kind) ?? {};
    return lowestMeanMs ?? (count < least ? undefined : sumMs / count);
  }
}
