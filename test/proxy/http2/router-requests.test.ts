/** What reaches the runtime, and what does not. */
import { isDeepStrictEqual } from 'node:util';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { Flag, FrameType, frame, headersFrames, Setting } from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock, HpackDecoder } from '../../../src/proxy/http2/hpack.js';
import {
  data,
  decodeBlock,
  type Frame,
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

/** Literal with incremental indexing, new name (RFC 7541 section 6.2.1). */
function indexed(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0x40, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}
/** The newest entry of the dynamic table. */
const newestEntry = Buffer.from([0x80 | 62]);
const sizeUpdateTo0 = Buffer.from([0x20]);

function block(frames: readonly Frame[]): Buffer {
  return Buffer.concat(
    frames
      .filter(({ type }) => type === FrameType.headers || type === FrameType.continuation)
      .map(({ payload }) => payload),
  );
}

t.test('what is passed goes to the runtime to the byte, and what is taken does not', async (t) => {
  const bench = await RouterBench.started();
  const before = bench.toRuntime.all.length;
  const passed = [
    request(1, '/pass/A'),
    data(1, message('one'), true),
    windowUpdate(1, 5),
    frame(77, 3, 1, Buffer.from('unknown type')),
  ];
  const other = [request(5, '/pass/B', { ':authority': '/run/runtime.sock' }, true), reset(5), windowUpdate(0, 9)];
  await bench.client(...passed, request(3, '/take/C'), data(3, message('two'), true), windowUpdate(3, 7), ...other);
  t.ok(bench.toRuntime.all.subarray(before).equals(Buffer.concat([...passed, ...other])));
  t.equal(bench.call().path, '/take/C');
  t.equal(bench.call().request.toString(), 'two');
});

t.test('padding, priority and CONTINUATION of a passed request are passed too', async (t) => {
  const bench = await RouterBench.started();
  const fields = encodeLiteralBlock(requestFields('/pass/A'));
  const first = Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 15]), fields.subarray(0, 20), Buffer.alloc(3)]);
  const frames = [
    frame(FrameType.headers, Flag.padded | Flag.priority, 1, first),
    frame(FrameType.continuation, 0, 1, fields.subarray(20, 21)),
    frame(FrameType.continuation, Flag.endHeaders, 1, fields.subarray(21)),
    frame(
      FrameType.data,
      Flag.padded | Flag.endStream,
      1,
      Buffer.concat([Buffer.from([2]), message('x'), Buffer.alloc(2)]),
    ),
  ];
  const before = bench.toRuntime.all.length;
  await bench.client(...frames);
  t.ok(bench.toRuntime.all.subarray(before).equals(Buffer.concat(frames)));
});

t.test('a taken request may be padded, prioritised, continued and cut anywhere', async (t) => {
  const bench = await RouterBench.started();
  const fields = encodeLiteralBlock(requestFields('/take/A'));
  const body = message('padded');
  const bytes = Buffer.concat([
    frame(
      FrameType.headers,
      Flag.padded | Flag.priority,
      1,
      Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 15]), fields.subarray(0, 9), Buffer.alloc(1)]),
    ),
    frame(FrameType.continuation, Flag.endHeaders, 1, fields.subarray(9)),
    frame(FrameType.data, Flag.padded, 1, Buffer.concat([Buffer.from([4]), body.subarray(0, 3), Buffer.alloc(4)])),
    data(1, body.subarray(3), true),
  ]);
  for (const byte of bytes) await bench.router.fromDownstream(Buffer.from([byte]));
  t.equal(bench.call().request.toString(), 'padded');
  t.strictSame(bench.toRuntime.shown(), []);
});

t.test(
  'a client that fills its header table before it knows better is understood by the runtime, streams taken out or not',
  async (t) => {
    const bench = new RouterBench();
    const runtimeDecoder = new HpackDecoder({ maxTableBytes: 4096, maxHeaderListBytes: 1 << 20 });
    const base = (path: string): Buffer => encodeLiteralBlock(requestFields(path));
    const headers = (streamId: number, bytes: Buffer): Buffer =>
      frame(FrameType.headers, Flag.endHeaders | Flag.endStream, streamId, bytes);
    await bench.client(settings(), headers(1, Buffer.concat([base('/pass/A'), indexed('x-first', 'one')])));
    await bench.client(headers(3, Buffer.concat([base('/take/B'), indexed('x-second', 'two'), newestEntry])));
    await bench.client(headers(5, Buffer.concat([base('/pass/C'), newestEntry])));
    const blocks = bench.toRuntime.frames().filter(({ type }) => type === FrameType.headers);
    t.strictSame(
      blocks.map(({ streamId }) => streamId),
      [1, 5],
    );
    const [first, second] = blocks.map(({ payload }) => decodeBlock(payload, runtimeDecoder));
    t.equal(first?.values['x-first'], 'one');
    t.equal(second?.values['x-second'], 'two', 'set by the stream that was taken');
    t.ok(first?.selfContained && second?.selfContained);
  },
);

t.test('what a client makes grow with its header table has a bound', async (t) => {
  const bench = await RouterBench.started({ rewrittenHeaderBytes: 12_000 });
  const headers = (streamId: number, fields: Buffer): Buffer => {
    const block = Buffer.concat([encodeLiteralBlock(requestFields('/pass/A')), fields]);
    return frame(FrameType.headers, Flag.endHeaders | Flag.endStream, streamId, block);
  };
  const swells = Buffer.concat(Array.from({ length: 100 }, () => newestEntry));
  await bench.client(headers(1, indexed('x-large', '~'.repeat(100))), headers(3, swells));
  t.strictSame(bench.violations, []);
  t.strictSame(bench.toRuntime.shown(), ['headers 1 end', 'headers 3 end']);
  await bench.client(headers(5, swells));
  t.strictSame(bench.violations, ['downstream: too many header blocks that need a header table']);
  t.strictSame(bench.toRuntime.shown(), []);
});

t.test(
  'a table size update in the block of a taken stream is made up for in the next one the runtime gets',
  async (t) => {
    const bench = await RouterBench.started();
    const plain = (path: string): Buffer => encodeLiteralBlock(requestFields(path));
    const headers = (streamId: number, bytes: Buffer): Buffer =>
      frame(FrameType.headers, Flag.endHeaders | Flag.endStream, streamId, bytes);
    await bench.client(
      headers(1, Buffer.concat([sizeUpdateTo0, plain('/take/A')])),
      headers(3, plain('/pass/B')),
      headers(5, plain('/pass/C')),
    );
    const [second, third] = bench.toRuntime.frames();
    t.ok(second !== undefined && third !== undefined);
    t.equal(second?.payload[0], 0x20, 'begins with an update to 0');
    t.equal(decodeBlock(second?.payload ?? Buffer.alloc(0)).values[':path'], '/pass/B');
    t.ok(third?.payload.equals(plain('/pass/C')), 'owed once only');
  },
);

t.test('a block with a size update of its own that needs no table is passed as it is', async (t) => {
  const bench = await RouterBench.started();
  const bytes = frame(
    FrameType.headers,
    Flag.endHeaders,
    1,
    Buffer.concat([sizeUpdateTo0, encodeLiteralBlock(requestFields('/pass/A'))]),
  );
  const before = bench.toRuntime.all.length;
  await bench.client(bytes);
  t.ok(bench.toRuntime.all.subarray(before).equals(bytes));
});

t.test(
  'a block written anew keeps priority, END_STREAM and never-indexed fields, and spans frames where it is large',
  async (t) => {
    const bench = await RouterBench.started();
    const fields = [
      ...requestFields('/pass/A'),
      { name: 'authorization', value: 'secret', neverIndexed: true },
      // X is as long in the Huffman code.
      { name: 'x-large', value: 'X'.repeat(30_000) },
    ];
    const content = Buffer.concat([encodeLiteralBlock(fields), indexed('x-fills', 'table')]);
    await bench.client(
      frame(
        FrameType.headers,
        Flag.endStream | Flag.priority,
        1,
        Buffer.concat([Buffer.from([0x80, 0, 0, 7, 99]), content.subarray(0, 16_000)]),
      ),
      frame(FrameType.continuation, 0, 1, content.subarray(16_000, 32_000)),
      frame(FrameType.continuation, Flag.endHeaders, 1, content.subarray(32_000)),
    );
    const frames = bench.toRuntime.frames();
    t.strictSame(
      frames.map(({ type }) => type),
      [FrameType.headers, FrameType.continuation],
    );
    t.equal(frames[0]?.flags, Flag.endStream | Flag.priority);
    t.strictSame([...(frames[0]?.payload.subarray(0, 5) ?? [])], [0x80, 0, 0, 7, 99]);
    t.ok(frames.every(({ payload }) => payload.length <= 16_384));
    const decoded = decodeBlock(block(frames).subarray(5));
    t.equal(decoded.values['x-fills'], 'table');
    t.equal(decoded.fields.find(({ name }) => name === 'authorization')?.neverIndexed, true);
  },
);

t.test('trailers of the client follow their stream, and keep the header table in step', async (t) => {
  const bench = await RouterBench.started();
  const trailers = (streamId: number, bytes: Buffer): Buffer =>
    frame(FrameType.headers, Flag.endHeaders | Flag.endStream, streamId, bytes);
  await bench.client(request(1, '/take/A'), data(1, message('a')), trailers(1, indexed('x-trailer', 'taken')));
  await bench.client(request(3, '/pass/B'), data(3, message('b')), trailers(3, newestEntry));
  t.equal(bench.call().request.toString(), 'a');
  const sent = bench.toRuntime.frames();
  t.strictSame(sent.map(show), ['headers 3', 'data 3 len=6', 'headers 3 end']);
  t.equal(decodeBlock(sent[2]?.payload ?? Buffer.alloc(0)).values['x-trailer'], 'taken');
});

t.test('late frames for a stream that is over are absorbed, and what they spent is given back', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1);
  void call.end({ code: 5, message: 'no', trailers: [] });
  await bench.client(request(3, '/pass/A', {}, true));
  await bench.runtime(reset(3));
  bench.toClient.frames();
  bench.toRuntime.frames();
  const late = (id: number): Buffer[] => [
    data(id, 100),
    windowUpdate(id, 1),
    frame(FrameType.priority, 0, id, Buffer.alloc(5)),
    request(id, '/pass/late', {}, true),
    reset(id),
  ];
  await bench.client(...late(1), ...late(3));
  t.strictSame(bench.toRuntime.shown(), []);
  t.strictSame(bench.toClient.shown(), ['windowUpdate 0 200']);
});

t.test(
  'the windows a taken request was paid from are given back, on the stream while its request is open',
  async (t) => {
    const bench = await RouterBench.started();
    const body = message(Buffer.alloc(995));
    const padded = frame(
      FrameType.data,
      Flag.padded,
      1,
      Buffer.concat([Buffer.from([9]), body.subarray(0, 500), Buffer.alloc(9)]),
    );
    await bench.client(request(1, '/take/A'), padded);
    t.strictSame(bench.toClient.shown(), ['windowUpdate 1 510', 'windowUpdate 0 510']);
    await bench.client(data(1, body.subarray(500), true));
    t.strictSame(bench.toClient.shown(), ['windowUpdate 0 500']);
  },
);

t.test('a runtime that opens windows stream by stream does not starve a taken stream', async (t) => {
  const bench = new RouterBench();
  await bench.client(settings());
  await bench.runtime(settings([Setting.initialWindowSize, 0]), settingsAck);
  await bench.client(settingsAck, request(1, '/take/A'));
  t.ok(bench.toClient.shown().includes('windowUpdate 1 65535'));
});

t.test(
  'the request message of an observed stream is read, whatever its frames, and forwarded to the byte',
  async (t) => {
    const bench = await RouterBench.started({ observedRequestBytes: 1000 });
    const before = bench.toRuntime.all.length;
    const body = message('the id');
    const zipped = message(gzipSync('zipped id'), true);
    const sent = [
      request(1, '/observe/A'),
      data(1, body.subarray(0, 7)),
      data(1, body.subarray(7), true),
      request(3, '/observe/B', { 'grpc-encoding': 'gzip' }),
      data(3, zipped, true),
      request(5, '/observe/C', { 'grpc-encoding': 'snappy' }),
      data(5, message('?', true), true),
      request(7, '/observe/D'),
      data(7, message(Buffer.alloc(1001)), true),
      request(9, '/observe/E'),
      data(9, message(Buffer.alloc(994)).subarray(0, 600)),
      data(9, message(Buffer.alloc(994)).subarray(600), true),
    ];
    for (const byte of Buffer.concat(sent)) bench.router.fromDownstream(Buffer.from([byte]));
    t.strictSame(
      bench.observed.map((line) => line.slice(0, 22)),
      ['/observe/A the id', '/observe/B zipped id', `/observe/E ${'\0'.repeat(11)}`],
    );
    t.ok(bench.toRuntime.all.subarray(before).equals(Buffer.concat(sent)));
  },
);

t.test('however the bytes of a client are cut, the runtime gets the same', async (t) => {
  const continued = encodeLiteralBlock(requestFields('/observe/F', { 'x-more': 'X'.repeat(80) }));
  const sent = Buffer.concat([
    settings([Setting.initialWindowSize, 70_000]),
    request(1, '/pass/A'),
    frame(
      FrameType.headers,
      Flag.endHeaders,
      3,
      Buffer.concat([encodeLiteralBlock(requestFields('/take/B')), indexed('x-a', 'b')]),
    ),
    data(1, message('body'), true),
    data(3, message('taken'), true),
    frame(
      FrameType.headers,
      Flag.endHeaders | Flag.endStream,
      5,
      Buffer.concat([encodeLiteralBlock(requestFields('/pass/C')), newestEntry]),
    ),
    windowUpdate(0, 10),
    request(7, '/observe/D'),
    data(7, message('seen'), true),
    frame(FrameType.headers, Flag.endStream, 9, continued.subarray(0, 30)),
    frame(FrameType.continuation, 0, 9, continued.subarray(30, 80)),
    frame(FrameType.continuation, Flag.endHeaders, 9, continued.subarray(80)),
    headersFrames(
      11,
      encodeLiteralBlock([...requestFields('/pass/E'), { name: 'x-large', value: 'X'.repeat(17_000) }]),
      true,
    ),
    reset(7),
    ping('12345678'),
  ]);
  const run = (cuts: readonly number[]): unknown => {
    const bench = new RouterBench();
    let at = 0;
    for (const cut of cuts) {
      bench.fromClient(sent.subarray(at, at + cut));
      at += cut;
    }
    bench.fromClient(sent.subarray(at));
    return [bench.toRuntime.all.toString('hex'), bench.calls.map((call) => call.request.toString()), bench.observed];
  };
  const whole = run([]);
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 400 }), { maxLength: 60 }), (cuts) =>
        isDeepStrictEqual(run(cuts), whole),
      ),
      { numRuns: 60 },
    ),
  );
});

t.test('binary metadata that a client writes as it is (gRFC G1) is read', async (t) => {
  const bench = await RouterBench.started();
  const raw = Buffer.from([0, 0, 255, 10]).toString('latin1');
  const call = await bench.take(1, { 'x-asked-bin': raw, 'x-other-bin': 'AP8K', 'x-text': '\0' });
  t.strictSame(call.metadata, [
    ['x-asked-bin', 'AP8K'],
    ['x-other-bin', 'AP8K'],
    ['x-text', '\0'],
  ]);
});

t.test('custom metadata of a taken call is as sent, gRPC’s own left out', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1, {
    'user-agent': 'grpc-go',
    'grpc-timeout': '2S',
    'grpc-accept-encoding': 'gzip',
    'x-bin-bin': 'AAE=',
    'x-text': 'a, b',
    'grpc-trace-bin': 'AA',
  });
  t.strictSame(call.metadata, [
    ['x-bin-bin', 'AAE='],
    ['x-text', 'a, b'],
    ['grpc-trace-bin', 'AA'],
  ]);
  t.equal(call.deadlineMs, bench.clock.now() + 2000);
  void call.end(ok);
});
