import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { type ListenOptions, listenOn } from '../../src/proxy/listen.js';
import { watchSocket } from '../../src/proxy/socket-watch.js';
import { asNobody, isRoot, nobody } from '../support/as-nobody.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { soon, until } from '../support/soon.js';

const modeOf = (path: string) => lstatSync(path).mode & 0o777;

async function connected(t: Test, path: string): Promise<Socket> {
  const socket = connect(path);
  t.teardown(() => socket.destroy());
  await soon(once(socket, 'connect'));
  return socket;
}

/** Says a name and ends the connection. Whoever only looks whether somebody is there leaves before it is read. */
function answer(socket: Socket, name: string): void {
  socket.on('error', () => {});
  socket.end(name);
}

/** Another process's listener. */
async function serveOn(t: Test, path: string): Promise<Server> {
  const server = createServer((socket) => answer(socket, 'another'));
  server.listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server;
}

/** Leaves the file of a socket nobody listens on at the path of a listening one, as if its process had been killed. */
async function kill(server: Server, path: string): Promise<void> {
  renameSync(path, `${path}.dead`);
  server.close();
  await soon(once(server, 'close'));
  renameSync(`${path}.dead`, path);
}

async function whoAnswers(path: string): Promise<string> {
  const socket = connect(path);
  let said = '';
  socket.on('data', (chunk) => {
    said += chunk;
  });
  await soon(once(socket, 'end'));
  return said;
}

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly path?: string;
  readonly error?: string;
  readonly mode?: string;
}

/** A watched listener that says `Holdfast` to everybody who connects; the runtime's socket is at `runtime`. */
async function watched(t: Test, options: Partial<ListenOptions> = {}) {
  const top = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(top, { recursive: true }));
  const directory = join(top, 'run');
  const path = join(directory, 'x.sock');
  const runtime = join(top, 'runtime.sock');
  const clock = new ManualClock();
  const lines: string[] = [];
  const paths = new Set<string | undefined>();
  const log = pino({ level: 'trace' }, { write: (line: string) => note(JSON.parse(line)) });
  const note = ({ level, msg, path, error, mode }: Line) => {
    const detail = error ?? mode;
    if (mode === undefined) paths.add(path);
    lines.push(`${pino.levels.labels[level]}: ${msg}${detail === undefined ? '' : ` (${detail})`}`);
  };
  const listener = await listenOn(path, {
    ownerFrom: runtime,
    onConnection: (socket) => {
      t.teardown(() => socket.destroy());
      socket.write('Holdfast');
      socket.on('data', (chunk) => socket.write(`echo ${chunk}`));
      socket.on('end', () => socket.end());
    },
    ...options,
  });
  const stop = watchSocket(listener, { clock, log });
  t.teardown(() => {
    stop();
    listener.close();
  });
  const looked = () => until(() => clock.pending > 0);
  await looked();
  return {
    directory,
    path,
    runtime,
    listener,
    stop,
    clock,
    /** Lets seconds pass one by one, each with its look. */
    async seconds(count: number): Promise<void> {
      for (let second = 0; second < count; second++) {
        await clock.advance(1_000);
        await looked();
      }
    },
    /** What the log was told since the last call, as `level: message (error or mode)`. */
    told: () => lines.splice(0),
    /** The paths that its lines name, but for those of a mode. */
    paths,
    /** A connection that was greeted, and says whether it still works. */
    async open(): Promise<() => Promise<string>> {
      const socket = await connected(t, path);
      await soon(once(socket, 'data'));
      return async () => {
        socket.write('still there?');
        return String((await soon(once(socket, 'data')))[0]);
      };
    },
    async greeting(): Promise<string> {
      const socket = await connected(t, path);
      return String((await soon(once(socket, 'data')))[0]);
    },
  };
}

const adopted = (mode: string) => `info: owner and mode of the socket file are those of the runtime now (${mode})`;
const inTheWay = (error: string) =>
  `error: another file is in place of the socket file: new connections do not come here; listening again when it is gone (${error})`;

t.test('each runtime that starts gives its owner and mode within a second, narrower ones too', async (t) => {
  const { path, runtime, seconds, told } = await watched(t);
  t.equal(modeOf(path), 0o660);
  const first = await serveOn(t, runtime);
  chmodSync(runtime, 0o666);
  await seconds(1);
  t.equal(modeOf(path), 0o666);
  first.close();
  await seconds(3);
  t.equal(modeOf(path), 0o666, 'nothing changes while there is none');
  await serveOn(t, runtime);
  chmodSync(runtime, 0o600);
  if (isRoot) chownSync(runtime, 4711, 4712);
  await seconds(1);
  t.equal(modeOf(path), 0o600);
  const { uid, gid } = lstatSync(runtime);
  t.match(lstatSync(path), { uid, gid });
  t.strictSame(told(), [adopted('0666'), adopted('0600')]);
  await seconds(3);
  t.strictSame(told(), [], 'nothing is said while nothing changes');
});

t.test('an owner that cannot be adopted is said once', { skip: !isRoot && 'needs root' }, async (t) => {
  const { path, runtime, directory, seconds, told } = await watched(t);
  const refused = (mode: string) =>
    `warn: the socket file cannot be given to the owner of the runtime; its mode is that of the runtime (${mode})`;
  await serveOn(t, runtime);
  chmodSync(runtime, 0o600);
  for (const at of [dirname(directory), directory, path]) chownSync(at, nobody, nobody);
  await asNobody(() => seconds(3));
  t.equal(modeOf(path), 0o600);
  t.strictSame(told(), [refused('0600')]);
  for (const mode of [0o640, 0o660]) {
    chmodSync(runtime, mode);
    await asNobody(() => seconds(2));
    t.strictSame(told(), [refused(`0${mode.toString(8)}`)], 'again with another mode');
  }
});

t.test('a deleted socket file is made again within a second, and open connections stay', async (t) => {
  const { path, runtime, seconds, told, open, greeting } = await watched(t);
  await serveOn(t, runtime);
  chmodSync(runtime, 0o640);
  await seconds(1);
  told();
  const ask = await open();
  rmSync(path);
  await seconds(1);
  t.equal(await greeting(), 'Holdfast');
  t.equal(await ask(), 'echo still there?');
  t.equal(modeOf(path), 0o640);
  t.strictSame(told(), ['warn: the socket file was gone; listening again']);
  await seconds(2);
  t.strictSame(told(), []);
});

t.test('its directory is made again too', async (t) => {
  const { path, directory, seconds, told, greeting } = await watched(t);
  rmSync(directory, { recursive: true });
  await seconds(1);
  t.equal(await greeting(), 'Holdfast');
  t.ok(existsSync(path));
  t.strictSame(told(), ['warn: the socket file was gone; listening again']);
});

t.test('another file in its place is said once, left alone, and waited for', async (t) => {
  const { path, seconds, told, open, greeting } = await watched(t);
  const ask = await open();
  const line = inTheWay(`cannot listen on ${path}: it is there and not a socket; it was left alone`);
  rmSync(path);
  writeFileSync(path, 'precious');
  await seconds(3);
  t.strictSame(told(), [line]);
  writeFileSync(`${path}.new`, 'another one');
  renameSync(`${path}.new`, path);
  await seconds(3);
  t.strictSame(told(), [line], 'again when it is another one');
  t.equal(readFileSync(path, 'utf8'), 'another one');
  t.equal(await ask(), 'echo still there?');
  rmSync(path);
  await seconds(1);
  t.equal(await greeting(), 'Holdfast');
  t.strictSame(told(), ['warn: the socket file was gone; listening again']);
});

t.test('its own file that comes back is its own again', async (t) => {
  const { path, seconds, told, greeting } = await watched(t);
  writeFileSync(`${path}.other`, '');
  for (let round = 0; round < 2; round++) {
    renameSync(path, `${path}.aside`);
    renameSync(`${path}.other`, path);
    await seconds(2);
    t.equal(told().length, 1, 'said each time');
    renameSync(path, `${path}.other`);
    renameSync(`${path}.aside`, path);
    await seconds(1);
    t.equal(await greeting(), 'Holdfast');
    t.strictSame(told(), []);
  }
});

t.test('somebody else who answers there keeps the path until he leaves it', async (t) => {
  const { path, seconds, told, greeting } = await watched(t);
  rmSync(path);
  const other = await serveOn(t, path);
  let asked = 0;
  other.on('connection', () => asked++);
  await seconds(10);
  t.strictSame(told(), [inTheWay(`cannot listen on ${path}: another process is listening there`)]);
  t.equal(asked, 1, 'he is not bothered every second');
  await seconds(20);
  t.ok(asked > 1);
  t.equal(await whoAnswers(path), 'another');
  t.strictSame(told(), []);
  other.close();
  await seconds(1);
  t.equal(await greeting(), 'Holdfast');
  t.strictSame(told(), ['warn: the socket file was gone; listening again']);
});

t.test('the file of somebody else who was killed is replaced within ten seconds', async (t) => {
  const { path, seconds, told, greeting } = await watched(t);
  rmSync(path);
  const other = await serveOn(t, path);
  await seconds(1);
  told();
  await kill(other, path);
  await seconds(10);
  t.equal(await greeting(), 'Holdfast');
  t.strictSame(told(), ['warn: a dead socket was in place of the socket file; listening again']);
});

t.test('a dead socket in the place of somebody who answered is replaced within a second', async (t) => {
  const { path, seconds, told, greeting } = await watched(t);
  rmSync(path);
  await serveOn(t, path);
  await seconds(1);
  told();
  await kill(await serveOn(t, `${path}.next`), `${path}.next`);
  renameSync(`${path}.next`, path);
  await seconds(1);
  t.equal(await greeting(), 'Holdfast');
  t.strictSame(told(), ['warn: a dead socket was in place of the socket file; listening again']);
});

t.test('of two for one path the one that answers stays, and the other one takes over after it', async (t) => {
  const first = await watched(t);
  const { path } = first;
  rmSync(path);
  const second = await listenOn(path, { ownerFrom: first.runtime, onConnection: (socket) => answer(socket, 'second') });
  t.teardown(() => second.close());
  const stop = watchSocket(second, { clock: first.clock, log: pino({ level: 'silent' }) });
  t.teardown(stop);
  for (let round = 0; round < 3; round++) {
    await first.seconds(10);
    t.equal(await whoAnswers(path), 'second');
  }
  stop();
  second.close();
  await first.seconds(1);
  t.equal(await first.greeting(), 'Holdfast');
});

t.test('what makes listening again impossible is said once a kind, and tried again each second', async (t) => {
  const { path, directory, seconds, told, greeting, paths } = await watched(t);
  const gone = (error: string) =>
    `error: the socket file is gone: new connections are not possible; trying every second (${error})`;
  rmSync(directory, { recursive: true });
  writeFileSync(directory, '');
  await seconds(3);
  const line = gone(`cannot make the directory ${directory} to listen in: ${directory} is there and not a directory`);
  t.strictSame(told(), [line]);
  rmSync(directory, { recursive: true });
  await seconds(1);
  t.equal(await greeting(), 'Holdfast');
  t.ok(existsSync(path));
  t.strictSame(told(), ['warn: the socket file was gone; listening again']);
  rmSync(directory, { recursive: true });
  writeFileSync(directory, '');
  await seconds(2);
  t.strictSame(told(), [line], 'anew once it had been possible');
  t.strictSame([...paths], [path]);
});

t.test(
  'without the right to write there or to look it is said once each, until there is',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const { path, directory, seconds, told, greeting } = await watched(t);
    chmodSync(dirname(directory), 0o755);
    rmSync(path);
    await asNobody(() => seconds(3));
    t.match(told(), [/^error: the socket file is gone: .*EACCES/]);
    chmodSync(directory, 0o700);
    await asNobody(() => seconds(3));
    t.match(told(), [/^error: the socket file cannot be looked at .*EACCES/]);
    chmodSync(directory, 0o777);
    await asNobody(() => seconds(1));
    t.equal(await greeting(), 'Holdfast');
    t.strictSame(told(), ['warn: the socket file was gone; listening again']);
  },
);

t.test('what goes wrong in a look that was stopped in the middle is not told', async (t) => {
  const { path, listener, stop, clock, told } = await watched(t);
  rmSync(path);
  await serveOn(t, path);
  const listen = listener.listen.bind(listener);
  let looking: Promise<void> | undefined;
  // While it looks whether somebody answers there.
  listener.listen = () => {
    looking = listen();
    stop();
    return looking;
  };
  await clock.advance(1_000);
  await t.rejects(soon(looking ?? Promise.resolve()), { message: /another process is listening there/ });
  await settle();
  t.strictSame(told(), []);
  t.equal(clock.pending, 0);
});

t.test('nothing listens again once it has been closed, not even in the middle of a look', async (t) => {
  const { path, listener, stop, clock, told } = await watched(t);
  rmSync(path);
  await kill(await serveOn(t, path), path);
  const listen = listener.listen.bind(listener);
  // While it looks whether somebody answers there.
  listener.listen = () => {
    const listening = listen();
    stop();
    listener.close();
    return listening;
  };
  await clock.advance(1_000);
  for (let turn = 0; turn < 20; turn++) await settle();
  t.notOk(existsSync(path));
  t.strictSame(told(), []);
  t.equal(clock.pending, 0);
});
