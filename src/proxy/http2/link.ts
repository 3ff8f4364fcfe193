/**
 * One downstream connection on its sockets: waits for the runtime, finds out whether HTTP/2 is spoken, and carries
 * bytes between the two sockets and the router (or, for anything else, between the two sockets) with back-pressure. It
 * knows no frames.
 */
import net from 'node:net';
import type { Clock } from '../../clock.js';
import { connectionPreface } from './frames.js';
import { defaultLimits, type Limits } from './limits.js';
import { Router, type RouterHandlers, type RouterOutput } from './router.js';

export type { RouterHandlers } from './router.js';

export interface Link {
  /** Resolves when both sockets are closed. */
  readonly closed: Promise<void>;
  /** Open streams, taken ones included; 0 where the connection is not HTTP/2. */
  readonly activeStreams: number;
  /**
   * Sends GOAWAY (NO_ERROR, last stream seen) and takes no new stream.
   *
   * @param isStreaming Whether calls of this path may stay open for ever and so do not count.
   * @returns Resolves when no other call is left and what was written has reached the socket; at once where the
   * connection is not HTTP/2.
   */
  drain(isStreaming: (path: string) => boolean): Promise<void>;
  /** Closes both sockets now. */
  destroy(): void;
}

export interface LinkOptions {
  /** The runtime's unix socket. */
  readonly runtimePath: string;
  readonly handlers: RouterHandlers;
  readonly clock: Clock;
  readonly limits?: Partial<Limits>;
}

/**
 * The runtime is looked for this often while it is not there: rule "reconnects within a second", with room to spare.
 */
const firstRetryMs = 100;
const lastRetryMs = 500;

/** @param downstream A connection just accepted, which nobody has read from. Owned by the link from now on. */
export function openLink(downstream: net.Socket, options: LinkOptions): Link {
  return new SocketLink(downstream, options);
}

/** What a socket says before anybody wants to hear it, up to a bound; being read, it also says when it closes. */
class EarlyBytes {
  readonly chunks: Buffer[] = [];
  readonly #socket: net.Socket;
  readonly #take: (chunk: Buffer) => void;

  constructor(socket: net.Socket, maxBytes: number, changed: () => void) {
    this.#socket = socket;
    let bytes = 0;
    this.#take = (chunk) => {
      this.chunks.push(chunk);
      bytes += chunk.length;
      if (bytes >= maxBytes) socket.pause();
      changed();
    };
    socket.on('data', this.#take);
  }

  /** Hands the socket over, paused. */
  release(): void {
    this.#socket.off('data', this.#take);
    this.#socket.pause();
  }
}

class SocketLink implements Link, RouterOutput {
  readonly closed: Promise<void>;
  readonly #downstream: net.Socket;
  readonly #options: LinkOptions;
  readonly #limits: Limits;
  readonly #earlyDownstream: EarlyBytes;
  #upstream: net.Socket | undefined;
  #earlyUpstream: EarlyBytes | undefined;
  #router: Router | undefined;
  #cancelTimer = (): void => {};
  /** `waiting` for the runtime or for the first bytes; then `routing` or `spliced`; then `closing`. */
  #state: 'waiting' | 'routing' | 'spliced' | 'closing' = 'waiting';
  /** While frames of it are still held back. */
  #upstreamEnded = false;
  #toDownstream: Buffer[] = [];
  #toUpstream: Buffer[] = [];
  #closedResolve = (): void => {};

  constructor(downstream: net.Socket, options: LinkOptions) {
    this.#downstream = downstream;
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.closed = new Promise((resolve) => {
      this.#closedResolve = resolve;
    });
    downstream.allowHalfOpen = true;
    this.#watch(downstream);
    this.#earlyDownstream = new EarlyBytes(downstream, this.#limits.earlyBytes, () => this.#decide());
    this.#connect(firstRetryMs);
  }

  get activeStreams(): number {
    return this.#router?.activeStreams ?? 0;
  }

  drain(isStreaming: (path: string) => boolean): Promise<void> {
    return new Promise((resolve) => {
      if (this.#router === undefined || this.#state !== 'routing') {
        resolve();
        return;
      }
      void this.closed.then(resolve);
      // Called back once what was written before has gone.
      this.#router.drain(isStreaming, () => this.#downstream.write('', () => resolve()));
    });
  }

  destroy(): void {
    this.#shut();
    this.#downstream.destroy();
    this.#upstream?.destroy();
  }

  #connect(retryMs: number): void {
    const upstream = net.connect({ path: this.#options.runtimePath, allowHalfOpen: true });
    this.#upstream = upstream;
    const retry = (): void => {
      if (this.#state !== 'waiting') {
        this.#checkClosed();
        return;
      }
      const next = Math.min(lastRetryMs, retryMs * 2);
      this.#cancelTimer = this.#options.clock.after(retryMs, () => this.#connect(next));
    };
    upstream.on('error', () => {});
    upstream.once('close', retry);
    upstream.once('connect', () => {
      upstream.off('close', retry);
      this.#watch(upstream);
      this.#earlyUpstream = new EarlyBytes(upstream, this.#limits.earlyBytes, () => {});
      this.#decide();
    });
  }

  #watch(socket: net.Socket): void {
    // The cause is of no use to the other side: 'close' follows.
    socket.on('error', () => {});
    socket.on('end', () => this.#ended(socket));
    socket.on('close', () => {
      this.#shut();
      this.#checkClosed();
    });
  }

  #checkClosed(): void {
    if (!this.#downstream.closed || this.#upstream?.closed === false) return;
    this.#cancelTimer();
    this.#closedResolve();
  }

  /** Looks for the preface, as soon as both sides are there. */
  #decide(): void {
    const early = this.#earlyUpstream;
    if (this.#state !== 'waiting' || early === undefined || this.#upstream === undefined) return;
    const received = Buffer.concat(this.#earlyDownstream.chunks);
    const expected = connectionPreface.subarray(0, received.length);
    const differs = !received.subarray(0, expected.length).equals(expected);
    if (!differs && received.length < connectionPreface.length) return;
    this.#earlyDownstream.release();
    early.release();
    if (differs) this.#splice(this.#upstream, received, early.chunks);
    else this.#route(this.#upstream, received.subarray(connectionPreface.length), early.chunks);
  }

  #splice(upstream: net.Socket, received: Buffer, early: readonly Buffer[]): void {
    this.#state = 'spliced';
    upstream.write(received);
    for (const chunk of early) this.#downstream.write(chunk);
    this.#downstream.pipe(upstream);
    upstream.pipe(this.#downstream);
  }

  #route(upstream: net.Socket, received: Buffer, early: readonly Buffer[]): void {
    this.#state = 'routing';
    const { handlers, clock } = this.#options;
    const router = new Router({ handlers, clock, limits: this.#limits, output: this });
    this.#router = router;
    const downstream = this.#downstream;
    downstream.on('data', (chunk: Buffer) => router.fromDownstream(chunk));
    upstream.on('data', (chunk: Buffer) => router.fromUpstream(chunk));
    downstream.on('drain', () => router.resume());
    upstream.on('drain', () => this.#regulate());
    this.toUpstream(connectionPreface);
    router.fromDownstream(received);
    for (const chunk of early) router.fromUpstream(chunk);
    this.#regulate();
  }

  toDownstream(bytes: Buffer): void {
    this.#toDownstream.push(bytes);
  }

  toUpstream(bytes: Buffer): void {
    this.#toUpstream.push(bytes);
  }

  downstreamReady(): boolean {
    return !this.#downstream.writableNeedDrain;
  }

  flush(): void {
    this.#toDownstream = writeAll(this.#downstream, this.#toDownstream);
    if (this.#upstream !== undefined) this.#toUpstream = writeAll(this.#upstream, this.#toUpstream);
    this.#regulate();
  }

  /** Reads from each side as long as the other takes what it says. */
  #regulate(): void {
    const upstream = this.#upstream;
    if (this.#state !== 'routing' || upstream === undefined || this.#router === undefined) return;
    if (this.#upstreamEnded && this.#router.responses.heldBytes === 0) {
      this.#shut();
      return;
    }
    const downstream = this.#downstream;
    const { heldBytes, unreadOutputBytes } = this.#limits;
    setReading(upstream, !downstream.writableNeedDrain && this.#router.responses.heldBytes <= heldBytes);
    // What Holdfast itself answers is written at once, so a client that does not read it must not go on asking.
    setReading(downstream, !upstream.writableNeedDrain && downstream.writableLength <= unreadOutputBytes);
  }

  close(): void {
    this.flush();
    this.#shut();
  }

  #ended(socket: net.Socket): void {
    // A spliced half is ended by its pipe.
    if (this.#state === 'spliced') return;
    if (this.#router !== undefined && socket === this.#upstream && this.#router.responses.heldBytes > 0) {
      // What the runtime has answered still goes out as the client's window allows, if that is soon.
      this.#upstreamEnded = true;
      this.#router.connectionLost();
      this.#cancelTimer = this.#options.clock.after(this.#limits.lingerMs, () => this.#shut());
      return;
    }
    this.#shut();
  }

  /** Lets both sockets end with what was written, and not wait for long. */
  #shut(): void {
    if (this.#state === 'closing') return;
    this.#state = 'closing';
    this.#cancelTimer();
    this.#router?.abandon();
    const { clock } = this.#options;
    for (const socket of [this.#downstream, this.#upstream]) {
      if (socket === undefined) continue;
      if (socket.connecting) socket.destroy();
      else socket.end();
      // What still comes is not wanted, the end of it is.
      socket.resume();
    }
    this.#cancelTimer = clock.after(this.#limits.lingerMs, () => this.destroy());
  }
}

function writeAll(socket: net.Socket, chunks: Buffer[]): Buffer[] {
  const [first] = chunks;
  if (first === undefined) return chunks;
  if (socket.writable) {
    if (chunks.length === 1) {
      socket.write(first);
    } else {
      socket.cork();
      for (const chunk of chunks) socket.write(chunk);
      socket.uncork();
    }
  }
  return [];
}

function setReading(socket: net.Socket, reading: boolean): void {
  if (reading === !socket.isPaused()) return;
  if (reading) socket.resume();
  else socket.pause();
}
