/**
 * What one peer's bytes say, read frame by frame as a strict receiver reads them: per stream the header blocks and data
 * in order, and what was spent and granted. It knows one direction at one place and no router.
 */
import { Flag, FrameType, frameHeaderBytes, max31, withoutPadding } from '../../src/proxy/http2/frames.js';
import { type DecodedBlock, HpackDecoder } from '../../src/proxy/http2/hpack.js';
import { type Frame, readFrames } from '../proxy/http2/wire.js';

/** Part of a stream: a header block, a frame, or the data between two of those; `end` is END_STREAM. */
export type Item =
  | { readonly kind: 'data'; readonly parts: Buffer[] }
  | { readonly kind: 'block' | 'frame' | 'end'; readonly text: string };

export class StreamLog {
  readonly items: Item[] = [];
  /** DATA as flow control counts it. */
  spent = 0;
  /** Sum of WINDOW_UPDATE. */
  granted = 0;
  ends = 0;
  reset = false;

  get data(): Buffer {
    return Buffer.concat(this.items.flatMap((item) => (item.kind === 'data' ? item.parts : [])));
  }

  get dataBytes(): number {
    let bytes = 0;
    for (const item of this.items) if (item.kind === 'data') for (const part of item.parts) bytes += part.length;
    return bytes;
  }

  add(kind: 'block' | 'frame' | 'end', text: string): void {
    this.items.push({ kind, text });
  }

  addData(data: Buffer): void {
    if (data.length === 0) return;
    const last = this.items.at(-1);
    if (last?.kind === 'data') last.parts.push(data);
    else this.items.push({ kind: 'data', parts: [data] });
  }
}

/** What a stream carried, in order. */
export type Items = Pick<StreamLog, 'items'>;

interface Watcher {
  /** Each frame, before it is taken in. */
  frame?(frame: Frame): void;
  /** Each header block, after it is taken in; not pushed ones. */
  block?(streamId: number, decoded: DecodedBlock, sizeUpdates: readonly number[]): void;
  /** The bytes are not what a peer may write. */
  illegal?(reason: string): void;
}

interface OpenBlock {
  readonly frame: Frame;
  readonly fragments: Buffer[];
}

export class FrameLog {
  readonly streams = new Map<number, StreamLog>();
  /** PING, SETTINGS, GOAWAY, in order; stream 0 in `streams` has the rest. */
  readonly control: {
    readonly type: number;
    readonly ack: boolean;
    readonly streamId: number;
    readonly payload: string;
  }[] = [];
  frames = 0;
  /** A header block could not be decoded: no field is known from there on. */
  decoderLost = false;
  /** DATA of all streams as flow control counts it. */
  spent = 0;
  readonly #watcher: Watcher;
  readonly #decoder: HpackDecoder;
  #rest: Buffer = Buffer.alloc(0);
  #block: OpenBlock | undefined;

  /** @param decoderBytes The decoder's limit; its table starts with 4096 bytes. */
  constructor(watcher: Watcher, decoderBytes = 1 << 20) {
    this.#watcher = watcher;
    this.#decoder = new HpackDecoder({ maxTableBytes: decoderBytes, maxHeaderListBytes: 1 << 24 });
    if (decoderBytes > 4096) this.#decoder.decode(Buffer.from([0x3f, 0xe1, 0x1f]));
  }

  get atBoundary(): boolean {
    return this.#rest.length === 0 && this.#block === undefined;
  }

  /** The stream of the frame, or the header block, that is not there yet to its end; 0: none. */
  get streamInArrival(): number {
    if (this.#rest.length >= frameHeaderBytes) return this.#rest.readUInt32BE(5) & max31;
    return this.#block?.frame.streamId ?? 0;
  }

  /** Connection window granted by this peer. */
  get granted(): number {
    return this.stream(0).granted;
  }

  stream(id: number): StreamLog {
    let stream = this.streams.get(id);
    if (stream === undefined) {
      stream = new StreamLog();
      this.streams.set(id, stream);
    }
    return stream;
  }

  push(bytes: Buffer): void {
    const { frames, length } = readFrames(this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]));
    const total = this.#rest.length + bytes.length;
    this.#rest = length === total ? Buffer.alloc(0) : Buffer.concat([this.#rest, bytes]).subarray(length);
    for (const frame of frames) {
      this.#watcher.frame?.(frame);
      this.#add(frame);
      this.frames += 1;
    }
  }

  #illegal(reason: string): void {
    this.#watcher.illegal?.(reason);
  }

  #add(frame: Frame): void {
    const { type, flags, streamId, payload } = frame;
    const opened = this.#block;
    if (
      (type === FrameType.continuation) !== (opened !== undefined) ||
      (opened && opened.frame.streamId !== streamId)
    ) {
      this.#illegal(`frame type ${type} of stream ${streamId} in or out of a header block`);
      this.#block = undefined;
      return;
    }
    const stream = this.stream(streamId);
    switch (type) {
      case FrameType.data:
        this.spent += payload.length;
        stream.spent += payload.length;
        stream.addData(withoutPadding(flags, payload) ?? payload);
        if ((flags & Flag.endStream) !== 0) this.#end(stream);
        break;
      case FrameType.headers:
      case FrameType.pushPromise:
        this.#block = { frame, fragments: [] };
        this.#fragment(type === FrameType.headers ? this.#headerFragment(frame) : payload.subarray(4), flags);
        break;
      case FrameType.continuation:
        this.#fragment(payload, flags);
        break;
      case FrameType.rstStream:
        stream.reset = true;
        stream.add('frame', `reset ${payload.toString('hex')}`);
        break;
      case FrameType.windowUpdate:
        if (payload.length === 4) stream.granted += payload.readUInt32BE(0) & max31;
        break;
      case FrameType.settings:
      case FrameType.ping:
      case FrameType.goAway: {
        const ack = type !== FrameType.goAway && (flags & Flag.ack) !== 0;
        this.control.push({ type, ack, streamId, payload: payload.toString('hex') });
        break;
      }
      default:
        stream.add('frame', `type ${type} flags ${flags} ${payload.toString('hex')}`);
    }
  }

  #headerFragment({ flags, payload }: Frame): Buffer {
    const content = withoutPadding(flags, payload);
    const priority = (flags & Flag.priority) === 0 ? 0 : 5;
    if (content !== undefined && content.length >= priority) return content.subarray(priority);
    this.#illegal('padding or priority exceeds a HEADERS frame');
    return Buffer.alloc(0);
  }

  #fragment(fragment: Buffer, flags: number): void {
    const opened = this.#block;
    if (opened === undefined) return;
    opened.fragments.push(fragment);
    if ((flags & Flag.endHeaders) === 0) return;
    this.#block = undefined;
    const { frame } = opened;
    if (this.decoderLost) return;
    const block = Buffer.concat(opened.fragments);
    let decoded: DecodedBlock;
    try {
      decoded = this.#decoder.decode(block);
    } catch (error) {
      this.decoderLost = true;
      this.#illegal(`header block of stream ${frame.streamId}: ${String(error)}`);
      return;
    }
    if (frame.type === FrameType.pushPromise) return;
    const stream = this.stream(frame.streamId);
    const priority = (frame.flags & Flag.priority) === 0 ? '' : priorityOf(frame);
    stream.add('block', `${priority}${JSON.stringify(decoded.fields)}`);
    if ((frame.flags & Flag.endStream) !== 0) this.#end(stream);
    this.#watcher.block?.(frame.streamId, decoded, sizeUpdatesOf(block));
  }

  #end(stream: StreamLog): void {
    stream.ends += 1;
    stream.add('end', '');
  }
}

function priorityOf({ flags, payload }: Frame): string {
  return withoutPadding(flags, payload)?.toString('hex', 0, 5) ?? '';
}

/** Dynamic table size updates (RFC 7541 section 6.3) ahead of the fields of a well-formed block. */
function sizeUpdatesOf(block: Buffer): number[] {
  const sizes: number[] = [];
  let at = 0;
  for (let first = block[at]; first !== undefined && (first & 0xe0) === 0x20; first = block[at]) {
    let size = first & 0x1f;
    at += 1;
    for (let shift = 0, more = size === 0x1f; more; shift += 7, at++) {
      const octet = block[at] ?? 0;
      size += (octet & 0x7f) * 2 ** shift;
      more = octet >= 0x80;
    }
    sizes.push(size);
  }
  return sizes;
}

/** @returns What of it is not PRIORITY or of a type nobody knows, RST_STREAM left out too. */
export function withoutExtensions({ items }: Items): Items {
  const kept: Item[] = [];
  for (const item of items) {
    const last = kept.at(-1);
    if (item.kind === 'data' && last?.kind === 'data') kept[kept.length - 1] = joined(last.parts, item.parts);
    else if (item.kind !== 'frame') kept.push(item);
  }
  return { items: kept };
}

function joined(parts: readonly Buffer[], more: readonly Buffer[]): Item {
  return { kind: 'data', parts: [...parts, ...more] };
}

/**
 * Compares what was received with what was sent, where the end of it may be missing.
 *
 * @returns What is wrong; `complete` where nothing is missing.
 */
export function comparePrefix(received: Items, sent: Items): { wrong?: string; complete: boolean } {
  for (const [at, got] of received.items.entries()) {
    const was = sent.items[at];
    if (was === undefined || was.kind !== got.kind) {
      return {
        wrong: `item ${at}: ${show(got)} instead of ${was === undefined ? 'nothing' : show(was)}`,
        complete: false,
      };
    }
    if (got.kind !== 'data' || was.kind !== 'data') {
      if ('text' in got && 'text' in was && got.text !== was.text) {
        return { wrong: `item ${at}: ${show(got)} instead of ${show(was)}`, complete: false };
      }
      continue;
    }
    const gotBytes = Buffer.concat(got.parts);
    const wasBytes = Buffer.concat(was.parts);
    if (!gotBytes.equals(wasBytes.subarray(0, gotBytes.length))) {
      return { wrong: `item ${at}: ${show(got)} differs from ${show(was)}`, complete: false };
    }
    if (gotBytes.length === wasBytes.length) continue;
    return at === received.items.length - 1
      ? { complete: false }
      : { wrong: `item ${at}: ${show(got)} is cut out of ${show(was)}`, complete: false };
  }
  return { complete: received.items.length === sent.items.length };
}

function show(item: Item): string {
  if (item.kind === 'data') return `${item.parts.reduce((sum, part) => sum + part.length, 0)} bytes of data`;
  return `${item.kind} ${item.text}`;
}
