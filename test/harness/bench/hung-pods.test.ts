import t from 'tap';
import { withHung } from '../../../src/harness/bench/hung-pods.js';
import type { PodPlan } from '../../../src/harness/kubelet/pod.js';

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}-${n}`);

function plans(others: number, critical: number, statics: number): readonly PodPlan[] {
  return [
    ...names('pod', others).map((name) => ({ name, namespace: 'default', arriveMs: 10 })),
    ...names('critical', critical).map((name) => ({ name, namespace: 'kube-system', arriveMs: 20 })),
    ...names('static', statics).map((name) => ({ name, namespace: 'kube-system', arriveMs: 0, isStatic: true })),
  ];
}

const forEver = { share: 0.2, times: undefined, leadMs: 0 };

function counts(hung: ReadonlySet<string>): Record<string, number> {
  const count = (prefix: string) => [...hung].filter((name) => name.startsWith(prefix)).length;
  return { pod: count('pod-'), critical: count('critical-'), static: count('static-') };
}

t.test('the share is one of each kind of pod, and each kind has some that hang and some that do not', async (t) => {
  const of = (...pods: [number, number, number]) => counts(withHung(plans(...pods), forEver, 1).hung);
  t.same(of(50, 5, 5), { pod: 10, critical: 1, static: 1 });
  t.same(of(2, 2, 3), { pod: 1, critical: 1, static: 1 });
  t.same(of(1, 1, 0), { pod: 0, critical: 0, static: 0 });
  const share = (share: number) => counts(withHung(plans(4, 2, 2), { ...forEver, share }, 1).hung);
  t.same(share(0), { pod: 0, critical: 0, static: 0 });
  t.same(share(0.99), { pod: 3, critical: 1, static: 1 });
  t.same(share(1), { pod: 4, critical: 2, static: 2 });
});

t.test('one seed gives the same pods each time, another one others, and a larger share keeps those', async (t) => {
  const hung = (seed: number, share = 0.2) => [...withHung(plans(50, 0, 0), { ...forEver, share }, seed).hung].sort();
  t.same(hung(7), hung(7));
  t.notSame(hung(7), hung(8));
  const more = hung(7, 0.4);
  t.equal(more.length, 20);
  t.ok(hung(7).every((name) => more.includes(name)));
});

t.test(
  'what hangs for ever is known to never run, what hangs so many times is not, and it has the runtime’s name',
  async (t) => {
    const never = withHung(plans(10, 0, 0), forEver, 1);
    const told = never.plans.filter(({ neverRuns }) => neverRuns);
    t.same(told.map(({ name, namespace }) => `${name}_${namespace}`).sort(), [...never.hung].sort());
    t.equal(told.length, 2);
    const once = withHung(plans(10, 0, 0), { ...forEver, times: 1 }, 1);
    t.same(once.hung, never.hung);
    t.same(once.plans, plans(10, 0, 0));
  },
);

t.test(
  'with a lead the others come later with all that is to become of them, and the node’s own pods that hang with them',
  async (t) => {
    const away = { name: 'away', namespace: 'kube-system', arriveMs: 0, deleteMs: 5, returnMs: 9, isStatic: true };
    const own = [...plans(4, 2, 2), away];
    const { plans: told, hung } = withHung(own, { share: 0.5, times: 1, leadMs: 100 }, 1);
    for (const [n, plan] of told.entries()) {
      const isEarly = plan.namespace === 'default' && hung.has(`${plan.name}_default`);
      t.equal(plan.arriveMs - (own[n]?.arriveMs ?? 0), isEarly ? 0 : 100, plan.name);
    }
    t.match(told.at(-1), { name: 'away', deleteMs: 105, returnMs: 109 });
    t.equal(told.filter(({ arriveMs }) => arriveMs < 100).length, 2);
  },
);
