/** A token bucket: so much per second on average, and a burst at once after a quiet time. */
import type { Clock } from '../clock.js';

export interface PaceOptions {
  readonly perSecond: number;
  /** From 1 up. */
  readonly burst: number;
}

export class Pace {
  readonly #clock: Clock;
  readonly #options: PaceOptions;
  #tokens: number;
  #countedMs: number;

  constructor(clock: Clock, options: PaceOptions) {
    this.#clock = clock;
    this.#options = options;
    this.#tokens = options.burst;
    this.#countedMs = clock.now();
  }

  /** How long until the next may go, in ms; 0: it may go now. */
  get waitMs(): number {
    const { perSecond, burst } = this.#options;
    const nowMs = this.#clock.now();
    this.#tokens = Math.min(burst, this.#tokens + ((nowMs - this.#countedMs) * perSecond) / 1000);
    this.#countedMs = nowMs;
    // Sums of fractions may miss a whole token by a rounding error, and a timer would be set for less than a clock can tell.
    return this.#tokens > 1 - 1e-6 ? 0 : ((1 - this.#tokens) * 1000) / perSecond;
  }

  /** One goes. */
  take(): void {
    this.#tokens -= 1;
  }
}
