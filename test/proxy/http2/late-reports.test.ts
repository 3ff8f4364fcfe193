/** Requests for reports that are forwarded, and taken when their answers begin. */
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { BudgetShare, ByteBudget } from '../../../src/proxy/http2/budgets.js';
import { Flag, FrameType, frame, Setting } from '../../../src/proxy/http2/frames.js';
import type { Limits } from '../../../src/proxy/http2/limits.js';
import type { TakenCall } from '../../../src/proxy/taken-call.js';
import { settle } from '../../support/manual-clock.js';
import {
  data,
  decodeBlock,
  type Frame,
  goAway,
  headers,
  message,
  ok,
  RouterBench,
  request,
  reset,
  settings,
  settingsAck,
  show,
  windowUpdate,
} from './wire.js';

const window = 65_535;
const runtimeHead = { ':status': '200', 'content-type': 'application/grpc' };

/** A bench whose reports are taken, with nothing left to read. */
async function lateBench(limits: Partial<Limits> = {}, ...client: [id: number, value: number][]): Promise<RouterBench> {
  const bench = await RouterBench.started(limits, ...client);
  bench.late = true;
  return bench;
}

/** A report asked for and forwarded, its answer begun by the runtime. */
async function takenLate(
  bench: RouterBench,
  streamId: number,
  extra: Readonly<Record<string, string>> = {},
): Promise<TakenCall> {
  await bench.client(request(streamId, '/report/List', extra), data(streamId, message('which'), true));
  bench.toRuntime.frames();
  await bench.runtime(headers(streamId, runtimeHead));
  return bench.call(bench.calls.length - 1);
}

function blockOf(frames: readonly Frame[], streamId: number): Record<string, string> {
  const found = frames.find((one) => one.type === FrameType.headers && one.streamId === streamId);
  return found === undefined ? {} : decodeBlock(found.payload).values;
}

t.test('a report is forwarded to the byte and read along, and answered by the runtime where that may be', async (t) => {
  const bench = await RouterBench.started();
  const sent = Buffer.concat([request(1, '/report/List'), data(1, message('which'), true)]);
  const before = bench.toRuntime.all.length;
  await bench.client(sent);
  t.ok(bench.toRuntime.all.subarray(before).equals(sent));
  t.strictSame(bench.observed, ['/report/List which']);
  const answer = [headers(1, runtimeHead), data(1, 100), headers(1, { 'grpc-status': '0' }, true)];
  const seen = bench.toClient.all.length;
  await bench.runtime(...answer);
  t.ok(bench.toClient.all.subarray(seen).equals(Buffer.concat(answer)));
  t.strictSame(bench.calls, []);
  t.equal(bench.router.activeStreams, 0);
});

t.test('a report whose answer begins while something is hidden is a taken call', async (t) => {
  const bench = await lateBench();
  await bench.client(
    request(1, '/report/List', { 'grpc-timeout': '2S', 'x-more': 'm' }),
    data(1, message('which').subarray(0, 3)),
    data(1, message('which').subarray(3), true),
  );
  await bench.clock.advance(500);
  bench.toRuntime.frames();
  await bench.runtime(headers(1, runtimeHead), data(1, 100), headers(1, { 'grpc-status': '0' }, true));
  const call = bench.call();
  t.equal(call.path, '/report/List');
  t.equal(call.request.toString(), 'which');
  t.strictSame(call.metadata, [['x-more', 'm']]);
  t.equal(call.deadlineMs, bench.clock.now() + 1500, 'counted from when the request came');
  t.strictSame(bench.toClient.shown(), [], 'the client sees nothing of the runtime’s answer');
  t.strictSame(bench.toRuntime.shown(), ['windowUpdate 0 100', 'windowUpdate 1 100']);
  void call.send(Buffer.from('edited'));
  const delivered = call.end(ok);
  await settle();
  const frames = bench.toClient.frames();
  t.strictSame(frames.map(show), ['headers 1', 'data 1 len=11', 'headers 1 end', 'ping 0']);
  t.ok(frames[1]?.payload.equals(message('edited')));
  await bench.client(frame(FrameType.ping, Flag.ack, 0, frames[3]?.payload ?? Buffer.alloc(8)));
  t.equal(await delivered, true);
  t.equal(bench.clock.pending, 0);
});

t.test('at the deadline of a late call its client is told, and what the runtime still says is swallowed', async (t) => {
  const bench = await lateBench();
  const call = await takenLate(bench, 1, { 'grpc-timeout': '1S' });
  await bench.clock.advance(1000);
  t.equal(call.signal.reason, 'deadline');
  const frames = bench.toClient.frames();
  t.strictSame(frames.map(show), ['headers 1 end']);
  t.equal(blockOf(frames, 1)['grpc-status'], '4');
  await bench.runtime(data(1, 10), reset(1));
  t.strictSame(bench.toClient.shown(), []);
  t.strictSame(bench.toRuntime.shown(), ['windowUpdate 0 10', 'windowUpdate 1 10']);
  await bench.runtime(windowUpdate(0, 5));
  t.strictSame([bench.toClient.shown(), bench.violations], [['windowUpdate 0 5'], []]);
});

t.test('the runtime’s answer is swallowed whole, whatever its frames, between those of other streams', async (t) => {
  const bench = await lateBench();
  await bench.client(
    request(1, '/report/List'),
    data(1, message('which'), true),
    request(3, '/pass/A', {}, true),
    request(5, '/report/Other'),
    data(5, message('else'), true),
  );
  bench.toRuntime.frames();
  const head = headers(1, runtimeHead).subarray(9);
  const tail = headers(1, { 'grpc-status': '0', 'x-long': 'v'.repeat(60) }).subarray(9);
  const other = [headers(3, runtimeHead), data(3, 50), headers(3, { 'grpc-status': '0' }, true)] as const;
  const padded = frame(FrameType.data, Flag.padded, 1, Buffer.concat([Buffer.from([7]), Buffer.alloc(20 + 7)]));
  const bytes = Buffer.concat([
    frame(FrameType.headers, 0, 1, head.subarray(0, 4)),
    frame(FrameType.continuation, 0, 1, Buffer.alloc(0)),
    frame(FrameType.continuation, Flag.endHeaders, 1, head.subarray(4)),
    other[0],
    padded,
    frame(FrameType.priority, 0, 1, Buffer.alloc(5)),
    other[1],
    headers(5, runtimeHead),
    data(1, 0),
    data(5, 40, true),
    frame(FrameType.headers, Flag.endStream, 1, tail.subarray(0, 9)),
    frame(FrameType.continuation, Flag.endHeaders, 1, tail.subarray(9)),
    other[2],
  ]);
  const seen = bench.toClient.all.length;
  // However it is cut.
  for (const byte of bytes) bench.fromRuntime(Buffer.from([byte]));
  await settle();
  // The runtime's first block, which says that it uses no table, is among those swallowed.
  const first = Buffer.concat([Buffer.from([0x20]), other[0].subarray(9)]);
  const expected = [frame(FrameType.headers, Flag.endHeaders, 3, first), other[1], other[2]];
  t.ok(bench.toClient.all.subarray(seen).equals(Buffer.concat(expected)));
  t.strictSame(
    bench.calls.map(({ path, request: { length } }) => [path, length]),
    [
      ['/report/List', 5],
      ['/report/Other', 4],
    ],
  );
  const granted = bench.toRuntime.shown();
  t.strictSame(granted.slice(0, 2), ['windowUpdate 0 28', 'windowUpdate 1 28'], 'padding counts');
  t.equal(granted[2], 'windowUpdate 0 40');
  t.notOk(granted.includes('windowUpdate 0 0'), 'which would end the connection');
  t.strictSame(bench.violations, []);
});

t.test('own frames go out between the pieces of a header block that is swallowed', async (t) => {
  const bench = await lateBench();
  await bench.client(request(1, '/report/List'), data(1, message('which'), true));
  const head = headers(1, runtimeHead).subarray(9);
  await bench.runtime(frame(FrameType.headers, 0, 1, head.subarray(0, 4)));
  void bench.call().send(Buffer.from('edited'));
  void bench.call().end(ok);
  await settle();
  t.strictSame(bench.toClient.shown(), ['headers 1', 'data 1 len=11', 'headers 1 end', 'ping 0']);
  await bench.runtime(frame(FrameType.continuation, Flag.endHeaders, 1, head.subarray(4)), data(1, 9, true));
  t.strictSame(bench.toClient.shown(), []);
  t.strictSame(bench.violations, []);
});

t.test('a report whose answer has begun, and one that failed at once, are the runtime’s to the end', async (t) => {
  const bench = await RouterBench.started();
  for (const id of [1, 3, 5]) await bench.client(request(id, '/report/List'), data(id, message('which'), true));
  const informational = headers(1, { ':status': '103' });
  await bench.runtime(informational);
  bench.late = true;
  const trailersOnly = headers(3, { ...runtimeHead, 'grpc-status': '14' }, true).subarray(9);
  const frames = [
    headers(1, runtimeHead),
    data(1, 100),
    headers(1, { 'grpc-status': '0' }, true),
    frame(FrameType.headers, Flag.endStream, 3, trailersOnly.subarray(0, 5)),
    frame(FrameType.continuation, Flag.endHeaders, 3, trailersOnly.subarray(5)),
    reset(5),
  ];
  const seen = bench.toClient.all.length;
  await bench.runtime(...frames);
  t.ok(bench.toClient.all.subarray(seen).equals(Buffer.concat(frames)));
  t.strictSame(bench.calls, []);
});

t.test('so is one whose first headers are held back when something becomes hidden', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true), request(3, '/report/List'), data(3, message('which'), true));
  const call = await bench.take(5);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  await bench.runtime(headers(1, runtimeHead), data(1, 10), headers(3, { ':status': '103' }));
  bench.late = true;
  await bench.runtime(headers(3, runtimeHead), data(3, 20, true));
  bench.toClient.frames();
  await bench.client(windowUpdate(0, 1000));
  t.strictSame(bench.toClient.shown(), ['data 1 len=10', 'headers 3', 'headers 3', 'data 3 len=20 end']);
  t.equal(bench.calls.length, 1);
});

t.test('a late call goes past what is held back for others', async (t) => {
  const bench = await RouterBench.started({}, [Setting.initialWindowSize, 100_000]);
  await bench.client(request(1, '/pass/A', {}, true), request(3, '/report/List'), data(3, message('which'), true));
  const call = await bench.take(5);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  bench.late = true;
  await bench.runtime(headers(1, runtimeHead), data(1, 10), headers(3, runtimeHead), data(3, 30, true));
  bench.toClient.frames();
  t.equal(bench.router.responses.held.bytes > 10, true);
  void bench.call(1).send(Buffer.from('edited'));
  void bench.call(1).end(ok);
  await settle();
  t.strictSame(bench.toClient.shown(), ['headers 3'], 'the window is spent');
  await bench.client(windowUpdate(0, 15));
  t.strictSame(bench.toClient.shown(), ['data 1 len=10', 'data 3 len=5']);
  await bench.client(windowUpdate(0, 6));
  t.strictSame(bench.toClient.shown(), ['data 3 len=6', 'headers 3 end', 'ping 0']);
});

t.test('a late call has the stream window that its client has granted, as its SETTINGS say now', async (t) => {
  const bench = await lateBench({}, [Setting.initialWindowSize, 100]);
  await bench.client(request(1, '/report/List'), windowUpdate(1, 20), data(1, message('which'), true));
  await bench.client(windowUpdate(1, 3), settings([Setting.initialWindowSize, 200]));
  await bench.runtime(settingsAck, headers(1, runtimeHead));
  await bench.client(windowUpdate(1, 7), settings([Setting.initialWindowSize, 1000]));
  bench.toClient.frames();
  void bench.call().send(Buffer.alloc(2000));
  await settle();
  t.strictSame(bench.toClient.shown(), ['headers 1', 'data 1 len=230']);
  await bench.runtime(settingsAck);
  t.strictSame(bench.toClient.shown(), ['settings 0 ack', 'data 1 len=800']);
  t.ok(bench.toRuntime.shown().includes('windowUpdate 1 23') === false);
});

t.test('a runtime that waits for the window of a stream taken late gets what its client grants', async (t) => {
  const bench = await lateBench({}, [Setting.initialWindowSize, 0]);
  await takenLate(bench, 1);
  await bench.client(windowUpdate(1, 50));
  t.strictSame(bench.toRuntime.shown(), ['windowUpdate 1 50']);
});

t.test(
  'however many are taken late before the runtime has said the rest, none of that reaches the client',
  async (t) => {
    const bench = await lateBench();
    const ids = Array.from({ length: 2000 }, (_, index) => 2 * index + 1);
    for (const id of ids) await bench.client(request(id, '/report/List'), data(id, message(''), true));
    for (const id of ids) await bench.runtime(headers(id, runtimeHead));
    for (const call of bench.calls) void call.end({ code: 2, message: '', trailers: [] });
    await settle();
    t.equal(bench.router.activeStreams, 0);
    bench.toClient.frames();
    for (const id of ids) await bench.runtime(data(id, 1), headers(id, { 'grpc-status': '0' }, true));
    t.strictSame(bench.toClient.shown(), []);
  },
);

t.test('a client that cancels a late call cancels it at the runtime too, and the rest is swallowed', async (t) => {
  const bench = await lateBench();
  const call = await takenLate(bench, 1);
  bench.toClient.frames();
  await bench.client(reset(1));
  t.equal(call.signal.reason, 'cancelled');
  t.strictSame(bench.toRuntime.shown(), ['rstStream 1 8']);
  const tail = headers(1, { 'grpc-status': '0' }).subarray(9);
  await bench.runtime(
    data(1, 70),
    frame(FrameType.headers, Flag.endStream, 1, tail.subarray(0, 4)),
    frame(FrameType.continuation, Flag.endHeaders, 1, tail.subarray(4)),
  );
  t.strictSame(bench.toClient.shown(), []);
  t.equal(bench.toRuntime.shown()[0], 'windowUpdate 0 70');
  t.equal(bench.router.activeStreams, 0);
});

t.test('so does one that resets it before the proof of its answer', async (t) => {
  const bench = await lateBench();
  const call = await takenLate(bench, 1);
  const delivered = call.end(ok);
  await settle();
  await bench.client(reset(1));
  t.equal(await delivered, false);
  t.strictSame(bench.toRuntime.shown(), ['rstStream 1 8']);
});

t.test('a late call that is cancelled behind the runtime’s answer is none of the runtime’s', async (t) => {
  const bench = await lateBench();
  const call = await takenLate(bench, 1);
  await bench.runtime(headers(1, { 'grpc-status': '0' }, true));
  await bench.client(reset(1));
  t.equal(call.signal.reason, 'cancelled');
  t.strictSame(bench.toRuntime.shown(), []);
});

t.test('what a runtime says behind its swallowed answer is no fault', async (t) => {
  const bench = await lateBench();
  const call = await takenLate(bench, 1);
  await bench.runtime(headers(1, { 'grpc-status': '0' }, true), windowUpdate(1, 5), reset(1, 0));
  t.strictSame(bench.violations, []);
  bench.toClient.frames();
  void call.end({ code: 5, message: '', trailers: [] });
  await settle();
  t.strictSame(bench.toClient.shown(), ['headers 1 end']);
});

t.test('a request taken late before its END_STREAM came is ended at the runtime all the same', async (t) => {
  for (const end of [data(1, 0, true), headers(1, { 'x-trailer': 't' }, true)]) {
    const bench = await lateBench();
    await bench.client(request(1, '/report/List'), data(1, message('which')));
    await bench.runtime(headers(1, runtimeHead));
    const call = bench.call();
    t.equal(call.request.toString(), 'which');
    bench.toRuntime.frames();
    await bench.client(end);
    t.strictSame(bench.toClient.shown(), []);
    t.match(bench.toRuntime.shown(), [/^(data|headers) 1 .*end$/]);
    void call.end({ code: 5, message: '', trailers: [] });
    await settle();
    t.strictSame(bench.toClient.shown(), ['headers 1 end']);
  }
});

t.test('a late call that is answered before its END_STREAM came is reset at the runtime', async (t) => {
  const bench = await lateBench();
  await bench.client(request(1, '/report/List'), data(1, message('which')));
  await bench.runtime(headers(1, runtimeHead));
  bench.toRuntime.frames();
  void bench.call().end(ok);
  await settle();
  t.strictSame(bench.toRuntime.shown(), ['rstStream 1 8'], 'it is not to wait for the rest');
  await bench.client(data(1, 0, true));
  t.strictSame(bench.toRuntime.shown(), []);
});

t.test('a report that is not whole, is too large, or cannot be read is left to the runtime', async (t) => {
  const bench = await lateBench({ observedRequestBytes: 50 });
  const answer = (id: number): Buffer[] => [headers(id, runtimeHead), data(id, 9), headers(id, {}, true)];
  await bench.client(
    request(1, '/report/A'),
    data(1, message('which').subarray(0, 7)),
    request(3, '/report/B'),
    data(3, message(Buffer.alloc(60)), true),
    request(5, '/report/C', { 'grpc-encoding': 'gzip' }),
    data(5, message('no gzip', true), true),
    request(7, '/report/D', {}, true),
  );
  const expected = Buffer.concat([1, 3, 5, 7].flatMap(answer));
  const seen = bench.toClient.all.length;
  await bench.runtime(expected);
  t.ok(bench.toClient.all.subarray(seen).equals(expected));
  t.strictSame([bench.calls, bench.violations], [[], []]);
});

t.test('more calls taken late than taken calls are allowed are refused', async (t) => {
  const bench = await lateBench({ takenStreams: 1 });
  await takenLate(bench, 1);
  await bench.client(request(3, '/report/List'), data(3, message('which'), true));
  bench.toClient.frames();
  await bench.runtime(headers(3, runtimeHead), data(3, 5, true));
  t.strictSame(bench.toClient.shown(), ['rstStream 3 7']);
  t.strictSame(bench.refusals, ['too many taken streams']);
  t.equal(bench.calls.length, 1);
});

t.test('a handler that fails at a late call ends its own connection', async (t) => {
  const broken = new RouterBench(
    {},
    {
      take: () => {
        throw new Error('broken handler');
      },
    },
  );
  await broken.start();
  broken.late = true;
  await broken.client(request(1, '/report/List'), data(1, message('which'), true));
  await broken.runtime(headers(1, runtimeHead), data(1, 5), headers(1, {}, true));
  t.strictSame(broken.violations, ['downstream: internal error: broken handler']);
  t.ok(broken.closed);
});

/** A bench with `bytes` for requests in memory, and what is left of them. */
async function withBudget(bytes: number): Promise<{ bench: RouterBench; left: () => number }> {
  const budget = new ByteBudget(bytes);
  const bench = new RouterBench({}, {}, () => ({ requests: budget }));
  await bench.start();
  const left = (): number => {
    const share = new BudgetShare(budget);
    let free = 0;
    while (share.take(1)) free += 1;
    share.giveBack(free);
    return free;
  };
  return { bench, left };
}

t.test(
  'what is kept of a report counts until its stream is over: message, decompressed, and long headers',
  async (t) => {
    const { bench, left } = await withBudget(20_000);
    bench.late = true;
    const zipped = message(gzipSync(Buffer.alloc(5000)), true);
    await bench.client(request(1, '/report/List', { 'grpc-encoding': 'gzip' }), data(1, zipped, true));
    const kept = 20_000 - left();
    t.ok(kept >= 5000, `${kept} bytes`);
    await bench.runtime(headers(1, runtimeHead));
    t.equal(bench.call().request.length, 5000);
    t.equal(20_000 - left(), 5000, 'a late call holds its request');
    void bench.call().end({ code: 5, message: '', trailers: [] });
    t.equal(left(), 20_000);

    await bench.client(request(3, '/report/List', { 'x-long': 'v'.repeat(10_000) }), data(3, message('which'), true));
    t.ok(20_000 - left() > 5000, 'headers');
    await bench.client(reset(3));
    t.equal(left(), 20_000, 'reset');
  },
);

t.test('a report for which there is no memory is left to the runtime', async (t) => {
  const { bench, left } = await withBudget(1000);
  bench.late = true;
  const zipped = message(gzipSync(Buffer.alloc(5000)), true);
  await bench.client(
    request(1, '/report/List', { 'grpc-encoding': 'gzip' }),
    data(1, zipped, true),
    request(3, '/report/List', { 'x-long': 'v'.repeat(10_000) }),
    data(3, message('which'), true),
  );
  bench.toClient.frames();
  await bench.runtime(headers(1, runtimeHead), headers(3, runtimeHead));
  t.strictSame(bench.toClient.shown(), ['headers 1', 'headers 3']);
  t.equal(left(), 1000);
});

t.test('a GOAWAY of the runtime leaves late calls alone', async (t) => {
  const bench = await lateBench();
  const call = await takenLate(bench, 1);
  await bench.runtime(data(1, 5), goAway(0, 0), data(1, 5));
  void call.end(ok);
  await settle();
  t.strictSame(bench.toClient.shown(), ['goAway 0 last=1 code=0', 'headers 1 end', 'ping 0']);
});
