import { setMaxListeners } from 'node:events';
import t, { type Test } from 'tap';
import { Contention } from '../../../src/harness/runtime/contention.js';
import { ManualClock } from '../../support/manual-clock.js';

/** A node of four cores on which eight pieces of work at once take 1 + 0.125 × 4^1.5 = 2 times as long. */
function node() {
  const clock = new ManualClock();
  const contention = new Contention(clock, { coefficient: 0.125, cores: 4 });
  const startMs = clock.now();
  const ends: Record<string, number> = {};
  const begin = (name: string, count = 1, baseMs = 1_000, signal = new AbortController().signal) => {
    setMaxListeners(0, signal);
    for (let n = 0; n < count; n += 1) {
      void contention.carryOut(baseMs, signal).then(() => {
        ends[name] = clock.now() - startMs;
      });
    }
  };
  return { clock, contention, begin, ends };
}

function endTimes(t: Test, ends: Readonly<Record<string, number>>, expected: Readonly<Record<string, number>>) {
  t.same(Object.keys(ends).sort(), Object.keys(expected).sort());
  for (const [name, ms] of Object.entries(expected)) t.ok(Math.abs((ends[name] ?? 0) - ms) < 0.001, `${name}: ${ms}`);
}

t.test('as much work as there are cores is not slowed down, twice as much takes what the formula says', async (t) => {
  for (const [count, ms] of [
    [1, 1_000],
    [4, 1_000],
    [8, 2_000],
    [20, 9_000],
  ] as const) {
    const { clock, contention, begin, ends } = node();
    begin('all', count);
    t.equal(contention.slowdown, ms / 1_000);
    t.equal(contention.stalledShare, 1 - (1_000 / ms) ** count);
    await clock.advance(20_000);
    endTimes(t, ends, { all: ms });
    t.equal(contention.running, 0);
    t.equal(clock.pending, 0);
  }
});

t.test('work that joins half-way slows down what is left, and is faster once it is alone', async (t) => {
  const { clock, begin, ends } = node();
  begin('first', 4);
  await clock.advance(500);
  begin('second', 4);
  await clock.advance(10_000);
  // 500 ms alone, 500 ms of work at half speed; then the second four have 500 ms left, alone.
  endTimes(t, ends, { first: 1_500, second: 2_000 });
});

t.test('a node that loses half of its capacity half-way, and gets it back', async (t) => {
  const { clock, contention, begin, ends } = node();
  begin('all', 4);
  await clock.advance(500);
  contention.capacity = 0.5;
  t.equal(contention.slowdown, 2);
  await clock.advance(500);
  contention.capacity = 1;
  await clock.advance(10_000);
  endTimes(t, ends, { all: 500 + 500 + 250 });
});

t.test('work that is given up ends at once and leaves its share to the others', async (t) => {
  const { clock, contention, begin, ends } = node();
  const leaving = new AbortController();
  begin('staying', 4);
  begin('left', 4, 1_000, leaving.signal);
  begin('never begun', 1, 1_000, AbortSignal.abort());
  await clock.advance(1_000);
  leaving.abort();
  await clock.advance(0);
  t.equal(contention.running, 4);
  await clock.advance(10_000);
  endTimes(t, ends, { 'never begun': 0, left: 1_000, staying: 1_500 });
});

t.test('work of different length shares as it runs', async (t) => {
  const { clock, begin, ends } = node();
  begin('short', 4, 250);
  begin('long', 4, 1_000);
  await clock.advance(10_000);
  endTimes(t, ends, { short: 500, long: 500 + 750 });
});

/** Percent of the time in which at least one of eight that are slowed down to half stands still. */
const stalled = 100 * (1 - 0.5 ** 8);

t.test('avg10 follows the stalled share as the kernel averages pressure', async (t) => {
  const { clock, contention, begin } = node();
  begin('long', 8, 1_000_000);
  await clock.advance(1_999);
  t.equal(contention.avg10, 0);
  const kept = Math.exp(-0.2);
  const near = (ms: number, percent: number) =>
    t.ok(Math.abs(contention.avg10 - percent) < 1e-6, `after ${ms} more ms`);
  await clock.advance(1);
  near(1, stalled * (1 - kept));
  await clock.advance(8_000);
  near(8_000, stalled * (1 - kept ** 5));
  await clock.advance(600_000);
  near(600_000, stalled);
  contention.capacity = 2;
  await clock.advance(4_000);
  near(4_000, stalled * kept ** 2);
});

t.test('avg10 counts the part of its two seconds that stood still', async (t) => {
  const { clock, contention, begin } = node();
  await clock.advance(1_500);
  begin('all', 8, 10_000);
  await clock.advance(500);
  t.ok(Math.abs(contention.avg10 - (stalled / 4) * (1 - Math.exp(-0.2))) < 1e-6);
});

t.test('a node that is busy with other things shows so from the first moment, with work and without', async (t) => {
  const clock = new ManualClock();
  const contention = new Contention(clock, { coefficient: 0.125, cores: 4, busy: 0.3 });
  const near = (actual: number, expected: number) => t.ok(Math.abs(actual - expected) < 1e-6, `${actual}`);
  near(contention.avg10, 30);
  await clock.advance(10_000);
  near(contention.avg10, 30);
  near(contention.totalStalledMs, 3_000);
  const over = new AbortController();
  setMaxListeners(0, over.signal);
  for (let n = 0; n < 8; n += 1) void contention.carryOut(1_000_000, over.signal);
  near(contention.stalledShare, 1 - 0.7 * 0.5 ** 8);
  t.equal(contention.slowdown, 2, 'and is no slower for it');
  over.abort();
  near(contention.stalledShare, 0.3);
});
