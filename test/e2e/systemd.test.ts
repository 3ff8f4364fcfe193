/**
 * The units of examples/systemd under a real systemd: what a crash, a crash loop, a hang and an upgrade of Holdfast cost the clients of
 * its socket. HOLDFAST_TEST_KILLS says how often it is killed (default 8), each time in the middle of a storm of pods.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { KubeletLike } from '../../src/harness/kubelet/kubelet-like.js';
import { CriClient } from '../support/cri-client.js';
import { images, skipReason as skipContainerd, startContainerd } from './support/containerd.js';
import { buildGrpcGo, type CallerSeen, GoCaller, missingGrpcGo } from './support/grpc-go.js';
import { accepts } from './support/holdfast.js';
import { skipFor } from './support/programs.js';
import {
  inside,
  machineTmp,
  missingSystemd,
  nodeInside,
  repositoryInside,
  type Systemd,
  startSystemd,
} from './support/systemd.js';
import { until } from './support/until.js';

t.setTimeout(900_000);

const skip = skipFor(missingSystemd() ?? missingGrpcGo());
const units = fileURLToPath(new URL('../../examples/systemd', import.meta.url));
const simulatedRuntime = new URL('../../dist/harness/simulated-runtime.js', import.meta.url);
const socket = '/run/holdfast/holdfast.sock';
const launcher = '/opt/holdfast/bin/holdfast';
const marker = '/run/holdfast/bypassed';
const service = 'holdfast.service';
const bypass = 'holdfast-bypass.service';
const kills = Number(process.env.HOLDFAST_TEST_KILLS ?? 8);
/** For how long the client waits for a connection to be served. */
const connectWindowMs = 5_000;
/** Without the limit of three starts a minute, and without what takes a busy machine for a hung process. */
const patient = { [`${service}.d/50-test.conf`]: '[Unit]\nStartLimitIntervalSec=0\n[Service]\nWatchdogSec=0\n' };

interface Node {
  readonly systemd: Systemd;
  /** Holdfast's socket, from outside. */
  readonly socket: string;
  caller(): Promise<GoCaller>;
}

/** Makes the program that the unit starts. */
function install(systemd: Systemd, runs = `exec ${nodeInside} ${repositoryInside}/dist/holdfast.mjs "$@"`) {
  systemd.writeFile(`${launcher}.new`, `#!/bin/sh\n${runs}\n`, 0o755);
  fs.renameSync(systemd.path(`${launcher}.new`), systemd.path(launcher));
}

/**
 * A systemd with the units, Holdfast running.
 *
 * @param dropIns By the names of their files.
 * @param runtime Path of its socket, from inside; its directory may be one of the machine.
 */
async function startNode(
  t: Test,
  dropIns: Readonly<Record<string, string>>,
  runtime = `${inside}/r.sock`,
): Promise<Node> {
  const systemd = await startSystemd(t);
  for (const name of fs.readdirSync(units)) systemd.writeUnit(name, fs.readFileSync(path.join(units, name), 'utf8'));
  for (const [name, text] of Object.entries(dropIns)) systemd.writeUnit(name, text);
  systemd.writeFile('/etc/holdfast.yaml', `runtime: unix://${runtime}\ndrain-timeout: 3s\n`);
  install(systemd);
  await systemd.systemctl('daemon-reload');
  t.teardown(() => {
    if (!t.passing()) t.comment(`end of the services' output:\n${systemd.output().split('\n').slice(-40).join('\n')}`);
  });
  const program = await buildGrpcGo(systemd.directory);
  const outside = systemd.path(socket);
  return { systemd, socket: outside, caller: () => GoCaller.start(t, program, outside) };
}

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

async function start({ systemd }: Node): Promise<void> {
  await systemd.systemctl('start', 'holdfast.socket', service);
}

const isActive = (systemd: Systemd, unit: string) =>
  systemd.systemctl('is-active', unit).then(
    () => true,
    () => false,
  );

async function kill(systemd: Systemd, signal: NodeJS.Signals): Promise<void> {
  const pid = await until('the service runs', () => systemd.mainPid(service));
  process.kill(pid, signal);
}

/** When Holdfast has said that it serves, in ms as Date.now(). */
function servingTimes(systemd: Systemd): number[] {
  return systemd
    .output()
    .split('\n')
    .filter((line) => line.includes('"msg":"serving"'))
    .map((line) => Date.parse(/"time":"([^"]+)"/.exec(line)?.[1] ?? ''));
}

/** Kills it again and again while pods come up, and compares what that cost with what the starts took. */
async function stormOfKills(t: Test, node: Node, runtimeSocket: string, plan: StormPlan): Promise<void> {
  const { systemd } = node;
  const caller = await node.caller();
  await caller.seen();
  const logs = path.join(systemd.directory, 'pods');
  const kubelet = new KubeletLike({
    socketPath: node.socket,
    podLogsDirectory: logs,
    pods: Array.from({ length: plan.pods }, (_, n) => ({
      name: `web-${n}`,
      namespace: 'default',
      arriveMs: n * 10,
    })),
    requestTimeoutMs: 120_000,
    backoffMs: [1_000, 1_500],
    relistMs: 500,
    ...(plan.imageName === undefined ? {} : { imageName: plan.imageName }),
    ...(plan.cgroupParent === undefined ? {} : { podDefaults: { cgroupParent: plan.cgroupParent } }),
  });
  const over = AbortSignal.timeout(600_000);
  const running = kubelet.run(over);
  const starts: number[] = [];
  for (let n = 0; n < plan.kills; n++) {
    await delay(plan.everyMs);
    const served = servingTimes(systemd).length;
    const killedMs = Date.now();
    await kill(systemd, 'SIGKILL');
    const again = await until('it serves again', () => servingTimes(systemd)[served], 60_000);
    starts.push(again - killedMs);
  }
  const histories = await running;
  const seen = await caller.seen();
  const slowest = Math.max(...starts);
  t.comment(
    `${plan.kills} kills: ${seen.answers} answers, ${seen.failed.length} failed calls, ${seen.failedDials} of ${seen.dials} dials ` +
      `failed, longest time without an answer ${seen.longestMs} ms; start-up ${Math.min(...starts)} to ${slowest} ms`,
  );
  t.equal(seen.failedDials, 0, 'no dial fails');
  const texts = seen.failed.map(({ text }) => text);
  const inFlight = texts.filter((text) => text === 'transport is closing');
  t.ok(inFlight.length <= plan.kills, 'of each kill fails at most the call in flight');
  // On a machine that is that busy; a kubelet is no more patient.
  const isSlow = slowest >= connectWindowMs;
  t.ok(isSlow || texts.length === inFlight.length, `and no other where a start is waited for: ${texts}`);
  t.ok(seen.longestMs <= 2 * slowest + 500, 'without an answer is only who waits for the start');
  t.notOk(over.aborted, 'all pods came up');
  t.equal(histories.length, plan.pods);

  const runtime = new CriClient(runtimeSocket);
  t.teardown(() => runtime.close());
  const { items } = await runtime.call('ListPodSandbox');
  const { containers } = await runtime.call('ListContainers');
  const ready = items.filter(({ state }) => state === 'SANDBOX_READY').map(({ metadata }) => metadata.uid);
  const run = containers
    .filter(({ state }) => state === 'CONTAINER_RUNNING')
    .map(({ labels }) => labels['io.kubernetes.pod.uid'] ?? '');
  const pods = histories.map(({ uid }) => uid).sort();
  t.strictSame(ready.sort(), pods, 'each pod has one pod sandbox');
  t.strictSame(run.sort(), pods, 'and one container, which runs');
  await kubelet.removeAll(AbortSignal.timeout(60_000));
  t.strictSame(await runtime.call('ListPodSandbox'), { items: [] }, 'and nothing is left of them');
  t.strictSame(await runtime.call('ListContainers'), { containers: [] });
}

interface StormPlan {
  readonly pods: number;
  readonly kills: number;
  /** From when it serves until it is killed. */
  readonly everyMs: number;
  readonly imageName?: string;
  readonly cgroupParent?: string;
}

t.test('a crash in a storm of 100 pods costs one call', { skip }, async (t) => {
  const node = await startNode(t, patient);
  const runtime = await startRuntime(t, node.systemd);
  await start(node);
  await stormOfKills(t, node, runtime.socket, { pods: 100, kills, everyMs: 500 });
  t.equal(await node.systemd.show(service, 'NRestarts'), String(kills));
});

t.test('a crash loop leads to the bypass, and the timer back', { skip }, async (t) => {
  const node = await startNode(t, {
    [`${service}.d/50-test.conf`]: '[Unit]\nStartLimitIntervalSec=8\n[Service]\nWatchdogSec=0\n',
    'holdfast-retry.timer.d/50-test.conf': '[Timer]\nOnActiveSec=\nOnActiveSec=9s\nOnUnitInactiveSec=1s\n',
  });
  const { systemd } = node;
  const runtime = await startRuntime(t, systemd);
  await start(node);
  const caller = await node.caller();
  await caller.seen();
  install(systemd, 'exit 1');
  const killedMs = Date.now();
  await kill(systemd, 'SIGKILL');
  await until('the bypass runs', () => isActive(systemd, bypass));
  const tookMs = Date.now() - killedMs;
  const looped = await untilAnswered(caller);
  t.comment(`bypassed after ${tookMs} ms`, looped);
  const [, time = '', why] = /^(\S+) (.+)\n$/.exec(fs.readFileSync(systemd.path(marker), 'utf8')) ?? [];
  t.ok(Math.abs(Date.parse(time) - killedMs) < 60_000, 'the marker says since when');
  t.equal(why, 'holdfast.service failed: exit-code, exited 1', 'and why');
  t.ok(await isActive(systemd, 'holdfast-retry.timer'));

  await until('it has been tried again in vain', () =>
    systemd.log.some((line) => line.includes('holdfast-retry.service')),
  );
  t.ok(await isActive(systemd, bypass), 'what cannot say its version is not tried');
  await caller.seen();
  install(systemd);
  await until('Holdfast is back', () => isActive(systemd, service), 60_000);
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

/** Waits for the next answer. @returns What came of the calls until then, since it was asked last. */
async function untilAnswered(caller: GoCaller): Promise<Pick<CallerSeen, 'failed' | 'failedDials' | 'longestMs'>> {
  const all: CallerSeen[] = [];
  await until(
    'calls are answered',
    async () => {
      const seen = await caller.seen();
      all.push(seen);
      return seen.answers > 0;
    },
    60_000,
  );
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
  await until('it says that the runtime is silent', frozen, 30_000);
  await delay(6_500);
  runtime.process.kill('SIGCONT');
  await untilAnswered(caller);
  t.equal(await systemd.mainPid(service), pid, 'it lived longer than the watchdog waits');

  const serving = async () => (await systemd.show(service, 'StatusText')) === 'serving';
  await until('it says that the runtime answers', serving, 30_000);
  await caller.seen();
  const stoppedMs = Date.now();
  process.kill(pid, 'SIGSTOP');
  const after = await until(
    'another process runs',
    async () => {
      const other = await systemd.mainPid(service);
      return other !== 0 && other !== pid && other;
    },
    60_000,
  );
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
  await until('the next call starts it again', () => isActive(systemd, service), 60_000);
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

t.test('a crash costs one call with pods on a real containerd', { skip: skip || skipContainerd }, async (t) => {
  const containerd = await startContainerd(t);
  const node = await startNode(t, patient, containerd.socket.replace(/^\/tmp\//, `${machineTmp}/`));
  await start(node);
  const { cgroupParent } = containerd;
  const plan = { pods: 10, kills, everyMs: 300, imageName: images.busybox };
  await stormOfKills(t, node, containerd.socket, { ...plan, cgroupParent: `${cgroupParent}/storm` });
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
