/** How taken calls, streams and connections end. */
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { ErrorCode, Flag, FrameType, frame } from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock } from '../../../src/proxy/http2/hpack.js';
import { settle } from '../../support/manual-clock.js';
import {
  data,
  decodeBlock,
  type Frame,
  goAway,
  headers,
  message,
  ok,
  ping,
  RouterBench,
  request,
  requestFields,
  reset,
  settings,
  settingsAck,
  show,
  windowUpdate,
} from './wire.js';

/** Status and headers of the last header block among `frames`. */
function answer(frames: readonly Frame[]): Record<string, string> {
  const last = frames.findLast(({ type }) => type === FrameType.headers);
  return last === undefined ? {} : decodeBlock(last.payload).values;
}

/** Answers the taken call on stream 1 with OK; the PING behind it, and what `end` comes to. */
async function answered(
  bench: RouterBench,
  extra: Readonly<Record<string, string>> = {},
): Promise<{ proof: Buffer; delivered: () => boolean | undefined }> {
  const call = await bench.take(1, extra);
  let delivered: boolean | undefined;
  void call.send(Buffer.from('done'));
  void call.end(ok).then((value) => {
    delivered = value;
  });
  await settle();
  const frames = bench.toClient.frames();
  t.match(show(frames.at(-1) ?? frames[0] ?? fail()), /^ping/, 'a PING goes out behind the trailers');
  return { proof: frames.at(-1)?.payload ?? fail(), delivered: () => delivered };
}

function fail(): never {
  throw new Error('no frame');
}

t.test('an answer is delivered once the PING behind it is acknowledged', async (t) => {
  const bench = await RouterBench.started();
  const { proof, delivered } = await answered(bench, { 'grpc-timeout': '1S' });
  t.equal(delivered(), undefined);
  await bench.client(ping('12345678', true));
  t.equal(delivered(), undefined, 'an ACK nobody waits for');
  await bench.client(ping(proof, true));
  t.equal(delivered(), true);
  t.strictSame(bench.toRuntime.shown(), [], 'the runtime sees neither');
  t.equal(bench.clock.pending, 0);
});

t.test('an answer whose stream is reset before the acknowledgement is not delivered', async (t) => {
  const bench = await RouterBench.started();
  const { proof, delivered } = await answered(bench);
  await bench.client(reset(1), ping(proof, true));
  t.equal(delivered(), false);
  t.strictSame(
    bench.toRuntime.shown().filter((line) => line.startsWith('rst')),
    [],
  );
});

t.test('an answer acknowledged after the deadline of its call is not delivered', async (t) => {
  const bench = await RouterBench.started();
  const { proof, delivered } = await answered(bench, { 'grpc-timeout': '500m' });
  await bench.clock.advance(499);
  t.equal(delivered(), undefined);
  await bench.clock.advance(1);
  await bench.client(ping(proof, true));
  t.equal(delivered(), false);
});

t.test('an answer is not delivered when the connection is lost before the acknowledgement', async (t) => {
  const bench = await RouterBench.started();
  const { delivered } = await answered(bench);
  bench.router.abandon();
  await settle();
  t.equal(delivered(), false);
});

t.test('an error is answered without a proof, and counts as not delivered', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1);
  t.equal(await call.end({ code: 14, message: 'x', trailers: [] }), false);
  t.strictSame(bench.toClient.shown(), ['windowUpdate 0 8', 'headers 1 end']);
  t.equal(await call.end(ok), false, 'a second end is ignored');
  t.strictSame(bench.toClient.shown(), []);
});

t.test('a status text of the runtime goes on as it came, and one of Holdfast is percent-encoded', async (t) => {
  const bench = await RouterBench.started();
  const texts: [status: { message: string; wireMessage?: string }, sent: string | undefined][] = [
    [{ message: '100 % ü' }, '100 %25 %C3%BC'],
    [{ message: 'a#b', wireMessage: 'a%23b' }, 'a%23b'],
    [{ message: '100 %', wireMessage: '100 %' }, '100 %'],
    [{ message: 'ü', wireMessage: '\u00c3\u00bc' }, '\u00c3\u00bc'],
    [{ message: 'not this', wireMessage: '' }, undefined],
    [{ message: '', wireMessage: 'x'.repeat(90_000) }, 'x'.repeat(90_000)],
  ];
  let id = 1;
  for (const [status, sent] of texts) {
    const call = await bench.take(id);
    bench.toClient.frames();
    void call.end({ code: 2, trailers: [], ...status });
    await settle();
    const block = Buffer.concat(bench.toClient.frames().map(({ payload }) => payload));
    t.equal(decodeBlock(block).values['grpc-message'], sent);
    id += 2;
  }
});

t.test('a call’s signal fires however it is over, and says why', async (t) => {
  const bench = await RouterBench.started();
  const cancelled = await bench.take(1);
  const late = await bench.take(3, { 'grpc-timeout': '100m' });
  const lost = await bench.take(5);
  const ended = await bench.take(7);
  const failed = await bench.take(9);
  const signals = [cancelled, late, lost, ended, failed].map(({ signal }) => signal);
  t.ok(signals.every(({ aborted }) => !aborted));
  void ended.end(ok);
  void failed.end({ code: 5, message: '', trailers: [] });
  await settle();
  bench.toClient.frames();
  await bench.client(reset(1));
  t.equal(cancelled.signal.reason, 'cancelled');
  t.equal(await cancelled.end(ok), false);
  await cancelled.send(Buffer.from('ignored'));
  await bench.clock.advance(100);
  t.equal(late.signal.reason, 'deadline');
  const frames = bench.toClient.frames();
  t.strictSame(frames.map(show), ['headers 3 end']);
  t.equal(answer(frames)['grpc-status'], '4');
  bench.router.abandon();
  t.strictSame(
    signals.map(({ reason }) => reason),
    ['cancelled', 'deadline', 'connection lost', 'ended', 'ended'],
  );
  t.strictSame(bench.toClient.shown(), []);
  t.equal(bench.clock.pending, 0);
});

t.test('at its deadline a call with half an answer out ends with DEADLINE_EXCEEDED behind that half', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1, { 'grpc-timeout': '100m' });
  let sent = false;
  void call.send(Buffer.alloc(100_000)).then(() => {
    sent = true;
  });
  const ended = call.end(ok);
  await bench.clock.advance(100);
  t.equal(await ended, false);
  t.equal(sent, true, 'nobody waits for the rest');
  t.equal(call.signal.reason, 'ended', 'at `end`, before its answer was out');
  const frames = bench.toClient.frames();
  t.strictSame(decodeBlock(frames.at(-1)?.payload ?? fail()).values['grpc-status'], '4');
});

t.test(
  'a request with no message, half of one, two, or a compressed one that is not is answered INTERNAL',
  async (t) => {
    const twice = Buffer.concat([message('a'), message('b')]);
    for (const body of [Buffer.alloc(0), message('abc').subarray(0, 6), twice, message('no gzip', true)]) {
      const bench = await RouterBench.started();
      await bench.client(request(1, '/take/A', { 'grpc-encoding': 'gzip' }), data(1, body, true));
      await waitFor(() => bench.router.activeStreams === 0);
      t.equal(answer(bench.toClient.frames())['grpc-status'], '13');
      t.strictSame(bench.calls, []);
    }
  },
);

/** For what a thread of zlib decides. */
async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await settle();
}

t.test('a compressed request is taken as what it was, and one that swells too far is refused', async (t) => {
  const bench = await RouterBench.started({ requestBytes: 1000 });
  const send = (streamId: number, body: Buffer): Promise<void> =>
    bench.client(
      request(streamId, '/take/A', { 'grpc-encoding': 'gzip' }),
      data(streamId, message(gzipSync(body), true), true),
    );
  await send(1, Buffer.alloc(1000, 'z'));
  await waitFor(() => bench.calls.length === 1);
  t.ok(bench.call().request.equals(Buffer.alloc(1000, 'z')));
  bench.toClient.frames();
  await send(3, Buffer.alloc(100_000));
  await waitFor(() => bench.router.activeStreams === 1);
  t.equal(answer(bench.toClient.frames())['grpc-status'], '8');
});

t.test('a stream reset while its request is being decompressed is not taken', async (t) => {
  const bench = await RouterBench.started();
  bench.router.fromDownstream(
    Buffer.concat([
      request(1, '/take/A', { 'grpc-encoding': 'gzip' }),
      data(1, message(gzipSync('x'), true), true),
      reset(1),
    ]),
  );
  await bench.client(request(3, '/take/B', { 'grpc-encoding': 'gzip' }), data(3, message(gzipSync('y'), true), true));
  await waitFor(() => bench.calls.length > 0);
  t.strictSame(
    bench.calls.map(({ path }) => path),
    ['/take/B'],
  );
});

t.test('faults on one taken stream reset it and leave the connection alone', async (t) => {
  const bench = await RouterBench.started({ headerListBytes: 2000 });
  const after = await bench.take(1);
  const zero = await bench.take(3);
  const overflow = await bench.take(5);
  bench.toClient.frames();
  await bench.client(data(1, 5), windowUpdate(3, 0), windowUpdate(5, 0x7fffffff));
  t.strictSame(bench.toClient.shown().slice(0, 3), ['rstStream 1 5', 'rstStream 3 1', 'rstStream 5 3']);
  t.strictSame(
    [after, zero, overflow].map(({ signal }) => signal.reason),
    ['cancelled', 'cancelled', 'cancelled'],
  );
  await bench.client(request(7, '/take/B'), headers(7, { 'x-not': 'the end' }));
  t.strictSame(bench.toClient.shown(), ['rstStream 7 1']);
  await bench.client(request(9, '/take/B', { 'x-large': 'x'.repeat(2000) }), request(11, '/pass/A', {}, true));
  t.strictSame(bench.toClient.shown(), ['rstStream 9 11']);
  t.strictSame(bench.toRuntime.shown(), ['headers 11 end']);
  t.strictSame(bench.violations, []);
});

t.test('draining tells the client the last stream seen, serves what is open and nothing new', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/Watch', {}, true), request(3, '/pass/A', {}, true));
  const call = await bench.take(5);
  bench.toClient.frames();
  bench.toRuntime.frames();
  let drained = false;
  bench.router.drain(
    (path) => path === '/pass/Watch',
    () => {
      drained = true;
    },
  );
  await settle();
  t.strictSame(bench.toClient.shown(), ['goAway 0 last=5 code=0']);
  await bench.client(request(7, '/pass/B', {}, true), request(9, '/take/B', {}, true));
  t.strictSame(bench.toRuntime.shown(), []);
  await bench.runtime(headers(3, { 'grpc-status': '0' }, true), goAway(0x7fffffff));
  t.ok(bench.toClient.shown().includes('goAway 0 last=5 code=0'), 'a later GOAWAY does not name a higher stream');
  void call.end(ok);
  await settle();
  t.equal(drained, false, 'the proof is still out');
  const proof = bench.toClient.frames().at(-1)?.payload ?? fail();
  await bench.client(ping(proof, true));
  t.equal(drained, true);
});

const block = encodeLiteralBlock(requestFields('/pass/A'));
const clientFaults: [what: string, code: number, limits: object, ...frames: Buffer[]][] = [
  [
    'a block that is no HPACK',
    ErrorCode.compressionError,
    {},
    frame(FrameType.headers, Flag.endHeaders, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
  ],
  ['HEADERS on an even stream', ErrorCode.protocolError, {}, frame(FrameType.headers, Flag.endHeaders, 2, block)],
  ['HEADERS on stream 0', ErrorCode.protocolError, {}, frame(FrameType.headers, Flag.endHeaders, 0, block)],
  [
    'CONTINUATION without HEADERS',
    ErrorCode.protocolError,
    {},
    frame(FrameType.continuation, Flag.endHeaders, 1, block),
  ],
  [
    'a frame inside a header block',
    ErrorCode.protocolError,
    {},
    frame(FrameType.headers, 0, 1, block),
    ping('12345678'),
  ],
  [
    'CONTINUATION of another stream',
    ErrorCode.protocolError,
    {},
    frame(FrameType.headers, 0, 1, block),
    frame(FrameType.continuation, Flag.endHeaders, 3, block),
  ],
  ['PUSH_PROMISE', ErrorCode.protocolError, {}, frame(FrameType.pushPromise, Flag.endHeaders, 1, block)],
  [
    'padding beyond the frame',
    ErrorCode.protocolError,
    {},
    frame(FrameType.headers, Flag.endHeaders | Flag.padded, 1, Buffer.from([200, 1])),
  ],
  [
    'padding beyond a frame of a taken stream',
    ErrorCode.protocolError,
    {},
    request(1, '/take/A'),
    frame(FrameType.data, Flag.padded, 1, Buffer.from([2, 1])),
  ],
  ['SETTINGS of a wrong length', ErrorCode.frameSizeError, {}, frame(FrameType.settings, 0, 0, Buffer.alloc(5))],
  ['PING of a wrong length', ErrorCode.frameSizeError, {}, frame(FrameType.ping, 0, 0, Buffer.alloc(7))],
  [
    'WINDOW_UPDATE of a wrong length',
    ErrorCode.frameSizeError,
    {},
    frame(FrameType.windowUpdate, 0, 0, Buffer.alloc(3)),
  ],
  ['RST_STREAM of a wrong length', ErrorCode.frameSizeError, {}, frame(FrameType.rstStream, 0, 1, Buffer.alloc(3))],
  [
    'HEADERS above the runtime’s frame size',
    ErrorCode.frameSizeError,
    {},
    frame(FrameType.headers, Flag.endHeaders, 1, Buffer.alloc(16_385)),
  ],
  [
    'a flood of CONTINUATION',
    ErrorCode.enhanceYourCalm,
    { continuationFrames: 2 },
    frame(FrameType.headers, 0, 1, block),
    ...[0, 0, 0].map(() => frame(FrameType.continuation, 0, 1, Buffer.alloc(0))),
  ],
  [
    'a header block without end',
    ErrorCode.enhanceYourCalm,
    { headerBlockBytes: 100 },
    frame(FrameType.headers, 0, 1, Buffer.alloc(101)),
  ],
  [
    'a flood of SETTINGS',
    ErrorCode.enhanceYourCalm,
    { settingsPerSecond: 5 },
    ...Array.from({ length: 6 }, () => settings()),
  ],
  [
    'SETTINGS nobody acknowledges',
    ErrorCode.enhanceYourCalm,
    { unacknowledgedSettings: 2 },
    ...Array.from({ length: 3 }, () => settings()),
  ],
  [
    'a flood of PING',
    ErrorCode.enhanceYourCalm,
    { pingsPerSecond: 5 },
    ...Array.from({ length: 6 }, () => ping('12345678')),
  ],
  [
    'rapid resets',
    ErrorCode.enhanceYourCalm,
    { takenResetsPerSecond: 2 },
    ...[1, 3, 5].flatMap((id) => [request(id, '/take/A'), reset(id)]),
  ],
];

for (const [what, code, limits, ...frames] of clientFaults) {
  t.test(`${what} by the client ends its connection with GOAWAY ${code}`, async (t) => {
    const bench = await RouterBench.started(limits);
    const call = await bench.take(99);
    bench.toClient.frames();
    const sequence = frames.map((bytes) => bytes);
    await bench.client(...sequence.map((bytes) => withIdsAbove(bytes)));
    const [last] = bench.toClient.shown().slice(-1);
    t.match(last, new RegExp(`^goAway 0 last=\\d+ code=${code}$`));
    t.equal(bench.violations.length, 1);
    t.match(bench.violations[0], /^downstream: /);
    t.equal(bench.closed, true);
    t.equal(call.signal.reason, 'connection lost');
    bench.toRuntime.frames();
    await bench.client(request(999, '/pass/late'), request(1001, '/take/late', {}, true));
    await bench.runtime(ping('12345678'));
    t.strictSame([...bench.toRuntime.shown(), ...bench.toClient.shown()], [], 'nothing moves any more');
    t.equal(bench.clock.pending, 0);
  });
}

/** The frame with its odd stream id moved out of the way of stream 99. */
function withIdsAbove(bytes: Buffer): Buffer {
  const moved = Buffer.from(bytes);
  const id = moved.readUInt32BE(5);
  if (id % 2 === 1) moved.writeUInt32BE(id + 100, 5);
  return moved;
}

t.test('GOAWAY for a fault of the client waits for the end of the runtime’s frame, but not for ever', async (t) => {
  for (const finishes of [true, false]) {
    const bench = await RouterBench.started();
    await bench.client(request(1, '/pass/A', {}, true));
    const answer = data(1, 10);
    await bench.runtime(answer.subarray(0, 12));
    await bench.client(frame(FrameType.ping, 0, 0, Buffer.alloc(1)));
    t.equal(bench.closed, false);
    if (finishes) await bench.runtime(answer.subarray(12));
    else await bench.clock.advance(5000);
    t.equal(bench.closed, true);
    t.strictSame(
      bench.toClient.shown(),
      finishes ? ['data 1 len=10', `goAway 0 last=1 code=${ErrorCode.frameSizeError}`] : [],
    );
  }
});

const runtimeFaults: [what: string, code: number, ...frames: Buffer[]][] = [
  ['CONTINUATION without HEADERS', ErrorCode.protocolError, frame(FrameType.continuation, 0, 1, Buffer.alloc(1))],
  [
    'a frame inside a header block',
    ErrorCode.protocolError,
    frame(FrameType.headers, 0, 1, Buffer.alloc(1)),
    data(1, 1),
  ],
  ['SETTINGS of a wrong length', ErrorCode.frameSizeError, frame(FrameType.settings, 0, 0, Buffer.alloc(7))],
  ['GOAWAY of a wrong length', ErrorCode.frameSizeError, frame(FrameType.goAway, 0, 0, Buffer.alloc(7))],
  ['HEADERS on a stream it was never sent', ErrorCode.protocolError, headers(3, { ':status': '200' })],
  ['RST_STREAM on a stream it was never sent', ErrorCode.protocolError, reset(3)],
];

for (const [what, code, ...frames] of runtimeFaults) {
  t.test(`${what} by the runtime ends the connection with GOAWAY ${code} to it`, async (t) => {
    const bench = await RouterBench.started();
    await bench.client(request(1, '/pass/A', {}, true));
    const call = await bench.take(3);
    bench.toRuntime.frames();
    await bench.runtime(...frames);
    t.strictSame(bench.toRuntime.shown(), [`goAway 0 last=0 code=${code}`]);
    t.match(bench.violations, [/^upstream: /]);
    t.equal(bench.closed, true);
    t.equal(call.signal.reason, 'connection lost');
  });
}

t.test('a handler that throws ends its own connection and nothing else', async (t) => {
  const bench = new RouterBench(
    {},
    {
      take: () => {
        throw new Error('broken handler');
      },
    },
  );
  const other = await RouterBench.started();
  await bench.client(settings());
  await bench.runtime(settings(), settingsAck);
  await bench.client(request(1, '/take/A'), data(1, message('x'), true));
  t.strictSame(bench.violations, ['downstream: internal error: broken handler']);
  t.equal(bench.closed, true);
  await other.client(request(1, '/pass/A', {}, true));
  t.strictSame(other.toRuntime.shown(), ['headers 1 end']);
});
