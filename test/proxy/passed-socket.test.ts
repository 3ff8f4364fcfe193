/** A socket that another process has opened and passed on. */
import { execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, lstatSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { connect, Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ConfigError } from '../../src/config/config-error.js';
import type { Descriptor } from '../../src/proxy/descriptor.js';
import { listeningPath, listenOnPassed, takePassedSocket } from '../../src/proxy/passed-socket.js';
import { refusedOf } from '../support/backlog.js';
import { settle } from '../support/manual-clock.js';
import { soon, until } from '../support/soon.js';

const path = (t: Test) => {
  const folder = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return join(folder, 'x.sock');
};

/** The message of the refusal. */
function refusal(env: Record<string, string>, pid = 7): string {
  try {
    takePassedSocket(env, pid);
    return 'not refused';
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message;
  }
}

t.test('without LISTEN_FDS nothing was passed, and what is left of it goes', async (t) => {
  const env = { LISTEN_PID: '1', LISTEN_FDNAMES: 'x', PATH: '/bin' };
  t.equal(takePassedSocket(env, 7), undefined);
  t.same(env, { PATH: '/bin' });
});

t.test('variables that are wrong are refused by name, and go all the same', async (t) => {
  const refused = 'cannot use the socket that was passed: ';
  const remedy = 'what starts it (ExecStart=) has to exec it, or to unset LISTEN_PID and LISTEN_FDS';
  t.equal(refusal({ LISTEN_FDS: '1' }), `${refused}LISTEN_PID is missing, this process is 7: ${remedy}`);
  t.equal(refusal({ LISTEN_PID: '8', LISTEN_FDS: '1' }), `${refused}LISTEN_PID is 8, this process is 7: ${remedy}`);
  for (const count of ['', '0', '-1', '1x', 'x1', '100000']) {
    const said = `${refused}LISTEN_FDS is ${count}, not how many sockets were passed`;
    t.equal(refusal({ LISTEN_PID: '7', LISTEN_FDS: count }), said);
  }
  const env = { LISTEN_PID: '8', LISTEN_FDS: '1', LISTEN_FDNAMES: 'x' };
  refusal(env);
  t.same(env, {});
});

t.test('of several the one that is named is taken', async (t) => {
  const choose = (names: string, count = '3') => refusal({ LISTEN_PID: '7', LISTEN_FDS: count, LISTEN_FDNAMES: names });
  const other = (names: string, count = 3) =>
    `cannot use the socket that was passed: ${count} were passed (${names}), and not just one of them is named ` +
    'holdfast.socket or holdfast: leave one, as with one ListenStream= in one unit, or give one FileDescriptorName=holdfast';
  t.equal(choose('a:b:c'), other('a, b, c'));
  t.equal(choose(''), other('without names'));
  t.equal(choose('holdfast:b:holdfast.socket'), other('holdfast, b, holdfast.socket'));
  t.equal(choose('holdfasts:b:c'), other('holdfasts, b, c'));
  t.equal(choose('::'), other(', , '));
  t.equal(refusal({ LISTEN_PID: '7', LISTEN_FDS: '2' }), other('without names', 2));
  // There are not as many descriptors: which one is looked at says the message.
  const many = (n: number, name: string) => Array.from({ length: 90_000 }, (_, i) => (i === n ? name : 'x')).join(':');
  t.match(choose(many(80_000, 'holdfast'), '90000'), /: holdfast \(descriptor 80003\) is not open$/);
  t.match(choose(many(80_001, 'holdfast.socket'), '90000'), /: holdfast\.socket \(descriptor 80004\) is not open$/);
});

t.test('names that are fewer or more than what was passed are refused, for one socket too', async (t) => {
  for (const [count, names, n] of [
    ['3', 'a:b:c:holdfast', 4],
    ['2', 'holdfast', 1],
    ['1', 'holdfast:b', 2],
  ] as const) {
    t.equal(
      refusal({ LISTEN_PID: '7', LISTEN_FDS: count, LISTEN_FDNAMES: names }),
      `cannot use the socket that was passed: LISTEN_FDS is ${count}, and LISTEN_FDNAMES has ${n} names ` +
        `(${names.replaceAll(':', ', ')}): both are of what starts it`,
    );
  }
});

/** A handle that another process has opened and passed on, and holds still: as a service manager does, it accepts nothing. */
async function passedWith(t: Test, script: string, ...args: readonly string[]) {
  const child = spawn(process.execPath, ['-e', `const net = require('node:net'); ${script}`, ...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const [said, handle] = (await once(child, 'message')) as [string, { readonly fd: number }];
  child.kill('SIGSTOP');
  return { said, descriptor: handle.fd };
}

async function passed(t: Test, script: string, ...args: readonly string[]): Promise<number> {
  return (await passedWith(t, script, ...args)).descriptor;
}

const listens = "const s = net.createServer().listen(process.argv[1], () => process.send('', s._handle));";

/** As if this descriptor were one of those passed. */
function taken(descriptor: number) {
  const names = `${':'.repeat(descriptor - 3)}holdfast`;
  return takePassedSocket({ LISTEN_PID: '7', LISTEN_FDS: String(descriptor - 2), LISTEN_FDNAMES: names }, 7);
}

/** The end of the refusal, behind the name. */
function refusedDescriptor(descriptor: number): string {
  const begin = `cannot use the socket that was passed: holdfast (descriptor ${descriptor})`;
  try {
    return JSON.stringify(taken(descriptor));
  } catch (error) {
    if (!(error instanceof ConfigError) || !error.message.startsWith(begin)) throw error;
    return error.message.slice(begin.length);
  }
}

/** The descriptors of this process that are sockets. */
function sockets(): readonly string[] {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      return false;
    }
  });
}

const insteadOf = (option: string) =>
  ', and a kubelet connects to a Unix stream socket at a path: set ListenStream=/run/holdfast/holdfast.sock in its ' +
  `socket unit, in place of ${option}`;

t.test('a listening unix socket is taken, with its path', async (t) => {
  const at = path(t);
  const descriptor = await passed(t, listens, at);
  t.same(taken(descriptor), { descriptor, path: at });
});

t.test('what is no socket is refused by what it is, with the option that passes it', async (t) => {
  const file = openSync('/dev/null', 'r');
  t.teardown(() => closeSync(file));
  t.equal(refusedDescriptor(file), ` is a file, /dev/null${insteadOf('ListenSpecial=')}`);
  const fifo = path(t);
  execFileSync('sh', ['-c', 'mkfifo "$0"', fifo]);
  const opened = openSync(fifo, 'r+');
  t.teardown(() => closeSync(opened));
  t.equal(refusedDescriptor(opened), ` is a fifo, ${fifo}${insteadOf('ListenFIFO=')}`);
});

t.test('a unix socket that no client can connect to by a path is refused', async (t) => {
  const name = `hf-${crypto.randomUUID()}`;
  const abstract = await passed(t, listens.replace('process', "'\\0' + process"), name);
  // Node fills the address up with zeros, which the kernel shows as @.
  t.equal(
    refusedDescriptor(abstract).replaceAll(/@{2,}/g, ''),
    ` is bound to @${name}, not to an absolute path${insteadOf(`ListenStream=@${name}`)}`,
  );
  const at = path(t);
  const connection = ' is a connection, not a socket that listens: set Accept=no in its socket unit';
  const connect = (send: string) =>
    `const s = net.createServer((a) => ${send === 'a' ? "process.send('', a._handle)" : '{}'}).listen(process.argv[1], () => {
      const c = net.connect(process.argv[1], () => ${send === 'c' ? "process.send('', c._handle)" : '{}'});
    });`;
  t.equal(refusedDescriptor(await passed(t, connect('a'), at)), connection, 'the end that was accepted');
  t.equal(refusedDescriptor(await passed(t, connect('c'), path(t))), connection, 'the end of the client');
});

t.test('a TCP or UDP socket is refused with its address', async (t) => {
  const tcp = (address: string) => `
    const s = net.createServer().listen(0, '${address}', () => process.send(String(s.address().port), s._handle));`;
  for (const [address, shown] of [
    ['127.0.0.1', '127.0.0.1'],
    ['::1', '[::1]'],
  ] as const) {
    const { descriptor, said } = await passedWith(t, tcp(address));
    t.equal(
      refusedDescriptor(descriptor),
      ` is a TCP socket, ${shown}:${said}${insteadOf('ListenStream= with a port')}`,
    );
  }
  const before = sockets();
  const udp = createSocket('udp4');
  t.teardown(() => udp.close());
  udp.bind(0, '127.0.0.1');
  await once(udp, 'listening');
  const [descriptor] = sockets().filter((fd) => !before.includes(fd));
  t.equal(
    refusedDescriptor(Number(descriptor)),
    ` is a UDP socket, 127.0.0.1:${udp.address().port}${insteadOf('ListenDatagram=')}`,
  );
});

t.test('each sort is refused by what it is and the option to change; only what is not to be seen is not', (t) => {
  const refused = (passed: Descriptor) => {
    try {
      return listeningPath(passed, 'x');
    } catch (error) {
      return error instanceof ConfigError
        ? error.message.replace('cannot use the socket that was passed: ', '')
        : error;
    }
  };
  const [datagram, packets] = ['Unix datagram socket', 'Unix sequential packet socket'] as const;
  t.equal(
    refused({ sort: datagram, state: 'idle', path: '/run/x' }),
    `x is a Unix datagram socket, /run/x${insteadOf('ListenDatagram=')}`,
  );
  t.equal(
    refused({ sort: packets, state: 'listening', path: '' }),
    `x is a Unix sequential packet socket, without a path${insteadOf('ListenSequentialPacket=')}`,
  );
  const stream = { sort: 'Unix stream socket' } as const;
  t.equal(
    refused({ ...stream, state: 'idle', path: '' }),
    `x is bound to nothing, not to an absolute path${insteadOf('ListenStream=')}`,
  );
  t.equal(
    refused({ ...stream, state: 'idle', path: '/run/x' }),
    'x, /run/x, does not listen: what passes it has to call listen(2), as ListenStream= does',
  );
  t.equal(refused({ ...stream, state: 'listening', path: '/run/x' }), '/run/x');
  t.equal(refused({ sort: 'socket' }), undefined);
  t.equal(refused({ sort: 'closed' }), 'x is not open');
  t.end();
});

t.test('without names one descriptor is named by its number', async (t) => {
  t.match(
    refusal({ LISTEN_PID: '7', LISTEN_FDS: '1' }),
    /^cannot use the socket that was passed: descriptor 3 is /,
    'it is not open for clients here',
  );
});

t.test('what proves to be of no use only when it is to listen is refused then', async (t) => {
  const { descriptor, said } = await passedWith(
    t,
    "const s = net.createServer().listen(0, '127.0.0.1', () => process.send(String(s.address().port), s._handle));",
  );
  await t.rejects(
    listenOnPassed({ descriptor, path: undefined }, () => {}),
    {
      name: 'ConfigError',
      message:
        `cannot use the socket that was passed: descriptor ${descriptor} is a TCP socket, ` +
        `{"address":"127.0.0.1","family":"IPv4","port":${said}}${insteadOf('ListenStream= with a port')}`,
    },
  );
  await t.rejects(
    listenOnPassed({ descriptor: 90_000, path: undefined }, () => {}),
    {
      name: 'ConfigError',
      message: /^cannot use the socket that was passed: .*(EBADF|EINVAL)/,
    },
  );
});

t.test(
  'who waits in it is accepted, half open; its file is left alone, and who comes later waits for the next process',
  async (t) => {
    const at = path(t);
    const descriptor = await passed(t, listens, at);
    const early = connect(at);
    await soon(once(early, 'connect'));
    early.end('request');
    const accepted: Socket[] = [];
    const { ino } = lstatSync(at);
    const listener = await listenOnPassed({ descriptor, path: at }, (socket) => accepted.push(socket));
    await until(() => accepted.length === 1);
    const [downstream] = accepted;
    if (downstream === undefined) throw new Error('nobody was accepted');
    t.teardown(() => downstream.destroy());
    downstream.resume();
    await soon(once(downstream, 'end'));
    t.ok(downstream.writable, 'the end of the request leaves the answer possible');
    listener.close();
    const late = connect(at);
    await soon(once(late, 'connect'));
    for (let turn = 0; turn < 20; turn++) await settle();
    t.equal(accepted.length, 1);
    t.equal(lstatSync(at).ino, ino);
    t.notOk(downstream.destroyed, 'open connections stay');
    for (const client of [early, late]) client.destroy();
  },
);

t.test('thousands may wait to be accepted', async (t) => {
  const at = path(t);
  const descriptor = await passed(t, listens, at);
  const listener = await listenOnPassed({ descriptor, path: at }, (socket) => socket.destroy());
  t.teardown(() => listener.close());
  t.same(await refusedOf(at), []);
});

t.test('a connection that cannot be accepted is said, to whoever listens, and ends nothing', async (t) => {
  const descriptor = await passed(t, listens, path(t));
  const listening = Server.prototype.listen;
  const servers: Server[] = [];
  t.teardown(() => {
    Server.prototype.listen = listening;
  });
  Server.prototype.listen = function (this: Server, ...args: Parameters<Server['listen']>) {
    servers.push(this);
    return listening.apply(this, args);
  } as typeof listening;
  const listener = await listenOnPassed({ descriptor, path: undefined }, () => {});
  t.teardown(() => listener.close());
  servers[0]?.emit('error', new Error('accept EMFILE'));
  const said: Error[] = [];
  listener.on('error', (error) => said.push(error));
  servers[0]?.emit('error', new Error('accept ENFILE'));
  t.match(said, [{ message: 'accept ENFILE' }]);
});
