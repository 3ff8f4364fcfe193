import { chmodSync } from 'node:fs';
import t, { type Test } from 'tap';
import { check } from '../../src/check/check.js';
import { shownFindings } from '../../src/check/finding.js';
import { containerd, FakeNode, installedNode, kubeletConfig, kubeletUnit, running } from '../install/fake-node.js';

const nothing = { runtime: undefined, kubeletUnit: undefined };
const find = async (node: FakeNode) => check(node.machine, nothing, node.asks);

t.test('a node on which all is well has nothing to do', async (t) => {
  const found = await find(await installedNode(t));
  t.same(
    found.filter(({ level }) => level !== 'ok'),
    [],
  );
  t.match(shownFindings(found), /√ all is well\n$/);
  t.ok(found.length > 15);
});

t.test('a node on which Holdfast is not installed yet has only that to do', async (t) => {
  const node = new FakeNode(t, { '/var/lib/kubelet/config.yaml': kubeletConfig });
  node.units.set('kubelet.service', kubeletUnit);
  node.states.set('kubelet.service', running);
  node.answering.add(containerd);
  const found = await find(node);
  t.match(
    found.filter(({ level }) => level !== 'ok'),
    [{ name: 'installed', level: 'warn', remedy: 'holdfast install' }],
  );
});

const set = (node: FakeNode, unit: string, state: Record<string, string>) =>
  node.states.set(unit, { ...running, ...node.states.get(unit), ...state });

const broken: [
  what: string,
  name: string,
  level: 'warn' | 'fail',
  remedy: RegExp,
  breakIt: (node: FakeNode, t: Test) => unknown,
][] = [
  ['a runtime that is not up', 'runtime-version', 'fail', /start it/, (node) => node.answering.clear()],
  [
    'a program that does not run',
    'program',
    'fail',
    /install --stage artifacts/,
    (node) => node.failing.set('/opt/holdfast/bin/holdfast', { code: 127, stdout: '', stderr: 'not found' }),
  ],
  [
    'a Node that is too old',
    'program',
    'fail',
    /20\.19/,
    (node) => node.failing.set('/opt/holdfast/bin/node', { code: 0, stdout: 'v20.18.0\n', stderr: '' }),
  ],
  [
    'a configuration with a mistake',
    'config',
    'fail',
    /restart holdfast.service/,
    (node) =>
      node.write('/etc/holdfast.yaml', `runtime: ${containerd}\nlisten: /run/holdfast/holdfast.sock\nhold-ttl: soon\n`),
  ],
  [
    'another listening socket',
    'config',
    'fail',
    /set listen: \/run\/holdfast\/holdfast.sock/,
    (node) => node.write('/etc/holdfast.yaml', `runtime: ${containerd}\nlisten: /run/other.sock\n`),
  ],
  [
    'a service that failed',
    'service',
    'fail',
    /journalctl -u holdfast.service/,
    (node) => set(node, 'holdfast.service', { ActiveState: 'failed', SubState: 'failed', Result: 'exit-code' }),
  ],
  [
    'a service that starts again and again',
    'service',
    'warn',
    /says why it ended/,
    (node) => set(node, 'holdfast.service', { NRestarts: '7' }),
  ],
  [
    'a service that is not enabled',
    'service',
    'warn',
    /systemctl enable holdfast.service/,
    (node) => set(node, 'holdfast.service', { UnitFileState: 'disabled' }),
  ],
  [
    'a socket unit that is not active',
    'socket-unit',
    'fail',
    /install --stage units/,
    (node) => set(node, 'holdfast.socket', { ActiveState: 'inactive' }),
  ],
  ['no watchdog', 'watchdog', 'warn', /WatchdogSec/, (node) => set(node, 'holdfast.service', { WatchdogUSec: '0' })],
  [
    'a bypass',
    'bypass',
    'fail',
    /systemctl start holdfast.service/,
    (node) => node.write('/run/holdfast/bypassed', '2026-01-01T00:00:00Z holdfast.service failed\n'),
  ],
  [
    "a socket with another mode than the runtime's",
    'socket',
    'warn',
    /SocketMode=/,
    (node) => chmodSync(`${node.folder}/run/holdfast/holdfast.sock`, 0o666),
  ],
  [
    'a Holdfast that does not answer',
    'version-through',
    'fail',
    /journalctl -u holdfast.service/,
    (node) => node.answering.delete('/run/holdfast/holdfast.sock'),
  ],
  [
    'a kubelet that is not running',
    'kubelet',
    'fail',
    /journalctl -u kubelet.service/,
    (node) => set(node, 'kubelet.service', { ActiveState: 'activating', SubState: 'auto-restart' }),
  ],
  ['a kubelet whose healthz fails', 'kubelet', 'fail', /journalctl -u kubelet/, (node) => (node.healthz = '500 PLEG')],
  [
    'a kubelet with another endpoint',
    'endpoint',
    'fail',
    /install --stage switch/,
    (node) => node.write('/var/lib/kubelet/config.yaml', kubeletConfig),
  ],
  [
    'a flag that wins over the configuration',
    'endpoint',
    'fail',
    /install --stage switch/,
    (node) =>
      node.units.set('kubelet.service', `${kubeletUnit.trimEnd()} --container-runtime-endpoint=unix://${containerd}\n`),
  ],
  [
    'a configuration that cannot be parsed',
    'configuration',
    'fail',
    /the kubelet does not start with it/,
    (node) => node.write('/var/lib/kubelet/config.yaml', 'a: [\n'),
  ],
  [
    'a running kubelet with a flag that its unit does not have',
    'process',
    'fail',
    /which wins: change it there/,
    (node) => {
      set(node, 'kubelet.service', { MainPID: '77' });
      node.write('/proc/77/cmdline', `/usr/bin/kubelet\0--container-runtime-endpoint=unix://${containerd}\0`);
    },
  ],
  ['a kubelet whose lists do not come', 'lists', 'fail', /restart it/, (node) => (node.lists = () => 5)],
  ['a Holdfast that does not tell its calls', 'lists', 'warn', /admin.sock/, (node) => (node.lists = () => undefined)],
  [
    'a switch that waits to be confirmed',
    'confirmed',
    'warn',
    /holdfast install/,
    (node) => node.write('/var/lib/holdfast/unconfirmed', ''),
  ],
  [
    'a kubelet whose deadline is beyond that of a creation',
    'deadline',
    'warn',
    /raise creation-timeout/,
    (node) => node.write('/var/lib/kubelet/config.yaml', `${kubeletConfig}runtimeRequestTimeout: 10m\n`),
  ],
  ['a kernel without pressure', 'pressure', 'warn', /psi=1/, (node) => node.files.remove('/proc/pressure')],
  [
    'a crictl that goes past Holdfast',
    'crictl',
    'warn',
    /runtime-endpoint: unix:\/\/\/run\/holdfast/,
    (node) => node.write('/etc/crictl.yaml', `runtime-endpoint: unix://${containerd}\n`),
  ],
  [
    "a node-problem-detector on the runtime's socket",
    'node-problem-detector',
    'warn',
    /--cri-socket-path=unix:\/\/\/run\/holdfast/,
    (node) => node.units.set('node-problem-detector.service', '[Service]\nExecStart=/opt/npd\n'),
  ],
  [
    'no systemd-socket-proxyd',
    'socket-proxy',
    'warn',
    /systemd package/,
    (node) => node.files.remove('/usr/lib/systemd/systemd-socket-proxyd'),
  ],
];

for (const [what, name, level, remedy, breakIt] of broken) {
  t.test(`${what} is found as a ${level}, with what to do`, async (t) => {
    const node = await installedNode(t);
    breakIt(node, t);
    const found = (await find(node)).find((finding) => finding.name === name);
    t.match(found, { level, remedy });
  });
}

t.test(
  'where a bypass has taken over nothing that is said or to be done is that of a Holdfast that runs',
  async (t) => {
    const node = await installedNode(t);
    set(node, 'holdfast.service', { ActiveState: 'failed', SubState: 'failed', Result: 'signal' });
    node.write('/run/holdfast/bypassed', '2026-01-01T00:00:00Z holdfast.service failed\n');
    node.lists = () => undefined;
    const found = await find(node);
    const named = (name: string) => found.find((finding) => finding.name === name);
    t.notOk(named('service'), 'the bypass says that it failed, and why');
    t.notOk(
      found.some(({ remedy }) => remedy?.includes('reset-failed')),
      'a reset would close the socket',
    );
    t.match(named('bypass'), { level: 'fail', remedy: /systemctl start holdfast.service/ });
    t.match(named('version-through'), { level: 'ok', text: /answers through the bypass/ });
    t.notOk(named('lists'));
  },
);

const launcher = '/opt/holdfast/bin/holdfast';
const notRunning = (node: FakeNode) => {
  set(node, 'holdfast.service', { ActiveState: 'failed', SubState: 'failed', Result: 'exit-code' });
  node.answering.delete('/run/holdfast/holdfast.sock');
  node.healthz = '500 no runtime';
  node.lists = () => undefined;
};
const chains: [what: string, cause: string, breakIt: (node: FakeNode) => void][] = [
  [
    'a kubelet that was stopped',
    'kubelet',
    (node) => {
      set(node, 'kubelet.service', { ActiveState: 'inactive', SubState: 'dead' });
      node.lists = () => 5;
    },
  ],
  [
    'a kubelet that cannot read its configuration',
    'configuration',
    (node) => node.write('/var/lib/kubelet/config.yaml', 'a: [\n'),
  ],
  [
    'a runtime that is not up',
    'runtime-version',
    (node) => {
      node.answering.clear();
      set(node, 'kubelet.service', { ActiveState: 'activating', SubState: 'auto-restart' });
      node.lists = () => 5;
    },
  ],
  ['a Holdfast that does not run', 'service', notRunning],
  [
    'a program that does not run',
    'program',
    (node) => {
      node.failing.set(launcher, { code: 127, stdout: '', stderr: 'not found' });
      notRunning(node);
    },
  ],
  [
    'a configuration that is refused',
    'config',
    (node) => {
      node.write('/etc/holdfast.yaml', `runtime: ${containerd}\nhold-tll: 5m\n`);
      notRunning(node);
    },
  ],
  [
    'a bypass',
    'bypass',
    (node) => {
      set(node, 'holdfast.service', { ActiveState: 'failed', SubState: 'failed', Result: 'exit-code' });
      node.write('/run/holdfast/bypassed', '2026-01-01T00:00:00Z holdfast.service failed\n');
      node.lists = () => undefined;
    },
  ],
  [
    'a socket unit that has failed',
    'socket-unit',
    (node) => {
      set(node, 'holdfast.socket', { ActiveState: 'failed' });
      node.files.remove('/run/holdfast/holdfast.sock');
      node.answering.delete('/run/holdfast/holdfast.sock');
      node.healthz = '500 no runtime';
    },
  ],
  [
    'a switch that was taken back',
    'confirmed',
    (node) => {
      node.write('/var/lib/kubelet/config.yaml', kubeletConfig);
      node.write('/var/lib/holdfast/reverted', '2026-01-01T00:00:00Z\n');
    },
  ],
];
for (const [what, cause, breakIt] of chains) {
  t.test(`of ${what} only that is said, not what follows from it`, async (t) => {
    const node = await installedNode(t);
    breakIt(node);
    const found = await find(node);
    t.same(
      found.filter(({ level }) => level !== 'ok').map(({ name }) => name),
      [cause],
    );
  });
}

t.test('a kubelet that was stopped is said where something else is wrong, too', async (t) => {
  const node = await installedNode(t);
  notRunning(node);
  set(node, 'kubelet.service', { ActiveState: 'inactive', SubState: 'dead' });
  const failed = (await find(node)).filter(({ level }) => level === 'fail').map(({ name }) => name);
  t.same(failed, ['service', 'kubelet']);
});

/** A node whose unit reads this environment file, and has these lines. */
async function withEnvironment(t: Test, text: string, lines = ''): Promise<FakeNode> {
  const node = await installedNode(t);
  node.write('/etc/default/holdfast', text);
  const start = 'ExecStart=/opt/holdfast/bin/holdfast serve --config /etc/holdfast.yaml';
  node.units.set(
    'holdfast.service',
    `# /etc/systemd/system/holdfast.service\n[Service]\nEnvironmentFile=-/etc/default/holdfast\n${start}\n` +
      `# /etc/systemd/system/holdfast.service.d/50-own.conf\n[Service]\n${lines}\n`,
  );
  return node;
}

const ownDropIn = '/etc/systemd/system/holdfast.service.d/50-own.conf';
const variables: [what: string, text: string, lines: string, said: string][] = [
  [
    'a variable that is no option',
    'HOLDFAST_HOLD_TLL=5m\n',
    '',
    'HOLDFAST_HOLD_TLL in /etc/default/holdfast is no option of Holdfast (did you mean HOLDFAST_HOLD_TTL?)',
  ],
  [
    'a variable that beats the file',
    'HOLDFAST_HOLD_TTL="5m"\n',
    '',
    'HOLDFAST_HOLD_TTL=5m in /etc/default/holdfast beats hold-ttl: 10m in /etc/holdfast.yaml',
  ],
  [
    'one of a drop-in',
    '',
    'Environment=HOLDFAST_HOLD_TTL=5m',
    `HOLDFAST_HOLD_TTL=5m in ${ownDropIn} beats hold-ttl: 10m in /etc/holdfast.yaml`,
  ],
  [
    'a variable that the command line beats',
    'HOLDFAST_CONFIG=/etc/other.yaml\n',
    '',
    "HOLDFAST_CONFIG in /etc/default/holdfast has no effect: the unit's command line has --config",
  ],
];
for (const [what, text, lines, said] of variables) {
  t.test(`${what} is said, with its place`, async (t) => {
    const node = await withEnvironment(t, text, lines);
    node.write('/etc/holdfast.yaml', `runtime: ${containerd}\nhold-ttl: 10m\n`);
    const found = (await find(node)).filter(({ level }) => level !== 'ok');
    t.match(found, [{ name: 'environment', level: 'warn', text: said }]);
    t.equal(found.length, 1);
  });
}

t.test('the configuration is judged with what the environment of the unit adds to it', async (t) => {
  const node = await withEnvironment(t, 'HOLDFAST_METRICS=nonsense\n');
  t.match(
    (await find(node)).find(({ name }) => name === 'config'),
    { level: 'fail', text: /HOLDFAST_METRICS/ },
  );
  node.write(
    '/etc/default/holdfast',
    `# as the file has it, or empty\nHOLDFAST_RUNTIME=${containerd}\nHOLDFAST_METRICS=\n`,
  );
  node.write('/etc/holdfast.yaml', 'hold-ttl: 10m\n');
  t.same(
    (await find(node)).filter(({ level }) => level !== 'ok'),
    [],
    'also where the runtime is said by a variable, and the socket is the one that is passed',
  );
});

t.test('a runtime of which the bypass does not know is said', async (t) => {
  const node = await withEnvironment(t, '', `Environment=HOLDFAST_RUNTIME=${containerd}`);
  node.write('/etc/holdfast.yaml', 'hold-ttl: 10m\n');
  t.match(
    (await find(node)).find(({ name }) => name === 'environment'),
    { level: 'warn', text: /is not known to the bypass/ },
  );
});

t.test('an upgrade is said to be open, or to have been taken back', async (t) => {
  const node = await installedNode(t);
  const upgrade = async () => (await find(node)).find(({ name }) => name === 'upgrade');
  t.notOk(await upgrade());
  node.write('/var/lib/holdfast/rolled-back', '2026-01-01T00:00:00Z abc 2.0.0\n');
  t.match(await upgrade(), { level: 'warn', text: /to Holdfast 2\.0\.0 was taken back \(2026-01-01T00:00:00Z\)/ });
  node.write('/var/lib/holdfast/upgrading', '2026-01-01T00:00:00Z abc 2.0.0\n');
  t.match(await upgrade(), { level: 'warn', text: /not confirmed/ });
});

t.test('a service that failed and is not bypassed is to be reset and started', async (t) => {
  const node = await installedNode(t);
  set(node, 'holdfast.service', { ActiveState: 'failed', SubState: 'failed', Result: 'exit-code' });
  const service = (await find(node)).find(({ name }) => name === 'service');
  t.match(service, { remedy: /reset-failed holdfast.service; systemctl start holdfast.service/ });
});

t.test('a switch that was taken back is told until another one succeeds', async (t) => {
  const node = await installedNode(t);
  node.write('/var/lib/holdfast/reverted', '2026-01-01T00:00:00Z\n');
  t.notOk((await find(node)).some(({ name }) => name === 'confirmed'));
  node.write('/var/lib/kubelet/config.yaml', kubeletConfig);
  t.match(
    (await find(node)).find(({ name }) => name === 'confirmed'),
    { level: 'fail', text: /2026-01-01/ },
  );
});

t.test("CRI-O's statistics are a choice of the endpoint's", async (t) => {
  const node = new FakeNode(t);
  node.answering.add('/run/crio/crio.sock');
  const found = await check(node.machine, { runtime: '/run/crio/crio.sock', kubeletUnit: undefined }, node.asks);
  t.match(
    found.find(({ name }) => name === 'crio-stats'),
    { level: 'warn', text: /cAdvisor/ },
  );
});
