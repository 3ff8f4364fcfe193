import t from 'tap';
import { type ArrivalOptions, arrivals } from '../../src/harness/arrivals.js';

const many: ArrivalOptions = {
  pods: 2_000,
  seed: 3,
  pattern: { perSecond: 4 },
  criticalShare: 0.2,
  deletions: { share: 0.25, afterMs: 700 },
};

t.test('one seed gives the same plans twice, another one others', async (t) => {
  t.same(arrivals(many), arrivals(many));
  t.notSame(
    arrivals(many).map(({ arriveMs }) => arriveMs),
    arrivals({ ...many, seed: 4 }).map(({ arriveMs }) => arriveMs),
  );
});

t.test('pods come in the order of their names, each name once', async (t) => {
  for (const pattern of [{ withinMs: 900 }, { perSecond: 4 }]) {
    const plans = arrivals({ ...many, pattern });
    t.same(
      plans.map(({ name }) => name),
      Array.from({ length: 2_000 }, (_, n) => `pod-${n}`),
    );
    t.ok(plans.every(({ arriveMs }, n) => arriveMs >= (plans[n - 1]?.arriveMs ?? 0)));
  }
});

t.test('all at once: they are spread over the whole time and no more', async (t) => {
  const times = arrivals({ ...many, pattern: { withinMs: 900 } }).map(({ arriveMs }) => arriveMs);
  t.ok(times.every((atMs) => atMs < 900));
  for (const half of [0, 450]) {
    const share = times.filter((atMs) => atMs >= half && atMs < half + 450).length / times.length;
    t.ok(Math.abs(share - 0.5) < 0.05, `${share}`);
  }
  t.same(new Set(arrivals({ ...many, pattern: { withinMs: 0 } }).map(({ arriveMs }) => arriveMs)), new Set([0]));
});

t.test('a rate: gaps are exponential around their mean', async (t) => {
  const times = arrivals(many).map(({ arriveMs }) => arriveMs);
  const gaps = times.map((atMs, n) => atMs - (times[n - 1] ?? 0));
  const meanMs = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  t.ok(Math.abs(meanMs - 250) < 25, `${meanMs}`);
  const above = gaps.filter((gap) => gap > 250).length / gaps.length;
  t.ok(Math.abs(above - Math.exp(-1)) < 0.04, `${above}`);
});

t.test('the shares are what was asked for, and move no arrival', async (t) => {
  const plans = arrivals(many);
  const share = (having: (plan: (typeof plans)[number]) => boolean) => plans.filter(having).length / plans.length;
  t.ok(Math.abs(share(({ namespace }) => namespace === 'kube-system') - 0.2) < 0.03);
  t.ok(Math.abs(share(({ deleteMs }) => deleteMs !== undefined) - 0.25) < 0.03);
  t.ok(plans.every(({ arriveMs, deleteMs }) => deleteMs === undefined || deleteMs === arriveMs + 700));
  const { pods, seed, pattern } = many;
  const plain = arrivals({ pods, seed, pattern });
  t.same(
    plain.map(({ arriveMs }) => arriveMs),
    plans.map(({ arriveMs }) => arriveMs),
  );
  t.ok(plain.every((plan) => plan.namespace === 'default' && !('deleteMs' in plan)));
});
