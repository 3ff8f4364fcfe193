/** The contract, rules 1 to 4, 6 to 10 and 15: what becomes of a creation, through real sockets against the simulated runtime. */
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { codeOf } from '../support/code-of.js';
import { counted } from '../support/counted.js';
import { encodeMessage } from '../support/cri-client.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;

t.test('rule 1: a creation reaches the runtime once, however many ask for it', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  const ask = () => rig.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const asked = [ask()];
  await hold.arrived();
  asked.push(ask(), ask());
  await rig.step('waiter joined', 'podSandbox', 2);
  hold.release();
  const ids = (await Promise.all(asked)).map((answer) => answer.pod_sandbox_id);
  t.equal(new Set(ids).size, 1);
  t.equal(rig.runtime.calls('RunPodSandbox').length, 1);
});

t.test('rule 2: a waiter that leaves ends only its own wait', async (t) => {
  const rig = await Rig.start(t);
  const request = rig.pod().runPodSandboxRequest();
  const hold = rig.runtime.hold('runPodSandbox');
  const cancelled = new AbortController();
  const lost = rig.anotherClient();
  const byDeadline = codeOf(rig.client.call('RunPodSandbox', request, { deadlineMs: 60_000 }));
  const byCancel = codeOf(rig.client.call('RunPodSandbox', request, { signal: cancelled.signal }));
  lost.call('RunPodSandbox', request).catch(() => {});
  const stays = rig.client.call('RunPodSandbox', request);
  await rig.step('waiter joined', 'podSandbox', 3);
  cancelled.abort();
  lost.close();
  await rig.clock.advance(60_000);
  t.same(await Promise.all([byDeadline, byCancel]), [status.DEADLINE_EXCEEDED, status.CANCELLED]);
  const [call] = rig.runtime.calls('RunPodSandbox');
  t.equal(call?.cancelled, false);
  t.ok((call?.timeoutMs ?? 0) > 800_000, 'the runtime is given the creation timeout, not a waiter’s deadline');
  hold.release();
  t.equal((await stays).pod_sandbox_id, rig.runtime.sandboxes[0]?.id);
});

t.test('rule 3: a live waiter is answered with the runtime’s own result or status the moment it ends', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const path = '/runtime.v1.RuntimeService/RunPodSandbox';
  const bytes = encodeMessage('RunPodSandboxRequest', pod.runPodSandboxRequest());
  const trailers = new grpc.Metadata();
  trailers.set('x-runtime', 'spent');
  trailers.set('grpc-status-details-bin', Buffer.from([8, 9, 255]));
  rig.runtime.failNext('runPodSandbox', {
    code: status.RESOURCE_EXHAUSTED,
    details: 'keine Adressen: müde %',
    trailers,
  });
  const error: grpc.ServiceError = await rig.client.callRaw(path, bytes).then(
    () => t.fail('no error'),
    (reason) => reason,
  );
  t.equal(error.code, status.RESOURCE_EXHAUSTED);
  t.equal(error.details, 'keine Adressen: müde %');
  t.same(error.metadata.get('x-runtime'), ['spent']);
  t.same(error.metadata.get('grpc-status-details-bin'), [Buffer.from([8, 9, 255])]);
  const headers = new grpc.Metadata();
  headers.set('x-first', 'yes');
  rig.runtime.answerNext('runPodSandbox', { headers, trailers });
  const answer = await rig.client.callRaw(path, bytes);
  t.same(answer.metadata.get('x-first'), ['yes']);
  t.same(answer.trailers.get('x-runtime'), ['spent']);
});

t.test('rule 4: a pod sandbox that ends with nobody waiting is listed, and its retry gets the same id', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  const first = codeOf(rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 60_000 }));
  await hold.arrived();
  await rig.clock.advance(60_000);
  t.equal(await first, status.DEADLINE_EXCEEDED);
  t.same((await rig.client.call('ListPodSandbox')).items, []);
  hold.release();
  await rig.step('shown', 'podSandbox');
  const { items } = await rig.client.call('ListPodSandbox');
  t.same(
    items.map(({ state }) => state),
    ['SANDBOX_READY'],
  );
  const retry = await rig.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  t.equal(retry.pod_sandbox_id, items[0]?.id);
  t.equal(rig.runtime.made.sandboxes.length, 1);
});

t.test('rule 6: what is not as the kubelet expects is not replayed but made anew', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  const leave = new AbortController();
  rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { signal: leave.signal }).catch(() => {});
  await hold.arrived();
  leave.abort();
  hold.release();
  await rig.step('shown', 'podSandbox');
  const lost = rig.runtime.sandboxes[0]?.id ?? '';
  rig.runtime.removeBehindTheBack(lost);
  const podSandboxId = await rig.podSandbox(pod);
  t.not(podSandboxId, lost);

  const containerId = await rig.heldContainer(pod, podSandboxId);
  rig.runtime.removeBehindTheBack(containerId);
  const retry = await rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, { image: 'app' }));
  t.not(retry.container_id, containerId);
  t.same(
    rig.runtime.containers.map(({ id }) => id),
    [retry.container_id],
  );
});

t.test('rule 6: a container whose pod sandbox has stopped is not replayed', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const containerId = await rig.heldContainer(pod, podSandboxId);
  rig.runtime.stopBehindTheBack(podSandboxId);
  const retry = rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, { image: 'app' }));
  t.equal(await codeOf(retry), status.NOT_FOUND, 'the runtime’s answer');
  t.notOk(
    rig.runtime.containers.some(({ id }) => id === containerId),
    'and nothing is left in the way',
  );
});

t.test('rule 7: an answer that crossed the caller’s deadline was not delivered', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const containerId = await rig.heldContainer(pod, podSandboxId);
  // The client never sees its own deadline pass, so it acknowledges; Holdfast's clock says that it was too late.
  const check = rig.runtime.hold('podSandboxStatus');
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const late = codeOf(rig.client.call('CreateContainer', request, { deadlineMs: 60_000 }));
  await check.arrived();
  await rig.clock.advance(60_000);
  check.release();
  t.equal(await late, status.DEADLINE_EXCEEDED);
  t.same(await rig.listed(), [], 'it is still hidden');
  const retry = await rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, { image: 'app' }));
  t.equal(retry.container_id, containerId);
  await rig.step('delivered', 'container');
  t.same(await rig.listed(), [containerId]);
});

t.test('rule 7: a look at a pod sandbox that nobody was given is no use of it', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  const leave = new AbortController();
  const asked = rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { signal: leave.signal });
  asked.catch(() => {});
  await hold.arrived();
  leave.abort();
  await rig.step('waiter left', 'podSandbox');
  hold.release();
  await rig.step('shown', 'podSandbox');
  const [shown] = rig.runtime.sandboxes;
  await rig.client.call('PodSandboxStatus', { pod_sandbox_id: shown?.id });
  t.equal(await rig.podSandbox(pod), shown?.id, 'a retry from before it was listed gets it');
  t.notOk(rig.steps('podSandbox').includes('forgotten'));
  await rig.client.call('CreateContainer', pod.createContainerRequest(shown?.id ?? '', { image: 'app' }));
  t.ok(rig.steps('podSandbox').includes('forgotten'), 'a container in it is');
});

t.test('rule 7: an answer stays replayable until its id is used, stopped or removed', async (t) => {
  for (const [method, field] of [
    ['PodSandboxStatus', 'pod_sandbox_id'],
    ['StopPodSandbox', 'pod_sandbox_id'],
  ] as const) {
    await t.test(method, async (t) => {
      const rig = await Rig.start(t);
      const pod = rig.pod();
      const podSandboxId = await rig.podSandbox(pod);
      t.equal(await rig.podSandbox(pod), podSandboxId, 'answered again');
      await rig.client.call(method, { [field]: podSandboxId.slice(0, 20) });
      await rig.step('forgotten', 'podSandbox');
      const again = await rig.podSandbox(pod);
      await rig.step('name reserved', 'podSandbox');
      t.equal(again === podSandboxId, method === 'PodSandboxStatus', 'what has the name is the answer if it is READY');
      t.same(
        rig.runtime.sandboxes.map(({ id }) => id),
        [again],
      );
    });
  }
});

t.test('rule 7: a stop that the runtime refuses changes nothing', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  rig.runtime.failNext('stopPodSandbox', { code: status.UNKNOWN, details: 'failed to stop sandbox' });
  const stop = () => rig.client.call('StopPodSandbox', { pod_sandbox_id: podSandboxId });
  t.equal(await codeOf(stop()), status.UNKNOWN);
  t.equal(await rig.podSandbox(pod), podSandboxId, 'answered again');
  t.notOk(rig.steps('podSandbox').includes('forgotten'));
  await stop();
  await rig.step('forgotten', 'podSandbox');
});

t.test(
  'rule 8: a held container nobody asks for is removed after holdTtl, until the runtime says it is gone',
  async (t) => {
    const rig = await Rig.start(t);
    const pod = rig.pod();
    const podSandboxId = await rig.podSandbox(pod);
    const delivered = await rig.client.call(
      'CreateContainer',
      pod.createContainerRequest(podSandboxId, { image: 'app', name: 'delivered' }),
    );
    await rig.heldContainer(pod, podSandboxId);
    rig.runtime.failNext('removeContainer', { code: status.UNAVAILABLE, details: 'busy' });
    await rig.clock.advance(rig.config.holdTtlMs);
    await rig.step('removal failed', 'container');
    t.same(await rig.listed(), [delivered.container_id], 'hidden until it is gone');
    await rig.clock.advance(1_000);
    await rig.step('reaped', 'container');
    t.same(
      rig.runtime.containers.map(({ id }) => id),
      [delivered.container_id],
      'what was delivered stays',
    );
    t.same(
      rig.runtime.sandboxes.map(({ id }) => id),
      [podSandboxId],
    );
  },
);

t.test('rule 9: an error with nobody waiting is logged, counted and not kept', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  const leave = new AbortController();
  rig.runtime.failNext('runPodSandbox', { code: status.INTERNAL, details: 'no address' });
  rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { signal: leave.signal }).catch(() => {});
  await hold.arrived();
  leave.abort();
  await rig.step('waiter left', 'podSandbox');
  hold.release();
  await rig.logged((line) => line.step === 'failed' && line.error === 'no address');
  const failed = (await counted(rig.metrics.creations)).find(({ labels }) => labels.outcome === 'failed');
  t.equal(failed?.value, 1);
  t.equal(await rig.podSandbox(pod), rig.runtime.sandboxes[0]?.id);
});

t.test(
  'rule 10: what a kubelet’s retry changes without meaning it is no drift, and drift does not undo work',
  async (t) => {
    const rig = await Rig.start(t);
    const pod = rig.pod();
    const podSandboxId = await rig.podSandbox(pod);
    const containerId = await rig.heldContainer(pod, podSandboxId);
    // Another termination-log path and another order of the environment come with every request of KubeletPod.
    pod.kubeletRestarted();
    const same = await rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, { image: 'app' }));
    t.equal(same.container_id, containerId);
    t.notOk(rig.lines.some(({ step }) => step === 'drift'));

    const secret = { image: 'app', envs: { TOKEN: 'hunter2' } };
    const drifted = await rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, secret));
    t.equal(drifted.container_id, containerId);
    t.match(
      rig.lines.find(({ step }) => step === 'drift'),
      { differs: ['config.envs[TOKEN]'] },
    );
    t.notOk(JSON.stringify(rig.lines).includes('hunter2'));
    t.equal((await counted(rig.metrics.drift))[0]?.value, 1);
    t.equal(rig.runtime.made.containers.length, 1);
  },
);

t.test(
  'rule 10: a changed spec or another pod sandbox removes what was not delivered and makes a new one',
  async (t) => {
    const rig = await Rig.start(t);
    const pod = rig.pod();
    const podSandboxId = await rig.podSandbox(pod);
    const old = await rig.heldContainer(pod, podSandboxId);
    const changed = pod.createContainerRequest(podSandboxId, { image: 'app', hash: 'another' });
    const { container_id } = await rig.client.call('CreateContainer', changed);
    t.not(container_id, old);
    t.same(
      rig.runtime.containers.map(({ id }) => id),
      [container_id],
    );
  },
);

t.test('rule 15: new work waits its turn, everything else does not', async (t) => {
  const rig = await Rig.start(t, { config: { maxCreations: 1 } });
  const pod = rig.pod();
  const ready = await rig.podSandbox(pod);
  const hold = rig.runtime.hold('runPodSandbox');
  const [first, second] = [rig.pod({ uid: 'uid-2' }), rig.pod({ uid: 'uid-3' })];
  const running = rig.podSandbox(first);
  await hold.arrived();
  const leave = new AbortController();
  rig.client.call('RunPodSandbox', second.runPodSandboxRequest(), { signal: leave.signal }).catch(() => {});
  await rig.step('queued', 'podSandbox', 3);
  leave.abort();
  await rig.step('waiter left', 'podSandbox');
  t.equal(await codeOf(rig.client.call('Status')), status.OK);
  t.same(await rig.listed(), []);
  t.equal(await rig.podSandbox(pod), ready, 'a replay does not wait');
  t.equal(rig.runtime.calls('RunPodSandbox').length, 2, 'the queued one has not begun');
  const joined = rig.podSandbox(first);
  await rig.step('waiter joined', 'podSandbox');
  hold.release();
  t.equal(await joined, await running);
  await rig.step('shown', 'podSandbox');
  t.equal(rig.runtime.sandboxes.length, 3, 'the queued one kept its place without its waiter');
});
