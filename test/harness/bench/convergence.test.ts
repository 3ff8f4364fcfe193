import t from 'tap';
import { convergence } from '../../../src/harness/bench/convergence.js';
import type { PodPlan } from '../../../src/harness/kubelet/pod.js';
import type { PodHistory } from '../../../src/harness/kubelet/pod-history.js';

interface Case {
  readonly plan?: Partial<PodPlan>;
  /** When it came to run; undefined: it waits. */
  readonly upMs?: number;
}

function of(...cases: readonly Case[]) {
  const plans = cases.map(({ plan }, n) => ({ name: `pod-${n}`, namespace: 'default', arriveMs: 0, ...plan }));
  const timelines = cases.map(({ upMs }, n): PodHistory => {
    const phase = upMs === undefined ? 'waiting' : 'running';
    return { name: `pod-${n}`, uid: `u${n}`, events: [{ atMs: upMs ?? 0, phase, text: '', error: false }] };
  });
  return convergence(timelines, plans);
}

const isStatic = { isStatic: true, namespace: 'kube-system' };

t.test('pods that never run are counted, and all is said of the others', async (t) => {
  const hung = { plan: { neverRuns: true } };
  t.match(of({ upMs: 10 }, hung, { upMs: 30 }, hung), {
    neverRun: 2,
    converged: true,
    runningMs: { p50: 10, p95: 30, all: 30 },
  });
  t.match(of({ upMs: 10 }, hung, {}), { neverRun: 1, converged: false, runningMs: { p50: 10, p95: null, all: null } });
});

t.test('a pod that is deleted for good is neither expected nor missed', async (t) => {
  t.match(of({ upMs: 10 }, { plan: { deleteMs: 5 } }, { plan: { deleteMs: 5, neverRuns: true } }), {
    neverRun: 0,
    converged: true,
    runningMs: { all: 10 },
  });
  t.match(of({ plan: { deleteMs: 5, returnMs: 9 } }), { converged: false });
});

t.test(
  'the node’s own pods waited from when they were asked for last, the static ones and the others apart',
  async (t) => {
    const figures = of(
      { upMs: 900 },
      { plan: { ...isStatic, arriveMs: 100 }, upMs: 150 },
      { plan: { ...isStatic, deleteMs: 200, returnMs: 300 }, upMs: 380 },
      { plan: { ...isStatic, neverRuns: true } },
      { plan: { namespace: 'kube-system', arriveMs: 50 }, upMs: 60 },
    );
    t.same(figures.staticPods, { pods: 2, allMs: 80 });
    t.same(figures.criticalPods, { pods: 1, allMs: 10 });
  },
);

t.test('that not all of them ran is said, and so is that there are none', async (t) => {
  const figures = of({ plan: isStatic, upMs: 5 }, { plan: isStatic }, { upMs: 1 });
  t.same(figures.staticPods, { pods: 2, allMs: null });
  t.equal(figures.criticalPods, null);
});
