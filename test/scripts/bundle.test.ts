import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Metadata } from '@grpc/grpc-js';
import t from 'tap';
import { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import { CriClient, KubeletPod } from '../support/cri-client.js';
import { Collector } from '../tracing/collector.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));
const folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'hfbundle-')));
t.teardown(() => rmSync(folder, { recursive: true }));

async function bundled(name: string): Promise<string> {
  const output = path.join(folder, name);
  await run(process.execPath, ['--import=tsx', 'scripts/bundle.ts', output], { cwd: root });
  return output;
}

const [one, other] = await Promise.all([bundled('one'), bundled('other')]);
// They wait for other processes.
t.jobs = 2;
const empty = path.join(folder, 'empty');
mkdirSync(empty);
const program = path.join(empty, 'holdfast.mjs');
copyFileSync(path.join(one, 'holdfast.mjs'), program);
const holdfast = (...args: string[]) => run(process.execPath, [program, ...args], { cwd: empty });

t.test('two builds are the same bytes', async (t) => {
  const files = readdirSync(one);
  t.strictSame(files, ['holdfast.LICENSES.txt', 'holdfast.mjs']);
  for (const file of files) {
    t.ok(readFileSync(path.join(one, file)).equals(readFileSync(path.join(other, file))), file);
  }
});

t.test('it names no folder of the machine that built it, and has no character beyond ASCII', async (t) => {
  const text = readFileSync(program, 'latin1');
  t.notOk(text.includes(root));
  t.notMatch(text, /[^\0-\x7f]/);
});

t.test('every package in it comes with its licence', async (t) => {
  const licences = readFileSync(path.join(one, 'holdfast.LICENSES.txt'), 'utf8');
  for (const name of [
    '@grpc/grpc-js',
    '@opentelemetry/sdk-trace',
    'lru-cache',
    'p-limit',
    'pino',
    'prom-client',
    'protobufjs',
    'yaml',
    'yargs',
  ]) {
    t.ok(licences.includes(`\n${name} `) || licences.startsWith(`${name} `), name);
  }
  t.match(licences, /^protobufjs [\d.]+: BSD-3-Clause\n\n[\s\S]+Daniel Wirtz/m);
  for (const part of licences.split(`\n${'-'.repeat(80)}\n\n`)) {
    t.match(part, /^\S+ \d+\.\d+\.\d+[^:]*: \S+.*\n\n[\s\S]{200}/, part.slice(0, 60));
  }
});

t.test('alone in an empty folder it runs pods through a Holdfast that it starts itself', async (t) => {
  const { stdout } = await holdfast('bench', '--scenario=steady', '--pods=2', '--arms=holdfast');
  t.match(stdout, /holdfast/);
  t.strictSame(readdirSync(empty), ['holdfast.mjs']);
});

t.test('alone in an empty folder it sends spans', async (t) => {
  const collector = await Collector.start(t);
  const runtime = new SimulatedRuntime({ socketPath: path.join(folder, 'runtime.sock') });
  await runtime.listen();
  const listen = path.join(folder, 'holdfast.sock');
  const client = new CriClient(listen);
  const args = ['serve', '--listen', listen, '--runtime', runtime.socketPath, '--otlp', collector.url];
  const served = spawn(process.execPath, [program, ...args], { cwd: empty, stdio: ['ignore', 'ignore', 'inherit'] });
  t.teardown(async () => {
    served.kill('SIGKILL');
    client.close();
    await runtime.close();
  });
  await client.waitForReady(20_000);
  const metadata = new Metadata();
  metadata.set('traceparent', `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`);
  const pod = new KubeletPod({ directory: folder, uid: 'uid-1' });
  await client.call('RunPodSandbox', pod.runPodSandboxRequest(), { metadata });
  client.close();
  const exit = once(served, 'exit');
  served.kill('SIGTERM');
  t.same(await exit, [0, null]);
  t.match(await collector.named('holdfast.RunPodSandbox'), [{ traceId: 'a'.repeat(32) }]);
});

t.test('alone in an empty folder it says its version, helps, and refuses', async (t) => {
  const { version }: { version: string } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
  t.equal((await holdfast('--version')).stdout, `${version}\n`);
  t.match((await holdfast('serve', '--help')).stdout, /--listen/);
  t.match((await holdfast('bench', '--help')).stdout, /Scenarios: boot-storm, .*steady/s);
  await t.rejects(holdfast('serve'), { code: 2, stderr: /^holdfast: --listen is missing/ });
  await t.rejects(holdfast('serve', '--config=absent.yaml'), { code: 2, stderr: /^holdfast: --config: cannot read/ });
});
