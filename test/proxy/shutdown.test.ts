import t from 'tap';
import { settle } from '../support/manual-clock.js';
import { Rig } from '../support/rig.js';

/** What ends by itself in the next turns: an immediate, the closing of a file that was read. */
const passing = ['Immediate', 'CloseReq'];

/** What keeps this process alive, by kind. */
function resources(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) {
    if (!passing.includes(kind)) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

t.test('no timer, listener or socket is left after shutdown', async (t) => {
  const before = resources();
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  await rig.heldContainer(pod, podSandboxId);
  rig.client.stream('GetContainerEvents').on('error', () => {});
  await rig.runtime.subscribed();
  await rig.listed();
  await rig.close();
  t.equal(rig.clock.pending, 0);
  for (let turn = 0; turn < 50 && JSON.stringify(resources()) !== JSON.stringify(before); turn++) await settle();
  t.same(resources(), before);
});

t.test('calls in flight are let end, new connections are not taken', async (t) => {
  const rig = await Rig.start(t);
  const hold = rig.runtime.hold('runPodSandbox');
  const asked = rig.podSandbox(rig.pod());
  await hold.arrived();
  const closed = rig.holdfast?.close();
  await settle();
  const late = rig.anotherClient();
  t.teardown(() => late.close());
  await t.rejects(late.call('Version'), { code: 14 });
  hold.release();
  t.equal(await asked, rig.runtime.sandboxes[0]?.id);
  await closed;
});

t.test('what does not end is cut off after the drain timeout', async (t) => {
  const rig = await Rig.start(t, { config: { drainTimeoutMs: 5_000 } });
  const hold = rig.runtime.hold('runPodSandbox');
  const rejected = t.rejects(rig.podSandbox(rig.pod()), { code: 14 });
  await hold.arrived();
  const closed = rig.holdfast?.close();
  await rig.clock.advance(5_000);
  await closed;
  await rejected;
  await rig.step('failed', 'podSandbox');
  t.equal(rig.clock.pending, 0);
});

t.test('what is held is removed at shutdown: a kubelet would take a stray container for one of its own', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  await rig.heldContainer(pod, await rig.podSandbox(pod));
  await rig.holdfast?.close();
  t.same(rig.runtime.containers, []);
  t.equal(rig.runtime.sandboxes.length, 1, 'what was delivered stays');
});

t.test('a removal that hangs holds up the shutdown for the drain timeout only', async (t) => {
  const rig = await Rig.start(t, { config: { drainTimeoutMs: 5_000 } });
  const pod = rig.pod();
  await rig.heldContainer(pod, await rig.podSandbox(pod));
  const hold = rig.runtime.hold('removeContainer');
  const closed = rig.holdfast?.close();
  await hold.arrived();
  await rig.clock.advance(5_000);
  await closed;
  t.equal(rig.clock.pending, 0);
  hold.release();
});

t.test('a subscription that is over is let go of', async (t) => {
  const rig = await Rig.start(t);
  const events = rig.client.stream('GetContainerEvents');
  events.on('error', () => {});
  await rig.runtime.subscribed();
  t.match(await rig.metrics.registry.metrics(), /holdfast_event_subscriptions 1\n/);
  events.cancel();
  while (!(await rig.metrics.registry.metrics()).includes('holdfast_event_subscriptions 0\n')) await settle();
  t.pass();
});
