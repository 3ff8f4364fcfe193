/**
 * Everything that goes to the runtime: the client's frames, less those of streams taken out. It decodes every request
 * header block to decide by `:path`, and keeps the runtime's view of stream ids, header table and windows free of what
 * it never sees.
 */
import type { Clock } from '../../clock.js';
import { type FrameMode, FrameScanner, type FrameSink } from './frame-scanner.js';
import {
  ErrorCode,
  Flag,
  FrameType,
  forEachSetting,
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
import { type DecodedBlock, encodeLiteralBlock, HeaderListTooLargeError, HpackDecoder, HpackError } from './hpack.js';
import { type Limits, RateLimit } from './limits.js';
import type { ClientSettings, ResponsePath } from './response-path.js';
import { PassedStream, RequestObserver, type StreamTable } from './stream-table.js';
import { type Refusal, TakenStream, type TakenStreamHost } from './taken-stream.js';

export interface RequestPathHost extends TakenStreamHost {
  readonly clock: Clock;
  readonly limits: Limits;
  readonly streams: StreamTable;
  readonly responses: ResponsePath;
  toUpstream(bytes: Buffer): void;
  decide(path: string): 'pass' | 'observe' | 'take';
  observe(path: string, request: Buffer): void;
  /** A limit cost the client a stream. */
  refused(reason: Refusal): void;
  /** Whether the client owes the ACK of a PING of Holdfast's own. */
  readonly awaitsProof: boolean;
  /** @returns Whether a PING that was acknowledged is one of Holdfast's own. */
  takeProof(ping: Buffer): boolean;
  /** The client broke the protocol. */
  clientFault(code: number, reason: string): void;
}

/** SETTINGS of a client name a handful of parameters. */
const maxSettingsPayloadBytes = 16 * 1024;
/** The only lengths there are (RFC 9113 sections 6.4, 6.7 and 6.9). */
const fixedLength: Readonly<Record<number, number>> = {
  [FrameType.rstStream]: 4,
  [FrameType.ping]: 8,
  [FrameType.windowUpdate]: 4,
};

export class RequestPath implements FrameSink {
  readonly #host: RequestPathHost;
  readonly #scanner = new FrameScanner(this);
  readonly #decoder: HpackDecoder;
  readonly #blocks: HeaderBlocks;
  /** A table size update was in a block the runtime did not get; it may insist on one. */
  #owesSizeUpdate = false;
  /** The stream and the length, padding included, of the DATA frame being collected. The stream may end meanwhile. */
  #dataOf: PassedStream | TakenStream | undefined;
  #dataLength = 0;
  /** Connection window to be given back to the client. */
  #credit = 0;
  /** Frames of Holdfast's own, waiting for the end of the client's frame. */
  readonly #own: Buffer[] = [];
  #runtimeMaxFrameSize: number = initialSettings.maxFrameSize;
  #runtimeWindowSize: number = initialSettings.windowSize;
  readonly #settings: RateLimit;
  readonly #pings: RateLimit;
  readonly #resets: RateLimit;

  constructor(host: RequestPathHost) {
    const { limits } = host;
    this.#host = host;
    const { headerListBytes: maxHeaderListBytes } = limits;
    // The client's encoder starts with the default size and is then told 0.
    this.#decoder = new HpackDecoder({ maxTableBytes: initialSettings.headerTableSize, maxHeaderListBytes });
    this.#blocks = new HeaderBlocks(limits);
    this.#settings = new RateLimit(limits.settingsPerSecond);
    this.#pings = new RateLimit(limits.pingsPerSecond);
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
    for (const stream of this.#host.streams.allTaken()) this.#grantMissing(stream);
  }

  /** Writes what waits for a boundary. */
  serve(): void {
    if (this.#credit > 0) {
      this.#host.control(windowUpdateFrame(0, this.#credit));
      this.#credit = 0;
    }
    if (this.#own.length === 0 || !this.#scanner.atBoundary) return;
    for (const bytes of this.#own.splice(0)) this.#scanner.insert(bytes);
  }

  output(bytes: Buffer): void {
    this.#host.toUpstream(bytes);
  }

  frameStart(length: number, type: number, flags: number, streamId: number): FrameMode {
    if (this.#own.length > 0) this.serve();
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
        return this.#startPing(flags);
      case FrameType.windowUpdate:
        if (streamId === 0 || this.#host.streams.taken(streamId) !== undefined) return 'collect';
        return this.#host.streams.isOver(streamId) ? 'drop' : 'forward';
      case FrameType.goAway:
        return 'forward';
      default:
        // PRIORITY and extensions.
        return this.#host.streams.taken(streamId) !== undefined || this.#host.streams.isOver(streamId)
          ? 'drop'
          : 'forward';
    }
  }

  /** ACKs are not counted: the runtime, or Holdfast, has asked for them. */
  #startPing(flags: number): FrameMode {
    if ((flags & Flag.ack) !== 0) return this.#host.awaitsProof ? 'collect' : 'forward';
    if (this.#pings.admit(this.#host.clock.now())) return 'forward';
    return this.#fault(ErrorCode.enhanceYourCalm, 'too many PINGs');
  }

  #startData(length: number, flags: number, streamId: number): FrameMode {
    const { streams } = this.#host;
    const stream = streams.active.get(streamId);
    this.#dataOf = stream;
    if (stream instanceof TakenStream) {
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
    if (length <= this.#host.limits.observedRequestBytes) return 'collect';
    stream.stopObserving();
    return 'forward';
  }

  #startReset(streamId: number): FrameMode {
    const { streams, clock } = this.#host;
    const taken = streams.taken(streamId) ?? streams.unproven.get(streamId);
    if (taken !== undefined) {
      taken.leave('cancelled');
      if (!this.#resets.admit(clock.now())) return this.#fault(ErrorCode.enhanceYourCalm, 'too many resets');
      return 'drop';
    }
    if (streams.isOver(streamId)) return 'drop';
    streams.close(streamId);
    return 'forward';
  }

  #startSettings(length: number, flags: number, streamId: number): FrameMode {
    const { clock, limits, responses } = this.#host;
    if ((flags & Flag.ack) !== 0 || streamId !== 0) return 'forward';
    if (!this.#settings.admit(clock.now())) return this.#fault(ErrorCode.enhanceYourCalm, 'too many SETTINGS');
    if (length % 6 !== 0 || length > maxSettingsPayloadBytes) {
      return this.#fault(ErrorCode.frameSizeError, `SETTINGS of ${length} bytes`);
    }
    if (responses.unacknowledgedSettings >= limits.unacknowledgedSettings) {
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
        this.#host.responses.clientSettings(readClientSettings(payload));
        return true;
      case FrameType.ping:
        return !this.#host.takeProof(payload);
      default:
        return this.#windowUpdate(streamId, readUInt31(payload, 0));
    }
  }

  #windowUpdate(streamId: number, increment: number): boolean {
    if (streamId !== 0) {
      this.#host.streams.taken(streamId)?.replenish(increment);
      return false;
    }
    const rest = this.#host.responses.replenish(increment);
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
      this.#host.control(windowUpdateFrame(streamId, this.#dataLength));
    }
    return false;
  }

  #isOpen(stream: TakenStream): boolean {
    return this.#host.streams.taken(stream.id) === stream;
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
    const { streams } = this.#host;
    const decoded = this.#decode(block);
    if (decoded === undefined) return false;
    const stream = streams.active.get(streamId);
    if (stream instanceof PassedStream) {
      if (endStream) streams.endRequest(streamId, stream);
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
    const { streams } = this.#host;
    this.#owesSizeUpdate = true;
    this.#host.refused('header list too large');
    const stream = streams.active.get(streamId);
    if (stream instanceof TakenStream) {
      stream.reset(ErrorCode.enhanceYourCalm);
      return;
    }
    if (stream !== undefined) {
      streams.close(streamId);
      this.#scanner.insert(rstStreamFrame(streamId, ErrorCode.cancel));
    } else if (streamId <= streams.highestId) {
      return;
    }
    streams.highestId = Math.max(streams.highestId, streamId);
    this.#host.control(rstStreamFrame(streamId, ErrorCode.enhanceYourCalm));
  }

  #open(block: HeaderBlock, decoded: DecodedBlock): boolean {
    const { limits, responses, streams } = this.#host;
    const { streamId, endStream } = block;
    const path = fieldValue(decoded, ':path') ?? '';
    const decision = this.#host.decide(path);
    if (decision !== 'take') {
      if (streams.active.size >= limits.passedStreams) {
        this.#fault(ErrorCode.enhanceYourCalm, `more than ${limits.passedStreams} open streams`);
        return false;
      }
      const stream = new PassedStream(path, decision === 'observe' ? this.#observer(path, decoded) : undefined);
      stream.requestEnded = endStream;
      streams.open(streamId, stream);
      return this.#forward(block, decoded);
    }
    this.#swallow(decoded);
    if (streams.takenCount + streams.unproven.size >= limits.takenStreams) {
      this.#host.refused('too many taken streams');
      this.#host.control(rstStreamFrame(streamId, ErrorCode.refusedStream));
      return false;
    }
    const stream = new TakenStream(this.#host, streamId, decoded.fields, responses.initialWindowSize);
    streams.open(streamId, stream);
    stream.begin(endStream);
    this.#grantMissing(stream);
    return false;
  }

  /** A runtime may open its streams' windows one by one, or make them smaller; of this stream it does not know. */
  #grantMissing(stream: TakenStream): void {
    const bytes = initialSettings.windowSize - this.#runtimeWindowSize - stream.extraWindow;
    if (bytes <= 0 || stream.requestEnded || !this.#isOpen(stream)) return;
    stream.extraWindow += bytes;
    this.#host.control(windowUpdateFrame(stream.id, bytes));
  }

  #observer(path: string, decoded: DecodedBlock): RequestObserver {
    const encoding = fieldValue(decoded, 'grpc-encoding') ?? 'identity';
    const { limits, requestBytes } = this.#host;
    return new RequestObserver(encoding, limits.observedRequestBytes, requestBytes, (message) =>
      this.#host.observe(path, message),
    );
  }

  #observeData(streamId: number, data: Buffer | undefined, endStream: boolean): void {
    // The table has already let go of a stream that this frame ends.
    const stream = this.#host.streams.active.get(streamId);
    if (stream instanceof PassedStream) stream.observe(data, endStream);
  }

  #swallow(decoded: DecodedBlock): void {
    if (decoded.sizeUpdate) this.#owesSizeUpdate = true;
  }

  /** The runtime's table stays empty: a block that would read or change it is written anew. */
  #forward({ streamId, endStream, priority }: HeaderBlock, decoded: DecodedBlock): boolean {
    if (decoded.selfContained && !this.#owesSizeUpdate) return true;
    const updates = this.#owesSizeUpdate || decoded.sizeUpdate ? [0] : [];
    this.#owesSizeUpdate = false;
    this.#scanner.insert(headersFrames(streamId, encodeLiteralBlock(decoded.fields, updates), endStream, priority));
    return false;
  }

  #fault(code: number, reason: string): 'stop' {
    this.#host.clientFault(code, reason);
    return 'stop';
  }
}

function fieldValue(decoded: DecodedBlock, name: string): string | undefined {
  for (const field of decoded.fields) if (field.name === name) return field.value;
  return undefined;
}

function readClientSettings(payload: Buffer): ClientSettings {
  const settings: ClientSettings = { initialWindowSize: undefined, headerTableSizes: [] };
  forEachSetting(payload, (id, value) => {
    if (id === Setting.initialWindowSize) settings.initialWindowSize = value;
    if (id === Setting.headerTableSize) settings.headerTableSizes.push(value);
  });
  return settings;
}
