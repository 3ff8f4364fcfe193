/** HPACK against node:http2 (nghttp2) as a second opinion: what it writes is read, and it reads what is written. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import {
  connectionPreface,
  Flag,
  FrameType,
  headersFrames,
  Setting,
  withoutPadding,
} from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock, type HeaderField, HpackDecoder } from '../../../src/proxy/http2/hpack.js';
import { fields, longText, readFrames, settings, settingsAck } from './wire.js';

function newDecoder(): HpackDecoder {
  return new HpackDecoder({ maxTableBytes: 4096, maxHeaderListBytes: 2 ** 20 });
}

/** In the order of their names; fields of one name keep theirs. */
function byName(list: readonly HeaderField[]): HeaderField[] {
  return list.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** The header blocks in what a client has sent so far, a block still incomplete left out. */
function headerBlocks(sent: Buffer): Buffer[] {
  const blocks: Buffer[] = [];
  let fragments: Buffer[] = [];
  for (const { type, flags, payload } of readFrames(sent.subarray(connectionPreface.length)).frames) {
    if (type === FrameType.headers) {
      const content = withoutPadding(flags, payload);
      assert.ok(content);
      fragments.push((flags & Flag.priority) === 0 ? content : content.subarray(5));
    } else if (type === FrameType.continuation) fragments.push(payload);
    else continue;
    if ((flags & Flag.endHeaders) !== 0) {
      blocks.push(Buffer.concat(fragments));
      fragments = [];
    }
  }
  return blocks;
}

async function listening(server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A node:http2 client connected to a bare socket that records what it sends. */
async function recordClient() {
  let sent: Buffer = Buffer.alloc(0);
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      sent = Buffer.concat([sent, chunk]);
      server.emit('recorded');
    });
  });
  const client = http2.connect(`http://127.0.0.1:${await listening(server)}`);
  client.on('error', () => {});
  await Promise.all([once(client, 'connect'), once(server, 'connection')]);

  return {
    request(headers: http2.OutgoingHttpHeaders): void {
      client.request(headers).on('error', () => {});
    },
    /** Resolves with all blocks sent so far once there are `count`. */
    async blocks(count: number): Promise<Buffer[]> {
      while (headerBlocks(sent).length < count) await once(server, 'recorded');
      return headerBlocks(sent);
    },
    /** Sends SETTINGS_HEADER_TABLE_SIZE; resolves once the client has taken it in. */
    async setTableSize(bytes: number): Promise<void> {
      const taken = once(client, 'remoteSettings');
      for (const socket of sockets) socket.write(settings([Setting.headerTableSize, bytes]));
      await taken;
    },
    close(): void {
      client.destroy();
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** A node:http2 server that is sent header blocks over a bare socket and says what it has read. */
async function readingServer() {
  const server = http2.createServer({ maxHeaderListPairs: 512 });
  server.on('sessionError', () => {});
  const port = await listening(server);
  const socket = net.connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.resume();
  socket.write(Buffer.concat([connectionPreface, settings()]));
  let streamId = -1;

  return {
    /** Fields as names and values in turn, and the names of the never-indexed ones. */
    async read(block: Buffer): Promise<{ raw: string[]; sensitive: string[] }> {
      streamId += 2;
      const arrived = once(server, 'stream');
      socket.write(headersFrames(streamId, block, true));
      const [stream, headers, , raw] = (await arrived) as [
        http2.ServerHttp2Stream,
        http2.IncomingHttpHeaders,
        number,
        string[],
      ];
      stream.on('error', () => {});
      // Answered, so that the server has no more than one open.
      stream.respond({ ':status': 204 }, { endStream: true });
      return { raw, sensitive: headers[http2.sensitiveHeaders as unknown as string] as unknown as string[] };
    },
    close(): void {
      socket.destroy();
      server.close();
    },
  };
}

t.test('what the node:http2 client sends is decoded, through its dynamic table and beyond', async (t) => {
  const recorder = await recordClient();
  t.teardown(() => recorder.close());
  const headers = (path: string) => ({
    ':method': 'POST',
    ':scheme': 'http',
    ':authority': 'localhost',
    ':path': path,
    'content-type': 'application/grpc',
    'user-agent': 'grpc-go/1.49.0',
    te: 'trailers',
    'grpc-timeout': '1999999u',
  });
  const expected = (path: string) => byName(fields(headers(path)));
  const decoder = newDecoder();

  recorder.request(headers('/runtime.v1.RuntimeService/Version'));
  recorder.request(headers('/runtime.v1.RuntimeService/Status'));
  recorder.request({ ...headers('/secret'), authorization: 'Bearer', [http2.sensitiveHeaders]: ['authorization'] });
  const early = (await recorder.blocks(3)).map((block) => decoder.decode(block));
  t.strictSame(byName(early[0]?.fields ?? []), expected('/runtime.v1.RuntimeService/Version'), 'first');
  t.strictSame(byName(early[1]?.fields ?? []), expected('/runtime.v1.RuntimeService/Status'), 'second');
  t.strictSame(
    byName(early[2]?.fields ?? []),
    byName([...expected('/secret'), { name: 'authorization', value: 'Bearer', neverIndexed: true }]),
    'a sensitive field stays marked as such',
  );
  t.strictSame(
    early.map(({ selfContained }) => selfContained),
    [false, false, false],
    'a table of 4096 bytes is made use of',
  );
  t.ok(decoder.tableBytes > 0);

  await recorder.setTableSize(0);
  recorder.request(headers('/runtime.v1.RuntimeService/Version'));
  recorder.request(headers('/runtime.v1.RuntimeService/Status'));
  const late = (await recorder.blocks(5)).slice(3).map((block) => decoder.decode(block));
  t.strictSame(byName(late[0]?.fields ?? []), expected('/runtime.v1.RuntimeService/Version'), 'fourth');
  t.strictSame(byName(late[1]?.fields ?? []), expected('/runtime.v1.RuntimeService/Status'), 'fifth');
  t.strictSame(
    late.map(({ selfContained, sizeUpdate }) => ({ selfContained, sizeUpdate })),
    [
      { selfContained: true, sizeUpdate: true },
      { selfContained: true, sizeUpdate: false },
    ],
    'a client told to use no table says so once and sends self-contained blocks',
  );
  t.equal(decoder.tableBytes, 0);
});

/** What a field value may hold: everything but controls, less the tab, and DEL. */
const sendable = [9, ...Array.from({ length: 256 - 32 }, (_, i) => 32 + i).filter((octet) => octet !== 127)];

t.test('every octet that node:http2 can send comes out of its Huffman coding', async (t) => {
  const recorder = await recordClient();
  t.teardown(() => recorder.close());
  // Zeros have the shortest code, so that Huffman coding pays for every octet among them.
  const zeros = '0'.repeat(12);
  const values = new Map(
    sendable.map((octet) => [`x-${octet}`, `${zeros}${String.fromCharCode(octet)}${zeros}`] as const),
  );
  recorder.request({ ':path': '/', ...Object.fromEntries(values) });
  const [block] = await recorder.blocks(1);
  assert.ok(block);
  t.notOk(block.includes(zeros), 'the client has coded every value');
  const custom = newDecoder()
    .decode(block)
    .fields.filter(({ name }) => name.startsWith('x-'));
  t.strictSame(new Map(custom.map(({ name, value }) => [name, value])), values);
});

// Names and values from small pools come again, so that the table is made use of.
const tokens = fc.stringMatching(/^[a-z0-9!#$%&'*+.^_`|~-]{1,20}$/).map((token) => `x-${token}`);
const names = fc.oneof(
  fc.constantFrom('user-agent', 'content-type', 'accept', 'etag', 'grpc-timeout', 'x-a', 'x-b'),
  tokens,
);
const octets = fc.constantFrom(...sendable.map((octet) => String.fromCharCode(octet)));
// nghttp2 takes no value that begins or ends with a blank (RFC 9113 section 8.2.1).
const values = fc.oneof(
  fc.constantFrom('', 'a', 'application/grpc', '1999999u'),
  fc.string({ unit: octets, maxLength: 30 }).map((text) => text.trim()),
  fc.string({ unit: octets, minLength: 100, maxLength: 1500 }).map((text) => text.trim()),
);
const lists: fc.Arbitrary<HeaderField[]> = fc.array(
  fc.record(
    { name: names, value: values, neverIndexed: fc.constant(true) },
    { requiredKeys: ['name', 'value'], noNullPrototype: true },
  ),
  { maxLength: 12 },
);

/** One value of a name, or those of repeatable names; a sensitive name is so in all its values. */
function sendableList(list: readonly HeaderField[]): HeaderField[] {
  const once = list.filter(
    ({ name }, at) => name.startsWith('x-') || list.findIndex((other) => other.name === name) === at,
  );
  const sensitive = new Set(once.filter(({ neverIndexed }) => neverIndexed).map(({ name }) => name));
  return once.map(({ name, value }) => (sensitive.has(name) ? { name, value, neverIndexed: true } : { name, value }));
}

const pseudo = { ':method': 'POST', ':scheme': 'http', ':authority': 'localhost', ':path': '/' };

function outgoing(list: readonly HeaderField[]): http2.OutgoingHttpHeaders {
  const headers: Record<string | symbol, string | string[]> = { ...pseudo };
  for (const { name, value } of list) {
    const before = headers[name];
    headers[name] = before === undefined ? value : [before, value].flat();
  }
  headers[http2.sensitiveHeaders] = list.filter(({ neverIndexed }) => neverIndexed).map(({ name }) => name);
  return headers;
}

t.test('whatever the node:http2 client sends over a connection is decoded to the same fields', async () => {
  const tableSize = fc.constantFrom(0, 100, 300, 1000, 4096);
  const connection = fc.array(
    fc.record({ tableSizes: fc.oneof(fc.constant([]), fc.array(tableSize, { maxLength: 2 })), list: lists }),
    { minLength: 1, maxLength: 20 },
  );
  let tableUses = 0;
  let sizeUpdates = 0;
  await fc.assert(
    fc.asyncProperty(connection, async (requests) => {
      const recorder = await recordClient();
      try {
        const decoder = newDecoder();
        for (const [at, { tableSizes, list }] of requests.entries()) {
          for (const bytes of tableSizes) await recorder.setTableSize(bytes);
          const sent = sendableList(list);
          recorder.request(outgoing(sent));
          const block = (await recorder.blocks(at + 1))[at];
          assert.ok(block);
          const { fields: decoded, selfContained, sizeUpdate } = decoder.decode(block);
          assert.deepStrictEqual(byName(decoded), byName([...fields(pseudo), ...sent]));
          if (!selfContained) tableUses += 1;
          if (sizeUpdate) sizeUpdates += 1;
        }
      } finally {
        recorder.close();
      }
    }),
    { numRuns: 100 },
  );
  assert.ok(tableUses > 0 && sizeUpdates > 0, 'the table is made use of and changes its size');
});

t.test('the node:http2 server reads what encodeLiteralBlock writes', async (t) => {
  const server = await readingServer();
  t.teardown(() => server.close());
  const sent: HeaderField[] = [
    ...fields({ ':method': 'POST', ':scheme': 'http', ':path': '/runtime.v1.RuntimeService/RunPodSandbox' }),
    ...fields({ ':authority': 'localhost', te: 'trailers', 'www-authenticate': 'x', long: 'l'.repeat(1337) }),
    { name: 'authorization', value: 'Bearer', neverIndexed: true },
    { name: 'secret', value: 'yes', neverIndexed: true },
  ];
  const { raw, sensitive } = await server.read(encodeLiteralBlock(sent, [0, 4096]));
  t.strictSame(
    raw,
    sent.flatMap(({ name, value }) => [name, value]),
  );
  t.strictSame(sensitive, ['authorization', 'secret']);
});

t.test('the node:http2 server reads every octet it takes in the Huffman code of encodeLiteralBlock', async (t) => {
  const server = await readingServer();
  t.teardown(() => server.close());
  const zeros = '0'.repeat(12);
  const texts = sendable.map((octet) => `${zeros}${String.fromCharCode(octet)}${zeros}`);
  const custom = texts.map((value, at) => ({ name: `x-${sendable[at]}`, value }));
  const block = encodeLiteralBlock([...fields(pseudo), ...custom]);
  t.notOk(block.includes(zeros), 'every value is coded');
  const { raw } = await server.read(block);
  t.strictSame(
    raw.slice(2 * fields(pseudo).length),
    custom.flatMap(({ name, value }) => [name, value]),
  );
});

t.test('whatever encodeLiteralBlock writes over a connection, the node:http2 server reads', async (t) => {
  const server = await readingServer();
  t.teardown(() => server.close());
  const sizes = fc.array(fc.nat({ max: 4096 }), { maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(lists, sizes, async (list, sizeUpdates) => {
      const sent = [...fields(pseudo), ...list];
      const { raw, sensitive } = await server.read(encodeLiteralBlock(sent, sizeUpdates));
      assert.deepStrictEqual(
        raw,
        sent.flatMap(({ name, value }) => [name, value]),
      );
      const marked = list.filter(({ neverIndexed }) => neverIndexed).map(({ name }) => name);
      assert.deepStrictEqual(sensitive, marked);
    }),
    { numRuns: 400 },
  );
});

/** The header fields of the answer that a node:http2 client gets. */
async function answerOf(server: net.Server): Promise<http2.IncomingHttpHeaders> {
  const client = http2.connect(`http://127.0.0.1:${await listening(server)}`);
  try {
    const request = client.request({ ':method': 'POST', ':path': '/runtime.v1.RuntimeService/RunPodSandbox' });
    request.end();
    const [headers] = (await once(request, 'response')) as [http2.IncomingHttpHeaders];
    return headers;
  } finally {
    client.destroy();
    server.close();
  }
}

t.test('an nghttp2 client gets a grpc-message of 70,000 bytes from Holdfast as from nghttp2 itself', async (t) => {
  const answer = {
    ':status': '200',
    'content-type': 'application/grpc',
    'grpc-status': '2',
    'grpc-message': longText(70_000),
  };
  const block = encodeLiteralBlock(fields(answer));
  const own = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.write(Buffer.concat([settings(), settingsAck]));
    let sent: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      sent = Buffer.concat([sent, chunk]);
      if (sent.length > connectionPreface.length && headerBlocks(sent).length === 1) {
        socket.write(headersFrames(1, block, true));
      }
    });
  });
  const nghttp2 = http2.createServer({ maxSendHeaderBlockLength: 2 ** 20 });
  nghttp2.on('stream', (stream) => stream.respond(answer, { endStream: true }));
  for (const [name, server] of Object.entries({ own, nghttp2 })) {
    t.match(await answerOf(server), { 'grpc-status': '2', 'grpc-message': answer['grpc-message'] }, name);
  }
});
