/**
 * Time as the rest of the program sees it, so that tests can move it by hand.
 */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  now(): number;
  /**
   * Runs `callback` once, when `delayMs` have passed by `now`.
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
    const dueMs = performance.now() + delayMs;
    let timer: NodeJS.Timeout;
    // setTimeout fires up to a millisecond early: it counts whole ones, from when the turn of the event loop began.
    const wait = () => {
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) timer = setTimeout(wait, Math.min(Math.ceil(leftMs), maxDelayMs));
      else callback();
    };
    timer = setTimeout(wait, Math.min(Math.max(0, delayMs), maxDelayMs));
    return () => clearTimeout(timer);
  },
};
