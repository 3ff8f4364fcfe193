import { status } from '@grpc/grpc-js';
import t from 'tap';
import { criMethods } from '../../../src/harness/runtime/messages.js';
import { CriClient } from '../../support/cri-client.js';
import { type Bench, bench, create, failure, runPod } from '../support.js';

async function collect(stream: AsyncIterable<unknown>): Promise<unknown[]> {
  const messages: unknown[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

/** Three pods, `p0` to `p2`, with a container each; that of `p0` runs, and `p2` is stopped. */
async function threePods(it: Bench): Promise<{ sandboxes: string[]; containers: string[] }> {
  const sandboxes: string[] = [];
  const containers: string[] = [];
  for (const uid of ['p0', 'p1', 'p2']) {
    const pod = it.pod({ uid, labels: { tier: uid === 'p1' ? 'b' : 'a' } });
    const sandboxId = await runPod(it, pod);
    sandboxes.push(sandboxId);
    containers.push(await create(it, pod, sandboxId));
  }
  await it.client.call('StartContainer', { container_id: containers[0] });
  await it.client.call('StopPodSandbox', { pod_sandbox_id: sandboxes[2] });
  return { sandboxes, containers };
}

const ids = (items: readonly { id: string }[]): string[] => items.map(({ id }) => id);

t.test('Version has its four fields and Status both conditions, in v1 and v1alpha2', async (t) => {
  const { runtime, client } = await bench(t);
  const alpha = new CriClient(runtime.socketPath, 'v1alpha2');
  t.teardown(() => alpha.close());
  for (const version of [client, alpha]) {
    t.match(await version.call('Version'), {
      version: '0.1.0',
      runtime_name: 'containerd',
      runtime_version: /./,
      runtime_api_version: /./,
    });
    const { conditions } = (await version.call('Status')).status;
    t.match(conditions, [
      { type: 'RuntimeReady', status: true },
      { type: 'NetworkReady', status: true },
    ]);
  }
  t.match(runtime.received, [{ version: 'v1' }, { version: 'v1' }, { version: 'v1alpha2' }, { version: 'v1alpha2' }]);
});

t.test('sandboxes are listed by id, prefix, state and label', async (t) => {
  const it = await bench(t);
  const { client } = it;
  const { sandboxes } = await threePods(it);
  const list = async (filter: object) => ids((await client.call('ListPodSandbox', { filter })).items);
  t.same(await list({}), sandboxes);
  t.same(await list({ id: sandboxes[1] }), [sandboxes[1]]);
  t.same(await list({ id: sandboxes[1]?.slice(0, 40) }), [sandboxes[1]]);
  t.same(await list({ state: { state: 'SANDBOX_NOTREADY' } }), [sandboxes[2]]);
  t.same(await list({ state: { state: 'SANDBOX_READY' } }), sandboxes.slice(0, 2));
  t.same(await list({ label_selector: { 'io.kubernetes.pod.uid': 'p1' } }), [sandboxes[1]]);
  t.same(await list({ label_selector: { tier: 'a' }, state: { state: 'SANDBOX_READY' } }), [sandboxes[0]]);
});

t.test('containers are listed by id, sandbox, state and label', async (t) => {
  const it = await bench(t);
  const { client } = it;
  const { sandboxes, containers } = await threePods(it);
  const list = async (filter: object) => ids((await client.call('ListContainers', { filter })).containers);
  t.same(await list({}), containers);
  t.same(await list({ id: containers[2] }), [containers[2]]);
  t.same(await list({ pod_sandbox_id: sandboxes[1] }), [containers[1]]);
  t.same(await list({ state: { state: 'CONTAINER_RUNNING' } }), [containers[0]]);
  t.same(await list({ state: { state: 'CONTAINER_CREATED' } }), containers.slice(1));
  t.same(await list({ label_selector: { 'io.kubernetes.pod.uid': 'p2' } }), [containers[2]]);
});

t.test('streamed lists hold what the lists hold', async (t) => {
  const it = await bench(t);
  const { client } = it;
  const { sandboxes, containers } = await threePods(it);
  const pods = (await collect(client.stream('StreamPodSandboxes'))) as { pod_sandboxes: { id: string }[] }[];
  t.same(ids(pods.flatMap((message) => message.pod_sandboxes)), sandboxes);
  t.equal(pods.length, 2, 'in more than one message');
  const all = (await collect(client.stream('StreamContainers'))) as { containers: { id: string }[] }[];
  t.same(ids(all.flatMap((message) => message.containers)), containers);
  t.match(await collect(client.stream('StreamContainerStats')), [
    { container_stats: [{}, {}] },
    { container_stats: [{}] },
  ]);
});

t.test('stats and metrics name the containers, nested ones too', async (t) => {
  const it = await bench(t);
  const { client } = it;
  const { sandboxes, containers } = await threePods(it);
  t.match(await client.call('ListContainerStats'), { stats: containers.map((id) => ({ attributes: { id } })) });
  t.match(await client.call('ListContainerStats', { filter: { pod_sandbox_id: sandboxes[1] } }), {
    stats: [{ attributes: { id: containers[1] } }],
  });
  t.match(await client.call('ContainerStats', { container_id: containers[0] }), {
    stats: { attributes: { id: containers[0] } },
  });
  t.match(await client.call('ListPodSandboxStats'), {
    stats: sandboxes.map((id, at) => ({
      attributes: { id },
      linux: { containers: [{ attributes: { id: containers[at] } }] },
    })),
  });
  const { message } = await client.callRaw('/runtime.v1.RuntimeService/ListPodSandboxMetrics', Buffer.alloc(0));
  for (const id of [...sandboxes, ...containers]) t.ok(message.includes(id));
});

t.test('every subscriber gets every event, with the state of the pod in it', async (t) => {
  const it = await bench(t);
  const { runtime, client, pod } = it;
  const streams = [client.stream('GetContainerEvents'), client.stream('GetContainerEvents')];
  const seen = streams.map((stream) => {
    const events: { container_event_type: string; container_id: string }[] = [];
    const gone = new Promise<void>((resolve) => {
      stream.on('data', (event) => {
        events.push(event);
        if (event.container_event_type === 'CONTAINER_DELETED_EVENT' && events.length > 6) resolve();
      });
    });
    stream.on('error', () => undefined);
    return { events, gone };
  });
  await runtime.subscribed(2);
  const web = pod();
  const sandboxId = await runPod(it, web);
  const id = await create(it, web, sandboxId);
  await client.call('StartContainer', { container_id: id });
  await client.call('StopContainer', { container_id: id });
  await client.call('RemoveContainer', { container_id: id });
  await client.call('RemovePodSandbox', { pod_sandbox_id: sandboxId });
  for (const { events, gone } of seen) {
    await gone;
    t.same(
      events.map((event) => [event.container_id === id ? 'container' : 'sandbox', event.container_event_type]),
      [
        ['sandbox', 'CONTAINER_CREATED_EVENT'],
        ['sandbox', 'CONTAINER_STARTED_EVENT'],
        ['container', 'CONTAINER_CREATED_EVENT'],
        ['container', 'CONTAINER_STARTED_EVENT'],
        ['container', 'CONTAINER_STOPPED_EVENT'],
        ['container', 'CONTAINER_DELETED_EVENT'],
        ['sandbox', 'CONTAINER_STOPPED_EVENT'],
        ['sandbox', 'CONTAINER_DELETED_EVENT'],
      ],
    );
    t.match(events[3], {
      pod_sandbox_status: { id: sandboxId },
      containers_statuses: [{ state: 'CONTAINER_RUNNING' }],
    });
  }
  for (const stream of streams) stream.cancel();
});

t.test('ExecSync echoes', async (t) => {
  const it = await bench(t);
  const { containers } = await threePods(it);
  const answer = await it.client.call('ExecSync', { container_id: containers[0], cmd: ['echo', 'ä'], timeout: 1 });
  t.equal(Buffer.from(answer.stdout).toString(), 'echo ä\n');
});

t.test('a method that makes nothing can be held, failed and made to hang too', async (t) => {
  const { runtime, client } = await bench(t);
  const held = runtime.hold('listContainers');
  const list = client.call('ListContainers');
  await held.arrived();
  held.release();
  t.same(await list, { containers: [] });
  runtime.failNext('status', { code: status.UNAVAILABLE, details: 'gone' });
  t.same(await failure(client.call('Status')), { code: status.UNAVAILABLE, details: 'gone' });
  runtime.answerNext('version', { hang: true });
  t.match(await failure(client.call('Version', {}, { deadlineMs: 20 })), { code: status.DEADLINE_EXCEEDED });
  t.match(await client.call('Version'), { version: '0.1.0' });
});

t.test('no method of cri.proto is left unimplemented', async (t) => {
  const { client } = await bench(t);
  for (const { name, service, streams } of criMethods.values()) {
    if (streams) continue;
    const { code } = await failure(client.callRaw(`/runtime.v1.${service}/${name}`, Buffer.alloc(0)));
    t.not(code, status.UNIMPLEMENTED, name);
  }
});

t.test('methods newer than v1alpha2 are unknown to it', async (t) => {
  const { client } = await bench(t);
  const path = '/runtime.v1alpha2.RuntimeService/ListPodSandboxMetrics';
  t.match(await failure(client.callRaw(path, Buffer.alloc(0))), { code: status.UNIMPLEMENTED });
});
