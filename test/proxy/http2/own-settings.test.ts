/** SETTINGS of both sides on their way, and Holdfast's own where the runtime's are not there. */
import t from 'tap';
import { Flag, FrameType, frame, Setting } from '../../../src/proxy/http2/frames.js';
import { settle } from '../../support/manual-clock.js';
import {
  data,
  decodeBlock,
  headers,
  message,
  ping,
  RouterBench,
  request,
  settings,
  settingsAck,
  show,
} from './wire.js';

const noTable = [Setting.headerTableSize, 0] as [number, number];
const sizeUpdateTo0 = 0x20;

/** The block of the one HEADERS frame the client got. */
function blockTo(bench: RouterBench): Buffer {
  return bench.toClient.frames().find(({ type }) => type === FrameType.headers)?.payload ?? Buffer.alloc(0);
}

async function answer(bench: RouterBench, streamId: number): Promise<Buffer> {
  void (await bench.take(streamId)).end({ code: 5, message: '', trailers: [] });
  await settle();
  return blockTo(bench);
}

t.test('the first SETTINGS of a client always name a header table of 0, later ones where they name one', async (t) => {
  const cases: [sent: Buffer, expected: Buffer][] = [
    [settings(), settings(noTable)],
    [settings([Setting.initialWindowSize, 70_000]), settings([Setting.initialWindowSize, 70_000], noTable)],
    [
      settings([Setting.headerTableSize, 8192], [2, 0], [Setting.headerTableSize, 1]),
      settings(noTable, [2, 0], noTable),
    ],
  ];
  for (const [sent, expected] of cases) {
    const bench = new RouterBench();
    await bench.client(sent);
    t.ok(bench.toRuntime.all.equals(expected));
    await bench.client(settings([Setting.initialWindowSize, 5]), settings([Setting.headerTableSize, 65_536]));
    const later = Buffer.concat([settings([Setting.initialWindowSize, 5]), settings(noTable)]);
    t.ok(bench.toRuntime.all.subarray(expected.length).equals(later));
  }
});

t.test('SETTINGS of a client are rewritten wherever they are cut, and its chunk is left alone', async (t) => {
  const sent = settings([3, 100], [Setting.headerTableSize, 4096]);
  const bench = new RouterBench();
  for (const byte of sent) bench.fromClient(Buffer.from([byte]));
  t.ok(bench.toRuntime.all.equals(settings([3, 100], noTable)));
  const whole = new RouterBench();
  whole.router.fromDownstream(sent);
  t.ok(sent.equals(settings([3, 100], [Setting.headerTableSize, 4096])));
});

t.test('as many SETTINGS as a frame holds still fit into one with the table of 0', async (t) => {
  const bench = new RouterBench();
  await bench.client(settings(...Array.from({ length: 2729 }, (): [number, number] => [99, 1])));
  t.strictSame(
    bench.toRuntime.frames().map(({ payload }) => payload.length),
    [16_380],
  );
  await bench.client(settings(...Array.from({ length: 2730 }, (): [number, number] => [99, 1])));
  t.match(bench.violations, [/^downstream: SETTINGS of 16380 bytes/], 'more than that no client has to say');
});

t.test('the first block a client gets says that its table is not used, and no other of Holdfast’s does', async (t) => {
  const own = await RouterBench.started();
  t.equal((await answer(own, 1))[0], sizeUpdateTo0);
  t.notOk(decodeBlock(await answer(own, 3)).sizeUpdate, 'once only');
  const runtimes = await RouterBench.started();
  await runtimes.client(request(1, '/pass/A', {}, true));
  const first = headers(1, { ':status': '200' });
  const seen = runtimes.toClient.all.length;
  await runtimes.runtime(first);
  t.ok(runtimes.toClient.all.subarray(seen).equals(first), 'the runtime’s own is as it was');
  runtimes.toClient.frames();
  t.notOk(decodeBlock(await answer(runtimes, 3)).sizeUpdate, 'the runtime has said it');
});

t.test('nor does a client that has lowered its table lack the word of it where an answer was swallowed', async (t) => {
  const bench = await RouterBench.started({}, [Setting.headerTableSize, 0]);
  bench.late = true;
  await bench.client(
    request(1, '/report/A'),
    data(1, message('a'), true),
    request(3, '/pass/B', {}, true),
    request(5, '/pass/C', {}, true),
  );
  const first = Buffer.concat([Buffer.from([sizeUpdateTo0]), headers(1, { ':status': '200' }).subarray(9)]);
  const second = headers(3, { ':status': '200', 'x-b': 'b' }).subarray(9);
  const padded = Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 15]), second, Buffer.alloc(2)]);
  await bench.runtime(
    frame(FrameType.headers, Flag.endHeaders, 1, first),
    frame(FrameType.headers, Flag.endHeaders | Flag.endStream | Flag.padded | Flag.priority, 3, padded),
    headers(5, { ':status': '200', 'x-c': 'c' }),
  );
  const [told, plain] = bench.toClient.frames().filter(({ type }) => type === FrameType.headers);
  t.equal(told === undefined ? '' : show(told), 'headers 3 end');
  const block = told?.payload.subarray((told.flags & Flag.priority) === 0 ? 0 : 5) ?? Buffer.alloc(0);
  t.equal(block[0], sizeUpdateTo0);
  t.equal(decodeBlock(block).values['x-b'], 'b');
  t.equal(decodeBlock(plain?.payload ?? Buffer.alloc(0)).sizeUpdate, false);
});

t.test('Holdfast’s own SETTINGS make a connection ready, and the runtime’s follow as its first', async (t) => {
  const bench = new RouterBench();
  await bench.client(settings(), ping('client 1'), request(1, '/take/A'), data(1, message('a'), true));
  t.strictSame(bench.toClient.shown(), []);
  bench.router.greet();
  await settle();
  const own = bench.toClient.frames();
  t.strictSame(own.map(show), ['settings 0', 'ping 0 ack', 'windowUpdate 0 6']);
  t.ok(own[0]?.payload.equals(settings(noTable).subarray(9)));
  bench.router.greet();
  void bench.call().end({ code: 5, message: '', trailers: [] });
  await settle();
  t.strictSame(bench.toClient.shown(), ['headers 1 end'], 'once only');
  bench.toRuntime.frames();
  await bench.client(settingsAck, settingsAck);
  t.strictSame(bench.toRuntime.shown(), ['settings 0 ack'], 'the first ACK is for Holdfast’s');
  await bench.runtime(settings([Setting.maxFrameSize, 20_000]), settingsAck);
  const later = bench.toClient.frames();
  t.strictSame(later.map(show), ['settings 0', 'settings 0 ack']);
  t.ok(later[0]?.payload.equals(settings([Setting.maxFrameSize, 20_000], noTable).subarray(9)));
});

t.test('the ACK of Holdfast’s own SETTINGS may come behind the runtime’s', async (t) => {
  const bench = new RouterBench();
  await bench.client(settings());
  bench.router.greet();
  await bench.runtime(settings(), settings());
  bench.toRuntime.frames();
  await bench.client(settingsAck);
  t.strictSame(bench.toRuntime.shown(), []);
  await bench.client(settingsAck, settingsAck);
  t.strictSame(bench.toRuntime.shown(), ['settings 0 ack', 'settings 0 ack']);
});

t.test('where the runtime’s SETTINGS are there, Holdfast sends none', async (t) => {
  const bench = new RouterBench();
  await bench.client(settings());
  await bench.runtime(settings(), settingsAck);
  bench.toClient.frames();
  bench.router.greet();
  await settle();
  t.strictSame(bench.toClient.shown(), []);
  bench.toRuntime.frames();
  await bench.client(settingsAck);
  t.strictSame(bench.toRuntime.shown(), ['settings 0 ack']);
});

t.test('half a SETTINGS frame of the runtime is no hindrance, and its other half goes out behind', async (t) => {
  const late = settings([Setting.initialWindowSize, 70_000]);
  for (const cut of [4, 9, 12]) {
    const one = new RouterBench();
    await one.runtime(late.subarray(0, cut));
    one.router.greet();
    await settle();
    t.strictSame(one.toClient.shown(), ['settings 0']);
    await one.runtime(late.subarray(cut));
    t.ok(one.toClient.all.subarray(15).equals(settings([Setting.initialWindowSize, 70_000], noTable)));
  }
});

t.test('nothing gets into what a runtime says that does not begin with SETTINGS', async (t) => {
  const bench = new RouterBench();
  const http1 = Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n');
  await bench.client(settings());
  await bench.runtime(http1);
  bench.router.greet();
  await settle();
  t.ok(bench.toClient.all.equals(http1));
});
