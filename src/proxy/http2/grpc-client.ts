/**
 * Holdfast's own gRPC client: which call goes over which connection, when one is opened, and what is sent again. It never
 * pings, and a runtime that is silent or not there is waited for. It knows no CRI.
 *
 * Not grpc-js: on Node 20 a header field over 64 KiB ends its connection without an event, its keepalive cancels what a frozen
 * runtime has in flight, and it codes status texts anew.
 */
import type { Clock } from '../../clock.js';
import type { Metadata, Status } from '../taken-call.js';
import {
  type Upstream,
  type UpstreamAnswer,
  type UpstreamCallOptions,
  UpstreamStatusError,
  type UpstreamStream,
} from '../upstream.js';
import { type CallQueue, type CallSink, ClientCall } from './client-call.js';
import { ClientConnection } from './client-connection.js';
import type { Dialer } from './dialer.js';
import { MessageStream } from './message-stream.js';

/** Of a lane, at a runtime that allows few streams on one; beyond them calls wait. */
const maxLaneConnections = 16;
/** Before a connection follows the second in a row that ended unused: a runtime may accept and hang up, again and again. */
const unusedPauseMs = 200;

/**
 * @param dialer Of the runtime's socket; it is not closed here.
 * @param userAgent Sent as `user-agent`.
 */
export function openGrpcClient(dialer: Dialer, clock: Clock, userAgent?: string): Upstream {
  return new GrpcClient(dialer, clock, userAgent);
}

class GrpcClient implements Upstream {
  readonly #clock: Clock;
  readonly #userAgent: string | undefined;
  readonly #lanes: Readonly<Record<'work' | 'looks', Lane>>;

  constructor(dialer: Dialer, clock: Clock, userAgent: string | undefined) {
    this.#clock = clock;
    this.#userAgent = userAgent;
    this.#lanes = { work: new Lane(dialer, clock), looks: new Lane(dialer, clock) };
    // It is what notices that the runtime goes and comes.
    this.#lanes.looks.keepConnected();
  }

  unary(path: string, request: Buffer, options: UpstreamCallOptions = {}): Promise<UpstreamAnswer> {
    return new Promise((resolve, reject) => {
      this.#call(path, request, options, false, new UnaryAnswer(resolve, reject)).start();
    });
  }

  serverStream(path: string, request: Buffer, options: UpstreamCallOptions = {}): UpstreamStream {
    return new MessageStream((sink) => this.#call(path, request, options, true, sink), options.keep);
  }

  close(): void {
    for (const lane of Object.values(this.#lanes)) lane.close();
  }

  #call(path: string, request: Buffer, options: UpstreamCallOptions, isStreaming: boolean, sink: CallSink): ClientCall {
    const queue = this.#lanes[options.lane ?? 'looks'];
    const [clock, userAgent] = [this.#clock, this.#userAgent];
    return new ClientCall({ clock, queue, path, request, options, isStreaming, sink, userAgent });
  }
}

class UnaryAnswer implements CallSink {
  /** It is waited for: there is nobody slow. */
  readonly queuedBytes = 0;
  readonly #resolve: (answer: UpstreamAnswer) => void;
  readonly #reject: (error: UpstreamStatusError) => void;
  #metadata: Metadata | undefined;
  #message: Buffer | undefined;

  constructor(resolve: (answer: UpstreamAnswer) => void, reject: (error: UpstreamStatusError) => void) {
    this.#resolve = resolve;
    this.#reject = reject;
  }

  metadata(metadata: Metadata): void {
    this.#metadata = metadata;
  }

  message(message: Buffer): void {
    this.#message = message;
  }

  end(status: Status): void {
    const [message, initialMetadata] = [this.#message, this.#metadata];
    if (status.code === 0 && message !== undefined && initialMetadata !== undefined) {
      this.#resolve({ message, initialMetadata, status });
    } else {
      this.#reject(new UpstreamStatusError(status, initialMetadata));
    }
  }
}

/** Connections of one kind, usually one, and the calls that wait for a stream. */
class Lane implements CallQueue {
  readonly #dialer: Dialer;
  readonly #clock: Clock;
  /** What gives up connecting, the oldest first. */
  readonly #connections = new Map<ClientConnection, () => void>();
  #waiting = new Set<ClientCall>();
  /** It has been of use, and shall be ready when it is needed again. */
  #keepsConnected = false;
  /** Connections that ended without an answer, since the last that had one. */
  #unusedInARow = 0;
  #cancelPause: (() => void) | undefined;
  #isClosed = false;

  constructor(dialer: Dialer, clock: Clock) {
    this.#dialer = dialer;
    this.#clock = clock;
  }

  keepConnected(): void {
    this.#keepsConnected = true;
    this.#arrange();
  }

  add(call: ClientCall): void {
    if (this.#isClosed) {
      call.giveUp(closedText);
      return;
    }
    this.#waiting.add(call);
    this.keepConnected();
  }

  again(call: ClientCall): void {
    this.#waiting = new Set([call, ...this.#waiting]);
  }

  remove(call: ClientCall): void {
    this.#waiting.delete(call);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelPause?.();
    for (const [connection, giveUp] of this.#connections) {
      giveUp();
      connection.close(closedText);
    }
    this.#connections.clear();
    for (const call of [...this.#waiting]) call.giveUp(closedText);
  }

  #changed(connection: ClientConnection): void {
    if (connection.isOver) this.#connections.delete(connection);
    if (connection.hasAnswered) this.#unusedInARow = 0;
    else if (connection.isOver && ++this.#unusedInARow > 1) this.#pause();
    this.#arrange();
  }

  #pause(): void {
    this.#cancelPause ??= this.#clock.after(unusedPauseMs, () => {
      this.#cancelPause = undefined;
      this.#arrange();
    });
  }

  /** Gives streams to those who wait, in order, and has as many connections as that takes. */
  #arrange(): void {
    if (this.#isClosed) return;
    for (const call of this.#waiting) {
      const connection = this.#usable().find(({ hasRoom }) => hasRoom);
      if (connection === undefined) break;
      this.#waiting.delete(call);
      call.begin(connection);
    }
    if (this.#connections.size > 1 && this.#waiting.size === 0) this.#closeSurplus();
    const usable = this.#usable();
    const isShort = this.#waiting.size > 0 && usable.length < maxLaneConnections;
    const isPending = this.#cancelPause !== undefined || usable.some((connection) => connection.isPending);
    if (!isPending && (isShort || (this.#keepsConnected && usable.length === 0))) this.#open();
  }

  #usable(): ClientConnection[] {
    return [...this.#connections.keys()].filter(({ isUsable }) => isUsable);
  }

  /** The youngest first. */
  #closeSurplus(): void {
    for (const connection of this.#usable().reverse()) {
      const hasOthers = this.#usable().some((other) => other !== connection && other.hasRoom);
      if (!hasOthers || !connection.isIdle || connection.isPending) continue;
      this.#connections.delete(connection);
      connection.close('no longer needed');
    }
  }

  #open(): void {
    const connection = new ClientConnection((changed) => this.#changed(changed));
    const giveUp = this.#dialer.dial(connection, (port) => connection.connected(port));
    this.#connections.set(connection, giveUp);
  }
}

const closedText = 'the client is closed';
