/**
 * The gRPC server side of one stream that was taken out of a connection: request in, TakenCall out, answer back, as
 * deadline, resets and the client's stream window allow. It knows its own stream only; what it writes goes through its
 * host.
 */
import type { Clock } from '../../clock.js';
import type { LeaveReason, Metadata, Status, TakenCall } from '../taken-call.js';
import {
  ErrorCode,
  FrameType,
  frameHeaderBytes,
  max31,
  ownFramePayloadBytes,
  rstStreamFrame,
  writeFrameHeader,
} from './frames.js';
import {
  acceptedEncodings,
  decompress,
  encodeStatusMessage,
  framedMessage,
  GrpcCode,
  GrpcRequestError,
  isKnownEncoding,
  parseTimeout,
  SingleMessageReader,
} from './grpc-message.js';
import type { HeaderField } from './hpack.js';
import type { BudgetShare, Limits } from './limits.js';

/** Why a stream was refused: for a log line and a counter. */
export type Refusal = 'header list too large' | 'too many taken streams' | 'too many request bytes';

/** What a taken stream needs of its connection. */
export interface TakenStreamHost {
  readonly clock: Clock;
  readonly limits: Limits;
  /** Writes a header block, in order with `control`. */
  headers(streamId: number, fields: readonly HeaderField[], endStream: boolean): void;
  /** Writes a frame that flow control does not concern. */
  control(frame: Buffer): void;
  /** The stream has DATA to send, or trailers behind it: `nextFrame` shall be called as the windows allow. */
  sending(stream: TakenStream): void;
  /** Writes a PING behind everything so far; its ACK calls `delivered`. */
  prove(stream: TakenStream): void;
  /** The stream is over on the wire (`onWire`), or nobody waits for its proof any more. */
  over(stream: TakenStream, onWire: boolean): void;
  /** For what the requests of this connection take of memory. */
  readonly requestBytes: BudgetShare;
  refused(reason: Refusal): void;
  /** Bytes of answers that have begun to wait for the client's windows, or (negative) wait no more. */
  unsentAnswers(bytes: number): void;
  /** The request is complete. */
  take(call: TakenCall): void;
}

interface Outgoing {
  readonly bytes: Buffer;
  sent: number;
  readonly resolve: () => void;
}

const status200: HeaderField = { name: ':status', value: '200' };
const grpcContentType: HeaderField = { name: 'content-type', value: 'application/grpc' };

/** Headers that do not count towards the memory requests take; those of a CRI call are under 1 KiB. */
const uncountedHeaderBytes = 4096;

/** Metadata that is gRPC's own and not the application's. */
const reservedNames = new Set([
  'content-type',
  'te',
  'user-agent',
  'grpc-timeout',
  'grpc-encoding',
  'grpc-accept-encoding',
  'grpc-message-type',
  'grpc-status',
  'grpc-message',
]);

/** Binary values in base64; a peer of C-core's servers may write them as they are, behind a NUL (gRFC G1). */
function metadataValue({ name, value }: HeaderField): string {
  if (!name.endsWith('-bin') || !value.startsWith('\0')) return value;
  return Buffer.from(value.slice(1), 'latin1').toString('base64');
}

function isCustom(name: string): boolean {
  return !name.startsWith(':') && !reservedNames.has(name);
}

export class TakenStream implements TakenCall {
  readonly id: number;
  readonly path: string;
  readonly metadata: Metadata;
  readonly deadlineMs: number | undefined;
  request: Buffer = Buffer.alloc(0);
  /** What was granted beyond the runtime's initial window: at most the default one. */
  extraWindow = 0;

  readonly #host: TakenStreamHost;
  readonly #headers: ReadonlyMap<string, string>;
  readonly #abort = new AbortController();
  readonly #message: SingleMessageReader;
  readonly #headerBytes: number;
  #reserved = 0;
  #requestEnded = false;
  /** What the client lets this stream send; may be negative (RFC 9113 section 6.9.2). */
  #window: number;
  #headersSent = false;
  readonly #outgoing: Outgoing[] = [];
  /** Set once the call has ended; written when `#outgoing` is empty. */
  #status: Status | undefined;
  /** Answered to the end, reset, or given up. */
  #over = false;
  #settle: ((delivered: boolean) => void) | undefined;
  #cancelTimer: (() => void) | undefined;

  constructor(host: TakenStreamHost, id: number, fields: readonly HeaderField[], window: number) {
    this.#host = host;
    this.id = id;
    this.#window = window;
    this.#headerBytes = fields.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
    this.#headers = new Map(fields.map(({ name, value }) => [name, value]));
    this.path = this.#headers.get(':path') ?? '';
    this.metadata = fields
      .filter(({ name }) => isCustom(name))
      .map((field) => [field.name, metadataValue(field)] as const);
    this.#message = new SingleMessageReader(host.limits.requestBytes);
    const timeout = this.#headers.get('grpc-timeout');
    const timeoutMs = timeout === undefined ? undefined : parseTimeout(timeout);
    this.deadlineMs = timeoutMs === undefined ? undefined : host.clock.now() + timeoutMs;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get requestEnded(): boolean {
    return this.#requestEnded;
  }

  /** Checks the request headers and starts the deadline; to be called once, when the stream is in the table. */
  begin(endStream: boolean): void {
    this.#requestEnded = endStream;
    if (this.#refuseHeaders()) return;
    this.#armDeadline();
    try {
      this.#reserve(Math.max(0, this.#headerBytes - uncountedHeaderBytes));
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (endStream) this.#completeRequest();
  }

  /** In the order, and with the answers, of grpc-go (internal/transport/http2_server.go operateHeaders, server.go). */
  #refuseHeaders(): boolean {
    const contentType = this.#headers.get('content-type') ?? '';
    if (!/^application\/grpc(?:$|[+;])/.test(contentType)) {
      this.#refuse('415', GrpcCode.invalidArgument, `invalid gRPC request content-type "${contentType}"`);
    } else if (this.#headers.get(':method') !== 'POST') {
      this.#refuse('405', GrpcCode.internal, `:method is "${this.#headers.get(':method')}" and should be POST`);
    } else if (this.#headers.has('grpc-timeout') && this.deadlineMs === undefined) {
      this.#refuse('400', GrpcCode.internal, `malformed grpc-timeout: "${this.#headers.get('grpc-timeout')}"`);
    } else if (!isKnownEncoding(this.#encoding)) {
      const text = `Decompressor is not installed for grpc-encoding "${this.#encoding}"`;
      const trailers: Metadata = [['grpc-accept-encoding', acceptedEncodings]];
      this.#finish({ code: GrpcCode.unimplemented, message: text, trailers });
    }
    return this.#over;
  }

  get #encoding(): string {
    return this.#headers.get('grpc-encoding') ?? 'identity';
  }

  #refuse(httpStatus: string, code: number, message: string): void {
    this.#status = { code, message, trailers: [] };
    this.#writeTrailers({ name: ':status', value: httpStatus });
  }

  /** Request DATA without its padding. */
  receive(data: Buffer, endStream: boolean): void {
    if (this.#requestEnded) {
      this.reset(ErrorCode.streamClosed);
      return;
    }
    this.#requestEnded = endStream;
    if (this.#status !== undefined || this.#over) return;
    try {
      this.#reserve(data.length);
      this.#message.push(data);
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (endStream) this.#completeRequest();
  }

  #reserve(bytes: number): void {
    if (this.#host.requestBytes.take(bytes)) {
      this.#reserved += bytes;
      return;
    }
    this.#host.refused('too many request bytes');
    throw new GrpcRequestError(GrpcCode.resourceExhausted, 'the requests in flight take too much memory');
  }

  /** Trailers of the client. */
  receiveTrailers(endStream: boolean): void {
    if (this.#requestEnded) this.reset(ErrorCode.streamClosed);
    else if (!endStream) this.reset(ErrorCode.protocolError);
    else this.receive(Buffer.alloc(0), true);
  }

  #completeRequest(): void {
    try {
      const { body, compressed } = this.#message.finish();
      if (!compressed) {
        this.#take(body);
        return;
      }
      decompress(this.#encoding, body, this.#host.limits.requestBytes).then(
        (request) => {
          if (this.#status === undefined && !this.#over) this.#takeDecompressed(request);
        },
        (error: unknown) => this.#fail(error),
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  #takeDecompressed(request: Buffer): void {
    try {
      this.#reserve(request.length);
      this.#take(request);
    } catch (error) {
      this.#fail(error);
    }
  }

  #take(request: Buffer): void {
    this.request = request;
    this.#host.take(this);
  }

  #fail(error: unknown): void {
    if (this.#status !== undefined || this.#over) return;
    if (!(error instanceof GrpcRequestError)) throw error;
    this.#finish({ code: error.code, message: error.message, trailers: [] });
  }

  sendInitialMetadata(metadata: Metadata): void {
    if (this.#headersSent || this.#status !== undefined || this.#over) return;
    this.#headersSent = true;
    this.#host.headers(this.id, [status200, grpcContentType, ...customFields(metadata)], false);
  }

  send(message: Buffer): Promise<void> {
    if (this.#status !== undefined || this.#over) return Promise.resolve();
    this.sendInitialMetadata([]);
    return new Promise((resolve) => {
      const bytes = framedMessage(message);
      this.#outgoing.push({ bytes, sent: 0, resolve });
      this.#host.sending(this);
      this.#host.unsentAnswers(bytes.length);
    });
  }

  end(status: Status): Promise<boolean> {
    if (this.#status !== undefined || this.#over) return Promise.resolve(false);
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#finish(status);
    });
  }

  #finish(status: Status): void {
    this.#status = status;
    this.#releaseReserved();
    if (this.#outgoing.length === 0) this.#writeTrailers(status200);
    else this.#host.sending(this);
  }

  /** Ends the stream on the wire. */
  #writeTrailers(httpStatus: HeaderField): void {
    const status = this.#status;
    if (status === undefined) return;
    const fields: HeaderField[] = this.#headersSent ? [] : [httpStatus, grpcContentType];
    fields.push({ name: 'grpc-status', value: String(status.code) });
    if (status.message !== '') fields.push({ name: 'grpc-message', value: encodeStatusMessage(status.message) });
    for (const [name, value] of status.trailers) {
      if (isCustom(name) || name === 'grpc-accept-encoding') fields.push({ name, value });
    }
    this.#over = true;
    this.#host.headers(this.id, fields, true);
    if (!this.#requestEnded) this.#host.control(rstStreamFrame(this.id, ErrorCode.noError));
    if (status.code === GrpcCode.ok && this.#settle !== undefined) this.#host.prove(this);
    else this.#settleProof(false);
    this.#host.over(this, true);
  }

  /** The client has acknowledged the PING behind the answer. */
  delivered(): void {
    this.#settleProof(this.deadlineMs === undefined || this.#host.clock.now() < this.deadlineMs);
    this.#host.over(this, false);
  }

  #settleProof(delivered: boolean): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#settle?.(delivered);
    this.#settle = undefined;
  }

  /** The client has reset the stream, gone away, or given it up by our leave. Nothing is written. */
  leave(reason: LeaveReason): void {
    const ended = this.#status !== undefined;
    this.#over = true;
    this.#dropOutgoing();
    this.#releaseReserved();
    this.#settleProof(false);
    this.#host.over(this, true);
    this.#host.over(this, false);
    if (!ended) this.#abort.abort(reason);
  }

  /** Ends the stream for a fault of the client. */
  reset(code: number): void {
    this.#host.control(rstStreamFrame(this.id, code));
    this.leave('cancelled');
  }

  #armDeadline(): void {
    const { deadlineMs } = this;
    if (deadlineMs === undefined) return;
    const { clock } = this.#host;
    this.#cancelTimer = clock.after(deadlineMs - clock.now(), () => {
      // A clock may bound its delays.
      if (clock.now() < deadlineMs) this.#armDeadline();
      else this.#expire();
    });
  }

  #expire(): void {
    if (this.#over) {
      this.#settleProof(false);
      this.#host.over(this, false);
      return;
    }
    const ended = this.#status !== undefined;
    this.#dropOutgoing();
    this.#releaseReserved();
    this.#settleProof(false);
    this.#status = { code: GrpcCode.deadlineExceeded, message: 'context deadline exceeded', trailers: [] };
    this.#writeTrailers(status200);
    if (!ended) this.#abort.abort('deadline' satisfies LeaveReason);
  }

  #dropOutgoing(): void {
    for (const { bytes, sent, resolve } of this.#outgoing.splice(0)) {
      this.#host.unsentAnswers(sent - bytes.length);
      resolve();
    }
  }

  #releaseReserved(): void {
    this.#host.requestBytes.giveBack(this.#reserved);
    this.#reserved = 0;
  }

  /** The client's WINDOW_UPDATE for this stream. */
  replenish(increment: number): void {
    if (increment === 0) this.reset(ErrorCode.protocolError);
    else if (this.#window + increment > max31) this.reset(ErrorCode.flowControlError);
    else this.adjustWindow(increment);
  }

  /** The client's SETTINGS_INITIAL_WINDOW_SIZE has changed by this much. */
  adjustWindow(by: number): void {
    this.#window += by;
    if (this.#outgoing.length > 0) this.#host.sending(this);
  }

  /**
   * The next DATA frame, at most `maxBytes` long and leaving `withheldBytes` of the stream window; undefined: none for
   * now.
   */
  nextFrame(maxBytes: number, withheldBytes: number): Buffer | undefined {
    const room = Math.min(maxBytes, this.#window - withheldBytes, ownFramePayloadBytes);
    if (room <= 0) return undefined;
    let length = 0;
    for (const { bytes, sent } of this.#outgoing) {
      length = Math.min(room, length + bytes.length - sent);
      if (length === room) break;
    }
    if (length === 0) return undefined;
    const frame = Buffer.allocUnsafe(frameHeaderBytes + length);
    writeFrameHeader(frame, length, FrameType.data, 0, this.id);
    let filled = frameHeaderBytes;
    while (filled < frame.length) {
      const [first] = this.#outgoing;
      if (first === undefined) break;
      const copied = first.bytes.copy(frame, filled, first.sent);
      filled += copied;
      first.sent += copied;
      if (first.sent === first.bytes.length) {
        this.#outgoing.shift();
        first.resolve();
      }
    }
    this.#window -= length;
    this.#host.unsentAnswers(-length);
    return frame;
  }

  /** To be called when a frame of `nextFrame` is written: behind the last one come the trailers. */
  frameWritten(): void {
    if (this.#outgoing.length === 0 && this.#status !== undefined && !this.#over) this.#writeTrailers(status200);
  }
}

function customFields(metadata: Metadata): HeaderField[] {
  return metadata.filter(([name]) => isCustom(name)).map(([name, value]) => ({ name, value }));
}
