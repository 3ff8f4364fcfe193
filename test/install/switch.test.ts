import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type InstallOptions, install } from '../../src/install/install.js';
import { marks } from '../../src/install/revert-script.js';
import { uninstall, usualUninstallStages } from '../../src/install/uninstall.js';
import { containerd, type FakeNode, installedNode, kubeletConfig, kubeletUnit, running } from './fake-node.js';

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
      const stubs = 'systemctl() { :; }; sleep() { :; }';
      execFileSync('/bin/sh', ['-c', `${stubs}; . ${node.folder}${marks.script}`], { env });
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

const losses: [what: string, said: RegExp, lose: (node: FakeNode) => void][] = [
  ['is bypassed', /bypassed: now why/, (node) => node.write('/run/holdfast/bypassed', 'now why')],
  [
    'has failed',
    /holdfast.service has failed \(exit-code\)/,
    (node) => node.states.set('holdfast.service', { ...running, ActiveState: 'failed', Result: 'exit-code' }),
  ],
  [
    'has lost its socket',
    /holdfast.socket is failed: nobody listens/,
    (node) => node.states.set('holdfast.socket', { ActiveState: 'failed', LoadState: 'loaded' }),
  ],
];
for (const [what, said, lose] of losses) {
  t.test(`a kubelet is taken back as soon as Holdfast ${what}, not when the time is over`, async (t) => {
    const node = await ready(t);
    const go = node.onCommand;
    node.onCommand = (command) => {
      go(command);
      if (command.startsWith('systemctl --no-block restart')) lose(node);
    };
    await t.rejects(doInstall(node, { confirmWithinMs: 600_000 }), { name: 'RevertedError', message: said });
    t.equal(node.read(file), kubeletConfig);
    t.ok(node.nowMs < 10_000, `after ${node.nowMs} ms`);
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

/** Runs the script as the timer would, once and while a command is under way. */
function timerFires(node: FakeNode, during: string): void {
  const go = node.onCommand;
  let isOver = false;
  node.onCommand = (command) => {
    if (!isOver && command.startsWith(during)) {
      isOver = true;
      go('/bin/sh');
    }
    go(command);
  };
}

t.test('a time that is over before the files are changed leaves them as they are', async (t) => {
  const node = await ready(t);
  timerFires(node, 'systemctl show holdfast-revert.timer');
  await t.rejects(doInstall(node), { name: 'RevertedError', message: /the time to confirm it was over/ });
  t.equal(node.read(file), kubeletConfig);
  t.notOk(node.files.has(marks.unconfirmed));
});

t.test('what was changed after the timer had fired is taken back, too', async (t) => {
  const node = await ready(t);
  const go = node.onCommand;
  node.onCommand = (command) => {
    go(command);
    if (!command.startsWith('systemctl --no-block restart')) return;
    node.onCommand = go;
    go('/bin/sh');
    // The installer was on its way when the timer fired.
    node.write(file, ours);
  };
  await t.rejects(doInstall(node), { name: 'RevertedError' });
  t.equal(node.read(file), kubeletConfig);
});

t.test('a switch that was interrupted halfway is begun anew, and all of it can be taken back', async (t) => {
  const node = await ready(t);
  const instance = '/var/lib/kubelet/instance-config.yaml';
  const theirs = `containerRuntimeEndpoint: unix://${containerd}\n`;
  node.write(instance, theirs);
  node.write(file, kubeletConfig + theirs);
  const go = node.onCommand;
  // As where the process was killed after the first of the files.
  node.onCommand = (command) => {
    if (!command.startsWith('systemctl --no-block restart')) return;
    node.write(file, kubeletConfig + theirs);
    throw new Error('killed');
  };
  node.failing.set('/bin/sh', { code: 1, stdout: '', stderr: '' });
  await t.rejects(doInstall(node));
  t.match(node.read(instance), /holdfast/);
  node.failing.clear();
  node.onCommand = go;
  await doInstall(node);
  t.match(node.read(instance), /holdfast/);
  t.match(node.read(file), /holdfast/);
  await doUninstall(node);
  t.equal(node.read(instance), theirs);
  t.equal(node.read(file), kubeletConfig + theirs);
});

t.test('a file that cannot be put back is no success, and stays to be put back', async (t) => {
  const node = await ready(t);
  node.lists = () => 3;
  const go = node.onCommand;
  node.onCommand = (command) => {
    if (!command.startsWith('/bin/sh')) return go(command);
    // As on a disk that is full.
    mkdirSync(`${node.folder}${file}.holdfast-revert`, { recursive: true });
    try {
      go(command);
    } catch {
      node.failing.set('/bin/sh', { code: 1, stdout: 'could not be put back', stderr: '' });
    }
  };
  await t.rejects(doInstall(node), { name: 'RevertedError', message: /could not be taken back/ });
  t.ok(node.files.has(marks.reverting));
  t.notOk(node.files.has(marks.reverted));
  t.ok(node.files.has(marks.script));

  rmSync(`${node.folder}${file}.holdfast-revert`, { recursive: true });
  node.failing.clear();
  node.onCommand = go;
  node.lists = () => node.nowMs;
  await doInstall(node);
  t.equal(node.read(file), ours);
  t.notOk(node.files.has(marks.reverting));
});

t.test('a configuration that is a link stays one when it is taken back', async (t) => {
  const node = await ready(t);
  node.lists = () => 3;
  node.write('/etc/kubelet/real.yaml', kubeletConfig);
  rmSync(node.folder + file);
  symlinkSync('../../../etc/kubelet/real.yaml', node.folder + file);
  await t.rejects(doInstall(node), { name: 'RevertedError' });
  t.equal(node.read('/etc/kubelet/real.yaml'), kubeletConfig);
  t.equal(node.files.linkTarget(file), '../../../etc/kubelet/real.yaml');
});

t.test('one installs at a time', async (t) => {
  const node = await ready(t);
  const first = doInstall(node);
  const message = /another holdfast install or uninstall is at work/;
  await t.rejects(doInstall(node), { name: 'Refusal', message });
  await t.rejects(doUninstall(node), { name: 'Refusal', message });
  await first;
  t.equal(node.read(file), ours);
  await doUninstall(node);
});

t.test('a kubelet is not sent to another runtime than its own', async (t) => {
  for (const [theirs, more] of [
    ['/run/crio/crio.sock', {}],
    ['/run/crio/crio.sock', { runtime: containerd }],
  ] as const) {
    const node = await ready(t);
    const config = `${kubeletConfig}containerRuntimeEndpoint: unix://${theirs}\n`;
    node.write(file, config);
    await t.rejects(doInstall(node, more), {
      name: 'Refusal',
      message: /uses \/run\/crio\/crio.sock .*pods would be lost/,
    });
    t.equal(node.read(file), config);
  }
  const node = await ready(t);
  node.write(file, `${kubeletConfig}containerRuntimeEndpoint: unix:///run/link.sock\n`);
  symlinkSync('containerd/containerd.sock', `${node.folder}/run/link.sock`);
  await doInstall(node);
  t.equal(node.read(file), ours, 'one socket by two names is one runtime');
});

t.test(
  'an uninstall that was interrupted before the kubelet was restarted restarts it, and only then goes on',
  async (t) => {
    const node = await ready(t);
    await doInstall(node);
    node.failing.set('systemctl --no-block restart', { code: 1, stdout: '', stderr: 'killed' });
    await t.rejects(doUninstall(node));
    t.equal(node.read(file), kubeletConfig);
    node.failing.clear();
    node.ran.length = 0;
    const units = uninstall(
      node.machine,
      node.steps,
      { stages: ['units'], runtime: undefined, kubeletUnit: undefined, healthyWithinMs: 5_000 },
      async () => node.healthz,
    );
    await t.rejects(units, { name: 'Refusal', message: /has not been started since/ });
    t.ok(node.files.has('/etc/systemd/system/holdfast.socket'));
    await doUninstall(node);
    const restarted = node.ran.indexOf('systemctl --no-block restart kubelet.service');
    t.ok(
      restarted >= 0 && restarted < node.ran.findIndex((command) => command.startsWith('systemctl stop holdfast.s')),
    );
  },
);

t.test('units are not removed while the kubelet runs with a flag that its unit does not say', async (t) => {
  const node = await installedNode(t);
  node.write(file, kubeletConfig);
  node.states.set('kubelet.service', { ...running, MainPID: '77' });
  node.write('/proc/77/cmdline', 'kubelet\0--container-runtime-endpoint=unix:///run/holdfast/holdfast.sock\0');
  await t.rejects(doUninstall(node), { name: 'Refusal', message: /runs with --container-runtime-endpoint/ });
  t.ok(node.files.has('/etc/systemd/system/holdfast.socket'));
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
  await t.rejects(doInstall(node, { stages: ['artifacts'], config: '/dev/zero', node: program, program }), {
    name: 'Refusal',
    message: '--config: /dev/zero is not a regular file',
  });
  await t.rejects(doInstall(node, { stages: ['artifacts'], node: program, program: `${program}.not` }), {
    name: 'Refusal',
    message: /^--program: cannot read .*program.not: ENOENT/,
  });
  writeFileSync(given, '- a list\n');
  await t.rejects(artifacts(), { name: 'Refusal', message: /not a configuration/ });
});
