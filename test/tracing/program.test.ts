/** The program with `--otlp` and without: what it loads, what it sends, and how it ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Metadata } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import { CriClient, KubeletPod } from '../support/cri-client.js';
import { Collector } from './collector.js';

const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));
const traceId = 'a'.repeat(32);

/**
 * Runs a pod sandbox through the program, in a trace, and ends it.
 *
 * @returns The files of packages that it loaded, how it ended, and how long that took, in ms.
 */
async function run(t: Test, ...options: string[]) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hf-'));
  const coverage = path.join(directory, 'coverage');
  const listen = path.join(directory, 'holdfast.sock');
  const runtime = new SimulatedRuntime({ socketPath: path.join(directory, 'runtime.sock') });
  const client = new CriClient(listen);
  t.teardown(async () => {
    client.close();
    await runtime.close();
    rmSync(directory, { recursive: true, force: true });
  });
  await runtime.listen();
  const args = [executable, 'serve', '--listen', listen, '--runtime', runtime.socketPath, '--drain-timeout=3s'];
  // V8 writes down every script it has run.
  const env = { ...process.env, NODE_V8_COVERAGE: coverage, NODE_OPTIONS: '' };
  const holdfast = spawn(process.execPath, [...args, ...options], { stdio: ['ignore', 'ignore', 'inherit'], env });
  t.teardown(() => holdfast.kill('SIGKILL'));
  await client.waitForReady(20_000);
  const metadata = new Metadata();
  metadata.set('traceparent', `00-${traceId}-${'b'.repeat(16)}-01`);
  await client.call('RunPodSandbox', new KubeletPod({ directory, uid: 'uid-1' }).runPodSandboxRequest(), { metadata });
  const [asked] = runtime.received.filter(({ method }) => method === 'RunPodSandbox');
  client.close();
  const exit = once(holdfast, 'exit');
  const beganMs = Date.now();
  holdfast.kill('SIGTERM');
  const [code] = await exit;
  const tookMs = Date.now() - beganMs;
  return { code, tookMs, loaded: packagesIn(coverage), traceparent: asked?.metadata.get('traceparent') };
}

function packagesIn(coverage: string): readonly string[] {
  const scripts = readdirSync(coverage).flatMap((name) => {
    const { result }: { result: { url: string }[] } = JSON.parse(readFileSync(path.join(coverage, name), 'utf8'));
    return result.map(({ url }) => url);
  });
  const packages = scripts.map((url) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1]);
  return [...new Set(packages)].filter((name) => name !== undefined).sort();
}

/** prom-client brings the API, which is small, for exemplars. */
const ofTelemetry = (name: string) => name.startsWith('@opentelemetry/') && name !== '@opentelemetry/api';

t.test(
  'without --otlp nothing that makes spans is loaded, and a call’s trace goes to the runtime as it came',
  async (t) => {
    const { code, loaded, traceparent } = await run(t);
    t.equal(code, 0);
    t.ok(loaded.includes('pino'), 'what is loaded is seen');
    t.strictSame(loaded.filter(ofTelemetry), []);
    t.strictSame(traceparent, [`00-${traceId}-${'b'.repeat(16)}-01`]);
  },
);

t.test('with --otlp spans reach the collector, the last ones at the end', async (t) => {
  const collector = await Collector.start(t);
  const { code, loaded, traceparent } = await run(t, `--otlp=${new URL(collector.url).origin}`);
  t.equal(code, 0);
  t.ok(loaded.some(ofTelemetry));
  const [creation] = collector.spans.filter(({ name }) => name === 'holdfast.RunPodSandbox');
  t.match(creation, { traceId, attributes: { 'k8s.pod.uid': 'uid-1' } });
  t.strictSame(traceparent, [`00-${traceId}-${creation?.spanId}-01`]);
});

t.test('a collector that takes connections and says nothing does not keep it from ending', async (t) => {
  const mute: Server = createServer(() => {}).listen(0, '127.0.0.1');
  await once(mute, 'listening');
  t.teardown(() => mute.close());
  const address = mute.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const { code, tookMs } = await run(t, `--otlp=http://127.0.0.1:${address.port}`);
  t.equal(code, 0);
  t.ok(tookMs < 9_000, `${tookMs} ms, and not the 10 s that a batch may take`);
});
