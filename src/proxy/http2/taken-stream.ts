/**
 * The gRPC server side of one stream that was taken out of a connection: request in, TakenCall out, answer back, as
 * deadline, resets and the client's stream window allow. It knows its own stream only; what it writes goes through the
 * writer of its connection.
 */
import type { LimitFunction } from 'p-limit';
import type { Clock } from '../../clock.js';
import { GrpcCode } from '../grpc-code.js';
import type { Metadata, OverReason, Status, TakenCall } from '../taken-call.js';
import type { AnswerShare, BudgetShare } from './budgets.js';
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
  GrpcRequestError,
  isKnownEncoding,
  parseTimeout,
  SingleMessageReader,
} from './grpc-message.js';
import type { HalfRequest, HalfRequests } from './half-requests.js';
import type { HeaderField } from './hpack.js';
import type { Limits } from './limits.js';
import { isCustomMetadata } from './metadata.js';

/** Why a stream was refused: for a log line and a counter. */
export type Refusal =
  | 'header list too large'
  | 'too many taken streams'
  | 'too many request bytes'
  | 'request not whole';

/** What goes to the client. */
export interface ClientWriter {
  /** Writes a header block, in order with `control`. */
  headers(streamId: number, fields: readonly HeaderField[], endStream: boolean): void;
  /** Writes a frame that flow control does not concern. */
  control(frame: Buffer): void;
  /** The stream has DATA to send, or trailers behind it: `nextFrame` shall be called as the windows allow. */
  sending(stream: TakenStream): void;
}

/** What a taken stream needs of its connection. */
export interface TakenStreamContext {
  readonly clock: Clock;
  readonly limits: Limits;
  readonly writer: ClientWriter;
  /** For what the requests of this connection take of memory. */
  readonly requestBytes: BudgetShare;
  /** For what its streams take beside that. */
  readonly streamBytes: BudgetShare;
  readonly answerBytes: AnswerShare;
  readonly halfRequests: HalfRequests;
  readonly decompression: LimitFunction;
  /** A limit cost the client this stream. */
  refused(reason: Refusal): void;
  /** The request is complete. */
  take(call: TakenCall): void;
  /** Writes a PING behind everything so far; its ACK calls `delivered`. */
  prove(stream: TakenStream): void;
  /** The stream is over on the wire (`onWire`), or nobody waits for its proof any more. */
  over(stream: TakenStream, onWire: boolean): void;
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

/** What of a header list counts towards the memory requests take, in bytes. */
export function countedHeaderBytes(fields: readonly HeaderField[]): number {
  return Math.max(
    0,
    fields.reduce((sum, { name, value }) => sum + name.length + value.length, -uncountedHeaderBytes),
  );
}

/** What a stream takes of memory without its headers; measured: 0.8 KiB where it is forwarded and read along, 1.7 KiB where it is taken. */
const streamOverheadBytes = 2048;

/** What a stream with these headers takes of memory, beside what of it counts as a request. */
export function streamBytes(fields: readonly HeaderField[]): number {
  const headerBytes = fields.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
  return streamOverheadBytes + Math.min(headerBytes, uncountedHeaderBytes);
}

/** Binary values in base64; a peer of C-core's servers may write them as they are, behind a NUL (gRFC G1). */
function metadataValue({ name, value }: HeaderField): string {
  if (!name.endsWith('-bin') || !value.startsWith('\0')) return value;
  return Buffer.from(value.slice(1), 'latin1').toString('base64');
}

export class TakenStream implements TakenCall, HalfRequest {
  readonly id: number;
  readonly path: string;
  readonly metadata: Metadata;
  readonly deadlineMs: number | undefined;
  /** When it was opened, in ms of the clock. */
  readonly begunMs: number;
  /** The runtime has been shown its request, and was asked first: what the client still says goes there too. */
  readonly isForwarded: boolean;
  request: Buffer = Buffer.alloc(0);
  /** What was granted beyond the runtime's initial window: at most the default one. */
  extraWindow = 0;

  readonly #context: TakenStreamContext;
  readonly #headers: ReadonlyMap<string, string>;
  readonly #abort = new AbortController();
  readonly #message: SingleMessageReader;
  readonly #headerBytes: number;
  readonly #ownBytes: number;
  #reserved = 0;
  #hasOwnBytes = false;
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

  /**
   * @param options.window What the client lets it send, in bytes.
   * @param options.forwardedMs When its request went to the runtime, in ms of the clock, where it did.
   */
  constructor(
    context: TakenStreamContext,
    id: number,
    fields: readonly HeaderField[],
    { window, forwardedMs }: { readonly window: number; readonly forwardedMs?: number },
  ) {
    this.#context = context;
    this.isForwarded = forwardedMs !== undefined;
    this.id = id;
    this.#window = window;
    this.#headerBytes = countedHeaderBytes(fields);
    this.#ownBytes = streamBytes(fields);
    this.#headers = new Map(fields.map(({ name, value }) => [name, value]));
    this.path = this.#headers.get(':path') ?? '';
    this.metadata = fields
      .filter(({ name }) => isCustomMetadata(name))
      .map((field) => [field.name, metadataValue(field)] as const);
    this.#message = new SingleMessageReader(context.limits.requestBytes);
    const timeout = this.#headers.get('grpc-timeout');
    const timeoutMs = timeout === undefined ? undefined : parseTimeout(timeout);
    this.begunMs = forwardedMs ?? context.clock.now();
    this.deadlineMs = timeoutMs === undefined ? undefined : this.begunMs + timeoutMs;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Whether it was ended, or is about to be; by its client it may be left without. */
  get isEnded(): boolean {
    return this.#status !== undefined;
  }

  /** The gRPC status code it ends with; as long as there is none, the one of a client that leaves. */
  get code(): number {
    return this.#status?.code ?? GrpcCode.cancelled;
  }

  /** Whether a whole request was ended, or is about to be. */
  get isAnswered(): boolean {
    return this.#requestEnded && this.isEnded;
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
      this.#reserveOwn();
      this.#reserve(this.#headerBytes);
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (endStream) this.#completeRequest();
    else this.#context.halfRequests.begun(this);
  }

  /** Instead of `begin`, where the runtime has accepted the request. */
  beginWith(request: Buffer, requestEnded: boolean): void {
    this.#requestEnded = requestEnded;
    this.#armDeadline();
    try {
      this.#reserveOwn();
      this.#reserve(this.#headerBytes + request.length);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#take(request);
  }

  /** Of a request that was forwarded: the runtime judges what was in it. */
  endRequest(): void {
    this.#requestEnded = true;
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
    if (endStream) this.#context.halfRequests.over(this);
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
    this.#takeFrom(this.#context.requestBytes, bytes);
    this.#reserved += bytes;
  }

  #reserveOwn(): void {
    this.#takeFrom(this.#context.streamBytes, this.#ownBytes);
    this.#hasOwnBytes = true;
  }

  #takeFrom(share: BudgetShare, bytes: number): void {
    do {
      if (share.take(bytes)) return;
    } while (this.#context.halfRequests.giveUpOldest(this));
    this.#context.refused('too many request bytes');
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
      void this.#decompress(body);
    } catch (error) {
      this.#fail(error);
    }
  }

  async #decompress(body: Buffer): Promise<void> {
    const { decompression, limits } = this.#context;
    try {
      const request = await decompression(() => {
        this.#checkWanted();
        return decompress(this.#encoding, body, limits.requestBytes, (bytes) => {
          this.#checkWanted();
          this.#reserve(bytes);
        });
      });
      this.#checkWanted();
      this.#take(request);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** @throws {GrpcRequestError} The call is over, and nobody will hear of this. */
  #checkWanted(): void {
    if (this.#status !== undefined || this.#over) throw new GrpcRequestError(GrpcCode.cancelled, 'the call is over');
  }

  giveUp(reason: string): void {
    this.#context.refused('request not whole');
    this.#fail(new GrpcRequestError(GrpcCode.resourceExhausted, `holdfast: ${reason}`));
  }

  #take(request: Buffer): void {
    this.request = request;
    this.#context.take(this);
  }

  #fail(error: unknown): void {
    if (this.#status !== undefined || this.#over) return;
    const code = error instanceof GrpcRequestError ? error.code : GrpcCode.internal;
    this.#finish({ code, message: error instanceof Error ? error.message : String(error), trailers: [] });
  }

  sendInitialMetadata(metadata: Metadata): void {
    if (this.#headersSent || this.#status !== undefined || this.#over) return;
    this.#headersSent = true;
    this.#context.writer.headers(this.id, [status200, grpcContentType, ...customFields(metadata)], false);
  }

  send(message: Buffer): Promise<void> {
    if (this.#status !== undefined || this.#over) return Promise.resolve();
    this.sendInitialMetadata([]);
    return new Promise((resolve) => {
      const bytes = framedMessage(message);
      this.#outgoing.push({ bytes, sent: 0, resolve });
      this.#context.writer.sending(this);
      this.#context.answerBytes.add(bytes.length);
    });
  }

  keep(bytes: number): void {
    this.#context.answerBytes.keep(bytes);
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
    this.#forgetRequest();
    this.#abort.abort('ended' satisfies OverReason);
    if (this.#outgoing.length === 0) this.#writeTrailers();
    else this.#context.writer.sending(this);
  }

  /** Ends the stream on the wire. */
  #writeTrailers(httpStatus: HeaderField = status200): void {
    const status = this.#status;
    if (status === undefined) return;
    const fields = grpcEnd(status, this.#headersSent, httpStatus);
    this.#over = true;
    this.#context.writer.headers(this.id, fields, true);
    if (!this.#requestEnded) this.#context.writer.control(rstStreamFrame(this.id, ErrorCode.noError));
    if (status.code === GrpcCode.ok && this.#settle !== undefined) this.#context.prove(this);
    else this.#settleProof(false);
    this.#context.over(this, true);
    if (this.#settle === undefined) this.#releaseOwn();
  }

  /** Nothing of it is left on this connection. */
  #releaseOwn(): void {
    if (!this.#hasOwnBytes) return;
    this.#hasOwnBytes = false;
    this.#context.streamBytes.giveBack(this.#ownBytes);
  }

  /** The client has acknowledged the PING behind the answer. */
  delivered(): void {
    this.#settleProof(this.deadlineMs === undefined || this.#context.clock.now() < this.deadlineMs);
    this.#context.over(this, false);
    this.#releaseOwn();
  }

  #settleProof(delivered: boolean): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#settle?.(delivered);
    this.#settle = undefined;
  }

  /** The client has reset the stream, gone away, or given it up by our leave. Nothing is written. */
  leave(reason: OverReason): void {
    this.#over = true;
    this.#dropOutgoing();
    this.#forgetRequest();
    this.#settleProof(false);
    this.#context.over(this, true);
    this.#context.over(this, false);
    this.#releaseOwn();
    // Without effect where the call has ended.
    this.#abort.abort(reason);
  }

  /** Ends the stream for a fault of the client. */
  reset(code: number): void {
    this.#context.writer.control(rstStreamFrame(this.id, code));
    this.leave('cancelled');
  }

  #armDeadline(): void {
    const { deadlineMs } = this;
    if (deadlineMs === undefined) return;
    const { clock } = this.#context;
    this.#cancelTimer = clock.after(deadlineMs - clock.now(), () => {
      // A clock may bound its delays.
      if (clock.now() < deadlineMs) this.#armDeadline();
      else this.#expire();
    });
  }

  #expire(): void {
    if (this.#over) {
      this.#settleProof(false);
      this.#context.over(this, false);
      this.#releaseOwn();
      return;
    }
    this.#dropOutgoing();
    this.#forgetRequest();
    this.#settleProof(false);
    this.#status = { code: GrpcCode.deadlineExceeded, message: 'context deadline exceeded', trailers: [] };
    this.#writeTrailers();
    this.#abort.abort('deadline' satisfies OverReason);
  }

  #dropOutgoing(): void {
    for (const { bytes, sent, resolve } of this.#outgoing.splice(0)) {
      this.#context.answerBytes.add(sent - bytes.length);
      resolve();
    }
  }

  #forgetRequest(): void {
    this.#context.halfRequests.over(this);
    this.#context.requestBytes.giveBack(this.#reserved);
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
    if (this.#outgoing.length > 0) this.#context.writer.sending(this);
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
    this.#context.answerBytes.add(-length);
    return frame;
  }

  /** To be called when a frame of `nextFrame` is written: behind the last one come the trailers. */
  frameWritten(): void {
    if (this.#outgoing.length === 0 && this.#status !== undefined && !this.#over) this.#writeTrailers();
  }
}

function customFields(metadata: Metadata): HeaderField[] {
  return metadata.filter(([name]) => isCustomMetadata(name)).map(([name, value]) => ({ name, value }));
}

/** The fields that end a call: trailers behind headers, or both in one block (Trailers-Only). */
export function grpcEnd(status: Status, headersSent: boolean, httpStatus: HeaderField = status200): HeaderField[] {
  const fields: HeaderField[] = headersSent ? [] : [httpStatus, grpcContentType];
  fields.push({ name: 'grpc-status', value: String(status.code) });
  const text = status.wireMessage ?? encodeStatusMessage(status.message);
  if (text !== '') fields.push({ name: 'grpc-message', value: text });
  for (const [name, value] of status.trailers) {
    if (isCustomMetadata(name) || name === 'grpc-accept-encoding') fields.push({ name, value });
  }
  return fields;
}
