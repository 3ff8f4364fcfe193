/** What reaches the client: frames of the runtime and of Holdfast, as one HTTP/2 server. */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { Flag, FrameType, frame, Setting } from '../../../src/proxy/http2/frames.js';
import { settle } from '../../support/manual-clock.js';
import {
  data,
  decodeBlock,
  goAway,
  headers,
  message,
  ok,
  ping,
  RouterBench,
  request,
  reset,
  settings,
  settingsAck,
  show,
  windowUpdate,
} from './wire.js';

const window = 65_535;

t.test(
  'the first SETTINGS of a runtime always names a header table of 0, a later one where it names one',
  async (t) => {
    const bench = new RouterBench();
    await bench.runtime(settings());
    await bench.runtime(settings([Setting.initialWindowSize, 1000]));
    await bench.runtime(
      settings([Setting.headerTableSize, 8192], [Setting.maxFrameSize, 20_000], [Setting.headerTableSize, 1]),
    );
    const zero = settings([Setting.headerTableSize, 0]);
    const rewritten = settings(
      [Setting.headerTableSize, 0],
      [Setting.maxFrameSize, 20_000],
      [Setting.headerTableSize, 0],
    );
    t.ok(bench.toClient.all.equals(Buffer.concat([zero, settings([Setting.initialWindowSize, 1000]), rewritten])));
  },
);

t.test('frames of the runtime reach the client to the byte', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  const before = bench.toClient.all.length;
  const sent = [
    headers(1, { ':status': '200' }),
    data(1, 100),
    frame(FrameType.data, Flag.padded, 1, Buffer.from([1, 2, 0])),
    frame(99, 1, 1, Buffer.from('?')),
    windowUpdate(0, 5),
    headers(1, { 'grpc-status': '0' }, true),
  ];
  await bench.runtime(...sent);
  t.ok(bench.toClient.all.subarray(before).equals(Buffer.concat(sent)));
});

t.test('a taken call is answered with headers, message and trailers', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1);
  call.sendInitialMetadata([['x-head', 'h']]);
  await call.send(Buffer.from('answer'));
  void call.end({
    code: 7,
    message: 'nö',
    trailers: [
      ['x-trail-bin', 'AAE'],
      ['grpc-status-details-bin', 'CAc'],
    ],
  });
  await settle();
  const frames = bench.toClient.frames();
  t.strictSame(frames.map(show), ['windowUpdate 0 8', 'headers 1', 'data 1 len=11', 'headers 1 end']);
  t.strictSame(decodeBlock(frames[1]?.payload ?? Buffer.alloc(0)).values, {
    ':status': '200',
    'content-type': 'application/grpc',
    'x-head': 'h',
  });
  t.ok(frames[2]?.payload.equals(message('answer')));
  t.strictSame(decodeBlock(frames[3]?.payload ?? Buffer.alloc(0)).values, {
    'grpc-status': '7',
    'grpc-message': 'n%C3%B6',
    'x-trail-bin': 'AAE',
    'grpc-status-details-bin': 'CAc',
  });
  t.equal(bench.router.activeStreams, 0);
});

t.test('trailers larger than a frame go on in CONTINUATION', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1);
  // X is as long in the Huffman code.
  void call.end({ code: 13, message: 'X'.repeat(40_000), trailers: [] });
  await settle();
  const frames = bench.toClient.frames().slice(1);
  t.strictSame(
    frames.map(({ type, flags }) => [type, flags]),
    [
      [FrameType.headers, Flag.endStream],
      [FrameType.continuation, 0],
      [FrameType.continuation, Flag.endHeaders],
    ],
  );
  t.equal(decodeBlock(Buffer.concat(frames.map(({ payload }) => payload))).values['grpc-message']?.length, 40_000);
});

t.test('nothing of Holdfast’s own goes before the SETTINGS of the runtime', async (t) => {
  const bench = new RouterBench();
  await bench.client(settings(), request(1, '/take/A'), data(1, message('a'), true));
  void bench.call().end(ok);
  await settle();
  t.strictSame(bench.toClient.shown(), []);
  await bench.runtime(settings());
  t.strictSame(bench.toClient.shown(), ['settings 0', 'windowUpdate 0 6', 'headers 1 end', 'ping 0']);
});

t.test('own frames wait for the end of a frame, and of a header block, of the runtime', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  const call = await bench.take(3);
  bench.toClient.frames();
  const started = headers(1, { ':status': '200', 'x-long': 'v'.repeat(50) });
  const first = frame(FrameType.headers, 0, 1, started.subarray(9, 20));
  const rest = frame(FrameType.continuation, Flag.endHeaders, 1, started.subarray(20));
  await bench.runtime(first);
  void call.end({ code: 5, message: '', trailers: [] });
  await settle();
  t.strictSame(bench.toClient.shown(), ['headers 1']);
  await bench.runtime(rest.subarray(0, 12));
  t.strictSame(bench.toClient.shown(), []);
  await bench.runtime(rest.subarray(12));
  t.strictSame(bench.toClient.shown(), ['continuation 1', 'headers 3 end']);
  const big = data(1, 1000, true);
  const other = await bench.take(5);
  bench.toClient.frames();
  await bench.runtime(big.subarray(0, 500));
  void other.end({ code: 5, message: '', trailers: [] });
  await settle();
  t.strictSame(bench.toClient.shown(), []);
  await bench.runtime(big.subarray(500), windowUpdate(0, 7));
  t.strictSame(bench.toClient.shown(), ['data 1 len=1000 end', 'headers 5 end', 'windowUpdate 0 7']);
});

t.test('own DATA keeps within the windows of connection and stream, and frames of 16 KiB', async (t) => {
  const bench = await RouterBench.started({}, [Setting.initialWindowSize, 20_000]);
  const call = await bench.take(1);
  let sent = false;
  void call.send(Buffer.alloc(100_000)).then(() => {
    sent = true;
  });
  await settle();
  t.strictSame(bench.toClient.shown().slice(2), ['data 1 len=16384', 'data 1 len=3616']);
  await bench.client(windowUpdate(1, 100_000));
  t.strictSame(bench.toClient.shown(), ['data 1 len=16384', 'data 1 len=16384', 'data 1 len=12767']);
  t.equal(sent, false);
  void call.end(ok);
  await bench.client(windowUpdate(0, 100_000));
  t.equal(sent, true);
  t.strictSame(bench.toClient.shown(), [
    'data 1 len=16384',
    'data 1 len=16384',
    'data 1 len=1702',
    'headers 1 end',
    'ping 0',
  ]);
});

t.test('own DATA waits for a downstream that is behind, and a large answer goes out in bursts', async (t) => {
  const bench = await RouterBench.started({}, [Setting.initialWindowSize, 10_000_000]);
  await bench.client(windowUpdate(0, 10_000_000));
  const call = await bench.take(1);
  bench.ready = false;
  void call.send(Buffer.alloc(1_000_000));
  await settle();
  t.strictSame(bench.toClient.shown().slice(1), ['headers 1']);
  bench.ready = true;
  bench.router.resume();
  const lengths = bench.toClient.frames().map(({ payload }) => payload.length);
  t.equal(
    lengths.reduce((sum, length) => sum + length, 0),
    1_000_005,
  );
});

t.test('what Holdfast spent of the client’s window is kept from the runtime, no more and no less', async (t) => {
  const bench = await RouterBench.started();
  const call = await bench.take(1);
  void call.send(Buffer.alloc(995));
  await settle();
  t.equal(bench.router.responses.window.debt, 1000);
  await bench.client(windowUpdate(0, 400));
  t.strictSame(bench.toRuntime.shown(), [], 'all of it was ours');
  await bench.client(windowUpdate(0, 700));
  t.strictSame(bench.toRuntime.shown(), ['windowUpdate 0 100']);
  await bench.client(windowUpdate(0, 50));
  t.strictSame(bench.toRuntime.shown(), ['windowUpdate 0 50']);
  t.equal(bench.router.responses.window.available, window + 150);
});

t.test(
  'DATA the client has no window for is held back, with what must stay behind it, and sent in order as the window comes',
  async (t) => {
    const bench = await RouterBench.started();
    await bench.client(request(1, '/pass/A', {}, true), request(3, '/pass/B', {}, true));
    const call = await bench.take(5);
    void call.send(Buffer.alloc(60_000 - 5));
    await settle();
    bench.toClient.frames();
    await bench.runtime(
      data(1, 5000),
      data(1, 1000),
      headers(3, { 'grpc-status': '0' }, true),
      headers(1, { 'grpc-status': '0' }, true),
      windowUpdate(0, 7),
    );
    t.strictSame(bench.toClient.shown(), ['data 1 len=5000', 'data 1 len=535', 'windowUpdate 0 7']);
    t.ok(bench.router.responses.held.bytes > 465);
    await bench.client(windowUpdate(0, 400));
    t.strictSame(bench.toClient.shown(), ['data 1 len=400'], 'cut to what there is');
    t.strictSame(bench.toRuntime.shown().slice(-1), ['headers 3 end'], 'the runtime hears nothing of that window');
    await bench.client(windowUpdate(0, 100));
    t.strictSame(bench.toClient.shown(), ['data 1 len=65', 'headers 3 end', 'headers 1 end']);
    t.equal(bench.router.responses.held.bytes, 0);
    t.equal(bench.router.activeStreams, 1);
  },
);

t.test('a held header block goes out whole, and nothing gets into it', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  const call = await bench.take(3);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  const block = headers(1, { 'grpc-status': '0' }).subarray(9);
  const continuation = frame(FrameType.continuation, Flag.endHeaders, 1, block.subarray(4));
  await bench.runtime(
    data(1, 10),
    frame(FrameType.headers, Flag.endStream, 1, block.subarray(0, 4)),
    continuation.subarray(0, 12),
  );
  bench.toClient.frames();
  await bench.client(windowUpdate(0, 100));
  t.strictSame(bench.toClient.shown(), ['data 1 len=10'], 'the block waits for its end');
  await bench.runtime(continuation.subarray(12), windowUpdate(0, 7), settingsAck);
  t.strictSame(bench.toClient.shown(), ['headers 1 end', 'continuation 1', 'windowUpdate 0 7', 'settings 0 ack']);
});

t.test('what is held back is kept as it was, whatever becomes of the chunk it came in', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  const call = await bench.take(3);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  await bench.runtime(data(1, Buffer.from('payload')), headers(1, { 'grpc-status': '0' }, true));
  const before = bench.toClient.all.length;
  await bench.client(windowUpdate(0, 7));
  const expected = Buffer.concat([data(1, Buffer.from('payload')), headers(1, { 'grpc-status': '0' }, true)]);
  t.ok(bench.toClient.all.subarray(before).equals(expected));
});

t.test('held frames go before Holdfast’s own DATA', async (t) => {
  const bench = await RouterBench.started({}, [Setting.initialWindowSize, 1_000_000]);
  await bench.client(request(1, '/pass/A', {}, true));
  const call = await bench.take(3);
  void call.send(Buffer.alloc(200_000));
  await settle();
  await bench.runtime(data(1, 1000));
  bench.toClient.frames();
  await bench.client(windowUpdate(0, 1500));
  t.strictSame(bench.toClient.shown(), ['data 1 len=1000', 'data 3 len=500']);
});

t.test('padding of held DATA is not sent, and the runtime gets back what it spent on it', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  const call = await bench.take(3);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  bench.toClient.frames();
  bench.toRuntime.frames();
  await bench.runtime(
    frame(
      FrameType.data,
      Flag.padded | Flag.endStream,
      1,
      Buffer.concat([Buffer.from([10]), Buffer.from('abc'), Buffer.alloc(10)]),
    ),
  );
  t.strictSame(bench.toRuntime.shown(), ['windowUpdate 0 11', 'windowUpdate 1 11']);
  await bench.client(windowUpdate(0, 3));
  t.strictSame(bench.toClient.shown(), ['data 1 len=3 end']);
});

t.test('a stream reset by the client while its DATA is held leaks no window', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  const call = await bench.take(3);
  void call.send(Buffer.alloc(window - 5));
  await settle();
  await bench.runtime(data(1, 300), settingsAck, data(1, 200));
  bench.toClient.frames();
  bench.toRuntime.frames();
  await bench.client(reset(1));
  await bench.client(windowUpdate(0, 500));
  t.strictSame(bench.toClient.shown(), ['data 1 len=300', 'settings 0 ack', 'data 1 len=200']);
  await bench.client(windowUpdate(0, window - 500), windowUpdate(0, 500));
  t.strictSame(bench.toRuntime.shown(), ['rstStream 1 8', 'windowUpdate 0 500']);
  t.equal(bench.router.responses.window.available, window);
});

t.test(
  'for any order of events the client’s window is never overdrawn, and in the end nobody is owed anything',
  async (t) => {
    const event = fc.oneof(
      fc.record({ kind: fc.constant('own' as const), size: fc.integer({ min: 0, max: 40_000 }) }),
      fc.record({ kind: fc.constant('runtime' as const), size: fc.integer({ min: 0, max: 16_384 }) }),
      fc.record({ kind: fc.constant('grant' as const), size: fc.integer({ min: 1, max: 40_000 }) }),
    );
    const overdrawn = async (
      events: readonly { kind: 'own' | 'runtime' | 'grant'; size: number }[],
    ): Promise<string> => {
      const bench = await RouterBench.started({}, [Setting.initialWindowSize, 0x7fffffff]);
      await bench.client(request(1, '/pass/A', {}, true));
      const call = await bench.take(3);
      let granted = window;
      let runtimeWindow = window;
      let received = 0;
      const look = (): boolean => {
        for (const { type, payload } of bench.toClient.frames())
          if (type === FrameType.data) received += payload.length;
        for (const { type, payload } of bench.toRuntime.frames())
          if (type === FrameType.windowUpdate) runtimeWindow += payload.readUInt32BE(0);
        return received <= granted;
      };
      for (const { kind, size } of events) {
        if (kind === 'own') void call.send(Buffer.alloc(size));
        const affordable = Math.min(size, runtimeWindow);
        if (kind === 'runtime') {
          runtimeWindow -= affordable;
          await bench.runtime(data(1, affordable));
        } else if (kind === 'grant') {
          granted += size;
          await bench.client(windowUpdate(0, size));
        } else await settle();
        if (!look()) return `received ${received} of ${granted}`;
      }
      void call.end(ok);
      for (let round = 0; round < 40; round += 1) {
        granted += 30_000;
        await bench.client(windowUpdate(0, 30_000));
        look();
      }
      const { available, debt } = bench.router.responses.window;
      const held = bench.router.responses.held.bytes;
      if (debt !== 0 || held !== 0) return `debt ${debt}, held ${held}`;
      return runtimeWindow === available && available === granted - received
        ? ''
        : `${runtimeWindow} ${available} ${granted - received}`;
    };
    await t.resolves(
      fc.assert(
        fc.asyncProperty(fc.array(event, { maxLength: 20 }), async (events) => {
          const wrong = await overdrawn(events);
          if (wrong !== '') throw new Error(wrong);
        }),
        { numRuns: 40 },
      ),
    );
  },
);

t.test(
  'a larger stream window of the client counts when its SETTINGS are acknowledged, a smaller one at once',
  async (t) => {
    const bench = await RouterBench.started({}, [Setting.initialWindowSize, 100]);
    const call = await bench.take(1);
    void call.send(Buffer.alloc(10_000));
    await settle();
    t.strictSame(bench.toClient.shown().slice(2), ['data 1 len=100']);
    await bench.client(settings([Setting.initialWindowSize, 300]));
    t.strictSame(bench.toClient.shown(), []);
    await bench.runtime(settingsAck);
    t.strictSame(bench.toClient.shown(), ['settings 0 ack', 'data 1 len=200']);
    await bench.client(settings([Setting.initialWindowSize, 250]), windowUpdate(1, 60));
    t.strictSame(bench.toClient.shown(), ['data 1 len=10']);
    await bench.client(settings([Setting.initialWindowSize, 0]));
    await bench.runtime(settingsAck, settingsAck);
    t.strictSame(bench.toClient.shown(), ['settings 0 ack', 'settings 0 ack']);
    await bench.client(windowUpdate(1, 250));
    t.strictSame(bench.toClient.shown(), [], 'the window was below zero');
    await bench.client(windowUpdate(1, 5));
    t.strictSame(bench.toClient.shown(), ['data 1 len=5']);
  },
);

t.test('the windows a runtime grants leave room for what Holdfast may grant', async (t) => {
  const bench = new RouterBench();
  const max31 = 0x7fffffff;
  await bench.client(settings(), request(1, '/take/A'));
  for (const size of [7, max31, 0, max31]) await bench.runtime(settings([Setting.initialWindowSize, size]));
  const frames = bench.toClient.frames();
  const values = (wanted: number, at: number) =>
    frames.filter(({ type }) => type === wanted).map(({ payload }) => payload.readUInt32BE(at));
  t.strictSame(values(FrameType.settings, 2), [7, max31 - window, 0, max31 - window]);
  t.strictSame(values(FrameType.windowUpdate, 0), [window - 7, 7], 'all together the default window');
});

t.test('however the bytes of a runtime are cut, the client gets the same', async (t) => {
  const sent = Buffer.concat([
    settings(),
    settingsAck,
    headers(1, { ':status': '200' }),
    data(1, 3000),
    ping('12345678'),
    frame(FrameType.headers, 0, 1, headers(1, { 'x-a': 'bcd' }).subarray(9, 12)),
    frame(FrameType.continuation, Flag.endHeaders, 1, headers(1, { 'x-a': 'bcd' }).subarray(12)),
    goAway(1),
  ]);
  const run = (cuts: readonly number[]): string => {
    const bench = new RouterBench();
    bench.fromClient(Buffer.concat([settings(), request(1, '/pass/A', {}, true)]));
    let at = 0;
    for (const cut of cuts) {
      bench.fromRuntime(sent.subarray(at, at + cut));
      at += cut;
    }
    bench.fromRuntime(sent.subarray(at));
    return bench.toClient.all.toString('hex');
  };
  const whole = run([]);
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 60 }), (cuts) =>
        isDeepStrictEqual(run(cuts), whole),
      ),
      { numRuns: 60 },
    ),
  );
});
