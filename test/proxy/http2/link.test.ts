/** A link on real unix sockets, between real gRPC clients and servers. */
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { connectionPreface, ErrorCode, Flag, FrameType, frame } from '../../../src/proxy/http2/frames.js';
import type { TakenCall } from '../../../src/proxy/taken-call.js';
import { listen, type Place, place, RawPeer } from './link-bench.js';
import { ok, settings } from './wire.js';

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
    handlers: {
      take,
      observe: (name, body) => {
        observed.push(`${name} ${body}`);
        return undefined;
      },
    },
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

t.test('a call that grpc-js ends with OK has succeeded, one that fails or is given up has not', async (t) => {
  const at = place(t);
  const { cancelled } = await runtime(t, at);
  const ends: string[] = [];
  await listen(t, at, {
    handlers: {
      decide: () => 'observe',
      observe: (name, body) => (succeeded) => ends.push(`${name} ${body} ${succeeded}`),
    },
  });
  const client = connect(t, at);
  for (const id of ['a', 'b']) await ask(client, '/runtime/Unary', Buffer.from(id));
  t.strictSame(ends.splice(0), ['/runtime/Unary a true', '/runtime/Unary b true']);
  await ask(client, '/runtime/Fail', Buffer.from('c'));
  await ask(client, '/runtime/Unknown', Buffer.from('d'));
  t.strictSame(ends.splice(0), ['/runtime/Fail c false', '/runtime/Unknown d false']);
  const abandoned = client.makeUnaryRequest('/runtime/Hang', identity, identity, Buffer.from('e'), () => {});
  await ask(client, '/runtime/Unary', Buffer.from('f'));
  t.strictSame(ends.splice(0), ['/runtime/Unary f true']);
  abandoned.cancel();
  t.equal(await cancelled, '/runtime/Hang');
  t.strictSame(ends, ['/runtime/Hang e false']);
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
