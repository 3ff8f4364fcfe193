/** That each call is told of once when it has ended: with its code where there is one, and how long it took. */
import t from 'tap';
import { Flag, FrameType, frame, frameHeaderBytes } from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock } from '../../../src/proxy/http2/hpack.js';
import type { Limits } from '../../../src/proxy/http2/limits.js';
import { data, fields, goAway, headers, message, ok, RouterBench, request, reset, settings } from './wire.js';

const head = { ':status': '200', 'content-type': 'application/grpc' };
const okTrailers = { 'grpc-status': '0', 'grpc-message': '' };
const last = Flag.endStream | Flag.endHeaders;

interface Told {
  readonly bench: RouterBench;
  /** `/pass/A 0 after 12`. */
  readonly told: string[];
}

function unstarted(limits: Partial<Limits> = {}): Told {
  const told: string[] = [];
  const bench = new RouterBench(limits, {
    ended: (path, code, tookMs) => told.push(`${path} ${code} after ${tookMs}`),
  });
  return { bench, told };
}

async function started(limits?: Partial<Limits>): Promise<Told> {
  const both = unstarted(limits);
  await both.bench.start();
  return both;
}

/** A whole request on a stream. */
function asked(streamId: number, path = '/pass/A'): Buffer {
  return Buffer.concat([request(streamId, path), data(streamId, message('ask'), true)]);
}

t.test('a call that is forwarded is told of with the code the runtime gave it, and the time it took', async (t) => {
  for (const path of ['/pass/A', '/observe/A', '/report/A']) {
    for (const code of [0, 5, 14]) {
      const { bench, told } = await started();
      await bench.client(asked(1, path));
      await bench.clock.advance(30);
      await bench.runtime(headers(1, head), data(1, message('')));
      t.strictSame(told, []);
      await bench.clock.advance(10);
      await bench.runtime(headers(1, { 'grpc-status': String(code) }, true));
      t.strictSame(told, [`${path} ${code} after 40`]);
      bench.router.abandon();
      t.equal(told.length, 1, 'once');
    }
  }
});

t.test('calls that end alike and calls that do not are told apart, one after the other', async (t) => {
  const { bench, told } = await started();
  const codes = [0, 0, 5, 0, 5, 5, 13, 0];
  for (const [at, code] of codes.entries()) {
    const id = 2 * at + 1;
    const trailers = code === 0 ? okTrailers : { 'grpc-status': String(code), 'grpc-message': `no ${at}` };
    await bench.client(asked(id));
    await bench.runtime(headers(id, head), headers(id, trailers, true));
  }
  t.strictSame(
    told,
    codes.map((code) => `/pass/A ${code} after 0`),
  );
});

t.test('trailers as long as those before, but for one byte, are read', async (t) => {
  const { bench, told } = await started();
  const block = encodeLiteralBlock(fields({ 'grpc-status': '0', 'x-a': 'aaa' }));
  for (const [at, { length }] of [block, block, block].entries()) {
    const id = 2 * at + 1;
    const trailers = at === 1 ? encodeLiteralBlock(fields({ 'grpc-status': '5', 'x-a': 'aaa' })) : block;
    t.equal(trailers.length, length);
    await bench.client(asked(id));
    await bench.runtime(headers(id, head), frame(FrameType.headers, last, id, trailers));
  }
  t.strictSame(told, ['/pass/A 0 after 0', '/pass/A 5 after 0', '/pass/A 0 after 0']);
});

t.test(
  'known trailers are known in whatever pieces and frames they come, and nothing else is taken for them',
  async (t) => {
    const { bench, told } = await started();
    const block = encodeLiteralBlock(fields(okTrailers));
    const whole = (id: number) => frame(FrameType.headers, last, id, block);
    let id = 1;
    const comes = async (...chunks: Buffer[]) => {
      await bench.client(asked(id));
      for (const chunk of [headers(id, head), ...chunks]) await bench.runtime(chunk);
      id += 2;
      return told.splice(0);
    };
    t.strictSame(await comes(whole(id)), ['/pass/A 0 after 0']);
    t.strictSame(await comes(whole(id)), ['/pass/A 0 after 0']);
    t.strictSame(
      await comes(whole(id).subarray(0, 12), whole(id).subarray(12)),
      ['/pass/A 0 after 0'],
      'in two pieces',
    );
    const padded = Buffer.concat([Buffer.from([2]), block, Buffer.alloc(2)]);
    t.strictSame(
      await comes(frame(FrameType.headers, last | Flag.padded, id, padded)),
      ['/pass/A 0 after 0'],
      'padded',
    );
    const continued = [
      frame(FrameType.headers, Flag.endStream, id, encodeLiteralBlock(fields({ 'grpc-status': '9' }))),
      frame(FrameType.continuation, Flag.endHeaders, id, encodeLiteralBlock(fields({ 'grpc-message': 'no' }))),
    ];
    t.strictSame(await comes(...continued), ['/pass/A 9 after 0'], 'in two frames');
    const first = frame(FrameType.headers, Flag.endStream, id, block);
    const second = frame(
      FrameType.continuation,
      Flag.endHeaders,
      id,
      encodeLiteralBlock(fields({ 'grpc-status': '7' })),
    );
    t.strictSame(await comes(first, second), ['/pass/A 7 after 0'], 'the last of a name counts');
    t.strictSame(
      await comes(
        frame(FrameType.headers, Flag.endStream, id, block.subarray(0, 4)),
        frame(FrameType.continuation, Flag.endHeaders, id, block.subarray(4)),
      ),
      ['/pass/A 0 after 0'],
    );
  },
);

t.test('before the runtime has acknowledged to use no header table, what refers to it is understood', async (t) => {
  const { bench, told } = unstarted();
  await bench.client(settings());
  await bench.runtime(settings());
  const indexed = Buffer.concat([Buffer.from([0x40, 11]), Buffer.from('grpc-status'), Buffer.from([1, 0x35])]);
  for (const [id, block] of [
    [1, indexed],
    [3, Buffer.from([0xbe])],
    [5, encodeLiteralBlock(fields(okTrailers))],
    [7, Buffer.from([0xbe])],
  ] as const) {
    await bench.client(asked(id));
    await bench.runtime(frame(FrameType.headers, last, id, block));
  }
  t.strictSame(told, ['/pass/A 5 after 0', '/pass/A 5 after 0', '/pass/A 0 after 0', '/pass/A 5 after 0']);
});

t.test('trailers that are those before and more, or those before once more, are read as they are', async (t) => {
  const { bench, told } = await started();
  const notFound = encodeLiteralBlock(fields({ 'grpc-status': '5' }));
  const more = Buffer.concat([notFound, encodeLiteralBlock(fields({ 'grpc-status': '7' }))]);
  for (const [at, block] of [notFound, notFound, more, notFound].entries()) {
    const id = 2 * at + 1;
    await bench.client(asked(id));
    await bench.runtime(headers(id, head), frame(FrameType.headers, last, id, block));
  }
  t.strictSame(told, ['/pass/A 5 after 0', '/pass/A 5 after 0', '/pass/A 7 after 0', '/pass/A 5 after 0']);
});

t.test(
  'what refers to the header table is not known by its bytes: they mean something else the next time',
  async (t) => {
    const { bench, told } = unstarted();
    await bench.client(settings());
    await bench.runtime(settings());
    const indexed = (code: string) =>
      Buffer.concat([Buffer.from([0x40, 11]), Buffer.from('grpc-status'), Buffer.from([1]), Buffer.from(code)]);
    const newest = Buffer.from([0xbe]);
    await bench.client(asked(1), asked(3), asked(5));
    await bench.runtime(frame(FrameType.headers, last, 1, indexed('5')), frame(FrameType.headers, last, 3, newest));
    await bench.runtime(frame(FrameType.headers, Flag.endHeaders, 5, indexed('7')));
    await bench.runtime(frame(FrameType.headers, last, 5, newest));
    t.strictSame(told, ['/pass/A 5 after 0', '/pass/A 5 after 0', '/pass/A 7 after 0']);
  },
);

t.test('trailers are read up to 16,384 bytes with the headers of their frames', async (t) => {
  const { bench, told } = await started();
  const most = 16_384 - frameHeaderBytes;
  const filled = (length: number) => encodeLiteralBlock(fields({ 'grpc-status': '5', 'x-long': 'X'.repeat(length) }));
  const block = (length: number) => filled(16_300 - (filled(16_300).length - length));
  for (const [id, length] of [
    [1, most],
    [3, most + 1],
  ] as const) {
    t.equal(block(length).length, length);
    await bench.client(asked(id));
    await bench.runtime(frame(FrameType.headers, last, id, block(length)));
  }
  t.strictSame(told, ['/pass/A 5 after 0', '/pass/A undefined after 0']);
});

t.test('of trailers that are too long, and of those in several frames, nothing is left for the next', async (t) => {
  const { bench, told } = await started();
  let id = 1;
  const comes = async (...chunks: Buffer[]) => {
    await bench.client(asked(id));
    for (const chunk of chunks) await bench.runtime(chunk);
    id += 2;
    return told.splice(0);
  };
  const inTwo = (list: Record<string, string>) => {
    const block = encodeLiteralBlock(fields(list));
    return [
      frame(FrameType.headers, Flag.endStream, id, block.subarray(0, 4)),
      frame(FrameType.continuation, Flag.endHeaders, id, block.subarray(4)),
    ];
  };
  const long = headers(id, { 'grpc-status': '9', 'x-long': 'X'.repeat(20_000) }, true);
  t.strictSame(await comes(long.subarray(0, 8_000), long.subarray(8_000, 19_000), long.subarray(19_000)), [
    '/pass/A undefined after 0',
  ]);
  t.strictSame(await comes(...inTwo({ 'grpc-status': '9' })), ['/pass/A 9 after 0']);
  const [begin = Buffer.alloc(0)] = inTwo({ 'grpc-status': '9' });
  t.strictSame(await comes(begin, frame(FrameType.continuation, Flag.endHeaders, id, Buffer.alloc(16_384))), [
    '/pass/A undefined after 0',
  ]);
  t.strictSame(await comes(...inTwo({ 'grpc-status': '7' })), ['/pass/A 7 after 0']);
  t.strictSame(await comes(...inTwo({ 'x-a': 'nothing' })), ['/pass/A 2 after 0'], 'it has no status of its own');
});

t.test('trailers that share no byte with those before are not taken for them', async (t) => {
  const { bench, told } = await started();
  const literal = (first: number, name: string, value: string) =>
    Buffer.concat([
      Buffer.from([first, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]);
  const known = literal(0x10, 'grpc-status', '5');
  const other = literal(0, 'x'.repeat(7), 'y'.repeat(5));
  t.equal(other.length, known.length);
  t.notOk([...known].some((octet, at) => octet === other[at]));
  for (const [at, block] of [known, other].entries()) {
    await bench.client(asked(2 * at + 1));
    await bench.runtime(frame(FrameType.headers, last, 2 * at + 1, block));
  }
  t.strictSame(told, ['/pass/A 5 after 0', '/pass/A 2 after 0']);
});

/** `grpc-status: 5` with incremental indexing, and what then stands for it. */
const indexedNotFound = Buffer.concat([Buffer.from([0x40, 11]), Buffer.from('grpc-status'), Buffer.from([1, 0x35])]);
const newestEntry = Buffer.from([0xbe]);

/** @returns How calls end on a connection whose runtime may use its header table, with each of these blocks. */
async function endsWith(...blocks: readonly { readonly type?: number; readonly block: Buffer }[]): Promise<string[]> {
  const { bench, told } = unstarted();
  await bench.client(settings());
  await bench.runtime(settings());
  for (const [at, { type = FrameType.headers, block }] of blocks.entries()) {
    await bench.client(asked(2 * at + 1));
    await bench.runtime(frame(type, type === FrameType.headers ? last : Flag.endHeaders, 2 * at + 1, block));
  }
  return told.map((line) => line.split(' ')[1] ?? '');
}

t.test('once a block is no HPACK, what refers to the header table is not understood any more', async (t) => {
  const halfRight = Buffer.concat([indexedNotFound, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]);
  t.strictSame(await endsWith({ block: indexedNotFound }, { block: halfRight }, { block: newestEntry }), [
    '5',
    'undefined',
    'undefined',
  ]);
});

t.test('where the runtime pushes something, what it says of the header table is not followed', async (t) => {
  // As headers it would be ones without names.
  const promise = Buffer.from([0, 0, 0, 2, 1, 0x61]);
  t.strictSame(
    await endsWith({ block: indexedNotFound }, { type: FrameType.pushPromise, block: promise }, { block: newestEntry }),
    ['5', 'undefined'],
  );
});

t.test('trailers that empty the header table do so each time they come', async (t) => {
  const empties = Buffer.concat([Buffer.from([0x20]), encodeLiteralBlock(fields(okTrailers))]);
  const fills = Buffer.concat([Buffer.from([0x3f, 0xe1, 0x1f]), indexedNotFound]);
  t.strictSame(await endsWith({ block: empties }, { block: fills }, { block: empties }, { block: newestEntry }), [
    '0',
    '5',
    '0',
    'undefined',
  ]);
});

const unread: Record<string, readonly Buffer[]> = {
  'DATA without trailers': [headers(1, head), data(1, message(''), true)],
  RST_STREAM: [reset(1, 2)],
  'trailers that are no HPACK': [frame(FrameType.headers, last, 1, Buffer.alloc(20, 0xff))],
  'trailers of 20,000 bytes': [headers(1, { ...okTrailers, 'x-long': 'X'.repeat(20_000) }, true)],
};

for (const [end, frames] of Object.entries(unread)) {
  t.test(`a call that the runtime ends with ${end} has no code`, async (t) => {
    const { bench, told } = await started();
    await bench.client(asked(1));
    await bench.runtime(...frames);
    t.strictSame(told, ['/pass/A undefined after 0']);
    bench.router.abandon();
    t.equal(told.length, 1, 'told once');
  });
}

t.test('trailers without a status are as UNKNOWN, and with one that is no number as INTERNAL', async (t) => {
  const { bench, told } = await started();
  await bench.client(asked(1), asked(3));
  await bench.runtime(headers(1, { 'x-a': 'b' }, true), headers(3, { 'grpc-status': 'OK' }, true));
  t.strictSame(told, ['/pass/A 2 after 0', '/pass/A 13 after 0']);
});

t.test('who leaves has cancelled its call, a lost runtime was unavailable', async (t) => {
  const ends: Record<string, readonly [how: (told: Told) => unknown, code: number]> = {
    'a reset of the client': [({ bench }) => bench.client(reset(1)), 1],
    'the end of the connections': [({ bench }) => bench.router.abandon(), 1],
    'a fault of the client': [
      async ({ bench }) => {
        bench.fromClient(frame(FrameType.ping, 0, 0, Buffer.alloc(7)));
        await bench.clock.advance(5000);
      },
      1,
    ],
    'a fault of the runtime': [({ bench }) => bench.runtime(frame(FrameType.ping, 0, 0, Buffer.alloc(7))), 14],
    'the end of the runtime': [
      ({ bench }) => {
        t.notOk(bench.router.runtimeEnded());
        bench.router.abandon();
      },
      14,
    ],
    'a GOAWAY that leaves it out': [({ bench }) => bench.runtime(goAway(0)), 14],
  };
  for (const [how, [end, code]] of Object.entries(ends)) {
    const both = await started();
    await both.bench.client(asked(1));
    await both.bench.clock.advance(7);
    await end(both);
    t.match(both.told, [new RegExp(`^/pass/A ${code} after `)], how);
    both.bench.router.abandon();
    t.equal(both.told.length, 1, 'once');
  }
});

t.test('where a taken call outlives the runtime, those that only that could answer were unavailable', async (t) => {
  const { bench, told } = await started();
  await bench.client(asked(1));
  const call = await bench.take(3);
  t.ok(bench.router.runtimeEnded());
  await bench.client();
  t.strictSame(told, ['/pass/A 14 after 0']);
  await bench.clock.advance(20);
  void call.end(ok);
  await bench.client();
  t.strictSame(told, ['/pass/A 14 after 0', '/take/Call 0 after 20']);
});

t.test('trailers of a client that are too long cost it its call', async (t) => {
  const { bench, told } = await started({ headerListBytes: 500 });
  await bench.client(request(1, '/pass/A'), headers(1, { 'x-long': 'X'.repeat(600) }, true));
  t.strictSame(told, ['/pass/A 8 after 0']);
});

t.test('a taken call is told of with what it was ended with', async (t) => {
  const { bench, told } = await started();
  const call = await bench.take(1);
  await bench.clock.advance(250);
  void call.end({ code: 10, message: 'no', trailers: [] });
  await bench.client();
  t.strictSame(told, ['/take/Call 10 after 250']);
  bench.router.abandon();
  t.equal(told.length, 1, 'once');
});

t.test('a taken call whose client leaves is cancelled, and one whose deadline passes has exceeded it', async (t) => {
  const { bench, told } = await started();
  const unbounded = await bench.take(1);
  t.equal(unbounded.deadlineMs, undefined);
  await bench.take(3, { 'grpc-timeout': '2S' });
  await bench.client(reset(1));
  t.strictSame(told, ['/take/Call 1 after 0']);
  await bench.clock.advance(2000);
  t.strictSame(told, ['/take/Call 1 after 0', '/take/Call 4 after 2000']);
});

t.test('a report that is taken when its answer begins is one call, as old as its request', async (t) => {
  const { bench, told } = await started();
  bench.late = true;
  await bench.client(asked(1, '/report/A'));
  await bench.clock.advance(5);
  await bench.runtime(headers(1, head), data(1, message('')), headers(1, okTrailers, true));
  t.strictSame(told, [], 'it is Holdfast that answers');
  await bench.clock.advance(5);
  void bench.call().end({ code: 7, message: '', trailers: [] });
  await bench.client();
  t.strictSame(told, ['/report/A 7 after 10']);
});

t.test('a taken call for which there is no room was unavailable', async (t) => {
  const { bench, told } = await started({ takenStreams: 1 });
  await bench.take(1);
  await bench.client(asked(3, '/take/More'));
  t.strictSame(told, ['/take/More 14 after 0']);
  await bench.client(reset(1));
  await bench.take(5);
  t.strictSame(told, ['/take/More 14 after 0', '/take/Call 1 after 0'], 'there is room again');
});

t.test('the next read has a time of its own', async (t) => {
  const { bench, told } = await started();
  await bench.client(asked(1), asked(3));
  await bench.clock.advance(10);
  await bench.client(asked(5));
  await bench.clock.advance(10);
  for (const id of [1, 3, 5]) await bench.runtime(headers(id, okTrailers, true));
  t.strictSame(told, ['/pass/A 0 after 20', '/pass/A 0 after 20', '/pass/A 0 after 10']);
  t.equal(bench.router.lastAnswerMs, bench.clock.now());
});
