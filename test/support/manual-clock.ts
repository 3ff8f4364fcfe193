import type { Clock } from '../../src/clock.js';

interface Timer {
  dueMs: number;
  callback: () => void;
}

/** A clock that stands still until `advance` moves it. */
export class ManualClock implements Clock {
  // Not 0: lru-cache takes a start of 0 for "never".
  #nowMs = 1_000;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.#nowMs + Math.max(0, delayMs), callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Timers that have not fired or been cancelled. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Time has passed, and no timer has had its turn yet. */
  skip(byMs: number): void {
    this.#nowMs += byMs;
  }

  /** Moves time on and fires what falls due, in order; promise callbacks run in between. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.#nowMs + byMs;
    for (;;) {
      await settle();
      const next = [...this.#timers].filter((timer) => timer.dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.callback();
    }
    this.#nowMs = endMs;
    await settle();
  }
}

/** Lets every promise callback that is ready run. */
export async function settle(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}
