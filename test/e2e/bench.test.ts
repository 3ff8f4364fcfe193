/** `holdfast bench` with real pods on a real containerd. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { Report } from '../../src/harness/report-data.js';
import { images, type RealContainerd, skipReason as skip, startContainerd } from './support/containerd.js';
import { until } from './support/until.js';

const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A kubelet that waits for 1 s, for a sandbox for 2 s, and tries again after 2 to 3 s. */
const scenario = `
description: The CNI plugin takes longer than the kubelet waits for a pod sandbox
pods: 3
watch: 15s
kubelet:
  request-timeout: 1s
  backoff: { least: 2s, longest: 3s }
`;

class Bench {
  readonly temporary: string;
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;

  constructor(test: Test, containerd: RealContainerd, ...args: string[]) {
    const { directory, socket } = containerd;
    this.temporary = fs.mkdtempSync(path.join(directory, 't'));
    const file = path.join(directory, 'late-cni.yaml');
    fs.writeFileSync(file, scenario);
    this.process = spawn(
      process.execPath,
      [executable, 'bench', `--scenario=${file}`, `--runtime=unix://${socket}`, ...args],
      { env: { ...process.env, TMPDIR: this.temporary }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    test.teardown(() => this.process.kill('SIGKILL'));
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      this.process[name]?.on('data', (chunk: Buffer) => {
        output[name] += chunk;
      });
    }
    this.ended = once(this.process, 'close').then(([code]) => ({ code, ...output }));
  }

  get leftFiles(): string[] {
    return fs.readdirSync(this.temporary);
  }
}

async function nothingIsLeft(t: Test, containerd: RealContainerd): Promise<void> {
  t.strictSame(await containerd.client.call('ListPodSandbox'), { items: [] });
  t.strictSame(await containerd.client.call('ListContainers'), { containers: [] });
  t.strictSame(cgroups(), []);
}

/** Those of runs of the bench, in any hierarchy. */
function cgroups(): string[] {
  const root = '/sys/fs/cgroup';
  return fs
    .readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => [name, ...fs.readdirSync(path.join(root, name))])
    .filter((name) => name.startsWith('holdfast_bench'));
}

t.test('a slow CNI plugin: never straight from containerd, and once through Holdfast', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  containerd.setCniDelay(4);
  const json = path.join(containerd.directory, 'out.json');
  const bench = new Bench(t, containerd, '--yes-this-node', `--json=${json}`);
  const { code, stdout, stderr } = await bench.ended;
  t.equal(code, 0, stderr);
  t.comment(stdout);
  const report: Report = JSON.parse(fs.readFileSync(json, 'utf8'));
  t.match(report, { scenario: 'late-cni', pods: 3, runtime: /^containerd / });
  const [direct, holdfast] = report.arms;
  t.match(direct, { name: 'direct', converged: false, leftOvers: 0, holdfast: null });
  t.ok((direct?.creationsPerPod ?? 0) >= 2, 'straight, each sandbox was begun more than once');
  t.match(holdfast, {
    name: 'holdfast',
    converged: true,
    creationsPerPod: 1,
    restarts: 0,
    duplicatesAlive: 0,
    leftOvers: 0,
  });
  await nothingIsLeft(t, containerd);
  t.strictSame(bench.leftFiles, []);
});

t.test('after Ctrl-C half way nothing is left', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  // The sandboxes of some pods are there, those of others are being made.
  containerd.setCniDelay(1);
  const bench = new Bench(t, containerd, '--yes-this-node', '--pods=6', '--arms=holdfast');
  await until('pods come up', async () => (await containerd.client.call('ListPodSandbox')).items.length > 0);
  bench.process.kill('SIGINT');
  const { code, stderr } = await bench.ended;
  t.equal(code, 130, stderr);
  await nothingIsLeft(t, containerd);
  t.strictSame(bench.leftFiles, []);
});

t.test('what a killed run has left is removed by the next one, and nothing else', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const foreign = containerd.pod({ name: 'foreign' });
  const { pod_sandbox_id } = await containerd.client.call('RunPodSandbox', foreign.runPodSandboxRequest());
  const killed = new Bench(t, containerd, '--yes-this-node', '--arms=direct');
  const ids = async () => (await containerd.client.call('ListPodSandbox')).items.map(({ id }) => id);
  await until('pods come up', async () => (await ids()).length > 1);
  killed.process.kill('SIGKILL');
  await killed.ended;
  t.ok((await ids()).length > 1);
  t.not(cgroups().length, 0);
  const next = new Bench(t, containerd, '--yes-this-node', '--arms=direct', `--image=${images.pause}`);
  const { code, stderr } = await next.ended;
  t.equal(code, 0, stderr);
  t.strictSame(await ids(), [pod_sandbox_id]);
  t.strictSame(cgroups(), []);
});

t.test('a runtime with the pods of a kubelet is refused', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  await containerd.client.call('RunPodSandbox', containerd.pod({ name: 'web-0' }).runPodSandboxRequest());
  const { code, stdout, stderr } = await new Bench(t, containerd).ended;
  t.equal(code, 2);
  t.equal(stdout, '');
  t.match(stderr, /^holdfast: --runtime: a kubelet may be using [^\n]*; give --yes-this-node [^\n]*\n$/);
  t.match(stderr, /process \d+ is a kubelet|it has a pod of a kubelet, default\/web-0/);
});

t.test('an image that is not there, and arms that are simulated, are refused', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const noImage = await new Bench(t, containerd, '--yes-this-node', '--image=docker.io/local/none:1').ended;
  t.match(noImage, { code: 2, stderr: /the image docker\.io\/local\/none:1 is not on this node/ });
  const simulated = await new Bench(t, containerd, '--yes-this-node', '--arms=direct,crio-store').ended;
  t.match(simulated, { code: 2, stderr: /--arms: crio-store is simulated/ });
});
