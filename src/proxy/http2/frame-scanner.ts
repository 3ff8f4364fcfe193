/**
 * Reads one direction of a connection frame by frame, however its bytes are cut, and lets through what its sink wants
 * let through, as contiguous ranges of the chunks it was given. It knows where frames begin and end, not what they
 * mean.
 */
import { frameHeaderBytes, octet, readUInt31, writeFrameHeader } from './frames.js';

/**
 * What becomes of a frame: `forward` lets it through piece by piece, `collect` hands its whole payload to the sink,
 * `drop` skips it, `stop` ends the reading for good.
 */
export type FrameMode = 'forward' | 'collect' | 'drop' | 'stop';

export interface FrameSink {
  /** A frame header was read and everything let through so far ends with a whole frame. */
  frameStart(length: number, type: number, flags: number, streamId: number): FrameMode;
  /**
   * A collected frame is there. The payload is only valid until this returns.
   *
   * @returns Whether to let it through as it came.
   */
  frameCollected(type: number, flags: number, streamId: number, payload: Buffer): boolean;
  /** Bytes let through or inserted, in order. Those let through are part of the chunk being pushed. */
  output(bytes: Buffer): void;
}

/** Reads the payload of a frame along, whatever becomes of it. */
export interface PayloadReader {
  /**
   * A part of it is there. Not as a buffer of its own: to make one takes longer than to read trailers.
   *
   * @param chunk Only valid until this returns.
   * @param from Where in the chunk the part begins.
   * @param to Where it ends.
   */
  payload(chunk: Buffer, from: number, to: number): void;
  /** It is there to its end; what the sink does with it comes after. */
  payloadEnd(): void;
}

const nothing: Buffer = Buffer.alloc(0);

export class FrameScanner {
  readonly #sink: FrameSink;
  readonly #header = Buffer.alloc(frameHeaderBytes);
  #headerRead = 0;
  /** Of the frame being read; undefined between frames. */
  #mode: FrameMode | undefined;
  /** Stopped in the middle of a forwarded frame. */
  #cutShort = false;
  #payloadLeft = 0;
  #length = 0;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  readonly #parts: Buffer[] = [];
  /** Of the frame being read. */
  #reader: PayloadReader | undefined;
  /** Where in `#chunk` the frame being read began; -1: in an earlier chunk. */
  #frameAt = -1;
  #chunk = nothing;
  /** The range of `#chunk` let through and not yet put out. */
  #from = 0;
  #to = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether what was let through so far ends with a whole frame, so that a frame may be inserted. */
  get atBoundary(): boolean {
    return this.#mode !== 'forward' && !this.#cutShort;
  }

  /** @param chunk Not kept: the caller may overwrite it afterwards. */
  push(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#from = 0;
    this.#to = 0;
    this.#frameAt = -1;
    let at = 0;
    while (at < chunk.length && this.#mode !== 'stop') {
      at = this.#mode === undefined ? this.#readHeader(chunk, at) : this.#readPayload(this.#mode, chunk, at);
    }
    this.#flush();
    this.#chunk = nothing;
  }

  /** Puts out whole frames behind everything let through so far; only when `atBoundary`. */
  insert(bytes: Buffer): void {
    this.#flush();
    this.#sink.output(bytes);
  }

  /** To be called in `FrameSink.frameStart`, of the frame that begins. */
  readAlong(reader: PayloadReader): void {
    this.#reader = reader;
  }

  /** Reads no further frame. */
  stop(): void {
    this.#cutShort = !this.atBoundary;
    this.#mode = 'stop';
  }

  #readHeader(chunk: Buffer, at: number): number {
    let header = chunk;
    let end = at + frameHeaderBytes;
    if (this.#headerRead > 0 || end > chunk.length) {
      end = Math.min(chunk.length, at + frameHeaderBytes - this.#headerRead);
      chunk.copy(this.#header, this.#headerRead, at, end);
      this.#headerRead += end - at;
      if (this.#headerRead < frameHeaderBytes) return end;
      this.#headerRead = 0;
      // It began in an earlier chunk: `at` is 0.
      header = this.#header;
    } else {
      this.#frameAt = at;
    }
    this.#length = (octet(header, at) << 16) | (octet(header, at + 1) << 8) | octet(header, at + 2);
    this.#type = octet(header, at + 3);
    this.#flags = octet(header, at + 4);
    this.#streamId = readUInt31(header, at + 5);
    this.#payloadLeft = this.#length;
    const mode = this.#sink.frameStart(this.#length, this.#type, this.#flags, this.#streamId);
    if (this.#isStopped()) return end;
    if (mode === 'forward') {
      if (this.#frameAt >= 0) this.#extend(this.#frameAt, end);
      else this.insert(Buffer.from(this.#header));
    }
    this.#mode = mode;
    return this.#length === 0 && mode !== 'stop' ? this.#endFrame(end, nothing) : end;
  }

  #readPayload(mode: FrameMode, chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#payloadLeft);
    this.#payloadLeft -= end - at;
    this.#reader?.payload(chunk, at, end);
    const isEnd = this.#payloadLeft === 0;
    if (mode === 'forward') {
      this.#extend(at, end);
    } else if (mode === 'collect') {
      const part = chunk.subarray(at, end);
      if (isEnd && this.#parts.length === 0) return this.#endFrame(end, part);
      // Copied, because it waits for the rest.
      this.#parts.push(Buffer.from(part));
    }
    return isEnd ? this.#endFrame(end, this.#parts.length === 0 ? nothing : Buffer.concat(this.#parts.splice(0))) : end;
  }

  #endFrame(end: number, payload: Buffer): number {
    const collected = this.#mode === 'collect';
    this.#mode = undefined;
    if (this.#reader !== undefined) this.#endReading(this.#reader);
    if (collected) this.#endCollected(end, payload);
    return end;
  }

  #endReading(reader: PayloadReader): void {
    this.#reader = undefined;
    reader.payloadEnd();
  }

  #endCollected(end: number, payload: Buffer): void {
    if (!this.#sink.frameCollected(this.#type, this.#flags, this.#streamId, payload) || this.#isStopped()) return;
    if (this.#frameAt >= 0) {
      this.#extend(this.#frameAt, end);
    } else {
      const header = Buffer.allocUnsafe(frameHeaderBytes);
      writeFrameHeader(header, this.#length, this.#type, this.#flags, this.#streamId);
      this.insert(header);
      if (payload.length > 0) this.insert(payload);
    }
  }

  /** A method, because the sink may have called `stop` in between. */
  #isStopped(): boolean {
    return this.#mode === 'stop';
  }

  #extend(from: number, to: number): void {
    if (from !== this.#to) {
      this.#flush();
      this.#from = from;
    }
    this.#to = to;
  }

  #flush(): void {
    if (this.#to > this.#from) {
      const whole = this.#from === 0 && this.#to === this.#chunk.length;
      this.#sink.output(whole ? this.#chunk : this.#chunk.subarray(this.#from, this.#to));
    }
    this.#from = this.#to;
  }
}
