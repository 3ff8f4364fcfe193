/** Waiting on a clock until a signal fires. */
import type { Clock } from '../clock.js';

/** Resolves as `promise` does, or as soon as the signal fires, whichever is first. Never rejects by the signal. */
export async function untilAborted(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  let stop = (): void => undefined;
  const aborted = new Promise<void>((resolve) => {
    stop = resolve;
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

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
