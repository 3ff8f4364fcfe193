/**
 * The listening socket that a service manager has opened and passed on (socket activation, sd_listen_fds(3)): which it is, and
 * listening on it. It outlives this process, and so do the connections that wait in it. Its file is the manager's: it is not made,
 * looked at, given away or removed here. Knows nothing of what is spoken over its connections.
 */
import { EventEmitter } from 'node:events';
import { Server, type Socket } from 'node:net';
import { ConfigError } from '../config/config-error.js';
import { type Descriptor, describeDescriptor } from './descriptor.js';
import { backlog } from './listen.js';

/** The first descriptor passed. Source: SD_LISTEN_FDS_START in sd-daemon.h. */
const firstDescriptor = 3;
/** The name it has to have where more than one is passed: that of the unit, which is the default, or FileDescriptorName=. */
const ownNames = ['holdfast.socket', 'holdfast'];

export interface PassedSocket {
  readonly descriptor: number;
  /** What it is bound to; undefined where the kernel does not show it, as in another network namespace than the manager's. */
  readonly path: string | undefined;
}

/**
 * Takes the variables out of the environment, so that no child believes they were meant for it.
 *
 * @param env LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (names with colons between them).
 * @param pid Of this process.
 * @returns undefined where nothing was passed.
 * @throws {ConfigError} Something was passed that cannot be used.
 */
export function takePassedSocket(env: Record<string, string | undefined>, pid: number): PassedSocket | undefined {
  const { LISTEN_PID: forPid, LISTEN_FDS: count, LISTEN_FDNAMES: names } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete env[name];
  if (count === undefined) return undefined;
  if (forPid !== String(pid)) {
    throw unusable(
      `LISTEN_PID is ${forPid ?? 'missing'}, this process is ${pid}: ` +
        'what starts it (ExecStart=) has to exec it, or to unset LISTEN_PID and LISTEN_FDS',
    );
  }
  if (!/^[1-9]\d{0,4}$/.test(count)) throw unusable(`LISTEN_FDS is ${count}, not how many sockets were passed`);
  const given = names ? names.split(':') : undefined;
  if (given !== undefined && given.length !== Number(count)) {
    throw unusable(
      `LISTEN_FDS is ${count}, and LISTEN_FDNAMES has ${given.length} names (${given.join(', ')}): both are of what starts it`,
    );
  }
  const at = chosen(Number(count), given);
  const descriptor = firstDescriptor + at;
  const name = given?.[at];
  const called = name ? `${name} (descriptor ${descriptor})` : `descriptor ${descriptor}`;
  return { descriptor, path: listeningPath(describeDescriptor(descriptor), called) };
}

/** @returns Which of `count` it is, from 0. */
function chosen(count: number, given: readonly string[] = []): number {
  if (count === 1) return 0;
  const [only, ...others] = given.flatMap((name, n) => (ownNames.includes(name) ? [n] : []));
  if (only !== undefined && others.length === 0) return only;
  throw unusable(
    `${count} were passed (${given.join(', ') || 'without names'}), and not just one of them is named ` +
      `${ownNames.join(' or ')}: leave one, as with one ListenStream= in one unit, or give one FileDescriptorName=holdfast`,
  );
}

/** What a socket unit has in the place of `ListenStream=` with a path for each sort that is of no use. Source: systemd.socket(5). */
const instead = {
  fifo: 'ListenFIFO=',
  file: 'ListenSpecial=',
  'Unix datagram socket': 'ListenDatagram=',
  'Unix sequential packet socket': 'ListenSequentialPacket=',
  'TCP socket': 'ListenStream= with a port',
  'UDP socket': 'ListenDatagram=',
} as const;

/**
 * @param called How it is named in what is said of it.
 * @returns undefined where it is not to be seen.
 * @throws {ConfigError} It is seen to be of no use.
 */
export function listeningPath(passed: Descriptor, called: string): string | undefined {
  switch (passed.sort) {
    case 'closed':
      throw unusable(`${called} is not open`);
    case 'socket':
      return undefined;
    case 'fifo':
    case 'file':
      throw notUnixStream(`${called} is a ${passed.sort}, ${passed.name}`, instead[passed.sort]);
    case 'TCP socket':
    case 'UDP socket':
      throw notUnixStream(`${called} is a ${passed.sort}, ${passed.address}`, instead[passed.sort]);
    case 'Unix stream socket':
      break;
    default:
      throw notUnixStream(`${called} is a ${passed.sort}, ${passed.path || 'without a path'}`, instead[passed.sort]);
  }
  const { state, path } = passed;
  if (state === 'connected') {
    throw unusable(`${called} is a connection, not a socket that listens: set Accept=no in its socket unit`);
  }
  if (!path.startsWith('/')) {
    throw notUnixStream(`${called} is bound to ${path || 'nothing'}, not to an absolute path`, `ListenStream=${path}`);
  }
  if (state !== 'listening') {
    throw unusable(`${called}, ${path}, does not listen: what passes it has to call listen(2), as ListenStream= does`);
  }
  return path;
}

function notUnixStream(what: string, option: string): ConfigError {
  return unusable(
    `${what}, and a kubelet connects to a Unix stream socket at a path: ` +
      `set ListenStream=/run/holdfast/holdfast.sock in its socket unit, in place of ${option}`,
  );
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
    throw notUnixStream(`descriptor ${descriptor} is a TCP socket, ${JSON.stringify(address)}`, instead['TCP socket']);
  }
  return new PassedListener(server);
}

function unusable(why: string): ConfigError {
  return new ConfigError(`cannot use the socket that was passed: ${why}`);
}
