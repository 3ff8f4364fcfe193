/**
 * Waits for what comes by nothing but this process, its own sockets included: a test that waits in vain fails after some
 * milliseconds, on any machine.
 */
import { settle } from './manual-clock.js';

/** What takes a few turns of the event loop has come long before. */
const manyTurns = 1_000;

/** @throws It does not hold. */
export async function until(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < manyTurns; turn++) {
    if (holds()) return;
    await settle();
  }
  throw new Error('what was waited for has not come');
}

/** @throws It has not come. */
export async function soon<T>(coming: Promise<T>): Promise<T> {
  let isOver = false;
  const over = () => {
    isOver = true;
  };
  coming.then(over, over);
  await until(() => isOver);
  return coming;
}
