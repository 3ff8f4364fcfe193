/** PINGs: each is answered on the hop it came on, in order, and none is forwarded. */
import t from 'tap';
import { ErrorCode, FrameType, frame } from '../../../src/proxy/http2/frames.js';
import { settle } from '../../support/manual-clock.js';
import { data, type Frame, headers, ok, ping, RouterBench, request, settings, settingsAck, show, u32 } from './wire.js';

/** Payloads of the PINGs among `frames`, acknowledgements marked. */
function pingsIn(frames: readonly Frame[]): string[] {
  const pings = frames.filter(({ type }) => type === FrameType.ping);
  return pings.map(({ flags, payload }) => `${payload.toString('latin1')}${flags === 1 ? ' ack' : ''}`);
}

const flood = (count: number): Buffer[] => Array.from({ length: count }, (_, n) => ping(`ping ${1000 + n}`.slice(-8)));

t.test('a PING is answered on its own hop, in order, and the other hop sees nothing of it', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(ping('client 1'), ping('client 2'));
  t.strictSame(pingsIn(bench.toClient.frames()), ['client 1 ack', 'client 2 ack']);
  t.strictSame(bench.toRuntime.shown(), []);
  await bench.runtime(ping('runtime1'), ping('runtime2'));
  t.strictSame(pingsIn(bench.toRuntime.frames()), ['runtime1 ack', 'runtime2 ack']);
  t.strictSame(bench.toClient.shown(), []);
});

t.test('acknowledgements nobody waits for go nowhere', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(ping('nobody 1', true));
  await bench.runtime(ping('nobody 2', true));
  const call = await bench.take(1);
  bench.toRuntime.frames();
  let delivered: boolean | undefined;
  void call.end(ok).then((value) => {
    delivered = value;
  });
  await settle();
  const proof = bench.toClient.frames().find(({ type }) => type === FrameType.ping)?.payload ?? Buffer.alloc(8);
  await bench.client(ping('nobody 3', true));
  const other = Buffer.from(proof);
  other.writeUInt32BE(3, 4);
  await bench.client(ping(other, true), ping(u32(0, 1), true));
  await bench.runtime(ping(proof, true));
  t.equal(delivered, undefined, 'the runtime proves nothing, nor does the PING of another stream, nor a guess');
  t.strictSame([bench.toClient.shown(), bench.toRuntime.shown(), bench.violations], [[], [], []]);
});

t.test(
  'two answers are proven each by its own acknowledgement, and one that comes twice changes nothing',
  async (t) => {
    const bench = await RouterBench.started();
    const delivered: Record<string, boolean> = {};
    for (const id of [1, 3, 5]) {
      void (await bench.take(id)).end(ok).then((value) => {
        delivered[id] = value;
      });
    }
    await settle();
    const proofs = bench.toClient.frames().filter(({ type }) => type === FrameType.ping);
    t.equal(proofs.length, 3);
    const ack = (n: number): Buffer => ping(proofs[n]?.payload ?? '', true);
    await bench.client(ack(1), ack(1), ack(1));
    t.strictSame(delivered, { 3: true });
    await bench.client(ack(0), ack(2));
    t.strictSame(delivered, { 1: true, 3: true, 5: true });
  },
);

t.test('an answer to a PING waits for the end of the frame or header block that is going out', async (t) => {
  const bench = await RouterBench.started();
  await bench.client(request(1, '/pass/A', {}, true));
  const answer = data(1, 50);
  await bench.runtime(headers(1, { ':status': '200' }), answer.subarray(0, 20));
  bench.toClient.frames();
  await bench.client(ping('client 1'));
  t.strictSame(bench.toClient.shown(), []);
  await bench.runtime(answer.subarray(20), data(1, 5));
  t.strictSame(bench.toClient.shown(), ['data 1 len=50', 'ping 0 ack', 'data 1 len=5'], 'and for no more');
  const block = headers(1, { 'grpc-status': '0' }).subarray(9);
  await bench.runtime(frame(FrameType.headers, 1, 1, block.subarray(0, 3)));
  await bench.client(ping('client 2'));
  t.strictSame(bench.toClient.shown(), ['headers 1 end']);
  await bench.runtime(frame(FrameType.continuation, 4, 1, block.subarray(3)));
  t.strictSame(bench.toClient.shown(), ['continuation 1', 'ping 0 ack']);

  const asked = data(3, 80);
  await bench.client(request(3, '/pass/B'), asked.subarray(0, 40));
  bench.toRuntime.frames();
  await bench.runtime(ping('runtime1'));
  t.strictSame(bench.toRuntime.shown(), []);
  await bench.client(asked.subarray(40), data(3, 5));
  t.strictSame(bench.toRuntime.shown(), ['data 3 len=80', 'ping 0 ack', 'data 3 len=5']);
});

t.test('PINGs are cut anywhere, and answered to the byte', async (t) => {
  const bench = await RouterBench.started();
  for (const byte of Buffer.concat([ping('client 1'), request(1, '/pass/A'), ping('client 2')])) {
    bench.fromClient(Buffer.from([byte]));
  }
  for (const byte of Buffer.concat([ping('runtime1'), ping('acknowle', true), ping('runtime2')])) {
    bench.fromRuntime(Buffer.from([byte]));
  }
  await settle();
  t.strictSame(pingsIn(bench.toClient.frames()), ['client 1 ack', 'client 2 ack']);
  const toRuntime = bench.toRuntime.frames();
  t.strictSame(toRuntime.map(show), ['headers 1', 'ping 0 ack', 'ping 0 ack']);
  t.strictSame(pingsIn(toRuntime), ['runtime1 ack', 'runtime2 ack']);
});

t.test('before any SETTINGS a client gets no answer, and all of them behind the SETTINGS', async (t) => {
  const bench = new RouterBench();
  await bench.client(settings(), ping('client 1'), ping('client 2'));
  t.strictSame(bench.toClient.shown(), []);
  await bench.runtime(settings(), settingsAck);
  t.strictSame(bench.toClient.shown(), ['settings 0', 'ping 0 ack', 'ping 0 ack', 'settings 0 ack']);
});

t.test('PINGs that wait for a boundary are bounded, for the peer they come from', async (t) => {
  const forClient = await RouterBench.started({ unansweredPings: 3 });
  await forClient.client(request(1, '/pass/A', {}, true));
  await forClient.runtime(data(1, 50).subarray(0, 20));
  await forClient.client(...flood(3));
  t.strictSame(forClient.violations, []);
  await forClient.client(ping('one more'));
  t.strictSame(forClient.violations, ['downstream: too many PINGs']);
  await forClient.runtime(data(1, 50).subarray(20));
  t.equal(forClient.toClient.shown().at(-1), `goAway 0 last=1 code=${ErrorCode.enhanceYourCalm}`);
  t.ok(forClient.closed);

  const forRuntime = await RouterBench.started({ unansweredPings: 3 });
  const call = await forRuntime.take(3);
  await forRuntime.client(request(5, '/pass/A'), data(5, 50).subarray(0, 20));
  await forRuntime.runtime(...flood(3));
  t.strictSame(forRuntime.violations, []);
  await forRuntime.runtime(ping('one more'));
  t.strictSame(forRuntime.violations, ['upstream: too many PINGs']);
  t.ok(forRuntime.closed);
  t.equal(call.signal.reason, 'connection lost');
});

t.test('what is answered at once has its bound in a second', async (t) => {
  const bench = await RouterBench.started({ pingsPerSecond: 5, unansweredPings: 3 });
  await bench.client(...flood(3));
  await bench.client(...flood(2));
  await bench.runtime(...flood(3));
  await bench.runtime(...flood(2));
  await bench.clock.advance(1000);
  await bench.client(...flood(3));
  await bench.client(...flood(2));
  t.strictSame(bench.violations, [], 'each peer has its own');
  await bench.client(ping('one more'));
  t.strictSame(bench.violations, ['downstream: too many PINGs']);
});

t.test('a flood of PINGs by the runtime ends its connection with GOAWAY', async (t) => {
  const bench = await RouterBench.started({ pingsPerSecond: 5 });
  await bench.runtime(...flood(6));
  t.strictSame(bench.violations, ['upstream: too many PINGs']);
  t.equal(bench.toRuntime.shown().at(-1), `goAway 0 last=0 code=${ErrorCode.enhanceYourCalm}`);
  t.ok(bench.closed);
});

const faults: [what: string, code: number, bytes: Buffer][] = [
  ['a PING of a wrong length', ErrorCode.frameSizeError, frame(FrameType.ping, 0, 0, Buffer.alloc(7))],
  ['an empty acknowledgement', ErrorCode.frameSizeError, frame(FrameType.ping, 1, 0, Buffer.alloc(0))],
  ['a PING on a stream', ErrorCode.protocolError, frame(FrameType.ping, 0, 1, Buffer.alloc(8))],
];

for (const [what, code, bytes] of faults) {
  t.test(`${what} ends the connection of the peer it comes from with GOAWAY ${code}`, async (t) => {
    const byClient = await RouterBench.started();
    await byClient.client(bytes);
    t.strictSame(byClient.toClient.shown(), [`goAway 0 last=0 code=${code}`]);
    t.match(byClient.violations, [/^downstream: /]);
    const byRuntime = await RouterBench.started();
    await byRuntime.runtime(bytes);
    t.strictSame(byRuntime.toRuntime.shown(), [`goAway 0 last=0 code=${code}`]);
    t.match(byRuntime.violations, [/^upstream: /]);
    t.ok(byClient.closed && byRuntime.closed);
  });
}
