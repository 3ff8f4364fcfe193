/**
 * Reads along how the runtime ends calls: the `grpc-status` of their trailers. What it cannot read is no success. It changes nothing
 * of what is forwarded, and knows no method.
 */
import { GrpcCode } from '../grpc-code.js';
import type { PayloadReader } from './frame-scanner.js';
import { Flag, FrameType, frameHeaderBytes, initialSettings, withoutPadding } from './frames.js';
import { statusOf } from './grpc-response.js';
import { HeaderListTooLargeError, HpackDecoder, HpackError } from './hpack.js';
import type { EndListener } from './passed-stream.js';

/** Trailers of a call that succeeded take some 30. */
const maxBlockBytes = initialSettings.maxFrameSize;
const maxHeaderListBytes = 64 * 1024;
/** RFC 9113 section 6.2. */
const priorityBytes = 5;

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
  /** The block being received is read, and is the trailers of a call whose end is asked for. */
  #isReading = false;
  #listener: EndListener | undefined;
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
   * @param listener Of HEADERS that end a stream: asks how its call ended.
   * @returns Whether its payload is to be read.
   */
  frameStart(type: number, flags: number, listener: EndListener | undefined): boolean {
    if (type !== FrameType.continuation) {
      this.#listener = listener;
      this.#blockBytes = 0;
      this.#isReading = listener !== undefined || this.#table !== undefined;
    }
    if (!this.#isReading) return false;
    this.#type = type;
    this.#flags = flags;
    this.#count(frameHeaderBytes);
    return this.#isReading;
  }

  payload(part: Buffer): void {
    this.#count(part.length);
    if (this.#isReading) this.#parts.push(Buffer.from(part));
  }

  payloadEnd(): void {
    if (!this.#isReading) return;
    const fragment = this.#fragment(Buffer.concat(this.#parts.splice(0)));
    if (fragment === undefined) {
      this.giveUp();
      return;
    }
    this.#fragments.push(fragment);
    if ((this.#flags & Flag.endHeaders) !== 0) this.#end(this.#succeeded(Buffer.concat(this.#fragments)));
  }

  /** What is left of a block that is being received is not to be had. */
  giveUp(): void {
    this.#table = undefined;
    this.#end(false);
  }

  /** Frame headers count, so that empty frames cost no more. */
  #count(bytes: number): void {
    this.#blockBytes += bytes;
    if (this.#blockBytes > maxBlockBytes) this.giveUp();
  }

  /** @returns undefined where it cannot be told. Nothing is to be pushed to a gRPC client. */
  #fragment(payload: Buffer): Buffer | undefined {
    if (this.#type === FrameType.continuation) return payload;
    const content = this.#type === FrameType.headers ? withoutPadding(this.#flags, payload) : undefined;
    const skipped = (this.#flags & Flag.priority) === 0 ? 0 : priorityBytes;
    return content?.subarray(skipped);
  }

  #succeeded(block: Buffer): boolean {
    try {
      const { fields } = (this.#table ?? this.#withoutTable).decode(block);
      return this.#listener !== undefined && statusOf(fields).code === GrpcCode.ok;
    } catch (error) {
      if (error instanceof HpackError) this.#table = undefined;
      else if (!(error instanceof HeaderListTooLargeError)) throw error;
      return false;
    }
  }

  #end(succeeded: boolean): void {
    const listener = this.#listener;
    this.#listener = undefined;
    this.#isReading = false;
    this.#fragments.length = 0;
    this.#parts.length = 0;
    listener?.(succeeded);
  }
}
