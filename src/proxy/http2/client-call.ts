/**
 * One gRPC call of Holdfast's own, over one stream or, where the runtime surely has not seen it, one after another. It ends
 * exactly once: by the runtime's status, its deadline, its signal, or what became of the stream. It knows its own stream only.
 */
import type { Clock } from '../../clock.js';
import { GrpcCode } from '../grpc-code.js';
import type { Metadata, Status } from '../taken-call.js';
import type { UpstreamCallOptions } from '../upstream.js';
import type { ClientConnection, ClientStream, StreamEnd, StreamEvents } from './client-connection.js';
import { ErrorCode } from './frames.js';
import { framedMessage } from './grpc-message.js';
import {
  isInformational,
  MessageReader,
  metadataOf,
  ownStatus,
  ResponseMessageError,
  resetStatus,
  responseFault,
  statusOf,
} from './grpc-response.js';
import type { HeaderField } from './hpack.js';
import { isCustomMetadata } from './metadata.js';

/** What a call is for. */
export interface CallSink {
  /** Of messages that nobody has taken yet; not 0 while there are any. */
  readonly queuedBytes: number;
  metadata(metadata: Metadata): void;
  message(message: Buffer): void;
  /** Called once, last. */
  end(status: Status): void;
}

/** Where a call waits for a stream. */
export interface CallQueue {
  add(call: ClientCall): void;
  /** The runtime has not looked at it: before all that wait. */
  again(call: ClientCall): void;
  remove(call: ClientCall): void;
}

export interface ClientCallInit {
  readonly clock: Clock;
  readonly queue: CallQueue;
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly request: Buffer;
  readonly options: UpstreamCallOptions;
  /** Whether it is answered with any number of messages, not with one. */
  readonly isStreaming: boolean;
  readonly sink: CallSink;
  readonly userAgent: string | undefined;
}

/**
 * A runtime refuses streams above a limit that it has just told, once on each new connection; one that refuses again and again
 * is not asked for ever.
 */
const maxResends = 16;

export class ClientCall implements StreamEvents {
  readonly #init: ClientCallInit;
  readonly #body: Buffer;
  readonly #deadlineMs: number | undefined;
  readonly #reader = new MessageReader();
  readonly #aborted = () => this.#fail(GrpcCode.cancelled, 'cancelled');
  #cancelTimer: (() => void) | undefined;
  #stream: ClientStream | undefined;
  /** Whether the runtime may have seen it. */
  #isSent = false;
  #resends = 0;
  #hasHeaders = false;
  #messages = 0;
  /** Of the one message of a unary call, which waits for the status. */
  #wholeBytes = 0;
  /** What `UpstreamCallOptions.keep` has been told of. */
  #keptBytes = 0;
  #over = false;

  constructor(init: ClientCallInit) {
    this.#init = init;
    this.#body = framedMessage(init.request);
    const { timeoutMs } = init.options;
    this.#deadlineMs = timeoutMs === undefined ? undefined : init.clock.now() + timeoutMs;
  }

  get unreadBytes(): number {
    const { queuedBytes } = this.#init.sink;
    return queuedBytes === 0 ? 0 : queuedBytes + this.#reader.partialBytes;
  }

  start(): void {
    const { signal } = this.#init.options;
    if (signal?.aborted) this.#aborted();
    else signal?.addEventListener('abort', this.#aborted, { once: true });
    this.#awaitDeadline();
    if (!this.#over) this.#init.queue.add(this);
  }

  /** To be called when the connection has room, and the call is no longer in its queue. */
  begin(connection: ClientConnection): void {
    this.#isSent = true;
    this.#stream = connection.open(this.#requestFields(), this.#body, this);
  }

  /** Ends it as CANCELLED, at the runtime too. */
  cancel(): void {
    this.#aborted();
  }

  /** Ends it before it has got a stream. */
  giveUp(reason: string): void {
    this.#fail(GrpcCode.unavailable, reason);
  }

  /** Messages have been taken. */
  replenish(): void {
    this.#stream?.replenish();
  }

  headers(fields: readonly HeaderField[], endStream: boolean): void {
    if (this.#hasHeaders) {
      if (endStream) this.#answered(statusOf(fields));
      else this.#malformed('a HEADERS frame cannot appear in the middle of a stream');
      return;
    }
    if (!endStream && isInformational(fields)) return;
    const fault = responseFault(fields);
    if (fault !== undefined) {
      this.#finish(fault, ErrorCode.protocolError);
    } else if (endStream) {
      this.#answered(statusOf(fields));
    } else {
      this.#hasHeaders = true;
      this.#init.sink.metadata(metadataOf(fields));
    }
  }

  data(bytes: Buffer, endStream: boolean): void {
    if (!this.#hasHeaders) {
      this.#malformed('the answer begins with DATA');
      return;
    }
    try {
      this.#reader.push(bytes, (message) => this.#message(message));
    } catch (error) {
      if (!(error instanceof ResponseMessageError)) throw error;
      this.#fail(GrpcCode.internal, error.message);
    }
    this.#keep(this.#reader.partialBytes + this.#wholeBytes);
    if (endStream) this.#fail(GrpcCode.internal, 'server closed the stream without sending trailers');
  }

  ended(end: StreamEnd): void {
    this.#stream = undefined;
    if (end.by === 'loss') {
      this.#fail(GrpcCode.unavailable, `connection to the runtime lost: ${end.reason}`);
    } else if (end.by === 'fault') {
      this.#fail(GrpcCode.internal, `the runtime broke HTTP/2: ${end.reason}`);
    } else if (end.by === 'goAway') {
      if (!this.#sendAgain()) this.#fail(GrpcCode.unavailable, `the runtime takes no calls: ${end.reason}`);
    } else if (end.code === ErrorCode.refusedStream && !this.#hasHeaders && this.#sendAgain()) {
      // It waits for another stream.
    } else if (end.code === ErrorCode.cancel && this.#msLeft <= 0) {
      // The runtime's clock was faster.
      this.#deadlinePassed();
    } else {
      this.#finish(resetStatus(end.code));
    }
  }

  #sendAgain(): boolean {
    if (this.#resends >= maxResends) return false;
    this.#resends++;
    this.#isSent = false;
    this.#init.queue.again(this);
    return true;
  }

  get #msLeft(): number {
    return this.#deadlineMs === undefined ? Number.POSITIVE_INFINITY : this.#deadlineMs - this.#init.clock.now();
  }

  /** A timer may fire early, be it for a delay above what it takes. */
  #awaitDeadline(): void {
    if (this.#over || this.#deadlineMs === undefined) return;
    if (this.#msLeft <= 0) this.#deadlinePassed();
    else this.#cancelTimer = this.#init.clock.after(this.#msLeft, () => this.#awaitDeadline());
  }

  #deadlinePassed(): void {
    const { timeoutMs } = this.#init.options;
    const text = this.#isSent ? 'the runtime did not answer' : 'the runtime could not be reached';
    this.#fail(GrpcCode.deadlineExceeded, `${text} within ${timeoutMs} ms`);
  }

  #message(message: Buffer): void {
    this.#messages++;
    if (!this.#init.isStreaming) this.#wholeBytes = message.length;
    if (this.#init.isStreaming || this.#messages === 1) this.#init.sink.message(message);
    else this.#fail(GrpcCode.internal, 'more than one message in answer to a unary call');
  }

  #answered(status: Status): void {
    if (status.code !== GrpcCode.ok) this.#finish(status);
    else if (this.#reader.partialBytes > 0) this.#fail(GrpcCode.internal, 'the last message is cut short');
    else if (this.#messages === 0 && !this.#init.isStreaming) this.#fail(GrpcCode.internal, 'OK without a message');
    else this.#finish(status);
  }

  #malformed(message: string): void {
    this.#finish(ownStatus(GrpcCode.internal, message), ErrorCode.protocolError);
  }

  #fail(code: number, message: string): void {
    this.#finish(ownStatus(code, message), ErrorCode.cancel);
  }

  #keep(bytes: number): void {
    const change = (this.#over ? 0 : bytes) - this.#keptBytes;
    this.#keptBytes += change;
    if (change !== 0) this.#init.options.keep?.(change);
  }

  #finish(status: Status, resetCode?: number): void {
    if (this.#over) return;
    this.#over = true;
    this.#keep(0);
    this.#cancelTimer?.();
    this.#init.options.signal?.removeEventListener('abort', this.#aborted);
    this.#init.queue.remove(this);
    if (resetCode !== undefined) this.#stream?.reset(resetCode);
    this.#init.sink.end(status);
  }

  #requestFields(): HeaderField[] {
    const { path, userAgent, options } = this.#init;
    const fields: HeaderField[] = [
      { name: ':method', value: 'POST' },
      { name: ':scheme', value: 'http' },
      { name: ':path', value: path },
      { name: ':authority', value: 'localhost' },
      // CRI-O tells gRPC from HTTP by exactly this value.
      { name: 'content-type', value: 'application/grpc' },
      { name: 'te', value: 'trailers' },
    ];
    if (userAgent !== undefined) fields.push({ name: 'user-agent', value: userAgent });
    if (this.#deadlineMs !== undefined) fields.push({ name: 'grpc-timeout', value: timeoutValue(this.#msLeft) });
    for (const [name, value] of options.metadata ?? []) if (isLegal(name, value)) fields.push({ name, value });
    return fields;
  }
}

/** RFC 9110 section 5.6.2, in lower case (RFC 9113 section 8.2.1). */
const fieldName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** Without control characters; one character for each byte. */
const fieldValue = /^[\t\x20-\x7e\x80-\xff]*$/;

function isLegal(name: string, value: string): boolean {
  return isCustomMetadata(name) && fieldName.test(name) && fieldValue.test(value);
}

const maxTimeoutDigits = 99_999_999;

/** In the finest of these units that takes no more than 8 digits, rounded up as grpc-go does. */
function timeoutValue(ms: number): string {
  for (const [unit, unitMs] of [
    ['m', 1],
    ['S', 1000],
  ] as const) {
    const value = Math.max(1, Math.ceil(ms / unitMs));
    if (value <= maxTimeoutDigits) return `${value}${unit}`;
  }
  return `${Math.min(maxTimeoutDigits, Math.ceil(ms / 3_600_000))}H`;
}
