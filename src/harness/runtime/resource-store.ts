/**
 * CRI-O's resource store: results whose caller had left, kept for a retry. Knows neither what they are nor how they are shown.
 *
 * Source: CRI-O internal/resourcestore/resourcestore.go.
 */
import type { Clock } from '../../clock.js';

/** The first tick after a result came marks it, the second reaps it: it is kept for one to two of these. */
const tickMs = 60_000;

export interface StoredResult {
  readonly show: () => void;
  readonly remove: () => void;
}

export class ResourceStore {
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #results = new Map<string, StoredResult & { readonly cancelReaping: () => void }>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startedMs = clock.now();
  }

  keep(id: string, result: StoredResult): void {
    const sinceTickMs = (this.#clock.now() - this.#startedMs) % tickMs;
    const cancelReaping = this.#clock.after(2 * tickMs - sinceTickMs, () => {
      this.#results.delete(id);
      result.remove();
    });
    this.#results.set(id, { ...result, cancelReaping });
  }

  /** Shows it and keeps it no longer; harmless where nothing is kept. */
  claim(id: string): void {
    this.#take(id)?.show();
  }

  /** It is kept in memory only: the end of the process is the end of what is in it. */
  removeAll(): void {
    for (const id of [...this.#results.keys()]) this.#take(id)?.remove();
  }

  #take(id: string): StoredResult | undefined {
    const result = this.#results.get(id);
    this.#results.delete(id);
    result?.cancelReaping();
    return result;
  }
}
