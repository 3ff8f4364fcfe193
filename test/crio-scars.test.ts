/**
 * What CRI-O's resource store was tested for (its test/timeout.bats) and what went wrong with it since, by the number of the
 * pull request or issue at cri-o/cri-o. Where Holdfast decides otherwise, the test says so.
 */
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { codeOf } from './support/code-of.js';
import { counted } from './support/counted.js';
import type { KubeletPod } from './support/cri-client.js';
import { settle } from './support/manual-clock.js';
import { Rig } from './support/rig.js';

const { status } = grpc;

/** A pod sandbox that was finished after its caller had timed out. */
async function latePodSandbox(rig: Rig, pod: KubeletPod): Promise<string> {
  const hold = rig.runtime.hold('runPodSandbox');
  const asked = codeOf(rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 3_600_000 }));
  await hold.arrived();
  await rig.clock.advance(3_600_000);
  await asked;
  hold.release();
  await rig.step('shown', 'podSandbox');
  return rig.runtime.sandboxes[0]?.id ?? '';
}

const patient = { config: { creationTimeoutMs: 86_400_000, holdTtlMs: 60_000, replayTtlMs: 86_400_000 } };
const image = { image: 'app' };

t.test('timeout.bats: a pod is not cleaned up after a timeout', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const id = await latePodSandbox(rig, pod);
  t.equal(await rig.podSandbox(pod), id);
});

t.test('timeout.bats: a container is not cleaned up after a timeout', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const id = await rig.heldContainer(pod, podSandboxId);
  const retry = await rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, image));
  t.equal(retry.container_id, id);
});

t.test('timeout.bats: a pod is cleaned up after a timeout if the request changes to another attempt', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const old = await latePodSandbox(rig, pod);
  const next = await rig.podSandbox(pod.withAttempt(1));
  t.not(next, old);
  t.same(
    rig.runtime.sandboxes.map(({ id }) => id),
    [next],
  );
});

t.test('timeout.bats: a container is cleaned up after a timeout if the request changes', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  await rig.heldContainer(pod, podSandboxId);
  const changed = pod.createContainerRequest(podSandboxId, { ...image, hash: 'changed' });
  const { container_id } = await rig.client.call('CreateContainer', changed);
  t.same(
    rig.runtime.containers.map(({ id }) => id),
    [container_id],
  );
});

t.test(
  'timeout.bats, otherwise here: a pod nobody asks for again is shown, so it is the kubelet’s to remove',
  async (t) => {
    const rig = await Rig.start(t, patient);
    const id = await latePodSandbox(rig, rig.pod());
    await rig.clock.advance(86_400_000);
    t.same(
      (await rig.client.call('ListPodSandbox')).items.map((item) => item.id),
      [id],
    );
  },
);

t.test('timeout.bats: a container nobody asks for again is cleaned up', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  await rig.heldContainer(pod, await rig.podSandbox(pod));
  await rig.clock.advance(60_000);
  await rig.step('reaped', 'container');
  t.same(rig.runtime.containers, []);
  t.same(
    rig.runtime.reservedNames.filter((name) => name.startsWith('app_')),
    [],
    'and its name is free',
  );
});

t.test('timeout.bats, otherwise here: a late pod can be used at once', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const id = await latePodSandbox(rig, pod);
  t.equal((await rig.client.call('PodSandboxStatus', { pod_sandbox_id: id })).status.state, 'SANDBOX_READY');
  t.type((await rig.client.call('CreateContainer', pod.createContainerRequest(id, image))).container_id, 'string');
});

t.test('timeout.bats: a late container is unknown before it is asked for again', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const container_id = await rig.heldContainer(pod, await rig.podSandbox(pod));
  t.equal(await codeOf(rig.client.call('ContainerStatus', { container_id })), status.NOT_FOUND);
  t.equal(await codeOf(rig.client.call('ContainerStats', { container_id })), status.NOT_FOUND);
  t.same(await rig.listed(), []);
});

t.test('timeout.bats, #5052: a real duplicate of a finished pod or container is answered at once', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  t.equal(await rig.podSandbox(pod), podSandboxId);
  const create = () => rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, image));
  const { container_id } = await create();
  t.equal((await create()).container_id, container_id);
});

t.test('timeout.bats, #6923: requests that wait for a creation under way are counted, by kind', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const sandboxes = rig.runtime.hold('runPodSandbox');
  const asked = [rig.podSandbox(pod), rig.podSandbox(pod)];
  await rig.step('waiter joined', 'podSandbox');
  sandboxes.release();
  const [podSandboxId = ''] = await Promise.all(asked);
  const containers = rig.runtime.hold('createContainer');
  const create = () => rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, image));
  const creating = [create(), create()];
  await rig.step('waiter joined', 'container');
  containers.release();
  await Promise.all(creating);
  const joins = (await counted(rig.metrics.joins)).map(({ labels, value }) => [labels.kind, value]);
  t.same(joins, [
    ['podSandbox', 1],
    ['container', 1],
  ]);
});

t.test('#4530: a request that joins and one that replays at the same moment both get the id', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandboxAnswer');
  const joined = [rig.podSandbox(pod), rig.podSandbox(pod)];
  await hold.arrived();
  hold.release();
  const replayed = Array.from({ length: 20 }, () => rig.podSandbox(pod));
  t.equal(new Set(await Promise.all([...joined, ...replayed])).size, 1);
});

t.test('#4722: a superseded pod sandbox is stopped before it is removed', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  await latePodSandbox(rig, pod);
  await rig.podSandbox(pod.withAttempt(1));
  t.same(
    rig.runtime.received.map(({ method }) => method).filter((method) => /^(Stop|Remove|Run)PodSandbox$/.test(method)),
    ['RunPodSandbox', 'StopPodSandbox', 'RemovePodSandbox', 'RunPodSandbox'],
  );
});

t.test('#4834: a creation of many minutes, with retry after retry, is still one creation', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  for (let minute = 0; minute < 20; minute += 4) {
    const tried = codeOf(rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 240_000 }));
    await (minute === 0 ? hold.arrived() : rig.step('waiter joined', 'podSandbox', minute / 4));
    await rig.clock.advance(240_000);
    t.equal(await tried, status.DEADLINE_EXCEEDED);
  }
  const last = rig.podSandbox(pod);
  await rig.step('waiter joined', 'podSandbox', 5);
  hold.release();
  t.equal(await last, rig.runtime.sandboxes[0]?.id);
  t.equal(rig.runtime.made.sandboxes.length, 1);
});

t.test('#5590: a waiter is not answered with an error before its own deadline', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  const first = rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 3_600_000 });
  await hold.arrived();
  let over = false;
  first.then(
    () => {
      over = true;
    },
    () => {
      over = true;
    },
  );
  await rig.clock.advance(3_590_000);
  t.equal(over, false);
  hold.release();
  t.equal((await first).pod_sandbox_id, rig.runtime.sandboxes[0]?.id);
});

t.test('#5627, #6403: nothing is left of creations that ended, well or badly, with or without waiters', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  rig.runtime.failNext('runPodSandbox', { code: status.INTERNAL, details: 'no' });
  await codeOf(rig.podSandbox(pod));
  const podSandboxId = await rig.podSandbox(pod);
  await rig.heldContainer(pod, podSandboxId);
  await rig.clock.advance(60_000);
  await rig.step('reaped', 'container');
  await rig.client.call('StopPodSandbox', { pod_sandbox_id: podSandboxId });
  await rig.client.call('RemovePodSandbox', { pod_sandbox_id: podSandboxId });
  await settle();
  // The look at the socket file that is under way.
  while (rig.clock.pending === 0) await settle();
  const entries = await rig.metrics.registry.getSingleMetric('holdfast_entries')?.get();
  t.equal(entries?.values[0]?.value, 0);
  t.equal(rig.clock.pending, 1, 'nothing but the next look is due');
});

t.test('#8790, #8794: an early failure with nobody waiting is not kept as if it were a result', async (t) => {
  const rig = await Rig.start(t, patient);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  rig.runtime.failNext('runPodSandbox', { code: status.CANCELLED, details: 'context canceled' });
  const leave = new AbortController();
  rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { signal: leave.signal }).catch(() => {});
  await hold.arrived();
  leave.abort();
  await rig.step('waiter left', 'podSandbox');
  hold.release();
  await rig.step('failed', 'podSandbox');
  t.equal(await rig.podSandbox(pod), rig.runtime.sandboxes[0]?.id, 'the retry makes it, and its name was free');
});
