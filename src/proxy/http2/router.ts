/**
 * One downstream connection and its upstream connection: chunks of both go in, chunks for both come out. It ties the
 * two directions and the taken streams together and ends the connection when a peer breaks the protocol; it knows no
 * sockets and no CRI.
 */
import type { Clock } from '../../clock.js';
import { GrpcCode } from '../grpc-code.js';
import type { TakenCall } from '../taken-call.js';
import { AnswerShare, BudgetShare, type Budgets, newBudgets } from './budgets.js';
import { ClientSettings } from './client-settings.js';
import { ErrorCode, goAwayFrame, rstStreamFrame, windowUpdateFrame } from './frames.js';
import { type Limits, RateLimit } from './limits.js';
import { type EndListener, PassedStream } from './passed-stream.js';
import { Pings } from './pings.js';
import { type Decision, RequestPath } from './request-path.js';
import { ResponsePath } from './response-path.js';
import { type StreamLoad, StreamTable } from './stream-table.js';
import { grpcEnd, type Refusal, TakenStream, type TakenStreamContext } from './taken-stream.js';
import { TurnClock } from './turn-clock.js';

export interface RouterHandlers {
  /** Decides at the request headers; what is observed is given to `observe`, what is taken to `take`, once the request is whole. */
  decide(path: string): Decision;
  /**
   * The request message, before its last byte is forwarded; not called where it is large or cannot be read.
   *
   * @returns Asks how an observed call ends, and is told once: whether the runtime has ended it with OK, before the client gets the last
   * byte of that; false where it failed, where it was reset, where the connection ended, and where its end could not be read. It is kept
   * until then: it should not hold the request. Not heard in the case of a `report`.
   */
  observe(path: string, request: Buffer): EndListener | undefined;
  take(call: TakenCall): void;
  /**
   * A call has ended, whoever answered it; told once for each that was decided on, unless its connection ended for it.
   *
   * @param code A gRPC status code; undefined: the runtime ended it in a way that is not read.
   * @param tookMs From its request headers on to the beginning of its end.
   */
  ended?(path: string, code: number | undefined, tookMs: number): void;
  /** Whether a `report` that was forwarded is to be taken after all, now that its answer begins. */
  takesLate?(): boolean;
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
  /** Both connections are to be closed, and what was written is not to be kept. */
  destroy?(): void;
}

let uses = 0;

/** Numbers that order connections by their last use: a clock would be read for each call. */
export function nextUse(): number {
  uses += 1;
  return uses;
}

/** How a direct client would have seen a lost connection. */
const runtimeGone = { code: GrpcCode.unavailable, message: 'the connection to the runtime was closed', trailers: [] };

export class Router {
  readonly responses: ResponsePath;
  /** When a stream was last opened, see `nextUse`. */
  lastUse = nextUse();
  readonly #clock: Clock;
  readonly #turnClock: TurnClock;
  readonly #limits: Limits;
  readonly #handlers: RouterHandlers;
  readonly #output: RouterOutput;
  readonly #streams: StreamTable;
  readonly #answerBytes: AnswerShare;
  readonly #context: TakenStreamContext;
  readonly #requests: RequestPath;
  readonly #refusals = new RateLimit(1);
  /** How calls end with their connection. */
  #lostCode: number = GrpcCode.cancelled;
  #unwrittenBytes = 0;
  #running = false;
  #scheduled = false;
  /**
   * `orphaned`: the runtime's connection is over, streams that were taken are still served. `closing`: no stream is served any more,
   * what Holdfast wrote is still to go out.
   */
  #state: 'open' | 'orphaned' | 'closing' | 'closed' = 'open';
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
    const { handlers, clock, limits, output, budgets = newBudgets(clock) } = options;
    this.#handlers = handlers;
    this.#clock = clock;
    const turnClock = new TurnClock(clock);
    this.#turnClock = turnClock;
    this.#limits = limits;
    this.#output = output;
    const streams = new StreamTable(turnClock, (path, code, tookMs) => handlers.ended?.(path, code, tookMs));
    this.#streams = streams;
    const settings = new ClientSettings();
    const pings = new Pings(turnClock, limits);
    this.#answerBytes = new AnswerShare(budgets.answers, limits.unsentAnswerBytes, () => {
      const { bytes, unreadBytes } = this.#answerBytes;
      this.#clientFault(ErrorCode.enhanceYourCalm, `${bytes} bytes of answers are not taken`);
      // What it does not read it will not read within a moment either.
      if (unreadBytes > 0) queueMicrotask(() => output.destroy?.());
    });
    this.responses = new ResponsePath({
      streams,
      settings,
      pings,
      toDownstream: (bytes) => output.toDownstream(bytes),
      downstreamReady: () => output.downstreamReady(),
      wake: () => this.#schedule(),
      refund: (streamId, bytes) => this.#refund(streamId, bytes),
      runtimeSetting: (id, value) => this.#requests.runtimeSetting(id, value),
      takeOver: (streamId, stream) => this.#takeOver(streamId, stream, settings.initialWindowSize),
      fault: (code, reason) => this.#runtimeFault(code, reason),
    });
    this.#context = {
      clock,
      limits,
      writer: this.responses,
      requestBytes: new BudgetShare(budgets.requests),
      streamBytes: new BudgetShare(budgets.streams),
      answerBytes: this.#answerBytes,
      halfRequests: budgets.halfRequests,
      decompression: budgets.decompression,
      refused: (reason) => this.#refused(reason),
      take: (call) => this.#take(call),
      prove: (stream) => {
        streams.unproven.set(stream.id, stream);
        this.responses.control(pings.proof(stream.id));
      },
      over: (stream, onWire) => this.#over(stream, onWire),
    };
    this.#requests = new RequestPath({
      context: this.#context,
      streams,
      settings,
      pings,
      responses: this.responses,
      toUpstream: (bytes) => output.toUpstream(bytes),
      decide: (path) => this.#decide(path),
      observe: (path, request) => handlers.observe(path, request),
      fault: (code, reason) => this.#clientFault(code, reason),
    });
  }

  get activeStreams(): number {
    return this.#streams.active.size;
  }

  /** When a call was last answered, in ms of the clock; undefined: none was. */
  get lastAnswerMs(): number | undefined {
    return this.#streams.lastAnswerMs;
  }

  /** The runtime's connection is over, and streams that were taken are still served. */
  get isOrphaned(): boolean {
    return this.#state === 'orphaned';
  }

  /** Whether there is something left to do once the runtime's connection is over. */
  get isServing(): boolean {
    return this.isOrphaned || !this.responses.held.isEmpty;
  }

  /** @param isStreaming Whether calls of this path may stay open for ever. */
  load(isStreaming: (path: string) => boolean): StreamLoad {
    return this.#streams.load(isStreaming);
  }

  /** @param bytes Written and not taken by the downstream socket. */
  unwritten(bytes: number): void {
    this.#unwrittenBytes = bytes;
    this.#countUnread();
  }

  /** What waits for the client's windows. */
  get heldBytes(): number {
    return this.responses.held.bytes + this.#answerBytes.heldBytes;
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

  /** The runtime's SETTINGS are not there: the client gets Holdfast's own, so that it sends its calls. */
  greet(): void {
    this.responses.greet();
  }

  /**
   * The runtime's connection has ended. What it has answered still goes out, and streams that were taken are still served: what is
   * done for them goes over another connection.
   *
   * @returns Whether anything of that is left; if not, the connection is the caller's to close.
   */
  runtimeEnded(): boolean {
    this.#lostCode = GrpcCode.unavailable;
    if (this.#state !== 'open' || !this.responses.isAtBoundary) return false;
    this.responses.held.dropOpenBlock();
    this.responses.noMoreEnds();
    if (this.#streams.takenCount + this.#streams.unproven.size === 0) return !this.responses.held.isEmpty;
    this.#state = 'orphaned';
    this.#goAway(ErrorCode.noError);
    this.resume();
    return true;
  }

  /** The sockets are ending: nothing further goes in or out. */
  abandon(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#cancelLinger();
    this.#leaveAll();
    this.responses.noMoreEnds();
    this.#streams.forgetRequests(this.#lostCode);
    this.#countUnread();
  }

  /**
   * Tells the client to open no more streams here (GOAWAY, NO_ERROR, last stream seen).
   *
   * @param drained Called once, when no stream is left for which `isStreaming` says false.
   */
  drain(isStreaming: (path: string) => boolean, drained: () => void): void {
    if ((this.#state !== 'open' && this.#state !== 'orphaned') || this.#drain !== undefined) {
      drained();
      return;
    }
    this.#goAway(ErrorCode.noError);
    this.#drain = { isStreaming, drained };
  }

  /** Header blocks wait for no window. */
  #countUnread(): void {
    const bytes = this.#state === 'closed' ? 0 : this.responses.ownBytes + this.#unwrittenBytes;
    this.#answerBytes.unread(Math.max(0, bytes - this.#limits.unreadOutputBytes));
  }

  /** Reads what a peer sent, then puts out what it led to. Nothing is thrown: a failure ends this connection and no other. */
  #run(peer: 'downstream' | 'upstream', chunk: Buffer | undefined): void {
    if (this.#state === 'closed') return;
    this.#running = true;
    this.#turnClock.turnBegins();
    try {
      if (chunk !== undefined) (peer === 'downstream' ? this.#requests : this.responses).push(chunk);
      do {
        this.#requests.serve();
        this.responses.serve();
        if (this.#state === 'orphaned' && this.responses.held.isEmpty) this.#standIn();
        this.#output.flush();
      } while (this.responses.wantsToServe && this.#output.downstreamReady());
    } catch (error) {
      this.#fail(peer, error);
    }
    this.#running = false;
    this.#turnClock.turnEnds();
    this.#countUnread();
    if (this.#isOver && this.responses.isFlushed) this.#close();
    this.#checkDrained();
  }

  get #isOver(): boolean {
    if (this.#state === 'closing') return true;
    const { active, unproven } = this.#streams;
    return this.#state === 'orphaned' && this.responses.held.isEmpty && active.size + unproven.size === 0;
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
    const isServing = this.#state === 'open' || this.#state === 'orphaned';
    for (const { path } of [...this.#streams.active.values(), ...this.#streams.unproven.values()]) {
      if (isServing && !drain.isStreaming(path)) return;
    }
    this.#drain = undefined;
    drain.drained();
  }

  /** For the runtime, which will say no more: ends the streams that only it could answer. */
  #standIn(): void {
    this.responses.acknowledgeSettings();
    for (const [id, stream] of this.#streams.active) {
      if (!(stream instanceof PassedStream)) continue;
      this.#streams.close(id, GrpcCode.unavailable);
      if (!stream.responseEnded) this.responses.headers(id, grpcEnd(runtimeGone, stream.responseBegun), true);
      // The rest of the request is not wanted (RFC 9113 section 8.1).
      if (!stream.requestEnded) this.responses.control(rstStreamFrame(id, ErrorCode.noError));
    }
  }

  #leaveAll(): void {
    for (const stream of this.#streams.allTaken()) stream.leave('connection lost');
  }

  #end(peer: 'downstream' | 'upstream', reason: string): void {
    this.#handlers.violation?.(peer, reason);
    this.#state = 'closing';
    this.#requests.stop();
    this.#leaveAll();
  }

  /** Tells the client the last stream seen. No GOAWAY behind it, of the runtime either, names a higher one. */
  #goAway(code: number, reason?: string): void {
    const streams = this.#streams;
    streams.lastServedId = Math.min(streams.lastServedId, streams.highestId);
    this.responses.control(goAwayFrame(streams.lastServedId, code, reason));
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

  /** GOAWAY as soon as the runtime's frame in between has ended, then the end. */
  #clientFault(code: number, reason: string): void {
    if (this.#state === 'closing' || this.#state === 'closed') return;
    this.#end('downstream', reason);
    this.#goAway(code, reason);
    this.#cancelLinger = this.#clock.after(this.#limits.lingerMs, () => this.#close());
  }

  #runtimeFault(code: number, reason: string): void {
    this.responses.stop();
    if (this.#state !== 'open') return;
    this.#lostCode = GrpcCode.unavailable;
    this.#end('upstream', reason);
    // The runtime opened no stream.
    this.#requests.control(goAwayFrame(0, code, reason));
  }

  // What the two directions and the taken streams ask of their connection.

  #decide(path: string): Decision {
    this.lastUse = nextUse();
    return this.#handlers.decide(path);
  }

  #takeOver(id: number, { report, requestEnded }: PassedStream, initialWindowSize: number): boolean {
    if (report?.message === undefined || this.#handlers.takesLate?.() !== true) return false;
    const window = initialWindowSize + report.grantedWindow;
    const stream = new TakenStream(this.#context, id, report.fields, { window, forwardedMs: report.begunMs });
    this.#streams.takeOver(id, stream);
    if (this.#streams.takenCount + this.#streams.unproven.size > this.#limits.takenStreams) {
      this.#refused('too many taken streams');
      stream.reset(ErrorCode.refusedStream);
    } else {
      stream.beginWith(report.message, requestEnded);
    }
    return true;
  }

  #refund(streamId: number, bytes: number): void {
    // An increment of 0 is an error (RFC 9113 section 6.9).
    if (bytes === 0) return;
    this.#requests.control(windowUpdateFrame(0, bytes));
    const isOpen = this.#streams.active.has(streamId) || this.#streams.isSwallowed(streamId);
    if (isOpen) this.#requests.control(windowUpdateFrame(streamId, bytes));
  }

  #over(stream: TakenStream, onWire: boolean): void {
    if (onWire && stream.isAnswered) this.#streams.answered();
    // What is left of its request goes nowhere any more, and the runtime is not to wait for it.
    if (onWire && stream.isForwarded && stream.isEnded && !stream.requestEnded) {
      this.#requests.control(rstStreamFrame(stream.id, ErrorCode.cancel));
    }
    if (onWire) this.#streams.close(stream.id);
    else this.#streams.unproven.delete(stream.id);
    if (this.#drain !== undefined || this.#state === 'orphaned') this.#schedule();
  }

  #refused(reason: Refusal): void {
    this.#handlers.refused?.(reason, this.#refusals.admit(this.#clock.now()));
  }

  #take(call: TakenCall): void {
    try {
      this.#handlers.take(call);
    } catch (error) {
      this.#fail('downstream', error);
    }
  }
}
