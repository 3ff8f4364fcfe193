/** The client of a case: opens streams of every decision and sends gRPC requests, well-formed and not. */
import { deflateSync, gzipSync } from 'node:zlib';
import type { Random } from '../../src/harness/random.js';
import { FrameType, frame, Setting } from '../../src/proxy/http2/frames.js';
import type { HeaderField } from '../../src/proxy/http2/hpack.js';
import { message, requestFields } from '../proxy/http2/wire.js';
import { Peer, type PeerStream, type Settings } from './peer.js';

const tables = [65_536, 8192, 4096, 4096, 300, 100, 0];
const windows = [0, 1, 100, 5000, 65_535, 65_535, 200_000, 1 << 20];

export class ClientPeer extends Peer {
  #nextId = 1;

  get mayOpen(): boolean {
    return this.#nextId <= this.lastServedId && this.streams.size < 40;
  }

  settings(random: Random): Settings {
    const values: [number, number][] = [];
    if (random.chance(0.6)) values.push([Setting.initialWindowSize, random.pick(windows)]);
    for (const chance of [0.3, 0.1])
      if (random.chance(chance)) values.push([Setting.headerTableSize, random.pick(tables)]);
    if (random.chance(0.3)) values.push([Setting.maxFrameSize, random.pick([16_384, 20_000, 65_536])]);
    if (random.chance(0.2)) values.push([random.between(6, 40), random.uint32()]);
    return values;
  }

  open(random: Random, path?: string): PeerStream {
    const id = this.#nextId;
    this.#nextId += random.chance(0.1) ? 4 : 2;
    const kind = random.pick(['/take', '/take', '/take', '/observe', '/report', '/report', '/pass', '/pass/stream']);
    const stream: PeerStream = {
      id,
      path: path ?? `${kind}/${id}`,
      window: this.initialWindow,
      granted: this.ownInitialWindow,
      ended: false,
      otherEnded: false,
      over: false,
      body: Buffer.alloc(0),
      headersSent: false,
    };
    this.streams.set(id, stream);
    return stream;
  }

  /** Opens a stream with a request of any sort. */
  request(random: Random): void {
    const stream = this.open(random);
    const extra: Record<string, string> = {};
    if (random.chance(0.25)) extra['grpc-timeout'] = random.pick(['1S', '100m', '100m', '50u', '2H', '99999999n', 'x']);
    if (random.chance(0.03)) extra['content-type'] = random.pick(['application/json', 'application/grpc+proto']);
    if (random.chance(0.02)) extra[':method'] = 'GET';
    if (random.chance(0.5)) extra['user-agent'] = 'grpc-go/1.49.0';
    if (random.chance(0.3)) extra[`x-name-${random.below(4)}`] = `value ${random.below(4)}`;
    if (random.chance(0.05)) extra['x-long'] = 'long '.repeat(random.size(200));
    const plain = random.bytes(random.chance(0.1) ? random.size(30_000) : random.size(900));
    let body = message(plain);
    if (random.chance(0.25)) {
      const encoding = random.pick(['gzip', 'deflate', 'identity', 'snappy']);
      extra['grpc-encoding'] = encoding;
      if (random.chance(0.7)) body = message(encoding === 'deflate' ? deflateSync(plain) : gzipSync(plain), true);
    }
    if (random.chance(0.1)) body = malformed(body, random);
    stream.body = body;
    const fields: HeaderField[] = requestFields(stream.path, extra);
    if (random.chance(0.2)) fields.push({ name: 'x-secret', value: `s${random.below(3)}`, neverIndexed: true });
    if (random.chance(0.02))
      fields.unshift({ name: random.pick([':path', ':method']), value: random.pick(['/pass/x', '/take/x']) });
    const alone = stream.body.length === 0 || random.chance(0.03);
    if (alone) stream.body = Buffer.alloc(0);
    this.sendHeaders(stream, fields, alone && random.chance(0.7), random);
    if (!stream.ended && random.chance(0.6)) this.sendData(stream, true, random);
  }

  trailers(stream: PeerStream, random: Random): void {
    this.sendHeaders(stream, [{ name: 'x-trailer', value: 'end' }], true, random);
  }

  /** A frame that means nothing to most. */
  oddity(random: Random): void {
    const { id } = random.pick([...this.streams.values(), { id: 0 }]);
    if (id !== 0 && random.chance(0.5)) this.write(frame(FrameType.priority, 0, id, Buffer.alloc(5)), random);
    else this.write(frame(random.between(0x20, 0xff), random.below(256), id, random.bytes(random.size(300))), random);
  }
}

function malformed(body: Buffer, random: Random): Buffer {
  switch (random.below(5)) {
    case 0:
      return Buffer.concat([body, body]);
    case 1:
      return body.subarray(0, random.below(body.length));
    case 2:
      return Buffer.concat([Buffer.from([random.pick([1, 2, 0xff])]), body.subarray(1)]);
    case 3:
      return Buffer.concat([Buffer.from([0, random.pick([0, 1, 0xff]), 0, 0]), body.subarray(4)]);
    default:
      return random.bytes(random.size(40));
  }
}
