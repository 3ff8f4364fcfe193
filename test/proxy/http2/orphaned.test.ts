/** What becomes of taken streams when the runtime says GOAWAY or its connection ends. */
import t from 'tap';
import { Flag, FrameType, frame, Setting } from '../../../src/proxy/http2/frames.js';
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
  reset,
  settings,
  show,
  windowUpdate,
} from './wire.js';

const window = 65_535;
const max31 = 0x7fffffff;

function fail(): never {
  throw new Error('no frame');
}

function fieldsOf(frames: readonly Frame[], streamId: number): Record<string, string> {
  const found = frames.findLast((one) => one.type === FrameType.headers && one.streamId === streamId);
  return decodeBlock(found?.payload ?? fail()).values;
}

t.test('taken streams that are open when the runtime says GOAWAY are served, passed ones as it says', async (t) => {
  const bench = await RouterBench.started();
  const low = await bench.take(1);
  await bench.client(request(3, '/pass/A', {}, true), request(5, '/pass/B', {}, true));
  const high = await bench.take(7);
  await bench.client(request(9, '/pass/C', {}, true));
  bench.toClient.frames();
  bench.toRuntime.frames();
  await bench.runtime(goAway(3, 11));
  t.strictSame(bench.toClient.shown(), ['goAway 0 last=7 code=11', 'rstStream 5 7'], 'stream 9 is above the last one');
  t.notOk(low.signal.aborted || high.signal.aborted);
  await bench.client(reset(9), reset(5));
  t.strictSame(bench.toRuntime.shown(), [], 'neither is the runtime’s');
  await bench.runtime(headers(3, { 'grpc-status': '0' }, true));
  void high.end(ok);
  void low.end({ code: 5, message: '', trailers: [] });
  await settle();
  t.strictSame(bench.toClient.shown(), ['headers 3 end', 'headers 7 end', 'ping 0', 'headers 1 end']);
  await bench.client(request(11, '/take/B', {}, true), request(13, '/pass/B', {}, true), data(13, 50));
  t.equal(bench.calls.length, 2, 'later streams are not served');
  t.strictSame(bench.toClient.shown(), ['windowUpdate 0 50']);
  t.strictSame(bench.violations, []);
});

t.test(
  'a graceful stop of the runtime: any stream at first, then the last one; never a higher one again',
  async (t) => {
    const bench = await RouterBench.started();
    await bench.take(1);
    await bench.runtime(goAway(max31), ping('draining'));
    t.strictSame(bench.toClient.shown().slice(1), [`goAway 0 last=${max31} code=0`]);
    t.strictSame(bench.toRuntime.shown(), ['ping 0 ack'], 'its question whether that has arrived is answered here');
    await bench.client(request(3, '/pass/InFlight', {}, true));
    const late = await bench.take(5);
    bench.toClient.frames();
    await bench.runtime(goAway(3));
    t.strictSame(bench.toClient.shown(), ['goAway 0 last=5 code=0']);
    void late.end({ code: 5, message: '', trailers: [] });
    await settle();
    bench.toClient.frames();
    await bench.runtime(goAway(3));
    t.strictSame(bench.toClient.shown(), ['goAway 0 last=3 code=0'], 'only stream 1 is still open');
    await bench.runtime(goAway(max31));
    t.strictSame(bench.toClient.shown(), ['goAway 0 last=3 code=0']);
  },
);

t.test('a GOAWAY that is held back is the same when it goes out', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true), request(3, '/pass/B', {}, true));
  const call = await bench.take(5);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  bench.toClient.frames();
  await bench.runtime(data(1, 10, true), goAway(1));
  t.strictSame(bench.toClient.shown(), []);
  await bench.client(windowUpdate(0, 10));
  t.strictSame(bench.toClient.shown(), ['data 1 len=10 end', 'goAway 0 last=5 code=0', 'rstStream 3 7']);
  t.notOk(call.signal.aborted);
});

t.test(
  'when the runtime’s connection ends, taken streams are answered, passed ones end, and then it closes',
  async (t) => {
    const bench = await RouterBench.started();
    const call = await bench.take(1);
    await bench.client(
      request(3, '/pass/A', {}, true),
      request(5, '/pass/B', {}, true),
      request(7, '/report/C'),
      data(7, message('c'), true),
    );
    await bench.runtime(headers(3, { ':status': '200' }), data(3, 10));
    bench.toClient.frames();
    t.ok(bench.router.runtimeEnded());
    t.ok(bench.router.isOrphaned);
    await settle();
    const frames = bench.toClient.frames();
    t.strictSame(frames.map(show), ['goAway 0 last=7 code=0', 'headers 3 end', 'headers 5 end', 'headers 7 end']);
    t.strictSame(fieldsOf(frames, 3), {
      'grpc-status': '14',
      'grpc-message': 'the connection to the runtime was closed',
    });
    t.match(fieldsOf(frames, 5), { ':status': '200', 'content-type': 'application/grpc', 'grpc-status': '14' });
    await bench.client(request(9, '/take/New', {}, true), request(11, '/pass/New', {}, true), ping('still on'));
    t.strictSame(bench.toClient.shown(), ['ping 0 ack'], 'what is new is for another connection');
    t.equal(bench.calls.length, 1);
    void call.send(Buffer.from('done'));
    const delivered = call.end(ok);
    await settle();
    const answer = bench.toClient.frames();
    t.strictSame(answer.map(show), ['headers 1', 'data 1 len=9', 'headers 1 end', 'ping 0']);
    t.equal(bench.closed, false, 'the proof is still out');
    await bench.client(ping(answer.at(-1)?.payload ?? fail(), true));
    t.equal(await delivered, true);
    t.ok(bench.closed);
    t.equal(bench.clock.pending, 0);
  },
);

t.test('an answer without its proof keeps the connection, and a client that leaves ends it', async (t) => {
  for (const leave of [true, false]) {
    const bench = await RouterBench.started();
    const call = await bench.take(1, { 'grpc-timeout': '1S' });
    const delivered = call.end(ok);
    await settle();
    t.ok(bench.router.runtimeEnded());
    if (leave) await bench.client(reset(1));
    else await bench.clock.advance(1000);
    t.equal(await delivered, false);
    await settle();
    t.ok(bench.closed);
  }
});

t.test('without taken streams a connection goes with the runtime’s', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  t.notOk(bench.router.runtimeEnded());
  t.notOk(bench.router.isOrphaned);
});

t.test('in the middle of a frame or header block that the client has in part nothing can be saved', async (t) => {
  const block = headers(3, { ':status': '200' }).subarray(9);
  const cuts = {
    frame: data(3, 100).subarray(0, 50),
    'header block': frame(FrameType.headers, 0, 3, block.subarray(0, 3)),
  };
  for (const [what, bytes] of Object.entries(cuts)) {
    const bench = await RouterBench.started();
    await bench.take(1);
    await bench.client(request(3, '/pass/A', {}, true));
    await bench.runtime(bytes);
    t.notOk(bench.router.runtimeEnded(), what);
  }
});

t.test(
  'what the client has nothing of does not matter: a frame header, a PING, an answer that is swallowed',
  async (t) => {
    const parts = {
      'frame header': data(3, 100).subarray(0, 5),
      ping: ping('12345678').subarray(0, 12),
      swallowed: Buffer.concat([headers(5, { ':status': '200' }), data(5, 100).subarray(0, 50)]),
      'swallowed block': frame(FrameType.headers, 0, 5, headers(5, { ':status': '200' }).subarray(9, 12)),
    };
    for (const [what, bytes] of Object.entries(parts)) {
      const bench = await RouterBench.started();
      bench.late = true;
      const call = await bench.take(1);
      await bench.client(request(3, '/pass/A', {}, true), request(5, '/report/B'), data(5, message('b'), true));
      bench.toClient.frames();
      await bench.runtime(bytes);
      t.ok(bench.router.runtimeEnded(), what);
      void call.end({ code: 5, message: '', trailers: [] });
      for (const late of bench.calls.slice(1)) void late.end({ code: 5, message: '', trailers: [] });
      await settle();
      t.match(bench.toClient.shown().slice(0, 2), ['goAway 0 last=5 code=0', 'headers 3 end']);
      t.ok(bench.closed);
    }
  },
);

t.test('what is held back goes out before passed streams end', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true), request(3, '/pass/B', {}, true));
  const call = await bench.take(5);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  bench.toClient.frames();
  await bench.runtime(headers(1, { ':status': '200' }), data(1, 20), headers(3, { 'grpc-status': '0' }, true));
  t.ok(bench.router.runtimeEnded());
  await settle();
  t.strictSame(bench.toClient.shown(), ['headers 1', 'goAway 0 last=5 code=0']);
  await bench.client(windowUpdate(0, 15));
  t.strictSame(bench.toClient.shown(), ['data 1 len=15']);
  await bench.client(windowUpdate(0, 100));
  t.strictSame(bench.toClient.shown(), ['data 1 len=5', 'headers 3 end', 'headers 1 end'], 'at once');
  void call.end({ code: 5, message: '', trailers: [] });
  await settle();
  t.ok(bench.closed);
});

t.test('a header block that is held back and never whole is dropped', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true), request(3, '/pass/B', {}, true));
  const call = await bench.take(5);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  const block = headers(3, { 'grpc-status': '0' }).subarray(9);
  await bench.runtime(
    data(1, 20),
    frame(FrameType.headers, 0, 3, block.subarray(0, 3)),
    frame(FrameType.continuation, 0, 3, block.subarray(3, 5)),
  );
  bench.toClient.frames();
  t.ok(bench.router.runtimeEnded());
  await bench.client(windowUpdate(0, 20));
  const frames = bench.toClient.frames();
  t.strictSame(frames.map(show), ['goAway 0 last=5 code=0', 'data 1 len=20', 'headers 1 end', 'headers 3 end']);
  t.equal(fieldsOf(frames, 3)['grpc-status'], '14');
  void call.end({ code: 5, message: '', trailers: [] });
  await settle();
  t.ok(bench.closed);
});

t.test('a passed stream that was answered before its request was whole is not answered again', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1);
  await bench.client(request(3, '/pass/A'), request(5, '/pass/B'), data(5, 10));
  await bench.runtime(headers(3, { 'grpc-status': '0' }, true));
  bench.toClient.frames();
  t.ok(bench.router.runtimeEnded());
  await settle();
  t.strictSame(
    bench.toClient.shown(),
    ['goAway 0 last=5 code=0', 'rstStream 3 0', 'headers 5 end', 'rstStream 5 0'],
    'the rest of a request is not wanted',
  );
  await bench.client(data(3, 10, true), data(5, 30, true));
  t.strictSame(bench.toClient.shown(), ['windowUpdate 0 40']);
  void call.end({ code: 5, message: '', trailers: [] });
  await settle();
  t.ok(bench.closed);
});

t.test('the client’s SETTINGS are in force and acknowledged though the runtime does neither any more', async (t) => {
  const bench = await RouterBench.started({}, [Setting.initialWindowSize, 100]);
  const call = await bench.take(1);
  void call.send(Buffer.alloc(495));
  await bench.client(settings([Setting.initialWindowSize, 150]));
  bench.toClient.frames();
  t.ok(bench.router.runtimeEnded());
  await settle();
  t.strictSame(bench.toClient.shown(), ['goAway 0 last=1 code=0', 'settings 0 ack', 'data 1 len=50']);
  await bench.client(settings([Setting.initialWindowSize, 1000]), settings());
  t.strictSame(bench.toClient.shown(), ['settings 0 ack', 'settings 0 ack', 'data 1 len=350']);
  for (let n = 0; n < 90; n += 1) await bench.client(settings());
  t.strictSame(bench.violations, []);
});

t.test('draining an orphaned connection says no more than it knows, and waits for its calls', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1);
  bench.toClient.frames();
  t.ok(bench.router.runtimeEnded());
  let drained = false;
  bench.router.drain(
    () => false,
    () => {
      drained = true;
    },
  );
  await settle();
  t.strictSame(bench.toClient.shown(), ['goAway 0 last=1 code=0', 'goAway 0 last=1 code=0']);
  t.equal(drained, false);
  void call.end({ code: 5, message: '', trailers: [] });
  await settle();
  t.ok(drained && bench.closed);
});

t.test('a fault of the client ends an orphaned connection too', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1);
  t.ok(bench.router.runtimeEnded());
  await bench.client(frame(FrameType.ping, 0, 0, Buffer.alloc(1)));
  t.ok(bench.closed);
  t.equal(call.signal.reason, 'connection lost');
  t.equal(bench.toClient.shown().at(-1), 'goAway 0 last=1 code=6');
});

t.test(
  'a runtime that ends before its SETTINGS came leaves calls that are answered behind Holdfast’s own',
  async (t) => {
    const bench = new RouterBench();
    await bench.client(settings(), request(1, '/take/A'), data(1, message('a'), true));
    t.ok(bench.router.runtimeEnded());
    void bench.call().end({ code: 5, message: '', trailers: [] });
    await settle();
    t.strictSame(bench.toClient.shown(), []);
    bench.router.greet();
    await settle();
    const shown = bench.toClient.shown();
    t.equal(shown[0], 'settings 0');
    t.ok(shown.includes('settings 0 ack') && shown.includes('headers 1 end'));
    t.ok(bench.closed);
  },
);

t.test('END_STREAM of a block goes with its HEADERS: one that is held in part is not the end', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  const call = await bench.take(3);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  const block = headers(1, { 'grpc-status': '0' }).subarray(9);
  await bench.runtime(
    headers(1, { ':status': '200' }),
    data(1, 4),
    frame(FrameType.headers, Flag.endStream, 1, block.subarray(0, 3)),
  );
  bench.toClient.frames();
  t.ok(bench.router.runtimeEnded());
  await bench.client(windowUpdate(0, 4));
  t.strictSame(bench.toClient.shown(), ['goAway 0 last=3 code=0', 'data 1 len=4', 'headers 1 end']);
});
