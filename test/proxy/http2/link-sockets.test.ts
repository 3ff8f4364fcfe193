/** A link on real unix sockets, between peers that speak raw frames: what is carried, for how long, and how fast. */
import net from 'node:net';
import t from 'tap';
import { connectionPreface, FrameType, frame } from '../../../src/proxy/http2/frames.js';
import type { RouterHandlers } from '../../../src/proxy/http2/link.js';
import type { TakenCall } from '../../../src/proxy/taken-call.js';
import { ManualClock, settle } from '../../support/manual-clock.js';
import { listen, place, RawPeer, rawRuntime } from './link-bench.js';
import { data, headers, message, ok, request, settings, settingsAck, u32 } from './wire.js';

t.test('a client that names the socket’s path as :authority reaches the runtime, which sees it', async (t) => {
  const at = place(t);
  const { accepted } = await rawRuntime(t, at);
  await listen(t, at);
  const client = await RawPeer.connect(t, at.listenPath);
  const asked = request(1, '/runtime.v1.RuntimeService/Version', { ':authority': '/run/holdfast/holdfast.sock' });
  client.send(connectionPreface, settings(), asked, data(1, message(''), true));
  const server = await accepted;
  server.send(settings(), settingsAck);
  const received = await server.until('headers 1');
  t.ok(received.payload.equals(asked.subarray(9)));
  server.send(headers(1, { ':status': '200' }), headers(1, { 'grpc-status': '0' }, true));
  await client.until('headers 1 end');
});

t.test('HTTP/1 is carried as it is, both ways, with a client that ends its half early', async (t) => {
  const at = place(t);
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const parts: Buffer[] = [];
    socket.on('data', (part) => parts.push(part));
    socket.on('end', () => socket.end(`HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n${Buffer.concat(parts).length}`));
  });
  await new Promise<void>((resolve) => server.listen(at.runtimePath, resolve));
  t.teardown(() => server.close());
  const front = await listen(t, at);
  for (const start of ['GET / HTTP/1.1\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r-', 'P']) {
    const socket = net.connect({ path: at.listenPath, allowHalfOpen: true });
    const body = Buffer.alloc(start === 'P' ? 3_000_000 : 0, 'x');
    socket.write(start);
    socket.end(body);
    let answer = '';
    for await (const chunk of socket) answer += chunk;
    t.match(answer, new RegExp(`^HTTP/1.1 200 OK[^]*\\r\\n${start.length + body.length}$`));
  }
  await Promise.all(front.links.map(({ closed }) => closed));
});

t.test(
  'a connection waits for a runtime that is not there yet, and looks for it twice a second at least',
  async (t) => {
    const at = place(t);
    const clock = new ManualClock();
    await listen(t, at, { clock });
    const client = await RawPeer.connect(t, at.listenPath);
    client.send(connectionPreface, settings(), request(1, '/pass/A', {}, true));
    for (let tries = 0; tries < 5; tries += 1) {
      while (clock.pending === 0) await settle();
      await clock.advance(tries < 3 ? 100 * 2 ** tries : 500);
    }
    const { accepted } = await rawRuntime(t, at);
    while (clock.pending === 0) await settle();
    await clock.advance(500);
    const server = await accepted;
    server.send(settings());
    await server.until('headers 1 end');
    await client.until('settings 0');
  },
);

t.test('a client that leaves while the runtime is awaited is forgotten', async (t) => {
  const at = place(t);
  const clock = new ManualClock();
  const { opened } = await listen(t, at, { clock });
  const client = await RawPeer.connect(t, at.listenPath);
  const link = await opened;
  client.socket.end();
  await link.closed;
  t.equal(clock.pending, 0, 'nobody looks for the runtime any more');
});

t.test('when the client closes, the runtime gets what was sent and its connection ends', async (t) => {
  const at = place(t);
  const { accepted } = await rawRuntime(t, at);
  const { opened } = await listen(t, at);
  const client = await RawPeer.connect(t, at.listenPath);
  client.send(connectionPreface, settings(), request(1, '/pass/B', {}, true));
  client.socket.end();
  const server = await accepted;
  server.socket.allowHalfOpen = false;
  t.ok(await server.until('headers 1 end'));
  await server.closed;
  await (await opened).closed;
});

t.test('a client that does not read stops being read, and no answer is buffered without bound', async (t) => {
  const at = place(t);
  const { accepted } = await rawRuntime(t, at);
  await listen(t, at);
  const client = await RawPeer.connect(t, at.listenPath);
  client.send(
    connectionPreface,
    settings([4, 0x7fffffff]),
    request(1, '/pass/A', {}, true),
    frame(FrameType.windowUpdate, 0, 0, u32(0x7fff0000)),
  );
  const server = await accepted;
  server.send(settings(), settingsAck, headers(1, { ':status': '200' }));
  await client.until('headers 1');
  client.socket.pause();
  const chunk = data(1, 16_384);
  let written = 0;
  while (server.socket.writableLength < 4_000_000 && written < 64_000_000) {
    server.send(chunk);
    written += chunk.length;
    await settle();
  }
  t.ok(written < 64_000_000, 'the runtime is held up in the end');
  client.socket.resume();
  server.send(data(1, 1, true));
  await client.until('data 1 len=1 end');
  t.equal(
    client.seen.reduce((sum, { type, payload }) => sum + (type === FrameType.data ? payload.length : 0), 0),
    (written / chunk.length) * 16_384 + 1,
  );
});

t.test('a client that asks and asks and does not read the answers of Holdfast is read no further', async (t) => {
  const at = place(t);
  const { accepted } = await rawRuntime(t, at);
  let taken = 0;
  const take = (call: TakenCall): void => {
    taken += 1;
    void call.end({ code: 5, message: 'x'.repeat(1000), trailers: [] });
  };
  await listen(t, at, { handlers: { take } });
  const client = await RawPeer.connect(t, at.listenPath);
  client.send(connectionPreface, settings());
  (await accepted).send(settings(), settingsAck);
  await client.until('settings 0');
  client.socket.pause();
  let id = 1;
  while (client.socket.writableLength < 1_000_000 && id < 200_000) {
    for (const end = id + 400; id < end; id += 2) client.send(request(id, '/take/A'), data(id, message(''), true));
    await settle();
  }
  t.ok(id < 200_000, 'the client is held up in the end');
  client.socket.resume();
  await client.until(`headers ${id - 2} end`);
  t.equal(taken, (id - 1) / 2);
});

t.test('a peer that takes nothing of what waits for it is told of, once, and again if it stops again', async (t) => {
  const at = place(t);
  const { accepted } = await rawRuntime(t, at);
  const clock = new ManualClock();
  const stalls: string[] = [];
  const handlers: Partial<RouterHandlers> = {
    stalled: (peer, { unwrittenBytes, heldBytes }) => {
      stalls.push(`${peer}${unwrittenBytes > 0 ? ' unwritten' : ''}${heldBytes > 0 ? ' held' : ''}`);
    },
    take: (call) => void call.send(Buffer.alloc(1000)).then(() => call.end(ok)),
  };
  const { opened } = await listen(t, at, { clock, handlers });
  const client = await RawPeer.connect(t, at.listenPath);
  client.send(connectionPreface, settings([4, 100]), request(1, '/take/A'), data(1, message(''), true));
  const server = await accepted;
  server.send(settings(), settingsAck);
  await client.until('data 1 len=100');
  await clock.advance(29_999);
  t.strictSame(stalls, []);
  await clock.advance(60_000);
  t.strictSame(stalls, ['downstream held'], 'its window');
  client.send(frame(FrameType.windowUpdate, 0, 1, u32(2000)));
  await client.until(/^headers 1 end/);

  server.socket.pause();
  const chunk = data(3, 16_384);
  client.send(request(3, '/pass/A'));
  for (let sent = 0; client.socket.writableLength < 500_000 && sent < 10_000; sent += 1) {
    client.send(chunk);
    await settle();
  }
  await clock.advance(30_000);
  t.strictSame(stalls.slice(1), ['upstream unwritten'], 'its socket');
  server.socket.resume();
  client.send(data(3, 1, true));
  await server.until('data 3 len=1 end');
  await clock.advance(60_000);
  t.equal(stalls.length, 2);
  (await opened).destroy();
  await (await opened).closed;
  t.equal(clock.pending, 0);
});

t.test('a drained link sends GOAWAY and is done when the last call is, and its answer is out', async (t) => {
  const at = place(t);
  const { accepted } = await rawRuntime(t, at);
  const { opened } = await listen(t, at);
  const client = await RawPeer.connect(t, at.listenPath);
  client.send(connectionPreface, settings(), request(1, '/pass/A', {}, true), request(3, '/pass/Watch', {}, true));
  const server = await accepted;
  server.send(settings());
  await server.until('headers 3 end');
  const link = await opened;
  t.equal(link.activeStreams, 2);
  let drained = false;
  const done = link
    .drain((name) => name === '/pass/Watch')
    .then(() => {
      drained = true;
    });
  const told = await client.until(/^goAway/);
  t.equal(told.payload.readUInt32BE(0), 3);
  t.equal(drained, false);
  server.send(headers(1, { 'grpc-status': '0' }, true));
  await done;
  await client.until('headers 1 end');
  link.destroy();
  await link.closed;
});
