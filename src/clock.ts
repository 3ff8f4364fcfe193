/**
 * Time as the rest of the program sees it, so that tests can move it by hand.
 */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  now(): number;
  /**
   * Runs `callback` once, `delayMs` from now.
   *
   * @returns Cancels the timer; harmless once it has fired.
   */
  after(delayMs: number, callback: () => void): () => void;
}

/** setTimeout fires at once above this delay (2^31 - 1 ms, 24.8 days). */
const maxDelayMs = 0x7fffffff;

export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(Math.max(0, delayMs), maxDelayMs));
    return () => clearTimeout(timer);
  },
};
