/**
 * The streams of one connection that are open, and what is known of all others: their ids are at most `highestId`, or
 * not used yet.
 */
import { GrpcCode } from '../grpc-code.js';
import { isClientStream } from './frames.js';
import { type CallEnd, PassedStream } from './passed-stream.js';
import { TakenStream } from './taken-stream.js';
import type { TurnClock } from './turn-clock.js';

/** As many as may be open at the runtime: by then it has answered the first, or read its reset. */
const maxSwallowed = 100_000;

/**
 * What the open streams of a connection are: `calls` where one will be answered, else `waits` where subscriptions or requests that are
 * not whole are all there is.
 */
export type StreamLoad = 'none' | 'waits' | 'calls';

/** @param code See {@link CallEnd}. */
export type CallEnded = (path: string, code: number | undefined, tookMs: number) => void;

export class StreamTable {
  /** When a call was last answered, in ms of the clock; undefined: none was. */
  lastAnswerMs: number | undefined;
  readonly #clock: TurnClock;
  readonly #ended: CallEnded;
  readonly #passedEnded = (stream: PassedStream, code: number | undefined): void =>
    this.#ended(stream.path, code, this.#clock.now() - stream.begunMs);
  readonly active = new Map<number, PassedStream | TakenStream>();
  /** Taken streams that are answered and wait for the proof of it, by id. */
  readonly unproven = new Map<number, TakenStream>();
  /** The highest id the client has used. */
  highestId = 0;
  /** The highest id that will be served: lowered by a GOAWAY. */
  lastServedId = 0x7fffffff;
  takenCount = 0;
  /** Streams taken though the runtime has seen them: what it still says on them goes nowhere. */
  readonly #swallowed = new Set<number>();

  /** @param ended Told once of each call that was opened, and of those that were refused. */
  constructor(clock: TurnClock, ended: CallEnded) {
    this.#clock = clock;
    this.#ended = ended;
  }

  answered(): void {
    this.lastAnswerMs = this.#clock.now();
  }

  /** @param isStreaming Whether calls of this path may stay open for ever. */
  load(isStreaming: (path: string) => boolean): StreamLoad {
    for (const { path, requestEnded } of this.active.values()) {
      if (requestEnded && !isStreaming(path)) return 'calls';
    }
    return this.active.size === 0 ? 'none' : 'waits';
  }

  /** Whether a frame for this id is a late one, for a stream that is over. */
  isOver(streamId: number): boolean {
    return isClientStream(streamId) && streamId <= this.highestId && !this.active.has(streamId);
  }

  taken(streamId: number): TakenStream | undefined {
    if (this.takenCount === 0) return undefined;
    const stream = this.active.get(streamId);
    return stream instanceof TakenStream ? stream : undefined;
  }

  open(streamId: number, stream: PassedStream | TakenStream): void {
    this.active.set(streamId, stream);
    if (stream instanceof TakenStream) {
      this.takenCount += 1;
      return;
    }
    stream.begunMs = this.#clock.now();
    stream.onEnded = this.#passedEnded;
  }

  /** A stream that was never opened. */
  refused(path: string): void {
    this.#ended(path, GrpcCode.unavailable, 0);
  }

  /** @param code How the call of a forwarded stream ends by that, where the runtime has not ended it; undefined: nobody has said. */
  close(streamId: number, code?: number): void {
    const stream = this.active.get(streamId);
    if (stream === undefined) return;
    this.active.delete(streamId);
    if (stream instanceof PassedStream) {
      stream.close(code);
      return;
    }
    this.takenCount -= 1;
    this.#ended(stream.path, stream.code, this.#clock.now() - stream.begunMs);
  }

  /** A forwarded stream becomes a taken one. */
  takeOver(streamId: number, taken: TakenStream): void {
    // Its call goes on.
    this.callEnd(streamId);
    this.close(streamId);
    this.open(streamId, taken);
    this.#swallowed.add(streamId);
    // One the client resets at that moment is never ended by the runtime.
    for (const oldest of this.#swallowed) {
      if (this.#swallowed.size <= maxSwallowed) break;
      this.#swallowed.delete(oldest);
    }
  }

  isSwallowed(streamId: number): boolean {
    return this.#swallowed.size > 0 && this.#swallowed.has(streamId);
  }

  /** The runtime has ended it. */
  swallowedLast(streamId: number): void {
    this.#swallowed.delete(streamId);
  }

  /** Of the taken streams that are open; 0: none is. */
  get highestTakenId(): number {
    let highest = 0;
    if (this.takenCount === 0) return highest;
    for (const [id, stream] of this.active) if (stream instanceof TakenStream) highest = Math.max(highest, id);
    return highest;
  }

  /** The trailers of a stream begin. @returns Who is to be told how its call ended, by who reads them. */
  callEnd(streamId: number): CallEnd | undefined {
    const stream = this.active.get(streamId);
    return stream instanceof PassedStream ? stream.takeEnd() : undefined;
  }

  beginResponse(streamId: number): void {
    const stream = this.active.get(streamId);
    if (stream instanceof PassedStream) stream.responseBegun = true;
  }

  endRequest(streamId: number, stream: PassedStream): void {
    stream.requestEnded = true;
    if (stream.responseEnded) this.close(streamId);
  }

  endResponse(streamId: number): void {
    const stream = this.active.get(streamId);
    if (!(stream instanceof PassedStream)) return;
    stream.endResponse();
    this.answered();
    if (stream.requestEnded) this.close(streamId);
  }

  /** The connection is over. @param code How the calls end by that. */
  forgetRequests(code: number): void {
    for (const stream of this.active.values()) if (stream instanceof PassedStream) stream.close(code);
  }

  /** Every taken stream somebody may still wait for, those without proof included. */
  allTaken(): TakenStream[] {
    const open = [...this.active.values()].filter((stream) => stream instanceof TakenStream);
    return [...new Set([...open, ...this.unproven.values()])];
  }
}
