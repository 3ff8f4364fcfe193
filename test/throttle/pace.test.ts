import t from 'tap';
import { Pace } from '../../src/throttle/pace.js';
import { ManualClock } from '../support/manual-clock.js';

function stage() {
  const clock = new ManualClock();
  return { clock, pace: new Pace(clock, { perSecond: 4, burst: 2 }) };
}

t.test('a burst may go at once, and then one each interval', (t) => {
  const { clock, pace } = stage();
  const waits = [pace.waitMs];
  for (let n = 0; n < 3; n += 1) {
    pace.take();
    waits.push(pace.waitMs);
  }
  t.same(waits, [0, 0, 250, 500]);
  clock.skip(375);
  t.equal(pace.waitMs, 125);
  clock.skip(125);
  t.equal(pace.waitMs, 0);
  t.end();
});

t.test('a quiet time saves up one burst and no more', (t) => {
  const { clock, pace } = stage();
  clock.skip(3_600_000);
  t.equal(pace.waitMs, 0);
  pace.take();
  pace.take();
  t.equal(pace.waitMs, 250);
  t.end();
});

t.test('asking how long to wait does not change it', (t) => {
  const { clock, pace } = stage();
  pace.take();
  pace.take();
  clock.skip(100);
  t.same([pace.waitMs, pace.waitMs, pace.waitMs], [150, 150, 150]);
  t.end();
});

t.test('steps that do not add up to a whole token exactly are not waited for', (t) => {
  const clock = new ManualClock();
  const pace = new Pace(clock, { perSecond: 10, burst: 1 });
  pace.take();
  for (let n = 0; n < 10; n += 1) {
    t.ok(pace.waitMs > 9);
    clock.skip(10);
  }
  t.equal(pace.waitMs, 0);
  t.end();
});
