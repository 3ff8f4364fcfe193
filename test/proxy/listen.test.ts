import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ListenError, type ListenOptions, listenOn, type SocketListener } from '../../src/proxy/listen.js';

const isRoot = process.geteuid?.() === 0;
const nobody = 65_534;

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

async function listen(t: Test, path: string, options?: Partial<ListenOptions>): Promise<SocketListener> {
  const listener = await listenOn(path, { ownerFrom: `${path}.runtime`, ...options });
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
  await once(server, 'close');
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
  await once(socket, 'connect');
  return socket;
}

t.test('connections arrive half open, and the first of them is not missed', async (t) => {
  const path = join(folder(t), 'x.sock');
  const arrived = new Promise<Socket>(
    (onConnection) => void listen(t, path, { onConnection }).then(() => connect(path).end('request')),
  );
  const downstream = await arrived;
  t.teardown(() => downstream.destroy());
  downstream.resume();
  await once(downstream, 'end');
  t.ok(downstream.writable, 'the end of the request leaves the answer possible');
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
  const [downstream] = await accepted;
  t.ok(downstream, 'the new listener gets what connects');
  downstream.destroy();
});

t.test('a socket somebody answers on is refused and goes on working', async (t) => {
  const path = join(folder(t), 'x.sock');
  await serveOn(t, path);
  const error = await refusal(t, path);
  t.equal(error.reason, 'in use');
  t.equal(error.message, `cannot listen on ${path}: another process is listening there`);
  (await connected(path)).destroy();
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
  t.match(error.message, `cannot make the directory ${file}/sub to listen in: `);
});

t.test('a directory without permission is an error that says so', { skip: !isRoot && 'needs root' }, async (t) => {
  const directory = folder(t);
  chmodSync(directory, 0o755);
  process.seteuid?.(nobody);
  const error = await refusal(t, join(directory, 'x.sock')).finally(() => process.seteuid?.(0));
  t.equal(error.reason, 'not possible');
  t.match(error.message, /^cannot listen on .*x\.sock: .*EACCES/);
  t.same(readdirSync(directory), []);
});

t.test('the socket file is closed to others from its first moment, whatever the umask', async (t) => {
  const path = join(folder(t), 'x.sock');
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  const opening = listen(t, path);
  // Nothing was there to probe, so the file exists as soon as the promise callbacks that are ready have run.
  await Promise.resolve();
  t.equal(modeOf(path), 0o600);
  t.equal(process.umask(), 0, 'and the umask of the process is as before');
  await opening;
});

t.test('the mode is 0660 while there is no runtime', async (t) => {
  const path = join(folder(t), 'x.sock');
  const listener = await listen(t, path);
  t.equal(modeOf(path), 0o660);
  t.equal(listener.adoptMode(), 'unknown');
  t.equal(modeOf(path), 0o660);
});

t.test('owner and mode are those of the runtime as soon as it is there', async (t) => {
  const path = join(folder(t), 'x.sock');
  const listener = await listen(t, path);
  await serveOn(t, `${path}.runtime`);
  chmodSync(`${path}.runtime`, 0o606);
  if (isRoot) chownSync(`${path}.runtime`, 4711, 4712);
  t.equal(listener.adoptMode(), 'adopted');
  t.equal(modeOf(path), 0o606);
  const { uid, gid } = lstatSync(`${path}.runtime`);
  t.match(lstatSync(path), { uid, gid });
  t.equal(listener.adoptMode(), 'adopted', 'again, with nothing to change');
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
  t.equal(listener.adoptMode(), 'adopted');
  t.equal(modeOf(path), 0o666);
});

t.test('a file in place of the runtime gives nothing', async (t) => {
  const path = join(folder(t), 'x.sock');
  writeFileSync(`${path}.runtime`, '', { mode: 0o644 });
  t.equal((await listen(t, path)).adoptMode(), 'unknown');
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
    process.seteuid?.(nobody);
    t.teardown(() => process.seteuid?.(0));
    const listener = await listen(t, path);
    t.equal(listener.adoptMode(), 'owner refused');
    t.equal(modeOf(path), 0o600);
    t.equal(lstatSync(path).uid, nobody);
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
  const downstream = await accepted;
  t.teardown(() => downstream.destroy());
  t.notOk(existsSync(path));
  t.notOk(downstream.destroyed);
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
  t.equal(listener.adoptMode(), 'unknown');
  t.equal(modeOf(path), mode, "another's file keeps its mode");
  listener.close();
  await once(listener, 'close');
  (await connected(path)).destroy();
  t.same(readdirSync(directory), ['x.sock']);
});

t.test('close with the file gone, and closing again, do no harm', async (t) => {
  const path = join(folder(t), 'x.sock');
  const listener = await listen(t, path);
  unlinkSync(path);
  listener.close();
  await once(listener, 'close');
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
