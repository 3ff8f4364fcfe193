/** Requests that are malformed, or no gRPC calls: each costs its own stream and reaches nobody. */
import t from 'tap';
import { Flag, FrameType, frame, headersFrames } from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock, type HeaderField, HpackDecoder } from '../../../src/proxy/http2/hpack.js';
import {
  data,
  decodeBlock,
  type Frame,
  message,
  ping,
  RouterBench,
  request,
  requestFields,
  settings,
  settingsAck,
  show,
} from './wire.js';

/** The last header block among `frames`. */
function answer(frames: readonly Frame[]): Record<string, string> {
  const last = frames.findLast(({ type }) => type === FrameType.headers);
  return last === undefined ? {} : decodeBlock(last.payload).values;
}

t.test('a request that is no proper gRPC call is answered as grpc-go does', async (t) => {
  const cases: [extra: Record<string, string>, expected: Record<string, string>][] = [
    [{ 'content-type': 'application/json' }, { ':status': '415', 'grpc-status': '3' }],
    [{ 'content-type': 'application/grpcx' }, { ':status': '415', 'grpc-status': '3' }],
    [{ ':method': 'GET' }, { ':status': '405', 'grpc-status': '13' }],
    [{ 'grpc-timeout': '5 parsecs' }, { ':status': '400', 'grpc-status': '13' }],
    [
      { 'grpc-encoding': 'snappy' },
      { ':status': '200', 'grpc-status': '12', 'grpc-accept-encoding': 'identity,deflate,gzip' },
    ],
  ];
  for (const [extra, expected] of cases) {
    const bench = await RouterBench.started();
    await bench.client(request(1, '/take/A', extra), data(1, message('x'), true));
    const frames = bench.toClient.frames();
    t.match(answer(frames), expected);
    t.strictSame(
      frames.map(show),
      ['headers 1 end', 'rstStream 1 0', 'windowUpdate 0 6'],
      'the rest of the request is not wanted',
    );
    t.strictSame(bench.calls, []);
  }
});

const field = (name: string, value: string): HeaderField => ({ name, value });
const good = requestFields('/take/A');

const malformed: Record<string, readonly HeaderField[]> = {
  'two paths, the second of which would be passed': [...good.slice(0, 4), field(':path', '/pass/B'), ...good.slice(4)],
  'two paths, the second of which would be taken': [field(':path', '/pass/B'), ...good],
  'the same path twice': [...good.slice(0, 4), field(':path', '/take/A'), ...good.slice(4)],
  'two methods': [field(':method', 'POST'), ...good],
  'two schemes': [field(':scheme', 'http'), ...good],
  'two authorities': [field(':authority', 'localhost'), ...good],
  'a path behind a regular field': [...good.filter(({ name }) => name !== ':path'), field(':path', '/take/A')],
  'a second path behind a regular field': [...good, field(':path', '/pass/B')],
  'an authority behind a regular field': [
    ...good.filter(({ name }) => name !== ':authority'),
    field(':authority', 'x'),
  ],
};

for (const [what, fields] of Object.entries(malformed)) {
  t.test(`a request with ${what} is reset by Holdfast, and the runtime sees nothing of it`, async (t) => {
    const bench = await RouterBench.started();
    await bench.client(headersFrames(1, encodeLiteralBlock(fields), false), data(1, message('ask'), true));
    t.strictSame(bench.toClient.shown(), ['rstStream 1 1', 'windowUpdate 0 8']);
    t.strictSame(bench.toRuntime.shown(), []);
    t.equal(bench.router.activeStreams, 0);
    await bench.client(request(1, '/pass/Again', {}, true), request(3, '/pass/B', {}, true));
    t.strictSame(bench.toRuntime.shown(), ['headers 3 end'], 'the connection goes on, the stream does not');
    await bench.take(5);
    t.strictSame([bench.calls.length, bench.violations], [1, []]);
  });
}

t.test('in CONTINUATION frames too, a byte at a time', async (t) => {
  const bench = await RouterBench.started();
  const block = encodeLiteralBlock(malformed['two methods'] ?? []);
  const bytes = Buffer.concat([
    frame(FrameType.headers, Flag.endStream, 1, block.subarray(0, 3)),
    frame(FrameType.continuation, 0, 1, block.subarray(3, 20)),
    frame(FrameType.continuation, Flag.endHeaders, 1, block.subarray(20)),
  ]);
  for (const byte of bytes) bench.fromClient(Buffer.from([byte]));
  await bench.client();
  t.strictSame([bench.toClient.shown(), bench.toRuntime.shown()], [['rstStream 1 1'], []]);
});

t.test('the header tables of client and runtime stay in step behind such a request', async (t) => {
  const bench = new RouterBench();
  const decoder = new HpackDecoder({ maxTableBytes: 4096, maxHeaderListBytes: 1 << 20 });
  const blocks = (): Frame[] => bench.toRuntime.frames().filter(({ type }) => type === FrameType.headers);
  await bench.start();
  // Literal with incremental indexing, of a new name; then the newest entry of the table (RFC 7541 section 6).
  const indexed = Buffer.concat([Buffer.from([0x40, 3]), Buffer.from('x-a'), Buffer.from([1]), Buffer.from('b')]);
  const newest = Buffer.from([0x80 | 62]);
  const sizeUpdateTo4096 = Buffer.from([0x3f, 0xe1, 0x1f]);
  const bad = Buffer.concat([sizeUpdateTo4096, encodeLiteralBlock(malformed['two methods'] ?? []), indexed]);
  await bench.client(
    frame(FrameType.headers, Flag.endHeaders | Flag.endStream, 1, bad),
    frame(
      FrameType.headers,
      Flag.endHeaders | Flag.endStream,
      3,
      Buffer.concat([encodeLiteralBlock(requestFields('/pass/B')), newest]),
    ),
  );
  const [next, ...more] = blocks();
  t.equal(more.length, 0);
  const decoded = decodeBlock(next?.payload ?? Buffer.alloc(0), decoder);
  t.equal(decoded.values['x-a'], 'b');
  t.ok(decoded.selfContained);
  t.ok(decoded.sizeUpdate, 'the update that the runtime did not get is made up for');
});

t.test('other pseudo fields, and none, are the runtime’s to judge', async (t) => {
  const bench = await RouterBench.started();
  const lists = [
    [field(':method', 'CONNECT'), field(':protocol', 'websocket'), ...requestFields('/pass/A').slice(1)],
    requestFields('/pass/A').filter(({ name }) => name !== ':path'),
    [],
  ];
  for (const [n, list] of lists.entries()) await bench.client(headersFrames(2 * n + 1, encodeLiteralBlock(list), true));
  t.strictSame(bench.toRuntime.frames().map(show), ['headers 1 end', 'headers 3 end', 'headers 5 end']);
});

t.test(
  'a client whose first frame is not SETTINGS loses its connection, and the runtime hears nothing of it',
  async (t) => {
    for (const first of [request(1, '/pass/A'), settingsAck, ping('too soon')]) {
      const bench = new RouterBench();
      await bench.client(first, settings());
      await bench.runtime(settings());
      t.strictSame(bench.violations, ['downstream: the first frame is not SETTINGS']);
      t.strictSame(bench.toRuntime.shown(), []);
      t.strictSame(bench.toClient.shown(), ['settings 0', 'goAway 0 last=0 code=1']);
    }
  },
);
