/** One end of a connection on which the test says what it likes in HTTP/2 frames: nothing is checked, nothing is answered. */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type Frame, readFrames } from '../proxy/http2/wire.js';

const nothing: Buffer = Buffer.alloc(0);
const retryMs = 5;

export class FramePeer {
  readonly closed: Promise<void>;
  onFrame: (frame: Frame) => void = () => {};
  /** The other end has taken everything that was written. */
  onDrain: () => void = () => {};
  readonly #socket: net.Socket;
  #rest: Buffer = nothing;
  #reading = false;
  /** What is said to the frames of one chunk; it goes out in one write. */
  readonly #replies: Buffer[] = [];
  #replyBytes = 0;

  /** @param skip Bytes before the first frame. */
  constructor(socket: net.Socket, skip = 0) {
    this.#socket = socket;
    let toSkip = skip;
    this.closed = new Promise((resolve) => {
      socket.once('close', () => resolve());
    });
    // 'close' follows.
    socket.on('error', () => {});
    socket.on('drain', () => this.onDrain());
    socket.on('data', (chunk: Buffer) => {
      const skipped = Math.min(toSkip, chunk.length);
      toSkip -= skipped;
      const news = chunk.subarray(skipped);
      const bytes = this.#rest.length === 0 ? news : Buffer.concat([this.#rest, news]);
      const { frames, length } = readFrames(bytes);
      this.#rest = bytes.subarray(length);
      this.#reading = true;
      for (const frame of frames) this.onFrame(frame);
      this.#reading = false;
      this.#flush();
    });
  }

  /** @param options.allowHalfOpen Whether it may still speak when the other end has said its last. */
  static async connect(path: string, { allowHalfOpen = false } = {}): Promise<FramePeer> {
    for (;;) {
      const socket = net.connect({ path, allowHalfOpen });
      try {
        await once(socket, 'connect');
        return new FramePeer(socket);
      } catch (error) {
        // The queue of connections not yet accepted is full.
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
        await delay(retryMs);
      }
    }
  }

  get isOver(): boolean {
    return !this.#socket.writable;
  }

  /** Bytes the other end has not taken. */
  get unwrittenBytes(): number {
    return this.#socket.writableLength + this.#replyBytes;
  }

  write(...frames: readonly Buffer[]): void {
    for (const frame of frames) {
      this.#replies.push(frame);
      this.#replyBytes += frame.length;
    }
    if (!this.#reading) this.#flush();
  }

  #flush(): void {
    const bytes = Buffer.concat(this.#replies.splice(0));
    this.#replyBytes = 0;
    if (bytes.length > 0 && !this.isOver) this.#socket.write(bytes);
  }

  /** Resolves when the other end has taken these bytes, or the connection is closed. */
  written(bytes: Buffer): Promise<void> {
    this.#flush();
    return new Promise((resolve) => {
      if (this.isOver) resolve();
      else this.#socket.write(bytes, () => resolve());
    });
  }

  /** Reads nothing any more. */
  ignore(): void {
    this.#socket.pause();
  }

  /** Reads again. */
  heed(): void {
    this.#socket.resume();
  }

  /** Says no more. */
  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}
