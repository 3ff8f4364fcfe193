import { setImmediate as turn } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import { Contention } from '../../../src/harness/runtime/contention.js';
import { type Fate, firstOf, hanging } from '../../../src/harness/runtime/failures.js';
import { ManualClock } from '../../support/manual-clock.js';
import { type Bench, bench, failure, leavable, runPod } from '../support.js';

const hang: Fate = hanging(new Set(['web-0_default']), Number.POSITIVE_INFINITY);

/** Begins a creation that hangs and resolves once the runtime is at it. */
async function hung({ runtime, client }: Bench, pod: ReturnType<Bench['pod']>) {
  const passing = runtime.hold('runPodSandbox');
  const call = leavable((signal) => client.call('RunPodSandbox', pod.runPodSandboxRequest(), { signal }));
  await passing.arrived();
  passing.release();
  await client.call('Version');
  return call;
}

t.test(
  'each sandbox of a pod hangs, or the first so many, whatever its uid and attempt, and no other pod’s',
  async (t) => {
    const tries = ['web-0_default_u1_0', 'web-0_default_u1_1', 'k8s_web-0_default_u2_0'];
    t.same(
      tries.map((name) => hang(name)),
      [{ hang: true }, { hang: true }, { hang: true }],
    );
    const twice = hanging(new Set(['web-0_default']), 2);
    t.same(
      tries.map((name) => twice(name)),
      [{ hang: true }, { hang: true }, undefined],
    );
    t.same(
      ['web-0_kube-system_u1_0', 'web-1_default_u1_0', 'web_0_default_u1_0'].map((name) => hang(name)),
      [undefined, undefined, undefined],
    );
  },
);

t.test('of several fates the first that there is comes true, and each is asked for each try', async (t) => {
  const asked: string[] = [];
  const fate =
    (name: string, code: number | undefined): Fate =>
    () => {
      asked.push(name);
      return code === undefined ? undefined : { code };
    };
  t.same(firstOf(fate('a', undefined), fate('b', 2), fate('c', 5))('web'), { code: 2 });
  t.same(asked, ['a', 'b', 'c']);
  t.equal(firstOf(fate('a', undefined))('web'), undefined);
});

t.test('while one hangs its name is reserved, and free once containerd has cleaned up after a cancel', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { clock, rollbackMs: 100, failures: { runPodSandbox: hang } });
  const { runtime, client, pod } = it;
  const web = pod();
  const { leave } = await hung(it, web);
  await clock.advance(3_600_000);
  const reserved = {
    code: status.UNKNOWN,
    details: /^failed to reserve sandbox name "web-0_.*": name "web-0_.*" is reserved for "[0-9a-f]{64}"$/,
  };
  t.match(await failure(runPod(it, web)), reserved);
  t.same((await client.call('ListPodSandbox')).items, []);
  t.match(await runPod(it, pod({ name: 'web-1' })), /^[0-9a-f]{64}$/, 'others are made');
  await leave();
  await client.call('Version');
  await clock.advance(99);
  t.match(await failure(runPod(it, web)), reserved, 'it is still being undone');
  await clock.advance(1);
  await client.call('Version');
  t.notOk(runtime.reservedNames.some((name) => name.startsWith('web-0')));
  t.match(runtime.made.sandboxes[0], { outcome: 'rolled back', callerLeft: true });
});

t.test('one that hung only once is made at the second try, which its deadline has made room for', async (t) => {
  const once = hanging(new Set(['web-0_default']), 1);
  const it = await bench(t, { failures: { runPodSandbox: once } });
  const { runtime, client, pod } = it;
  const web = pod();
  // On a slow machine it may pass before the call has come in.
  while (runtime.made.sandboxes.length === 0) {
    const call = failure(client.call('RunPodSandbox', web.runPodSandboxRequest(), { deadlineMs: 30 }));
    t.match(await call, { code: status.DEADLINE_EXCEEDED });
  }
  while (runtime.reservedNames.length > 0) await turn();
  const id = await runPod(it, web);
  t.match((await client.call('ListPodSandbox')).items, [{ id, state: 'SANDBOX_READY' }]);
  t.same(
    runtime.made.sandboxes.map(({ outcome }) => outcome),
    ['rolled back', 'finished'],
  );
});

t.test('what was refused for its name does not count as one that hung', async (t) => {
  const twice = hanging(new Set(['web-0_default']), 2);
  const it = await bench(t, { failures: { runPodSandbox: twice } });
  const web = it.pod();
  const first = await hung(it, web);
  await failure(runPod(it, web));
  await first.leave();
  while (it.runtime.reservedNames.length > 0) await turn();
  const second = await hung(it, web);
  t.match(it.runtime.made.sandboxes[1], { outcome: 'under way' });
  await second.leave();
  while (it.runtime.reservedNames.length > 0) await turn();
  t.match(await runPod(it, web), /^[0-9a-f]{64}$/);
});

t.test('what hangs takes nothing of the node any more', async (t) => {
  const clock = new ManualClock();
  const contention = new Contention(clock, { coefficient: 0.05, cores: 1 });
  const it = await bench(t, { clock, contention, runPodSandboxMs: 1_000, failures: { runPodSandbox: hang } });
  await hung(it, it.pod());
  t.equal(contention.running, 1);
  await clock.advance(1_000);
  t.equal(contention.running, 0);
  t.match(it.runtime.made.sandboxes, [{ outcome: 'under way' }]);
});

t.test('CRI-O goes on hanging when the caller has left', async (t) => {
  const it = await bench(t, { profile: 'crio-remove', failures: { runPodSandbox: hang } });
  const web = it.pod();
  const { leave } = await hung(it, web);
  await leave();
  t.match(await failure(runPod(it, web)), { code: status.UNKNOWN, details: /: name is reserved$/ });
  t.match(it.runtime.made.sandboxes, [{ outcome: 'under way' }]);
});
