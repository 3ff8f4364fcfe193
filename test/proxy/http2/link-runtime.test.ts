/** A link whose runtime is absent, silent, or gone. */
import net from 'node:net';
import t from 'tap';
import { connectionPreface, FrameType, frame, Setting } from '../../../src/proxy/http2/frames.js';
import type { RouterHandlers } from '../../../src/proxy/http2/link.js';
import type { TakenCall } from '../../../src/proxy/taken-call.js';
import { ManualClock, settle } from '../../support/manual-clock.js';
import { listen, type Place, place, RawPeer, rawRuntime } from './link-bench.js';
import {
  data,
  decodeBlock,
  headers,
  message,
  ok,
  ping,
  request,
  settings,
  settingsAck,
  show,
  u32,
  windowUpdate,
} from './wire.js';

const noTable = settings([Setting.headerTableSize, 0]).subarray(9);

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await settle();
}

/** Connects to a link that knows its runtime to be absent. */
async function connectInVain(t: Parameters<typeof listen>[0], at: Place, clock: ManualClock): Promise<RawPeer> {
  const client = await RawPeer.connect(t, at.listenPath);
  // The look for the runtime that is due.
  await until(() => clock.pending > 0);
  return client;
}

t.test('while the runtime is absent its client is greeted, its PINGs and taken calls are answered', async (t) => {
  const at = place(t);
  const clock = new ManualClock();
  const take = (call: TakenCall): void => void call.send(Buffer.from('done')).then(() => call.end(ok));
  await listen(t, at, { clock, handlers: { take } });
  const client = await connectInVain(t, at, clock);
  client.send(connectionPreface, settings(), ping('client 1'));
  t.ok((await client.until('settings 0')).payload.equals(noTable), 'at once');
  await client.until('ping 0 ack');
  client.send(settingsAck, request(1, '/pass/A', {}, true), request(3, '/take/B'), data(3, message('b'), true));
  await client.until('data 3 len=9');
  client.send(request(5, '/pass/C', {}, true), ping('client 2'));
  await until(() => client.seen.filter(({ type, flags }) => type === FrameType.ping && flags === 1).length === 2);
  const { accepted } = await rawRuntime(t, at);
  await clock.advance(500);
  const server = await accepted;
  await server.until('headers 5 end');
  t.strictSame(server.seen.map(show), ['settings 0', 'headers 1 end', 'headers 5 end'], 'what waited, in order');
  server.send(settings(), settingsAck, headers(1, { 'grpc-status': '0' }, true));
  await client.until('headers 1 end');
  client.send(settingsAck);
  await server.until('settings 0 ack');
});

t.test('a runtime that takes connections and is silent is waited for, and then its client is greeted', async (t) => {
  const at = place(t);
  const clock = new ManualClock();
  await listen(t, at, { clock });
  const { accepted } = await rawRuntime(t, at);
  const client = await RawPeer.connect(t, at.listenPath);
  client.send(connectionPreface, settings());
  const server = await accepted;
  await server.until('settings 0');
  await clock.advance(999);
  t.strictSame(client.seen, []);
  await clock.advance(1);
  t.ok((await client.until('settings 0')).payload.equals(noTable));
  client.send(settingsAck, ping('client 1'));
  await client.until('ping 0 ack');
  server.send(settings([Setting.maxFrameSize, 20_000]), settingsAck);
  await client.until('settings 0 ack');
  t.ok(
    client.seen
      .filter(({ type }) => type === FrameType.settings)[1]
      ?.payload.subarray(6)
      .equals(noTable),
  );
  client.send(settingsAck, ping('client 2'));
  await server.until('settings 0 ack');
  t.equal(server.seen.filter((one) => show(one) === 'settings 0 ack').length, 1);
});

t.test('one that is not slow greets its client itself', async (t) => {
  const at = place(t);
  const clock = new ManualClock();
  await listen(t, at, { clock });
  const { accepted } = await rawRuntime(t, at);
  const client = await RawPeer.connect(t, at.listenPath);
  client.send(connectionPreface, settings());
  (await accepted).send(settings(), settingsAck);
  await client.until('settings 0 ack');
  await clock.advance(5000);
  client.send(ping('client 1'));
  await client.until('ping 0 ack');
  t.strictSame(client.seen.map(show), ['settings 0', 'settings 0 ack', 'ping 0 ack']);
});

t.test(
  'what is for an absent runtime waits up to a bound, its client is read no further, and nothing is lost',
  async (t) => {
    const at = place(t);
    const clock = new ManualClock();
    await listen(t, at, { clock, limits: { earlyBytes: 10_000 } });
    const client = await connectInVain(t, at, clock);
    client.send(connectionPreface, settings(), request(1, '/pass/A'));
    await client.until('settings 0');
    // More than the system keeps of what is not read.
    const chunk = data(1, Buffer.alloc(16_384, 'x'));
    let sent = 0;
    while (client.socket.writableLength === 0 && sent < 4000) {
      client.send(chunk);
      sent += 1;
      await settle();
    }
    t.ok(sent < 4000, 'the client is held up');
    client.send(data(1, 3, true));
    const { accepted } = await rawRuntime(t, at);
    await clock.advance(500);
    const server = await accepted;
    server.send(settings(), settingsAck);
    await server.until('data 1 len=3 end');
    t.equal(server.seen.filter((one) => show(one) === 'data 1 len=16384').length, sent);
  },
);

t.test('a client that says HTTP/1 and no more gets its answer when the runtime comes', async (t) => {
  const at = place(t);
  const clock = new ManualClock();
  const { opened } = await listen(t, at, { clock });
  const socket = net.connect({ path: at.listenPath, allowHalfOpen: true });
  socket.end('GET / HTTP/1.1\r\n\r\n');
  const link = await opened;
  await until(() => clock.pending > 0 && link.isStalled);
  const server = net.createServer({ allowHalfOpen: true }, (peer) => {
    let asked = '';
    peer.on('data', (part) => {
      asked += part;
    });
    peer.on('end', () => peer.end(`HTTP/1.1 200 OK\r\n\r\n${asked.length}`));
  });
  await new Promise<void>((resolve) => server.listen(at.runtimePath, resolve));
  t.teardown(() => server.close());
  await clock.advance(500);
  let answer = '';
  for await (const chunk of socket) answer += chunk;
  t.equal(answer, 'HTTP/1.1 200 OK\r\n\r\n18');
  await link.closed;
  t.equal(clock.pending, 0);
});

t.test('one that is not known to speak HTTP/2 and says no more is treated alike', async (t) => {
  const at = place(t);
  const clock = new ManualClock();
  const { opened } = await listen(t, at, { clock });
  const socket = net.connect({ path: at.listenPath, allowHalfOpen: true });
  socket.end(connectionPreface.subarray(0, 10));
  const link = await opened;
  await until(() => clock.pending > 0 && link.isStalled);
  const received: Buffer[] = [];
  const server = net.createServer((peer) => peer.on('data', (part) => received.push(part)));
  await new Promise<void>((resolve) => server.listen(at.runtimePath, resolve));
  t.teardown(() => server.close());
  await clock.advance(500);
  await link.closed;
  t.ok(Buffer.concat(received).equals(connectionPreface.subarray(0, 10)));
  socket.destroy();
});

/** A taken call in flight on stream 1, and a passed one on 3 that the runtime has got. */
async function inFlight(
  t: Parameters<typeof listen>[0],
  options: { clock?: ManualClock; handlers?: Partial<RouterHandlers> } = {},
) {
  const at = place(t);
  const { accepted } = await rawRuntime(t, at);
  const calls: TakenCall[] = [];
  const handlers = { take: (call: TakenCall) => void calls.push(call), ...options.handlers };
  const { opened } = await listen(t, at, { ...options, handlers });
  const client = await RawPeer.connect(t, at.listenPath);
  client.socket.allowHalfOpen = false;
  client.send(
    connectionPreface,
    settings(),
    request(1, '/take/A'),
    data(1, message(''), true),
    request(3, '/pass/B', {}, true),
  );
  const server = await accepted;
  await server.until('headers 3 end');
  server.send(settings(), settingsAck);
  await client.until('settings 0 ack');
  const [call] = calls;
  if (call === undefined) throw new Error('nothing taken');
  return { client, server, call, link: await opened };
}

const endings: Record<string, (server: RawPeer) => void> = {
  'ends its connection': ({ socket }) => socket.end(),
  'is killed': ({ socket }) => socket.destroy(),
  // What a socket has not read when it is closed resets a unix connection.
  'resets its connection': ({ socket }) => {
    socket.pause();
    setImmediate(() => socket.destroy());
  },
};

for (const [what, end] of Object.entries(endings)) {
  t.test(
    `when the runtime ${what}, taken calls are answered, passed ones fail, and then the connection ends`,
    async (t) => {
      const { client, server, call, link } = await inFlight(t);
      if (what.startsWith('resets')) {
        server.socket.pause();
        client.send(request(5, '/pass/C'), data(5, 10_000));
        await settle();
      }
      end(server);
      t.match(show(await client.until(/^goAway/)), /^goAway 0 last=[35] code=0$/);
      const failed = await client.until('headers 3 end');
      t.equal(decodeBlock(failed.payload).values['grpc-status'], '14');
      t.notOk(call.signal.aborted);
      void call.send(Buffer.from('done'));
      const delivered = call.end(ok);
      const proof = await client.until('ping 0');
      client.send(ping(proof.payload, true));
      t.equal(await delivered, true);
      await client.closed;
      await link.closed;
    },
  );
}

t.test('a runtime that goes in the middle of a frame takes the connection along', async (t) => {
  const { client, server, call, link } = await inFlight(t);
  server.send(headers(3, { ':status': '200' }), data(3, 1000).subarray(0, 500));
  await client.until('headers 3');
  server.socket.end();
  await client.closed;
  t.equal(call.signal.reason, 'connection lost');
  await link.closed;
});

t.test('without taken calls the connection ends with the runtime’s', async (t) => {
  const { client, server, call, link } = await inFlight(t);
  void call.end({ code: 5, message: '', trailers: [] });
  await client.until('headers 1 end');
  server.send(headers(3, { 'grpc-status': '14' }, true));
  server.socket.end();
  await client.until('headers 3 end');
  await client.closed;
  await link.closed;
});

t.test('an answer of the runtime that waits for the client’s window is worth a moment, and no more', async (t) => {
  for (const grants of [true, false]) {
    const clock = new ManualClock();
    const { client, server, call, link } = await inFlight(t, { clock });
    void call.send(Buffer.alloc(65_535 - 5)).then(() => call.end({ code: 5, message: '', trailers: [] }));
    await client.until('headers 1 end');
    server.send(headers(3, { ':status': '200' }), data(3, 100, true));
    await client.until('headers 3');
    server.socket.end();
    await until(() => server.socket.readableEnded);
    if (grants) {
      client.send(windowUpdate(0, 100));
      await client.until('data 3 len=100 end');
    } else {
      await clock.advance(5000);
    }
    await client.closed;
    await link.closed;
    t.equal(clock.pending, 0);
    t.equal(
      client.seen.some((one) => show(one) === 'data 3 len=100 end'),
      grants,
    );
  }
});

t.test('a connection without its runtime ends when its client leaves', async (t) => {
  const { client, server, call, link } = await inFlight(t);
  server.socket.end();
  await client.until(/^goAway/);
  client.socket.end();
  await link.closed;
  t.equal(call.signal.reason, 'connection lost');
});

t.test('a client that reads nothing of an orphaned connection is what stalls, not the runtime', async (t) => {
  const clock = new ManualClock();
  const stalls: string[] = [];
  const handlers: Partial<RouterHandlers> = { stalled: (peer) => stalls.push(peer) };
  const { client, server, call, link } = await inFlight(t, { clock, handlers });
  server.socket.pause();
  client.send(request(5, '/pass/C'));
  for (let sent = 0; client.socket.writableLength < 500_000 && sent < 10_000; sent += 1) {
    client.send(data(5, 16_384));
    await settle();
  }
  server.socket.destroy();
  await client.until(/^goAway/);
  void call.send(Buffer.alloc(100_000));
  await client.until(/^data 1 len=16383/);
  await clock.advance(60_000);
  t.strictSame(stalls, ['downstream']);
  t.ok(link.isStalled);
});

t.test('a runtime that goes before it has said anything leaves a client that is greeted all the same', async (t) => {
  const at = place(t);
  const clock = new ManualClock();
  const { accepted } = await rawRuntime(t, at);
  const calls: TakenCall[] = [];
  await listen(t, at, { clock, handlers: { take: (call) => void calls.push(call) } });
  const client = await RawPeer.connect(t, at.listenPath);
  client.send(connectionPreface, settings(), request(1, '/take/A'), data(1, message(''), true));
  const server = await accepted;
  await server.until('settings 0');
  server.socket.end();
  await until(() => server.socket.readableEnded);
  await clock.advance(1000);
  await client.until('settings 0');
  void calls[0]?.end({ code: 5, message: '', trailers: [] });
  await client.until('headers 1 end');
});

t.test('a link says what its streams are, and when it last answered a call', async (t) => {
  const clock = new ManualClock();
  const at = place(t);
  const { accepted } = await rawRuntime(t, at);
  const calls: TakenCall[] = [];
  const { opened } = await listen(t, at, { clock, handlers: { take: (call) => void calls.push(call) } });
  const isStreaming = (path: string): boolean => path === '/take/Events';
  const client = await RawPeer.connect(t, at.listenPath);
  const link = await opened;
  t.equal(link.load(isStreaming), 'none');
  client.send(connectionPreface, settings());
  const server = await accepted;
  server.send(settings(), settingsAck);
  const reaches = (load: string): Promise<void> => until(() => link.load(isStreaming) === load);
  client.send(request(1, '/take/Events'), data(1, message(''), true));
  await reaches('waits');
  client.send(request(3, '/take/A'), request(5, '/pass/B'), request(7, '/observe/C'));
  await until(() => link.activeStreams === 4);
  t.equal(link.load(isStreaming), 'waits', 'half requests are no calls');
  t.equal(link.lastAnswerMs, undefined);
  client.send(data(5, message(''), true));
  await reaches('calls');
  await clock.advance(100);
  server.send(headers(5, { 'grpc-status': '0' }, true));
  await reaches('waits');
  t.equal(link.lastAnswerMs, clock.now());
  client.send(data(3, message(''), true));
  await reaches('calls');
  await clock.advance(100);
  void calls[1]?.end(ok);
  await reaches('waits');
  t.equal(link.lastAnswerMs, clock.now());
  await clock.advance(100);
  client.send(frame(FrameType.rstStream, 0, 7, u32(8)), frame(FrameType.rstStream, 0, 1, u32(8)));
  await reaches('none');
  t.equal(link.lastAnswerMs, clock.now() - 100, 'a call that is cancelled is not answered');
  t.equal(link.isStalled, false);
});

t.test('a client that reads nothing while the runtime is absent is told of too', async (t) => {
  const at = place(t);
  const clock = new ManualClock();
  const stalls: string[] = [];
  const handlers: Partial<RouterHandlers> = {
    stalled: (peer) => stalls.push(peer),
    take: (call) => void call.send(Buffer.alloc(1000)).then(() => call.end(ok)),
  };
  const { opened } = await listen(t, at, { clock, handlers });
  const client = await connectInVain(t, at, clock);
  client.send(connectionPreface, settings([Setting.initialWindowSize, 0]), settingsAck);
  client.send(request(1, '/take/A'), data(1, message(''), true));
  await client.until('headers 1');
  await clock.advance(60_000);
  t.strictSame(stalls, ['downstream']);
  const link = await opened;
  t.ok(link.isStalled);
  link.destroy();
  await link.closed;
  t.equal(clock.pending, 0);
});
