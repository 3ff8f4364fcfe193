/** A link on real unix sockets, between real gRPC clients and servers, and raw ones. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { systemClock } from '../../../src/clock.js';
import { connectionPreface, ErrorCode, Flag, FrameType, frame } from '../../../src/proxy/http2/frames.js';
import type { Limits } from '../../../src/proxy/http2/limits.js';
import { type Link, openLink, type RouterHandlers } from '../../../src/proxy/http2/link.js';
import type { TakenCall } from '../../../src/proxy/taken-call.js';
import { ManualClock, settle } from '../../support/manual-clock.js';
import {
  data,
  type Frame,
  headers,
  message,
  ok,
  readFrames,
  request,
  settings,
  settingsAck,
  show,
  u32,
} from './wire.js';

interface Place {
  readonly listenPath: string;
  readonly runtimePath: string;
}

function place(t: Test): Place {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'link-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  return { listenPath: path.join(folder, 'l.sock'), runtimePath: path.join(folder, 'r.sock') };
}

/** Takes `/take…`, observes `/observe…`, passes the rest. */
const passAll: RouterHandlers = {
  decide: (name) => (name.startsWith('/take') ? 'take' : name.startsWith('/observe') ? 'observe' : 'pass'),
  observe: () => {},
  take: () => {},
};

interface Front {
  readonly links: Link[];
  readonly opened: Promise<Link>;
}

/** Listens at `listenPath` and opens a link for each connection. */
async function listen(
  t: Test,
  at: Place,
  options: { handlers?: Partial<RouterHandlers>; limits?: Partial<Limits>; clock?: ManualClock } = {},
): Promise<Front> {
  const links: Link[] = [];
  let first = (_link: Link): void => {};
  const opened = new Promise<Link>((resolve) => {
    first = resolve;
  });
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const { clock = systemClock, limits = {} } = options;
    const link = openLink(socket, {
      runtimePath: at.runtimePath,
      handlers: { ...passAll, ...options.handlers },
      clock,
      limits,
    });
    links.push(link);
    first(link);
  });
  await new Promise<void>((resolve) => server.listen(at.listenPath, resolve));
  t.teardown(async () => {
    for (const link of links) link.destroy();
    await Promise.all(links.map(({ closed }) => closed));
    await new Promise((resolve) => server.close(resolve));
  });
  return { links, opened };
}

const identity = (bytes: Buffer): Buffer => bytes;

function method(name: string, requestStream: boolean, responseStream: boolean): grpc.MethodDefinition<Buffer, Buffer> {
  return {
    path: name,
    requestStream,
    responseStream,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}

const noLimit = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 };

interface Running {
  /** Cancelled or past their deadline, by path, as the server saw it. */
  readonly cancelled: Promise<string>;
  readonly server: grpc.Server;
}

async function runtime(t: Test, at: Place): Promise<Running> {
  let cancelled = (_name: string): void => {};
  const done = new Promise<string>((resolve) => {
    cancelled = resolve;
  });
  const server = new grpc.Server(noLimit);
  const definition = {
    unary: method('/runtime/Unary', false, false),
    collect: method('/runtime/Collect', true, false),
    count: method('/runtime/Count', false, true),
    echo: method('/runtime/Echo', true, true),
    fail: method('/runtime/Fail', false, false),
    hang: method('/runtime/Hang', false, false),
  };
  const handlers: grpc.UntypedServiceImplementation = {
    unary(call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) {
      const head = new grpc.Metadata();
      for (const value of call.metadata.get('x-ask')) head.add('x-head', value);
      call.sendMetadata(head);
      const trail = new grpc.Metadata();
      for (const value of call.metadata.get('x-ask-bin')) trail.add('x-trail-bin', value);
      answer(null, call.request, trail);
    },
    collect(call: grpc.ServerReadableStream<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) {
      const parts: Buffer[] = [];
      call.on('data', (part: Buffer) => parts.push(part));
      call.on('end', () => answer(null, Buffer.concat(parts)));
    },
    count(call: grpc.ServerWritableStream<Buffer, Buffer>) {
      for (let n = 0; n < 3; n += 1) call.write(Buffer.from([n]));
      call.end();
    },
    echo(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
      call.on('data', (part: Buffer) => call.write(part));
      call.on('end', () => call.end());
    },
    fail(_call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) {
      const metadata = new grpc.Metadata();
      metadata.add('grpc-status-details-bin', Buffer.alloc(9000, 'd'));
      answer({ code: grpc.status.FAILED_PRECONDITION, details: `ü${'x'.repeat(9000)}`, metadata });
    },
    hang(call: grpc.ServerUnaryCall<Buffer, Buffer>) {
      call.on('cancelled', () => cancelled(call.getPath()));
    },
  };
  server.addService(definition, handlers);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${at.runtimePath}`, grpc.ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  t.teardown(() => server.forceShutdown());
  return { cancelled: done, server };
}

function connect(t: Test, at: Place, options: grpc.ClientOptions = {}): grpc.Client {
  const client = new grpc.Client(`unix:${at.listenPath}`, grpc.credentials.createInsecure(), {
    ...noLimit,
    'grpc.max_metadata_size': 64 * 1024,
    ...options,
  });
  t.teardown(() => client.close());
  return client;
}

interface Answer {
  readonly error: grpc.ServiceError | null;
  readonly body: Buffer | undefined;
  readonly head: grpc.Metadata | undefined;
  readonly trail: grpc.Metadata | undefined;
}

function ask(
  client: grpc.Client,
  name: string,
  body: Buffer,
  metadata = new grpc.Metadata(),
  options: grpc.CallOptions = {},
): Promise<Answer> {
  return new Promise((resolve) => {
    let head: grpc.Metadata | undefined;
    let trail: grpc.Metadata | undefined;
    let result: { error: grpc.ServiceError | null; body: Buffer | undefined } | undefined;
    const finish = (): void => {
      if (result !== undefined && trail !== undefined) resolve({ ...result, head, trail });
    };
    const call = client.makeUnaryRequest(name, identity, identity, body, metadata, options, (error, answer) => {
      result = { error, body: answer };
      finish();
    });
    call.on('metadata', (received) => {
      head = received;
    });
    call.on('status', (status) => {
      trail = status.metadata;
      finish();
    });
  });
}

t.test('calls of every kind, with metadata both ways, work through a link as they do directly', async (t) => {
  const at = place(t);
  const { cancelled } = await runtime(t, at);
  await listen(t, at);
  const client = connect(t, at);
  const metadata = new grpc.Metadata();
  metadata.add('x-ask', 'one, two');
  metadata.add('x-ask-bin', Buffer.from([0, 255, 7]));
  const unary = await ask(client, '/runtime/Unary', Buffer.from('hello'), metadata);
  t.equal(unary.body?.toString(), 'hello');
  t.strictSame(unary.head?.get('x-head'), ['one, two']);
  t.strictSame(unary.trail?.get('x-trail-bin'), [Buffer.from([0, 255, 7])]);

  const collected = await new Promise<Buffer | undefined>((resolve) => {
    const call = client.makeClientStreamRequest<Buffer, Buffer>(
      '/runtime/Collect',
      identity,
      identity,
      (_error, body) => resolve(body),
    );
    for (const part of ['a', 'b', 'c']) call.write(Buffer.from(part));
    call.end();
  });
  t.equal(collected?.toString(), 'abc');

  const counted: number[] = [];
  for await (const part of client.makeServerStreamRequest<Buffer, Buffer>(
    '/runtime/Count',
    identity,
    identity,
    Buffer.alloc(0),
  ))
    counted.push(part[0]);
  t.strictSame(counted, [0, 1, 2]);

  const echo = client.makeBidiStreamRequest<Buffer, Buffer>('/runtime/Echo', identity, identity);
  const echoed: string[] = [];
  echo.write(Buffer.from('ping'));
  for await (const part of echo) {
    echoed.push(part.toString());
    if (echoed.length < 3) echo.write(Buffer.from(`ping ${echoed.length}`));
    else echo.end();
  }
  t.strictSame(echoed, ['ping', 'ping 1', 'ping 2']);

  t.equal((await ask(client, '/unknown.Service/Method', Buffer.alloc(0))).error?.code, grpc.status.UNIMPLEMENTED);
  const failed = await ask(client, '/runtime/Fail', Buffer.alloc(0));
  t.equal(failed.error?.code, grpc.status.FAILED_PRECONDITION);
  t.equal(failed.error?.details, `ü${'x'.repeat(9000)}`);
  t.strictSame(failed.trail?.get('grpc-status-details-bin'), [Buffer.alloc(9000, 'd')]);

  const abandoned = client.makeUnaryRequest('/runtime/Hang', identity, identity, Buffer.alloc(0), () => {});
  abandoned.once('metadata', () => {});
  await ask(client, '/runtime/Unary', Buffer.alloc(0));
  abandoned.cancel();
  t.equal(await cancelled, '/runtime/Hang', 'a cancellation reaches the runtime');
});

t.test('a deadline reaches the runtime', async (t) => {
  const at = place(t);
  const { cancelled } = await runtime(t, at);
  await listen(t, at);
  const { error } = await ask(connect(t, at), '/runtime/Hang', Buffer.alloc(0), undefined, {
    deadline: Date.now() + 300,
  });
  t.equal(error?.code, grpc.status.DEADLINE_EXCEEDED);
  t.equal(await cancelled, '/runtime/Hang');
});

t.test('messages of 20 MiB go through, passed, taken and in both directions at once', async (t) => {
  const at = place(t);
  await runtime(t, at);
  const take = (call: TakenCall): void => {
    void call.send(call.request);
    void call.end(ok);
  };
  await listen(t, at, { handlers: { take } });
  const client = connect(t, at);
  const body = Buffer.alloc(20 * 1024 * 1024, 'm');
  const answers = await Promise.all(
    ['/runtime/Unary', '/take/A', '/runtime/Unary', '/take/B'].map((name) => ask(client, name, body)),
  );
  t.strictSame(
    answers.map((answer) => answer.body?.equals(body)),
    [true, true, true, true],
  );
});

t.test('taken and passed calls share a connection, and an answer is proven delivered', async (t) => {
  const at = place(t);
  await runtime(t, at);
  const proofs: Promise<boolean>[] = [];
  const take = (call: TakenCall): void => {
    call.sendInitialMetadata([['x-path', call.path]]);
    void call.send(Buffer.concat([Buffer.from('taken '), call.request]));
    proofs.push(call.end(ok));
  };
  const observed: string[] = [];
  const { links } = await listen(t, at, {
    handlers: { take, observe: (name, body) => observed.push(`${name} ${body}`) },
  });
  const client = connect(t, at);
  const names = Array.from({ length: 60 }, (_, n) => (n % 2 === 0 ? '/take/Call' : '/runtime/Unary'));
  const answers = await Promise.all(names.map((name, n) => ask(client, name, Buffer.from(`${n}`))));
  t.strictSame(
    answers.map(({ body }) => body?.toString()),
    names.map((_, n) => (n % 2 === 0 ? `taken ${n}` : `${n}`)),
  );
  t.strictSame(answers[0]?.head?.get('x-path'), ['/take/Call']);
  t.strictSame(
    await Promise.all(proofs),
    Array.from({ length: 30 }, () => true),
  );
  t.equal(links.length, 1);
  t.equal((await ask(client, '/observe/Unknown', Buffer.from('id'))).error?.code, grpc.status.UNIMPLEMENTED);
  t.strictSame(observed, ['/observe/Unknown id']);
});

t.test('a taken call that fails, streams, is cancelled or times out looks to its client like any other', async (t) => {
  const at = place(t);
  await runtime(t, at);
  const reasons: Record<string, Promise<string>> = {};
  const take = (call: TakenCall): void => {
    reasons[call.path] = new Promise((resolve) =>
      call.signal.addEventListener('abort', () => resolve(call.signal.reason)),
    );
    if (call.path === '/take/Fail') {
      void call.end({
        code: 9,
        message: 'name "ü" is reserved',
        trailers: [['grpc-status-details-bin', Buffer.alloc(20_000, 'd').toString('base64')]],
      });
    } else if (call.path === '/take/Stream') {
      void call
        .send(Buffer.from('one'))
        .then(() => call.send(Buffer.from('two')))
        .then(() => call.end(ok));
    }
  };
  await listen(t, at, { handlers: { take } });
  const client = connect(t, at);
  const failed = await ask(client, '/take/Fail', Buffer.alloc(0));
  t.equal(failed.error?.code, 9);
  t.equal(failed.error?.details, 'name "ü" is reserved');
  t.strictSame(failed.trail?.get('grpc-status-details-bin'), [Buffer.alloc(20_000, 'd')]);
  const streamed: string[] = [];
  for await (const part of client.makeServerStreamRequest<Buffer, Buffer>(
    '/take/Stream',
    identity,
    identity,
    Buffer.alloc(0),
  ))
    streamed.push(part.toString());
  t.strictSame(streamed, ['one', 'two']);
  const late = await ask(client, '/take/Late', Buffer.alloc(0), undefined, { deadline: Date.now() + 50 });
  t.equal(late.error?.code, grpc.status.DEADLINE_EXCEEDED);
  const cancelled = client.makeUnaryRequest('/take/Cancel', identity, identity, Buffer.alloc(0), () => {});
  await ask(client, '/runtime/Unary', Buffer.alloc(0));
  cancelled.cancel();
  t.equal(await reasons['/take/Cancel'], 'cancelled');
});

/** A socket that speaks frames. */
class RawPeer {
  readonly socket: net.Socket;
  readonly closed: Promise<void>;
  #bytes: Buffer = Buffer.alloc(0);
  readonly seen: Frame[] = [];
  #changed = (): void => {};

  constructor(socket: net.Socket, skip = 0) {
    this.socket = socket;
    let toSkip = skip;
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      socket.once('close', () => resolve());
    });
    socket.on('data', (chunk: Buffer) => {
      const { frames, length } = readFrames(
        Buffer.concat([this.#bytes, chunk.subarray(Math.min(toSkip, chunk.length))]),
      );
      this.#bytes = Buffer.concat([this.#bytes, chunk.subarray(Math.min(toSkip, chunk.length))]).subarray(length);
      toSkip -= Math.min(toSkip, chunk.length);
      this.seen.push(...frames);
      this.#changed();
    });
  }

  static async connect(t: Test, socketPath: string): Promise<RawPeer> {
    const socket = net.connect({ path: socketPath, allowHalfOpen: true });
    t.teardown(() => socket.destroy());
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
    return new RawPeer(socket);
  }

  send(...frames: Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  /** The first frame so shown, now or later. */
  async until(shown: string | RegExp): Promise<Frame> {
    for (;;) {
      const found = this.seen.find((one) => (typeof shown === 'string' ? show(one) === shown : shown.test(show(one))));
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

/** A runtime that speaks raw frames; resolves with each connection. */
async function rawRuntime(t: Test, at: Place): Promise<{ accepted: Promise<RawPeer>; server: net.Server }> {
  let accept = (_peer: RawPeer): void => {};
  const accepted = new Promise<RawPeer>((resolve) => {
    accept = resolve;
  });
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    t.teardown(() => socket.destroy());
    accept(new RawPeer(socket, connectionPreface.length));
  });
  await new Promise<void>((resolve) => server.listen(at.runtimePath, resolve));
  t.teardown(() => server.close());
  return { accepted, server };
}

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

t.test(
  'when the runtime closes, the client gets what was sent, taken calls are lost and the connection ends',
  async (t) => {
    const at = place(t);
    const { accepted } = await rawRuntime(t, at);
    let reason: Promise<string> | undefined;
    const take = (call: TakenCall): void => {
      reason = new Promise((resolve) => call.signal.addEventListener('abort', () => resolve(call.signal.reason)));
    };
    const { opened } = await listen(t, at, { handlers: { take } });
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
    server.send(settings(), headers(3, { 'grpc-status': '14' }, true));
    server.socket.end();
    await client.until('headers 3 end');
    t.equal(await reason, 'connection lost');
    await client.closed;
    await (await opened).closed;
  },
);

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

t.test('a violation ends the offender’s connection with GOAWAY, and another connection goes on', async (t) => {
  const at = place(t);
  await runtime(t, at);
  const violations: string[] = [];
  const { links } = await listen(t, at, {
    handlers: { violation: (peer, reason) => violations.push(`${peer}: ${reason}`) },
  });
  const good = connect(t, at);
  await ask(good, '/runtime/Unary', Buffer.alloc(0));
  const bad = await RawPeer.connect(t, at.listenPath);
  bad.socket.allowHalfOpen = false;
  bad.send(connectionPreface, settings(), frame(FrameType.headers, Flag.endHeaders, 1, Buffer.from([0x80])));
  const goAway = await bad.until(/^goAway/);
  t.equal(goAway.payload.readUInt32BE(4), ErrorCode.compressionError);
  await bad.closed;
  await links[1]?.closed;
  t.match(violations, [/^downstream: /]);
  t.equal((await ask(good, '/runtime/Unary', Buffer.from('still'))).body?.toString(), 'still');
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
