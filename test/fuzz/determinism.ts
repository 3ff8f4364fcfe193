/**
 * Takes what is left to chance out of the process, so that a case is the same each time: the random bytes of proofs of
 * delivery, and when a decompression on another thread is done.
 */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import zlib from 'node:zlib';

type Done = (error: Error | null, result: Buffer) => void;
type Decompress = (body: Buffer, options: zlib.ZlibOptions) => Buffer;

/** Calls back from the event loop's next turn. */
function inOrder(decompress: Decompress): (body: Buffer, options: zlib.ZlibOptions, done: Done) => void {
  return (body, options, done) => {
    setImmediate(() => {
      let result: Buffer;
      try {
        result = decompress(body, options);
      } catch (error) {
        done(error as Error, Buffer.alloc(0));
        return;
      }
      done(null, result);
    });
  };
}

export function leaveNothingToChance(): void {
  Object.assign(crypto, { randomBytes: (length: number) => Buffer.alloc(length, 0xa7) });
  Object.assign(zlib, { gunzip: inOrder(zlib.gunzipSync), inflate: inOrder(zlib.inflateSync) });
  syncBuiltinESMExports();
}
