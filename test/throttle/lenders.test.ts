import t from 'tap';
import { Lenders } from '../../src/throttle/lenders.js';
import type { Work } from '../../src/throttle/work-queue.js';
import { ManualClock } from '../support/manual-clock.js';

interface Asked extends Work {
  isAwaited: boolean;
}

function setUp() {
  const clock = new ManualClock();
  /** How many there were when more were told of. */
  const told: number[] = [];
  const lenders: Lenders = new Lenders(clock, () => void told.push(lenders.count));
  const add = (isAwaited: boolean): Asked => {
    const work: Asked = { kind: 'podSandbox', isAwaited, run: async () => true };
    lenders.add(work);
    return work;
  };
  const wait = (work: Asked, isAwaited: boolean) => {
    work.isAwaited = isAwaited;
    lenders.moved(work);
  };
  return { clock, told, lenders, add, wait };
}

t.test('work lends when nobody has waited for it for 250 ms, and is told of then', async (t) => {
  const { clock, told, lenders, add, wait } = setUp();
  const work = add(true);
  await clock.advance(1_000);
  t.equal(lenders.count, 0, 'somebody waits for it');
  wait(work, false);
  await clock.advance(249);
  t.strictSame([lenders.count, told], [0, []]);
  await clock.advance(1);
  t.strictSame([lenders.count, told], [1, [1]]);
  t.equal(clock.pending, 0);
});

t.test('what nobody waits for when it begins lends like any other', async (t) => {
  const { clock, told, lenders, add } = setUp();
  add(false);
  t.equal(lenders.count, 0);
  await clock.advance(250);
  t.strictSame([lenders.count, told], [1, [1]]);
});

t.test('each lends in its own time', async (t) => {
  const { clock, told, add } = setUp();
  add(false);
  await clock.advance(100);
  add(false);
  await clock.advance(150);
  t.strictSame(told, [1]);
  await clock.advance(100);
  t.strictSame(told, [1, 2]);
  t.equal(clock.pending, 0);
});

t.test('what is asked for again lends no more, and left again it is counted from then', async (t) => {
  const { clock, lenders, add, wait } = setUp();
  const work = add(false);
  await clock.advance(250);
  wait(work, true);
  t.equal(lenders.count, 0);
  await clock.advance(1_000);
  wait(work, false);
  await clock.advance(249);
  t.equal(lenders.count, 0);
  await clock.advance(1);
  t.equal(lenders.count, 1);
});

t.test('what has ended lends no more, and what does not run never does', async (t) => {
  const { clock, told, lenders, add, wait } = setUp();
  const work = add(false);
  lenders.delete(work);
  wait(work, false);
  t.equal(clock.pending, 0);
  await clock.advance(1_000);
  t.strictSame([lenders.count, told], [0, []]);
  const lending = add(false);
  await clock.advance(1_000);
  lenders.delete(lending);
  t.equal(lenders.count, 0);
});

t.test('told twice that nobody waits for it, it lends once', async (t) => {
  const { clock, told, lenders, add, wait } = setUp();
  const work = add(false);
  await clock.advance(100);
  wait(work, false);
  await clock.advance(1_000);
  t.strictSame([lenders.count, told], [1, [1]]);
});

t.test('closed, it leaves no timer', async (t) => {
  const { clock, told, lenders, add } = setUp();
  add(false);
  add(true);
  lenders.close();
  t.equal(clock.pending, 0);
  await clock.advance(1_000);
  t.strictSame(told, []);
});
