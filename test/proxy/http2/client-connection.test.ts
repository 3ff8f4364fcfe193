/** One client connection against a runtime that breaks HTTP/2, floods it, or cuts its bytes anywhere. */
import { once } from 'node:events';
import net from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { ClientConnection, type StreamEnd, type StreamEvents } from '../../../src/proxy/http2/client-connection.js';
import { ErrorCode, Flag, FrameType, frame, headersFrames } from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock, type HeaderField } from '../../../src/proxy/http2/hpack.js';
import { Port } from '../../../src/proxy/http2/port.js';
import type { UpstreamStatusError } from '../../../src/proxy/upstream.js';
import { rawScene, responseHeaders, socketPath, until } from './raw-runtime.js';
import {
  data,
  fields,
  goAway,
  headers,
  message,
  ping,
  reset,
  settings,
  settingsAck,
  u32,
  windowUpdate,
} from './wire.js';

const ask = Buffer.from('ask');
const nothing = Buffer.alloc(0);
const max31 = 0x7fffffff;
const MiB = 1024 * 1024;

const headersOf = (flags: number, streamId: number, block: Buffer) => frame(FrameType.headers, flags, streamId, block);
const block = encodeLiteralBlock(fields(responseHeaders));
const half = headersOf(0, 1, block.subarray(0, 1));
const continuation = (streamId: number, bytes = nothing) => frame(FrameType.continuation, 0, streamId, bytes);

/** Sent behind SETTINGS, while stream 1 is open. */
const faults: [name: string, frames: Buffer[], code: number][] = [
  ['a frame above 16 KiB', [data(1, 16_385)], ErrorCode.frameSizeError],
  ['HEADERS on stream 0', [headersOf(Flag.endHeaders, 0, block)], ErrorCode.protocolError],
  ['HEADERS on an idle stream', [headersOf(Flag.endHeaders, 3, block)], ErrorCode.protocolError],
  ['DATA on an idle stream', [data(9, 1)], ErrorCode.protocolError],
  ['DATA on stream 0', [data(0, 1)], ErrorCode.protocolError],
  ['DATA on a stream of the server', [data(2, 1)], ErrorCode.protocolError],
  ['RST_STREAM on an idle stream', [reset(5)], ErrorCode.protocolError],
  ['RST_STREAM of 3 bytes', [frame(FrameType.rstStream, 0, 1, Buffer.alloc(3))], ErrorCode.frameSizeError],
  ['WINDOW_UPDATE on an idle stream', [windowUpdate(3, 1)], ErrorCode.protocolError],
  ['WINDOW_UPDATE of 3 bytes', [frame(FrameType.windowUpdate, 0, 0, Buffer.alloc(3))], ErrorCode.frameSizeError],
  ['WINDOW_UPDATE of 0', [windowUpdate(0, 0)], ErrorCode.protocolError],
  ['WINDOW_UPDATE beyond 2^31-1', [windowUpdate(0, max31)], ErrorCode.flowControlError],
  ['PUSH_PROMISE', [frame(FrameType.pushPromise, Flag.endHeaders, 1, u32(2))], ErrorCode.protocolError],
  ['SETTINGS of 5 bytes', [frame(FrameType.settings, 0, 0, Buffer.alloc(5))], ErrorCode.frameSizeError],
  ['SETTINGS on a stream', [frame(FrameType.settings, 0, 1, nothing)], ErrorCode.protocolError],
  ['SETTINGS ACK with a payload', [frame(FrameType.settings, Flag.ack, 0, Buffer.alloc(6))], ErrorCode.frameSizeError],
  ['SETTINGS_ENABLE_PUSH 1', [settings([2, 1])], ErrorCode.protocolError],
  ['an initial window of 2^31', [settings([4, max31 + 1])], ErrorCode.flowControlError],
  [
    'an initial window that overflows',
    [windowUpdate(1, max31 - 70_000), settings([4, max31])],
    ErrorCode.flowControlError,
  ],
  ['SETTINGS_MAX_FRAME_SIZE 100', [settings([5, 100])], ErrorCode.protocolError],
  ['SETTINGS_MAX_FRAME_SIZE 2^24', [settings([5, 1 << 24])], ErrorCode.protocolError],
  ['PING of 7 bytes', [ping('7 bytes')], ErrorCode.frameSizeError],
  ['PING on a stream', [frame(FrameType.ping, 0, 1, Buffer.alloc(8))], ErrorCode.protocolError],
  ['GOAWAY of 7 bytes', [frame(FrameType.goAway, 0, 0, Buffer.alloc(7))], ErrorCode.frameSizeError],
  ['GOAWAY on a stream', [frame(FrameType.goAway, 0, 1, Buffer.alloc(8))], ErrorCode.protocolError],
  ['PRIORITY of 4 bytes', [frame(FrameType.priority, 0, 1, Buffer.alloc(4))], ErrorCode.frameSizeError],
  ['CONTINUATION alone', [continuation(1)], ErrorCode.protocolError],
  ['CONTINUATION of another stream', [half, continuation(3)], ErrorCode.protocolError],
  ['DATA within a header block', [half, data(1, 1)], ErrorCode.protocolError],
  ['an unknown frame within a header block', [half, frame(0xfa, 0, 0, nothing)], ErrorCode.protocolError],
  ['padding beyond the frame', [frame(FrameType.data, Flag.padded, 1, Buffer.from([9, 1]))], ErrorCode.protocolError],
  [
    'priority beyond the frame',
    [headersOf(Flag.priority | Flag.endHeaders, 1, Buffer.alloc(4))],
    ErrorCode.protocolError,
  ],
  ['a malformed header block', [headersOf(Flag.endHeaders, 1, Buffer.from([0xff, 0xff]))], ErrorCode.compressionError],
  [
    'a malformed block of a stream that is over',
    [reset(1), headersOf(Flag.endHeaders, 1, Buffer.from([0xbf]))],
    ErrorCode.compressionError,
  ],
  [
    'a table larger than ever allowed',
    [headersOf(Flag.endHeaders, 1, Buffer.from([0x3f, 0xe2, 0x1f]))],
    ErrorCode.compressionError,
  ],
  [
    'CONTINUATION without end',
    [half, ...Array.from({ length: 16_385 }, () => continuation(1))],
    ErrorCode.enhanceYourCalm,
  ],
];

for (const [name, frames, code] of faults) {
  t.test(`what breaks HTTP/2 ends its connection with the right code: ${name}`, async (t) => {
    const { runtime, client } = await rawScene(t);
    const call = client.unary('/s/M', ask).catch((error: UpstreamStatusError) => error);
    const { connection } = await runtime.requested('/s/M');
    connection.write(...frames);
    await connection.peer.closed;
    const last = connection.frames.at(-1);
    t.equal(last?.type, FrameType.goAway);
    t.equal(last?.payload.readUInt32BE(4), code);
    const end = await call;
    t.match(end, { name: 'UpstreamStatusError' });
    t.match(String(end), /the runtime broke HTTP\/2: |stream terminated/);
    const next = client.unary('/s/N', ask);
    const again = await runtime.requested('/s/N');
    again.connection.answer(1);
    t.equal((await next).message.toString(), 'answer');
  });
}

const greetings: [name: string, bytes: Buffer, code: number][] = [
  ['PING', ping('too soon'), ErrorCode.protocolError],
  ['SETTINGS ACK', settingsAck, ErrorCode.protocolError],
  ['GOAWAY', goAway(0), ErrorCode.protocolError],
  ['HTTP/1', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), ErrorCode.frameSizeError],
];
for (const [name, bytes, code] of greetings) {
  t.test(`a runtime that does not begin with SETTINGS is not called: ${name}`, async (t) => {
    const { runtime, client } = await rawScene(t, { greeting: [bytes] });
    runtime.onConnection = () => {
      runtime.greeting = [settings(), settingsAck];
    };
    const call = client.unary('/s/M', ask);
    const first = await runtime.connection();
    await first.peer.closed;
    t.equal(first.frames.at(-1)?.payload.readUInt32BE(4), code);
    t.equal(first.requests.length, 0);
    const { connection } = await runtime.requested('/s/M');
    connection.answer(1);
    t.equal((await call).message.toString(), 'answer');
  });
}

/** Sent on stream 1; stream 3 goes on. */
const streamFaults: [name: string, frames: () => Buffer[], code: number][] = [
  ['WINDOW_UPDATE of 0', () => [windowUpdate(1, 0)], ErrorCode.protocolError],
  ['a window beyond 2^31-1', () => [windowUpdate(1, max31)], ErrorCode.flowControlError],
  [
    'DATA beyond its window',
    // One message for nobody, another behind it: nothing is granted.
    () => [
      headers(1, responseHeaders),
      ...[message('first'), ...Array.from({ length: 33 }, () => Buffer.alloc(16_384))].map((bytes) => data(1, bytes)),
    ],
    ErrorCode.flowControlError,
  ],
  [
    'a header list above 16 MiB',
    () => [headers(1, { ...responseHeaders, 'x-long': 'x'.repeat(16 * MiB) })],
    ErrorCode.protocolError,
  ],
];
for (const [name, frames, code] of streamFaults) {
  t.test(`what breaks HTTP/2 on one stream ends that stream: ${name}`, async (t) => {
    const { runtime, client } = await rawScene(t);
    const stream = client.serverStream('/s/M', ask);
    const other = client.unary('/s/N', ask);
    const { connection, request } = await runtime.requested('/s/M');
    await connection.request(1);
    connection.write(...frames());
    await until(() => request.reset !== undefined);
    t.equal(request.reset, code);
    const status = await stream.status;
    t.equal(status.code, 13);
    t.match(status.message, /^the runtime broke HTTP\/2: /);
    connection.answer(3);
    t.equal((await other).message.toString(), 'answer');
  });
}

t.test('blocks of streams that are over keep the header table right, and their DATA is granted again', async (t) => {
  const { runtime, client } = await rawScene(t);
  const left = new AbortController();
  const calls = [client.unary('/s/M', ask, { signal: left.signal }), client.unary('/s/N', ask)];
  const { connection, request } = await runtime.requested('/s/M');
  await connection.request(1);
  left.abort();
  await t.rejects(calls[0] as Promise<unknown>, new Error('cancelled'));
  await until(() => request.reset !== undefined);
  // Literals with incremental indexing, as a runtime that has not read the SETTINGS may send: `x-a: one`.
  const literal = Buffer.concat([Buffer.from([0x40, 3]), Buffer.from('x-a'), Buffer.from([3]), Buffer.from('one')]);
  connection.write(headersOf(Flag.endHeaders, 1, Buffer.concat([block, literal])));
  for (let sent = 0; sent < 5 * MiB; sent += 16_384) connection.write(data(1, 16_384));
  const indexed = Buffer.concat([block, Buffer.from([0x80 | 62])]);
  connection.write(headersOf(Flag.endHeaders, 3, indexed), data(3, message('b')));
  connection.write(headers(3, { 'grpc-status': '0' }, true));
  t.strictSame((await calls[1])?.initialMetadata, [['x-a', 'one']]);
  t.ok(connection.granted(0) - (8 * MiB - 65_535) >= 4 * MiB);
  t.equal(connection.granted(1), 0);
});

t.test(
  'a runtime that floods and does not read is read no further, and all its PINGs are answered when it reads',
  async (t) => {
    const { runtime, client } = await rawScene(t);
    const { connection } = await (async () => {
      void client.unary('/s/M', ask).catch(() => {});
      return runtime.requested('/s/M');
    })();
    const count = 250_000;
    const seen = { acks: 0 };
    connection.peer.onFrame = ({ type }) => {
      if (type === FrameType.ping) seen.acks++;
    };
    connection.peer.ignore();
    const pings = ping('flooding');
    const flood = Buffer.alloc(count * pings.length, pings);
    const written = connection.peer.written(flood);
    const stuck = { bytes: -1 };
    while (stuck.bytes !== connection.peer.unwrittenBytes) {
      stuck.bytes = connection.peer.unwrittenBytes;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    t.ok(stuck.bytes > MiB, `${stuck.bytes} bytes are not taken`);
    connection.peer.heed();
    await written;
    await until(() => seen.acks === count);
    connection.write(settings());
    t.pass('all acknowledged');
  },
);

t.test('a long request waits for a runtime that does not read, and a PING is answered beside it', async (t) => {
  const { runtime, client } = await rawScene(t, {
    greeting: [settings([4, max31]), settingsAck, windowUpdate(0, 1 << 30)],
  });
  const left = new AbortController();
  const call = client.unary('/s/M', Buffer.alloc(8 * MiB), { signal: left.signal });
  const connection = await runtime.connection();
  await until(() => connection.requests.length === 1);
  connection.peer.ignore();
  left.abort();
  await t.rejects(call, new Error('cancelled'));
  connection.peer.heed();
  connection.write(ping('what now'));
  await until(() => connection.shown(FrameType.ping).length === 1);
  t.equal(connection.requests[0]?.reset, ErrorCode.cancel);
  t.ok((connection.requests[0]?.body.length ?? 0) < 8 * MiB, 'the rest was never written');
});

/** What a stream was told, its DATA joined. */
class Told implements StreamEvents {
  readonly unreadBytes = 0;
  readonly events: unknown[] = [];

  headers(list: readonly HeaderField[], endStream: boolean): void {
    this.events.push(['headers', list.map(({ name, value }) => [name, value]), endStream]);
  }

  data(bytes: Buffer, endStream: boolean): void {
    const last = this.events.at(-1);
    if (last instanceof DataTold && !last.endStream) last.add(bytes, endStream);
    else this.events.push(new DataTold(bytes, endStream));
  }

  ended(end: StreamEnd): void {
    this.events.push(end);
  }
}

class DataTold {
  text: string;
  endStream: boolean;
  constructor(bytes: Buffer, endStream: boolean) {
    this.text = bytes.toString('latin1');
    this.endStream = endStream;
  }
  add(bytes: Buffer, endStream: boolean): void {
    this.text += bytes.toString('latin1');
    this.endStream = endStream;
  }
}

t.test('however the bytes of the runtime are cut, its streams are told the same', async (t) => {
  const at = socketPath(t);
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => sockets.push(socket.resume()));
  server.listen(at);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  const told = async (chunks: Buffer[]): Promise<unknown> => {
    const connection = new ClientConnection(() => {});
    await new Promise<void>((resolve) => {
      const port = Port.connect(at, connection, () => {
        connection.connected(port);
        resolve();
      });
    });
    connection.received(settings());
    const streams = [1, 2, 3].map(() => {
      const events = new Told();
      connection.open(fields({ ':path': '/s/M' }), ask, events);
      return events;
    });
    for (const chunk of chunks) {
      const bytes = Buffer.from(chunk);
      connection.received(bytes);
      bytes.fill(0xee);
    }
    const state = { hasRoom: connection.hasRoom, isOver: connection.isOver };
    connection.close('done');
    return { state, events: streams.map(({ events }) => events) };
  };

  const streamId = fc.constantFrom(1, 3, 5);
  const payload = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
  const value = fc.stringMatching(/^[ -~]{0,40}$/);
  const someFrame = fc.oneof(
    { weight: 4, arbitrary: fc.tuple(streamId, payload, fc.nat(9)).map(([id, bytes, n]) => data(id, bytes, n === 0)) },
    fc
      .tuple(streamId, payload, fc.nat(9))
      .map(([id, bytes, n]) =>
        frame(FrameType.data, Flag.padded, id, Buffer.concat([Buffer.from([n]), bytes, Buffer.alloc(n)])),
      ),
    fc.tuple(streamId, value, fc.boolean()).map(([id, text, end]) => headers(id, { 'x-a': text }, end)),
    fc
      .tuple(streamId, fc.integer({ min: 16_000, max: 40_000 }))
      .map(([id, length]) => headersFrames(id, encodeLiteralBlock(fields({ 'x-long': 'y'.repeat(length) })), false)),
    streamId.map((id) => reset(id, 2)),
    streamId.map((id) => windowUpdate(id, 10)),
    fc.constantFrom(ping('property'), settings([4, 1000]), settingsAck, windowUpdate(0, 5), frame(0xbb, 1, 1, ask)),
    { weight: 1, arbitrary: fc.constantFrom(goAway(1), goAway(3), frame(FrameType.ping, 0, 0, ask)) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(someFrame, { minLength: 1, maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 20 }),
      async (frames, cuts) => {
        const bytes = Buffer.concat(frames);
        const chunks: Buffer[] = [];
        for (let from = 0, n = 0; from < bytes.length; n++) {
          const length = (cuts[n % cuts.length] ?? 1) * (bytes.length > 10_000 ? 100 : 1);
          chunks.push(bytes.subarray(from, from + length));
          from += length;
        }
        t.strictSame(await told(chunks), await told(frames));
      },
    ),
    { numRuns: 60 },
  );
});
