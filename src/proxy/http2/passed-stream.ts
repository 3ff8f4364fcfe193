/**
 * A stream that is forwarded: what is kept of it, and its request read along where that matters. It knows its own stream only; whatever
 * is wrong with it is the runtime's to say.
 */
import { GrpcCode } from '../grpc-code.js';
import type { BudgetShare } from './budgets.js';
import { SingleMessageReader, tryDecompressSync } from './grpc-message.js';
import type { HalfRequest, HalfRequests } from './half-requests.js';
import type { HeaderField } from './hpack.js';

/** No method of the CRI has a longer path; a longer one is of no interest and not kept. */
const maxPathLength = 256;

/** Is told once how a call ended: whether the runtime has said that it succeeded. */
export type EndListener = (succeeded: boolean) => void;

/** Is told once how a call ended. */
export interface CallEnd {
  /** @param code A gRPC status code; undefined: it could not be read. */
  ended(code: number | undefined): void;
}

/** A request for a report that was forwarded: as long as its answer has not begun, Holdfast may still answer it itself. */
export class ReportRequest {
  readonly fields: readonly HeaderField[];
  readonly begunMs: number;
  /** Undefined while it is not whole, and where it could not be read. */
  message: Buffer | undefined;
  /** What the client has granted its stream beyond the initial window, in bytes. */
  grantedWindow = 0;

  constructor(fields: readonly HeaderField[], begunMs: number) {
    this.fields = fields;
    this.begunMs = begunMs;
  }
}

/** How a request that is forwarded is read along. */
interface Reading {
  readonly observer: RequestObserver;
  readonly report: ReportRequest | undefined;
  readonly halfRequests: HalfRequests;
}

/** Is told before the stream is opened. */
function nobody(): void {}

/** A stream the runtime serves. */
export class PassedStream implements HalfRequest, CallEnd {
  readonly path: string;
  /** When it was opened, in ms of the clock. */
  begunMs = 0;
  /** Told once how its call ended; the same function for all streams. */
  onEnded: (stream: PassedStream, code: number | undefined) => void = nobody;
  /** Undefined once the runtime has begun to answer. */
  report: ReportRequest | undefined;
  requestEnded = false;
  /** The client has got the beginning of its answer. */
  responseBegun = false;
  responseEnded = false;
  #observer: RequestObserver | undefined;
  /** While its request is read, which is not whole. */
  #halfRequests: HalfRequests | undefined;
  #endListener: EndListener | undefined;
  #endTaken = false;

  constructor(path: string, reading: Reading | undefined) {
    this.path = path.length > maxPathLength ? '' : path;
    this.report = reading?.report;
    this.#observer = reading?.observer;
    this.#halfRequests = reading?.halfRequests;
    this.#halfRequests?.begun(this);
  }

  /** Whether its request is read along, until it has its message or that is given up. */
  get isObserved(): boolean {
    return this.#halfRequests !== undefined;
  }

  /** @param data DATA without its padding; undefined where that cannot be told. */
  observe(data: Buffer | undefined, endStream: boolean): void {
    const isGoingOn = this.#observer?.push(data) ?? false;
    if (!isGoingOn || endStream) this.stopObserving();
  }

  /**
   * Its request is whole, and somebody wants to know how the call ends.
   *
   * @param listener What its request took of the budgets is kept until then.
   */
  listen(listener: EndListener): void {
    const observer = this.#observer;
    if (observer === undefined || this.responseEnded) {
      listener(false);
      return;
    }
    this.#observer = undefined;
    this.#endListener = (succeeded) => {
      observer.close();
      listener(succeeded);
    };
  }

  /**
   * Its trailers are there, or begin to be: who takes this over says how the call ended, whatever becomes of the stream.
   *
   * @returns undefined where somebody has taken it.
   */
  takeEnd(): CallEnd | undefined {
    if (this.#endTaken) return undefined;
    this.#endTaken = true;
    return this;
  }

  ended(code: number | undefined): void {
    const listener = this.#endListener;
    this.#endListener = undefined;
    listener?.(code === GrpcCode.ok);
    this.onEnded(this, code);
  }

  endResponse(): void {
    this.responseEnded = true;
    this.takeEnd()?.ended(undefined);
  }

  stopObserving(): void {
    this.#halfRequests?.over(this);
    this.#halfRequests = undefined;
    // One without its message cannot be taken.
    if (this.report?.message === undefined) this.dropReport();
  }

  /** It is forwarded unread from now on. */
  giveUp(): void {
    this.dropReport();
    this.stopObserving();
  }

  /** It cannot be taken any more. */
  dropReport(): void {
    this.report = undefined;
    if (!this.isObserved) this.#forgetRequest();
  }

  /** @param code How the call ends by that; undefined: nobody has said. */
  close(code: number | undefined): void {
    this.giveUp();
    this.takeEnd()?.ended(code);
  }

  #forgetRequest(): void {
    this.#observer?.close();
    this.#observer = undefined;
  }
}

/** Reads the message of a request that is forwarded as it is; whatever is wrong with it is the runtime's to say. */
export class RequestObserver {
  readonly #encoding: string;
  readonly #maxBytes: number;
  /** Undefined once it has the message. */
  #reader: SingleMessageReader | undefined;
  readonly #budget: BudgetShare;
  readonly #found: (message: Buffer) => void;
  readonly #closed: () => void;
  #taken = 0;

  /** @param closed Called by `close`. */
  constructor(
    encoding: string,
    maxBytes: number,
    budget: BudgetShare,
    found: (message: Buffer) => void,
    closed: () => void,
  ) {
    this.#closed = closed;
    this.#encoding = encoding;
    this.#maxBytes = maxBytes;
    this.#budget = budget;
    this.#reader = new SingleMessageReader(maxBytes);
    this.#found = found;
  }

  /** @returns Whether there is memory for `bytes` more, until `close`. */
  reserve(bytes: number): boolean {
    if (!this.#budget.take(bytes)) return false;
    this.#taken += bytes;
    return true;
  }

  /** @returns Whether there is more to read. */
  push(data: Buffer | undefined): boolean {
    const reader = this.#reader;
    if (reader === undefined || data === undefined || !this.reserve(data.length)) return false;
    try {
      reader.push(data);
    } catch {
      return false;
    }
    if (!reader.isComplete) return true;
    this.#reader = undefined;
    const { body, compressed } = reader.finish();
    const message = compressed ? tryDecompressSync(this.#encoding, body, this.#maxBytes) : body;
    if (message !== undefined && (!compressed || this.reserve(message.length))) this.#found(message);
    return false;
  }

  close(): void {
    this.#budget.giveBack(this.#taken);
    this.#taken = 0;
    this.#closed();
  }
}
