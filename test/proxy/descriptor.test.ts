/** What a descriptor is; passed-socket.test.ts has real ones of the sorts that Node can open. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { endianness, tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { describeDescriptor } from '../../src/proxy/descriptor.js';

/** A procfs with descriptor 3, of this inode, and these tables. */
function procfs(t: Test, inode: number, tables: Readonly<Record<string, readonly string[]>>): string {
  const proc = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(proc, { recursive: true }));
  mkdirSync(join(proc, 'self/fd'), { recursive: true });
  mkdirSync(join(proc, 'net'));
  symlinkSync(`socket:[${inode}]`, join(proc, 'self/fd/3'));
  for (const [name, lines] of Object.entries(tables)) writeFileSync(join(proc, 'net', name), `${lines.join('\n')}\n`);
  return proc;
}

/** As Linux 6.1 wrote them. */
const unix = [
  'Num       RefCount Protocol Flags    Type St Inode Path',
  '0000000000000000: 00000002 00000000 00010000 0001 01  1201 /run/a b.sock',
  '0000000000000000: 00000003 00000000 00000000 0001 03 51202 /run/a b.sock',
  '0000000000000000: 00000002 00000000 00000000 0001 01 51203',
  '0000000000000000: 00000002 00000000 00000000 0002 01 51204 /run/log',
  '0000000000000000: 00000003 00000000 00000000 0002 03 51205',
  '0000000000000000: 00000002 00000000 00010000 0005 01 51206 @packets',
  '0000000000000000: 00000002 00000000 00010000 0003 01 51207 /run/of-no-known-type',
];

t.test('a unix socket is told by its type, its state and what it is bound to', async (t) => {
  for (const [inode, descriptor] of [
    [1201, { sort: 'Unix stream socket', state: 'listening', path: '/run/a b.sock' }],
    [51202, { sort: 'Unix stream socket', state: 'connected', path: '/run/a b.sock' }],
    [51203, { sort: 'Unix stream socket', state: 'idle', path: '' }],
    [51204, { sort: 'Unix datagram socket', state: 'idle', path: '/run/log' }],
    [51205, { sort: 'Unix datagram socket', state: 'connected', path: '' }],
    [51206, { sort: 'Unix sequential packet socket', state: 'listening', path: '@packets' }],
    [51207, { sort: 'socket' }],
    [5120, { sort: 'socket' }],
    [201, { sort: 'socket' }],
  ] as const) {
    t.strictSame(describeDescriptor(3, procfs(t, inode, { unix })), descriptor, String(inode));
  }
});

t.test('a TCP or UDP socket is told by its own address', async (t) => {
  const littleEndian = (words: string) => {
    const bytes = Buffer.from(words, 'hex');
    return (endianness() === 'LE' ? bytes.swap32() : bytes).toString('hex').toUpperCase();
  };
  const line = (address: string, port: string, inode: number) =>
    `   0: ${littleEndian(address)}:${port} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 100 0 0 10 0`;
  const tables = {
    tcp: ['  sl  local_address rem_address   st', line('0A010203', '1F90', 11)],
    tcp6: [line('20010DB8000000000000000000000001', '0050', 12), line('00000000000000000000000000000000', '1F90', 13)],
    udp: [line('7F000001', '0035', 14)],
    udp6: [line('00000000000000000000000000000001', '0035', 15)],
  };
  for (const [inode, sort, address] of [
    [11, 'TCP socket', '10.1.2.3:8080'],
    [12, 'TCP socket', '[2001:db8::1]:80'],
    [13, 'TCP socket', '[::]:8080'],
    [14, 'UDP socket', '127.0.0.1:53'],
    [15, 'UDP socket', '[::1]:53'],
  ] as const) {
    t.strictSame(describeDescriptor(3, procfs(t, inode, tables)), { sort, address }, address);
  }
});

t.test('what is in no table is a socket all the same, and what is not there is closed', async (t) => {
  const proc = procfs(t, 7, {});
  t.strictSame(describeDescriptor(3, proc), { sort: 'socket' });
  t.strictSame(describeDescriptor(4, proc), { sort: 'closed' });
});
