/**
 * The listening socket that a service manager has opened and passed on (socket activation, sd_listen_fds(3)): which it is, and
 * listening on it. It outlives this process, and so do the connections that wait in it. Its file is the manager's: it is not made,
 * looked at, given away or removed here. Knows nothing of what is spoken over its connections.
 */
import { EventEmitter } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { Server, type Socket } from 'node:net';
import { ConfigError } from '../config/config-error.js';
import { backlog } from './listen.js';

/** The first descriptor passed. Source: SD_LISTEN_FDS_START in sd-daemon.h. */
const firstDescriptor = 3;
/** The name it has to have where more than one is passed: that of the unit, which is the default, or FileDescriptorName=. */
const names = ['holdfast.socket', 'holdfast'];

export interface PassedSocket {
  readonly descriptor: number;
  /** What it is bound to; undefined where the kernel does not show it, as in another network namespace than the manager's. */
  readonly path: string | undefined;
}

/** A line of /proc/net/unix. Source: unix_seq_show in net/unix/af_unix.c. */
interface SocketEntry {
  readonly isListening: boolean;
  readonly isStream: boolean;
  readonly path: string;
}

const listeningFlag = 0x10000;
const streamType = 1;

/**
 * Takes the variables out of the environment, so that no child believes they were meant for it.
 *
 * @param env LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (names with colons between them).
 * @param pid Of this process.
 * @returns undefined where nothing was passed.
 * @throws {ConfigError} Something was passed that cannot be used.
 */
export function takePassedSocket(env: Record<string, string | undefined>, pid: number): PassedSocket | undefined {
  const { LISTEN_PID: forPid, LISTEN_FDS: count, LISTEN_FDNAMES: given } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete env[name];
  if (count === undefined) return undefined;
  if (forPid !== String(pid)) {
    throw unusable(
      `LISTEN_PID is ${forPid ?? 'missing'}, this process is ${pid}: ` +
        'what starts it has to exec it, or to unset LISTEN_PID and LISTEN_FDS',
    );
  }
  if (!/^[1-9]\d{0,4}$/.test(count)) throw unusable(`LISTEN_FDS is ${count}, not how many sockets were passed`);
  const descriptor = firstDescriptor + chosen(Number(count), given);
  return { descriptor, path: pathOf(descriptor) };
}

/** @returns Which of `count` it is, from 0. */
function chosen(count: number, given = ''): number {
  if (count === 1) return 0;
  const all = given.split(':').slice(0, count);
  const fitting = [...all.keys()].filter((n) => names.includes(all[n] ?? ''));
  const [only] = fitting;
  if (only !== undefined && fitting.length === 1) return only;
  throw unusable(`${count} were passed (${given}), and not just one of them is named ${names.join(' or ')}`);
}

function pathOf(descriptor: number): string | undefined {
  const link = linkOf(descriptor);
  const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
  if (inode === undefined) throw unusable(`descriptor ${descriptor} is no socket but ${link}`);
  const entry = entryOf(inode);
  if (entry === undefined) return undefined;
  const { path, isStream, isListening } = entry;
  if (!isStream || !isListening) {
    throw unusable(`descriptor ${descriptor} (${path}) is not a listening stream socket (ListenStream=, Accept=no)`);
  }
  if (!path.startsWith('/')) throw unusable(`it is bound to ${path || 'nothing'}, not to an absolute path`);
  return path;
}

function linkOf(descriptor: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    throw unusable(`descriptor ${descriptor} is not open`);
  }
}

function entryOf(inode: string): SocketEntry | undefined {
  // Num: RefCount Protocol Flags Type St Inode Path
  const entry = new RegExp(`^\\S+ \\S+ \\S+ (\\S+) (\\S+) \\S+ +${inode}(?: (.*))?$`, 'm');
  const found = entry.exec(readFileSync('/proc/net/unix', 'utf8'));
  if (found === null) return undefined;
  const [, flags = '', type = '', path = ''] = found;
  return {
    isListening: (Number.parseInt(flags, 16) & listeningFlag) !== 0,
    isStream: Number.parseInt(type, 16) === streamType,
    path,
  };
}

/** 'error' as in listen.ts: what went wrong after it had begun to listen. */
export class PassedListener extends EventEmitter<{ error: [Error] }> {
  readonly #server: Server;

  constructor(server: Server) {
    super();
    this.#server = server;
    this.on('error', () => {});
    server.on('error', (error) => this.emit('error', error));
  }

  /** Stops accepting. Who connects from now on waits for the next process; open connections stay. */
  close(): void {
    this.#server.close();
  }
}

/**
 * Accepts what connects, from what had been waiting on.
 *
 * @param onConnection Gets every connection, half open.
 * @throws {ConfigError} It is no unix socket, or the system refuses.
 */
export async function listenOnPassed(
  { descriptor }: PassedSocket,
  onConnection: (socket: Socket) => void,
): Promise<PassedListener> {
  const server = new Server({ allowHalfOpen: true }, onConnection);
  // With a descriptor Node heeds the backlog only where it stands beside the options.
  server.listen({ fd: descriptor }, backlog);
  if (!server.listening) {
    const error = await new Promise<Error>((failed) => server.once('error', failed));
    throw unusable(error.message);
  }
  const address = server.address();
  if (address !== null) {
    server.close();
    throw unusable(`descriptor ${descriptor} is not a unix socket but ${JSON.stringify(address)}`);
  }
  return new PassedListener(server);
}

function unusable(why: string): ConfigError {
  return new ConfigError(`cannot use the socket that was passed: ${why}`);
}
