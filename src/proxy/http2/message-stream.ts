/** The messages of a server stream, kept until they are iterated, and how it ends. It knows its call only. */
import type { Metadata, Status } from '../taken-call.js';
import type { UpstreamCallOptions, UpstreamStream } from '../upstream.js';
import type { CallSink, ClientCall } from './client-call.js';

type Result = IteratorResult<Buffer, undefined>;

const over: Result = { done: true, value: undefined };
/** Prefix, and the object that a message takes beside its bytes. */
const messageOverheadBytes = 64;

export class MessageStream implements UpstreamStream, CallSink, AsyncIterator<Buffer, undefined> {
  readonly initialMetadata: Promise<Metadata | undefined>;
  readonly status: Promise<Status>;
  readonly #call: ClientCall;
  readonly #keep: UpstreamCallOptions['keep'];
  #resolveMetadata: (metadata: Metadata | undefined) => void = () => {};
  #resolveStatus: (status: Status) => void = () => {};
  #queuedBytes = 0;
  readonly #messages: Buffer[] = [];
  readonly #waiting: ((result: Result) => void)[] = [];
  #isOver = false;

  /**
   * @param begin Makes its call, which has not started.
   * @param keep See `UpstreamCallOptions`.
   */
  constructor(begin: (sink: CallSink) => ClientCall, keep: UpstreamCallOptions['keep']) {
    this.#keep = keep;
    this.initialMetadata = new Promise((resolve) => {
      this.#resolveMetadata = resolve;
    });
    this.status = new Promise((resolve) => {
      this.#resolveStatus = resolve;
    });
    this.#call = begin(this);
    this.#call.start();
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  [Symbol.asyncIterator](): AsyncIterator<Buffer, undefined> {
    return this;
  }

  next(): Promise<Result> {
    const message = this.#messages.shift();
    if (message !== undefined) {
      this.#queue(-message.length - messageOverheadBytes);
      this.#call.replenish();
      return Promise.resolve({ done: false, value: message });
    }
    if (this.#isOver) return Promise.resolve(over);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The reader has had enough. */
  return(): Promise<Result> {
    this.#messages.length = 0;
    this.#queue(-this.#queuedBytes);
    this.#call.cancel();
    return Promise.resolve(over);
  }

  // The side of the call.

  metadata(metadata: Metadata): void {
    this.#resolveMetadata(metadata);
  }

  message(message: Buffer): void {
    const reader = this.#waiting.shift();
    if (reader !== undefined) {
      reader({ done: false, value: message });
      return;
    }
    this.#messages.push(message);
    this.#queue(message.length + messageOverheadBytes);
  }

  #queue(bytes: number): void {
    this.#queuedBytes += bytes;
    this.#keep?.(bytes);
  }

  end(status: Status): void {
    this.#isOver = true;
    this.#resolveMetadata(undefined);
    this.#resolveStatus(status);
    for (const reader of this.#waiting.splice(0)) reader(over);
  }
}
