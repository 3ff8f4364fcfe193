/** Waiting on a clock until a signal fires. */
import type { Clock } from '../clock.js';
import { untilAborted } from './gates.js';

/** Returns early when the signal fires. */
export async function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  let cancel = (): void => undefined;
  const slept = new Promise<void>((resolve) => {
    cancel = clock.after(delayMs, resolve);
  });
  await untilAborted(slept, signal);
  cancel();
}

/** At once, and again `periodMs` after each end, until the signal fires. What the task throws is its own affair: it is dropped. */
export async function repeat(clock: Clock, periodMs: number, signal: AbortSignal, task: () => unknown): Promise<void> {
  while (!signal.aborted) {
    try {
      await task();
    } catch {}
    await sleep(clock, periodMs, signal);
  }
}
