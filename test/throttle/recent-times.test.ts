import t from 'tap';
import { RecentTimes } from '../../src/throttle/recent-times.js';

function after(...tookMs: readonly number[]): number | undefined {
  const times = new RecentTimes();
  for (const ms of tookMs) times.succeeded('podSandbox', ms);
  return times.longestMs('podSandbox');
}

const times = (count: number, ms: number): number[] => Array.from({ length: count }, () => ms);

t.test('nothing is known before the first, and from it on the longest is', (t) => {
  t.equal(after(), undefined);
  t.equal(after(20), 20);
  t.equal(after(20, 90, 30), 90);
  t.end();
});

t.test('no more than the last sixteen are looked back at', (t) => {
  t.equal(after(90, ...times(15, 10)), 90);
  t.equal(after(90, ...times(16, 10)), 10);
  t.end();
});

t.test('each sort has times of its own', (t) => {
  const recent = new RecentTimes();
  recent.succeeded('podSandbox', 10);
  recent.succeeded('podSandbox kata', 90);
  t.same(
    [recent.longestMs('podSandbox'), recent.longestMs('podSandbox kata'), recent.longestMs('start')],
    [10, 90, undefined],
  );
  t.end();
});

t.test('of more than a hundred sorts those heard of last are kept', (t) => {
  const recent = new RecentTimes();
  for (let n = 0; n < 100; n += 1) recent.succeeded(`podSandbox ${n}`, n);
  recent.succeeded('podSandbox 0', 7);
  recent.succeeded('podSandbox new', 8);
  t.equal(recent.longestMs('podSandbox 0'), 7);
  t.equal(recent.longestMs('podSandbox 1'), undefined);
  t.equal(recent.longestMs('podSandbox 2'), 2);
  t.end();
});
