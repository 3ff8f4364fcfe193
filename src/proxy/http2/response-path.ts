/**
 * Everything that goes to the client: the runtime's frames, and between them those of Holdfast. It keeps what only
 * shows in this direction: the client's connection window, frames held back for it, and the client's settings as they
 * come into force.
 */
import { ConnectionWindow } from './flow-control.js';
import { type FrameMode, FrameScanner, type FrameSink } from './frame-scanner.js';
import {
  ErrorCode,
  Flag,
  FrameType,
  forEachSetting,
  frame,
  frameHeaderBytes,
  headersFrames,
  initialSettings,
  isClientStream,
  max31,
  readUInt31,
  Setting,
  withoutPadding,
} from './frames.js';
import { encodeLiteralBlock, type HeaderField } from './hpack.js';
import type { StreamTable } from './stream-table.js';
import { TakenStream } from './taken-stream.js';

export interface ResponsePathHost {
  readonly streams: StreamTable;
  toDownstream(bytes: Buffer): void;
  /** Whether the downstream takes more; asked before Holdfast sends DATA of its own or what was held back. */
  downstreamReady(): boolean;
  /** The runtime spent `bytes` of its windows on padding that was not forwarded: to be given back. */
  refund(streamId: number, bytes: number): void;
  /** The runtime named SETTINGS_MAX_FRAME_SIZE or SETTINGS_INITIAL_WINDOW_SIZE for what it receives. */
  runtimeSetting(id: number, value: number): void;
  /** The runtime broke the protocol. */
  runtimeFault(code: number, reason: string): void;
}

interface HeldFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  payload: Buffer;
}

/**
 * One SETTINGS frame of the client, as far as it concerns what Holdfast sends: in force once the runtime's ACK has gone
 * out.
 */
export interface ClientSettings {
  initialWindowSize: number | undefined;
  /** In the order named. */
  readonly headerTableSizes: number[];
}

/** SETTINGS and GOAWAY of a runtime are far below this; what is forwarded unread has no bound. */
const maxControlPayloadBytes = 64 * 1024;
/** With what Holdfast grants beyond it, the window of a taken stream may not exceed 31 bits. */
const maxInitialWindow = max31 - initialSettings.windowSize;
/** DATA of Holdfast's own that is put out before the socket is asked again. */
const burstBytes = 256 * 1024;
const heldFrameOverheadBytes = 64;

export class ResponsePath implements FrameSink {
  readonly window = new ConnectionWindow();
  /** Client settings whose ACK has not gone out. */
  readonly #unacknowledged: ClientSettings[] = [];
  /** The client's SETTINGS_INITIAL_WINDOW_SIZE in force. */
  initialWindowSize: number = initialSettings.windowSize;
  /**
   * What of each stream's window is not used, because the client has asked for a smaller one and its ACK has not gone
   * out.
   */
  #withheldWindow = 0;

  readonly #host: ResponsePathHost;
  readonly #scanner = new FrameScanner(this);
  /** Holdfast's own frames, in order, waiting for the end of the runtime's frame or header block. */
  readonly #own: Buffer[] = [];
  readonly #held: HeldFrame[] = [];
  #heldBytes = 0;
  /** Taken streams that may have DATA to send. */
  readonly #sending = new Set<TakenStream>();
  #workDue = false;
  /** The runtime's header block being received goes on, on this stream; 0: none. */
  #receivingBlockOf = 0;
  /** The client has got the beginning of a header block and not its end. */
  #blockOpen = false;
  #settingsSeen = false;
  /** SETTINGS_HEADER_TABLE_SIZE of the client: in force, and the lowest since the last header block it got. */
  #tableLimit: number = initialSettings.headerTableSize;
  #lowestTableLimit: number = initialSettings.headerTableSize;
  /** What the client takes the size of its table to be. Below it, it waits for a size update (RFC 7541 section 4.2). */
  #tableBytes: number = initialSettings.headerTableSize;

  constructor(host: ResponsePathHost) {
    this.#host = host;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Whether everything Holdfast wrote itself has been put out. */
  get isFlushed(): boolean {
    return this.#own.length === 0;
  }

  /** Whether `serve` stopped for want of nothing but a look at the socket. */
  get wantsToServe(): boolean {
    return this.#workDue && this.#canInsert;
  }

  push(chunk: Buffer): void {
    this.#scanner.push(chunk);
  }

  stop(): void {
    if (this.#canInsert) this.#flushOwn();
    this.#own.length = 0;
    this.#scanner.stop();
    this.#held.length = 0;
    this.#heldBytes = 0;
    this.#sending.clear();
  }

  control(bytes: Buffer): void {
    this.#own.push(bytes);
    this.#workDue = true;
  }

  headers(streamId: number, fields: readonly HeaderField[], endStream: boolean): void {
    const updates = this.#lowestTableLimit < this.#tableBytes ? [this.#lowestTableLimit] : [];
    this.#blockWritten(Math.min(this.#tableBytes, this.#lowestTableLimit));
    this.control(headersFrames(streamId, encodeLiteralBlock(fields, updates), endStream));
  }

  /** @param tableBytes What the client takes the size of its table to be after the block. */
  #blockWritten(tableBytes: number): void {
    this.#tableBytes = tableBytes;
    this.#lowestTableLimit = this.#tableLimit;
  }

  sending(stream: TakenStream): void {
    this.#sending.add(stream);
    this.#workDue = true;
  }

  get unacknowledgedSettings(): number {
    return this.#unacknowledged.length;
  }

  /**
   * SETTINGS of the client have gone to the runtime. They are in force when its ACK goes out; but a smaller window is
   * honoured at once, as by a server that reads them before it answers (nghttp2 resets a stream that is over its new
   * window at the ACK).
   */
  clientSettings(settings: ClientSettings): void {
    this.#unacknowledged.push(settings);
    this.#withholdWindow();
  }

  #withholdWindow(): void {
    let smallest = this.initialWindowSize;
    for (const { initialWindowSize = smallest } of this.#unacknowledged)
      smallest = Math.min(smallest, initialWindowSize);
    this.#withheldWindow = this.initialWindowSize - smallest;
  }

  /** The client granted connection window. @returns What of it the runtime may learn. */
  replenish(increment: number): number {
    if (this.#held.length > 0 || this.#sending.size > 0) this.#workDue = true;
    return this.window.replenish(increment);
  }

  /** The first frame a client gets is the runtime's SETTINGS (RFC 9113 section 3.4). */
  get #canInsert(): boolean {
    return this.#settingsSeen && this.#scanner.atBoundary && !this.#blockOpen;
  }

  /** Puts out what waits, as far as boundaries, windows and the downstream allow: own frames, held ones, own DATA. */
  serve(): void {
    if (!this.#workDue || !this.#canInsert) return;
    this.#workDue = false;
    this.#flushOwn();
    if (!this.#host.downstreamReady()) {
      this.#workDue = this.#held.length > 0 || this.#sending.size > 0;
      return;
    }
    this.#releaseHeld();
    if (this.#held.length === 0) this.#sendData();
  }

  #flushOwn(): void {
    if (this.#own.length === 0) return;
    for (const bytes of this.#own) this.#scanner.insert(bytes);
    this.#own.length = 0;
  }

  #sendData(): void {
    let burst = 0;
    for (const stream of this.#sending) {
      if (this.window.available <= 0) return;
      if (burst >= burstBytes) {
        this.#workDue = true;
        return;
      }
      this.#sending.delete(stream);
      const data = stream.nextFrame(this.window.available, this.#withheldWindow);
      if (data === undefined) continue;
      this.#sending.add(stream);
      const length = data.length - frameHeaderBytes;
      this.window.spendOwn(length);
      burst += length;
      this.#scanner.insert(data);
      stream.frameWritten();
      this.#flushOwn();
    }
  }

  frameStart(length: number, type: number, flags: number, streamId: number): FrameMode {
    if (this.#workDue) this.serve();
    if (!this.#followsOn(type, flags, streamId)) return this.#fault('a header block out of place');
    if (type === FrameType.settings && (flags & Flag.ack) === 0) {
      return length % 6 === 0 && length <= maxControlPayloadBytes ? 'collect' : this.#frameSizeFault('SETTINGS');
    }
    if (type === FrameType.goAway) {
      return length >= 8 && length <= maxControlPayloadBytes ? 'collect' : this.#frameSizeFault('GOAWAY');
    }
    if (type === FrameType.ping) return 'forward';
    if (this.#isTaken(streamId, type)) return 'stop';
    if (type === FrameType.windowUpdate) return 'forward';
    if (this.#held.length > 0 || (type === FrameType.data && !this.window.admits(length))) return 'collect';
    this.#pass(type, flags, streamId, length);
    return 'forward';
  }

  /** Keeps track of header blocks: nothing may come between HEADERS and its CONTINUATIONs (RFC 9113 section 6.10). */
  #followsOn(type: number, flags: number, streamId: number): boolean {
    const expected = this.#receivingBlockOf;
    if (expected === 0) {
      if (type === FrameType.continuation) return false;
      if (type !== FrameType.headers && type !== FrameType.pushPromise) return true;
      if (streamId === 0) return false;
    } else if (type !== FrameType.continuation || streamId !== expected) {
      return false;
    }
    this.#receivingBlockOf = (flags & Flag.endHeaders) === 0 ? streamId : 0;
    return true;
  }

  frameCollected(type: number, flags: number, streamId: number, payload: Buffer): boolean {
    if (type === FrameType.settings && (flags & Flag.ack) === 0) {
      this.#scanner.insert(frame(FrameType.settings, 0, streamId, this.#rewriteSettings(payload)));
    } else if (this.#held.length === 0 && type === FrameType.goAway) {
      this.#forwardGoAway(payload);
    } else {
      this.#hold(type, flags, streamId, payload);
    }
    return false;
  }

  output(bytes: Buffer): void {
    this.#host.toDownstream(bytes);
  }

  /**
   * The client's HPACK encoder is told to use no table, so that its blocks need none of the streams taken out; and its windows
   * leave room for what Holdfast may grant.
   */
  #rewriteSettings(payload: Buffer): Buffer {
    const rewritten = Buffer.from(payload);
    let named = false;
    forEachSetting(payload, (id, value, at) => {
      if (id === Setting.headerTableSize) {
        rewritten.writeUInt32BE(0, at + 2);
        named = true;
      } else {
        if (id === Setting.initialWindowSize && value <= max31) {
          rewritten.writeUInt32BE(Math.min(value, maxInitialWindow), at + 2);
        }
        this.#host.runtimeSetting(id, value);
      }
    });
    const complete = named || this.#settingsSeen;
    this.#settingsSeen = true;
    return complete ? rewritten : Buffer.concat([rewritten, Buffer.from([0, Setting.headerTableSize, 0, 0, 0, 0])]);
  }

  /** What follows from a frame of the runtime that goes out now. */
  #pass(type: number, flags: number, streamId: number, length: number): void {
    switch (type) {
      case FrameType.data:
        this.window.spendForRuntime(length);
        if ((flags & Flag.endStream) !== 0) this.#host.streams.endResponse(streamId);
        return;
      case FrameType.headers:
      case FrameType.pushPromise:
      case FrameType.continuation:
        // It has told of its own what there was to tell, and may have gone back to the default size.
        this.#blockWritten(Math.min(initialSettings.headerTableSize, this.#tableLimit));
        this.#blockOpen = (flags & Flag.endHeaders) === 0;
        if (type === FrameType.headers && (flags & Flag.endStream) !== 0) this.#host.streams.endResponse(streamId);
        return;
      case FrameType.rstStream:
        this.#host.streams.close(streamId);
        return;
      case FrameType.settings:
        this.#applyClientSettings();
    }
  }

  /** The runtime was never shown such a stream: to it, it is idle. */
  #isTaken(streamId: number, type: number): boolean {
    const { streams } = this.#host;
    if (streams.takenCount === 0 || streams.taken(streamId) === undefined) return false;
    this.#fault(`frame type ${type} on stream ${streamId}, which is idle`);
    return true;
  }

  #forwardGoAway(payload: Buffer): void {
    const { streams } = this.#host;
    const last = readUInt31(payload, 0);
    streams.lastServedId = Math.min(streams.lastServedId, last);
    const rewritten = Buffer.from(payload);
    rewritten.writeUInt32BE(streams.lastServedId, 0);
    this.#scanner.insert(frame(FrameType.goAway, 0, 0, rewritten));
    // The client sends these again on another connection.
    for (const [id, stream] of streams.active) {
      if (id <= last || !isClientStream(id)) continue;
      if (stream instanceof TakenStream) stream.leave('cancelled');
      else streams.close(id);
    }
  }

  #hold(type: number, flags: number, streamId: number, payload: Buffer): void {
    // It outlives the chunk it came in.
    let held: Buffer = Buffer.from(payload);
    if (type === FrameType.data && (flags & Flag.padded) !== 0) {
      const data = withoutPadding(flags, held);
      if (data === undefined) {
        this.#fault('padding exceeds the frame');
        return;
      }
      this.#host.refund(streamId, payload.length - data.length);
      held = data;
    }
    this.#held.push({ type, flags: type === FrameType.data ? flags & ~Flag.padded : flags, streamId, payload: held });
    this.#heldBytes += held.length + heldFrameOverheadBytes;
    this.#workDue = true;
  }

  #releaseHeld(): void {
    let released = 0;
    for (const held of this.#held) {
      if (held.type === FrameType.data && !this.#releasePart(held)) break;
      if (!this.#isWholeBlock(released)) break;
      this.#releaseWhole(held);
      this.#heldBytes -= held.payload.length + heldFrameOverheadBytes;
      released += 1;
    }
    if (released > 0) this.#held.splice(0, released);
  }

  /**
   * Whether a held frame begins no header block that is still to be completed: what the runtime says meanwhile (PING,
   * WINDOW_UPDATE) is not held and must not get into it.
   */
  #isWholeBlock(position: number): boolean {
    const type = this.#held[position]?.type;
    if (type !== FrameType.headers && type !== FrameType.pushPromise) return true;
    for (let at = position; at < this.#held.length; at += 1) {
      if (((this.#held[at]?.flags ?? 0) & Flag.endHeaders) !== 0) return true;
    }
    return false;
  }

  /**
   * Sends as much DATA as the window allows where that is not all: the client may wait for less than a whole frame.
   *
   * @returns Whether the whole fits.
   */
  #releasePart(held: HeldFrame): boolean {
    const part = Math.max(0, this.window.available);
    if (held.payload.length <= part) return true;
    if (part > 0) {
      this.#releaseWhole({ ...held, flags: held.flags & ~Flag.endStream, payload: held.payload.subarray(0, part) });
      held.payload = held.payload.subarray(part);
      this.#heldBytes -= part;
    }
    return false;
  }

  #releaseWhole({ type, flags, streamId, payload }: HeldFrame): void {
    if (type === FrameType.goAway) {
      this.#forwardGoAway(payload);
      return;
    }
    this.#scanner.insert(frame(type, flags, streamId, payload));
    this.#pass(type, flags, streamId, payload.length);
  }

  #applyClientSettings(): void {
    const settings = this.#unacknowledged.shift();
    if (settings === undefined) return;
    for (const size of settings.headerTableSizes) {
      this.#tableLimit = size;
      this.#lowestTableLimit = Math.min(size, this.#lowestTableLimit);
    }
    if (settings.initialWindowSize === undefined) return;
    const change = settings.initialWindowSize - this.initialWindowSize;
    this.initialWindowSize = settings.initialWindowSize;
    this.#withholdWindow();
    for (const stream of this.#host.streams.active.values()) {
      if (stream instanceof TakenStream) stream.adjustWindow(change);
    }
  }

  #fault(reason: string): 'stop' {
    this.#host.runtimeFault(ErrorCode.protocolError, reason);
    return 'stop';
  }

  #frameSizeFault(type: string): 'stop' {
    this.#host.runtimeFault(ErrorCode.frameSizeError, `${type} of a wrong length`);
    return 'stop';
  }
}
