/** The contract, rule 5: what is hidden and from whom, through real sockets. */
import * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';
import t from 'tap';
import { okTrailers, responseHeaders } from '../proxy/http2/raw-runtime.js';
import { data, headers, message } from '../proxy/http2/wire.js';
import { codeOf } from '../support/code-of.js';
import { type CriClient, encodeMessage, type KubeletPod } from '../support/cri-client.js';
import { arrival, rawRig } from '../support/raw-rig.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;

/** What is asked for and shows every container, and how many containers an answer shows. */
const reports: Readonly<Record<string, (client: CriClient, podSandboxId: string) => Promise<number>>> = {
  ListContainers: async (client) => (await client.call('ListContainers')).containers.length,
  PodSandboxStatus: async (client, id) =>
    (await client.call('PodSandboxStatus', { pod_sandbox_id: id })).containers_statuses.length,
  ListContainerStats: async (client) => (await client.call('ListContainerStats')).stats.length,
  StreamContainers: (client) =>
    new Promise((resolve, reject) => {
      let count = 0;
      const stream = client.stream('StreamContainers');
      stream.on('data', ({ containers }: { containers: unknown[] }) => {
        count += containers.length;
      });
      stream.on('error', reject).on('end', () => resolve(count));
    }),
};

const stepOf = (method: string) => method.charAt(0).toLowerCase() + method.slice(1);

/** A container that the runtime lists and has not answered for, whose one waiter is there until `leave` is called. */
async function beingMade(rig: Rig, pod: KubeletPod, podSandboxId: string) {
  const answer = rig.runtime.hold('createContainerAnswer');
  const waits = new AbortController();
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const call = rig.client.call('CreateContainer', request, { signal: waits.signal });
  call.catch(() => {});
  await answer.arrived();
  const leave = async () => {
    waits.abort();
    await rig.step('waiter left', 'container');
  };
  return { id: rig.runtime.containers[0]?.id ?? '', call, leave, finish: () => answer.release() };
}

async function scene(t: Test) {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  return { rig, pod, podSandboxId: await rig.podSandbox(pod) };
}

t.test(
  'rule 5: a container nobody waits for is in no report until it is delivered, and then its events come',
  async (t) => {
    const rig = await Rig.start(t);
    const pod = rig.pod();
    const podSandboxId = await rig.podSandbox(pod);
    const events: { container_id: string; containers_statuses: { id: string }[] }[] = [];
    const stream = rig.client.stream('GetContainerEvents');
    stream.on('data', (event) => events.push(event));
    stream.on('error', () => {});
    await rig.runtime.subscribed();

    const answered = rig.runtime.hold('createContainerAnswer');
    const leave = new AbortController();
    const request = () => pod.createContainerRequest(podSandboxId, { image: 'app' });
    const made = rig.runtime.hold('createContainer');
    rig.client.call('CreateContainer', request(), { signal: leave.signal }).catch(() => {});
    await made.arrived();
    leave.abort();
    await rig.step('waiter left', 'container');
    made.release();
    await answered.arrived();
    const id = rig.runtime.containers[0]?.id ?? '';
    const reports = async (client: CriClient) => ({
      list: await rig.listed(client),
      byStatus: (await client.call('PodSandboxStatus', { pod_sandbox_id: podSandboxId })).containers_statuses.length,
      status: await codeOf(client.call('ContainerStatus', { container_id: id })),
      stats: (await client.call('ListContainerStats')).stats.length,
      oneStats: await codeOf(client.call('ContainerStats', { container_id: id })),
      podStats: (await client.call('ListPodSandboxStats')).stats.flatMap(({ linux }) => linux?.containers ?? []).length,
      metrics: (
        await client.callRaw('/runtime.v1.RuntimeService/ListPodSandboxMetrics', Buffer.alloc(0))
      ).message.includes(id),
      streamed: await new Promise<number>((resolve) => {
        let count = 0;
        client
          .stream('StreamContainers')
          .on('data', (part: { containers: unknown[] }) => {
            count += part.containers.length;
          })
          .on('end', () => resolve(count));
      }),
    });
    const nowhere = {
      list: [],
      byStatus: 0,
      status: status.NOT_FOUND,
      stats: 0,
      oneStats: status.NOT_FOUND,
      podStats: 0,
      metrics: false,
      streamed: 0,
    };
    t.match(await reports(rig.direct), { list: [id], byStatus: 1, status: 0, stats: 1, metrics: true, streamed: 1 });
    t.same(await reports(rig.client), nowhere, 'while the runtime has not answered');
    answered.release();
    await rig.step('held', 'container');
    t.same(await reports(rig.client), nowhere, 'while it is held');
    t.same(
      events.filter(({ container_id }) => container_id === id),
      [],
    );

    const retry = await rig.client.call('CreateContainer', request());
    t.equal(retry.container_id, id);
    await rig.step('delivered', 'container');
    t.match(await reports(rig.client), { list: [id], byStatus: 1, status: 0, stats: 1, metrics: true, streamed: 1 });
    await new Promise<void>((resolve) => {
      if (events.some(({ container_id }) => container_id === id)) resolve();
      else stream.on('data', () => resolve());
    });
    t.same(
      events.map(({ container_id, containers_statuses }) => [container_id, containers_statuses.map((each) => each.id)]),
      [[id, [id]]],
    );
    stream.cancel();
  },
);

t.test('rule 5: when nothing is hidden, lists are not touched', async (t) => {
  const rig = await Rig.start(t);
  await rig.podSandbox(rig.pod());
  await rig.listed();
  const text = await rig.metrics.registry.metrics();
  t.match(text, 'holdfast_calls_total{method="ListContainers",handling="passed"} 1\n');
  t.match(text, 'holdfast_calls_total{method="ListContainers",handling="taken"} 0\n');
});

for (const [method, count] of Object.entries(reports)) {
  t.test(`rule 5: ${method} under way does not show a container that becomes hidden meanwhile`, async (t) => {
    await t.test('where it went to the runtime before the container was asked for', async (t) => {
      const { rig, pod, podSandboxId } = await scene(t);
      const hold = rig.runtime.hold(stepOf(method));
      const asked = count(rig.client, podSandboxId);
      await hold.arrived();
      const { leave, finish } = await beingMade(rig, pod, podSandboxId);
      await leave();
      hold.release();
      t.equal(await asked, 0);
      t.equal(await count(rig.direct, podSandboxId), 1);
      finish();
    });

    await t.test('where it was asked while somebody waited for the container', async (t) => {
      const { rig, pod, podSandboxId } = await scene(t);
      const { leave, finish } = await beingMade(rig, pod, podSandboxId);
      const hold = rig.runtime.hold(stepOf(method));
      const asked = count(rig.client, podSandboxId);
      await hold.arrived();
      await leave();
      finish();
      await rig.step('held', 'container');
      hold.release();
      t.equal(await asked, 0);
    });

    await t.test('and shows one that was delivered meanwhile', async (t) => {
      const { rig, pod, podSandboxId } = await scene(t);
      const hold = rig.runtime.hold(stepOf(method));
      const asked = count(rig.client, podSandboxId);
      await hold.arrived();
      const { call, finish } = await beingMade(rig, pod, podSandboxId);
      finish();
      await call;
      hold.release();
      t.equal(await asked, 1);
    });
  });
}

for (const method of ['ContainerStatus', 'ContainerStats'] as const) {
  t.test(`rule 5: ${method} of a container that becomes hidden meanwhile does not find it`, async (t) => {
    const { rig, pod, podSandboxId } = await scene(t);
    const { id, leave, finish } = await beingMade(rig, pod, podSandboxId);
    const hold = rig.runtime.hold(stepOf(method));
    const asked = codeOf(rig.client.call(method, { container_id: id }));
    await hold.arrived();
    await leave();
    hold.release();
    t.equal(await asked, status.NOT_FOUND);
    finish();
  });
}

t.test('rule 5: a stream that has begun leaves out a container that becomes hidden between two messages', async (t) => {
  const { rig, runtime } = await rawRig(t);
  const leave = new AbortController();
  const made = rig.pod().createContainerRequest('sandbox', { image: 'app' });
  rig.client.call('CreateContainer', made, { signal: leave.signal }).catch(() => {});
  await arrival(runtime, 'CreateContainer');
  const shown: string[][] = [];
  const stream = rig.client.stream('StreamContainers');
  const first = new Promise((resolve) => stream.once('data', resolve));
  stream.on('data', ({ containers }: { containers: { id: string }[] }) => shown.push(containers.map(({ id }) => id)));
  const { connection, request } = await arrival(runtime, 'StreamContainers');
  const part = (...ids: string[]) => {
    const { metadata } = made.config;
    const containers = ids.map((id) => ({ id, pod_sandbox_id: id === 'late' ? 'sandbox' : 'another', metadata }));
    return data(request.streamId, message(encodeMessage('StreamContainersResponse', { containers })));
  };
  connection.write(headers(request.streamId, responseHeaders), part('one'));
  await first;
  leave.abort();
  await rig.step('waiter left', 'container');
  connection.write(part('two', 'late'), headers(request.streamId, okTrailers, true));
  await new Promise((resolve) => stream.once('end', resolve));
  t.strictSame(shown, [['one'], ['two']]);
});

t.test('rule 5: while pod sandboxes are made and nothing is hidden, lists are the client’s own streams', async (t) => {
  const { rig, runtime } = await rawRig(t);
  const leave = new AbortController();
  rig.client.call('RunPodSandbox', rig.pod().runPodSandboxRequest(), { signal: leave.signal }).catch(() => {});
  await arrival(runtime, 'RunPodSandbox');
  leave.abort();
  await rig.step('waiter left', 'podSandbox');
  const asked = rig.listed();
  const { connection, request } = await arrival(runtime, 'ListContainers');
  t.match(request.fields['user-agent'], /^grpc-node-js/);
  connection.answer(request.streamId, '');
  t.strictSame(await asked, []);
});

t.test(
  'rule 5: a streamed report whose hidden container cannot be identified fails, and nothing else does',
  async (t) => {
    const { rig, pod, podSandboxId } = await scene(t);
    for (const uid of ['uid-2', 'uid-3']) await rig.podSandbox(rig.pod({ uid }));
    const hold = rig.runtime.hold('createContainer');
    const leave = new AbortController();
    const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
    rig.client.call('CreateContainer', request, { signal: leave.signal }).catch(() => {});
    await hold.arrived();
    const streamed = () => {
      const stream = rig.client.stream('StreamPodSandboxMetrics');
      let messages = 0;
      stream.on('data', () => {
        messages += 1;
      });
      return new Promise<string>((resolve) => {
        stream.on('error', ({ code, details }: grpc.ServiceError) => resolve(`${code} ${details}`));
        stream.on('end', () => resolve(`${messages} messages`));
      });
    };
    // Taken, and open when the container becomes hidden.
    const open = rig.runtime.hold('streamPodSandboxMetrics');
    const asked = streamed();
    await open.arrived();
    leave.abort();
    await rig.step('waiter left', 'container');
    rig.runtime.failNext('listContainers', { code: status.INTERNAL, details: 'the store is closed' });
    open.release();
    t.equal(await asked, `${status.INTERNAL} the store is closed`);
    t.equal(await streamed(), '2 messages');
    t.strictSame(await rig.listed(), []);
    const again = rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, { image: 'app' }));
    await rig.step('waiter joined', 'container');
    hold.release();
    t.equal((await again).container_id, rig.runtime.containers[0]?.id);
  },
);
