/**
 * The socket file Holdfast listens on: taking it over from a dead process, who may connect to it, and removing it again.
 * Knows nothing of what is spoken over its connections.
 */
import { chmodSync, chownSync, lstatSync, mkdirSync, renameSync, type Stats, statSync, unlinkSync } from 'node:fs';
import { connect, Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { maxSocketPathBytes } from '../config/kinds.js';

/**
 * Why a path cannot be listened on:
 * - `path too long`: over 107 bytes, what a `sockaddr_un` can hold.
 * - `no directory`: its directory is missing and could not be made.
 * - `not a socket`: something else is there, which is left alone.
 * - `in use`: somebody answers there.
 * - `not possible`: the system refused, see `cause`.
 */
type ListenRefusal = 'path too long' | 'no directory' | 'not a socket' | 'in use' | 'not possible';

export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly reason: ListenRefusal;

  constructor(reason: ListenRefusal, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

export interface ListenOptions {
  /** Permission bits of the socket file; without them those of `ownerFrom`, and 0660 while that is not there. */
  readonly mode?: number | undefined;
  /** Path of the runtime's socket, whose owner and group the socket file gets. */
  readonly ownerFrom: string;
  /** Gets every connection, from the first; the same as a listener of 'connection'. */
  readonly onConnection?: (socket: Socket) => void;
}

/**
 * What became of owner and mode:
 * - `adopted`: they are as they should be.
 * - `owner refused`: the mode is, but the owner may be changed by root only.
 * - `unknown`: no socket is at `ownerFrom` yet, or the listening socket file is no longer ours; nothing was changed.
 */
type Adoption = 'adopted' | 'owner refused' | 'unknown';

const modeUntilKnown = 0o660;

/**
 * A listening server for the file at one path. An 'error' after it has begun to listen (accept(2) out of descriptors) does
 * not end the process; whoever wants to log it adds a listener.
 */
export class SocketListener extends Server {
  readonly #path: string;
  readonly #options: ListenOptions;
  /** The socket file. Its number is ours alone while the socket is open: the kernel keeps the inode of a bound socket. */
  #inode: string | undefined;

  private constructor(path: string, options: ListenOptions) {
    super({ allowHalfOpen: true }, options.onConnection);
    this.#path = path;
    this.#options = options;
  }

  /** See `listenOn`. */
  static async open(path: string, options: ListenOptions): Promise<SocketListener> {
    const bytes = Buffer.byteLength(path);
    if (bytes > maxSocketPathBytes) {
      throw new ListenError(
        'path too long',
        `cannot listen on ${path}: the path is ${bytes} bytes long, a unix socket's has at most ${maxSocketPathBytes}`,
      );
    }
    makeDirectory(path);
    await removeStale(path);
    const listener = new SocketListener(path, options);
    try {
      await listener.#bind();
      chmodSync(path, options.mode ?? modeUntilKnown);
      listener.adoptMode();
    } catch (error) {
      if (listener.listening) listener.close();
      throw notPossible(path, error);
    }
    listener.on('error', () => {});
    return listener;
  }

  /** Gives the socket file owner and mode of the runtime's socket. To be called again when a runtime has appeared. */
  adoptMode(): Adoption {
    try {
      const runtime = statSync(this.#options.ownerFrom);
      const own = lstatSync(this.#path);
      if (!runtime.isSocket() || inodeOf(own) !== this.#inode) return 'unknown';
      const mode = this.#options.mode ?? runtime.mode & 0o777;
      const isOwner = own.uid === runtime.uid && own.gid === runtime.gid;
      if (isOwner && (own.mode & 0o777) === mode) return 'adopted';
      // Closed to others in between: the new group is not let in by the old mode, nor the old group by the new one.
      if (!isOwner) chmodSync(this.#path, 0o600);
      const owned = isOwner || changeOwner(this.#path, runtime);
      chmodSync(this.#path, mode);
      return owned ? 'adopted' : 'owner refused';
    } catch {
      return 'unknown';
    }
  }

  /**
   * Stops accepting and removes the socket file, unless another one has taken its place. Open connections stay; `callback`
   * is called when the last has ended.
   */
  override close(callback?: (error?: Error) => void): this {
    const own = this.#inode;
    this.#inode = undefined;
    const found = own === undefined ? undefined : inodeAt(this.#path);
    if (found === undefined || found === own) return super.close(callback);
    // libuv unlinks the path it was bound to without looking what is there (uv_close of a pipe), so that has to be away.
    const aside = `${this.#path}.${process.pid}`;
    renameSync(this.#path, aside);
    try {
      return super.close(callback);
    } finally {
      renameSync(aside, this.#path);
    }
  }

  /**
   * Binds to the path itself rather than to a temporary name renamed into place: tools such as ss and lsof show the name
   * that was bound. Node binds within listen(), so the umask makes the file 0600 from its first moment.
   */
  async #bind(): Promise<void> {
    const bound = new Promise<void>((resolve, reject) => {
      this.once('error', reject);
      this.once('listening', () => {
        this.off('error', reject);
        resolve();
      });
    });
    const umask = process.umask(0o177);
    try {
      this.listen(this.#path);
    } finally {
      process.umask(umask);
    }
    this.#inode = inodeAt(this.#path);
    await bound;
  }
}

/**
 * Listens on a unix socket. A missing directory is made (0755), the file of a socket nobody answers on is replaced.
 *
 * Two processes that start within the same moment on one stale file can both see it as stale; the first one then listens
 * on a file that is gone. bind(2) decides where there was no file.
 *
 * @param path Absolute.
 * @throws {ListenError} One of `ListenRefusal`; the message is one line and names the path.
 */
export function listenOn(path: string, options: ListenOptions): Promise<SocketListener> {
  return SocketListener.open(path, options);
}

function makeDirectory(path: string): void {
  const directory = dirname(path);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw new ListenError('no directory', `cannot make the directory ${directory} to listen in: ${text(error)}`, {
      cause: error,
    });
  }
}

async function removeStale(path: string): Promise<void> {
  let found: Stats | undefined;
  try {
    found = lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw notPossible(path, error);
  }
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new ListenError('not a socket', `cannot listen on ${path}: it is there and not a socket; it was left alone`);
  }
  const answer = await probe(path);
  if (answer === 'live') throw inUse(path);
  if (answer === 'gone') return;
  try {
    if (inodeAt(path) === inodeOf(found)) unlinkSync(path);
  } catch (error) {
    throw notPossible(path, error);
  }
}

/** Whether somebody accepts connections at the path of a socket. */
function probe(path: string): Promise<'live' | 'stale' | 'gone'> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve('live');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') resolve('stale');
      else if (error.code === 'ENOENT') resolve('gone');
      // A full backlog, and a socket of another type: both have somebody behind them. Source: unix(7), connect(2).
      else if (error.code === 'EAGAIN' || error.code === 'EPROTOTYPE') resolve('live');
      else reject(notPossible(path, error));
    });
  });
}

/** @returns false where the system does not let this process give files away. */
function changeOwner(path: string, owner: Stats): boolean {
  try {
    chownSync(path, owner.uid, owner.gid);
    return true;
  } catch {
    return false;
  }
}

function inodeAt(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found === undefined ? undefined : inodeOf(found);
}

function inodeOf({ dev, ino }: Stats): string {
  return `${dev}:${ino}`;
}

function inUse(path: string): ListenError {
  return new ListenError('in use', `cannot listen on ${path}: another process is listening there`);
}

function notPossible(path: string, error: unknown): ListenError {
  if (error instanceof ListenError) return error;
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') return inUse(path);
  return new ListenError('not possible', `cannot listen on ${path}: ${text(error)}`, { cause: error });
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
