/**
 * One HTTP/2 client connection to the runtime (RFC 9113): streams are opened on it, each with a whole request, and read to
 * their end. It sends no PING of its own, never gives up a peer that is merely silent, and knows no gRPC.
 */

import { type FrameMode, FrameScanner } from './frame-scanner.js';
import {
  connectionPreface,
  ErrorCode,
  Flag,
  FrameType,
  forEachSetting,
  frame,
  frameHeaderBytes,
  goAwayFrame,
  headersFrames,
  initialSettings,
  isClientStream,
  max31,
  ownFramePayloadBytes,
  readUInt31,
  rstStreamFrame,
  Setting,
  windowUpdateFrame,
  withoutPadding,
  writeFrameHeader,
} from './frames.js';
import { BlockFault, type HeaderBlock, HeaderBlocks } from './header-blocks.js';
import { encodeLiteralBlock, type HeaderField, HeaderListTooLargeError, HpackDecoder, HpackError } from './hpack.js';
import { defaultLimits } from './limits.js';
import type { Port, PortEvents } from './port.js';

/** How a stream ends that does not end with END_STREAM. */
export type StreamEnd =
  /** RST_STREAM of the runtime. */
  | { readonly by: 'reset'; readonly code: number }
  /** The runtime broke the protocol on this stream alone. */
  | { readonly by: 'fault'; readonly reason: string }
  /** The connection is gone, and the runtime may have seen the request. */
  | { readonly by: 'loss'; readonly reason: string }
  /** The runtime says that it has not looked at the request. */
  | { readonly by: 'goAway'; readonly reason: string };

export interface StreamEvents {
  /** Received bytes that are kept for somebody slow: the stream's window is narrower by that. */
  readonly unreadBytes: number;
  /** With `endStream` the stream is over, and nothing is called any more. */
  headers(fields: readonly HeaderField[], endStream: boolean): void;
  /** @param bytes Only valid until this returns. */
  data(bytes: Buffer, endStream: boolean): void;
  /** The stream is over, and nothing is called any more. */
  ended(end: StreamEnd): void;
}

export interface ClientStream {
  /** Ends it; harmless where it is over. Nothing is called any more. */
  reset(code: number): void;
  /** `unreadBytes` has become less. */
  replenish(): void;
}

const KiB = 1024;
const MiB = 1024 * KiB;

/** What a stream that nobody reads can make Holdfast keep; a unix socket's round trip is far below what it takes to fill. */
const streamWindowBytes = 512 * KiB;
/** Granted again on receipt, so that a stream that nobody reads does not hold up others. */
const connectionWindowBytes = 8 * MiB;
/** What grpc-go's clients take (internal/transport/defaults.go defaultClientMaxHeaderListSize). */
const maxHeaderListBytes = 16 * MiB;
const headerBlockLimits = { ...defaultLimits, headerBlockBytes: maxHeaderListBytes + MiB, continuationFrames: 16_384 };
/** DATA for a runtime that takes none: the rest waits until it has taken that. */
const maxUnwrittenDataBytes = 256 * KiB;
/** Headers and payloads apart: 128 KiB of DATA. */
const maxBuffersPerWrite = 16;
/** Beyond it a runtime that reads nothing is read no further: its PINGs and SETTINGS would only be answered into memory. */
const maxUnwrittenBytes = MiB;
const maxDebugDataCharacters = 200;

const settingsAck = frame(FrameType.settings, Flag.ack, 0, Buffer.alloc(0));

/** Blocks become self-contained, pushes are refused, streams are bounded by their own windows. */
const opening: readonly Buffer[] = [
  connectionPreface,
  settingsFrame([
    [Setting.headerTableSize, 0],
    [Setting.enablePush, 0],
    [Setting.initialWindowSize, streamWindowBytes],
  ]),
  windowUpdateFrame(0, connectionWindowBytes - initialSettings.windowSize),
];

function settingsFrame(entries: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(entries.length * 6);
  for (const [index, [id, value]] of entries.entries()) {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  }
  return frame(FrameType.settings, 0, 0, payload);
}

/** Where a frame of each known type may come, and how long it may be (RFC 9113 section 6). */
interface FrameForm {
  readonly on: 'stream' | 'connection' | 'either';
  readonly fits: (length: number) => boolean;
}

const anyLength = (): boolean => true;
const frameForms = new Map<number, FrameForm>([
  [FrameType.data, { on: 'stream', fits: anyLength }],
  [FrameType.headers, { on: 'stream', fits: anyLength }],
  [FrameType.continuation, { on: 'stream', fits: anyLength }],
  [FrameType.priority, { on: 'stream', fits: (length) => length === 5 }],
  [FrameType.rstStream, { on: 'stream', fits: (length) => length === 4 }],
  [FrameType.settings, { on: 'connection', fits: (length) => length % 6 === 0 }],
  [FrameType.ping, { on: 'connection', fits: (length) => length === 8 }],
  [FrameType.goAway, { on: 'connection', fits: (length) => length >= 8 }],
  [FrameType.windowUpdate, { on: 'either', fits: (length) => length === 4 }],
]);

/** Ends the connection. */
class ConnectionFault extends Error {
  override readonly name = 'ConnectionFault';
  readonly code: number;
  constructor(code: number, reason: string) {
    super(reason);
    this.code = code;
  }
}

class OpenStream {
  readonly id: number;
  readonly events: StreamEvents;
  /** May be negative (RFC 9113 section 6.9.2). */
  sendWindow: number;
  receiveWindow: number = streamWindowBytes;
  unsent: Buffer;

  constructor(id: number, events: StreamEvents, body: Buffer, sendWindow: number) {
    this.id = id;
    this.events = events;
    this.unsent = body;
    this.sendWindow = sendWindow;
  }
}

export class ClientConnection implements PortEvents {
  readonly #changed: (connection: ClientConnection) => void;
  readonly #scanner = new FrameScanner({
    frameStart: (length, type, flags, streamId) => this.#frameStart(length, type, flags, streamId),
    frameCollected: (type, flags, streamId, payload) => {
      this.#read(type, flags, streamId, payload);
      return false;
    },
    output: () => {},
  });
  readonly #blocks = new HeaderBlocks(headerBlockLimits);
  readonly #hpack = new HpackDecoder({ maxTableBytes: initialSettings.headerTableSize, maxHeaderListBytes });
  /** `starting`: until the runtime's SETTINGS are there. `draining`: no new streams. */
  #state: 'connecting' | 'starting' | 'open' | 'draining' | 'over' = 'connecting';
  #port: Port | undefined;
  /** In the order of their ids. */
  readonly #streams = new Map<number, OpenStream>();
  #nextStreamId = 1;
  #maxStreams = Number.POSITIVE_INFINITY;
  #answered = false;
  #sendWindow: number = initialSettings.windowSize;
  #streamSendWindow: number = initialSettings.windowSize;
  #receiveWindow = connectionWindowBytes;
  /** Streams with something to send and a window for it; the next one first. */
  readonly #sending = new Set<OpenStream>();
  /** Frames that go out in one write. */
  #out: Buffer[] = [];
  /** What the runtime said when it began to leave. */
  #farewell: string | undefined;
  #isBusy = false;
  #hasNews = false;

  /** @param changed More streams may be opened than before, or none any more; called between two reads. */
  constructor(changed: (connection: ClientConnection) => void) {
    this.#changed = changed;
  }

  /** Whether a stream may be opened now. */
  get hasRoom(): boolean {
    return this.#state === 'open' && this.#streams.size < this.#maxStreams;
  }

  /** Whether streams can be opened on it, now or later. */
  get isUsable(): boolean {
    return this.#state !== 'draining' && this.#state !== 'over';
  }

  /** Whether it is not known yet how many streams may be opened. */
  get isPending(): boolean {
    return this.#state === 'connecting' || this.#state === 'starting';
  }

  get isIdle(): boolean {
    return this.#streams.size === 0;
  }

  get isOver(): boolean {
    return this.#state === 'over';
  }

  /** Whether the runtime has answered anything on it. */
  get hasAnswered(): boolean {
    return this.#answered;
  }

  connected(port: Port): void {
    this.#port = port;
    this.#state = 'starting';
    port.write(opening);
  }

  /** To be called when it has room. @param body Goes out as the windows of the runtime allow; to be left alone. */
  open(fields: readonly HeaderField[], body: Buffer, events: StreamEvents): ClientStream {
    const stream = new OpenStream(this.#nextStreamId, events, body, this.#streamSendWindow);
    this.#run(() => {
      this.#nextStreamId += 2;
      if (this.#nextStreamId > max31) this.#drain();
      this.#streams.set(stream.id, stream);
      // A runtime may allow no header table, and then the first block has to say that none is used (RFC 7541 section 4.2).
      const block = encodeLiteralBlock(fields, stream.id === 1 ? [0] : []);
      this.#out.push(headersFrames(stream.id, block, false));
      this.#sending.add(stream);
    });
    return {
      reset: (code) => {
        if (this.#streams.has(stream.id)) this.#run(() => this.#resetStream(stream, code));
      },
      replenish: () => {
        if (this.#streams.has(stream.id)) this.#run(() => this.#replenish(stream));
      },
    };
  }

  /** Ends it with whatever is open on it; `changed` is not called. */
  close(reason: string): void {
    this.#port?.write([goAwayFrame(0, ErrorCode.noError)]);
    this.#end(reason);
  }

  received(bytes: Buffer): void {
    this.#run(() => this.#scanner.push(bytes));
  }

  drained(): void {
    this.#run(() => {
      if (this.#port !== undefined) this.#port.reading = true;
    });
  }

  ended(): void {
    this.#run(() => this.#end(`closed by the runtime${this.#afterFarewell}`));
  }

  closed(error: NodeJS.ErrnoException | undefined): void {
    this.#run(() => this.#end(`${error?.message ?? 'closed'}${this.#afterFarewell}`));
  }

  /** What comes from outside goes through here: what it throws ends the connection, and its frames go out together. */
  #run(action: () => void): void {
    if (this.#isBusy) {
      action();
      return;
    }
    if (this.#state === 'over') return;
    this.#isBusy = true;
    try {
      action();
      if (this.#state === 'draining' && this.isIdle) this.close('drained');
      this.#send();
    } catch (error) {
      this.#fail(error);
    }
    this.#isBusy = false;
    if (!this.#hasNews) return;
    this.#hasNews = false;
    this.#changed(this);
  }

  #fail(error: unknown): void {
    const { code, text } =
      error instanceof ConnectionFault
        ? { code: error.code, text: error.message }
        : { code: ErrorCode.internalError, text: String(error) };
    this.#out = [];
    this.#port?.write([goAwayFrame(0, code, text)]);
    this.#end(code === ErrorCode.internalError ? text : `the runtime broke HTTP/2: ${text}`);
  }

  #end(reason: string): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#hasNews = true;
    this.#sending.clear();
    this.#port?.destroy();
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const { events } of streams) events.ended({ by: 'loss', reason });
  }

  get #afterFarewell(): string {
    return this.#farewell === undefined ? '' : ` after ${this.#farewell}`;
  }

  #drain(): void {
    if (this.#state === 'open') this.#state = 'draining';
    this.#hasNews = true;
  }

  #forget(stream: OpenStream): void {
    this.#streams.delete(stream.id);
    this.#sending.delete(stream);
    this.#hasNews = true;
  }

  #resetStream(stream: OpenStream, code: number): void {
    this.#forget(stream);
    this.#out.push(rstStreamFrame(stream.id, code));
  }

  #breakStream(stream: OpenStream, code: number, reason: string): void {
    this.#resetStream(stream, code);
    stream.events.ended({ by: 'fault', reason });
  }

  /** The runtime has said its last on it; it may have answered before it had the whole request. */
  #endStream(stream: OpenStream): void {
    if (stream.unsent.length > 0) this.#resetStream(stream, ErrorCode.noError);
    else this.#forget(stream);
  }

  /** Frames that wait, and DATA as the windows allow, a frame of each stream in turn. */
  #send(): void {
    const port = this.#port;
    if (port === undefined || this.#state === 'over') return;
    for (const stream of this.#sending) {
      if (this.#sendWindow <= 0) break;
      if (this.#out.length >= maxBuffersPerWrite) this.#flush(port);
      // Goes on when it is drained.
      if (port.unwrittenBytes > maxUnwrittenDataBytes) break;
      this.#sending.delete(stream);
      this.#sendFrame(stream);
    }
    this.#flush(port);
    if (port.unwrittenBytes > maxUnwrittenBytes) port.reading = false;
  }

  #sendFrame(stream: OpenStream): void {
    const { unsent } = stream;
    const length = Math.min(unsent.length, stream.sendWindow, this.#sendWindow, ownFramePayloadBytes);
    // Until its window is wider.
    if (length <= 0) return;
    stream.unsent = unsent.subarray(length);
    stream.sendWindow -= length;
    this.#sendWindow -= length;
    const isLast = length === unsent.length;
    const header = Buffer.allocUnsafe(frameHeaderBytes);
    writeFrameHeader(header, length, FrameType.data, isLast ? Flag.endStream : 0, stream.id);
    this.#out.push(header, unsent.subarray(0, length));
    if (!isLast) this.#sending.add(stream);
  }

  #flush(port: Port): void {
    if (this.#out.length === 0) return;
    port.write(this.#out);
    this.#out = [];
  }

  #frameStart(length: number, type: number, flags: number, streamId: number): FrameMode {
    if (length > ownFramePayloadBytes) throw new ConnectionFault(ErrorCode.frameSizeError, `frame of ${length} bytes`);
    if (this.#state === 'starting' && (type !== FrameType.settings || (flags & Flag.ack) !== 0)) {
      throw new ConnectionFault(ErrorCode.protocolError, 'the first frame is not SETTINGS');
    }
    if (!this.#blocks.admits(type, streamId)) {
      throw new ConnectionFault(
        ErrorCode.protocolError,
        'CONTINUATION out of place, or another frame in a header block',
      );
    }
    if (type === FrameType.pushPromise) throw new ConnectionFault(ErrorCode.protocolError, 'PUSH_PROMISE');
    const form = frameForms.get(type);
    if (form === undefined) return 'drop';
    const isOnStream = streamId !== 0;
    if ((form.on === 'stream') !== isOnStream && form.on !== 'either') {
      throw new ConnectionFault(ErrorCode.protocolError, `frame of type ${type} on stream ${streamId}`);
    }
    if (!form.fits(length))
      throw new ConnectionFault(ErrorCode.frameSizeError, `frame of type ${type}, ${length} bytes`);
    if (type === FrameType.priority) return 'drop';
    if (isOnStream && (!isClientStream(streamId) || streamId >= this.#nextStreamId)) {
      throw new ConnectionFault(ErrorCode.protocolError, `frame of type ${type} on idle stream ${streamId}`);
    }
    return 'collect';
  }

  #read(type: number, flags: number, streamId: number, payload: Buffer): void {
    switch (type) {
      case FrameType.data:
        this.#readData(flags, streamId, payload);
        break;
      case FrameType.headers:
        this.#readBlock(this.#blocks.headers(flags, streamId, payload));
        break;
      case FrameType.continuation:
        this.#readBlock(this.#blocks.continuation(flags, streamId, payload));
        break;
      case FrameType.rstStream:
        this.#readReset(streamId, payload.readUInt32BE(0));
        break;
      case FrameType.settings:
        this.#readSettings(flags, payload);
        break;
      case FrameType.ping:
        if ((flags & Flag.ack) === 0) this.#out.push(frame(FrameType.ping, Flag.ack, 0, payload));
        break;
      case FrameType.goAway:
        this.#readGoAway(payload);
        break;
      case FrameType.windowUpdate:
        this.#readWindowUpdate(streamId, readUInt31(payload, 0));
        break;
    }
  }

  #readData(flags: number, streamId: number, payload: Buffer): void {
    this.#receiveWindow -= payload.length;
    const owed = connectionWindowBytes - this.#receiveWindow;
    if (owed >= connectionWindowBytes / 2) {
      this.#receiveWindow += owed;
      this.#out.push(windowUpdateFrame(0, owed));
    }
    const content = withoutPadding(flags, payload);
    if (content === undefined) throw new ConnectionFault(ErrorCode.protocolError, 'padding exceeds the frame');
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    stream.receiveWindow -= payload.length;
    if (stream.receiveWindow < 0) {
      this.#breakStream(stream, ErrorCode.flowControlError, 'DATA beyond the window of the stream');
      return;
    }
    const endStream = (flags & Flag.endStream) !== 0;
    if (endStream) this.#endStream(stream);
    stream.events.data(content, endStream);
    if (this.#streams.has(streamId)) this.#replenish(stream);
  }

  /** Grants what was received and is not kept, in halves of the window. */
  #replenish(stream: OpenStream): void {
    const owed = streamWindowBytes - stream.events.unreadBytes - stream.receiveWindow;
    if (owed < streamWindowBytes / 2) return;
    stream.receiveWindow += owed;
    this.#out.push(windowUpdateFrame(stream.id, owed));
  }

  #readBlock(block: HeaderBlock | BlockFault | undefined): void {
    if (block === undefined) return;
    if (block instanceof BlockFault) throw new ConnectionFault(block.code, block.reason);
    const { streamId, endStream } = block;
    const fields = this.#decode(block.bytes);
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    this.#answered = true;
    if (fields === undefined) {
      this.#breakStream(stream, ErrorCode.protocolError, `header list above ${maxHeaderListBytes} bytes`);
      return;
    }
    if (endStream) this.#endStream(stream);
    stream.events.headers(fields, endStream);
  }

  /** @returns undefined where the list is too large. */
  #decode(block: Buffer): readonly HeaderField[] | undefined {
    try {
      return this.#hpack.decode(block).fields;
    } catch (error) {
      if (error instanceof HeaderListTooLargeError) return undefined;
      if (error instanceof HpackError) throw new ConnectionFault(ErrorCode.compressionError, error.message);
      throw error;
    }
  }

  #readReset(streamId: number, code: number): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    this.#forget(stream);
    stream.events.ended({ by: 'reset', code });
  }

  #readSettings(flags: number, payload: Buffer): void {
    if ((flags & Flag.ack) !== 0) {
      if (payload.length > 0) throw new ConnectionFault(ErrorCode.frameSizeError, 'SETTINGS ACK with a payload');
      return;
    }
    forEachSetting(payload, (id, value) => this.#applySetting(id, value));
    this.#out.push(settingsAck);
    if (this.#state === 'starting') this.#state = 'open';
    this.#hasNews = true;
  }

  #applySetting(id: number, value: number): void {
    if (id === Setting.maxConcurrentStreams) {
      this.#maxStreams = value;
    } else if (id === Setting.initialWindowSize) {
      if (value > max31) throw new ConnectionFault(ErrorCode.flowControlError, `initial window of ${value} bytes`);
      const change = value - this.#streamSendWindow;
      this.#streamSendWindow = value;
      for (const stream of this.#streams.values()) {
        if (!this.#widen(stream, change)) throw new ConnectionFault(ErrorCode.flowControlError, 'window overflow');
      }
    } else if (id === Setting.enablePush && value !== 0) {
      throw new ConnectionFault(ErrorCode.protocolError, `SETTINGS_ENABLE_PUSH ${value}`);
    } else if (id === Setting.maxFrameSize && (value < initialSettings.maxFrameSize || value >= 1 << 24)) {
      throw new ConnectionFault(ErrorCode.protocolError, `SETTINGS_MAX_FRAME_SIZE ${value}`);
    }
  }

  /** @returns false where the window would be wider than any may be. */
  #widen(stream: OpenStream, bytes: number): boolean {
    stream.sendWindow += bytes;
    if (stream.unsent.length > 0 && stream.sendWindow > 0) this.#sending.add(stream);
    return stream.sendWindow <= max31;
  }

  #readWindowUpdate(streamId: number, increment: number): void {
    if (streamId === 0) {
      this.#sendWindow += increment;
      if (increment === 0) throw new ConnectionFault(ErrorCode.protocolError, 'WINDOW_UPDATE of 0');
      if (this.#sendWindow > max31) throw new ConnectionFault(ErrorCode.flowControlError, 'window overflow');
      return;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    if (increment === 0) this.#breakStream(stream, ErrorCode.protocolError, 'WINDOW_UPDATE of 0');
    else if (!this.#widen(stream, increment)) {
      this.#breakStream(stream, ErrorCode.flowControlError, 'window overflow');
    }
  }

  #readGoAway(payload: Buffer): void {
    const lastStreamId = readUInt31(payload, 0);
    const debugData = payload.toString('latin1', 8, 8 + maxDebugDataCharacters);
    const reason = `GOAWAY with code ${payload.readUInt32BE(4)}${debugData === '' ? '' : `, ${debugData}`}`;
    this.#farewell = reason;
    this.#drain();
    // The last first: each is put before what waits already.
    for (const stream of [...this.#streams.values()].reverse()) {
      if (stream.id <= lastStreamId) break;
      this.#forget(stream);
      stream.events.ended({ by: 'goAway', reason });
    }
  }
}
