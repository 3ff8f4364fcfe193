/**
 * gRPC's own wire forms (grpc/doc/PROTOCOL-HTTP2.md): message framing, compression, deadline and status text. It knows
 * no HTTP/2.
 */
import { createGunzip, createInflate, gunzipSync, inflateSync } from 'node:zlib';
import { GrpcCode } from '../grpc-code.js';

/** A request that cannot be understood; `code` and message as grpc-go answers it. */
export class GrpcRequestError extends Error {
  override readonly name = 'GrpcRequestError';
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

const prefixBytes = 5;
const firstBodyBytes = 16 * 1024;

/** One message as it travels, uncompressed. */
export function framedMessage(message: Buffer): Buffer {
  const framed = Buffer.allocUnsafe(prefixBytes + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  message.copy(framed, prefixBytes);
  return framed;
}

/** Reads the one message of a request out of pieces of any size, which it copies: no piece keeps a whole read alive. */
export class SingleMessageReader {
  readonly #maxBytes: number;
  readonly #prefix = Buffer.alloc(prefixBytes);
  #prefixRead = 0;
  #body = Buffer.alloc(0);
  #bodyRead = 0;
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get isComplete(): boolean {
    return this.#prefixRead === prefixBytes && this.#bodyRead === this.#length;
  }

  /** @throws {GrpcRequestError} More than one message, one above the bound, or an unknown prefix. */
  push(bytes: Buffer): void {
    let rest = bytes;
    if (this.#prefixRead < prefixBytes) {
      const taken = rest.copy(this.#prefix, this.#prefixRead, 0, prefixBytes - this.#prefixRead);
      this.#prefixRead += taken;
      rest = rest.subarray(taken);
      if (this.#prefixRead < prefixBytes) return;
      this.#readPrefix();
    }
    if (this.#bodyRead + rest.length > this.#length) {
      throw new GrpcRequestError(GrpcCode.internal, 'received more than one request message for a unary call');
    }
    this.#reserve(this.#bodyRead + rest.length);
    this.#bodyRead += rest.copy(this.#body, this.#bodyRead);
  }

  #readPrefix(): void {
    const format = this.#prefix.readUInt8(0);
    this.#length = this.#prefix.readUInt32BE(1);
    if (format > 1) throw new GrpcRequestError(GrpcCode.internal, `received unexpected payload format ${format}`);
    if (this.#length > this.#maxBytes) {
      const text = `received message larger than max (${this.#length} vs. ${this.#maxBytes})`;
      throw new GrpcRequestError(GrpcCode.resourceExhausted, text);
    }
  }

  /** Grows with what came, so that a prefix alone costs nothing. */
  #reserve(bytes: number): void {
    if (bytes <= this.#body.length) return;
    const grown = Buffer.allocUnsafeSlow(
      Math.min(this.#length, Math.max(bytes, firstBodyBytes, this.#body.length * 2)),
    );
    this.#body.copy(grown, 0, 0, this.#bodyRead);
    this.#body = grown;
  }

  /**
   * The message as sent, when the request has ended.
   *
   * @throws {GrpcRequestError} There was none, or it is cut short.
   */
  finish(): { readonly body: Buffer; readonly compressed: boolean } {
    if (this.#prefixRead === 0) {
      throw new GrpcRequestError(GrpcCode.internal, 'received no request message for a unary call');
    }
    if (!this.isComplete) throw new GrpcRequestError(GrpcCode.internal, 'request message ended early');
    return { body: this.#body, compressed: this.#prefix[0] === 1 };
  }
}

/** What `grpc-encoding` may say; also the value of grpc-accept-encoding. */
export const acceptedEncodings = 'identity,deflate,gzip';

export function isKnownEncoding(encoding: string): boolean {
  return encoding === 'identity' || encoding === 'gzip' || encoding === 'deflate';
}

/**
 * Undoes the compression of a message, off the event loop.
 *
 * @param encoding Value of grpc-encoding; `deflate` is the zlib format (RFC 1950).
 * @param reserve Is told of each part as it comes out, in bytes; what it throws ends the work.
 * @throws {GrpcRequestError} Not what the encoding says, or more than `maxBytes` come out.
 */
export async function decompress(
  encoding: string,
  body: Buffer,
  maxBytes: number,
  reserve: (bytes: number) => void,
): Promise<Buffer> {
  if (encoding !== 'gzip' && encoding !== 'deflate') {
    throw new GrpcRequestError(GrpcCode.internal, 'compressed flag set with identity or empty encoding');
  }
  const unzip = encoding === 'gzip' ? createGunzip() : createInflate();
  unzip.end(body);
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const part of unzip as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > maxBytes) {
        const text = `received message after decompression larger than max ${maxBytes}`;
        throw new GrpcRequestError(GrpcCode.resourceExhausted, text);
      }
      reserve(part.length);
      parts.push(part);
    }
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') throw error;
    throw new GrpcRequestError(GrpcCode.internal, `failed to decompress the received message: ${error.message}`);
  }
  return Buffer.concat(parts, bytes);
}

/** Like `decompress` for small messages that are only looked at: undefined where it fails. */
export function tryDecompressSync(encoding: string, body: Buffer, maxBytes: number): Buffer | undefined {
  const options = { maxOutputLength: Math.max(1, maxBytes) };
  try {
    if (encoding === 'gzip') return gunzipSync(body, options);
    if (encoding === 'deflate') return inflateSync(body, options);
  } catch {
    // Not what it says it is: the runtime will say so.
  }
  return undefined;
}

const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/**
 * Reads `grpc-timeout`: 1 to 8 digits and a unit.
 *
 * @returns Milliseconds; undefined where it is malformed.
 */
export function parseTimeout(value: string): number | undefined {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(value) ?? [];
  if (digits === undefined || unit === undefined) return undefined;
  return Number(digits) * (unitMs[unit] ?? 0);
}

/** Percent-encodes a status text: UTF-8, everything but printable ASCII and the percent sign itself. */
export function encodeStatusMessage(message: string): string {
  if (/^[ -$&-~]*$/.test(message)) return message;
  let encoded = '';
  for (const byte of Buffer.from(message)) {
    const plain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    encoded += plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}
