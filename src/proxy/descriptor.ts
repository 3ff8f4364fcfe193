/**
 * What a descriptor of this process is, as the kernel shows it in /proc. Knows nothing of who opened it, nor what for.
 */
import { fstatSync, readFileSync, readlinkSync } from 'node:fs';
import { endianness } from 'node:os';
import { join } from 'node:path';

export type Descriptor =
  | { readonly sort: 'closed' }
  /** @property name As /proc has it: a path, or what stands for one. */
  | { readonly sort: 'fifo' | 'file'; readonly name: string }
  /** @property path Of an abstract one with @ in front; empty where it has none. */
  | { readonly sort: UnixSort; readonly state: 'listening' | 'connected' | 'idle'; readonly path: string }
  /** @property address Its own, `127.0.0.1:80` or `[::]:80`. */
  | { readonly sort: 'TCP socket' | 'UDP socket'; readonly address: string }
  /** Of another kind, or of another network namespace than this process. */
  | { readonly sort: 'socket' };

type UnixSort = 'Unix stream socket' | 'Unix datagram socket' | 'Unix sequential packet socket';

/** By `Type` of /proc/net/unix. Source: enum sock_type in include/linux/net.h. */
const unixSorts: Readonly<Record<number, UnixSort>> = {
  1: 'Unix stream socket',
  2: 'Unix datagram socket',
  5: 'Unix sequential packet socket',
};

/** Source: __SO_ACCEPTCON in include/linux/net.h, SS_CONNECTED in include/uapi/linux/net.h. */
const listeningFlag = 0x10000;
const connectedState = 3;

/** Their columns are the same. Source: tcp4_seq_show in net/ipv4/tcp_ipv4.c, udp4_seq_show in net/ipv4/udp.c. */
const internetTables = [
  ['tcp', 'TCP socket'],
  ['tcp6', 'TCP socket'],
  ['udp', 'UDP socket'],
  ['udp6', 'UDP socket'],
] as const;
const addressColumn = 1;
const inodeColumn = 9;

/** And the inode, and a bracket. */
const socketName = 'socket:[';

/** @param proc Where procfs is. */
export function describeDescriptor(descriptor: number, proc = '/proc'): Descriptor {
  let name: string;
  try {
    name = readlinkSync(join(proc, `self/fd/${descriptor}`));
  } catch {
    return { sort: 'closed' };
  }
  if (!name.startsWith(socketName)) return { sort: fstatSync(descriptor).isFIFO() ? 'fifo' : 'file', name };
  const inode = name.slice(socketName.length, -1);
  return unixSocket(inode, proc) ?? internetSocket(inode, proc) ?? { sort: 'socket' };
}

function unixSocket(inode: string, proc: string): Descriptor | undefined {
  // Num: RefCount Protocol Flags Type St Inode Path. Source: unix_seq_show in net/unix/af_unix.c.
  const lines = table('unix', proc).map((line) => line.split(/ +/));
  const line = lines.find((columns) => columns[6] === inode);
  if (line === undefined) return undefined;
  const [, , , flags, type, state, , ...path] = line;
  const sort = unixSorts[Number(`0x${type}`)];
  if (sort === undefined) return undefined;
  const isListening = (Number(`0x${flags}`) & listeningFlag) !== 0;
  const isConnected = Number(`0x${state}`) === connectedState;
  return { sort, state: isListening ? 'listening' : isConnected ? 'connected' : 'idle', path: path.join(' ') };
}

function internetSocket(inode: string, proc: string): Descriptor | undefined {
  for (const [name, sort] of internetTables) {
    for (const line of table(name, proc)) {
      const columns = line.trim().split(/ +/);
      if (columns[inodeColumn] === inode) return { sort, address: addressOf(`${columns[addressColumn]}`) };
    }
  }
  return undefined;
}

/** @returns No lines where the kernel has no such table, as without IPv6. */
function table(name: string, proc: string): readonly string[] {
  try {
    return readFileSync(join(proc, 'net', name), 'utf8').split('\n');
  } catch {
    return [];
  }
}

/** @param text Words of 4 bytes as the machine reads them, then the port: `0100007F:0050`. */
function addressOf(text: string): string {
  // Ends at the colon.
  const bytes = Buffer.from(text, 'hex');
  if (endianness() === 'LE') bytes.swap32();
  const groups = bytes.toString('hex').replace(/.{4}(?!$)/g, '$&:');
  const host = bytes.length === 4 ? bytes.join('.') : new URL(`http://[${groups}]`).hostname;
  return `${host}:${Number(`0x${text.slice(text.indexOf(':') + 1)}`)}`;
}
