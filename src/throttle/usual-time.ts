/** How long work of each kind took when it was quick: the lowest mean of a few in a row, since a single one may be quick by chance. */
import type { WorkKind } from './work-queue.js';

/** Work that makes up one mean. */
const batch = 8;

interface Times {
  sumMs: number;
  count: number;
  leastMs: number | undefined;
}

export class UsualTime {
  readonly #times = new Map<WorkKind, Times>();

  add(kind: WorkKind, tookMs: number): void {
    const times = this.#times.get(kind) ?? { sumMs: 0, count: 0, leastMs: undefined };
    this.#times.set(kind, times);
    times.sumMs += tookMs;
    times.count += 1;
    if (times.count < batch) return;
    times.leastMs = Math.min(times.sumMs / times.count, times.leastMs ?? Number.POSITIVE_INFINITY);
    times.sumMs = 0;
    times.count = 0;
  }

  /** @returns ms; until there are enough for a mean of a few, of what there is; Infinity where there is nothing. */
  of(kind: WorkKind): number {
    const { sumMs = 0, count = 0, leastMs } = this.#times.get(kind) ?? {};
    return leastMs ?? (count === 0 ? Number.POSITIVE_INFINITY : sumMs / count);
  }
}
