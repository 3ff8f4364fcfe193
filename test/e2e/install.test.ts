/** `install`, `check` and `uninstall` under a real systemd, with something like a kubelet in each of the usual layouts. */
import t from 'tap';
import { skipFor } from './support/programs.js';
import { missingSystemd, repositoryInside } from './support/systemd.js';
import { type NodeOptions, startNode } from './support/systemd-node.js';
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

t.test('a switch whose installer is killed reverts by itself', { skip }, async (t) => {
  const node = await startNode(t, { ...configDir, program: broken });
  await until('the kubelet is well', () => node.isWell());
  const installer = node.installing('--confirm-within=6s');
  await until('the kubelet is sent to Holdfast', async () => (await node.dialled()) === ours, 60_000);
  installer.kill('SIGKILL');
  await until('it is back', async () => (await node.dialled()) === '/run/containerd/containerd.sock', 30_000);
  await until('it is well', () => node.isWell());
  const uninstalled = await node.holdfast('uninstall');
  t.match(uninstalled, { code: 0 }, uninstalled.output);
});

t.test('a reboot before the switch is confirmed brings the kubelet back', { skip }, async (t) => {
  const node = await startNode(t, { ...configDir, program: broken });
  await until('the kubelet is well', () => node.isWell());
  node.installing('--confirm-within=10m');
  await until('the kubelet is sent to Holdfast', async () => (await node.dialled()) === ours, 60_000);
  await node.powerOff();
  await node.boot();
  await until('it is back', async () => (await node.dialled()) === '/run/containerd/containerd.sock', 30_000);
  await until('it is well', () => node.isWell());
  t.match(node.read('/var/lib/holdfast/reverted'), /^\d{4}-/);
});
