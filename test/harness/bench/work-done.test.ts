import t from 'tap';
import { workDone } from '../../../src/harness/bench/work-done.js';
import type { PodPlan } from '../../../src/harness/kubelet/pod.js';

const exit = { afterMs: 1, code: 0 };
const service: PodPlan = { name: 'web', namespace: 'default', arriveMs: 0 };
const job: PodPlan = { ...service, initContainers: ['init'], restartPolicy: 'Never', exits: { init: exit, app: exit } };

t.test('work is done once where each container ran once, and more than once where one did', async (t) => {
  const runs: Record<string, readonly [init: number, app: number]> = {
    once: [1, 1],
    never: [0, 0],
    half: [1, 0],
    twice: [1, 2],
    'init twice': [2, 0],
  };
  const plans = new Map([...Object.keys(runs).map((uid) => [uid, job] as const), ['service', service] as const]);
  const runsOf = (uid: string, name: string) => runs[uid]?.[name === 'init' ? 0 : 1];
  t.strictSame(workDone(plans, runsOf), { pods: 5, once: 1, more: 2 });
});

t.test('it is not known of pods that do not end, nor of a runtime that does not tell', async (t) => {
  t.equal(
    workDone(new Map([['a', service]]), () => 1),
    null,
  );
  t.equal(
    workDone(new Map([['a', job]]), (_uid, name) => (name === 'app' ? undefined : 1)),
    null,
  );
});
