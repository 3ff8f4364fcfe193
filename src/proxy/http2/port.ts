/**
 * One socket, read into one buffer that is used again and again, and written so that whoever reads from the other side
 * can tell when to wait. It knows nothing of what is said over it.
 */
import net from 'node:net';

export interface PortEvents {
  /** @param bytes Only valid until this returns: the next read overwrites them, unless `Port.reading` is set to false. */
  received(bytes: Buffer): void;
  /** Everything written has gone out, where it did not at once. */
  drained(): void;
  /** The peer will say no more. */
  ended(): void;
  /** @param error What ended it, where the system said so. */
  closed(error: NodeJS.ErrnoException | undefined): void;
}

/** As much as a unix socket's queue holds by default takes a few reads; more at once costs more in caches than in calls. */
const readBufferBytes = 64 * 1024;

/** Up to here it is quicker to copy several pieces into one than to give the system each. */
const maxJoinedBytes = 4096;

const nothing = Buffer.alloc(0);

/**
 * A socket read the usual way allocates 64 KiB for each read. Into a buffer of its own (`onread` of node:net) a small call that is
 * carried from socket to socket and back, its frames unread, took 21 instead of 26 µs of CPU time.
 */
export class Port {
  readonly #socket: net.Socket;
  readonly #events: PortEvents;
  #reading = true;
  #writtenBytes = 0;
  #awaitsDrain = false;

  private constructor(events: PortEvents, open: (onread: net.OnReadOpts) => net.Socket) {
    this.#events = events;
    const callback = (length: number, buffer: Uint8Array): boolean => {
      events.received(buffer.subarray(0, length) as Buffer);
      return true;
    };
    const socket = open({ buffer: Buffer.allocUnsafeSlow(readBufferBytes), callback });
    this.#socket = socket;
    let cause: NodeJS.ErrnoException | undefined;
    // 'close' follows.
    socket.on('error', (error) => {
      cause = error;
    });
    socket.on('end', () => events.ended());
    socket.on('close', () => events.closed(cause));
  }

  /** @param socket Just accepted: its 'connection' event has not returned. It is not to be used any more. */
  static accepted(socket: net.Socket, events: PortEvents): Port {
    return new Port(events, (onread) => rewrap(socket, onread) ?? listened(socket, events));
  }

  /** @param connected Called before anything is received; `closed` is called whether or not it came to that. */
  static connect(path: string, events: PortEvents, connected: () => void): Port {
    return new Port(events, (onread) => net.connect({ path, allowHalfOpen: true, onread }, connected));
  }

  get isClosed(): boolean {
    return this.#socket.closed;
  }

  /** Bytes written that the system has not taken yet. */
  get unwrittenBytes(): number {
    return this.#socket.writableLength;
  }

  /** Bytes that the system has taken so far. */
  get takenBytes(): number {
    return this.#writtenBytes - this.#socket.writableLength;
  }

  /** Whether it is read. What was received before it is set to false stays valid until it is true again. */
  get reading(): boolean {
    return this.#reading;
  }

  set reading(reading: boolean) {
    if (reading === this.#reading) return;
    this.#reading = reading;
    if (reading) this.#socket.resume();
    else this.#socket.pause();
  }

  /** Writes in order; the bytes are to be left alone until `unwrittenBytes` is 0 (`drained` is called). */
  write(chunks: readonly Buffer[]): void {
    const socket = this.#socket;
    const [first] = chunks;
    if (first === undefined || !socket.writable) return;
    const bytes = chunks.reduce((sum, { length }) => sum + length, 0);
    this.#writtenBytes += bytes;
    if (chunks.length === 1) {
      socket.write(first);
    } else if (bytes <= maxJoinedBytes) {
      socket.write(Buffer.concat(chunks, bytes));
    } else {
      socket.cork();
      for (const chunk of chunks) socket.write(chunk);
      socket.uncork();
    }
    if (socket.writableLength > 0) this.#awaitDrain();
  }

  #awaitDrain(): void {
    if (this.#awaitsDrain) return;
    this.#awaitsDrain = true;
    // 'drain' is not emitted for less than the high-water mark.
    this.#socket.write(nothing, () => {
      this.#awaitsDrain = false;
      if (this.#socket.writableLength > 0) this.#awaitDrain();
      else this.#events.drained();
    });
  }

  /** Says no more, once everything written has gone. */
  end(): void {
    if (this.#socket.connecting) this.#socket.destroy();
    else this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** What node:net keeps to itself of a socket; the same in Node 20, 22 and 24. */
interface Internals {
  _handle: { useUserBuffer?: unknown } | null;
  _server: unknown;
  server: unknown;
}

/**
 * A server's sockets cannot be told to read into a buffer (nodejs/node: `onread` is an option of Socket and connect only), so
 * the handle of an accepted one is given to a new socket.
 *
 * @returns undefined where node:net is not as it was known when this was written.
 */
function rewrap(accepted: net.Socket, onread: net.OnReadOpts): net.Socket | undefined {
  const internals = accepted as unknown as Internals;
  const handle = internals._handle;
  if (typeof handle?.useUserBuffer !== 'function') return undefined;
  internals._handle = null;
  const socket = new net.Socket({ handle, onread, allowHalfOpen: true } as net.SocketConstructorOpts);
  // The server counts its sockets, and waits for them when it is closed.
  Object.assign(socket, { server: internals.server, _server: internals._server });
  return socket;
}

/** The documented way. */
function listened(socket: net.Socket, events: PortEvents): net.Socket {
  socket.allowHalfOpen = true;
  return socket.on('data', (bytes: Buffer) => events.received(bytes));
}
