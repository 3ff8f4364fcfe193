/**
 * Everything that goes to the runtime: the client's frames, less those of streams taken out. It decodes every request
 * header block to decide by `:path`, and keeps the runtime's view of stream ids, header table and windows free of what
 * it never sees.
 */
import { GrpcCode } from '../grpc-code.js';
import type { ClientSettings } from './client-settings.js';
import { type FrameMode, FrameScanner, type FrameSink } from './frame-scanner.js';
import {
  ErrorCode,
  Flag,
  FrameType,
  frame,
  headersFrames,
  initialSettings,
  isClientStream,
  readUInt31,
  rstStreamFrame,
  Setting,
  windowUpdateFrame,
  withoutPadding,
} from './frames.js';
import { BlockFault, type HeaderBlock, HeaderBlocks } from './header-blocks.js';
import {
  type DecodedBlock,
  encodeLiteralBlock,
  type HeaderField,
  HeaderListTooLargeError,
  HpackDecoder,
  HpackError,
} from './hpack.js';
import { RateLimit } from './limits.js';
import { type EndListener, PassedStream, ReportRequest, RequestObserver } from './passed-stream.js';
import type { Pings } from './pings.js';
import type { ResponsePath } from './response-path.js';
import type { StreamTable } from './stream-table.js';
import { countedHeaderBytes, streamBytes, TakenStream, type TakenStreamContext } from './taken-stream.js';

/**
 * What becomes of a stream, said at its request headers. `pass`: forwarded verbatim. `observe`: forwarded verbatim while the (small,
 * unary) request message is also read. `report`: forwarded verbatim, and Holdfast may still take it when its answer begins. `take`: it
 * never reaches the runtime.
 */
export type Decision = 'pass' | 'observe' | 'report' | 'take';

export interface RequestPathParts {
  /** Of the streams that are taken. */
  readonly context: TakenStreamContext;
  readonly streams: StreamTable;
  readonly settings: ClientSettings;
  readonly pings: Pings;
  readonly responses: ResponsePath;
  toUpstream(bytes: Buffer): void;
  decide(path: string): Decision;
  observe(path: string, request: Buffer): EndListener | undefined;
  /** The client broke the protocol. */
  fault(code: number, reason: string): void;
}

/** SETTINGS of a client name a handful of parameters. One more has room in the smallest frame size there is. */
const maxSettingsPayloadBytes = initialSettings.maxFrameSize - 6;
/** The only lengths there are (RFC 9113 sections 6.4, 6.7 and 6.9). */
const fixedLength: Readonly<Record<number, number>> = {
  [FrameType.rstStream]: 4,
  [FrameType.ping]: 8,
  [FrameType.windowUpdate]: 4,
};

export class RequestPath implements FrameSink {
  readonly #parts: RequestPathParts;
  readonly #scanner = new FrameScanner(this);
  readonly #decoder: HpackDecoder;
  readonly #blocks: HeaderBlocks;
  /** A table size update was in a block the runtime did not get; it may insist on one. */
  #owesSizeUpdate = false;
  /** What is left of `Limits.rewrittenHeaderBytes`. */
  #rewritableBytes: number;
  /** The stream and the length, padding included, of the DATA frame being collected. The stream may end meanwhile. */
  #dataOf: PassedStream | TakenStream | undefined;
  #dataLength = 0;
  /** Connection window to be given back to the client. */
  #credit = 0;
  /** The client's first frame has gone to the runtime, its SETTINGS: others may follow (RFC 9113 section 3.4). */
  #greeted = false;
  /** Frames of Holdfast's own, waiting for the end of the client's frame. */
  readonly #own: Buffer[] = [];
  #runtimeMaxFrameSize: number = initialSettings.maxFrameSize;
  #runtimeWindowSize: number = initialSettings.windowSize;
  readonly #settings: RateLimit;
  readonly #resets: RateLimit;

  constructor(parts: RequestPathParts) {
    const { limits } = parts.context;
    this.#parts = parts;
    const { headerListBytes: maxHeaderListBytes } = limits;
    // The client's encoder starts with the default size and is then told 0.
    this.#decoder = new HpackDecoder({ maxTableBytes: initialSettings.headerTableSize, maxHeaderListBytes });
    this.#blocks = new HeaderBlocks(limits);
    this.#rewritableBytes = limits.rewrittenHeaderBytes;
    this.#settings = new RateLimit(limits.settingsPerSecond);
    this.#resets = new RateLimit(limits.takenResetsPerSecond);
  }

  push(chunk: Buffer): void {
    this.#scanner.push(chunk);
  }

  stop(): void {
    this.#scanner.stop();
  }

  /** Writes a frame of Holdfast's own to the runtime. */
  control(bytes: Buffer): void {
    this.#own.push(bytes);
  }

  runtimeSetting(id: number, value: number): void {
    // The client may use the larger of two sizes until it has seen the newer one.
    if (id === Setting.maxFrameSize) this.#runtimeMaxFrameSize = Math.max(value, this.#runtimeMaxFrameSize);
    if (id !== Setting.initialWindowSize) return;
    this.#runtimeWindowSize = value;
    if (value >= initialSettings.windowSize) return;
    for (const stream of this.#parts.streams.allTaken()) this.#grantMissing(stream);
  }

  /** Writes what waits for a boundary. */
  serve(): void {
    const { pings, responses } = this.#parts;
    if (this.#credit > 0) {
      responses.control(windowUpdateFrame(0, this.#credit));
      this.#credit = 0;
    }
    if ((this.#own.length === 0 && !pings.runtime.isDue) || !this.#greeted || !this.#scanner.atBoundary) return;
    for (const bytes of pings.runtime.takeDue()) this.#scanner.insert(bytes);
    if (this.#own.length > 0) for (const bytes of this.#own.splice(0)) this.#scanner.insert(bytes);
  }

  output(bytes: Buffer): void {
    this.#parts.toUpstream(bytes);
  }

  frameStart(length: number, type: number, flags: number, streamId: number): FrameMode {
    if (this.#own.length > 0 || this.#parts.pings.runtime.isDue) this.serve();
    if (!this.#greeted && (type !== FrameType.settings || (flags & Flag.ack) !== 0)) {
      return this.#fault(ErrorCode.protocolError, 'the first frame is not SETTINGS');
    }
    if (!this.#blocks.admits(type, streamId)) return this.#fault(ErrorCode.protocolError, 'CONTINUATION out of place');
    const expected = fixedLength[type];
    if (expected !== undefined && length !== expected)
      return this.#fault(ErrorCode.frameSizeError, `frame type ${type} of ${length} bytes`);
    const mode = this.#modeOf(length, type, flags, streamId);
    if (mode === 'collect' && length > this.#runtimeMaxFrameSize) {
      return this.#fault(
        ErrorCode.frameSizeError,
        `frame of ${length} bytes, allowed are ${this.#runtimeMaxFrameSize}`,
      );
    }
    return mode;
  }

  #modeOf(length: number, type: number, flags: number, streamId: number): FrameMode {
    switch (type) {
      case FrameType.data:
        return this.#startData(length, flags, streamId);
      case FrameType.headers:
        return isClientStream(streamId)
          ? 'collect'
          : this.#fault(ErrorCode.protocolError, `HEADERS on stream ${streamId}`);
      case FrameType.continuation:
        return 'collect';
      case FrameType.pushPromise:
        return this.#fault(ErrorCode.protocolError, 'PUSH_PROMISE from a client');
      case FrameType.rstStream:
        return this.#startReset(streamId);
      case FrameType.settings:
        return this.#startSettings(length, flags, streamId);
      case FrameType.ping:
        return streamId === 0 ? 'collect' : this.#fault(ErrorCode.protocolError, `PING on stream ${streamId}`);
      case FrameType.windowUpdate:
        return this.#startWindowUpdate(streamId);
      case FrameType.goAway:
        return 'forward';
      default:
        // PRIORITY and extensions.
        return this.#parts.streams.taken(streamId) !== undefined || this.#parts.streams.isOver(streamId)
          ? 'drop'
          : 'forward';
    }
  }

  #startWindowUpdate(streamId: number): FrameMode {
    if (streamId === 0) return 'collect';
    const { streams } = this.#parts;
    const stream = streams.active.get(streamId);
    if (stream === undefined) return streams.isOver(streamId) ? 'drop' : 'forward';
    return stream instanceof TakenStream || stream.report !== undefined ? 'collect' : 'forward';
  }

  #startData(length: number, flags: number, streamId: number): FrameMode {
    const { streams } = this.#parts;
    const stream = streams.active.get(streamId);
    this.#dataOf = stream;
    if (stream instanceof TakenStream) {
      if (stream.isForwarded) {
        if ((flags & Flag.endStream) !== 0) stream.endRequest();
        return 'forward';
      }
      this.#dataLength = length;
      return 'collect';
    }
    if (stream === undefined) {
      if (!streams.isOver(streamId)) return 'forward';
      this.#credit += length;
      return 'drop';
    }
    if ((flags & Flag.endStream) !== 0) streams.endRequest(streamId, stream);
    if (!stream.isObserved) return 'forward';
    if (length <= this.#parts.context.limits.observedRequestBytes) return 'collect';
    stream.stopObserving();
    return 'forward';
  }

  #startReset(streamId: number): FrameMode {
    const { context, streams } = this.#parts;
    const taken = streams.taken(streamId) ?? streams.unproven.get(streamId);
    if (taken !== undefined) {
      taken.leave('cancelled');
      if (!this.#resets.admit(context.clock.now())) return this.#fault(ErrorCode.enhanceYourCalm, 'too many resets');
      return streams.isSwallowed(streamId) ? 'forward' : 'drop';
    }
    if (streams.isOver(streamId)) return 'drop';
    streams.close(streamId, GrpcCode.cancelled);
    return 'forward';
  }

  #startSettings(length: number, flags: number, streamId: number): FrameMode {
    const { context, responses, settings } = this.#parts;
    if (streamId !== 0) return 'forward';
    if ((flags & Flag.ack) !== 0) return responses.ownSettingsAcknowledged() ? 'drop' : 'forward';
    const { clock, limits } = context;
    if (!this.#settings.admit(clock.now())) return this.#fault(ErrorCode.enhanceYourCalm, 'too many SETTINGS');
    if (length % 6 !== 0 || length > maxSettingsPayloadBytes) {
      return this.#fault(ErrorCode.frameSizeError, `SETTINGS of ${length} bytes`);
    }
    if (settings.unacknowledged >= limits.unacknowledgedSettings) {
      return this.#fault(ErrorCode.enhanceYourCalm, 'too many SETTINGS without an acknowledgement');
    }
    return 'collect';
  }

  frameCollected(type: number, flags: number, streamId: number, payload: Buffer): boolean {
    switch (type) {
      case FrameType.data:
        return this.#data(flags, streamId, payload);
      case FrameType.headers:
        return this.#headerFrame(this.#blocks.headers(flags, streamId, payload));
      case FrameType.continuation:
        return this.#headerFrame(this.#blocks.continuation(flags, streamId, payload));
      case FrameType.settings:
        this.#scanner.insert(frame(FrameType.settings, flags, 0, this.#parts.settings.received(payload)));
        this.#greeted = true;
        return false;
      case FrameType.ping:
        this.#ping(flags, payload);
        return false;
      default:
        return this.#windowUpdate(streamId, readUInt31(payload, 0));
    }
  }

  #ping(flags: number, payload: Buffer): void {
    const { pings, responses, streams } = this.#parts;
    if ((flags & Flag.ack) !== 0) {
      const streamId = pings.proven(payload);
      // Its stream may have been reset meanwhile.
      if (streamId !== undefined) streams.unproven.get(streamId)?.delivered();
    } else if (pings.client.asked(payload)) {
      responses.wake();
    } else {
      this.#fault(ErrorCode.enhanceYourCalm, 'too many PINGs');
    }
  }

  #windowUpdate(streamId: number, increment: number): boolean {
    const { responses, streams } = this.#parts;
    if (streamId !== 0) {
      const stream = streams.active.get(streamId);
      if (stream instanceof PassedStream) {
        if (stream.report !== undefined) stream.report.grantedWindow += increment;
        return true;
      }
      stream?.replenish(increment);
      // A runtime whose window is used up would wait with its answer for ever.
      return stream?.isForwarded === true;
    }
    const rest = responses.replenish(increment);
    if (rest === increment) return true;
    if (rest > 0) this.#scanner.insert(windowUpdateFrame(0, rest));
    return false;
  }

  #data(flags: number, streamId: number, payload: Buffer): boolean {
    const endStream = (flags & Flag.endStream) !== 0;
    const data = withoutPadding(flags, payload);
    const stream = this.#dataOf;
    if (!(stream instanceof TakenStream)) {
      this.#observeData(streamId, data, endStream);
      return true;
    }
    if (data === undefined) {
      this.#fault(ErrorCode.protocolError, 'padding exceeds the frame');
      return false;
    }
    this.#credit += this.#dataLength;
    if (!this.#isOpen(stream)) return false;
    stream.receive(data, endStream);
    if (this.#dataLength > 0 && !stream.requestEnded && this.#isOpen(stream)) {
      this.#parts.responses.control(windowUpdateFrame(streamId, this.#dataLength));
    }
    return false;
  }

  #isOpen(stream: TakenStream): boolean {
    return this.#parts.streams.taken(stream.id) === stream;
  }

  #headerFrame(block: HeaderBlock | BlockFault | undefined): boolean {
    if (block instanceof BlockFault) this.#fault(block.code, block.reason);
    if (block === undefined || block instanceof BlockFault || !this.#blockComplete(block)) return false;
    for (const bytes of block.frames) this.#scanner.insert(bytes);
    return block.frames.length === 0;
  }

  /** @returns Whether the block goes to the runtime as it came. */
  #blockComplete(block: HeaderBlock): boolean {
    const { streamId, endStream } = block;
    const { streams } = this.#parts;
    const decoded = this.#decode(block);
    if (decoded === undefined) return false;
    const stream = streams.active.get(streamId);
    if (stream instanceof PassedStream) {
      if (endStream) streams.endRequest(streamId, stream);
      return this.#forward(block, decoded);
    }
    if (stream?.isForwarded === true) {
      if (endStream) stream.endRequest();
      return this.#forward(block, decoded);
    }
    if (stream === undefined && streamId > streams.highestId) {
      streams.highestId = streamId;
      if (streamId <= streams.lastServedId) return this.#open(block, decoded);
    }
    this.#swallow(decoded);
    stream?.receiveTrailers(endStream);
    return false;
  }

  /** @returns undefined where the block is refused, with everything done about it. */
  #decode({ streamId, bytes }: HeaderBlock): DecodedBlock | undefined {
    try {
      return this.#decoder.decode(bytes);
    } catch (error) {
      if (error instanceof HeaderListTooLargeError) this.#refuseBlock(streamId);
      else if (error instanceof HpackError) this.#fault(ErrorCode.compressionError, error.message);
      else throw error;
      return undefined;
    }
  }

  /** A list above the bound costs its stream only. */
  #refuseBlock(streamId: number): void {
    const { streams } = this.#parts;
    this.#owesSizeUpdate = true;
    this.#parts.context.refused('header list too large');
    const stream = streams.active.get(streamId);
    if (stream instanceof TakenStream) {
      stream.reset(ErrorCode.enhanceYourCalm);
      return;
    }
    if (stream !== undefined) {
      streams.close(streamId, GrpcCode.resourceExhausted);
      this.#scanner.insert(rstStreamFrame(streamId, ErrorCode.cancel));
    } else if (streamId <= streams.highestId) {
      return;
    }
    streams.highestId = Math.max(streams.highestId, streamId);
    this.#parts.responses.control(rstStreamFrame(streamId, ErrorCode.enhanceYourCalm));
  }

  #open(block: HeaderBlock, decoded: DecodedBlock): boolean {
    const { context, responses, settings, streams } = this.#parts;
    const { limits } = context;
    const { streamId, endStream } = block;
    const { fields } = decoded;
    const path = pathOf(fields);
    if (path === undefined) {
      this.#swallow(decoded);
      responses.control(rstStreamFrame(streamId, ErrorCode.protocolError));
      return false;
    }
    const decision = this.#parts.decide(path);
    if (decision !== 'take') {
      if (streams.active.size >= limits.passedStreams) {
        this.#fault(ErrorCode.enhanceYourCalm, `more than ${limits.passedStreams} open streams`);
        return false;
      }
      streams.open(streamId, this.#passed(path, fields, decision, endStream));
      return this.#forward(block, decoded);
    }
    this.#swallow(decoded);
    if (streams.takenCount + streams.unproven.size >= limits.takenStreams) {
      context.refused('too many taken streams');
      streams.refused(path);
      responses.control(rstStreamFrame(streamId, ErrorCode.refusedStream));
      return false;
    }
    const stream = new TakenStream(context, streamId, fields, { window: settings.initialWindowSize });
    streams.open(streamId, stream);
    stream.begin(endStream);
    this.#grantMissing(stream);
    return false;
  }

  #passed(path: string, fields: readonly HeaderField[], decision: Decision, endStream: boolean): PassedStream {
    // Without DATA there is no message.
    const isRead = decision !== 'pass' && !endStream;
    const stream = (isRead ? this.#readAlong(path, fields, decision) : undefined) ?? new PassedStream(path, undefined);
    stream.requestEnded = endStream;
    return stream;
  }

  /** @returns undefined where there is no memory for that. */
  #readAlong(path: string, fields: readonly HeaderField[], decision: Decision): PassedStream | undefined {
    const { context, observe } = this.#parts;
    const { streamBytes: share, halfRequests } = context;
    const bytes = streamBytes(fields);
    if (!share.take(bytes)) return undefined;
    const giveBack = () => share.giveBack(bytes);
    const observer = this.#observer(fields, giveBack, (message) => {
      if (report !== undefined) report.message = message;
      const listener = observe(path, message);
      // A report may be taken instead.
      if (listener !== undefined && decision === 'observe') stream.listen(listener);
    });
    const isKept = decision === 'report' && observer.reserve(countedHeaderBytes(fields));
    const report = isKept ? new ReportRequest(fields, context.clock.now()) : undefined;
    const stream = new PassedStream(path, { observer, report, halfRequests });
    return stream;
  }

  /** A runtime may open its streams' windows one by one, or make them smaller; of this stream it does not know. */
  #grantMissing(stream: TakenStream): void {
    const bytes = initialSettings.windowSize - this.#runtimeWindowSize - stream.extraWindow;
    if (bytes <= 0 || stream.isForwarded || stream.requestEnded || !this.#isOpen(stream)) return;
    stream.extraWindow += bytes;
    this.#parts.responses.control(windowUpdateFrame(stream.id, bytes));
  }

  #observer(fields: readonly HeaderField[], closed: () => void, found: (message: Buffer) => void): RequestObserver {
    const encoding = fields.find(({ name }) => name === 'grpc-encoding')?.value ?? 'identity';
    const { limits, requestBytes } = this.#parts.context;
    return new RequestObserver(encoding, limits.observedRequestBytes, requestBytes, found, closed);
  }

  #observeData(streamId: number, data: Buffer | undefined, endStream: boolean): void {
    // The table has already let go of a stream that this frame ends.
    const stream = this.#parts.streams.active.get(streamId);
    if (stream instanceof PassedStream) stream.observe(data, endStream);
  }

  #swallow(decoded: DecodedBlock): void {
    if (decoded.sizeUpdate) this.#owesSizeUpdate = true;
  }

  /** The runtime's table stays empty: a block that would read or change it is written anew. */
  #forward({ streamId, endStream, priority, bytes }: HeaderBlock, decoded: DecodedBlock): boolean {
    if (decoded.selfContained && !this.#owesSizeUpdate) return true;
    const updates = this.#owesSizeUpdate || decoded.sizeUpdate ? [0] : [];
    this.#owesSizeUpdate = false;
    const rewritten = encodeLiteralBlock(decoded.fields, updates);
    this.#rewritableBytes -= Math.max(0, rewritten.length - bytes.length);
    if (this.#rewritableBytes < 0) {
      this.#fault(ErrorCode.enhanceYourCalm, 'too many header blocks that need a header table');
      return false;
    }
    this.#scanner.insert(headersFrames(streamId, rewritten, endStream, priority));
    return false;
  }

  #fault(code: number, reason: string): 'stop' {
    this.#parts.fault(code, reason);
    return 'stop';
  }
}

const colon = 58;
const pathBit = 4;

/**
 * The value of `:path`, empty where there is none.
 *
 * @returns undefined where a pseudo field is there twice or behind another field: malformed (RFC 9113 section 8.3), and which of two
 * paths a runtime would go by nobody can say.
 */
function pathOf(fields: readonly HeaderField[]): string | undefined {
  let path = '';
  let seen = 0;
  let others = false;
  for (const { name, value } of fields) {
    if (name.charCodeAt(0) !== colon) {
      others = true;
      continue;
    }
    const bit = pseudoBit(name);
    if (others || (seen & bit) !== 0) return undefined;
    seen |= bit;
    if (bit === pathBit) path = value;
  }
  return path;
}

/** @returns 0 for a pseudo field that a request does not have; what is wrong with it is the runtime's to say. */
function pseudoBit(name: string): number {
  switch (name) {
    case ':method':
      return 1;
    case ':scheme':
      return 2;
    case ':path':
      return pathBit;
    case ':authority':
      return 8;
    default:
      return 0;
  }
}
