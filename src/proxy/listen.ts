/**
 * The socket file Holdfast listens on: taking it over from a dead process, who may connect to it, making it once more and
 * removing it again. Knows nothing of what is spoken over its connections, nor when to look at the file (socket-watch.ts).
 */
import { EventEmitter } from 'node:events';
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

interface Ownership {
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * What became of owner and mode:
 * - `kept`: they were as they should be.
 * - `adopted`: they are now.
 * - `owner refused`: the mode is, but this process may not give the file to that owner.
 * - `unknown`: no socket is at `ownerFrom`, or the listening socket file is no longer ours; nothing was changed.
 */
export type Adoption =
  | ({ readonly outcome: 'kept' | 'adopted' | 'owner refused' } & Ownership)
  | { readonly outcome: 'unknown' };

/** Device and inode. */
type FileId = `${number}:${number}`;

/** What is at the path: the file of the listening socket, nothing, or something else and which. */
export type FoundFile = 'ours' | 'gone' | FileId;

interface BoundServer {
  readonly server: Server;
  /** Its number is ours alone while the socket is open: the kernel keeps the inode of a bound socket. Undefined: it is gone. */
  file: FileId | undefined;
}

const modeUntilKnown = 0o660;

/**
 * How many connections may wait to be accepted, where the kernel does not allow fewer (net.core.somaxconn). Who finds no place is
 * refused at once, and a gRPC client then waits longer and longer between its tries.
 */
export const backlog = 4096;

/**
 * Listens at one path, on one socket file after the other. 'error' is what went wrong after it had begun to listen
 * (accept(2) out of descriptors); it does not end the process, and whoever wants to log it adds a listener.
 */
export class SocketListener extends EventEmitter<{ connection: [Socket]; error: [Error] }> {
  readonly path: string;
  readonly #options: ListenOptions;
  #bound: BoundServer | undefined;
  /** As the runtime's socket was seen last. */
  #wanted: Ownership | undefined;
  /** An owner the system has not let this process give the file to. */
  #refused: Ownership | undefined;
  #closed = false;

  /** Does not listen yet; see `listenOn`. */
  constructor(path: string, options: ListenOptions) {
    super();
    this.path = path;
    this.#options = options;
    this.on('error', () => {});
    if (options.onConnection !== undefined) this.on('connection', options.onConnection);
  }

  /** @throws What the system says where it does not let this process look. */
  find(): FoundFile {
    const found = fileAt(this.path);
    if (found === undefined) return 'gone';
    return this.#isOurs(found) ? 'ours' : found;
  }

  /**
   * Listens on a new file at the path, under the conditions of `listenOn`. The socket that listened until now is closed,
   * the connections that came over it stay. Does nothing once `close` has been called.
   *
   * @throws {ListenError} Where something is in the way or the directory is missing, what listened until now still does,
   *   for what it is worth; else nothing listens.
   */
  async listen(): Promise<void> {
    makeDirectory(this.path);
    await removeStale(this.path);
    if (this.#closed) return;
    this.#release();
    try {
      await this.#bind();
    } catch (error) {
      this.#release();
      throw notPossible(this.path, error);
    }
  }

  /** Gives the socket file owner and mode of the runtime's socket. Each runtime that starts makes a socket of its own. */
  adoptMode(): Adoption {
    try {
      const runtime = statSync(this.#options.ownerFrom);
      if (!runtime.isSocket()) return { outcome: 'unknown' };
      const { uid, gid } = runtime;
      this.#wanted = { mode: this.#options.mode ?? runtime.mode & 0o777, uid, gid };
      return this.#give(this.#wanted);
    } catch {
      return { outcome: 'unknown' };
    }
  }

  /** Stops accepting and removes the socket file, unless another one has taken its place. Open connections stay. */
  close(): void {
    this.#closed = true;
    this.#release();
  }

  /** Owner and mode of a file change one after the other; at no moment is it open to more than before or afterwards. */
  #give(wanted: Ownership): Adoption {
    const own = lstatSync(this.path);
    if (!this.#isOurs(fileOf(own))) return { outcome: 'unknown' };
    const { mode } = wanted;
    const isOwner = sameOwner(own, wanted);
    // What was refused once is not tried each time: nobody else could connect meanwhile.
    const isRefused = !isOwner && this.#refused !== undefined && sameOwner(this.#refused, wanted);
    const isKept = (own.mode & 0o777) === mode;
    if (isKept && isOwner) return { outcome: 'kept', ...wanted };
    if (isKept && isRefused) return { outcome: 'owner refused', ...wanted };
    // Closed to others in between: the new group is not let in by the old mode, nor the old group by the new one.
    if (!isOwner && !isRefused) {
      chmodSync(this.path, 0o600);
      this.#refused = refusedOwner(this.path, wanted);
    }
    chmodSync(this.path, mode);
    return { outcome: isOwner || this.#refused === undefined ? 'adopted' : 'owner refused', ...wanted };
  }

  /**
   * Binds to the path itself rather than to a temporary name renamed into place: tools such as ss and lsof show the name
   * that was bound. Node binds within listen(), so the umask makes the file 0600 from its first moment, and nobody closes
   * the socket before it is known: 'listening', which comes a turn later, never comes where it is closed by then.
   */
  async #bind(): Promise<void> {
    const server = new Server({ allowHalfOpen: true }, (socket) => this.emit('connection', socket));
    const umask = process.umask(0o177);
    try {
      server.listen({ path: this.path, backlog });
    } finally {
      process.umask(umask);
    }
    if (!server.listening) throw await new Promise((failed) => server.once('error', failed));
    this.#bound = { server, file: undefined };
    this.#bound.file = fileAt(this.path);
    server.on('error', (error) => this.emit('error', error));
    if (this.adoptMode().outcome !== 'unknown') return;
    const { uid, gid } = lstatSync(this.path);
    this.#give(this.#wanted ?? { mode: this.#options.mode ?? modeUntilKnown, uid, gid });
  }

  #release(): void {
    const bound = this.#bound;
    if (bound === undefined) return;
    this.#bound = undefined;
    // libuv unlinks the path it was bound to without looking what is there (uv_close of a pipe), so that has to be away.
    const putBack = setAside(this.path, bound.file);
    bound.server.close();
    putBack();
  }

  #isOurs(file: FileId): boolean {
    return file === this.#bound?.file;
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
export async function listenOn(path: string, options: ListenOptions): Promise<SocketListener> {
  const bytes = Buffer.byteLength(path);
  if (bytes > maxSocketPathBytes) {
    throw new ListenError(
      'path too long',
      `cannot listen on ${path}: the path is ${bytes} bytes long, a unix socket's has at most ${maxSocketPathBytes}`,
    );
  }
  const listener = new SocketListener(path, options);
  await listener.listen();
  return listener;
}

/**
 * Renames what is at a path, unless it is the file `own` or cannot be renamed (what cannot be renamed cannot be unlinked).
 *
 * @returns Renames it back.
 */
function setAside(path: string, own: FileId | undefined): () => void {
  const aside = `${path}.${process.pid}`;
  try {
    if (fileAt(path) === own) return () => {};
    renameSync(path, aside);
  } catch {
    return () => {};
  }
  return () => renameSync(aside, path);
}

/**
 * Makes the directory of a file, and those above it. One by one, since `recursive` never returns, in Node 20 to 24, where the
 * kernel says ENOENT for a directory in one that is there, as procfs does.
 */
export function makeDirectory(path: string): void {
  const directory = dirname(path);
  try {
    const missing: string[] = [];
    for (let above = directory; !isDirectory(above); above = dirname(above)) missing.unshift(above);
    for (const next of missing) mkdirUnlessThere(next);
  } catch (error) {
    throw new ListenError('no directory', `cannot make the directory ${directory} to listen in: ${text(error)}`, {
      cause: error,
    });
  }
}

/** @throws Where something else is there. */
function isDirectory(path: string): boolean {
  const found = unlessMissing(() => statSync(path));
  if (found === undefined || found.isDirectory()) return found !== undefined;
  throw new Error(`${path} is there and not a directory`);
}

function mkdirUnlessThere(path: string): void {
  try {
    mkdirSync(path, { mode: 0o755 });
  } catch (error) {
    // Somebody else may have made it just now.
    if (!isDirectory(path)) throw error;
  }
}

/** @throws {ListenError} Something else is there, or somebody answers. */
export async function removeStale(path: string): Promise<void> {
  let found: Stats | undefined;
  try {
    found = unlessMissing(() => lstatSync(path));
  } catch (error) {
    throw notPossible(path, error);
  }
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new ListenError('not a socket', `cannot listen on ${path}: it is there and not a socket; it was left alone`);
  }
  if (await isAnswered(path)) throw inUse(path);
  try {
    if (fileAt(path) === fileOf(found)) unlinkSync(path);
  } catch (error) {
    throw notPossible(path, error);
  }
}

/** Whether somebody accepts connections at the path of a socket. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      // A full backlog, and a socket of another type: both have somebody behind them. Source: unix(7), connect(2).
      else if (error.code === 'EAGAIN' || error.code === 'EPROTOTYPE') resolve(true);
      else reject(notPossible(path, error));
    });
  });
}

/** Gives a file away. @returns The owner, where the system does not let this process do that. */
function refusedOwner(path: string, owner: Ownership): Ownership | undefined {
  try {
    chownSync(path, owner.uid, owner.gid);
    return undefined;
  } catch {
    return owner;
  }
}

function fileAt(path: string): FileId | undefined {
  const found = unlessMissing(() => lstatSync(path));
  return found && fileOf(found);
}

/** `throwIfNoEntry` of Node does throw where a directory of the path is something else. */
function unlessMissing<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

function fileOf({ dev, ino }: Stats): FileId {
  return `${dev}:${ino}`;
}

function sameOwner(a: Omit<Ownership, 'mode'>, b: Omit<Ownership, 'mode'>): boolean {
  return a.uid === b.uid && a.gid === b.gid;
}

function inUse(path: string): ListenError {
  return new ListenError('in use', `cannot listen on ${path}: another process is listening there`);
}

function notPossible(path: string, error: unknown): ListenError {
  if (errorCode(error) === 'EADDRINUSE') return inUse(path);
  return new ListenError('not possible', `cannot listen on ${path}: ${text(error)}`, { cause: error });
}

function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
