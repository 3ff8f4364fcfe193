/**
 * Takes what is left to chance out of the process, so that a case is the same each time: the random bytes of proofs of
 * delivery, and when a decompression on another thread is done.
 */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { Transform, type TransformCallback } from 'node:stream';
import zlib from 'node:zlib';

/** As long as the pieces that a stream of node:zlib comes in. */
const pieceBytes = 16 * 1024;

/** Decompresses on this thread, at the end of its input. */
class InOrder extends Transform {
  readonly #decompress: (body: Buffer) => Buffer;
  readonly #parts: Buffer[] = [];

  constructor(decompress: (body: Buffer) => Buffer) {
    super();
    this.#decompress = decompress;
  }

  override _transform(part: Buffer, _encoding: string, done: TransformCallback): void {
    this.#parts.push(part);
    done();
  }

  override _flush(done: TransformCallback): void {
    try {
      const whole = this.#decompress(Buffer.concat(this.#parts));
      for (let at = 0; at < whole.length; at += pieceBytes) this.push(whole.subarray(at, at + pieceBytes));
    } catch (error) {
      done(error as Error);
      return;
    }
    done();
  }
}

export function leaveNothingToChance(): void {
  Object.assign(crypto, { randomBytes: (length: number) => Buffer.alloc(length, 0xa7) });
  const { gunzipSync, inflateSync } = zlib;
  // They are read-only.
  Object.defineProperties(zlib, {
    createGunzip: { value: () => new InOrder((body) => gunzipSync(body)) },
    createInflate: { value: () => new InOrder((body) => inflateSync(body)) },
  });
  syncBuiltinESMExports();
}
