/** Holdfast's own small calls to the runtime: what is asked, within what time, and what is made of the answer. */
import t from 'tap';
import {
  methodNameOf,
  type Origin,
  OwnCalls,
  read,
  siblingPath,
  UnreadableError,
  write,
} from '../../src/proxy/own-calls.js';
import { type Upstream, type UpstreamCallOptions, UpstreamStatusError } from '../../src/proxy/upstream.js';
import { decodeMessage, encodeMessage } from '../support/cri-client.js';

const service = '/runtime.v1.RuntimeService';
const origin: Origin = { path: `${service}/CreateContainer`, metadata: [['x-caller', 'kubelet']] };
const { signal } = new AbortController();

/** A runtime that gives every call the same answer. */
function answering(answer: Buffer | Error) {
  const asked: { path: string; request: Buffer; options: UpstreamCallOptions | undefined }[] = [];
  const upstream: Upstream = {
    async unary(path, request, options) {
      asked.push({ path, request, options });
      if (answer instanceof Error) throw answer;
      return { message: answer, initialMetadata: [], status: { code: 0, message: '', trailers: [] } };
    },
    serverStream() {
      throw new Error('not asked for');
    },
    close() {},
  };
  return { calls: new OwnCalls(upstream), asked };
}

const failure = (code: number) => new UpstreamStatusError({ code, message: 'no', trailers: [] });
const notFound = failure(5);
const unavailable = failure(14);
const podSandboxStatus = (state: number) =>
  encodeMessage('PodSandboxStatusResponse', { status: { id: 's1', state, metadata: {} } });

t.test('a pod sandbox is ready where the runtime says so, and not where it has none', async (t) => {
  for (const [answer, isReady, state] of [
    [podSandboxStatus(0), true, 0],
    [podSandboxStatus(1), false, 1],
    [Buffer.alloc(0), false, undefined],
    [notFound, false, undefined],
  ] as const) {
    const { calls, asked } = answering(answer);
    t.equal(await calls.isReady('s1', origin, { signal }), isReady);
    t.equal(await calls.podSandboxState('s1', origin, { signal }), state);
    t.equal(asked.length, 2);
    for (const { path, request, options } of asked) {
      t.equal(path, `${service}/PodSandboxStatus`);
      t.same(decodeMessage('PodSandboxStatusRequest', request), { pod_sandbox_id: 's1', verbose: false });
      t.equal(options?.signal, signal);
    }
  }
});

t.test('the status of a container is read, and there is none where the runtime gives none', async (t) => {
  const status = { id: 'c1', state: 2, started_at: 1, finished_at: 2, exit_code: 3 };
  const { calls, asked } = answering(encodeMessage('ContainerStatusResponse', { status }));
  const found = await calls.containerStatus('c1', origin, { signal });
  t.match(found, { state: 2, exit_code: 3 });
  t.match(asked, [{ path: `${service}/ContainerStatus`, options: { signal } }]);
  t.same(decodeMessage('ContainerStatusRequest', asked[0]?.request ?? Buffer.alloc(0)), {
    container_id: 'c1',
    verbose: false,
  });
  t.same([Number(found?.started_at), Number(found?.finished_at)], [1, 2]);
  for (const answer of [Buffer.alloc(0), notFound]) {
    t.equal(await answering(answer).calls.containerStatus('c1', origin), undefined);
  }
});

t.test('pod sandboxes and containers are listed by a filter, all of them without', async (t) => {
  const items = [{ id: 's1', state: 1, metadata: { name: 'web', uid: 'u', namespace: 'n', attempt: 2 } }];
  const pods = answering(encodeMessage('ListPodSandboxResponse', { items }));
  t.match(await pods.calls.podSandboxes(origin, { id: 's' }, { signal }), items);
  t.equal((await pods.calls.podSandboxes(origin)).length, 1);
  t.match(pods.asked, [{ path: `${service}/ListPodSandbox`, options: { signal } }, {}]);
  t.match(decodeMessage('ListPodSandboxRequest', pods.asked[0]?.request ?? Buffer.alloc(0)), { filter: { id: 's' } });
  t.equal(pods.asked[1]?.request.length, 0);

  const inside = [{ id: 'c1', pod_sandbox_id: 's1', state: 1, labels: { app: 'x' }, annotations: { note: 'y' } }];
  const containers = answering(encodeMessage('ListContainersResponse', { containers: inside }));
  t.match(await containers.calls.containers(origin, { pod_sandbox_id: 's1' }, { signal }), inside);
  t.equal((await containers.calls.containers(origin)).length, 1);
  t.match(containers.asked, [{ path: `${service}/ListContainers`, options: { signal } }, {}]);
  t.match(decodeMessage('ListContainersRequest', containers.asked[0]?.request ?? Buffer.alloc(0)), {
    filter: { pod_sandbox_id: 's1' },
  });
  t.equal(containers.asked[1]?.request.length, 0);
});

t.test('an id that the runtime does not know is no error, anything else that it says is', async (t) => {
  t.equal(await answering(notFound).calls.withId('RemoveContainer', 'c1', origin), undefined);
  t.same(await answering(Buffer.from('gone')).calls.withId('RemoveContainer', 'c1', origin), Buffer.from('gone'));
  const { calls } = answering(unavailable);
  await t.rejects(calls.withId('RemoveContainer', 'c1', origin), unavailable);
  await t.rejects(calls.isReady('s1', origin), unavailable);
  await t.rejects(calls.containerStatus('c1', origin), unavailable);
  await t.rejects(calls.podSandboxes(origin), unavailable);
  await t.rejects(calls.containers(origin), unavailable);
  const lost = new Error('lost');
  await t.rejects(answering(lost).calls.withId('RemoveContainer', 'c1', origin), lost);
  await t.rejects(answering(notFound).calls.call('UpdateContainerResources', Buffer.alloc(0), origin), notFound);
});

t.test('a call has the two minutes that a kubelet gives, unless it is given less, and no metadata', async (t) => {
  const { calls, asked } = answering(Buffer.alloc(0));
  const request = Buffer.from('request');
  t.same(await calls.call('Status', request, origin), Buffer.alloc(0));
  await calls.call('Status', request, origin, { timeoutMs: 1_000, signal });
  t.same(asked, [
    { path: `${service}/Status`, request, options: { timeoutMs: 120_000 } },
    { path: `${service}/Status`, request, options: { timeoutMs: 1_000, signal } },
  ]);
});

t.test('another method of the same service is of the same API version', (t) => {
  t.equal(
    siblingPath('/runtime.v1alpha2.RuntimeService/RunPodSandbox', 'Version'),
    '/runtime.v1alpha2.RuntimeService/Version',
  );
  t.end();
});

t.test('a method is called what it is called in CRI, whatever the version', (t) => {
  t.equal(methodNameOf({ path: '/runtime.v1alpha2.RuntimeService/RunPodSandbox', metadata: [] }), 'RunPodSandbox');
  t.end();
});

t.test('a message is written as it is read, and what is no message is an error', (t) => {
  const bytes = write('RemoveContainerRequest', { container_id: 'c1' });
  t.same(bytes, encodeMessage('RemoveContainerRequest', { container_id: 'c1' }));
  t.match(read('RemoveContainerRequest', bytes), { container_id: 'c1' });
  const unreadable = () => read('RemoveContainerRequest', Buffer.from([0x0a, 0xff]));
  t.throws(unreadable, { name: 'UnreadableError', message: /^cannot read RemoveContainerRequest: index out of range/ });
  t.throws(unreadable, UnreadableError);
  t.throws(unreadable, { cause: RangeError });
  t.equal(new UnreadableError('Status', 'cut short').message, 'cannot read Status: cut short');
  t.throws(() => read('NoSuchMessage', bytes), { name: 'Error' });
  t.end();
});
