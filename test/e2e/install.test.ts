/** `install`, `check` and `uninstall` under a real systemd, with something like a kubelet in each of the usual layouts. */
import t, { type Test } from 'tap';
import { skipFor } from './support/programs.js';
import { missingSystemd, repositoryInside } from './support/systemd.js';
import { type Installing, type NodeOptions, type SystemdNode, startNode } from './support/systemd-node.js';
import { until } from './support/until.js';

// They wait more than they work.
t.jobs = 3;

const skip = skipFor(missingSystemd());
const runtime = 'unix:///run/containerd/containerd.sock';
const ours = '/run/holdfast/holdfast.sock';
const config = `apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 20\n`;

const configDir: NodeOptions = {
  kubeletArguments: '--config=/var/lib/kubelet/config.yaml --config-dir=/etc/kubernetes/kubelet.conf.d',
  files: { '/var/lib/kubelet/config.yaml': config, '/etc/kubernetes/kubelet.conf.d/50-own.conf': 'maxPods: 30\n' },
};
const kubeadm = 'EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env';
const layouts: readonly [name: string, options: NodeOptions][] = [
  ['config-dir', configDir],
  [
    'kubeadm before 1.34',
    {
      kubeletArguments: '--config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS',
      kubeletService: kubeadm,
      files: {
        '/var/lib/kubelet/config.yaml': `${config}containerRuntimeEndpoint: ""\n`,
        '/var/lib/kubelet/kubeadm-flags.env': `KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=${runtime} --v=2"\n`,
      },
    },
  ],
  [
    'kubeadm from 1.34 on',
    {
      kubeletArguments: '--config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS',
      kubeletService: kubeadm,
      files: {
        '/var/lib/kubelet/config.yaml': `${config}containerRuntimeEndpoint: ${runtime}\n`,
        '/var/lib/kubelet/instance-config.yaml': `containerRuntimeEndpoint: ${runtime}\n`,
        '/var/lib/kubelet/kubeadm-flags.env': 'KUBELET_KUBEADM_ARGS="--v=2"\n',
      },
    },
  ],
];

for (const [name, options] of layouts) {
  t.test(`${name}: installed, installed again, checked and uninstalled, the node is as it was`, { skip }, async (t) => {
    const node = await startNode(t, options);
    await until('the kubelet is well', () => node.isWell());
    const before = await node.holdfast('check');
    t.match(before, { code: 0, output: /not installed/ }, before.output);

    const installed = await node.install('--confirm-within=60s');
    t.match(installed, { code: 0, output: /confirmed: kubelet.service is well/ }, installed.output);
    t.equal(await node.dialled(), ours);
    const checked = await node.holdfast('check');
    t.match(checked, { code: 0, output: /lists come through Holdfast/ }, checked.output);

    const again = await node.install();
    t.match(again, { code: 0, output: /nothing had to be done/ }, again.output);
    t.notMatch(again.output, /done {2}/);

    const uninstalled = await node.holdfast('uninstall');
    t.match(uninstalled, { code: 0, output: /uninstalled/ }, uninstalled.output);
    t.equal(await node.dialled(), '/run/containerd/containerd.sock');
    t.ok(await node.isWell());
    for (const [file, text] of Object.entries(options.files)) t.equal(node.read(file), text, file);
    for (const folder of [
      '/opt/holdfast',
      '/etc/holdfast.yaml',
      '/var/lib/holdfast',
      '/run/holdfast',
      '/usr/local/bin/holdfast',
    ]) {
      t.not((await node.run('test', '-e', folder)).code, 0, `${folder} is gone`);
    }
    t.notMatch((await node.run('ls', '-R', '/etc/systemd/system', '/etc/kubernetes')).output, /holdfast/);
  });
}

/** It serves until a kubelet is sent to it, and then no more. */
const broken = `import { existsSync } from 'node:fs';
import { main } from '${repositoryInside}/dist/cli.js';
setInterval(() => existsSync('/var/lib/holdfast/unconfirmed') && process.exit(1), 100);
process.exit(await main(process.argv.slice(2)));
`;

t.test('a switch to a broken Holdfast reverts by itself, and says so', { skip }, async (t) => {
  const node = await startNode(t, { ...configDir, program: broken });
  await until('the kubelet is well', () => node.isWell());
  const installed = await node.install('--confirm-within=6s');
  t.match(
    installed,
    { code: 1, output: /did not do well behind Holdfast.*its endpoint is as before and it is well/ },
    installed.output,
  );
  t.equal(await node.dialled(), '/run/containerd/containerd.sock');
  t.notMatch((await node.run('ls', '/etc/kubernetes/kubelet.conf.d')).output, /holdfast/);
  t.match(await node.holdfast('check'), { code: 1, output: /was taken back/ });
});

/** Nobody can see whether the kubelet comes through what serves like this: an installer waits for as long as it may. */
const unseen = "if (process.argv[2] === 'serve') process.argv.push('--admin=/run/holdfast/x.sock');";
const silent = `import { main } from '${repositoryInside}/dist/cli.js';
${unseen}
process.exit(await main(process.argv.slice(2)));
`;

/** Waits for the time in which the kubelet is behind Holdfast, and the installer has not confirmed it. */
async function untilSwitched(node: SystemdNode, installer: Installing): Promise<void> {
  await until('the kubelet is sent to Holdfast', async () => installer.isOver || (await node.dialled()) === ours);
  if (installer.isOver) throw new Error(`the installer has ended:\n${installer.output}`);
}

t.test('a switch whose installer is killed reverts by itself', { skip }, async (t) => {
  const node = await startNode(t, { ...configDir, program: silent });
  await until('the kubelet is well', () => node.isWell());
  const installer = node.installing('--confirm-within=12s');
  await untilSwitched(node, installer);
  installer.kill();
  await until('it is back', async () => (await node.dialled()) === '/run/containerd/containerd.sock');
  await until('it is well', () => node.isWell());
  const uninstalled = await node.holdfast('uninstall');
  t.match(uninstalled, { code: 0 }, uninstalled.output);
});

t.test('a reboot before the switch is confirmed brings the kubelet back', { skip }, async (t) => {
  const node = await startNode(t, { ...configDir, program: silent });
  await until('the kubelet is well', () => node.isWell());
  await untilSwitched(node, node.installing('--confirm-within=10m'));
  await node.powerOff();
  await node.boot();
  await until('it is back', async () => (await node.dialled()) === '/run/containerd/containerd.sock');
  await until('it is well', () => node.isWell());
  t.match(node.read('/var/lib/holdfast/reverted'), /^\d{4}-/);
});

/** Of another version, which does what comes before it serves. */
const other = (version: string, first = '') => `import { existsSync } from 'node:fs';
import { main } from '${repositoryInside}/dist/cli.js';
if (process.argv[2] === '--version') {
  console.log('${version}');
  process.exit(0);
}
${first}
process.exit(await main(process.argv.slice(2)));
`;

const versions = {
  '/opt/test/shipped.mjs': '',
  '/opt/test/newer.mjs': other('9.9.1'),
  '/opt/test/silent.mjs': other('9.9.1', unseen),
  '/opt/test/broken.mjs': other('9.9.2', "if (existsSync('/var/lib/holdfast/upgrading')) process.exit(1);"),
};
const upgradable: NodeOptions = { ...configDir, files: { ...configDir.files, ...versions } };

/** Has this program installed from now on. */
const give = (node: SystemdNode, name: string) => node.run('cp', `/opt/test/${name}.mjs`, '/opt/test/holdfast.mjs');
const mainPid = async (node: SystemdNode, unit: string) =>
  (await node.run('systemctl', 'show', '--value', '--property=MainPID', unit)).output.trim();
const versionOf = async (node: SystemdNode) =>
  (await node.run('/opt/holdfast/bin/holdfast', '--version')).output.trim();

/** A node with the program that is shipped, behind which its kubelet is. */
async function installed(t: Test): Promise<SystemdNode> {
  const node = await startNode(t, upgradable);
  await until('the kubelet is well', () => node.isWell());
  await node.run('cp', '/opt/test/holdfast.mjs', '/opt/test/shipped.mjs');
  const installed = await node.install('--confirm-within=60s');
  t.match(installed, { code: 0 }, installed.output);
  return node;
}

t.test(
  'an upgrade and a downgrade are confirmed, and a broken one is taken back and costs no kubelet',
  { skip },
  async (t) => {
    const node = await installed(t);
    const shipped = await versionOf(node);
    const kubelet = await mainPid(node, 'kubelet.service');

    await give(node, 'newer');
    const before = await mainPid(node, 'holdfast.service');
    await node.run('sh', '-c', 'cp /etc/holdfast.yaml /run/kept && echo "hold-tll: 5m" >>/etc/holdfast.yaml');
    const refused = await node.install();
    t.match(
      refused,
      { code: 1, output: /refuses its configuration: unknown key "hold-tll" in \/etc\/holdfast.yaml/ },
      refused.output,
    );
    t.equal(await versionOf(node), shipped);
    t.equal(await mainPid(node, 'holdfast.service'), before, 'nothing was restarted');
    await node.run('cp', '/run/kept', '/etc/holdfast.yaml');

    const upgraded = await node.install();
    t.match(upgraded, { code: 0, output: new RegExp(`confirmed: Holdfast ${shipped} → 9\\.9\\.1`) }, upgraded.output);
    t.equal(await versionOf(node), '9.9.1');

    await give(node, 'broken');
    const startedMs = Date.now();
    const broken = await node.install('--confirm-within=10m');
    t.comment(`taken back after ${Date.now() - startedMs} ms`);
    t.match(
      broken,
      {
        code: 1,
        output:
          /9\.9\.2 did not do well \(.*(?:bypassed|has failed).*Holdfast 9\.9\.1 is in its place again and answers/,
      },
      broken.output,
    );
    t.equal(await versionOf(node), '9.9.1');
    t.notOk(node.read('/run/holdfast/bypassed'));
    t.notMatch((await node.run('ls', '/etc/systemd/system')).output, /rollback/);
    const checked = await node.holdfast('check');
    t.match(checked, { code: 0, output: /the upgrade to Holdfast 9\.9\.2 was taken back/ }, checked.output);

    await give(node, 'shipped');
    const downgraded = await node.install();
    t.match(
      downgraded,
      { code: 0, output: new RegExp(`confirmed: Holdfast 9\\.9\\.1 → ${shipped}`) },
      downgraded.output,
    );

    const dropIn = '/etc/systemd/system/holdfast.service.d/50-test.conf';
    const lines = '[Service]\\nExecStartPre=/usr/bin/test ! -e /run/broken\\n';
    await node.run(
      'sh',
      '-c',
      `mkdir -p /etc/systemd/system/holdfast.service.d && printf '${lines}' >${dropIn} && touch /run/broken`,
    );
    await node.run('systemctl', 'daemon-reload');
    await node.run('systemctl', 'kill', '--signal=KILL', 'holdfast.service');
    await until('it is bypassed', () => node.read('/run/holdfast/bypassed') !== undefined);
    await node.run('rm', '/run/broken');
    const socket = async () => (await node.run('stat', '--format=%i', ours)).output;
    const bypassed = await socket();
    const mended = await node.install();
    t.match(mended, { code: 0, output: /done +holdfast.service started/ }, mended.output);
    t.notOk(node.read('/run/holdfast/bypassed'));
    t.equal(await socket(), bypassed, 'the socket of the bypass stays');
    t.equal(await mainPid(node, 'kubelet.service'), kubelet, 'the kubelet was never restarted');
    t.ok(await node.isWell());
  },
);

t.test('an upgrade whose installer is killed is taken back by the timer, and by a reboot', { skip }, async (t) => {
  const node = await installed(t);
  const shipped = await versionOf(node);
  const runsNewer = async () =>
    (await mainPid(node, 'holdfast.service')) !== before && (await versionOf(node)) === '9.9.1';
  let before = await mainPid(node, 'holdfast.service');
  await give(node, 'silent');
  const installer = node.installing('--confirm-within=8s');
  const isOver = () => node.read('/var/lib/holdfast/rolled-back') !== undefined;
  await until('the newer one is in its place', async () => isOver() || runsNewer());
  installer.kill();
  await until('it is taken back', isOver);
  await until('the older one runs', async () => (await mainPid(node, 'holdfast.service')) !== '0');
  t.equal(await versionOf(node), shipped);

  before = await mainPid(node, 'holdfast.service');
  node.installing('--confirm-within=10m');
  await until('the newer one is in its place again', runsNewer);
  await node.powerOff();
  await node.boot();
  await until('it is taken back at the boot', isOver);
  await until('the kubelet is well', () => node.isWell());
  t.equal(await versionOf(node), shipped);
  t.equal(await node.dialled(), ours);
});
