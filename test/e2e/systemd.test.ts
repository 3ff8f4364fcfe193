/**
 * The units of examples/systemd under a real systemd: what a crash, a crash loop, a hang and an upgrade of Holdfast cost the clients of
 * its socket. HOLDFAST_TEST_KILLS says how often it is killed (default 8), each time in the middle of a storm of pods.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type CallerSeen, type GoCaller, missingGrpcGo } from './support/grpc-go.js';
import { accepts } from './support/holdfast.js';
import { skipFor } from './support/programs.js';
import { inside, missingSystemd, type Systemd } from './support/systemd.js';
import { kills, stormOfKills } from './support/systemd-storm.js';
import { install, kill, patient, service, start, startNode, units } from './support/systemd-units.js';
import { until } from './support/until.js';

t.setTimeout(900_000);
// They wait more than they work.
t.jobs = 3;

const skip = skipFor(missingSystemd() ?? missingGrpcGo());
const simulatedRuntime = new URL('../../dist/harness/simulated-runtime.js', import.meta.url);
const marker = '/run/holdfast/bypassed';
const bypass = 'holdfast-bypass.service';

/** In a process of its own, so that it can be frozen; its socket is where nodes look for it. */
async function startRuntime(t: Test, { directory }: Systemd): Promise<{ process: ChildProcess; socket: string }> {
  const socketPath = path.join(directory, 'r.sock');
  const options = { socketPath, runPodSandboxMs: 300, createContainerMs: 100, startContainerMs: 100 };
  const script = `const { SimulatedRuntime } = await import(${JSON.stringify(simulatedRuntime.href)});
    await new SimulatedRuntime(${JSON.stringify(options)}).listen();`;
  const runtime = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, '--input-type=module', '-e', script], {
    stdio: 'inherit',
  });
  t.teardown(() => runtime.kill('SIGKILL'));
  await until('the runtime listens', () => accepts(socketPath));
  return { process: runtime, socket: socketPath };
}

const isActive = (systemd: Systemd, unit: string) =>
  systemd.systemctl('is-active', unit).then(
    () => true,
    () => false,
  );

t.test('a crash in a storm of 100 pods costs one call', { skip }, async (t) => {
  const node = await startNode(t, patient);
  const runtime = await startRuntime(t, node.systemd);
  await start(node);
  await stormOfKills(t, node, runtime.socket, { pods: 100, kills, everyMs: 500 });
  t.equal(await node.systemd.show(service, 'NRestarts'), String(kills));
});

t.test('a crash loop leads to the bypass, and the timer back', { skip }, async (t) => {
  const node = await startNode(t, {
    [`${service}.d/50-test.conf`]: '[Service]\nWatchdogSec=0\n',
    'holdfast-retry.timer.d/50-test.conf': '[Timer]\nOnActiveSec=\nOnActiveSec=4s\nOnUnitInactiveSec=1s\n',
  });
  const { systemd } = node;
  const runtime = await startRuntime(t, systemd);
  await start(node);
  const caller = await node.caller();
  await caller.seen();
  const bypassedFrom = async (what: string, atMs: number) => {
    await until('the bypass runs', () => isActive(systemd, bypass));
    const tookMs = Date.now() - atMs;
    t.comment(`${what}: bypassed after ${tookMs} ms`);
    await costs(t, caller, what);
  };
  install(systemd, 'exit 1');
  const killedMs = Date.now();
  await kill(systemd, 'SIGKILL');
  await bypassedFrom('a crash loop', killedMs);
  const [, time = '', why] = /^(\S+) (.+)\n$/.exec(fs.readFileSync(systemd.path(marker), 'utf8')) ?? [];
  t.ok(Math.abs(Date.parse(time) - killedMs) < 60_000, 'the marker says since when');
  t.equal(why, 'holdfast.service failed: exit-code, exited 1', 'and why');
  t.equal(await systemd.show(service, 'ActiveState'), 'failed', 'by which install tells it from a bypass by hand');
  t.ok(await isActive(systemd, 'holdfast-retry.timer'));

  const startedMs = Date.now();
  await systemd.systemctl('start', service).catch(() => {});
  await bypassedFrom('started by hand, and still broken', startedMs);
  await systemd.systemctl('reset-failed', service);
  await node.caller();
  t.ok(await isActive(systemd, bypass), 'who forgets the failure leaves the bypass and its socket as they are');

  await until('it has been tried again in vain', () =>
    systemd.log.some((line) => line.includes('holdfast-retry.service')),
  );
  t.ok(await isActive(systemd, bypass), 'what cannot read its configuration is not tried');
  await caller.seen();
  install(systemd);
  await until('Holdfast is back', () => isActive(systemd, service));
  await delay(200);
  const back = await untilAnswered(caller);
  t.comment('back from the bypass', back);
  t.ok(back.failed.length <= 1, 'at most one call fails');
  t.equal(back.failedDials, 0);
  t.notOk(await isActive(systemd, bypass));
  t.notOk(await isActive(systemd, 'holdfast-retry.timer'));
  t.notOk(fs.existsSync(systemd.path(marker)));
  t.ok(runtime.process.exitCode === null);
});

t.test(
  'a configuration that is not understood costs no call, and is tried only once it is mended',
  { skip },
  async (t) => {
    const node = await startNode(t, {
      [`${service}.d/50-test.conf`]: '[Service]\nWatchdogSec=0\n',
      'holdfast-retry.timer.d/50-test.conf': '[Timer]\nOnActiveSec=\nOnActiveSec=500ms\nOnUnitInactiveSec=500ms\n',
    });
    const { systemd } = node;
    await startRuntime(t, systemd);
    await start(node);
    const caller = await node.caller();
    await caller.seen();
    const config = fs.readFileSync(systemd.path('/etc/holdfast.yaml'), 'utf8');
    systemd.writeFile('/etc/holdfast.yaml', `${config}hold-tttl: 5m\n`);
    await t.rejects(systemd.systemctl('restart', service), /failed because the control process exited/);
    await until('the bypass runs', () => isActive(systemd, bypass));
    await costs(t, caller, 'not understood', 0);
    t.match(fs.readFileSync(systemd.path(marker), 'utf8'), / failed: exit-code, exited 2\n$/);
    const refusals = () => systemd.output().split('unknown key "hold-tttl"').length - 1;
    // By the start, and by the looks of the timer.
    await until('it has been looked at again and again', () => refusals() >= 3);
    t.ok(await isActive(systemd, bypass));
    t.equal((await caller.seen()).dials, 0, 'who is connected stays connected');
    systemd.writeFile('/etc/holdfast.yaml', config);
    await until('Holdfast is back', () => isActive(systemd, service));
    t.same((await untilAnswered(caller)).failedDials, 0);
  },
);

/** For how long a client waits for a connection to be served; a machine that is that busy costs calls. */
const connectWindowMs = 5_000;

/** Waits for the next answer, and looks at what came of the calls since it was asked last: of those in flight so many may have failed. */
async function costs(t: Test, caller: GoCaller, what: string, mayFail = 1): Promise<void> {
  const before = await caller.seen();
  const after = await untilAnswered(caller);
  const failed = [...before.failed, ...after.failed].map(({ text }) => text);
  const longestMs = Math.max(before.longestMs, after.longestMs);
  t.comment(`${what}: ${longestMs} ms without an answer; failed: ${failed.slice(0, 10).join(', ')}`);
  const inFlight = failed.filter((text) => text === 'transport is closing');
  t.ok(inFlight.length <= mayFail, `${what}: at most ${mayFail} of the calls in flight fail`);
  t.ok(longestMs >= connectWindowMs || failed.length === inFlight.length, 'and no other');
  t.equal(before.failedDials + after.failedDials, 0, 'no dial fails');
}

/** Waits for the next answer. @returns What came of the calls until then, since it was asked last. */
async function untilAnswered(caller: GoCaller): Promise<Pick<CallerSeen, 'failed' | 'failedDials' | 'longestMs'>> {
  const all: CallerSeen[] = [];
  await until('calls are answered', async () => {
    const seen = await caller.seen();
    all.push(seen);
    return seen.answers > 0;
  });
  return {
    failed: all.flatMap(({ failed }) => failed),
    failedDials: all.reduce((sum, { failedDials }) => sum + failedDials, 0),
    longestMs: Math.max(...all.map(({ longestMs }) => longestMs)),
  };
}

t.test('what hangs is ended by the watchdog, and a frozen runtime costs nothing', { skip }, async (t) => {
  const node = await startNode(t, { [`${service}.d/50-test.conf`]: '[Service]\nWatchdogSec=6\n' });
  const { systemd } = node;
  const runtime = await startRuntime(t, systemd);
  await start(node);
  const caller = await node.caller();
  const pid = await systemd.mainPid(service);
  runtime.process.kill('SIGSTOP');
  const frozen = async () => (await systemd.show(service, 'StatusText')).includes('the runtime does not answer');
  await until('it says that the runtime is silent', frozen);
  await delay(6_500);
  runtime.process.kill('SIGCONT');
  await untilAnswered(caller);
  t.equal(await systemd.mainPid(service), pid, 'it lived longer than the watchdog waits');

  const serving = async () => (await systemd.show(service, 'StatusText')) === 'serving';
  await until('it says that the runtime answers', serving);
  await caller.seen();
  const stoppedMs = Date.now();
  process.kill(pid, 'SIGSTOP');
  const after = await until('another process runs', async () => {
    const other = await systemd.mainPid(service);
    return other !== 0 && other !== pid && other;
  });
  await untilAnswered(caller);
  t.comment(`back ${Date.now() - stoppedMs} ms after it hung, with a watchdog of 6 s`);
  t.not(after, pid);
  t.equal(await systemd.show(service, 'NRestarts'), '1');
});

t.test('an upgrade and a stop cost no call', { skip }, async (t) => {
  const node = await startNode(t, patient);
  const { systemd } = node;
  await startRuntime(t, systemd);
  await start(node);
  const caller = await node.caller();
  await caller.seen();
  await systemd.systemctl('restart', service);
  const { failed, failedDials, longestMs } = await untilAnswered(caller);
  t.comment(`restarted: ${longestMs} ms without an answer`);
  t.same({ failed, failedDials }, { failed: [], failedDials: 0 });

  await systemd.systemctl('stop', service);
  await until('the next call starts it again', () => isActive(systemd, service));
  await untilAnswered(caller);

  await systemd.systemctl('start', bypass);
  await untilAnswered(caller);
  t.notOk(await isActive(systemd, service));
  t.match(fs.readFileSync(systemd.path(marker), 'utf8'), / started by hand\n$/);
  t.notOk(await isActive(systemd, 'holdfast-retry.timer'), 'who chose the bypass keeps it');
  await systemd.systemctl('start', service);
  await untilAnswered(caller);
  t.notOk(fs.existsSync(systemd.path(marker)));
});

t.test('systemd finds nothing wrong with the units, and little that they expose', { skip }, async (t) => {
  const { systemd } = await startNode(t, {});
  const names = fs.readdirSync(units);
  const files = names.map((name) => `${inside}/units/${name}`);
  const complaints = await systemd.run('sh', '-c', `systemd-analyze verify ${files.join(' ')} 2>&1`);
  // RestartMode= is of systemd 254.
  t.same(
    complaints.split('\n').filter((line) => line !== '' && !line.includes("Unknown key 'RestartMode'")),
    [],
  );
  for (const name of names.filter((name) => name.endsWith('.service'))) {
    const said = await systemd.run('systemd-analyze', 'security', '--offline=true', `${inside}/units/${name}`);
    const [, exposure] = /exposure level for \S+: ([\d.]+)/.exec(said) ?? [];
    t.comment(`${name}: ${exposure}`);
    t.ok(Number(exposure) <= 2.5, `${name} exposes ${exposure}`);
  }
});
