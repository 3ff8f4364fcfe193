/** What one connection, and all of them, may cost. */
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { AnswerBudget, BudgetShare, ByteBudget } from '../../../src/proxy/http2/budgets.js';
import { ErrorCode, FrameType } from '../../../src/proxy/http2/frames.js';

import {
  data,
  headers,
  message,
  ok,
  ping,
  RouterBench,
  request,
  reset,
  settings,
  settingsAck,
  windowUpdate,
} from './wire.js';

async function withBudget(bytes: number): Promise<{ bench: RouterBench; budget: ByteBudget }> {
  const budget = new ByteBudget(bytes);
  const bench = new RouterBench({}, {}, () => ({ requests: budget, answers: new AnswerBudget(bytes) }));
  await bench.start();
  return { bench, budget };
}

/** Whether exactly `bytes` are left. */
function leaves(budget: ByteBudget, bytes: number): boolean {
  if (!budget.take(bytes)) return false;
  const isAll = !budget.take(1);
  budget.giveBack(isAll ? bytes : bytes + 1);
  return isAll;
}

t.test('requests of taken calls are bounded together, from their first byte to the end of their stream', async (t) => {
  const { bench, budget } = await withBudget(100);
  await bench.client(request(1, '/take/A'), data(1, message(Buffer.alloc(80)).subarray(0, 60)));
  t.ok(leaves(budget, 40));
  await bench.client(data(1, Buffer.alloc(25), true));
  t.equal(bench.call().request.length, 80);
  t.ok(leaves(budget, 15), 'a call in flight holds its request');
  await bench.client(request(3, '/take/B'), data(3, message(Buffer.alloc(80)).subarray(0, 60)));
  t.ok(bench.toClient.shown().includes('headers 3 end'), 'the second one is answered at once');
  t.strictSame(bench.refusals, ['too many request bytes']);
  t.notOk(bench.call().signal.aborted, 'a whole one is never given up');
  void bench.call().end(ok);
  t.ok(leaves(budget, 100), 'an answered one does not');
});

t.test('the last quarter of a budget is for connections that hold little of it', async (t) => {
  const MiB = 1024 * 1024;
  const budget = new ByteBudget(8 * MiB);
  const [greedy, modest] = [new BudgetShare(budget), new BudgetShare(budget)];
  t.ok(greedy.take(6 * MiB));
  t.notOk(greedy.take(1));
  t.ok(modest.take(MiB));
  t.notOk(modest.take(1), 'no longer little');
  greedy.giveBack(6 * MiB);
  t.ok(modest.take(1));
});

t.test('acknowledgements, which the runtime has asked for, are no flood of the client', async (t) => {
  const bench = await RouterBench.started({ pingsPerSecond: 2, settingsPerSecond: 2 });
  for (let n = 0; n < 5; n += 1) await bench.client(ping('12345678', true), settingsAck);
  t.strictSame(bench.violations, []);
  await bench.client(ping('12345678'), ping('12345678'), ping('12345678'));
  t.strictSame(bench.violations, ['downstream: too many PINGs']);
});

t.test('a compressed request counts with what comes out of it', async (t) => {
  const { bench, budget } = await withBudget(1000);
  const swells = message(gzipSync(Buffer.alloc(2000)), true);
  await bench.client(request(1, '/take/A', { 'grpc-encoding': 'gzip' }), data(1, swells, true));
  while (bench.refusals.length === 0) await bench.client();
  t.equal(bench.calls.length, 0);
  t.ok(leaves(budget, 1000));
});

t.test('however a taken stream ends, its request is given back', async (t) => {
  const half = message(Buffer.alloc(80)).subarray(0, 60);
  const ends: Record<string, (bench: RouterBench) => Promise<void>> = {
    reset: (bench) => bench.client(reset(1)),
    deadline: (bench) => bench.clock.advance(1000),
    'connection lost': async (bench) => bench.router.abandon(),
  };
  for (const [how, end] of Object.entries(ends)) {
    const { bench, budget } = await withBudget(100);
    await bench.client(request(1, '/take/A', { 'grpc-timeout': '1S' }), data(1, half));
    t.ok(leaves(budget, 40));
    await end(bench);
    t.ok(leaves(budget, 100), how);
  }
});

t.test('observed requests share the bound; what does not fit is forwarded unread', async (t) => {
  const { bench, budget } = await withBudget(100);
  const whole = message('x'.repeat(75));
  await bench.client(request(1, '/observe/A'), data(1, whole.subarray(0, 70)));
  t.ok(leaves(budget, 30));
  await bench.client(request(3, '/observe/B'), data(3, whole, true));
  t.strictSame(bench.observed, []);
  t.strictSame(bench.toRuntime.shown().slice(-2), ['headers 3', 'data 3 len=80 end']);
  await bench.client(data(1, whole.subarray(70), true));
  t.strictSame(bench.observed, [`/observe/A ${'x'.repeat(75)}`]);
  t.ok(leaves(budget, 20), 'as long as somebody waits for how the call ends');
  await bench.runtime(headers(1, { ':status': '200', 'grpc-status': '0' }, true));
  t.ok(leaves(budget, 100));
  await bench.client(request(5, '/observe/C'), data(5, whole.subarray(0, 70)), reset(5));
  t.ok(leaves(budget, 100), 'reset');
  await bench.client(request(7, '/observe/D'), data(7, whole.subarray(0, 70)));
  bench.router.abandon();
  t.ok(leaves(budget, 100), 'connection lost');
});

t.test('a client that leaves more answers than allowed waiting loses its connection', async (t) => {
  const bench = await RouterBench.started({ unsentAnswerBytes: 1000 }, [4, 0]);
  const [first, second, third] = [await bench.take(1), await bench.take(3), await bench.take(5)];
  void first.send(Buffer.alloc(5000));
  t.strictSame(bench.violations, [], 'one answer may be as large as it likes');
  await bench.client(windowUpdate(1, 4500));
  void second.send(Buffer.alloc(600));
  t.strictSame(bench.violations, []);
  const sent = third.send(Buffer.alloc(1));
  await bench.client();
  t.match(bench.violations, [/^downstream: 1116 bytes of answers are not taken/]);
  t.equal(bench.toClient.shown().at(-1), `goAway 0 last=5 code=${ErrorCode.enhanceYourCalm}`);
  await sent;
  await bench.clock.advance(10_000);
  t.ok(bench.closed);
  t.equal(bench.router.heldBytes, 0);
});

t.test(
  'bytes that are kept for a call before it is answered count like an answer, and wait for no window',
  async (t) => {
    const bench = await RouterBench.started({ unsentAnswerBytes: 1000 });
    const [first, second] = [await bench.take(1), await bench.take(3)];
    first.keep(900);
    second.keep(200);
    second.keep(-200);
    t.equal(bench.router.heldBytes, 0);
    second.keep(200);
    t.strictSame(bench.violations, []);
    second.keep(1);
    t.strictSame(bench.violations, ['downstream: 1101 bytes of answers are not taken']);
    t.ok(first.signal.aborted && second.signal.aborted);
  },
);

t.test('texts for a client that reads nothing, written or waiting for their place, count like answers', async (t) => {
  const bench = await RouterBench.started({ unsentAnswerBytes: 3000, unreadOutputBytes: 1000 });
  const [first, second, third] = [await bench.take(1), await bench.take(3), await bench.take(5)];
  const failed = { code: 2, message: '~'.repeat(1500), trailers: [] };
  bench.router.unwritten(3500);
  await bench.runtime(data(7, Buffer.alloc(100)).subarray(0, 50));
  void first.end(failed);
  await bench.client();
  t.strictSame(bench.violations, [], 'one may be as long as it likes');
  bench.router.unwritten(0);
  void second.end(failed);
  await bench.client();
  t.strictSame(bench.violations, [], 'of what was written nothing waits any more');
  bench.router.unwritten(2000);
  t.notOk(bench.destroyed);
  void third.end(failed);
  await bench.client();
  t.match(bench.violations, [/^downstream: \d+ bytes of answers are not taken/]);
  t.ok(bench.destroyed, 'and nothing is kept for it');
});

t.test('what streams take beside their requests is bounded together, until nothing of them is left', async (t) => {
  const streams = new ByteBudget(5000);
  const bench = new RouterBench({}, {}, () => ({ streams }));
  await bench.start();
  const [, second] = [await bench.take(1), await bench.take(3)];
  await bench.client(request(5, '/take/C'));
  t.ok(bench.toClient.shown().includes('headers 5 end'), 'refused');
  t.strictSame(bench.refusals, ['too many request bytes']);
  await bench.client(request(7, '/observe/D'), data(7, message('unread'), true));
  t.strictSame(bench.observed, []);
  t.ok(bench.toRuntime.shown().includes('headers 7'), 'forwarded unread');
  void second.send(Buffer.alloc(1));
  void second.end(ok);
  await bench.client();
  const [proof] = bench.toClient.frames().filter(({ type }) => type === FrameType.ping);
  t.notOk(leaves(streams, 5000 - 2048), 'it waits for its proof');
  await bench.client(ping(proof?.payload ?? '', true), reset(1));
  t.ok(leaves(streams, 5000));
  await bench.client(request(9, '/observe/E'), data(9, message('read'), true));
  t.strictSame(bench.observed, ['/observe/E read']);
  await bench.runtime(headers(9, { ':status': '200', 'grpc-status': '0' }, true));
  t.ok(leaves(streams, 5000));
  await bench.client(request(11, '/report/F'), data(11, message(''), true), request(13, '/take/G'));
  t.notOk(leaves(streams, 5000));
  bench.router.abandon();
  t.ok(leaves(streams, 5000), 'the connection is lost');
});

t.test(
  'where answers take all the memory there is, the connection that holds most is ended, not the one that happens to come',
  async (t) => {
    const answers = new AnswerBudget(1000);
    const bench = () => new RouterBench({}, {}, () => ({ answers }));
    const [greedy, modest, late] = [bench(), bench(), bench()];
    for (const one of [greedy, modest, late]) await one.start([4, 0]);
    void (await greedy.take(1)).send(Buffer.alloc(800));
    const call = await modest.take(1);
    void call.send(Buffer.alloc(150));
    t.strictSame(greedy.violations, [], '960 bytes wait');
    void (await late.take(1)).send(Buffer.alloc(36));
    t.match(greedy.violations, [/^downstream: 805 bytes of answers are not taken/]);
    t.strictSame([modest.violations, late.violations], [[], []]);
    void (await late.take(3)).send(Buffer.alloc(699));
    t.strictSame([modest.violations, late.violations], [[], []], 'what it left is given back');
    void call.send(Buffer.alloc(96));
    t.match(late.violations, [/^downstream: 745 bytes/], 'and the next of them is now the one that holds most');
    t.strictSame(modest.violations, []);
  },
);

t.test('more streams open at the runtime than allowed end the connection', async (t) => {
  const bench = await RouterBench.started({ passedStreams: 2 });
  await bench.client(request(1, '/pass/A'), request(3, '/observe/B'));
  await bench.client(reset(1), request(5, '/pass/C'));
  t.strictSame(bench.violations, []);
  await bench.client(request(7, '/pass/D'));
  t.strictSame(bench.violations, ['downstream: more than 2 open streams']);
  t.strictSame(bench.toRuntime.shown().slice(-1), ['headers 5']);
});

t.test('more taken streams than allowed are refused, and proofs outstanding count', async (t) => {
  const bench = await RouterBench.started({ takenStreams: 2 });
  const first = await bench.take(1);
  void first.end(ok);
  await bench.client();
  const [proof] = bench.toClient.frames().filter(({ type }) => type === FrameType.ping);

  await bench.take(3);
  await bench.client(request(5, '/take/C', {}, true));
  t.strictSame(bench.toClient.shown(), ['windowUpdate 0 8', 'rstStream 5 7']);
  t.strictSame(bench.refusals, ['too many taken streams']);
  await bench.client(ping(proof?.payload ?? '', true));
  await bench.take(7);
  t.equal(bench.calls.length, 3);
});

t.test('refused streams are told one by one, and once a second for the log', async (t) => {
  const bench = await RouterBench.started({ takenStreams: 0, headerListBytes: 500 });
  await bench.client(request(1, '/take/A', {}, true), request(3, '/pass/A', { 'x-large': 'x'.repeat(500) }));
  await bench.clock.advance(1000);
  await bench.client(request(5, '/take/A', {}, true));
  t.strictSame(bench.refusals, ['too many taken streams', 'header list too large again', 'too many taken streams']);
});

t.test('a path no method can have is not kept', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, `/pass/${'a'.repeat(300)}`), settings());
  let asked: string | undefined;
  bench.router.drain(
    (path) => {
      asked = path;
      return true;
    },
    () => {},
  );
  await bench.client();
  t.equal(asked, '');
});
