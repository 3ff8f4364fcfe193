/** Holdfast's own gRPC client with the servers of libraries, and with header blocks and messages of any size. */
import { once } from 'node:events';
import http2 from 'node:http2';
import t, { type Test } from 'tap';
import { systemClock } from '../../../src/clock.js';
import { ErrorCode, FrameType } from '../../../src/proxy/http2/frames.js';
import { type Upstream, UpstreamStatusError } from '../../../src/proxy/upstream.js';
import { anyService, startBackend } from '../../support/any-backend.js';
import { openClient, rawScene, responseHeaders, socketPath, until } from './raw-runtime.js';
import { data, headers, message } from './wire.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const ask = Buffer.from('ask');

async function failureOf(call: Promise<unknown>): Promise<UpstreamStatusError> {
  const end = await call.catch((error: unknown) => error);
  if (end instanceof UpstreamStatusError) return end;
  throw new Error(`ended with ${end}`);
}

/** A client of a grpc-js server. */
async function withBackend(t: Test): Promise<Upstream> {
  const at = socketPath(t);
  const server = await startBackend(at);
  const { client } = openClient(t, at, systemClock);
  t.teardown(() => server.forceShutdown());
  return client;
}

/** A client of a node:http2 server, and what is done with each request when it is whole. */
async function withHttp2(
  t: Test,
  options: http2.ServerOptions,
  handle: (stream: http2.ServerHttp2Stream, body: Buffer, headers: http2.IncomingHttpHeaders) => void,
): Promise<{ client: Upstream; sessions: http2.ServerHttp2Session[] }> {
  const at = socketPath(t);
  const server = http2.createServer(options);
  const sessions: http2.ServerHttp2Session[] = [];
  server.on('session', (session) => sessions.push(session));
  server.on('stream', (stream, fields) => {
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('error', () => {});
    stream.on('end', () => handle(stream, Buffer.concat(parts), fields));
  });
  server.listen(at);
  await once(server, 'listening');
  const { client } = openClient(t, at, systemClock);
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { client, sessions };
}

function respond(stream: http2.ServerHttp2Stream, body: Buffer, trailers: http2.OutgoingHttpHeaders = {}): void {
  stream.respond(responseHeaders, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', ...trailers }));
  stream.end(body);
}

t.test('grpc-js: metadata, trailers and deadline go both ways', async (t) => {
  const client = await withBackend(t);
  const metadata: [string, string][] = [
    ['x-asked', 'one'],
    ['x-asked', 'two, three'],
    ['x-asked-bin', 'AAECAw=='],
  ];
  const answer = await client.unary(`${anyService}/unary`, ask, { metadata, timeoutMs: 30_000 });
  t.ok(answer.message.equals(ask));
  const seen = answer.initialMetadata.filter(([name]) => name.startsWith('x-seen'));
  t.strictSame(
    seen
      .filter(([name]) => name === 'x-seen')
      .map(([, value]) => value)
      .join(', '),
    'one, two, three',
  );
  t.ok(seen.some(([name, value]) => name === 'x-seen-bin' && Buffer.from(value, 'base64').length === 4));
  const left = Number(answer.initialMetadata.find(([name]) => name === 'x-timeout-ms')?.[1]);
  t.ok(left > 0 && left <= 30_000, `${left} ms`);
  t.strictSame(answer.status.trailers, [['x-last', 'trailer']]);
});

t.test('grpc-js: a failure comes with its text, its details and its trailers', async (t) => {
  const client = await withBackend(t);
  const metadata: [string, string][] = [
    ['x-fail', '1'],
    ['x-long', '1'],
  ];
  const { status } = await failureOf(client.unary(`${anyService}/unary`, ask, { metadata }));
  t.equal(status.code, 15);
  t.equal(status.message, 'lost: ü%\n'.repeat(100));
  t.match(status.wireMessage, /^lost:(?: |%20)%C3%BC%25%0A/);
  const names = status.trailers.map(([name]) => name).sort();
  t.strictSame(names, ['date', 'grpc-status-details-bin', 'x-last', 'x-last-bin']);
});

t.test('grpc-js: a server stream that is left is left at the server', async (t) => {
  const client = await withBackend(t);
  const metadata: [string, string][] = [['x-key', 'k']];
  const stream = client.serverStream(`${anyService}/hang`, ask, { metadata });
  await stream.initialMetadata;
  const left = client.unary(`${anyService}/left`, ask, { metadata });
  await stream[Symbol.asyncIterator]().return?.();
  t.ok((await left).message.equals(ask));
});

t.test('grpc-js: 16 MiB there and back, twice, with small calls beside them', async (t) => {
  const client = await withBackend(t);
  const body = Buffer.alloc(16 * MiB, 'sixteen');
  const large = client.unary(`${anyService}/unary`, body);
  const small = await Promise.all(Array.from({ length: 50 }, () => client.unary(`${anyService}/unary`, ask)));
  t.ok(small.every((answer) => answer.message.equals(ask)));
  t.ok((await large).message.equals(body));
  const stream = client.serverStream(`${anyService}/serverStream`, body);
  let count = 0;
  for await (const part of stream) count += part.equals(body) ? 1 : 0;
  t.equal(count, 2);
  t.equal((await stream.status).code, 0);
});

t.test('grpc-js: a method that is not there', async (t) => {
  const client = await withBackend(t);
  t.equal((await failureOf(client.unary('/no.Such/Method', ask))).status.code, 12);
});

t.test('node:http2 with windows of 64 KiB: 16 MiB there and back', async (t) => {
  const settings = { initialWindowSize: 65_535, maxFrameSize: 16_384 };
  const { client } = await withHttp2(t, { settings }, (stream, body) => respond(stream, body));
  const body = Buffer.alloc(16 * MiB, 'http2');
  t.ok((await client.unary('/s/Echo', body)).message.equals(body));
});

t.test('node:http2 without a header table takes call after call', async (t) => {
  const { client } = await withHttp2(t, { settings: { headerTableSize: 0 } }, (stream, body) => respond(stream, body));
  for (let n = 0; n < 3; n++) t.ok((await client.unary('/s/Echo', ask)).message.equals(ask));
});

t.test('node:http2 with windows of 1 byte: a request still gets through', async (t) => {
  const { client } = await withHttp2(t, { settings: { initialWindowSize: 1 } }, (stream, body) =>
    respond(stream, body),
  );
  t.ok((await client.unary('/s/Echo', Buffer.alloc(1000, 1))).message.equals(Buffer.alloc(1000, 1)));
});

t.test('node:http2 that allows 4 streams: 40 endless ones and calls beside them', async (t) => {
  const endless: http2.ServerHttp2Stream[] = [];
  const { client, sessions } = await withHttp2(t, { settings: { maxConcurrentStreams: 4 } }, (stream, body, fields) => {
    if (fields[':path'] === '/s/Events') endless.push(stream);
    else respond(stream, body);
  });
  const streams = Array.from({ length: 40 }, () => client.serverStream('/s/Events', ask));
  await until(() => endless.length === 40);
  for (let n = 0; n < 40; n++) t.ok((await client.unary('/s/Echo', ask)).message.equals(ask));
  t.ok(sessions.length >= 11 && sessions.length <= 50, `${sessions.length} sessions`);
  for (const stream of endless) respond(stream, message('event'));
  for (const stream of streams) t.equal((await stream.status).code, 0);
  await until(() => sessions.filter(({ destroyed }) => !destroyed).length === 1);
});

t.test('node:http2 that stops gracefully under a storm loses no call', async (t) => {
  const { client, sessions } = await withHttp2(t, {}, (stream, body) => {
    setTimeout(() => respond(stream, body), 2);
  });
  let stopped = 0;
  const callers = Array.from({ length: 20 }, async () => {
    for (let n = 0; n < 20; n++) await client.unary('/s/Echo', ask);
  });
  const stopping = setInterval(() => {
    const session = sessions.at(-1);
    if (session === undefined || session.closed) return;
    session.close();
    stopped++;
  }, 5);
  await Promise.all(callers);
  clearInterval(stopping);
  t.ok(stopped > 1, `${stopped} sessions were stopped`);
});

for (const length of [1, 12, 64, 90, 200, 2 * KiB].map((n) => n * KiB)) {
  t.test(`a header field of ${length} bytes arrives, and the next call as well`, async (t) => {
    const { runtime, client } = await rawScene(t);
    const text = 'long%20'.repeat(length / 7 + 1).slice(0, length);
    const trailersOnly = failureOf(client.unary('/s/A', ask));
    const inTrailers = failureOf(client.unary('/s/B', ask));
    const inHeaders = client.unary('/s/C', ask);
    const connection = await runtime.connection();
    await connection.request(2);
    connection.write(
      headers(1, { ...responseHeaders, 'grpc-status': '2', 'grpc-message': text }, true),
      headers(3, responseHeaders),
      headers(3, { 'grpc-status': '2', 'grpc-message': text, 'x-t': text }, true),
      headers(5, { ...responseHeaders, 'x-i': text }),
      data(5, message('answer')),
      headers(5, { 'grpc-status': '0' }, true),
    );
    t.ok((await trailersOnly).status.wireMessage === text);
    t.ok((await trailersOnly).status.message === text.replaceAll('%20', ' '));
    const { status } = await inTrailers;
    t.ok(status.wireMessage === text && status.trailers[0]?.[1] === text);
    t.ok((await inHeaders).initialMetadata[0]?.[1] === text);
    const next = client.unary('/s/D', ask);
    await connection.request(3);
    connection.answer(7);
    t.equal((await next).message.toString(), 'answer');
    t.notOk(connection.frames.some(({ type }) => type === FrameType.goAway));
  });
}

t.test('node:http2: a field of 200 KB, Huffman-coded and cut into frames by nghttp2', async (t) => {
  const text = 'failed to set up: '.repeat(12_000);
  const options = { maxSendHeaderBlockLength: MiB };
  const { client } = await withHttp2(t, options, (stream) => {
    stream.respond({ ...responseHeaders, 'grpc-status': '2', 'grpc-message': text }, { endStream: true });
  });
  const { status } = await failureOf(client.unary('/s/M', ask));
  t.equal(status.code, 2);
  t.ok(status.message === text);
});

t.test('node:http2: a refused stream is called again', async (t) => {
  let refused = 0;
  const { client } = await withHttp2(t, {}, (stream, body) => {
    if (refused++ < 2) stream.close(ErrorCode.refusedStream);
    else respond(stream, body);
  });
  t.ok((await client.unary('/s/Echo', ask)).message.equals(ask));
});
