/**
 * Reads along how the runtime ends calls: the `grpc-status` of their trailers. It changes nothing of what is forwarded, and knows no
 * method.
 */
import type { PayloadReader } from './frame-scanner.js';
import { Flag, FrameType, frameHeaderBytes, initialSettings, octet, withoutPadding } from './frames.js';
import { statusOf } from './grpc-response.js';
import { HeaderListTooLargeError, HpackDecoder, HpackError } from './hpack.js';
import type { CallEnd } from './passed-stream.js';

/** Trailers of a call that succeeded take some 30. */
const maxBlockBytes = initialSettings.maxFrameSize;
const maxHeaderListBytes = 64 * 1024;
/** RFC 9113 section 6.2. */
const priorityBytes = 5;
/** A block of a failed call is longer, and another one for each. */
const maxKnownBytes = 64;
/** What has to be off or on for a frame to be a block and nothing else. */
const unusualFlags = Flag.endHeaders | Flag.padded | Flag.priority;

/** One for each connection. It is told of all frames with header blocks, in the order in which the runtime sent them. */
export class CallEnds implements PayloadReader {
  /**
   * Follows the runtime's header table from its first block on; undefined where that is empty for good, or was lost track of. From then
   * on only blocks are read that need no table, which mean the same whatever it holds.
   */
  #table: HpackDecoder | undefined = new HpackDecoder({
    maxTableBytes: initialSettings.headerTableSize,
    maxHeaderListBytes,
  });
  readonly #withoutTable = new HpackDecoder({ maxTableBytes: 0, maxHeaderListBytes });
  /** The last block that was read and means the same whatever the table holds: runtimes end nearly all calls with the very same one. */
  #known: { readonly block: Buffer; readonly code: number } | undefined;
  /** The block being received is read, and is the trailers of a call whose end is asked for. */
  #isReading = false;
  #callEnd: CallEnd | undefined;
  #frameBytes = 0;
  #type = 0;
  #flags = 0;
  #blockBytes = 0;
  readonly #fragments: Buffer[] = [];
  readonly #parts: Buffer[] = [];

  /** The runtime has acknowledged that it is to use no header table: what was in it is gone (RFC 9113 section 6.5.3). */
  tableEmptied(): void {
    this.#table = undefined;
  }

  /**
   * A frame begins: HEADERS, PUSH_PROMISE or CONTINUATION.
   *
   * @param length Of its payload, in bytes.
   * @param callEnd Of HEADERS that end a stream: is told how its call ended.
   * @returns Whether its payload is to be read.
   */
  frameStart(length: number, type: number, flags: number, callEnd: CallEnd | undefined): boolean {
    if (type !== FrameType.continuation) {
      this.#callEnd = callEnd;
      this.#blockBytes = 0;
      this.#isReading = callEnd !== undefined || this.#table !== undefined;
    }
    if (!this.#isReading) return false;
    this.#frameBytes = length;
    this.#type = type;
    this.#flags = flags;
    // Frame headers count, so that empty frames cost no more.
    this.#blockBytes += frameHeaderBytes + length;
    if (this.#blockBytes > maxBlockBytes) this.giveUp();
    return this.#isReading;
  }

  payload(chunk: Buffer, from: number, to: number): void {
    if (!this.#isReading) return;
    // As trailers nearly always come.
    const isWhole = to - from === this.#frameBytes && this.#type === FrameType.headers;
    if (!isWhole || (this.#flags & unusualFlags) !== Flag.endHeaders) {
      this.#parts.push(Buffer.from(chunk.subarray(from, to)));
    } else if (this.#known !== undefined && isAt(chunk, from, to, this.#known.block)) {
      this.#end(this.#known.code);
    } else {
      this.#end(this.#codeOf(chunk.subarray(from, to)));
    }
  }

  payloadEnd(): void {
    if (!this.#isReading) return;
    const fragment = this.#fragment(Buffer.concat(this.#parts.splice(0)));
    if (fragment === undefined) {
      this.giveUp();
      return;
    }
    this.#fragments.push(fragment);
    if ((this.#flags & Flag.endHeaders) !== 0) this.#end(this.#codeOf(Buffer.concat(this.#fragments.splice(0))));
  }

  /** What is left of a block that is being received is not to be had. */
  giveUp(): void {
    this.#table = undefined;
    this.#fragments.length = 0;
    this.#end(undefined);
  }

  /** @returns undefined where it cannot be told. Nothing is to be pushed to a gRPC client. */
  #fragment(payload: Buffer): Buffer | undefined {
    if (this.#type === FrameType.continuation) return payload;
    const content = this.#type === FrameType.headers ? withoutPadding(this.#flags, payload) : undefined;
    const skipped = (this.#flags & Flag.priority) === 0 ? 0 : priorityBytes;
    return content?.subarray(skipped);
  }

  /** @returns The gRPC status code; undefined where it cannot be read. */
  #codeOf(block: Buffer): number | undefined {
    try {
      const { fields, selfContained, sizeUpdate } = (this.#table ?? this.#withoutTable).decode(block);
      if (this.#callEnd === undefined) return undefined;
      const { code } = statusOf(fields);
      if (selfContained && !sizeUpdate && block.length <= maxKnownBytes)
        this.#known = { block: Buffer.from(block), code };
      return code;
    } catch (error) {
      if (error instanceof HpackError) this.#table = undefined;
      else if (!(error instanceof HeaderListTooLargeError)) throw error;
      return undefined;
    }
  }

  #end(code: number | undefined): void {
    const callEnd = this.#callEnd;
    this.#callEnd = undefined;
    this.#isReading = false;
    callEnd?.ended(code);
  }
}

/** Whether these bytes of a chunk are this block. Quicker than to compare buffers, as long as they are this short. */
function isAt(chunk: Buffer, from: number, to: number, block: Buffer): boolean {
  const { length } = block;
  if (to - from !== length) return false;
  for (let at = 0; at < length; at++) if (octet(chunk, from + at) !== octet(block, at)) return false;
  return true;
}
