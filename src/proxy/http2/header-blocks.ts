/**
 * The header blocks of a client, from HEADERS frames and the CONTINUATION frames behind them (RFC 9113 section 4.3). It keeps
 * their limits and decodes nothing.
 */
import { ErrorCode, Flag, FrameType, frame, frameHeaderBytes, withoutPadding } from './frames.js';
import type { Limits } from './limits.js';

/** A whole header block, and what its HEADERS frame said beside it. */
export interface HeaderBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  /** The 5 octets of RFC 9113 section 6.2. */
  readonly priority: Buffer | undefined;
  readonly bytes: Buffer;
  /** The frames as they came, where there are several. */
  readonly frames: readonly Buffer[];
}

/** Ends the connection. */
export class BlockFault {
  readonly code: number;
  readonly reason: string;

  constructor(code: number, reason: string) {
    this.code = code;
    this.reason = reason;
  }
}

interface IncompleteBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly priority: Buffer | undefined;
  readonly fragments: Buffer[];
  readonly frames: Buffer[];
  /** Of all payloads. */
  payloadBytes: number;
}

const priorityBytes = 5;
const noFrames: readonly Buffer[] = [];

export class HeaderBlocks {
  readonly #limits: Limits;
  #incomplete: IncompleteBlock | undefined;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** Whether a frame may come here: nothing but its CONTINUATION goes between HEADERS and the end of a block. */
  admits(type: number, streamId: number): boolean {
    const isContinuation = type === FrameType.continuation;
    if (this.#incomplete === undefined) return !isContinuation;
    return isContinuation && streamId === this.#incomplete.streamId;
  }

  /** @returns undefined where the block goes on. What is whole is only valid as long as `payload` is. */
  headers(flags: number, streamId: number, payload: Buffer): HeaderBlock | BlockFault | undefined {
    const isWhole = (flags & Flag.endHeaders) !== 0;
    // What waits for its CONTINUATION is copied, once.
    const whole = isWhole ? undefined : frame(FrameType.headers, flags, streamId, payload);
    const content = withoutPadding(flags, whole?.subarray(frameHeaderBytes) ?? payload);
    const skipped = (flags & Flag.priority) === 0 ? 0 : priorityBytes;
    if (content === undefined || content.length < skipped) {
      return new BlockFault(ErrorCode.protocolError, 'padding or priority exceeds the frame');
    }
    const endStream = (flags & Flag.endStream) !== 0;
    const priority = skipped === 0 ? undefined : content.subarray(0, skipped);
    const fragment = skipped === 0 ? content : content.subarray(skipped);
    if (whole === undefined) return { streamId, endStream, priority, bytes: fragment, frames: noFrames };
    const { length: payloadBytes } = payload;
    this.#incomplete = { streamId, endStream, priority, fragments: [fragment], frames: [whole], payloadBytes };
    return this.#checkLimits(this.#incomplete);
  }

  /** @returns undefined where the block goes on. */
  continuation(flags: number, streamId: number, payload: Buffer): HeaderBlock | BlockFault | undefined {
    const block = this.#incomplete;
    if (block === undefined) return undefined;
    const copy = frame(FrameType.continuation, flags, streamId, payload);
    block.fragments.push(copy.subarray(frameHeaderBytes));
    block.frames.push(copy);
    block.payloadBytes += payload.length;
    const fault = this.#checkLimits(block);
    if (fault !== undefined || (flags & Flag.endHeaders) === 0) return fault;
    this.#incomplete = undefined;
    const { endStream, priority, fragments, frames } = block;
    return { streamId, endStream, priority, bytes: Buffer.concat(fragments), frames };
  }

  #checkLimits({ payloadBytes, frames }: IncompleteBlock): BlockFault | undefined {
    const { headerBlockBytes, continuationFrames } = this.#limits;
    if (payloadBytes <= headerBlockBytes && frames.length <= continuationFrames + 1) return undefined;
    return new BlockFault(
      ErrorCode.enhanceYourCalm,
      `header block of more than ${headerBlockBytes} bytes or ${continuationFrames} CONTINUATION frames`,
    );
  }
}
