/**
 * The streams of one connection that are open, and what is known of all others: their ids are at most `highestId`, or
 * not used yet.
 */
import { isClientStream } from './frames.js';
import { SingleMessageReader, tryDecompressSync } from './grpc-message.js';
import type { BudgetShare } from './limits.js';
import { TakenStream } from './taken-stream.js';

/** No method of the CRI has a longer path; a longer one is of no interest and not kept. */
const maxPathLength = 256;

/** A stream the runtime serves. */
export class PassedStream {
  readonly path: string;
  requestEnded = false;
  responseEnded = false;
  #observer: RequestObserver | undefined;

  constructor(path: string, observer: RequestObserver | undefined) {
    this.path = path.length > maxPathLength ? '' : path;
    this.#observer = observer;
  }

  /** Whether its request is read along, until it has its message or that is given up. */
  get isObserved(): boolean {
    return this.#observer !== undefined;
  }

  /** @param data DATA without its padding; undefined where that cannot be told. */
  observe(data: Buffer | undefined, endStream: boolean): void {
    const isGoingOn = this.#observer?.push(data) ?? false;
    if (!isGoingOn || endStream) this.stopObserving();
  }

  stopObserving(): void {
    this.#observer?.close();
    this.#observer = undefined;
  }
}

/** Reads the message of a request that is forwarded as it is; whatever is wrong with it is the runtime's to say. */
export class RequestObserver {
  readonly #encoding: string;
  readonly #maxBytes: number;
  readonly #reader: SingleMessageReader;
  readonly #budget: BudgetShare;
  readonly #found: (message: Buffer) => void;
  #taken = 0;

  constructor(encoding: string, maxBytes: number, budget: BudgetShare, found: (message: Buffer) => void) {
    this.#encoding = encoding;
    this.#maxBytes = maxBytes;
    this.#budget = budget;
    this.#reader = new SingleMessageReader(maxBytes);
    this.#found = found;
  }

  /** @returns Whether there is more to read. */
  push(data: Buffer | undefined): boolean {
    if (data === undefined || !this.#budget.take(data.length)) return false;
    this.#taken += data.length;
    try {
      this.#reader.push(data);
    } catch {
      return false;
    }
    if (!this.#reader.isComplete) return true;
    const { body, compressed } = this.#reader.finish();
    const message = compressed ? tryDecompressSync(this.#encoding, body, this.#maxBytes) : body;
    if (message !== undefined) this.#found(message);
    return false;
  }

  close(): void {
    this.#budget.giveBack(this.#taken);
    this.#taken = 0;
  }
}

export class StreamTable {
  readonly active = new Map<number, PassedStream | TakenStream>();
  /** Taken streams that are answered and wait for the proof of it, by id. */
  readonly unproven = new Map<number, TakenStream>();
  /** The highest id the client has used. */
  highestId = 0;
  /** The highest id that will be served: lowered by a GOAWAY. */
  lastServedId = 0x7fffffff;
  takenCount = 0;

  /** Whether a frame for this id is a late one, for a stream that is over. */
  isOver(streamId: number): boolean {
    return isClientStream(streamId) && streamId <= this.highestId && !this.active.has(streamId);
  }

  taken(streamId: number): TakenStream | undefined {
    const stream = this.active.get(streamId);
    return stream instanceof TakenStream ? stream : undefined;
  }

  open(streamId: number, stream: PassedStream | TakenStream): void {
    this.active.set(streamId, stream);
    if (stream instanceof TakenStream) this.takenCount += 1;
  }

  close(streamId: number): void {
    const stream = this.active.get(streamId);
    if (!this.active.delete(streamId)) return;
    if (stream instanceof TakenStream) this.takenCount -= 1;
    else stream?.stopObserving();
  }

  endRequest(streamId: number, stream: PassedStream): void {
    stream.requestEnded = true;
    if (stream.responseEnded) this.close(streamId);
  }

  endResponse(streamId: number): void {
    const stream = this.active.get(streamId);
    if (!(stream instanceof PassedStream)) return;
    stream.responseEnded = true;
    if (stream.requestEnded) this.close(streamId);
  }

  /** The connection is over. */
  stopObserving(): void {
    for (const stream of this.active.values()) if (stream instanceof PassedStream) stream.stopObserving();
  }

  /** Every taken stream somebody may still wait for, those without proof included. */
  allTaken(): TakenStream[] {
    const open = [...this.active.values()].filter((stream) => stream instanceof TakenStream);
    return [...new Set([...open, ...this.unproven.values()])];
  }
}
