/** The contract, rules 2, 3, 13 and 14 as the wire shows them: what reaches the runtime and the client, and what does not. */
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { Flag, FrameType, headersFrames, Setting } from '../../src/proxy/http2/frames.js';
import { encodeLiteralBlock } from '../../src/proxy/http2/hpack.js';
import type { RawRuntime } from '../proxy/http2/raw-runtime.js';
import {
  data,
  type Frame,
  fields,
  longText,
  message,
  ping,
  requestFields,
  settings,
  settingsAck,
} from '../proxy/http2/wire.js';
import { anyService, startBackend } from '../support/any-backend.js';
import { makeCalls, type Seen } from '../support/any-client.js';
import { codeOf } from '../support/code-of.js';
import type { KubeletPod } from '../support/cri-client.js';
import { encodeMessage } from '../support/cri-client.js';
import { arrival, handled, pathOf, RawCaller, rawRig } from '../support/raw-rig.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;

const isAck = (flags: number) => (flags & Flag.ack) !== 0;

const hourMs = 3_600_000;
const runPodSandbox = (pod: KubeletPod) => encodeMessage('RunPodSandboxRequest', pod.runPodSandboxRequest());
const podSandbox = (id: string) => encodeMessage('RunPodSandboxResponse', { pod_sandbox_id: id });

/** PINGs that ask for an answer. */
const pingsIn = (frames: readonly Frame[]) =>
  frames.filter(({ type, flags }) => type === FrameType.ping && !isAck(flags));
const pingsAt = (runtime: RawRuntime) => runtime.connections.flatMap(({ frames }) => pingsIn(frames));

/** HEADERS and CONTINUATIONs that end a stream. */
function trailersOnly(streamId: number, list: Readonly<Record<string, string>>): Buffer {
  return headersFrames(streamId, encodeLiteralBlock(fields(list)), true);
}

t.test('rule 13: the runtime gets the downstream’s own bytes, unknown fields and all', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const unknown = Buffer.from([0xfa, 0x3f, 3, 1, 2, 3]);
  const bytes = Buffer.concat([encodeMessage('RunPodSandboxRequest', pod.runPodSandboxRequest()), unknown]);
  await rig.client.callRaw('/runtime.v1.RuntimeService/RunPodSandbox', bytes);
  t.ok(rig.runtime.calls('RunPodSandbox')[0]?.request.equals(bytes));
});

t.test('rule 14: calls that make nothing reach the runtime as they are, in either API version', async (t) => {
  const rig = await Rig.start(t);
  const metadata = new grpc.Metadata();
  metadata.set('traceparent', '00-1-2-03');
  const old = rig.anotherClient('v1alpha2');
  t.teardown(() => old.close());
  t.equal((await rig.client.call('Version', {}, { metadata, deadlineMs: 55_000 })).version, '0.1.0');
  t.equal((await old.call('Version')).version, '0.1.0');
  const [v1, v1alpha2] = rig.runtime.calls('Version');
  t.equal(v1?.version, 'v1');
  t.equal(v1alpha2?.version, 'v1alpha2');
  t.same(v1?.metadata.get('traceparent'), ['00-1-2-03']);
  t.ok((v1?.timeoutMs ?? 0) > 40_000 && (v1?.timeoutMs ?? 0) <= 55_000, 'the caller’s deadline');
  t.equal(
    await codeOf(rig.client.callRaw('/runtime.v1.RuntimeService/AddedLater', Buffer.alloc(0))),
    status.UNIMPLEMENTED,
  );
});

t.test(
  'rule 14: methods in no proto pass in every shape, bytes, metadata, trailers and status unchanged',
  async (t) => {
    const rig = await Rig.start(t, { runtimeUp: false });
    const backend = await startBackend(rig.config.runtime);
    t.teardown(() => backend.forceShutdown());
    const metadata = [
      ['x-asked', 'value'],
      ['x-asked-bin', 'AP8K'],
      ['x-long', 'yes'],
    ] as const;
    const calls = (['unary', 'clientStream', 'serverStream', 'bidi'] as const).flatMap((shape) => {
      const call = { path: `${anyService}/${shape}`, shape, messages: [5, 6], metadata };
      return [call, { ...call, metadata: [...metadata, ['x-fail', 'yes'] as const] }];
    });
    const exchange = async (socket: string) => {
      const seen = await makeCalls(socket, { parallel: 1, calls });
      // A failure without an answer has it among its trailers.
      const undated = (fields: Seen['metadata']) => ({ ...fields, date: undefined });
      return seen.map(({ metadata, trailers, ...rest }) => ({
        ...rest,
        metadata: undated(metadata),
        trailers: undated(trailers),
      }));
    };
    const straight = await exchange(rig.config.runtime);
    t.strictSame(
      straight.map(({ code, messages }) => [code, messages.length]),
      [
        [status.OK, 1],
        [status.DATA_LOSS, 0],
        [status.OK, 1],
        [status.DATA_LOSS, 0],
        [status.OK, 2],
        [status.DATA_LOSS, 0],
        [status.OK, 2],
        [status.DATA_LOSS, 0],
      ],
    );
    t.strictSame(await exchange(rig.config.listen), straight);
  },
);

t.test('rule 14: the cancellation of any other call reaches the runtime', async (t) => {
  const rig = await Rig.start(t);
  const hold = rig.runtime.hold('status');
  const leave = new AbortController();
  const asked = codeOf(rig.client.call('Status', {}, { signal: leave.signal }));
  await hold.arrived();
  leave.abort();
  t.equal(await asked, status.CANCELLED);
  await rig.client.call('Version');
  t.equal(rig.runtime.calls('Status')[0]?.cancelled, true);
});

t.test('rule 2: a runtime that is silent for an hour is asked nothing, and has lost nothing', async (t) => {
  const { rig, runtime } = await rawRig(t, { config: { creationTimeoutMs: 2 * hourMs } });
  const made = rig.podSandbox(rig.pod());
  const listed = rig.client.call('ListPodSandbox');
  const [creation, list] = [await arrival(runtime, 'RunPodSandbox'), await arrival(runtime, 'ListPodSandbox')];
  await rig.clock.advance(hourMs);
  creation.connection.answer(creation.request.streamId, podSandbox('late'));
  list.connection.answer(list.request.streamId, '');
  t.equal(await made, 'late');
  t.strictSame((await listed).items, []);
  t.strictSame(pingsAt(runtime), []);
  t.notOk(runtime.connections.some(({ peer }) => peer.isOver));
});

t.test('rule 3: a status text of 90,000 bytes arrives to the byte, and what comes behind it is answered', async (t) => {
  const { rig, runtime } = await rawRig(t);
  const client = await RawCaller.connect(t, rig);
  // What looks as if it were escaped, is, and was not worth it.
  const text = `${'disk %231 %25 gr%C3%B6%C3%9Fe %zz %41 '.repeat(3_000)}`.slice(0, 90_000);
  const long = { 'x-long-bin': Buffer.alloc(90_000, 7).toString('base64') };
  const failing = client.call('RunPodSandbox', runPodSandbox(rig.pod()));
  const { connection, request } = await arrival(runtime, 'RunPodSandbox');
  const ended = { ':status': '200', 'content-type': 'application/grpc', 'grpc-status': '2', 'grpc-message': text };
  connection.write(trailersOnly(request.streamId, { ...ended, ...long }));
  t.match((await client.answer(failing)).fields, { 'grpc-status': '2', 'grpc-message': text, ...long });
  const again = client.call('RunPodSandbox', runPodSandbox(rig.pod({ uid: 'uid-2' })));
  const second = await arrival(runtime, 'RunPodSandbox', 2);
  t.equal(second.connection, connection, 'over the same connection');
  connection.answer(second.request.streamId, podSandbox('made'));
  t.ok((await client.answer(again)).body.equals(message(podSandbox('made'))));
});

t.test('rule 3: a status text of 70,000 bytes fits into what a client of nghttp2 takes', async (t) => {
  const { rig, runtime } = await rawRig(t);
  const made = rig.podSandbox(rig.pod());
  const { connection, request } = await arrival(runtime, 'RunPodSandbox');
  const text = longText(70_000);
  const ended = { ':status': '200', 'content-type': 'application/grpc', 'grpc-status': '2', 'grpc-message': text };
  connection.write(trailersOnly(request.streamId, ended));
  const error: grpc.ServiceError = await made.then(
    () => t.fail('no error'),
    (reason) => reason,
  );
  t.equal(error.code, status.UNKNOWN);
  t.equal(error.details, text);
});

t.test('rule 14: PINGs are answered on their own hop, and none goes to the runtime', async (t) => {
  const { rig, runtime } = await rawRig(t);
  const client = await RawCaller.connect(t, rig);
  for (let n = 0; n < 5; n++) {
    const id = client.call('RunPodSandbox', runPodSandbox(rig.pod({ uid: `uid-${n}` })));
    const { connection, request } = await arrival(runtime, 'RunPodSandbox', n + 1);
    connection.answer(request.streamId, podSandbox(`sandbox-${n}`));
    await client.answer(id);
    // As grpc-go does where DATA has come in.
    client.peer.write(ping(`estimat${n}`));
    await client.until((frames) =>
      frames.some(({ payload, flags }) => isAck(flags) && payload.includes(`estimat${n}`)),
    );
  }
  // The client's own connection to the runtime, and those of Holdfast.
  for (const connection of runtime.connections) await handled(connection);
  t.equal(runtime.connections.length, 3);
  t.strictSame(pingsAt(runtime), []);
  t.notOk(client.frames(0).some(({ payload }) => payload.includes('handled?')));
});

t.test('rule 15: creations that nobody waits for hold up no list, where a runtime allows 4 streams', async (t) => {
  const { rig, runtime } = await rawRig(t, { greeting: [settings([Setting.maxConcurrentStreams, 4]), settingsAck] });
  for (let n = 0; n < 5; n++) {
    const leave = new AbortController();
    const request = rig.pod({ uid: `uid-${n}` }).createContainerRequest(`sandbox-${n}`, { image: 'app' });
    rig.client.call('CreateContainer', request, { signal: leave.signal }).catch(() => {});
    await arrival(runtime, 'CreateContainer', n + 1);
    leave.abort();
    await rig.step('waiter left', 'container', n + 1);
  }
  const listed = rig.listed();
  const { connection, request } = await arrival(runtime, 'ListContainers');
  connection.answer(request.streamId, '');
  t.strictSame(await listed, []);
});

t.test('rule 14: a request with two paths reaches neither the runtime nor a creation', async (t) => {
  const { rig, runtime } = await rawRig(t);
  const client = await RawCaller.connect(t, rig);
  const made = { name: ':path', value: pathOf('RunPodSandbox') };
  const passed = { name: ':path', value: pathOf('Version') };
  const [method, scheme, , ...rest] = requestFields('');
  for (const [id, first, second] of [
    [1, made, passed],
    [3, passed, made],
  ] as const) {
    const list = [method, scheme, first, second, ...rest].filter((field) => field !== undefined);
    client.peer.write(headersFrames(id, encodeLiteralBlock(list), false));
    client.peer.write(data(id, message(runPodSandbox(rig.pod())), true));
    t.match(await client.answer(id), { reset: 1 });
  }
  t.strictSame(rig.steps('podSandbox'), []);
  client.skipTo(5);
  const version = client.call('Version');
  const { connection, request } = await arrival(runtime, 'Version');
  t.strictSame(
    connection.requests.map(({ path }) => path),
    [pathOf('Version')],
  );
  connection.answer(request.streamId, '');
  t.equal((await client.answer(version)).fields['grpc-status'], '0');
});
