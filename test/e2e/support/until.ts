/**
 * Waiting for something outside this process that tells nobody when it is done.
 */
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Asks again and again until the answer is neither undefined nor false.
 *
 * @param what Named in the error.
 * @param timeoutMs Costs time only where it is in vain; a busy machine takes long.
 * @throws Once `timeoutMs` has passed without such an answer.
 */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 60_000,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`);
    await delay(20);
  }
}
