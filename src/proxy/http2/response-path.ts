/**
 * Everything that goes to the client: the runtime's frames, and between them those of Holdfast. It keeps what only
 * shows in this direction: the client's connection window, and the frames held back for it.
 */
import { GrpcCode } from '../grpc-code.js';
import { CallEnds } from './call-ends.js';
import { type ClientSettings, noHeaderTable } from './client-settings.js';
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
  rstStreamFrame,
  Setting,
  withoutPadding,
} from './frames.js';
import { type HeldFrame, HeldFrames } from './held-frames.js';
import { encodeLiteralBlock, type HeaderField } from './hpack.js';
import { PassedStream } from './passed-stream.js';
import type { Pings } from './pings.js';
import type { StreamTable } from './stream-table.js';
import { type ClientWriter, TakenStream } from './taken-stream.js';

export interface ResponsePathParts {
  readonly streams: StreamTable;
  readonly settings: ClientSettings;
  readonly pings: Pings;
  toDownstream(bytes: Buffer): void;
  /** Whether the downstream takes more; asked before Holdfast sends DATA of its own or what was held back. */
  downstreamReady(): boolean;
  /** There is something to write: `serve` shall be called when the present turn is over. */
  wake(): void;
  /** The runtime spent `bytes` of its windows on what was not forwarded: to be given back. */
  refund(streamId: number, bytes: number): void;
  /** The runtime named a setting for what it receives. */
  runtimeSetting(id: number, value: number): void;
  /**
   * The answer to a report begins.
   *
   * @returns Whether Holdfast answers it instead: the stream is a taken one now.
   */
  takeOver(streamId: number, stream: PassedStream): boolean;
  /** The runtime broke the protocol. */
  fault(code: number, reason: string): void;
}

/** SETTINGS and GOAWAY of a runtime are far below this; what is forwarded unread has no bound. */
const maxControlPayloadBytes = 64 * 1024;
/** With what Holdfast grants beyond it, the window of a taken stream may not exceed 31 bits. */
const maxInitialWindow = max31 - initialSettings.windowSize;
const nothing = Buffer.alloc(0);
const sizeUpdateTo0 = Buffer.from([0x20]);
/** RFC 9113 section 6.2. */
const priorityBytes = 5;
/** DATA of Holdfast's own that is put out before the socket is asked again. */
const burstBytes = 256 * 1024;

export class ResponsePath implements FrameSink, ClientWriter {
  readonly window = new ConnectionWindow();
  readonly held = new HeldFrames();
  readonly #parts: ResponsePathParts;
  readonly #scanner = new FrameScanner(this);
  /** Holdfast's own frames, in order, waiting for the end of the runtime's frame or header block. */
  readonly #own: Buffer[] = [];
  #ownBytes = 0;
  /** Taken streams that may have DATA to send. */
  readonly #sending = new Set<TakenStream>();
  #workDue = false;
  /** The runtime's header block being received goes on, on this stream; 0: none. */
  #receivingBlockOf = 0;
  /** The last frame swallowed ends its stream, though its header block may go on. */
  #swallowedEnds = false;
  /** The client has got the beginning of a header block and not its end. */
  #blockOpen = false;
  #runtimeSettingsSeen = false;
  /** Holdfast's own SETTINGS: sent, and not acknowledged yet. */
  #greeted = false;
  #greetingUnacknowledged = false;
  /** The client has got a header block, so that it knows its table to be of no use (see ClientSettings). */
  #tableIsEmpty = false;
  /** The runtime's first block was swallowed: the next one has to say it in its place. */
  #owesSizeUpdate = false;
  readonly #callEnds = new CallEnds();

  constructor(parts: ResponsePathParts) {
    this.#parts = parts;
  }

  /** Whether everything Holdfast wrote itself has been put out. */
  get isFlushed(): boolean {
    return this.#own.length === 0;
  }

  /** Whether `serve` stopped for want of nothing but a look at the socket. */
  get wantsToServe(): boolean {
    return this.#workDue && this.#canInsert;
  }

  /** Whether the client has got whole frames and header blocks only. */
  get isAtBoundary(): boolean {
    return this.#scanner.atBoundary && !this.#blockOpen;
  }

  push(chunk: Buffer): void {
    this.#scanner.push(chunk);
  }

  stop(): void {
    if (this.#canInsert) this.#flushOwn();
    this.#dropOwn();
    this.#scanner.stop();
    this.held.clear();
    this.#sending.clear();
  }

  /** The runtime will end no call any more. */
  noMoreEnds(): void {
    this.#callEnds.giveUp();
  }

  /** Sends Holdfast's own SETTINGS where the runtime's are not there: the connection is ready for calls (RFC 9113 section 3.4). */
  greet(): void {
    // What does not begin with SETTINGS is no HTTP/2, and goes to the client as it is.
    if (this.#runtimeSettingsSeen || this.#greeted || !this.isAtBoundary) return;
    this.#greeted = true;
    this.#greetingUnacknowledged = true;
    this.#scanner.insert(frame(FrameType.settings, 0, 0, noHeaderTable));
    this.wake();
  }

  /** @returns Whether an ACK of the client is that of Holdfast's own SETTINGS. */
  ownSettingsAcknowledged(): boolean {
    const isOwn = this.#greetingUnacknowledged;
    this.#greetingUnacknowledged = false;
    return isOwn;
  }

  /** The runtime will acknowledge none of the client's SETTINGS any more. */
  acknowledgeSettings(): void {
    while (this.#parts.settings.unacknowledged > 0) {
      this.control(frame(FrameType.settings, Flag.ack, 0, nothing));
      this.#applyClientSettings();
    }
  }

  /** Written by Holdfast, and waiting for the end of the runtime's frame or header block. */
  get ownBytes(): number {
    return this.#ownBytes;
  }

  control(bytes: Buffer): void {
    this.#own.push(bytes);
    this.#ownBytes += bytes.length;
    this.wake();
  }

  headers(streamId: number, fields: readonly HeaderField[], endStream: boolean): void {
    // The runtime's first block would announce that it uses no table; this one may come before it.
    const updates = this.#tableIsEmpty ? [] : [0];
    this.#tableIsEmpty = true;
    this.#owesSizeUpdate = false;
    this.control(headersFrames(streamId, encodeLiteralBlock(fields, updates), endStream));
  }

  sending(stream: TakenStream): void {
    this.#sending.add(stream);
    this.wake();
  }

  wake(): void {
    this.#workDue = true;
    this.#parts.wake();
  }

  /** The client granted connection window. @returns What of it the runtime may learn. */
  replenish(increment: number): number {
    if (!this.held.isEmpty || this.#sending.size > 0) this.#workDue = true;
    return this.window.replenish(increment);
  }

  /** The first frame a client gets is SETTINGS (RFC 9113 section 3.4). */
  get #canInsert(): boolean {
    return (this.#runtimeSettingsSeen || this.#greeted) && this.isAtBoundary;
  }

  /** Puts out what waits, as far as boundaries, windows and the downstream allow: own frames, held ones, own DATA. */
  serve(): void {
    if (!this.#workDue || !this.#canInsert) return;
    this.#workDue = false;
    this.#flushOwn();
    if (!this.#parts.downstreamReady()) {
      this.#workDue = !this.held.isEmpty || this.#sending.size > 0;
      return;
    }
    this.held.release(
      () => this.window.available,
      (held) => this.#releaseHeld(held),
    );
    if (this.held.isEmpty) this.#sendData();
  }

  #flushOwn(): void {
    const { client } = this.#parts.pings;
    if (client.isDue) for (const bytes of client.takeDue()) this.#scanner.insert(bytes);
    for (const bytes of this.#own) this.#scanner.insert(bytes);
    this.#dropOwn();
  }

  #dropOwn(): void {
    this.#own.length = 0;
    this.#ownBytes = 0;
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
      const data = stream.nextFrame(this.window.available, this.#parts.settings.withheldWindow);
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
    if (!this.#followsOn(length, type, flags, streamId)) return this.#fault('a header block out of place');
    if (streamId === 0 || isOfConnection(type)) return this.#startConnectionFrame(length, type, flags, streamId);
    if (this.#isSwallowed(length, type, flags, streamId)) return 'drop';
    const taken = this.#parts.streams.taken(streamId);
    // What may come behind an answer that was swallowed: RST_STREAM, WINDOW_UPDATE.
    if (taken?.isForwarded === true) return 'drop';
    // The runtime was never shown such a stream: to it, it is idle.
    if (taken !== undefined) return this.#fault(`frame type ${type} on stream ${streamId}, which is idle`);
    if (type === FrameType.windowUpdate) return 'forward';
    if (!this.held.isEmpty || (type === FrameType.data && !this.window.admits(length))) return 'collect';
    if (this.#owesSizeUpdate && type === FrameType.headers) return 'collect';
    this.#pass(type, flags, streamId, length);
    return 'forward';
  }

  #startConnectionFrame(length: number, type: number, flags: number, streamId: number): FrameMode {
    if (streamId !== 0) return this.#fault(`frame type ${type} on stream ${streamId}`);
    switch (type) {
      case FrameType.settings:
        if ((flags & Flag.ack) !== 0) {
          // The client's SETTINGS have it use no header table, the first on.
          this.#callEnds.tableEmptied();
          break;
        }
        return length % 6 === 0 && length <= maxControlPayloadBytes ? 'collect' : this.#frameSizeFault('SETTINGS');
      case FrameType.goAway:
        return length >= 8 && length <= maxControlPayloadBytes ? 'collect' : this.#frameSizeFault('GOAWAY');
      case FrameType.ping:
        return length === 8 ? 'collect' : this.#frameSizeFault('PING');
      case FrameType.windowUpdate:
        return 'forward';
    }
    if (!this.held.isEmpty) return 'collect';
    this.#pass(type, flags, streamId, length);
    return 'forward';
  }

  /** Keeps track of header blocks: nothing may come between HEADERS and its CONTINUATIONs (RFC 9113 section 6.10). */
  #followsOn(length: number, type: number, flags: number, streamId: number): boolean {
    const expected = this.#receivingBlockOf;
    if (expected === 0) {
      if (type === FrameType.continuation) return false;
      if (type !== FrameType.headers && type !== FrameType.pushPromise) return true;
      if (streamId === 0) return false;
    } else if (type !== FrameType.continuation || streamId !== expected) {
      return false;
    }
    this.#receivingBlockOf = (flags & Flag.endHeaders) === 0 ? streamId : 0;
    const isLast = type === FrameType.headers && (flags & Flag.endStream) !== 0;
    const callEnd = isLast ? this.#parts.streams.callEnd(streamId) : undefined;
    if (this.#callEnds.frameStart(length, type, flags, callEnd)) this.#scanner.readAlong(this.#callEnds);
    return true;
  }

  frameCollected(type: number, flags: number, streamId: number, payload: Buffer): boolean {
    if (type === FrameType.settings && (flags & Flag.ack) === 0) {
      this.#scanner.insert(frame(FrameType.settings, 0, streamId, this.#rewriteSettings(payload)));
    } else if (type === FrameType.ping) {
      this.#ping(flags, payload);
    } else if (this.held.isEmpty && (type === FrameType.goAway || type === FrameType.headers)) {
      this.#releaseHeld({ type, flags, streamId, payload });
    } else {
      this.#hold(type, flags, streamId, payload);
    }
    return false;
  }

  output(bytes: Buffer): void {
    this.#parts.toDownstream(bytes);
  }

  /** Holdfast sends the runtime none, so an ACK answers nothing. */
  #ping(flags: number, payload: Buffer): void {
    if ((flags & Flag.ack) !== 0 || this.#parts.pings.runtime.asked(payload)) return;
    this.#parts.fault(ErrorCode.enhanceYourCalm, 'too many PINGs');
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
        this.#parts.runtimeSetting(id, value);
      }
    });
    const complete = named || this.#runtimeSettingsSeen;
    this.#runtimeSettingsSeen = true;
    return complete ? rewritten : Buffer.concat([rewritten, noHeaderTable]);
  }

  /** What follows from a frame of the runtime that goes out now. */
  #pass(type: number, flags: number, streamId: number, length: number): void {
    const { streams } = this.#parts;
    switch (type) {
      case FrameType.data:
        this.window.spendForRuntime(length);
        if ((flags & Flag.endStream) !== 0) streams.endResponse(streamId);
        return;
      case FrameType.headers:
      case FrameType.pushPromise:
      case FrameType.continuation:
        this.#tableIsEmpty = true;
        this.#blockOpen = (flags & Flag.endHeaders) === 0;
        if (type !== FrameType.headers) return;
        if ((flags & Flag.endStream) !== 0) streams.endResponse(streamId);
        else streams.beginResponse(streamId);
        return;
      case FrameType.rstStream:
        streams.close(streamId);
        return;
      case FrameType.settings:
        this.#applyClientSettings();
    }
  }

  /** Whether a frame belongs to an answer that Holdfast gives itself, though the runtime was asked. */
  #isSwallowed(length: number, type: number, flags: number, streamId: number): boolean {
    const { streams } = this.#parts;
    if (!streams.isSwallowed(streamId) && !this.#takesOver(type, flags, streamId)) return false;
    if (type === FrameType.headers && !this.#tableIsEmpty) this.#owesSizeUpdate = true;
    if (type === FrameType.data) this.#parts.refund(streamId, length);
    if (type === FrameType.headers || type === FrameType.data) this.#swallowedEnds = (flags & Flag.endStream) !== 0;
    const isLast = this.#swallowedEnds && this.#receivingBlockOf === 0;
    if (type === FrameType.rstStream || isLast) {
      this.#swallowedEnds = false;
      streams.swallowedLast(streamId);
    }
    return true;
  }

  /** An answer that has begun, or that says no more than that the call has failed, goes on as it is. */
  #takesOver(type: number, flags: number, streamId: number): boolean {
    if (type !== FrameType.headers) return false;
    const stream = this.#parts.streams.active.get(streamId);
    if (!(stream instanceof PassedStream) || stream.report === undefined) return false;
    if ((flags & Flag.endStream) === 0 && this.#parts.takeOver(streamId, stream)) return true;
    stream.dropReport();
    return false;
  }

  /**
   * Streams above the last one the runtime serves are sent again by the client on another connection. It knows nothing of those that
   * were taken: they are served, and what lies below the highest of them is refused one by one.
   */
  #forwardGoAway(payload: Buffer): void {
    const { streams } = this.#parts;
    const served = readUInt31(payload, 0);
    const last = Math.min(streams.lastServedId, Math.max(served, streams.highestTakenId));
    streams.lastServedId = last;
    const rewritten = Buffer.from(payload);
    rewritten.writeUInt32BE(last, 0);
    this.#scanner.insert(frame(FrameType.goAway, 0, 0, rewritten));
    for (const [id, stream] of streams.active) {
      if (id <= served || !isClientStream(id)) continue;
      if (stream instanceof PassedStream) {
        streams.close(id, GrpcCode.unavailable);
        if (id <= last) this.#scanner.insert(rstStreamFrame(id, ErrorCode.refusedStream));
      } else if (id > last) {
        stream.leave('cancelled');
      }
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
      this.#parts.refund(streamId, payload.length - data.length);
      held = data;
    }
    this.held.push({ type, flags: type === FrameType.data ? flags & ~Flag.padded : flags, streamId, payload: held });
    this.#workDue = true;
  }

  #releaseHeld({ type, flags, streamId, payload }: HeldFrame): void {
    if (type === FrameType.goAway) {
      this.#forwardGoAway(payload);
      return;
    }
    if (type === FrameType.headers && this.#owesSizeUpdate) {
      this.#owesSizeUpdate = false;
      this.#scanner.insert(frame(type, flags & ~Flag.padded, streamId, withSizeUpdate(flags, payload)));
    } else {
      this.#scanner.insert(frame(type, flags, streamId, payload));
    }
    this.#pass(type, flags, streamId, payload.length);
  }

  #applyClientSettings(): void {
    const change = this.#parts.settings.acknowledged();
    if (change === 0) return;
    for (const stream of this.#parts.streams.active.values()) {
      if (stream instanceof TakenStream) stream.adjustWindow(change);
    }
  }

  #fault(reason: string): 'stop' {
    this.#parts.fault(ErrorCode.protocolError, reason);
    return 'stop';
  }

  #frameSizeFault(type: string): 'stop' {
    this.#parts.fault(ErrorCode.frameSizeError, `${type} of a wrong length`);
    return 'stop';
  }
}

/** The payload of HEADERS, unpadded, its block with an update of the table size to 0 in front (RFC 7541 section 6.3). */
function withSizeUpdate(flags: number, payload: Buffer): Buffer {
  const content = withoutPadding(flags, payload) ?? payload;
  const at = (flags & Flag.priority) === 0 ? 0 : priorityBytes;
  return Buffer.concat([content.subarray(0, at), sizeUpdateTo0, content.subarray(at)]);
}

function isOfConnection(type: number): boolean {
  return type === FrameType.settings || type === FrameType.ping || type === FrameType.goAway;
}
