/** Requests that are not whole: how old they may get, and who pays where memory for requests is short. */
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { type Budgets, ByteBudget, newBudgets } from '../../../src/proxy/http2/budgets.js';
import { HalfRequests } from '../../../src/proxy/http2/half-requests.js';
import type { Limits } from '../../../src/proxy/http2/limits.js';
import { ManualClock, settle } from '../../support/manual-clock.js';
import { data, decodeBlock, headers, message, ok, RouterBench, request, reset } from './wire.js';

interface World {
  readonly clock: ManualClock;
  readonly budget: ByteBudget;
  readonly decompression: Budgets['decompression'];
  /** One more connection. */
  connect(limits?: Partial<Limits>): Promise<RouterBench>;
}

/** Connections that share `bytes` of memory for requests, and give a request 20 s to come in. */
function world(bytes: number): World {
  const clock = new ManualClock();
  const budget = new ByteBudget(bytes);
  const { decompression } = newBudgets(clock);
  const shared = { requests: budget, decompression, halfRequests: new HalfRequests(clock, 20_000) };
  return {
    clock,
    budget,
    decompression,
    connect: async (limits = {}) => {
      const bench = new RouterBench(limits, {}, () => shared);
      await bench.start();
      return bench;
    },
  };
}

/** Whether exactly `bytes` are left. */
function leaves(budget: ByteBudget, bytes: number): boolean {
  if (!budget.take(bytes)) return false;
  const isAll = !budget.take(1);
  budget.giveBack(isAll ? bytes : bytes + 1);
  return isAll;
}

/** Status code and text of the answer the client got on a stream; empty where it got none. */
async function answer(bench: RouterBench, streamId: number): Promise<string> {
  await settle();
  const block = bench.toClient.frames().find((one) => one.type === 1 && one.streamId === streamId);
  if (block === undefined) return '';
  const { values } = decodeBlock(block.payload);
  return `${values['grpc-status']} ${values['grpc-message']}`;
}

const half = (streamId: number, path: string, bytes = 60): Buffer =>
  Buffer.concat([request(streamId, path), data(streamId, message(Buffer.alloc(80)).subarray(0, bytes))]);
const rest = (streamId: number, bytes = 60): Buffer => data(streamId, message(Buffer.alloc(80)).subarray(bytes), true);

t.test('a request that is not whole in time is ended, and told so; one that is whole is not', async (t) => {
  const { clock, budget, connect } = world(1000);
  const [first, second] = [await connect(), await connect()];
  await first.client(half(1, '/take/A'), half(3, '/take/B'));
  await clock.advance(10_000);
  await second.client(half(1, '/take/C'));
  await first.client(rest(3));
  await clock.advance(9999);
  t.equal(await answer(first, 1), '');
  await clock.advance(1);
  t.equal(await answer(first, 1), '8 holdfast: the request was not whole after 20000 ms');
  t.strictSame(first.refusals, ['request not whole']);
  t.ok(leaves(budget, 1000 - 85 - 60));
  t.notOk(first.call().signal.aborted);
  await clock.advance(9999);
  t.equal(await answer(second, 1), '');
  await clock.advance(1);
  t.match(await answer(second, 1), /^8 /);
  t.equal(clock.pending, 0);
  t.strictSame([first.violations, second.violations], [[], []], 'it costs the stream only');
});

t.test('a request without DATA, and one whose trailers do not come, have an age too', async (t) => {
  const { clock, connect } = world(1000);
  const bench = await connect();
  await bench.client(request(1, '/take/A'), request(3, '/take/B'), data(3, message('whole but not ended')));
  await clock.advance(20_000);
  const frames = bench.toClient.shown();
  t.strictSame(
    frames.filter((line) => line.startsWith('headers')),
    ['headers 1 end', 'headers 3 end'],
  );
  t.strictSame(
    frames.filter((line) => line.startsWith('rst')),
    ['rstStream 1 0', 'rstStream 3 0'],
    'the rest is not wanted',
  );
});

t.test('where memory is short the oldest half request goes first, whosever it is', async (t) => {
  const { clock, budget, connect } = world(200);
  const [first, second, third] = [await connect(), await connect(), await connect()];
  await first.client(half(1, '/take/Old'));
  await clock.advance(1);
  await second.client(half(1, '/take/Newer'));
  await clock.advance(1000);
  await third.client(request(1, '/take/Whole'), data(1, message(Buffer.alloc(80)), true));
  t.equal(await answer(first, 1), '8 holdfast: the requests in flight take too much memory, and this one is not whole');
  t.equal(third.calls.length, 1);
  t.equal(await answer(second, 1), '', 'one was enough');
  await third.client(request(3, '/take/Whole'), data(3, message(Buffer.alloc(80)), true));
  t.match(await answer(second, 1), /^8 /);
  t.equal(third.calls.length, 2);
  await first.client(half(3, '/take/More'));
  t.match(await answer(first, 3), /^8 the requests in flight take too much memory/, 'it is the oldest itself');
  t.notOk(third.call(0).signal.aborted || third.call(1).signal.aborted, 'a whole one is never given up');
  void third.call(0).end(ok);
  void third.call(1).end(ok);
  t.ok(leaves(budget, 200));
  t.equal(clock.pending, 0);
});

t.test('what is just arriving is not given up for who floods', async (t) => {
  const { clock, connect } = world(210);
  const [kubelet, flooder] = [await connect(), await connect()];
  await kubelet.client(half(1, '/take/Arriving'));
  await clock.advance(999);
  await flooder.client(half(1, '/take/A'), half(3, '/take/B'), half(5, '/take/C'), half(7, '/take/D'));
  t.equal(flooder.refusals.length, 2);
  await kubelet.client(rest(1));
  t.equal(kubelet.calls.length, 1);
});

t.test('what becomes of a half request otherwise ends its age', async (t) => {
  const { clock, budget, connect } = world(1000);
  const bench = await connect();
  await bench.client(half(1, '/take/A'), half(3, '/take/B'), half(5, '/take/C'), half(7, '/take/D'));
  await bench.client(reset(1), rest(3), data(5, Buffer.alloc(90)));
  bench.router.abandon();
  t.equal(clock.pending, 0);
  t.ok(leaves(budget, 1000));
});

t.test('requests that are only read along are no hoard either', async (t) => {
  for (const decision of ['observe', 'report']) {
    const { clock, budget, connect } = world(200);
    const [hoarder, modest] = [await connect(), await connect()];
    await hoarder.client(half(1, `/${decision}/A`), half(3, `/${decision}/B`));
    await clock.advance(1000);
    await modest.client(request(1, '/take/Whole'), data(1, message(Buffer.alloc(80)), true));
    t.equal(modest.calls.length, 1, decision);
    await hoarder.client(rest(1), rest(3));
    t.strictSame(hoarder.toRuntime.shown().slice(-2), ['data 1 len=25 end', 'data 3 len=25 end'], 'forwarded');
    t.strictSame(hoarder.observed.length, 1, 'the older one unread');
    await hoarder.client(reset(1), reset(3), half(5, `/${decision}/C`));
    t.ok(leaves(budget, 200 - 85 - 60));
    await clock.advance(20_000);
    t.ok(leaves(budget, 200 - 85), 'and they have an age');
    await hoarder.client(rest(5));
    t.strictSame(hoarder.toRuntime.shown().slice(-1), ['data 5 len=25 end']);
    t.strictSame([hoarder.refusals, hoarder.violations], [[], []]);
    t.equal(clock.pending, 0);
  }
});

t.test('a report that was given up while it was half is the runtime’s to answer', async (t) => {
  const { clock, connect } = world(1000);
  const bench = await connect();
  bench.late = true;
  await bench.client(half(1, '/report/A'));
  await clock.advance(20_000);
  await bench.client(rest(1));
  const call = Buffer.concat([request(3, '/report/B'), data(3, message('b'), true)]);
  await bench.client(call);
  await clock.advance(20_000);
  bench.toClient.frames();
  await bench.runtime(headers(1, { ':status': '200' }), headers(3, { ':status': '200' }));
  t.strictSame(bench.toClient.shown(), ['headers 1']);
  t.equal(bench.call().path, '/report/B', 'a whole one has no age');
});

t.test('of a report that cannot be taken nothing is kept', async (t) => {
  const { budget, connect } = world(1000);
  const bench = await connect({ observedRequestBytes: 90 });
  await bench.client(
    request(1, '/report/A'),
    data(1, message(Buffer.alloc(80)).subarray(0, 70), true),
    request(3, '/report/B'),
    data(3, Buffer.alloc(50, 0xff), true),
    request(5, '/report/C'),
    data(5, message(Buffer.alloc(80)).subarray(0, 70)),
    data(5, Buffer.alloc(91), true),
  );
  t.equal(bench.router.activeStreams, 3);
  t.ok(leaves(budget, 1000));
});

/** A compressed request that swells to `bytes`. */
const swelling = (streamId: number, bytes: number): Buffer =>
  Buffer.concat([
    request(streamId, '/take/A', { 'grpc-encoding': 'gzip' }),
    data(streamId, message(gzipSync(Buffer.alloc(bytes)), true), true),
  ]);

/** For what a thread of zlib decides. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await settle();
}

t.test(
  'of many requests that swell, two are undone at a time, and no more is kept than there is room for',
  async (t) => {
    const MiB = 1024 * 1024;
    const { budget, decompression, connect } = world(6 * MiB);
    const bench = await connect();
    let most = 0;
    let mostAtOnce = 0;
    const take = budget.take.bind(budget);
    const spent = (): number => {
      let free = 0;
      while (take(MiB / 8)) free += MiB / 8;
      budget.giveBack(free);
      return 6 * MiB - free;
    };
    for (let id = 1; id < 64; id += 2) bench.fromClient(swelling(id, 4 * MiB));
    await until(() => {
      most = Math.max(most, spent());
      mostAtOnce = Math.max(mostAtOnce, decompression.activeCount);
      return bench.refusals.length + bench.calls.length === 32;
    });
    await settle();
    t.equal(mostAtOnce, 2);
    t.ok(most <= 6 * MiB * 0.75 + MiB / 8, `${most} bytes at most: a greedy connection gets three quarters`);
    t.ok(bench.calls.length >= 1, 'who has room is served');
    t.equal(new Set(bench.refusals.map((reason) => reason.replace(' again', ''))).size, 1);
    for (const call of bench.calls) void call.end(ok);
    await settle();
    t.ok(leaves(budget, 6 * MiB), 'in the end all of it is given back');
    t.equal(bench.router.activeStreams, 0);
  },
);

t.test('a compressed request gives back what it reserved, however it ends', async (t) => {
  const { budget, connect } = world(4_000_000);
  const bench = await connect();
  const zipped = gzipSync(Buffer.alloc(300_000, 'z'));
  const bodies = { 'cut short': zipped.subarray(0, zipped.length - 20), garbage: Buffer.alloc(500, 'g') };
  let id = 1;
  for (const [what, body] of Object.entries(bodies)) {
    await bench.client(request(id, '/take/A', { 'grpc-encoding': 'gzip' }), data(id, message(body, true), true));
    await until(() => bench.router.activeStreams === 0);
    t.match(await answer(bench, id), /^13 /, what);
    t.ok(leaves(budget, 4_000_000), what);
    id += 2;
  }
  const leavers = [id, id + 2, id + 4, id + 6];
  for (const one of leavers) bench.fromClient(swelling(one, 3_000_000));
  await new Promise((resolve) => setTimeout(resolve, 2));
  for (const one of leavers) bench.fromClient(reset(one));
  t.ok(leaves(budget, 4_000_000), 'at once');
  await bench.client(swelling(id + 8, 1000));
  await until(() => bench.calls.length > 0);
  t.equal(bench.call().request.length, 1000, 'the only one that was taken');
  void bench.call().end(ok);
  await settle();
  t.ok(leaves(budget, 4_000_000));
  bench.fromClient(swelling(id + 10, 3_000_000));
  bench.router.abandon();
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.ok(leaves(budget, 4_000_000), 'connection lost');
});
