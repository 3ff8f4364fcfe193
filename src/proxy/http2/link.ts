/**
 * One downstream connection on its sockets: waits for the runtime, finds out whether HTTP/2 is spoken, and carries
 * bytes between the two sockets and the router (or, for anything else, between the two sockets) with back-pressure. It
 * knows no frames.
 */
import type net from 'node:net';
import type { Clock } from '../../clock.js';
import { connectionPreface } from './frames.js';
import { type Budgets, defaultLimits, type Limits } from './limits.js';
import { Port, type PortEvents } from './port.js';
import { nextUse, Router, type RouterHandlers, type RouterOutput } from './router.js';

export type { RouterHandlers } from './router.js';

export interface Link {
  /** Resolves when both sockets are closed. */
  readonly closed: Promise<void>;
  /** Open streams, taken ones included; 0 where the connection is not HTTP/2. */
  readonly activeStreams: number;
  /** The lowest is of the link that was not used for longest, to open a stream or to be opened itself. */
  readonly lastUse: number;
  /** A peer has taken nothing for `Limits.stallMs`, though something waits for it. */
  readonly isStalled: boolean;
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
  /** Shared by all links. */
  readonly budgets?: Budgets;
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

class SocketLink implements Link, RouterOutput {
  readonly closed: Promise<void>;
  readonly #downstream: Port;
  readonly #options: LinkOptions;
  readonly #limits: Limits;
  /** Connected, or being connected. */
  #upstream: Port | undefined;
  #connected = false;
  /** What was said before both sides were there and the downstream had shown what it speaks. */
  #earlyDownstream: Buffer[] = [];
  #earlyUpstream: Buffer[] = [];
  #router: Router | undefined;
  readonly #opened = nextUse();
  #cancelTimer = (): void => {};
  /** Runs while something waits for a peer. */
  #cancelStallTimer: (() => void) | undefined;
  #stalled = false;
  /** `waiting` for the runtime or for the first bytes; then `routing` or `spliced`; then `closing`. */
  #state: 'waiting' | 'routing' | 'spliced' | 'closing' = 'waiting';
  /** While frames of it are still held back. */
  #upstreamEnded = false;
  #toDownstream: Buffer[] = [];
  #toUpstream: Buffer[] = [];
  /** Called once what was written downstream has gone. */
  #written: (() => void) | undefined;
  #closedResolve = (): void => {};

  constructor(downstream: net.Socket, options: LinkOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.closed = new Promise((resolve) => {
      this.#closedResolve = resolve;
    });
    this.#downstream = Port.accepted(downstream, {
      received: (bytes) => this.#fromDownstream(bytes),
      drained: () => this.#downstreamDrained(),
      ended: () => this.#ended('downstream'),
      closed: () => this.#closed(),
    });
    this.#connect(firstRetryMs);
  }

  get activeStreams(): number {
    return this.#router?.activeStreams ?? 0;
  }

  get lastUse(): number {
    return this.#router?.lastUse ?? this.#opened;
  }

  get isStalled(): boolean {
    return this.#stalled;
  }

  drain(isStreaming: (path: string) => boolean): Promise<void> {
    return new Promise((resolve) => {
      if (this.#router === undefined || this.#state !== 'routing') {
        resolve();
        return;
      }
      void this.closed.then(resolve);
      this.#router.drain(isStreaming, () => {
        this.#written = resolve;
        if (this.#downstream.unwrittenBytes === 0) this.#downstreamDrained();
      });
    });
  }

  destroy(): void {
    this.#shut();
    this.#downstream.destroy();
    this.#upstream?.destroy();
  }

  #connect(retryMs: number): void {
    const events: PortEvents = {
      received: (bytes) => this.#fromUpstream(bytes),
      drained: () => this.#regulate(),
      ended: () => this.#ended('upstream'),
      closed: () => {
        if (this.#connected || this.#state !== 'waiting') this.#closed();
        else this.#cancelTimer = this.#options.clock.after(retryMs, () => this.#connect(nextMs));
      },
    };
    const nextMs = Math.min(lastRetryMs, retryMs * 2);
    this.#upstream = Port.connect(this.#options.runtimePath, events, () => {
      this.#connected = true;
      this.#decide();
    });
  }

  #closed(): void {
    this.#shut();
    if (!this.#downstream.isClosed || this.#upstream?.isClosed === false) return;
    this.#cancelTimer();
    this.#closedResolve();
  }

  #fromDownstream(bytes: Buffer): void {
    switch (this.#state) {
      case 'routing':
        this.#router?.fromDownstream(bytes);
        break;
      case 'spliced':
        this.#upstream?.write([bytes]);
        this.#regulate();
        break;
      case 'waiting':
        // Copied: the bytes are about to be overwritten.
        this.#earlyDownstream.push(Buffer.from(bytes));
        this.#downstream.reading = bytesIn(this.#earlyDownstream) < this.#limits.earlyBytes;
        this.#decide();
    }
  }

  #fromUpstream(bytes: Buffer): void {
    switch (this.#state) {
      case 'routing':
        this.#router?.fromUpstream(bytes);
        break;
      case 'spliced':
        this.#downstream.write([bytes]);
        this.#regulate();
        break;
      case 'waiting':
        this.#earlyUpstream.push(Buffer.from(bytes));
        if (this.#upstream !== undefined) {
          this.#upstream.reading = bytesIn(this.#earlyUpstream) < this.#limits.earlyBytes;
        }
    }
  }

  /** Looks for the preface, as soon as both sides are there. */
  #decide(): void {
    if (this.#state !== 'waiting' || !this.#connected) return;
    const received = Buffer.concat(this.#earlyDownstream);
    const expected = connectionPreface.subarray(0, received.length);
    const differs = !received.subarray(0, expected.length).equals(expected);
    if (!differs && received.length < connectionPreface.length) return;
    const early = this.#earlyUpstream;
    this.#earlyDownstream = [];
    this.#earlyUpstream = [];
    if (differs) this.#splice(received, early);
    else this.#route(received.subarray(connectionPreface.length), early);
  }

  #splice(received: Buffer, early: readonly Buffer[]): void {
    this.#state = 'spliced';
    this.#upstream?.write([received]);
    this.#downstream.write(early);
    this.#regulate();
  }

  #route(received: Buffer, early: readonly Buffer[]): void {
    this.#state = 'routing';
    const { handlers, clock, budgets } = this.#options;
    const router = new Router({ handlers, clock, budgets, limits: this.#limits, output: this });
    this.#router = router;
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
    return this.#downstream.unwrittenBytes === 0;
  }

  flush(): void {
    if (this.#toDownstream.length > 0) {
      this.#downstream.write(this.#toDownstream);
      this.#toDownstream = [];
    }
    if (this.#toUpstream.length > 0) {
      this.#upstream?.write(this.#toUpstream);
      this.#toUpstream = [];
    }
    this.#regulate();
  }

  #downstreamDrained(): void {
    this.#router?.resume();
    this.#regulate();
    if (this.#downstream.unwrittenBytes > 0) return;
    this.#written?.();
    this.#written = undefined;
  }

  /**
   * Reads from each side as long as the other has taken all that was read from it: what waits to be written is in the very
   * buffer the next read would go into.
   */
  #regulate(): void {
    const upstream = this.#upstream;
    if (upstream === undefined || this.#state === 'waiting') return;
    const downstreamBytes = this.#downstream.unwrittenBytes;
    const upstreamBytes = upstream.unwrittenBytes;
    const heldBytes = this.#router?.responses.heldBytes ?? 0;
    if (this.#upstreamEnded && heldBytes === 0) this.#shut();
    const { heldBytes: maxHeldBytes, unreadOutputBytes } = this.#limits;
    // What Holdfast says itself is written at once, so a peer that does not read it must not go on giving cause for it.
    upstream.reading = downstreamBytes === 0 && heldBytes <= maxHeldBytes && upstreamBytes <= unreadOutputBytes;
    this.#downstream.reading = upstreamBytes === 0 && downstreamBytes <= unreadOutputBytes;
    if (downstreamBytes > 0 || upstreamBytes > 0 || (this.#router?.heldBytes ?? 0) > 0) this.#watchStall(upstream);
    else this.#stopWatching();
  }

  /** Tells if neither peer takes anything for a while though something waits for one of them. */
  #watchStall(upstream: Port): void {
    if (this.#cancelStallTimer !== undefined || this.#state === 'closing') return;
    const { handlers, clock } = this.#options;
    const taken = [this.#downstream.takenBytes, upstream.takenBytes] as const;
    this.#cancelStallTimer = clock.after(this.#limits.stallMs, () => {
      const heldBytes = this.#router?.heldBytes ?? 0;
      const isUpstream = upstream.unwrittenBytes > 0 && upstream.takenBytes === taken[1];
      if (isUpstream || this.#downstream.takenBytes === taken[0]) {
        const { unwrittenBytes } = isUpstream ? upstream : this.#downstream;
        handlers.stalled?.(isUpstream ? 'upstream' : 'downstream', { unwrittenBytes, heldBytes });
        // Said once, until nothing waits any more.
        this.#stalled = true;
        return;
      }
      this.#stopWatching();
      this.#watchStall(upstream);
    });
  }

  #stopWatching(): void {
    this.#cancelStallTimer?.();
    this.#cancelStallTimer = undefined;
    this.#stalled = false;
  }

  close(): void {
    this.flush();
    this.#shut();
  }

  #ended(side: 'downstream' | 'upstream'): void {
    if (this.#state === 'spliced') {
      if (side === 'downstream') this.#upstream?.end();
      else this.#downstream.end();
      return;
    }
    if (this.#router !== undefined && side === 'upstream' && this.#router.responses.heldBytes > 0) {
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
    this.#stopWatching();
    this.#router?.abandon();
    this.#downstream.end();
    this.#upstream?.end();
    // What still comes is not wanted, the end of it is.
    this.#regulate();
    this.#cancelTimer = this.#options.clock.after(this.#limits.lingerMs, () => this.destroy());
  }
}

function bytesIn(chunks: readonly Buffer[]): number {
  return chunks.reduce((total, { length }) => total + length, 0);
}
