import { execFile } from 'node:child_process';
import { once } from 'node:events';
import fs, {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import net, { connect, createServer, Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { ListenError, type ListenOptions, listenOn, type SocketListener } from '../../src/proxy/listen.js';
import { asNobody, isRoot, nobody } from '../support/as-nobody.js';
import { refusedOf } from '../support/backlog.js';
import { soon } from '../support/soon.js';

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

async function listen(t: Test, path: string, options?: Partial<ListenOptions>): Promise<SocketListener> {
  const listener = await soon(listenOn(path, { ownerFrom: `${path}.runtime`, ...options }));
  t.teardown(() => listener.close());
  return listener;
}

async function serveOn(t: Test, path: string): Promise<Server> {
  const server = createServer((socket) => socket.end());
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server;
}

/** Leaves the file of a socket nobody listens on, as a killed process does. */
async function leaveStale(t: Test, path: string): Promise<void> {
  const server = await serveOn(t, `${path}.dead`);
  renameSync(`${path}.dead`, path);
  server.close();
  await soon(once(server, 'close'));
}

async function refusal(t: Test, path: string): Promise<ListenError> {
  try {
    await listen(t, path);
  } catch (error) {
    if (error instanceof ListenError) return error;
    throw error;
  }
  throw new Error(`${path} was not refused`);
}

const modeOf = (path: string) => lstatSync(path).mode & 0o777;

async function connected(path: string): Promise<Socket> {
  const socket = connect(path);
  await soon(once(socket, 'connect'));
  return socket;
}

t.test('connections arrive half open, and the first of them is not missed', async (t) => {
  const path = join(folder(t), 'x.sock');
  const arrived = new Promise<Socket>(
    (onConnection) => void listen(t, path, { onConnection }).then(() => connect(path).end('request')),
  );
  const downstream = await soon(arrived);
  t.teardown(() => downstream.destroy());
  downstream.resume();
  await soon(once(downstream, 'end'));
  t.ok(downstream.writable, 'the end of the request leaves the answer possible');
});

t.test('thousands may wait to be accepted', async (t) => {
  const path = join(folder(t), 'x.sock');
  await listen(t, path, { onConnection: (socket) => socket.destroy() });
  t.same(await refusedOf(path), []);
});

t.test('a missing directory is made, for its owner to write in', async (t) => {
  const directory = join(folder(t), 'a', 'b');
  await listen(t, join(directory, 'x.sock'));
  t.equal(modeOf(directory) & 0o022, 0);
  t.equal(modeOf(directory) & 0o700, 0o700);
});

t.test('the file of a dead socket is replaced', async (t) => {
  const path = join(folder(t), 'x.sock');
  await leaveStale(t, path);
  t.ok(lstatSync(path).isSocket());
  const listener = await listen(t, path);
  const accepted = once(listener, 'connection');
  (await connected(path)).destroy();
  const [downstream] = await soon(accepted);
  t.ok(downstream, 'the new listener gets what connects');
  downstream.destroy();
});

t.test('a socket somebody answers on is refused and goes on working', async (t) => {
  const path = join(folder(t), 'x.sock');
  await serveOn(t, path);
  const error = await refusal(t, path);
  t.equal(error.reason, 'in use');
  t.equal(error.message, `cannot listen on ${path}: another process is listening there`);
  t.equal(error.name, 'ListenError');
  (await connected(path)).destroy();
});

t.test('whoever answers is asked once and left at once', async (t) => {
  const path = join(folder(t), 'x.sock');
  const server = createServer();
  server.listen(path);
  t.teardown(() => server.close());
  const asked = once(server, 'connection');
  await refusal(t, path);
  const [socket] = await soon(asked);
  socket.resume();
  await soon(once(socket, 'close'));
});

t.test('a listener that is too busy to answer is refused too, and goes on working', async (t) => {
  const path = join(folder(t), 'x.sock');
  const server = createServer((socket) => socket.end());
  server.listen({ path, backlog: 1 });
  t.teardown(() => server.close());
  // Within one turn nothing is accepted.
  const waiting = Array.from({ length: 3 }, () => connect(path).on('error', () => {}));
  const error = await refusal(t, path);
  t.equal(error.reason, 'in use');
  for (const socket of waiting) socket.destroy();
  await soon(once(server, 'connection'));
  (await connected(path)).destroy();
});

/** Whoever connects until the end of the test has this done in the moment after the system has answered. */
function afterConnecting(t: Test, then: (socket: Socket) => void): void {
  const { connect } = net;
  const restore = (as: typeof connect) => {
    net.connect = as;
    syncBuiltinESMExports();
  };
  restore(((path: string) => {
    const socket = connect(path);
    then(socket);
    return socket;
  }) as typeof connect);
  t.teardown(() => restore(connect));
}

t.test('a socket of another type has somebody behind it', async (t) => {
  const path = join(folder(t), 'x.sock');
  await leaveStale(t, path);
  const wrongType = Object.assign(new Error('connect EPROTOTYPE'), { code: 'EPROTOTYPE' });
  afterConnecting(t, (socket) => socket.destroy(wrongType));
  t.equal((await refusal(t, path)).reason, 'in use');
  t.ok(existsSync(path));
});

t.test("a dead socket that is gone before it is removed is in nobody's way", async (t) => {
  const path = join(folder(t), 'x.sock');
  await leaveStale(t, path);
  afterConnecting(t, () => unlinkSync(path));
  const listener = await listen(t, path);
  t.equal(listener.find(), 'ours');
});

t.test("a socket that is gone before it is asked is in nobody's way", async (t) => {
  const path = join(folder(t), 'x.sock');
  await leaveStale(t, path);
  const gone = Object.assign(new Error('connect ENOENT'), { code: 'ENOENT' });
  afterConnecting(t, (socket) => {
    unlinkSync(path);
    socket.destroy(gone);
  });
  const listener = await listen(t, path);
  t.equal(listener.find(), 'ours');
});

t.test('what has taken the place of a dead socket meanwhile is left alone', async (t) => {
  const path = join(folder(t), 'x.sock');
  await leaveStale(t, path);
  afterConnecting(t, () => {
    renameSync(path, `${path}.dead`);
    writeFileSync(path, 'precious');
  });
  const error = await refusal(t, path);
  t.equal(error.reason, 'in use');
  t.equal(readFileSync(path, 'utf8'), 'precious');
});

t.test('what is not a socket is refused and left alone', async (t) => {
  const directory = folder(t);
  const at = (name: string) => join(directory, name);
  writeFileSync(at('file'), 'precious');
  mkdirSync(at('directory'));
  symlinkSync('nowhere', at('link'));
  for (const name of ['file', 'directory', 'link']) {
    const error = await refusal(t, at(name));
    t.equal(error.reason, 'not a socket');
    t.match(error.message, at(name));
  }
  t.equal(readFileSync(at('file'), 'utf8'), 'precious');
  t.same(readdirSync(directory).sort(), ['directory', 'file', 'link']);
});

t.test('a path of 107 bytes works, one of 108 is refused by its length', async (t) => {
  const directory = folder(t);
  const path = join(directory, 'x'.repeat(107 - directory.length - 1));
  await listen(t, path);
  (await connected(path)).destroy();
  const error = await refusal(t, `${path}x`);
  t.equal(error.reason, 'path too long');
  t.match(error.message, `${path}x: the path is 108 bytes long`);
});

t.test('a directory that cannot be made is its own error', async (t) => {
  const file = join(folder(t), 'file');
  writeFileSync(file, '');
  const error = await refusal(t, join(file, 'sub', 'x.sock'));
  t.equal(error.reason, 'no directory');
  t.equal(error.message, `cannot make the directory ${file}/sub to listen in: ${file} is there and not a directory`);
  t.match(error.cause, { message: `${file} is there and not a directory` });
  symlinkSync('nowhere', `${file}.link`);
  t.match(
    (await refusal(t, `${file}.link/x.sock`)).message,
    `cannot make the directory ${file}.link to listen in: EEXIST`,
  );
});

t.test('directories are made above the last one that is there, links to directories among them', async (t) => {
  const directory = folder(t);
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  mkdirSync(join(directory, 'real'), { mode: 0o700 });
  symlinkSync('real', join(directory, 'link'));
  await listen(t, join(directory, 'link', 'a', 'b', 'c', 'x.sock'));
  const made = ['real', 'real/a', 'real/a/b', 'real/a/b/c'].map((name) => modeOf(join(directory, name)));
  t.strictSame(made, [0o700, 0o755, 0o755, 0o755], 'those that were there keep their mode');
});

t.test('a directory that procfs does not let be made is refused at once', async (t) => {
  // Not in this process: a loop that never ends could not be stopped.
  const script = `
    import { listenOn } from ${JSON.stringify(new URL('../../src/proxy/listen.js', import.meta.url).href)};
    listenOn('/proc/x/u.sock', { ownerFrom: '/none' }).catch((error) => console.log(error.reason + ': ' + error.message));
  `;
  const node = ['--import', 'tsx', '--input-type=module', '--eval', script];
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const env = { ...process.env, NODE_OPTIONS: '' };
  const limits = { timeout: 20_000, killSignal: 'SIGKILL' } as const;
  const { stdout } = await promisify(execFile)(process.execPath, node, { ...limits, cwd: root, env });
  t.match(stdout, /^no directory: cannot make the directory \/proc\/x to listen in: ENOENT/);
});

t.test('directories that somebody else makes at the same moment will do', async (t) => {
  const directory = folder(t);
  const { mkdirSync } = fs;
  const restore = (as: typeof mkdirSync) => {
    fs.mkdirSync = as;
    syncBuiltinESMExports();
  };
  restore(((path: string) => {
    mkdirSync(path);
    return mkdirSync(path);
  }) as typeof mkdirSync);
  t.teardown(() => restore(mkdirSync));
  const listener = await listen(t, join(directory, 'a', 'b', 'x.sock'));
  t.equal(listener.find(), 'ours');
});

t.test('a directory without permission is an error that says so', { skip: !isRoot && 'needs root' }, async (t) => {
  const directory = folder(t);
  chmodSync(directory, 0o755);
  const error = await asNobody(() => refusal(t, join(directory, 'x.sock')));
  t.equal(error.reason, 'not possible');
  t.match(error.message, /^cannot listen on .*x\.sock: .*EACCES/);
  t.match(error.cause, { code: 'EACCES' });
  t.same(readdirSync(directory), []);
});

t.test(
  'what may not be looked at, asked or removed is an error that says so',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const directory = folder(t);
    const path = join(directory, 'x.sock');
    const listener = await listen(t, path);
    await t.rejects(
      asNobody(() => listener.find()),
      { code: 'EACCES', message: /lstat/ },
    );
    const unseen = await asNobody(() => refusal(t, path));
    t.equal(unseen.reason, 'not possible');
    t.match(unseen.message, /^cannot listen on .*x\.sock: EACCES: permission denied, lstat/);
    listener.close();
    chmodSync(directory, 0o777);
    await leaveStale(t, path);
    chmodSync(path, 0o600);
    const unasked = await asNobody(() => refusal(t, path));
    t.equal(unasked.reason, 'not possible');
    t.match(unasked.message, /^cannot listen on .*x\.sock: connect EACCES/);
    chmodSync(directory, 0o755);
    chmodSync(path, 0o666);
    const left = await asNobody(() => refusal(t, path));
    t.equal(left.reason, 'not possible');
    t.match(left.message, /^cannot listen on .*x\.sock: EACCES: permission denied, unlink/);
    t.ok(existsSync(path));
  },
);

/** Whatever begins to listen until the end of the test has this done when the file is there, and before anything else is. */
function afterBinding(t: Test, then: (server: Server) => void): void {
  const { listen } = Server.prototype;
  t.teardown(() => {
    Server.prototype.listen = listen;
  });
  Server.prototype.listen = function (this: Server, ...args: Parameters<Server['listen']>) {
    listen.apply(this, args);
    then(this);
    return this;
  } as typeof listen;
}

t.test('the socket file is closed to others from its first moment, whatever the umask', async (t) => {
  const path = join(folder(t), 'x.sock');
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  let mode: number | undefined;
  afterBinding(t, () => {
    mode = modeOf(path);
  });
  await listen(t, path);
  t.equal(mode, 0o600);
  t.equal(process.umask(), 0, 'and the umask of the process is as before');
});

t.test('the mode is 0660 while there is no runtime', async (t) => {
  const path = join(folder(t), 'x.sock');
  const listener = await listen(t, path);
  t.equal(modeOf(path), 0o660);
  t.strictSame(listener.adoptMode(), { outcome: 'unknown' });
  t.equal(modeOf(path), 0o660);
});

t.test('owner and mode are those of the runtime as soon as it is there', async (t) => {
  const path = join(folder(t), 'x.sock');
  const listener = await listen(t, path);
  await serveOn(t, `${path}.runtime`);
  chmodSync(`${path}.runtime`, 0o606);
  if (isRoot) chownSync(`${path}.runtime`, 4711, 4712);
  const { uid, gid } = lstatSync(`${path}.runtime`);
  t.strictSame(listener.adoptMode(), { outcome: 'adopted', mode: 0o606, uid, gid });
  t.equal(modeOf(path), 0o606);
  t.match(lstatSync(path), { uid, gid });
  t.strictSame(listener.adoptMode(), { outcome: 'kept', mode: 0o606, uid, gid }, 'again, with nothing to change');
});

/** Owner and mode of a file after each system call that may change them while `run` runs. */
function statesDuring(path: string, run: () => void): Array<{ mode: number; uid: number; gid: number }> {
  const states: Array<{ mode: number; uid: number; gid: number }> = [];
  const look = () => {
    const { mode, uid, gid } = lstatSync(path);
    states.push({ mode: mode & 0o777, uid, gid });
  };
  fs.chmodSync = (...args) => {
    chmod(...args);
    look();
  };
  fs.chownSync = (...args) => {
    chown(...args);
    look();
  };
  syncBuiltinESMExports();
  try {
    look();
    run();
  } finally {
    Object.assign(fs, { chmodSync: chmod, chownSync: chown });
    syncBuiltinESMExports();
  }
  return states;
}
const { chmodSync: chmod, chownSync: chown } = fs;

t.test(
  'at no moment is the socket open to more than before and afterwards',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const path = join(folder(t), 'x.sock');
    const runtime = `${path}.runtime`;
    await serveOn(t, runtime);
    const listener = await listen(t, path);
    const owners = [
      [0, 0],
      [0, 4712],
      [4711, 0],
      [4711, 4712],
    ] as const;
    const all = owners.flatMap(([uid, gid]) => [0o600, 0o660, 0o606, 0o640].map((mode) => ({ uid, gid, mode })));
    const wider = all.flatMap((before) =>
      all.filter((after) => {
        for (const { uid, gid, mode } of [before, after]) {
          chownSync(runtime, uid, gid);
          chmodSync(runtime, mode);
          if (after === before || mode === before.mode) listener.adoptMode();
        }
        return statesDuring(path, () => listener.adoptMode()).some(({ uid, gid, mode }) => {
          const same = [before, after].filter((end) => end.gid === gid);
          const allowed = same.reduce((bits, end) => bits | (end.mode & 0o070), (before.mode | after.mode) & 0o707);
          return (mode & ~allowed) !== 0 || (uid !== before.uid && uid !== after.uid);
        });
      }),
    );
    t.strictSame(wider, []);
    t.strictSame(all.at(-1), { uid: 4711, gid: 4712, mode: modeOf(path) });
  },
);

t.test('another mode alone does not shut anybody out for a moment', async (t) => {
  const path = join(folder(t), 'x.sock');
  await serveOn(t, `${path}.runtime`);
  chmodSync(`${path}.runtime`, 0o660);
  const listener = await listen(t, path);
  chmodSync(`${path}.runtime`, 0o606);
  const modes = statesDuring(path, () => listener.adoptMode()).map(({ mode }) => mode);
  t.strictSame(modes, [0o660, 0o606]);
});

t.test('a runtime that is there first gives its mode at once', async (t) => {
  const path = join(folder(t), 'x.sock');
  await serveOn(t, `${path}.runtime`);
  chmodSync(`${path}.runtime`, 0o640);
  await listen(t, path);
  t.equal(modeOf(path), 0o640);
});

t.test('a mode that was asked for stays', async (t) => {
  const path = join(folder(t), 'x.sock');
  await serveOn(t, `${path}.runtime`);
  const listener = await listen(t, path, { mode: 0o666 });
  t.equal(listener.adoptMode().outcome, 'kept');
  t.equal(modeOf(path), 0o666);
});

t.test('a file in place of the runtime gives nothing', async (t) => {
  const path = join(folder(t), 'x.sock');
  writeFileSync(`${path}.runtime`, '', { mode: 0o644 });
  t.strictSame((await listen(t, path)).adoptMode(), { outcome: 'unknown' });
  t.equal(modeOf(path), 0o660);
});

t.test(
  'without the right to give files away the mode is adopted alone',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const directory = folder(t);
    chownSync(directory, nobody, nobody);
    const path = join(directory, 'x.sock');
    await serveOn(t, `${path}.runtime`);
    chmodSync(`${path}.runtime`, 0o600);
    const listener = await asNobody(() => listen(t, path));
    const adopt = async () => (await asNobody(() => listener.adoptMode())).outcome;
    t.equal(await adopt(), 'owner refused');
    t.equal(modeOf(path), 0o600);
    t.equal(lstatSync(path).uid, nobody);
    const { ctimeMs } = lstatSync(path);
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal(await adopt(), 'owner refused');
    t.equal(lstatSync(path).ctimeMs, ctimeMs, 'and the file is left alone from then on');
    chmodSync(`${path}.runtime`, 0o620);
    t.equal(await adopt(), 'owner refused');
    t.equal(modeOf(path), 0o620, 'but for another mode');
    chownSync(`${path}.runtime`, nobody, lstatSync(path).gid);
    t.equal(await adopt(), 'kept', 'until the runtime has the owner there is');
  },
);

t.test('close removes the socket file at once and leaves open connections alone', async (t) => {
  const path = join(folder(t), 'x.sock');
  const accepted = new Promise<Socket>(
    (onConnection) =>
      void listen(t, path, { onConnection }).then((listener) => {
        const client = connect(path);
        t.teardown(() => client.destroy());
        listener.once('connection', () => listener.close());
      }),
  );
  const downstream = await soon(accepted);
  t.teardown(() => downstream.destroy());
  t.notOk(existsSync(path));
  t.notOk(downstream.destroyed);
});

t.test('close while it begins to listen leaves nothing behind', async (t) => {
  const directory = folder(t);
  const path = join(directory, 'x.sock');
  const listener = await listen(t, path);
  rmSync(path);
  const listening = listener.listen();
  await Promise.resolve();
  t.equal(listener.find(), 'ours', 'it has begun');
  listener.close();
  await soon(listening);
  t.same(readdirSync(directory), []);
});

t.test('a socket whose file is taken away while it begins to listen is closed', async (t) => {
  const path = join(folder(t), 'x.sock');
  afterBinding(t, () => renameSync(path, `${path}.aside`));
  const error = await refusal(t, path);
  t.equal(error.reason, 'not possible');
  t.match(error.cause, { code: 'ENOENT' });
  await t.rejects(connected(`${path}.aside`), { code: 'ECONNREFUSED' });
});

t.test('after close its file is not its own any more', async (t) => {
  const path = join(folder(t), 'x.sock');
  const listener = await listen(t, path);
  linkSync(path, `${path}.kept`);
  listener.close();
  renameSync(`${path}.kept`, path);
  t.not(listener.find(), 'ours');
});

t.test('close leaves alone what has taken its place', async (t) => {
  const directory = folder(t);
  const path = join(directory, 'x.sock');
  const runtime = join(folder(t), 'runtime.sock');
  const listener = await listen(t, path, { ownerFrom: runtime });
  unlinkSync(path);
  await serveOn(t, path);
  const mode = modeOf(path);
  await serveOn(t, runtime);
  chmodSync(runtime, 0o602);
  t.strictSame(listener.adoptMode(), { outcome: 'unknown' });
  t.equal(modeOf(path), mode, "another's file keeps its mode");
  listener.close();
  (await connected(path)).destroy();
  t.same(readdirSync(directory), ['x.sock']);
});

t.test('close with the file gone, and closing again, do no harm', async (t) => {
  const path = join(folder(t), 'x.sock');
  const listener = await listen(t, path);
  unlinkSync(path);
  listener.close();
  writeFileSync(path, 'new');
  listener.close();
  t.ok(existsSync(path));
});

t.test('of two starts at once one listens and the other is refused', async (t) => {
  const path = join(folder(t), 'x.sock');
  const results = await Promise.allSettled([listen(t, path), listen(t, path)]);
  t.equal(results.filter((result) => result.status === 'fulfilled').length, 1);
  t.match(
    results.find((result) => result.status === 'rejected'),
    { reason: { reason: 'in use' } },
  );
  (await connected(path)).destroy();
});

t.test('listening again takes a new file, leaves connections open and counts for close', async (t) => {
  const directory = folder(t);
  const path = join(directory, 'x.sock');
  const arrived: Socket[] = [];
  const listener = await listen(t, path, { onConnection: (socket) => arrived.push(socket) });
  t.equal(listener.find(), 'ours');
  const first = await connected(path);
  t.teardown(() => first.destroy());
  rmSync(path);
  t.equal(listener.find(), 'gone');
  await listener.listen();
  t.equal(listener.find(), 'ours');
  const second = await connected(path);
  t.teardown(() => second.destroy());
  while (arrived.length < 2) await soon(once(listener, 'connection'));
  for (const [at, socket] of [first, second].entries()) {
    arrived[at]?.end(`answer ${at}`);
    t.equal(String((await soon(once(socket, 'data')))[0]), `answer ${at}`);
  }
  rmSync(path);
  writeFileSync(path, 'precious');
  t.equal(listener.find(), `${statSync(path).dev}:${statSync(path).ino}`);
  await t.rejects(
    listener.listen(),
    new ListenError('not a socket', `cannot listen on ${path}: it is there and not a socket; it was left alone`),
  );
  rmSync(path);
  await listener.listen();
  t.same(readdirSync(directory), ['x.sock']);
  listener.close();
  t.same(readdirSync(directory), []);
  await listener.listen();
  t.same(readdirSync(directory), [], 'and after it nothing listens again');
});

t.test('a new file is as the runtime was seen last, while there is none', async (t) => {
  const path = join(folder(t), 'x.sock');
  const runtime = await serveOn(t, `${path}.runtime`);
  chmodSync(`${path}.runtime`, 0o600);
  if (isRoot) chownSync(`${path}.runtime`, 4711, 4712);
  const { uid, gid } = lstatSync(`${path}.runtime`);
  const listener = await listen(t, path);
  runtime.close();
  rmSync(path);
  await listener.listen();
  t.equal(modeOf(path), 0o600);
  t.match(lstatSync(path), { uid, gid });
});

t.test('errors of whatever socket listens now are heard, and unheard ones end nothing', async (t) => {
  const path = join(folder(t), 'x.sock');
  const heard: Error[] = [];
  const servers: Server[] = [];
  afterBinding(t, (server) => servers.push(server));
  const listener = await listen(t, path);
  servers[0]?.emit('error', new Error('unheard'));
  listener.on('error', (error) => heard.push(error));
  rmSync(path);
  await listener.listen();
  servers[1]?.emit('error', new Error('EMFILE'));
  t.strictSame(
    heard.map(({ message }) => message),
    ['EMFILE'],
  );
});
