import t from 'tap';
import { UsualTime } from '../../src/throttle/usual-time.js';

function after(...tookMs: readonly number[]): number | undefined {
  const usual = new UsualTime();
  for (const ms of tookMs) usual.add('podSandbox', ms);
  return usual.of('podSandbox');
}

const times = (count: number, ms: number): number[] => Array.from({ length: count }, () => ms);

t.test('fewer than three say nothing, from the third on the mean does', (t) => {
  t.equal(after(), undefined);
  t.equal(after(10, 20), undefined);
  t.equal(after(10, 20, 60), 30);
  t.equal(after(10, 20, 60, 70), 40);
  t.end();
});

t.test('the lowest mean of eight in a row stays what is usual, whatever comes after', (t) => {
  const first = [100, 300, 100, 300, 100, 300, 100, 300];
  t.equal(after(...first), 200);
  t.equal(after(...first, ...times(7, 1)), 200, 'seven are not enough for another');
  t.equal(after(...first, ...times(8, 150)), 150);
  t.equal(after(...first, ...times(8, 150), ...times(8, 900)), 150);
  t.equal(after(...times(8, 900), ...times(8, 150)), 150, 'each eight are a mean of their own');
  t.end();
});

t.test('each kind of work has a time of its own', (t) => {
  const usual = new UsualTime();
  for (const ms of times(3, 10)) usual.add('start', ms);
  for (const ms of times(3, 90)) usual.add('container', ms);
  t.same([usual.of('start'), usual.of('container'), usual.of('podSandbox')], [10, 90, undefined]);
  t.end();
});
