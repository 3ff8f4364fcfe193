/** A whole Holdfast: its socket file while the runtime is restarted and somebody tidies up, and what is left when it ends. */
import { once } from 'node:events';
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { defaults } from '../../src/config/defaults.js';
import { version } from '../../src/config/version.js';
import { startHoldfast } from '../../src/proxy/holdfast.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { Rig } from '../support/rig.js';

const isRoot = process.geteuid?.() === 0;
const lookMs = 1_000;
const adopted = 'owner and mode of the socket file are those of the runtime now';

t.test('a runtime that comes back with a narrower mode, or another owner, gives them to the socket', async (t) => {
  const rig = await Rig.start(t);
  const modeOf = (path: string) => lstatSync(path).mode & 0o777;
  const adoptions = async (count: number) => {
    await rig.clock.advance(lookMs);
    await rig.logged(({ msg }) => msg === adopted, count);
  };
  chmodSync(rig.config.runtime, 0o666);
  await adoptions(1);
  t.equal(modeOf(rig.config.listen), 0o666);
  await rig.runtime.kill();
  await rig.runtime.listen();
  chmodSync(rig.config.runtime, 0o600);
  if (isRoot) chownSync(rig.config.runtime, 4711, 4712);
  await adoptions(2);
  t.equal(modeOf(rig.config.listen), 0o600);
  const { uid, gid } = lstatSync(rig.config.runtime);
  t.match(lstatSync(rig.config.listen), { uid, gid });
});

t.test('a deleted socket file is made again within a second, and who is connected stays', async (t) => {
  const rig = await Rig.start(t);
  await rig.client.call('Version');
  rmSync(rig.config.listen);
  await rig.clock.advance(lookMs);
  await rig.logged(({ msg }) => msg === 'the socket file was gone; listening again');
  const newcomer = rig.anotherClient();
  t.teardown(() => newcomer.close());
  t.equal((await newcomer.call('Version')).version, '0.1.0');
  t.equal((await rig.client.call('Version')).version, '0.1.0');
  t.equal(rig.lines.filter(({ msg }) => msg === 'connection opened').length, 2);
});

t.test('the socket has the mode that is asked for, whatever the runtime’s has', async (t) => {
  const rig = await Rig.start(t, { config: { socketMode: 0o640 } });
  t.equal(lstatSync(rig.config.listen).mode & 0o777, 0o640);
});

t.test('a connection that cannot be accepted is said, and ends nothing', async (t) => {
  const servers: Server[] = [];
  const note = (server: Server) => servers.push(server);
  const listening = Server.prototype.listen;
  t.teardown(() => {
    Server.prototype.listen = listening;
  });
  Server.prototype.listen = function (this: Server, ...args: Parameters<Server['listen']>) {
    note(this);
    return listening.apply(this, args);
  } as typeof listening;
  const rig = await Rig.start(t, { runtimeUp: false });
  servers[0]?.emit('error', new Error('accept EMFILE'));
  t.match(
    rig.lines.filter(({ msg }) => msg === 'accept failed'),
    [{ level: 50, error: 'Error: accept EMFILE' }],
  );
});

/** Paths in a folder of its own, a clock, and what is logged; nothing listens. */
function scene(t: Test) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  const clock = new ManualClock();
  const config = {
    ...defaults,
    listen: path.join(directory, 'holdfast.sock'),
    runtime: path.join(directory, 'runtime.sock'),
  };
  return { lines, log, clock, config };
}

t.test('where it cannot listen it says why, and leaves the runtime alone', async (t) => {
  const { lines, log, clock, config } = scene(t);
  writeFileSync(config.listen, 'not a socket');
  const connected: Socket[] = [];
  const runtime = createServer((socket) => connected.push(socket.on('error', () => {}).resume())).listen(
    config.runtime,
  );
  t.teardown(() => runtime.close());
  await once(runtime, 'listening');
  await t.rejects(startHoldfast(config, { log, clock }), { name: 'ListenError' });
  for (let turn = 0; turn < 20; turn++) await settle();
  t.ok(connected.every(({ readableEnded, destroyed }) => readableEnded || destroyed));
  t.same(lines, []);
  t.equal(clock.pending, 0);
});

t.test('where it cannot listen it does not go on looking for a runtime', async (t) => {
  const { lines, log, clock, config } = scene(t);
  mkdirSync(config.listen);
  await t.rejects(startHoldfast(config, { log, clock }), { name: 'ListenError' });
  for (let turn = 0; turn < 20; turn++) await settle();
  t.same(lines, []);
  t.equal(clock.pending, 0);
});

t.test('where a socket was passed that cannot be used, it makes none of its own', async (t) => {
  const { log, clock, config } = scene(t);
  const passed = { descriptor: 99_999, path: config.listen };
  await t.rejects(startHoldfast(config, { log, clock, passed }), {
    message: /^cannot use the socket that was passed: /,
  });
  t.equal(lstatSync(config.listen, { throwIfNoEntry: false }), undefined);
  t.equal(clock.pending, 0);
});

t.test('when it ends, nobody looks for a runtime that is not there or speaks of it', async (t) => {
  const rig = await Rig.start(t, { runtimeUp: false });
  await rig.logged(({ msg }) => msg === 'the runtime is not there: calls wait for it');
  await rig.holdfast?.close();
  t.equal(rig.clock.pending, 0);
});

t.test('when it ends, its own connections to the runtime do too', async (t) => {
  const { log, clock, config } = scene(t);
  const connected: Promise<unknown>[] = [];
  const runtime = createServer((socket) => {
    connected.push(once(socket.on('error', () => {}).resume(), 'close'));
  }).listen(config.runtime);
  t.teardown(() => runtime.close());
  await once(runtime, 'listening');
  const holdfast = await startHoldfast(config, { log, clock });
  while (connected.length === 0) await settle();
  await holdfast.close();
  await Promise.all(connected);
  t.equal(clock.pending, 0);
});

t.test('connections, the runtime and the program are in the metrics', async (t) => {
  const rig = await Rig.start(t, { runtimeUp: false });
  const read = async (series: string) =>
    (await rig.metrics.registry.metrics()).split('\n').find((line) => line.startsWith(`${series} `));
  t.equal(await read('holdfast_upstream_up'), 'holdfast_upstream_up 1', 'nothing is known yet');
  t.equal(await read('holdfast_connections{peer="downstream"}'), 'holdfast_connections{peer="downstream"} 0');
  const asked = rig.client.call('Version');
  await rig.logged(({ msg }) => msg === 'the runtime is not there: calls wait for it');
  t.equal(await read('holdfast_upstream_up'), 'holdfast_upstream_up 0');
  await rig.runtime.listen();
  while ((await read('holdfast_upstream_up')) !== 'holdfast_upstream_up 1') {
    await rig.clock.advance(100);
    await settle();
  }
  await asked;
  t.equal(await read('holdfast_connections{peer="downstream"}'), 'holdfast_connections{peer="downstream"} 1');
  t.match(await read('holdfast_connections{peer="upstream"}'), / [1-9]$/, "the client's, and Holdfast's own");
  t.match(await rig.metrics.registry.metrics(), `holdfast_build_info{version="${version}",node_version="`);
});

t.test('whether the runtime answers is told to who asks, and how many are connected', async (t) => {
  const rig = await Rig.start(t);
  t.equal(rig.holdfast?.connections, 0);
  await rig.client.call('Version');
  t.equal(rig.holdfast?.connections, 1);
  t.same(await rig.holdfast?.runtimeHealth(), { answers: true });
  await rig.runtime.kill();
  await rig.logged(({ msg }) => msg === 'the runtime is not there: calls wait for it');
  await rig.clock.advance(3_000);
  t.match(await rig.holdfast?.runtimeHealth(), { answers: false, why: /is not there: nobody .* for 3 s$/ });
});

t.test('what is under way is told to who looks in', async (t) => {
  const rig = await Rig.start(t);
  const hold = rig.runtime.hold('runPodSandbox');
  const asked = rig.podSandbox(rig.pod());
  await hold.arrived();
  t.match(rig.holdfast?.inspection.creations(false).creations, [{ kind: 'podSandbox', state: 'running' }]);
  hold.release();
  await asked;
});

t.test('what is oldest is in the metrics', async (t) => {
  const rig = await Rig.start(t);
  const hold = rig.runtime.hold('runPodSandbox');
  const asked = rig.podSandbox(rig.pod());
  await hold.arrived();
  await rig.clock.advance(3_000);
  const series = 'holdfast_oldest_creation_age_seconds{kind="podSandbox",stage="running"}';
  t.match(await rig.metrics.registry.metrics(), `${series} 3\n`);
  hold.release();
  await asked;
});
