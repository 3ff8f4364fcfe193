/** An HTTP/2 client that says what a test tells it to, as fast as it is taken, and keeps to no rule. */
import {
  connectionPreface,
  Flag,
  FrameType,
  frame,
  initialSettings,
  max31,
  Setting,
} from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock } from '../../../src/proxy/http2/hpack.js';
import { data, message, ping, requestFields, settings, settingsAck, windowUpdate } from '../../proxy/http2/wire.js';
import { FramePeer } from '../../support/frame-peer.js';

export interface RawClientOptions {
  /** SETTINGS_INITIAL_WINDOW_SIZE; default: all there is. */
  readonly window?: number;
  /** Reads and acknowledges what it is sent; default true. */
  readonly reads?: boolean;
}

/** What is written before it is known to be taken. */
const batchBytes = 64 * 1024;
/** Where nothing is taken for this long, the other end reads no more. */
const stalledMs = 2_000;

export class RawClient {
  readonly peer: FramePeer;
  #lastId = -1;

  static async open(socket: string, { window = max31, reads = true }: RawClientOptions = {}): Promise<RawClient> {
    const client = new RawClient(await FramePeer.connect(socket), reads);
    const all = windowUpdate(0, max31 - initialSettings.windowSize);
    client.peer.write(connectionPreface, settings([Setting.initialWindowSize, window]), all);
    return client;
  }

  private constructor(peer: FramePeer, reads: boolean) {
    this.peer = peer;
    if (!reads) peer.ignore();
    peer.onFrame = ({ type, flags, payload }) => {
      if ((flags & Flag.ack) !== 0) return;
      if (type === FrameType.settings) peer.write(settingsAck);
      if (type === FrameType.ping) peer.write(ping(payload, true));
    };
  }

  /**
   * Sends what `make` makes of a new stream id, again and again: until that was `times`, the connection is closed, or the other
   * end takes no more.
   *
   * @param patienceMs What it takes nothing for until then.
   */
  async flood(times: number, make: (id: number) => Buffer, patienceMs = stalledMs): Promise<void> {
    const batch: Buffer[] = [];
    let bytes = 0;
    for (let n = 1; n <= times; n++) {
      this.#lastId += 2;
      const made = make(this.#lastId);
      batch.push(made);
      bytes += made.length;
      if (bytes < batchBytes && n < times) continue;
      if (!(await this.#isTaken(Buffer.concat(batch.splice(0)), patienceMs))) return;
      bytes = 0;
    }
  }

  async #isTaken(bytes: Buffer, patienceMs: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const stalled = new Promise<false>((resolve) => {
      timer = setTimeout(resolve, patienceMs, false);
    });
    const written = this.peer.written(bytes).then(() => !this.peer.isOver);
    const taken = await Promise.race([written, this.peer.closed.then(() => false), stalled]);
    clearTimeout(timer);
    return taken;
  }
}

/** The header block of a gRPC request. */
export function requestBlock(path: string, extra: Readonly<Record<string, string>> = {}): Buffer {
  return encodeLiteralBlock(requestFields(path, extra));
}

/** HEADERS with a block made before, since those of a flood are mostly the same; with CONTINUATIONs where it is long. */
export function head(streamId: number, block: Buffer, endStream = false): Buffer {
  const { maxFrameSize } = initialSettings;
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < block.length; at += maxFrameSize) {
    const last = at + maxFrameSize >= block.length ? Flag.endHeaders : 0;
    const type = at === 0 ? FrameType.headers : FrameType.continuation;
    const flags = at === 0 && endStream ? last | Flag.endStream : last;
    frames.push(frame(type, flags, streamId, block.subarray(at, at + maxFrameSize)));
  }
  return Buffer.concat(frames);
}

/** The DATA frames of these bytes. */
export function body(streamId: number, bytes: Buffer, end: boolean): Buffer {
  const { maxFrameSize } = initialSettings;
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += maxFrameSize) {
    frames.push(data(streamId, bytes.subarray(at, at + maxFrameSize), end && at + maxFrameSize >= bytes.length));
  }
  return Buffer.concat(frames);
}

/** A whole unary request. */
export function unary(streamId: number, block: Buffer, request: Buffer | string = ''): Buffer {
  return Buffer.concat([head(streamId, block), body(streamId, message(request), true)]);
}
