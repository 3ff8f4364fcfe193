import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type InstallOptions, install } from '../../src/install/install.js';
import { marks } from '../../src/install/revert-script.js';
import { uninstall, usualUninstallStages } from '../../src/install/uninstall.js';
import { type FakeNode, installedNode, kubeletConfig, kubeletUnit, running } from './fake-node.js';

const options: InstallOptions = {
  platform: 'kubeadm',
  runtime: undefined,
  kubeletUnit: undefined,
  acceptUnsupported: false,
  stages: ['switch'],
  node: undefined,
  program: undefined,
  units: undefined,
  confirmWithinMs: 20_000,
  retryAfterMs: 0,
  config: undefined,
};
const file = '/var/lib/kubelet/config.yaml';
const ours = `${kubeletConfig}containerRuntimeEndpoint: unix:///run/holdfast/holdfast.sock\n`;

/** Holdfast is there and the kubelet is not behind it; a restart of it is a new run. */
async function ready(t: Test): Promise<FakeNode> {
  const node = await installedNode(t);
  node.write(file, kubeletConfig);
  node.states.set('holdfast-revert.timer', { ActiveState: 'active' });
  let starts = 0;
  node.onCommand = (command) => {
    if (command.startsWith('systemctl --no-block restart kubelet.service')) {
      starts += 1;
      node.states.set('kubelet.service', { ...running, InvocationID: `run ${starts}` });
    }
    // The script does with the fake node's files what it would do with a node's.
    if (command.startsWith('/bin/sh')) {
      const env = { ...process.env, HOLDFAST_ROOT: node.folder };
      execFileSync('/bin/sh', ['-c', `systemctl() { :; }; . ${node.folder}${marks.script}`], { env });
    }
  };
  return node;
}

const doInstall = (node: FakeNode, more: Partial<InstallOptions> = {}) =>
  install(node.machine, node.steps, { ...options, ...more }, node.asks);
const doUninstall = (node: FakeNode) =>
  uninstall(
    node.machine,
    node.steps,
    { stages: usualUninstallStages, runtime: undefined, kubeletUnit: undefined, healthyWithinMs: 5_000 },
    async () => node.healthz,
  );

t.test('a kubelet that does well is confirmed, and nothing is left that would take it back', async (t) => {
  const node = await ready(t);
  await doInstall(node);
  t.equal(node.read(file), ours);
  t.match(node.output, /confirmed/);
  for (const mark of [marks.unconfirmed, marks.script, '/etc/systemd/system/holdfast-revert.service'])
    t.notOk(node.files.has(mark), mark);
  const armed = node.ran.findIndex((command) => command.startsWith('systemd-run --on-active=20s'));
  t.ok(armed >= 0 && armed < node.ran.indexOf('systemctl --no-block restart kubelet.service'));
});

const troubles: [what: string, said: RegExp, trouble: (node: FakeNode) => void][] = [
  ['whose lists do not come', /no list of the kubelet/, (node) => (node.lists = () => 3)],
  ['of which Holdfast does not tell', /does not tell its calls/, (node) => (node.lists = () => undefined)],
];
for (const [what, said, trouble] of troubles) {
  t.test(`a kubelet ${what} is taken back`, async (t) => {
    const node = await ready(t);
    trouble(node);
    await t.rejects(doInstall(node), { name: 'RevertedError', message: said });
    t.equal(node.read(file), kubeletConfig);
    t.ok(node.files.has(marks.reverted));
  });
}

t.test('nothing is changed where there would be no way back', async (t) => {
  const node = await ready(t);
  node.states.delete('holdfast-revert.timer');
  await t.rejects(doInstall(node), { name: 'Refusal', message: /cannot be armed/ });
  t.equal(node.read(file), kubeletConfig);
  t.notOk(node.files.has(marks.unconfirmed));
});

t.test('nothing is changed where Holdfast does not answer, or is bypassed, or the kubelet is not well', async (t) => {
  for (const [breakIt, message] of [
    [(node: FakeNode) => node.answering.delete('/run/holdfast/holdfast.sock'), /does not answer/],
    [(node: FakeNode) => node.write('/run/holdfast/bypassed', 'now why'), /bypassed: now why/],
    [(node: FakeNode) => (node.healthz = 'no'), /not well as it is/],
  ] as const) {
    const node = await ready(t);
    breakIt(node);
    await t.rejects(doInstall(node), { name: 'Refusal', message });
    t.equal(node.read(file), kubeletConfig);
  }
});

t.test('uninstalled, the file is as it was, and what somebody added stays', async (t) => {
  for (const added of ['', 'podPidsLimit: 9\n']) {
    const node = await ready(t);
    await doInstall(node);
    node.write(file, node.read(file) + added);
    await doUninstall(node);
    t.equal(node.read(file), kubeletConfig + added);
    t.notOk(node.files.has('/opt/holdfast'));
  }
});

t.test('uninstalled without its record, the kubelet gets the runtime of the configuration', async (t) => {
  const node = await ready(t);
  node.write(file, ours);
  await doUninstall(node);
  t.match(node.read(file), /containerRuntimeEndpoint: unix:\/\/\/run\/containerd\/containerd.sock\n/);
});

t.test('units are not removed while the kubelet is told to use their socket', async (t) => {
  const node = await ready(t);
  await doInstall(node);
  node.units.set(
    'kubelet.service',
    `${kubeletUnit.trimEnd()} --container-runtime-endpoint=/run/holdfast/holdfast.sock\n`,
  );
  await t.rejects(doUninstall(node), { name: 'Refusal', message: /still told/ });
  t.ok(node.files.has('/etc/systemd/system/holdfast.socket'));
});

for (const [id, remedy] of [
  ['talos', /leave Talos/],
  ['bottlerocket', /leave Bottlerocket/],
  ['cos', /--accept-unsupported/],
] as const) {
  t.test(`${id} is refused with what to do instead`, async (t) => {
    const node = await ready(t);
    node.write('/etc/os-release', `NAME=x\nID=${id}\n`);
    await t.rejects(doInstall(node), { name: 'Refusal', remedy });
  });
}

t.test('a switch that was taken back is not tried again too soon, and no kubelet is restarted', async (t) => {
  const node = await ready(t);
  // The node's time of day is 03:04:05.
  node.write(marks.reverted, '2026-01-02T02:34:06Z\n');
  await t.rejects(doInstall(node, { retryAfterMs: 1_800_000 }), {
    name: 'Refusal',
    message: /taken back at 2026-01-02T02:34:06Z and is not tried again before 2026-01-02T03:04:06.000Z/,
  });
  t.notOk(node.ran.some((command) => command.includes('restart')));
  await doInstall(node, { retryAfterMs: 1_799_000 });
  t.equal(node.read(file), ours);
});

t.test('a given configuration takes the place of an installed one, and not of one that somebody changed', async (t) => {
  const node = await ready(t);
  rmSync(`${node.folder}/etc/holdfast.yaml`);
  const given = `${node.folder}/given.yaml`;
  const program = `${node.folder}/program`;
  writeFileSync(program, '');
  const artifacts = () => doInstall(node, { stages: ['artifacts'], config: given, node: program, program });
  writeFileSync(given, 'hold-ttl: 5m\n');
  await artifacts();
  t.equal(node.read('/etc/holdfast.yaml'), 'runtime: /run/containerd/containerd.sock\nhold-ttl: 5m\n');
  writeFileSync(given, 'hold-ttl: 6m\nruntime: /run/other.sock\n');
  await artifacts();
  t.equal(node.read('/etc/holdfast.yaml'), 'hold-ttl: 6m\nruntime: /run/containerd/containerd.sock\n');
  node.write('/etc/holdfast.yaml', 'runtime: /run/containerd/containerd.sock\nhold-ttl: 7m\n');
  await artifacts();
  t.match(node.read('/etc/holdfast.yaml'), /hold-ttl: 7m/);
  t.match(node.output, /which is kept; .*given.yaml differs in/);
  writeFileSync(given, '- a list\n');
  await t.rejects(artifacts(), { name: 'Refusal', message: /not a configuration/ });
});
