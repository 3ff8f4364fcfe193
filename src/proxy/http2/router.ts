/**
 * One downstream connection and its upstream connection: chunks of both go in, chunks for both come out. It ties the
 * two directions and the taken streams together and ends the connection when a peer breaks the protocol; it knows no
 * sockets and no CRI.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../clock.js';
import type { TakenCall } from '../taken-call.js';
import { ErrorCode, FrameType, frame, goAwayFrame, windowUpdateFrame } from './frames.js';
import type { HeaderField } from './hpack.js';
import { BudgetShare, type Budgets, type ByteBudget, type Limits, newBudgets, RateLimit } from './limits.js';
import { RequestPath, type RequestPathHost } from './request-path.js';
import { ResponsePath, type ResponsePathHost } from './response-path.js';
import { StreamTable } from './stream-table.js';
import type { Refusal, TakenStream } from './taken-stream.js';

export interface RouterHandlers {
  /**
   * Decides at the request headers. `pass`: forwarded verbatim. `observe`: forwarded verbatim while the (small, unary)
   * request message is also read and given to `observe`. `take`: the stream never reaches the runtime; `take` is called
   * once the whole request is there.
   */
  decide(path: string): 'pass' | 'observe' | 'take';
  /** The request message, before its last byte is forwarded; not called where it is large or cannot be read. */
  observe(path: string, request: Buffer): void;
  take(call: TakenCall): void;
  /**
   * A peer broke the protocol or a limit, or something here failed, and the connection ends for it: for a log line and
   * a counter.
   */
  violation?(peer: 'downstream' | 'upstream', reason: string): void;
  /**
   * A limit cost the client a stream.
   *
   * @param isFirst Of its connection in this second: one line in the log says enough.
   */
  refused?(reason: Refusal, isFirst: boolean): void;
  /** A peer has taken nothing for `Limits.stallMs`, though something waits for it. */
  stalled?(
    peer: 'downstream' | 'upstream',
    waiting: { readonly unwrittenBytes: number; readonly heldBytes: number },
  ): void;
}

export interface RouterOutput {
  /** Collected until `flush`; what is not written then, though it is part of a chunk just read, is the output's to keep. */
  toDownstream(bytes: Buffer): void;
  toUpstream(bytes: Buffer): void;
  /** Whether the downstream socket takes more without buffering. */
  downstreamReady(): boolean;
  flush(): void;
  /** Both connections are to be closed when what was written has gone. */
  close(): void;
}

const proofBytes = 8;

let uses = 0;

/** Numbers that order connections by their last use: a clock would be read for each call. */
export function nextUse(): number {
  uses += 1;
  return uses;
}

export class Router implements RequestPathHost, ResponsePathHost {
  readonly clock: Clock;
  readonly limits: Limits;
  readonly streams = new StreamTable();
  readonly responses: ResponsePath;
  readonly requestBytes: BudgetShare;
  readonly #answerBytes: ByteBudget;
  /** When a stream was last opened, see `nextUse`. */
  lastUse = nextUse();
  readonly #requests: RequestPath;
  readonly #handlers: RouterHandlers;
  readonly #output: RouterOutput;
  /** Random, so that no PING of the runtime looks like one of Holdfast's; the stream id follows. */
  readonly #proofPrefix = randomBytes(4);
  readonly #refusals = new RateLimit(1);
  #unsentAnswerBytes = 0;
  /** PINGs behind answers that the client has not acknowledged. */
  #proofsSent = 0;
  #running = false;
  #scheduled = false;
  /** `closing`: no stream is served any more, what Holdfast wrote is still to go out. */
  #state: 'open' | 'closing' | 'closed' = 'open';
  #cancelLinger = (): void => {};
  #drain: { readonly isStreaming: (path: string) => boolean; readonly drained: () => void } | undefined;

  /** @param options.budgets Shared by all connections; its own where there are none. */
  constructor(options: {
    handlers: RouterHandlers;
    clock: Clock;
    limits: Limits;
    output: RouterOutput;
    budgets?: Budgets | undefined;
  }) {
    this.#handlers = options.handlers;
    this.clock = options.clock;
    this.limits = options.limits;
    const { requests, answers } = options.budgets ?? newBudgets();
    this.requestBytes = new BudgetShare(requests);
    this.#answerBytes = answers;
    this.#output = options.output;
    this.responses = new ResponsePath(this);
    this.#requests = new RequestPath(this);
  }

  get activeStreams(): number {
    return this.streams.active.size;
  }

  /** What waits for the client's windows. */
  get heldBytes(): number {
    return this.responses.heldBytes + this.#unsentAnswerBytes;
  }

  /** @param chunk Bytes of the client, behind the connection preface; not kept beyond `RouterOutput.flush`. */
  fromDownstream(chunk: Buffer): void {
    this.#run('downstream', chunk);
  }

  /** @param chunk Not kept beyond `RouterOutput.flush`. */
  fromUpstream(chunk: Buffer): void {
    this.#run('upstream', chunk);
  }

  /** The downstream takes more again. */
  resume(): void {
    this.#run('downstream', undefined);
  }

  /** The upstream is gone: no taken call will be answered, though frames held back may still go out. */
  connectionLost(): void {
    for (const stream of this.streams.allTaken()) stream.leave('connection lost');
  }

  /** The sockets are ending: nothing further goes in or out. */
  abandon(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#cancelLinger();
    this.connectionLost();
    this.streams.stopObserving();
  }

  /**
   * Tells the client to open no more streams here (GOAWAY, NO_ERROR, last stream seen).
   *
   * @param drained Called once, when no stream is left for which `isStreaming` says false.
   */
  drain(isStreaming: (path: string) => boolean, drained: () => void): void {
    if (this.#state !== 'open' || this.#drain !== undefined) {
      drained();
      return;
    }
    this.#goAway(ErrorCode.noError);
    this.#drain = { isStreaming, drained };
  }

  /** Reads what a peer sent, then puts out what it led to. Nothing is thrown: a failure ends this connection and no other. */
  #run(peer: 'downstream' | 'upstream', chunk: Buffer | undefined): void {
    if (this.#state === 'closed') return;
    this.#running = true;
    try {
      if (chunk !== undefined) (peer === 'downstream' ? this.#requests : this.responses).push(chunk);
      do {
        this.#requests.serve();
        this.responses.serve();
        this.#output.flush();
      } while (this.responses.wantsToServe && this.#output.downstreamReady());
    } catch (error) {
      this.#fail(peer, error);
    }
    this.#running = false;
    if (this.#state === 'closing' && this.responses.isFlushed) this.#close();
    this.#checkDrained();
  }

  /** For what is written outside of `#run`: once, when the present turn is over. */
  #schedule(): void {
    if (this.#running || this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.resume();
    });
  }

  #checkDrained(): void {
    const drain = this.#drain;
    if (drain === undefined) return;
    for (const { path } of [...this.streams.active.values(), ...this.streams.unproven.values()]) {
      if (this.#state === 'open' && !drain.isStreaming(path)) return;
    }
    this.#drain = undefined;
    drain.drained();
  }

  #end(peer: 'downstream' | 'upstream', reason: string): void {
    this.#handlers.violation?.(peer, reason);
    this.#state = 'closing';
    this.#requests.stop();
    this.connectionLost();
  }

  /** Tells the client the last stream seen. No GOAWAY behind it, of the runtime either, names a higher one. */
  #goAway(code: number, reason?: string): void {
    const { streams } = this;
    streams.lastServedId = Math.min(streams.lastServedId, streams.highestId);
    this.control(goAwayFrame(streams.lastServedId, code, reason));
  }

  #fail(peer: 'downstream' | 'upstream', error: unknown): void {
    this.#end(peer, `internal error: ${error instanceof Error ? error.message : String(error)}`);
    this.#close();
  }

  #close(): void {
    if (this.#state === 'closed') return;
    this.#requests.serve();
    this.responses.stop();
    this.abandon();
    this.#output.close();
  }

  // What the two directions ask of their connection.

  toDownstream(bytes: Buffer): void {
    this.#output.toDownstream(bytes);
  }

  toUpstream(bytes: Buffer): void {
    this.#output.toUpstream(bytes);
  }

  downstreamReady(): boolean {
    return this.#output.downstreamReady();
  }

  decide(path: string): 'pass' | 'observe' | 'take' {
    this.lastUse = nextUse();
    return this.#handlers.decide(path);
  }

  observe(path: string, request: Buffer): void {
    this.#handlers.observe(path, request);
  }

  refund(streamId: number, bytes: number): void {
    this.#requests.control(windowUpdateFrame(0, bytes));
    if (this.streams.active.has(streamId)) this.#requests.control(windowUpdateFrame(streamId, bytes));
  }

  runtimeSetting(id: number, value: number): void {
    this.#requests.runtimeSetting(id, value);
  }

  get awaitsProof(): boolean {
    return this.#proofsSent > 0;
  }

  takeProof(ping: Buffer): boolean {
    if (ping.compare(this.#proofPrefix, 0, 4, 0, 4) !== 0) return false;
    this.#proofsSent -= 1;
    // Its stream may have been reset meanwhile.
    this.streams.unproven.get(ping.readUInt32BE(4))?.delivered();
    return true;
  }

  /** GOAWAY as soon as the runtime's frame in between has ended, then the end. */
  clientFault(code: number, reason: string): void {
    if (this.#state !== 'open') return;
    this.#end('downstream', reason);
    this.#goAway(code, reason);
    this.#cancelLinger = this.clock.after(this.limits.lingerMs, () => this.#close());
  }

  runtimeFault(code: number, reason: string): void {
    this.responses.stop();
    if (this.#state !== 'open') return;
    this.#end('upstream', reason);
    // The runtime opened no stream.
    this.#requests.control(goAwayFrame(0, code, reason));
  }

  // What taken streams ask of their connection.

  headers(streamId: number, fields: readonly HeaderField[], endStream: boolean): void {
    if (this.#state !== 'open') return;
    this.responses.headers(streamId, fields, endStream);
    this.#schedule();
  }

  control(bytes: Buffer): void {
    this.responses.control(bytes);
    this.#schedule();
  }

  sending(stream: TakenStream): void {
    this.responses.sending(stream);
    this.#schedule();
  }

  prove(stream: TakenStream): void {
    this.streams.unproven.set(stream.id, stream);
    this.#proofsSent += 1;
    const payload = Buffer.alloc(proofBytes);
    this.#proofPrefix.copy(payload);
    payload.writeUInt32BE(stream.id, 4);
    this.control(frame(FrameType.ping, 0, 0, payload));
  }

  over(stream: TakenStream, onWire: boolean): void {
    if (onWire) this.streams.close(stream.id);
    else this.streams.unproven.delete(stream.id);
    if (this.#drain !== undefined) this.#schedule();
  }

  refused(reason: Refusal): void {
    this.#handlers.refused?.(reason, this.#refusals.admit(this.clock.now()));
  }

  unsentAnswers(bytes: number): void {
    const before = this.#unsentAnswerBytes;
    this.#unsentAnswerBytes += bytes;
    this.#answerBytes.spend(bytes);
    // A single answer may be as large as it likes.
    if (bytes <= 0 || before === 0) return;
    if (before > this.limits.unsentAnswerBytes || this.#answerBytes.isSpent) {
      this.clientFault(ErrorCode.enhanceYourCalm, `${this.#unsentAnswerBytes} bytes of answers are not taken`);
    }
  }

  take(call: TakenCall): void {
    try {
      this.#handlers.take(call);
    } catch (error) {
      this.#fail('downstream', error);
    }
  }
}
