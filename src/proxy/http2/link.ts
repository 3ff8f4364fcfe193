/**
 * One downstream connection on its sockets: finds out whether HTTP/2 is spoken, and carries bytes between the two sockets and the
 * router (or, for anything else, between the two sockets) with back-pressure; what is said before the runtime is there waits for it.
 * It knows no frames.
 */
import type net from 'node:net';
import type { Clock } from '../../clock.js';
import type { Budgets } from './budgets.js';
import type { Dialer } from './dialer.js';
import { connectionPreface } from './frames.js';
import { defaultLimits, type Limits } from './limits.js';
import { Port } from './port.js';
import { nextUse, Router, type RouterHandlers, type RouterOutput } from './router.js';
import type { StreamLoad } from './stream-table.js';

export type { RouterHandlers } from './router.js';

export interface Link {
  /** Resolves when both sockets are closed. */
  readonly closed: Promise<void>;
  /** Open streams, taken ones included; 0 where the connection is not HTTP/2. */
  readonly activeStreams: number;
  /** The lowest is of the link that was not used for longest, to open a stream or to be opened itself. */
  readonly lastUse: number;
  /** When a call was last answered, in ms of the clock; undefined: none was. */
  readonly lastAnswerMs: number | undefined;
  /** A peer has taken nothing for `Limits.stallMs`, though something waits for it; or the client has said its last. */
  readonly isStalled: boolean;
  /** @param isStreaming Whether calls of this path may stay open for ever. */
  load(isStreaming: (path: string) => boolean): StreamLoad;
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
  /** To the runtime's socket. */
  readonly dialer: Dialer;
  readonly handlers: RouterHandlers;
  readonly clock: Clock;
  readonly limits?: Partial<Limits>;
  /** Shared by all links. */
  readonly budgets?: Budgets;
}

/** @param downstream A connection just accepted, which nobody has read from. Owned by the link from now on. */
export function openLink(downstream: net.Socket, options: LinkOptions): Link {
  return new SocketLink(downstream, options);
}

class SocketLink implements Link, RouterOutput {
  readonly closed: Promise<void>;
  readonly #downstream: Port;
  readonly #options: LinkOptions;
  readonly #limits: Limits;
  /** Once connected. */
  #upstream: Port | undefined;
  readonly #cancelDial: () => void;
  /** What the downstream has said and not shown by it what it speaks. */
  #unread: Buffer[] = [];
  /** What the runtime has said before the downstream has shown it. */
  #unreadUpstream: Buffer[] = [];
  /** What is for the runtime and waits until it is there. */
  #early: Buffer[] = [];
  #downstreamEnded = false;
  #router: Router | undefined;
  readonly #opened = nextUse();
  #cancelTimer = (): void => {};
  /** Runs while something waits for a peer. */
  #cancelStallTimer: (() => void) | undefined;
  #stalled = false;
  /** `waiting` for the first bytes; then `routing` or `spliced`; then `closing`. */
  #state: 'waiting' | 'routing' | 'spliced' | 'closing' = 'waiting';
  /** While streams are still served, or frames of it are held back. */
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
    this.#cancelDial = options.dialer.dial(
      {
        received: (bytes) => this.#fromUpstream(bytes),
        drained: () => this.#regulate(),
        ended: () => this.#ended('upstream'),
        closed: () => this.#upstreamClosed(),
      },
      (port) => this.#connected(port),
    );
  }

  get activeStreams(): number {
    return this.#router?.activeStreams ?? 0;
  }

  get lastUse(): number {
    return this.#router?.lastUse ?? this.#opened;
  }

  get lastAnswerMs(): number | undefined {
    return this.#router?.lastAnswerMs;
  }

  get isStalled(): boolean {
    return this.#stalled || this.#downstreamEnded;
  }

  load(isStreaming: (path: string) => boolean): StreamLoad {
    return this.#router?.load(isStreaming) ?? 'none';
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

  #connected(port: Port): void {
    this.#upstream = port;
    port.write(this.#early);
    this.#early = [];
    if (this.#downstreamEnded) port.end();
    // Of the runtime nothing was known.
    this.#stopWatching();
    this.#regulate();
  }

  #upstreamClosed(): void {
    // One that is reset is closed without having ended.
    if (!this.#upstreamEnded) this.#ended('upstream');
    this.#closed();
  }

  #closed(): void {
    if (this.#upstreamEnded && !this.#downstream.isClosed) return;
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
        this.#writeUpstream([bytes]);
        this.#regulate();
        break;
      case 'waiting':
        // Copied: the bytes are about to be overwritten.
        this.#unread.push(Buffer.from(bytes));
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
        // A runtime may send its SETTINGS first. Copied: the bytes are about to be overwritten.
        this.#unreadUpstream.push(Buffer.from(bytes));
        if (this.#upstream !== undefined) {
          this.#upstream.reading = bytesIn(this.#unreadUpstream) < this.#limits.earlyBytes;
        }
    }
  }

  /** Looks for the preface. */
  #decide(): void {
    const received = Buffer.concat(this.#unread);
    const expected = connectionPreface.subarray(0, received.length);
    if (!received.subarray(0, expected.length).equals(expected)) this.#splice();
    else if (received.length >= connectionPreface.length) this.#route(received.subarray(connectionPreface.length));
  }

  #splice(): void {
    this.#state = 'spliced';
    this.#writeUpstream(this.#unread);
    this.#downstream.write(this.#unreadUpstream);
    this.#unread = [];
    this.#unreadUpstream = [];
    this.#regulate();
  }

  #route(received: Buffer): void {
    this.#state = 'routing';
    this.#unread = [];
    const { handlers, clock, budgets, dialer } = this.#options;
    const router = new Router({ handlers, clock, budgets, limits: this.#limits, output: this });
    this.#router = router;
    this.toUpstream(connectionPreface);
    // A runtime that has begun to listen, or is frozen, takes connections and says nothing.
    if (!dialer.isPresent) router.greet();
    else this.#cancelTimer = clock.after(this.#limits.settingsWaitMs, () => router.greet());
    router.fromDownstream(received);
    for (const chunk of this.#unreadUpstream) router.fromUpstream(chunk);
    this.#unreadUpstream = [];
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
      this.#writeUpstream(this.#toUpstream);
      this.#toUpstream = [];
    }
    this.#regulate();
  }

  /** While the runtime is not there it waits. */
  #writeUpstream(chunks: readonly Buffer[]): void {
    if (this.#upstream !== undefined) this.#upstream.write(chunks);
    // Copied: they may be part of what was just read.
    else for (const chunk of chunks) this.#early.push(Buffer.from(chunk));
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
    if (this.#state === 'waiting') return;
    const upstream = this.#upstream;
    const downstreamBytes = this.#downstream.unwrittenBytes;
    const upstreamBytes = this.#upstreamEnded ? 0 : (upstream?.unwrittenBytes ?? 0);
    const { earlyBytes, heldBytes: maxHeldBytes, unreadOutputBytes } = this.#limits;
    this.#router?.unwritten(downstreamBytes);
    // What Holdfast says itself is written at once, so a peer that does not read it must not go on giving cause for it.
    const mayHear = downstreamBytes <= unreadOutputBytes;
    if (upstream === undefined) {
      this.#downstream.reading = mayHear && bytesIn(this.#early) < earlyBytes;
      if (downstreamBytes > 0 || (this.#router?.heldBytes ?? 0) > 0) this.#watchStall(undefined);
      else this.#stopWatching();
      return;
    }
    const heldBytes = this.#router?.responses.held.bytes ?? 0;
    if (this.#upstreamEnded && this.#router?.isServing !== true) this.#shut();
    upstream.reading = downstreamBytes === 0 && heldBytes <= maxHeldBytes && upstreamBytes <= unreadOutputBytes;
    this.#downstream.reading = upstreamBytes === 0 && mayHear;
    if (downstreamBytes > 0 || upstreamBytes > 0 || (this.#router?.heldBytes ?? 0) > 0) this.#watchStall(upstream);
    else this.#stopWatching();
  }

  /** Tells if neither peer takes anything for a while though something waits for one of them. */
  #watchStall(upstream: Port | undefined): void {
    if (this.#cancelStallTimer !== undefined || this.#state === 'closing') return;
    const { handlers, clock } = this.#options;
    const taken = [this.#downstream.takenBytes, upstream?.takenBytes] as const;
    this.#cancelStallTimer = clock.after(this.#limits.stallMs, () => {
      const heldBytes = this.#router?.heldBytes ?? 0;
      const isUpstream = (upstream?.unwrittenBytes ?? 0) > 0 && upstream?.takenBytes === taken[1];
      if (isUpstream || this.#downstream.takenBytes === taken[0]) {
        const { unwrittenBytes } = upstream !== undefined && isUpstream ? upstream : this.#downstream;
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
    const router = this.#router;
    if (side === 'downstream' && this.#mayAwaitAnswer) {
      this.#downstreamEnded = true;
      if (this.#state === 'waiting') this.#splice();
      this.#upstream?.end();
    } else if (this.#state === 'spliced') {
      this.#downstream.end();
    } else if (side === 'upstream' && router?.runtimeEnded() === true) {
      this.#upstreamEnded = true;
      this.#upstream?.end();
      // What only waits for the client's windows is worth a moment; what is still being done takes as long as it takes.
      if (!router.isOrphaned) {
        this.#cancelTimer();
        this.#cancelTimer = this.#options.clock.after(this.#limits.lingerMs, () => this.#shut());
      }
      this.#regulate();
    } else {
      this.#shut();
    }
  }

  /** A client that is not known to speak HTTP/2, says no more, and has said something. */
  get #mayAwaitAnswer(): boolean {
    return this.#state === 'spliced' || (this.#state === 'waiting' && this.#unread.length > 0);
  }

  /** Lets both sockets end with what was written, and not wait for long. */
  #shut(): void {
    if (this.#state === 'closing') return;
    this.#state = 'closing';
    this.#cancelTimer();
    this.#cancelDial();
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
