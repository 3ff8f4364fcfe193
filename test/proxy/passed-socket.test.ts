/** A socket that another process has opened and passed on. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, lstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { connect, Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ConfigError } from '../../src/config/config-error.js';
import { listenOnPassed, takePassedSocket } from '../../src/proxy/passed-socket.js';
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
  const remedy = 'what starts it has to exec it, or to unset LISTEN_PID and LISTEN_FDS';
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
    'holdfast.socket or holdfast';
  for (const names of ['a:b:c', '', 'holdfast:b:holdfast.socket', 'a:b:c:holdfast', 'holdfasts:b:c']) {
    t.equal(choose(names), other(names));
  }
  t.equal(refusal({ LISTEN_PID: '7', LISTEN_FDS: '2' }), other('', 2));
  // There are not as many descriptors: which one is looked at says the message.
  const many = (n: number, name: string) => Array.from({ length: 90_000 }, (_, i) => (i === n ? name : 'x')).join(':');
  t.match(choose(many(80_000, 'holdfast'), '90000'), /: descriptor 80003 is not open$/);
  t.match(choose(many(80_001, 'holdfast.socket'), '90000'), /: descriptor 80004 is not open$/);
});

/** A handle that another process has opened and passed on, and holds still: as a service manager does, it accepts nothing. */
async function passed(t: Test, script: string, ...args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, ['-e', `const net = require('node:net'); ${script}`, ...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const [, handle] = (await once(child, 'message')) as [unknown, { readonly fd: number }];
  child.kill('SIGSTOP');
  return handle.fd;
}

const listens = "const s = net.createServer().listen(process.argv[1], () => process.send('', s._handle));";

/** As if this descriptor were one of those passed. */
function taken(descriptor: number) {
  const names = `${':'.repeat(descriptor - 3)}holdfast`;
  return takePassedSocket({ LISTEN_PID: '7', LISTEN_FDS: String(descriptor - 2), LISTEN_FDNAMES: names }, 7);
}

function refusedDescriptor(descriptor: number): string {
  try {
    return JSON.stringify(taken(descriptor));
  } catch (error) {
    return String(error);
  }
}

t.test('a listening unix socket is taken, with its path', async (t) => {
  const at = path(t);
  const descriptor = await passed(t, listens, at);
  t.same(taken(descriptor), { descriptor, path: at });
});

t.test('what is no listening unix socket with a path is refused', async (t) => {
  const cannot = 'ConfigError: cannot use the socket that was passed:';
  const file = openSync('/dev/null', 'r');
  t.teardown(() => closeSync(file));
  t.equal(refusedDescriptor(file), `${cannot} descriptor ${file} is no socket but /dev/null`);
  const abstract = await passed(t, listens.replace('process', "'\\0' + process"), `hf-${crypto.randomUUID()}`);
  t.match(refusedDescriptor(abstract), /: it is bound to @\S+, not to an absolute path$/);
  const connected = await passed(
    t,
    "net.createServer().listen(process.argv[1], () => { const c = net.connect(process.argv[1], () => process.send('', c._handle)); });",
    path(t),
  );
  t.equal(
    refusedDescriptor(connected),
    `${cannot} descriptor ${connected} () is not a listening stream socket (ListenStream=, Accept=no)`,
  );
  const tcp = await passed(
    t,
    "const s = net.createServer().listen(0, '127.0.0.1', () => process.send('', s._handle));",
  );
  t.same(taken(tcp), { descriptor: tcp, path: undefined }, 'its path is not to be seen');
  await t.rejects(
    listenOnPassed({ descriptor: tcp, path: undefined }, () => {}),
    {
      name: 'ConfigError',
      message:
        /^cannot use the socket that was passed: descriptor \d+ is not a unix socket but \{"address":"127.0.0.1"/,
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
