import t from 'tap';
import { podPlans } from '../../../src/harness/bench/pod-plans.js';
import { readScenario } from '../../../src/harness/bench/scenario.js';
import { endsByItself } from '../../../src/harness/kubelet/pod.js';

t.test('jobs have an init container, an end, and their policies in turn', async (t) => {
  const plans = podPlans({ ...readScenario('jobs'), pods: 3 }, 1);
  t.match(
    plans,
    ['Never', 'OnFailure', 'Never'].map((restartPolicy) => ({
      ...{ containers: ['app'], initContainers: ['init'], restartPolicy },
      exits: { init: { afterMs: 100, code: 0 }, app: { afterMs: 100, code: 0 } },
    })),
  );
  t.ok(plans.every(endsByItself));
  t.notOk(plans.some((plan) => endsByItself({ ...plan, restartPolicy: 'Always' })));
});

t.test('static pods that stay come once, when they are to', async (t) => {
  const { kubelet, ...scenario } = readScenario('hung-some');
  const at = { pods: 1, afterMs: 700, away: undefined };
  t.strictSame(podPlans({ ...scenario, pods: 1, kubelet: { ...kubelet, static: at, critical: undefined } }, 1), [
    { name: 'static-0', namespace: 'kube-system', arriveMs: 700, containers: ['app'], isStatic: true },
  ]);
});

t.test('static pods come and go beside the others, and do not end', async (t) => {
  const plans = podPlans({ ...readScenario('restarts'), pods: 5 }, 1);
  t.strictSame(
    plans.map(({ name, namespace, isStatic, deleteMs, returnMs, exits }) => [
      ...[name, namespace, isStatic, deleteMs, returnMs, exits?.app],
    ]),
    [
      ...[0, 1].map((n) => [
        `pod-${n}`,
        'default',
        undefined,
        undefined,
        undefined,
        { afterMs: 1_000, code: 1, times: 2 },
      ]),
      ...[0, 1, 2].map((n) => [`static-${n}`, 'kube-system', true, 4_000, 14_000, undefined]),
    ],
  );
  t.notOk(plans.some(endsByItself));
});
