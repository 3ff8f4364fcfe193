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
    t.match(named('service'), { level: 'fail', text: /failed/ });
    t.notOk(
      found.some(({ remedy }) => remedy?.includes('reset-failed')),
      'a reset would close the socket',
    );
    t.match(named('bypass'), { level: 'fail', remedy: /two minutes after that, systemctl start holdfast.service/ });
    t.match(named('version-through'), { level: 'ok', text: /answers through the bypass/ });
    t.notOk(named('lists'));
  },
);

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
