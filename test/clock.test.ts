import t from 'tap';
import { systemClock } from '../src/clock.js';

const { now, after } = systemClock;

t.test('no timer fires before its time: who looks at the clock then finds that it has passed', async (t) => {
  const early: string[] = [];
  const one = (delayMs: number) =>
    new Promise<void>((resolve) => {
      const beganMs = now();
      after(delayMs, () => {
        const passedMs = now() - beganMs;
        if (passedMs < delayMs) early.push(`${passedMs} of ${delayMs} ms`);
        resolve();
      });
    });
  const chain = async (delayMs: number) => {
    for (let n = 0; n < 20; n += 1) await one(delayMs);
  };
  await Promise.all(Array.from({ length: 50 }, (_, n) => chain(1 + n / 10)));
  t.same(early, []);
});

t.test('a timer that is cancelled does not fire, nor one of a month at once', async (t) => {
  const fired: string[] = [];
  after(1, () => fired.push('cancelled'))();
  const cancel = after(30 * 24 * 3_600_000, () => fired.push('a month'));
  await new Promise<void>((resolve) => after(20, resolve));
  cancel();
  t.same(fired, []);
});
