/**
 * Work that runs and nobody waits for any more: it lends its place to what somebody waits for. Knows neither the queue nor the limit.
 */
import type { Clock } from '../clock.js';
import type { Work } from './work-queue.js';

/**
 * How long nobody has waited for it before it lends, in ms: what was asked for at once is left at once, and the first to be left must not
 * lend to the others.
 */
const lendsAfterMs = 250;

export class Lenders {
  readonly #clock: Clock;
  readonly #more: () => void;
  /** With what ends its timer. */
  readonly #running = new Map<Work, () => void>();
  readonly #lend = new Set<Work>();

  /** @param more Told when there is one more. */
  constructor(clock: Clock, more: () => void) {
    this.#clock = clock;
    this.#more = more;
  }

  get count(): number {
    return this.#lend.size;
  }

  /** It runs in a place that may be lent. */
  add(work: Work): void {
    this.#running.set(work, () => {});
    this.moved(work);
  }

  delete(work: Work): void {
    this.#lendsNot(work);
    this.#running.delete(work);
  }

  /** Whether somebody waits for it has changed; without effect where it does not run. */
  moved(work: Work): void {
    this.#lendsNot(work);
    if (!this.#running.has(work) || work.isAwaited !== false) return;
    const cancel = this.#clock.after(lendsAfterMs, () => {
      this.#lend.add(work);
      this.#more();
    });
    this.#running.set(work, cancel);
  }

  /** Ends its timers. */
  close(): void {
    for (const work of [...this.#running.keys()]) this.delete(work);
  }

  #lendsNot(work: Work): void {
    this.#running.get(work)?.();
    this.#lend.delete(work);
  }
}
