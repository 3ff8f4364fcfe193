/** Holdfast's own gRPC client: how calls end, and what is sent again, at a runtime that is played in frames. */
import { getEventListeners } from 'node:events';
import t, { type Test } from 'tap';
import { ErrorCode, Flag, FrameType, frame } from '../../../src/proxy/http2/frames.js';
import type { Upstream, UpstreamAnswer } from '../../../src/proxy/upstream.js';
import { UpstreamStatusError } from '../../../src/proxy/upstream.js';
import { okTrailers, type RawConnection, rawScene, responseHeaders, until } from './raw-runtime.js';
import { data, goAway, headers, message, ping, reset, settings, settingsAck, show, windowUpdate } from './wire.js';

const ask = Buffer.from('ask');
const hourMs = 3_600_000;

/** How a call ended that must not be OK. */
async function failure(call: Promise<UpstreamAnswer>): Promise<UpstreamStatusError> {
  const end = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (end instanceof UpstreamStatusError) return end;
  throw new Error(`ended with ${end}`);
}

const codeOf = async (call: Promise<UpstreamAnswer>): Promise<number> => (await failure(call)).status.code;

/** What has become of a call by now. */
function watch(call: Promise<UpstreamAnswer>): { end: string | undefined } {
  const seen: { end: string | undefined } = { end: undefined };
  call.then(
    ({ message }) => {
      seen.end = message.toString();
    },
    (error: UpstreamStatusError) => {
      seen.end = `${error.status.code}: ${error.message}`;
    },
  );
  return seen;
}

t.test('a call is one stream with the headers a kubelet sends, and its answer comes back as bytes', async (t) => {
  const { runtime, client } = await rawScene(t);
  const call = client.unary('/s/M', ask, {
    metadata: [
      ['x-a', 'one'],
      ['x-a', 'two'],
      ['x-b-bin', 'AAE='],
    ],
  });
  const { connection, request } = await runtime.requested('/s/M');
  t.strictSame(request.fields, {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': '/s/M',
    ':authority': 'localhost',
    'content-type': 'application/grpc',
    te: 'trailers',
    'x-a': 'two',
    'x-b-bin': 'AAE=',
  });
  t.strictSame(request.body, message('ask'));
  connection.write(
    headers(1, { ...responseHeaders, date: 'today', 'x-c': 'three' }),
    data(1, message('answer')),
    headers(1, { ...okTrailers, 'x-d-bin': 'AAI=' }, true),
  );
  const answer = await call;
  t.equal(answer.message.toString(), 'answer');
  t.strictSame(answer.initialMetadata, [
    ['date', 'today'],
    ['x-c', 'three'],
  ]);
  t.strictSame(answer.status, { code: 0, message: '', wireMessage: '', trailers: [['x-d-bin', 'AAI=']] });
});

t.test('it opens with SETTINGS and sends nothing else of its own accord, for hours', async (t) => {
  const { runtime, client, clock } = await rawScene(t);
  const connection = await runtime.connection();
  const call = watch(client.unary('/s/M', ask));
  await connection.request();
  const before = connection.frames.map(show);
  await clock.advance(10 * hourMs);
  connection.answer(1);
  await until(() => call.end !== undefined);
  t.equal(call.end, 'answer');
  t.strictSame(connection.frames.map(show), before);
  t.strictSame(before, ['settings 0', 'windowUpdate 0 8323073', 'settings 0 ack', 'headers 1', 'data 1 len=8 end']);
  t.equal(runtime.connections.length, 1);
});

t.test('PINGs and SETTINGS are acknowledged, each once', async (t) => {
  const { runtime } = await rawScene(t);
  const connection = await runtime.connection();
  connection.write(ping('one-one-'), settings(), ping('two-two-'), settings(), ping('an ack--', true));
  await until(() => connection.shown(FrameType.settings).length === 4);
  t.strictSame(connection.shown(FrameType.ping), ['ping 0 ack', 'ping 0 ack']);
  const acked = connection.frames.filter(({ type }) => type === FrameType.ping).map(({ payload }) => `${payload}`);
  t.strictSame(acked, ['one-one-', 'two-two-']);
});

t.test('a runtime that accepts and says nothing costs a call no more than its deadline', async (t) => {
  const { runtime, client, clock } = await rawScene(t, { greeting: [] });
  const patient = watch(client.unary('/s/M', ask));
  const call = watch(client.unary('/s/N', ask, { timeoutMs: 2000 }));
  await runtime.connection();
  await clock.advance(1999);
  t.equal(call.end, undefined);
  await clock.advance(1);
  t.equal(call.end, '4: the runtime could not be reached within 2000 ms');
  await clock.advance(24 * hourMs);
  t.equal(patient.end, undefined);
  t.equal(runtime.connections.length, 1);
  const [connection] = runtime.connections;
  connection?.write(settings(), settingsAck);
  await connection?.request();
  t.strictSame(
    connection?.requests.map(({ path }) => path),
    ['/s/M'],
  );
});

t.test('a deadline is told to the runtime and kept here', async (t) => {
  const { runtime, client, clock } = await rawScene(t);
  const call = watch(client.unary('/s/M', ask, { timeoutMs: 1500 }));
  const { request } = await runtime.requested('/s/M');
  t.equal(request.fields['grpc-timeout'], '1500m');
  await clock.advance(1500);
  t.equal(call.end, '4: the runtime did not answer within 1500 ms');
  await until(() => request.reset !== undefined);
  t.equal(request.reset, ErrorCode.cancel);
  t.equal(clock.pending, 0);
});

t.test('grpc-timeout has 8 digits at most', async (t) => {
  const { runtime, client, clock } = await rawScene(t);
  const cases: [timeoutMs: number, value: string][] = [
    [0.4, '1m'],
    [99_999_999, '99999999m'],
    [100_000_000, '100000S'],
    [1e12, '277778H'],
  ];
  for (const [timeoutMs, value] of cases) {
    void client.unary(`/s/${value}`, ask, { timeoutMs }).catch(() => {});
    t.equal((await runtime.requested(`/s/${value}`)).request.fields['grpc-timeout'], value);
  }
  client.close();
  t.equal(clock.pending, 0);
});

t.test('a deadline that has passed, or a signal that has fired, sends nothing', async (t) => {
  const { runtime, client } = await rawScene(t);
  t.equal(await codeOf(client.unary('/s/M', ask, { timeoutMs: 0 })), 4);
  t.equal(await codeOf(client.unary('/s/M', ask, { signal: AbortSignal.abort() })), 1);
  const connection = await runtime.connection();
  const call = client.unary('/s/N', ask);
  await connection.request();
  t.strictSame(
    connection.requests.map(({ path }) => path),
    ['/s/N'],
  );
  connection.answer(1);
  await call;
});

t.test('a signal ends the call here and at the runtime', async (t) => {
  const { runtime, client } = await rawScene(t);
  const left = new AbortController();
  const call = client.unary('/s/M', ask, { signal: left.signal });
  const { connection, request } = await runtime.requested('/s/M');
  left.abort();
  t.equal(await codeOf(call), 1);
  await until(() => request.reset !== undefined);
  t.equal(request.reset, ErrorCode.cancel);
  const other = client.unary('/s/N', ask);
  await connection.request(1);
  // What comes late for the first is ignored.
  connection.answer(1);
  connection.answer(3);
  t.equal((await other).message.toString(), 'answer');
});

t.test('nothing of a call that has ended hangs on its signal or its deadline', async (t) => {
  const { runtime, client, clock } = await rawScene(t);
  const { signal } = new AbortController();
  const call = client.unary('/s/M', ask, { signal, timeoutMs: 1000 });
  const { connection } = await runtime.requested('/s/M');
  t.equal(getEventListeners(signal, 'abort').length, 1);
  connection.answer(1);
  await call;
  t.equal(getEventListeners(signal, 'abort').length, 0);
  t.equal(clock.pending, 0);
});

t.test('RST_STREAM ends a call with the code grpc-go gives it', async (t) => {
  const { runtime, client } = await rawScene(t);
  const cases: [code: number, name: string, grpcCode: number][] = [
    [0, 'NO_ERROR', 13],
    [1, 'PROTOCOL_ERROR', 13],
    [3, 'FLOW_CONTROL_ERROR', 8],
    [8, 'CANCEL', 1],
    [11, 'ENHANCE_YOUR_CALM', 8],
    [12, 'INADEQUATE_SECURITY', 7],
    [99, 'unknown error code 0x63', 2],
  ];
  for (const [index, [code, name, grpcCode]] of cases.entries()) {
    const call = failure(client.unary('/s/M', ask));
    const connection = await runtime.connection();
    const { streamId } = await connection.request(index);
    connection.write(reset(streamId, code));
    const { status } = await call;
    t.equal(status.code, grpcCode);
    t.equal(status.message, `stream terminated by RST_STREAM with error code: ${name}`);
  }
});

t.test('a stream that the runtime refuses is asked for again, a few times', async (t) => {
  const { runtime, client } = await rawScene(t);
  const first = client.unary('/s/M', ask);
  const connection = await runtime.connection();
  connection.write(reset((await connection.request(0)).streamId, ErrorCode.refusedStream));
  const second = await connection.request(1);
  t.strictSame(second.body, message('ask'));
  connection.answer(second.streamId);
  await first;
  const hopeless = failure(client.unary('/s/N', ask));
  connection.peer.onFrame = ((next) => (frame) => {
    next(frame);
    if (frame.type === FrameType.headers) connection.write(reset(frame.streamId, ErrorCode.refusedStream));
  })(connection.peer.onFrame);
  const { status } = await hopeless;
  t.equal(status.code, 14);
  t.match(status.message, /REFUSED_STREAM/);
  t.equal(connection.requests.length, 2 + 17);
});

t.test('a call that was answered with headers is not sent again', async (t) => {
  const { runtime, client } = await rawScene(t);
  const call = failure(client.unary('/s/M', ask));
  const { connection } = await runtime.requested('/s/M');
  connection.write(headers(1, responseHeaders), reset(1, ErrorCode.refusedStream));
  t.equal((await call).status.code, 14);
  t.equal(connection.requests.length, 1);
});

t.test('a lost connection ends what was sent over it, once, and is opened again', async (t) => {
  const { runtime, client } = await rawScene(t);
  const call = failure(client.unary('/s/M', ask));
  const { connection } = await runtime.requested('/s/M');
  connection.peer.destroy();
  const { status } = await call;
  t.equal(status.code, 14);
  t.match(status.message, /^connection to the runtime lost: closed/);
  const next = client.unary('/s/N', ask);
  const again = await runtime.requested('/s/N');
  again.connection.answer(1);
  t.equal((await next).message.toString(), 'answer');
  t.notOk(runtime.connections.flatMap(({ requests }) => requests).some(({ path }, n) => n > 0 && path === '/s/M'));
});

t.test('a runtime that accepts and hangs up is not called in a busy loop', async (t) => {
  const { runtime, client, clock } = await rawScene(t, { greeting: [] });
  runtime.onConnection = ({ peer }) => peer.destroy();
  const call = watch(client.unary('/s/M', ask, { timeoutMs: 10_000 }));
  for (let n = 0; n < 10_000; n += 100) await clock.advance(100);
  t.equal(call.end, '4: the runtime could not be reached within 10000 ms');
  t.ok(runtime.connections.length <= 52, `${runtime.connections.length} connections`);
});

t.test('a GOAWAY sends streams above its last id elsewhere, and lets the others end', async (t) => {
  const { runtime, client } = await rawScene(t);
  const calls = ['/s/1', '/s/2', '/s/3', '/s/4'].map((path) => watch(client.unary(path, ask)));
  const first = await runtime.connection();
  await first.request(3);
  first.write(goAway(3));
  const second = await runtime.connection(1);
  await second.request(1);
  t.strictSame(
    second.requests.map(({ path }) => path),
    ['/s/3', '/s/4'],
    'in the order they were made',
  );
  second.answer(1, 'c');
  second.answer(3, 'd');
  const later = client.unary('/s/5', ask);
  second.answer((await second.request(2)).streamId);
  await later;
  t.strictSame(
    calls.map(({ end }) => end),
    [undefined, undefined, 'c', 'd'],
  );
  first.answer(1, 'a');
  first.answer(3, 'b');
  await until(() => calls.every(({ end }) => end !== undefined));
  t.strictSame(
    calls.map(({ end }) => end),
    ['a', 'b', 'c', 'd'],
  );
  await first.peer.closed;
  t.equal(first.requests.length, 4);
});

t.test('a graceful stop, GOAWAY twice with a PING between, loses nothing', async (t) => {
  const { runtime, client } = await rawScene(t);
  const one = watch(client.unary('/s/1', ask));
  const first = await runtime.connection();
  await first.request();
  first.write(goAway(0x7fffffff), ping('graceful'));
  await until(() => first.shown(FrameType.ping).length === 1);
  first.write(goAway(1));
  const two = client.unary('/s/2', ask);
  const second = await runtime.connection(1);
  await second.request();
  second.answer(1);
  await two;
  t.equal(one.end, undefined);
  first.answer(1, 'late');
  await until(() => one.end !== undefined);
  t.equal(one.end, 'late');
  t.strictSame(
    second.requests.map(({ path }) => path),
    ['/s/2'],
  );
});

t.test('a connection lost after GOAWAY fails what the runtime may have seen, and says why', async (t) => {
  const { runtime, client } = await rawScene(t);
  const call = failure(client.unary('/s/1', ask));
  const first = await runtime.connection();
  await first.request();
  first.write(goAway(1, ErrorCode.enhanceYourCalm));
  first.peer.end();
  const { status } = await call;
  t.equal(status.code, 14);
  t.equal(status.message, 'connection to the runtime lost: closed by the runtime after GOAWAY with code 11');
});

t.test('GOAWAY before the first call opens another connection', async (t) => {
  const { runtime, client } = await rawScene(t);
  const first = await runtime.connection();
  first.write(goAway(0));
  const second = await runtime.connection(1);
  const call = client.unary('/s/1', ask);
  await second.request();
  second.answer(1);
  t.equal((await call).message.toString(), 'answer');
  await first.peer.closed;
});

t.test('a runtime that takes no call on any connection is not asked for ever', async (t) => {
  const { runtime, client, clock } = await rawScene(t);
  runtime.onConnection = (connection) => {
    connection.peer.onFrame = ({ type }) => {
      if (type === FrameType.headers) connection.write(goAway(0, ErrorCode.internalError));
    };
  };
  const call = watch(client.unary('/s/M', ask));
  while (call.end === undefined) {
    await clock.advance(100);
    await until(() => true);
  }
  t.equal(call.end, '14: the runtime takes no calls: GOAWAY with code 2');
  await until(() => runtime.connections.length === 17);
});

t.test('a reset that says CANCEL when the deadline has passed is the deadline', async (t) => {
  const { runtime, client, clock } = await rawScene(t);
  const call = watch(client.unary('/s/M', ask, { timeoutMs: 1000 }));
  const { connection } = await runtime.requested('/s/M');
  clock.skip(1000);
  connection.write(reset(1, ErrorCode.cancel));
  await until(() => call.end !== undefined);
  t.equal(call.end, '4: the runtime did not answer within 1000 ms');
});

t.test('the runtime is waited for, and found within a second of its return', async (t) => {
  const { runtime, client, clock, presence } = await rawScene(t, { isUp: false });
  const call = watch(client.unary('/s/M', ask, { timeoutMs: 60_000 }));
  const hurried = watch(client.unary('/s/N', ask, { timeoutMs: 5000 }));
  const left = new AbortController();
  const leaver = watch(client.unary('/s/O', ask, { signal: left.signal }));
  await until(() => presence.length === 1);
  left.abort();
  for (let n = 0; n < 300; n++) await clock.advance(100);
  t.strictSame(presence, ['vanished: ENOENT']);
  t.equal(leaver.end, '1: cancelled');
  t.equal(hurried.end, '4: the runtime could not be reached within 5000 ms');
  t.equal(call.end, undefined);
  await runtime.listen();
  for (let n = 0; n < 5; n++) await clock.advance(100);
  const { connection, request } = await runtime.requested('/s/M');
  const leftMs = Number.parseInt(request.fields['grpc-timeout'] ?? '', 10);
  t.ok(leftMs >= 20_000 && leftMs < 30_000, `what is left of it: ${leftMs} ms`);
  connection.answer(1);
  await until(() => call.end !== undefined);
  t.equal(call.end, 'answer');
  t.strictSame(presence, ['vanished: ENOENT', 'appeared']);
  t.strictSame(
    runtime.connections.flatMap(({ requests }) => requests.map(({ path }) => path)),
    ['/s/M'],
  );
});

t.test('work has a connection of its own, opened with its first call', async (t) => {
  const { runtime, client } = await rawScene(t);
  await runtime.connection();
  const look = client.unary('/s/look', ask);
  const work = client.unary('/s/work', ask, { lane: 'work' });
  const [one, two] = [await runtime.requested('/s/look'), await runtime.requested('/s/work')];
  t.not(one.connection, two.connection);
  one.connection.answer(1);
  two.connection.answer(1);
  await Promise.all([look, work]);
  t.equal(runtime.connections.length, 2);
});

t.test('four endless calls at a runtime that allows four streams hold up no fifth', async (t) => {
  const { runtime, client } = await rawScene(t, { greeting: [settings([3, 4]), settingsAck] });
  const streams = [1, 2, 3, 4].map(() => client.serverStream('/s/Events', ask));
  const first = await runtime.connection();
  await first.request(3);
  const calls = [1, 2, 3, 4, 5].map((n) => client.unary(`/s/${n}`, ask));
  const second = await runtime.connection(1);
  await second.request(3);
  const third = await runtime.connection(2);
  await third.request();
  for (const streamId of [1, 3, 5, 7]) second.answer(streamId);
  third.answer(1);
  await Promise.all(calls);
  t.equal(runtime.connections.length, 3);
  t.equal(first.requests.length, 4);
  await Promise.race([second.peer.closed, third.peer.closed]);
  const left = second.peer.isOver ? third : second;
  t.notOk(left.peer.isOver, 'the next call needs it');
  for (const streamId of [1, 3, 5, 7]) first.write(headers(streamId, { ...responseHeaders, 'grpc-status': '0' }, true));
  await Promise.all(streams.map(({ status }) => status));
  await left.peer.closed;
  t.notOk(first.peer.isOver);
});

t.test('beyond 16 connections of a lane calls wait, in order', async (t) => {
  const { runtime, client } = await rawScene(t, { greeting: [settings([3, 1]), settingsAck] });
  const ends: string[] = [];
  const calls = Array.from({ length: 20 }, (_, n) =>
    client.unary(`/s/${n}`, ask).then(({ message }) => ends.push(message.toString())),
  );
  const last = await runtime.connection(15);
  await last.request();
  t.equal(runtime.connections.length, 16);
  for (let n = 0; n < 20; n++) {
    const connection = runtime.connections[n < 16 ? n : 0] as RawConnection;
    const { streamId, path } = await connection.request(n < 16 ? 0 : n - 15);
    t.equal(path, `/s/${n}`);
    if (n === 0 || n >= 16) connection.answer(streamId, path);
  }
  await until(() => ends.length === 5);
  t.strictSame(ends, ['/s/0', '/s/16', '/s/17', '/s/18', '/s/19']);
  for (const connection of runtime.connections.slice(1)) connection.answer(1);
  await Promise.all(calls);
  await Promise.all(runtime.connections.slice(1).map(({ peer }) => peer.closed));
  t.equal(runtime.connections.length, 16);
});

t.test('a lowered limit of streams, SETTINGS of the runtime at any time, is kept', async (t) => {
  const { runtime, client } = await rawScene(t);
  const first = await runtime.connection();
  const calls = [client.unary('/s/1', ask)];
  await first.request();
  first.write(settings([3, 1]), ping('in order'));
  await until(() => first.shown(FrameType.ping).length === 1);
  calls.push(client.unary('/s/2', ask));
  const second = await runtime.connection(1);
  second.answer((await second.request()).streamId);
  first.answer(1);
  await Promise.all(calls);
  t.equal(first.requests.length, 1);
});

t.test('close ends every call, sent or waiting, and later ones', async (t) => {
  const { runtime, client, clock, dialer } = await rawScene(t, { greeting: [settings([3, 1]), settingsAck] });
  const stream = client.serverStream('/s/Events', ask);
  const calls = Array.from({ length: 20 }, () => failure(client.unary('/s/M', ask, { timeoutMs: 1000 })));
  await (await runtime.connection(15)).request();
  client.close();
  for (const call of calls) t.equal((await call).status.code, 14);
  t.equal((await stream.status).code, 14);
  t.equal((await failure(client.unary('/s/M', ask))).message, 'the client is closed');
  t.equal((await client.serverStream('/s/M', ask).status).code, 14);
  await Promise.all(runtime.connections.map(({ peer }) => peer.closed));
  dialer.close();
  t.equal(clock.pending, 0);
});

t.test(
  'whoever asks is told of the bytes that are kept for a call, until he has them or the call is over',
  async (t) => {
    const { runtime, client } = await rawScene(t);
    let kept = 0;
    const keep = (bytes: number): void => {
      kept += bytes;
    };
    const body = message(Buffer.alloc(10_000));
    const call = client.unary('/s/M', ask, { keep });
    const { connection } = await runtime.requested('/s/M');
    connection.write(headers(1, responseHeaders), data(1, body.subarray(0, 4000)));
    await until(() => kept === 4000);
    connection.write(data(1, body.subarray(4000)));
    await until(() => kept === 10_000);
    connection.write(headers(1, okTrailers, true));
    await call;
    t.equal(kept, 0);

    const stream = client.serverStream('/s/S', ask, { keep });
    await connection.request(1);
    connection.write(headers(3, responseHeaders), data(3, message('first')), data(3, message('second')));
    connection.write(data(3, body.subarray(0, 1000)));
    await until(() => kept > 1000);
    connection.write(reset(3, ErrorCode.cancel));
    await stream.status;
    t.equal(kept, 139, 'what is whole waits for its reader');
    for await (const _ of stream);
    t.equal(kept, 0);

    const left = new AbortController();
    const failed = failure(client.unary('/s/M', ask, { keep, signal: left.signal }));
    await connection.request(2);
    connection.write(headers(5, responseHeaders), data(5, body.subarray(0, 3000)));
    await until(() => kept === 3000);
    left.abort();
    await failed;
    t.equal(kept, 0);
  },
);

t.test('a server stream is delivered in order, what came before a failing status too', async (t) => {
  const { runtime, client } = await rawScene(t);
  const stream = client.serverStream('/s/Events', ask);
  const { connection } = await runtime.requested('/s/Events');
  const trailers = { 'grpc-status': '14', 'grpc-message': 'gone %C3%BC', 'x-t': '1' };
  connection.write(
    headers(1, { ...responseHeaders, 'x-i': '0' }),
    data(1, Buffer.concat([message('one'), message(''), message('three').subarray(0, 4)])),
    data(1, message('three').subarray(4)),
    headers(1, trailers, true),
  );
  const status = await stream.status;
  t.strictSame(status, { code: 14, message: 'gone ü', wireMessage: 'gone %C3%BC', trailers: [['x-t', '1']] });
  t.strictSame(await stream.initialMetadata, [['x-i', '0']]);
  const messages: string[] = [];
  for await (const bytes of stream) messages.push(bytes.toString());
  t.strictSame(messages, ['one', '', 'three']);
});

t.test('a reader that breaks off ends the stream at the runtime', async (t) => {
  const { runtime, client } = await rawScene(t);
  const stream = client.serverStream('/s/Events', ask);
  const { connection, request } = await runtime.requested('/s/Events');
  connection.write(headers(1, responseHeaders), data(1, message('one')), data(1, message('two')));
  for await (const _ of stream) break;
  t.equal((await stream.status).code, 1);
  await until(() => request.reset !== undefined);
  t.equal(request.reset, ErrorCode.cancel);
  t.strictSame(await stream[Symbol.asyncIterator]().next(), { done: true, value: undefined });
});

t.test(
  'a stream without a word has no initial metadata, and its failure is nobody’s unhandled rejection',
  async (t) => {
    const { runtime, client } = await rawScene(t);
    const stream = client.serverStream('/s/Events', ask);
    const next = stream[Symbol.asyncIterator]().next();
    (await runtime.requested('/s/Events')).connection.peer.destroy();
    t.equal(await stream.initialMetadata, undefined);
    t.strictSame(await next, { done: true, value: undefined });
    t.equal((await stream.status).code, 14);
  },
);

/**
 * Sends DATA as far as the windows allow.
 *
 * @param initialWindow Of the stream, less what was sent before.
 * @param isPatient Whether it waits for more to be granted until all is sent.
 * @returns How many bytes were sent.
 */
async function pour(
  connection: RawConnection,
  streamId: number,
  bytes: Buffer,
  initialWindow: number,
  isPatient: boolean,
): Promise<number> {
  let sent = 0;
  while (sent < bytes.length) {
    const admitted = Math.min(bytes.length, initialWindow + connection.granted(streamId));
    if (sent === admitted) {
      const acknowledged = connection.shown(FrameType.ping).length;
      connection.write(ping('all read'));
      // What is granted for it comes ahead of that.
      await until(() => connection.shown(FrameType.ping).length > acknowledged);
      if (!isPatient && initialWindow + connection.granted(streamId) <= sent) break;
    }
    for (; sent < admitted; sent = Math.min(admitted, sent + 16_384)) {
      connection.write(data(streamId, bytes.subarray(sent, Math.min(admitted, sent + 16_384))));
    }
  }
  return sent;
}

const KiB = 1024;
const MiB = 1024 * KiB;

t.test('a stream that nobody reads is granted little, and holds up nobody', async (t) => {
  const { runtime, client } = await rawScene(t);
  const stream = client.serverStream('/s/Events', ask);
  const { connection } = await runtime.requested('/s/Events');
  connection.write(headers(1, responseHeaders));
  const events = Buffer.concat(Array.from({ length: 3000 }, () => message(Buffer.alloc(KiB, 7))));
  const sent = await pour(connection, 1, events, 512 * KiB, false);
  t.ok(sent <= MiB, `${sent} bytes are kept`);
  const list = client.unary('/s/List', ask);
  const { streamId } = await connection.request(1);
  connection.write(headers(streamId, responseHeaders));
  const body = Buffer.alloc(12 * MiB, 5);
  t.equal(await pour(connection, streamId, message(body), 512 * KiB, true), body.length + 5);
  connection.write(headers(streamId, okTrailers, true));
  t.ok((await list).message.equals(body));
  const rest = pour(connection, 1, events.subarray(sent), 512 * KiB - sent, true).then(() =>
    connection.write(headers(1, okTrailers, true)),
  );
  let count = 0;
  for await (const event of stream) count += event.length === KiB ? 1 : 0;
  await rest;
  t.equal(count, 3000);
});

t.test('one message larger than the window comes whole to a reader that is slow', async (t) => {
  const { runtime, client } = await rawScene(t);
  const stream = client.serverStream('/s/Events', ask);
  const { connection } = await runtime.requested('/s/Events');
  connection.write(headers(1, responseHeaders));
  const body = Buffer.alloc(4 * MiB, 3);
  const twice = Buffer.concat([message(body), message(body)]);
  const sent = await pour(connection, 1, twice, 512 * KiB, false);
  t.ok(sent >= body.length && sent <= body.length + MiB, `${sent} bytes are kept`);
  const messages = stream[Symbol.asyncIterator]();
  t.ok((await messages.next()).value?.equals(body));
  const second = messages.next();
  t.equal(await pour(connection, 1, twice.subarray(sent), 512 * KiB - sent, true), twice.length - sent);
  t.ok((await second).value?.equals(body));
});

t.test('behind a message that nobody takes, a large one waits at the runtime', async (t) => {
  const { runtime, client } = await rawScene(t);
  const stream = client.serverStream('/s/Events', ask);
  const { connection } = await runtime.requested('/s/Events');
  connection.write(headers(1, responseHeaders));
  const both = Buffer.concat([message('small'), message(Buffer.alloc(4 * MiB))]);
  const sent = await pour(connection, 1, both, 512 * KiB, false);
  t.ok(sent <= MiB, `${sent} bytes are kept`);
  const rest = pour(connection, 1, both.subarray(sent), 512 * KiB - sent, true);
  const lengths: number[] = [];
  for await (const { length } of stream) if (lengths.push(length) === 2) break;
  await rest;
  t.strictSame(lengths, [5, 4 * MiB]);
});

t.test('a request goes out as the windows of the runtime allow, and others beside it', async (t) => {
  const { runtime, client } = await rawScene(t, { greeting: [settings([4, 10]), settingsAck] });
  const large = client.unary('/s/Large', Buffer.alloc(100 * KiB, 1));
  const connection = await runtime.connection();
  const received = (index: number) => connection.requests[index]?.body.length ?? 0;
  await until(() => received(0) === 10);
  connection.write(settings([4, 4]), windowUpdate(1, 6), ping('all read'));
  await until(() => connection.shown(FrameType.ping).length === 1);
  const small = client.unary('/s/Small', ask);
  await until(() => received(1) === 4);
  t.equal(received(0), 10, 'the window was made narrower by 6, then wider by 6');
  connection.write(windowUpdate(1, 200 * KiB));
  await until(() => received(0) === 65_535 - 4);
  connection.write(windowUpdate(3, 100), windowUpdate(0, 2));
  await until(() => received(1) + received(0) === 65_537);
  connection.write(windowUpdate(0, MiB));
  await connection.request(0);
  await connection.request(1);
  t.equal(received(0), 100 * KiB + 5);
  t.ok(connection.frames.every(({ payload }) => payload.length <= 16_384));
  connection.answer(1);
  connection.answer(3);
  await Promise.all([large, small]);
});

t.test('an answer ahead of the whole request ends it', async (t) => {
  const { runtime, client } = await rawScene(t);
  const call = failure(client.unary('/s/M', Buffer.alloc(MiB)));
  const connection = await runtime.connection();
  await until(() => (connection.requests[0]?.body.length ?? 0) === 65_535);
  connection.write(headers(1, { ...responseHeaders, 'grpc-status': '8', 'grpc-message': 'too large' }, true));
  t.equal((await call).message, 'too large');
  await until(() => connection.requests[0]?.reset !== undefined);
  t.equal(connection.requests[0]?.reset, ErrorCode.noError);
  connection.write(windowUpdate(0, MiB), windowUpdate(1, MiB), ping('in order'));
  await until(() => connection.shown(FrameType.ping).length === 1);
  t.equal(connection.requests[0]?.body.length, 65_535);
});

t.test('metadata that is no header is left out, what is goes as it is', async (t) => {
  const { runtime, client } = await rawScene(t);
  const metadata: [string, string][] = [
    ['x-good', 'caf\u00e9 ~'],
    ['x-bad', 'line\nfeed'],
    ['X-Upper', 'a'],
    ['', 'a'],
    [':path', '/other'],
    ['x wide', 'a'],
    ['x-wide', '\u20ac'],
    ['grpc-timeout', '1n'],
    ['content-type', 'text/html'],
  ];
  const call = client.unary('/s/M', ask, { metadata });
  const { connection, request } = await runtime.requested('/s/M');
  connection.answer(1);
  await call;
  const { 'x-good': good, ...rest } = request.fields;
  t.equal(good, 'caf\u00e9 ~');
  t.strictSame(Object.keys(rest).sort(), [':authority', ':method', ':path', ':scheme', 'content-type', 'te']);
  t.equal(rest[':path'], '/s/M');
});

/** One call, answered with these frames of stream 1. */
async function answeredWith(t: Test, frames: Buffer[]): Promise<UpstreamStatusError> {
  const { runtime, client } = await rawScene(t);
  const call = failure(client.unary('/s/M', ask));
  const { connection } = await runtime.requested('/s/M');
  connection.write(...frames);
  return call;
}

const grpc = (extra: Record<string, string>, end = true) => headers(1, { ...responseHeaders, ...extra }, end);
const compressed = Buffer.concat([Buffer.from([1, 0, 0, 0, 1]), Buffer.from('x')]);
const odd: [name: string, frames: Buffer[], code: number, text: RegExp][] = [
  ['HTTP status 404', [headers(1, { ':status': '404' }, true)], 12, /HTTP status code 404; missing content-type/],
  ['HTTP status 503 with a body', [headers(1, { ':status': '503', 'content-type': 'text/html' })], 14, /text\/html/],
  ['HTTP status 418', [headers(1, { ':status': '418' })], 2, /418/],
  ['no HTTP status', [headers(1, { 'content-type': 'application/grpc' })], 13, /missing HTTP status/],
  ['another content-type', [headers(1, { ':status': '200', 'content-type': 'application/grpcx' })], 2, /grpcx/],
  ['no grpc-status', [grpc({})], 2, /without grpc-status/],
  ['a malformed grpc-status', [grpc({ 'grpc-status': 'x' })], 13, /malformed grpc-status/],
  ['an unknown grpc-status', [grpc({ 'grpc-status': '77', 'grpc-message': 'm' })], 77, /^m$/],
  ['DATA first', [data(1, message('a'))], 13, /begins with DATA/],
  ['DATA to the end', [grpc({}, false), data(1, message('a'), true)], 13, /without sending trailers/],
  ['HEADERS in the middle', [grpc({}, false), grpc({}, false)], 13, /middle of a stream/],
  ['OK without a message', [grpc({}, false), headers(1, okTrailers, true)], 13, /OK without a message/],
  [
    'OK and half a message',
    [grpc({}, false), data(1, message('abc').subarray(0, 6)), headers(1, okTrailers, true)],
    13,
    /cut short/,
  ],
  ['a failure and half a message', [grpc({}, false), data(1, 3), headers(1, { 'grpc-status': '9' }, true)], 9, /^$/],
  [
    'two messages',
    [grpc({}, false), data(1, Buffer.concat([message('a'), message('b')]))],
    13,
    /more than one message/,
  ],
  ['a compressed message', [grpc({}, false), data(1, compressed)], 13, /compressed flag set/],
  ['an unknown prefix', [grpc({}, false), data(1, Buffer.alloc(6, 2))], 13, /unexpected payload format 2/],
];
for (const [name, frames, code, text] of odd) {
  t.test(`an answer that is not as it should be ends its call: ${name}`, async (t) => {
    const { status } = await answeredWith(t, frames);
    t.equal(status.code, code);
    t.match(status.message, text);
  });
}

t.test('informational headers come before the real ones', async (t) => {
  const { runtime, client } = await rawScene(t);
  const call = client.unary('/s/M', ask);
  const { connection } = await runtime.requested('/s/M');
  connection.write(headers(1, { ':status': '103', 'x-early': '1' }));
  connection.answer(1);
  t.strictSame((await call).initialMetadata, []);
});

t.test('a failure ahead of headers has none, one behind them has', async (t) => {
  const alone = await answeredWith(t, [grpc({ 'grpc-status': '5', 'grpc-message': 'no %such% %e4%', 'x-t': '1' })]);
  t.equal(alone.initialMetadata, undefined);
  t.strictSame(alone.status, {
    code: 5,
    message: 'no %such% \ufffd%',
    wireMessage: 'no %such% %e4%',
    trailers: [['x-t', '1']],
  });
  const behind = await answeredWith(t, [grpc({ 'x-i': '1' }, false), headers(1, { 'grpc-status': '5' }, true)]);
  t.strictSame(behind.initialMetadata, [['x-i', '1']]);
  t.strictSame(behind.status, { code: 5, message: '', wireMessage: undefined, trailers: [] });
});

function unary(client: Upstream, count: number): Promise<UpstreamAnswer>[] {
  return Array.from({ length: count }, (_, n) => client.unary(`/s/${n}`, ask));
}

t.test('padding is taken off, and priorities and unknown frames are passed over', async (t) => {
  const { runtime, client } = await rawScene(t);
  const [call] = unary(client, 1);
  const { connection } = await runtime.requested('/s/0');
  const padded = Buffer.concat([Buffer.from([4]), message('answer'), Buffer.alloc(4)]);
  connection.write(
    frame(0xfa, 0xff, 0, Buffer.from('what')),
    frame(FrameType.priority, 0, 7, Buffer.alloc(5)),
    grpc({}, false),
    frame(FrameType.data, Flag.padded, 1, padded),
    frame(FrameType.data, 0, 1, Buffer.alloc(0)),
    headers(1, okTrailers, true),
  );
  t.equal((await call)?.message.toString(), 'answer');
});
