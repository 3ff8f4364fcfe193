/**
 * What a gRPC server's header blocks and DATA mean to its client (grpc/doc/PROTOCOL-HTTP2.md), in doubt as grpc-go reads
 * them. It keeps no call.
 */
import { GrpcCode } from '../grpc-code.js';
import type { Metadata, Status } from '../taken-call.js';
import type { HeaderField } from './hpack.js';
import { isCustomMetadata } from './metadata.js';

const unauthenticated = 16;
const permissionDenied = 7;

/** grpc-go internal/transport/http_util.go HTTPStatusConvTab. */
const codesOfHttpStatus: Readonly<Record<string, number>> = {
  400: GrpcCode.internal,
  401: unauthenticated,
  403: permissionDenied,
  404: GrpcCode.unimplemented,
  429: GrpcCode.unavailable,
  502: GrpcCode.unavailable,
  503: GrpcCode.unavailable,
  504: GrpcCode.unavailable,
};

/** By error code (RFC 9113 section 7), and what grpc-go makes of a stream that is reset with it (http2ErrConvTab there). */
const resets: readonly (readonly [name: string, code: number])[] = [
  ['NO_ERROR', GrpcCode.internal],
  ['PROTOCOL_ERROR', GrpcCode.internal],
  ['INTERNAL_ERROR', GrpcCode.internal],
  ['FLOW_CONTROL_ERROR', GrpcCode.resourceExhausted],
  ['SETTINGS_TIMEOUT', GrpcCode.internal],
  ['STREAM_CLOSED', GrpcCode.internal],
  ['FRAME_SIZE_ERROR', GrpcCode.internal],
  ['REFUSED_STREAM', GrpcCode.unavailable],
  ['CANCEL', GrpcCode.cancelled],
  ['COMPRESSION_ERROR', GrpcCode.internal],
  ['CONNECT_ERROR', GrpcCode.internal],
  ['ENHANCE_YOUR_CALM', GrpcCode.resourceExhausted],
  ['INADEQUATE_SECURITY', permissionDenied],
  ['HTTP_1_1_REQUIRED', GrpcCode.internal],
];

export function metadataOf(fields: readonly HeaderField[]): Metadata {
  return fields.filter(({ name }) => isCustomMetadata(name)).map(({ name, value }) => [name, value] as const);
}

/** A status that the runtime did not send. */
export function ownStatus(code: number, message: string): Status {
  return { code, message, trailers: [] };
}

/** @param code As in RST_STREAM. */
export function resetStatus(code: number): Status {
  const [name, grpcCode] = resets[code] ?? [`unknown error code 0x${code.toString(16)}`, GrpcCode.unknown];
  return ownStatus(grpcCode, `stream terminated by RST_STREAM with error code: ${name}`);
}

/** The last of a name counts, as in grpc-go. */
function fieldOf(fields: readonly HeaderField[], name: string): string | undefined {
  return fields.findLast((field) => field.name === name)?.value;
}

/** 1xx: the response is still to come. */
export function isInformational(fields: readonly HeaderField[]): boolean {
  return /^1\d\d$/.test(fieldOf(fields, ':status') ?? '');
}

/** @returns What is wrong with the first header block of a response; undefined where it is gRPC. */
export function responseFault(fields: readonly HeaderField[]): Status | undefined {
  const httpStatus = fieldOf(fields, ':status');
  const contentType = fieldOf(fields, 'content-type');
  const isGrpc = contentType !== undefined && /^application\/grpc(?:$|[+;])/.test(contentType);
  if (httpStatus === '200' && isGrpc) return undefined;
  const text = [
    httpStatus === undefined ? 'malformed header: missing HTTP status' : `HTTP status code ${httpStatus}`,
    contentType === undefined ? 'missing content-type' : `content-type "${contentType}"`,
  ].join('; ');
  const code = httpStatus === undefined ? GrpcCode.internal : (codesOfHttpStatus[httpStatus] ?? GrpcCode.unknown);
  return ownStatus(code, `the answer is not gRPC: ${text}`);
}

/** @param fields The last header block of a call. */
export function statusOf(fields: readonly HeaderField[]): Status {
  const trailers = metadataOf(fields);
  const code = fieldOf(fields, 'grpc-status');
  if (code === undefined) return { code: GrpcCode.unknown, message: 'the answer ended without grpc-status', trailers };
  if (!/^\d{1,9}$/.test(code)) return ownStatus(GrpcCode.internal, `malformed grpc-status "${code}"`);
  const wireMessage = fieldOf(fields, 'grpc-message');
  return { code: Number(code), message: decodeStatusMessage(wireMessage ?? ''), wireMessage, trailers };
}

/** Percent-decodes a status text of one character for each byte; what is no escape sequence stays. */
export function decodeStatusMessage(wireMessage: string): string {
  const bytes = wireMessage.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number(`0x${hex}`)));
  return Buffer.from(bytes, 'latin1').toString();
}

/** A message that cannot be read: INTERNAL. */
export class ResponseMessageError extends Error {
  override readonly name = 'ResponseMessageError';
}

const prefixBytes = 5;
const firstBodyBytes = 64 * 1024;
const nothing = Buffer.alloc(0);

/** Reads the messages of a response out of pieces of any size, which it copies. */
export class MessageReader {
  readonly #prefix = Buffer.alloc(prefixBytes);
  #prefixRead = 0;
  #body: Buffer = nothing;
  #bodyRead = 0;
  #length = 0;

  /** Of a message that is not whole yet, prefix included. */
  get partialBytes(): number {
    return this.#prefixRead + this.#bodyRead;
  }

  /**
   * @param whole Is given each message that becomes whole.
   * @throws {ResponseMessageError} A message is compressed, though nothing was said to be accepted, or malformed.
   */
  push(bytes: Buffer, whole: (message: Buffer) => void): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#prefixRead < prefixBytes) {
        const read = bytes.copy(this.#prefix, this.#prefixRead, at, at + prefixBytes - this.#prefixRead);
        this.#prefixRead += read;
        at += read;
        if (this.#prefixRead < prefixBytes) return;
        this.#readPrefix();
      }
      const end = Math.min(bytes.length, at + this.#length - this.#bodyRead);
      this.#reserve(this.#bodyRead + end - at);
      this.#bodyRead += bytes.copy(this.#body, this.#bodyRead, at, end);
      at = end;
      if (this.#bodyRead < this.#length) return;
      const message = this.#body;
      this.#body = nothing;
      this.#bodyRead = 0;
      this.#prefixRead = 0;
      whole(message);
    }
  }

  #readPrefix(): void {
    const format = this.#prefix.readUInt8(0);
    if (format === 1) throw new ResponseMessageError('compressed flag set, though no encoding was accepted');
    if (format > 1) throw new ResponseMessageError(`received unexpected payload format ${format}`);
    this.#length = this.#prefix.readUInt32BE(1);
  }

  /** Grows with what came, so that a prefix alone costs nothing; in the end exactly as long as the message. */
  #reserve(bytes: number): void {
    if (bytes <= this.#body.length) return;
    const grown = Buffer.allocUnsafeSlow(
      Math.min(this.#length, Math.max(bytes, firstBodyBytes, this.#body.length * 2)),
    );
    this.#body.copy(grown, 0, 0, this.#bodyRead);
    this.#body = grown;
  }
}
