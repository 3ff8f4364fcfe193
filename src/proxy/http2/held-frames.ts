/**
 * Frames of the runtime that the client's connection window does not let go, and those that must stay in order behind them. Keeps
 * them; what may go is said by whoever writes.
 */
import { Flag, FrameType } from './frames.js';

export interface HeldFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

const overheadBytes = 64;

export class HeldFrames {
  readonly #frames: HeldFrame[] = [];
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#frames.length === 0;
  }

  /** What they take of memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @param frame Kept, its payload too. */
  push(frame: HeldFrame): void {
    this.#frames.push(frame);
    this.#bytes += frame.payload.length + overheadBytes;
  }

  clear(): void {
    this.#frames.length = 0;
    this.#bytes = 0;
  }

  /** A header block at the end that is not whole and never will be goes nowhere. */
  dropOpenBlock(): void {
    const first = this.#frames.findLastIndex(({ type }) => isBlockStart(type));
    if (first < 0 || this.#isWholeBlock(first)) return;
    for (const { payload } of this.#frames.splice(first)) this.#bytes -= payload.length + overheadBytes;
  }

  /**
   * Lets go what may go, in order; DATA in parts, since the client may wait for less than a whole frame.
   *
   * @param windowLeft What the client's connection window has left, asked before each DATA frame.
   */
  release(windowLeft: () => number, write: (frame: HeldFrame) => void): void {
    let released = 0;
    for (const [position, frame] of this.#frames.entries()) {
      if (frame.type === FrameType.data) {
        const part = Math.max(0, windowLeft());
        if (frame.payload.length > part) {
          if (part > 0) this.#releasePart(position, frame, part, write);
          break;
        }
      } else if (!this.#isWholeBlock(position)) {
        break;
      }
      this.#bytes -= frame.payload.length + overheadBytes;
      released += 1;
      write(frame);
    }
    if (released > 0) this.#frames.splice(0, released);
  }

  #releasePart(position: number, frame: HeldFrame, part: number, write: (frame: HeldFrame) => void): void {
    this.#frames[position] = { ...frame, payload: frame.payload.subarray(part) };
    this.#bytes -= part;
    write({ ...frame, flags: frame.flags & ~Flag.endStream, payload: frame.payload.subarray(0, part) });
  }

  /** Whether a frame begins no header block that is still to be completed: nothing else may get into it. */
  #isWholeBlock(position: number): boolean {
    if (!isBlockStart(this.#frames[position]?.type)) return true;
    for (let at = position; at < this.#frames.length; at += 1) {
      if (((this.#frames[at]?.flags ?? 0) & Flag.endHeaders) !== 0) return true;
    }
    return false;
  }
}

function isBlockStart(type: number | undefined): boolean {
  return type === FrameType.headers || type === FrameType.pushPromise;
}
