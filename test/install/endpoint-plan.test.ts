import t from 'tap';
import { type EndpointChange, planEndpoint } from '../../src/install/endpoint-plan.js';
import { undoChange } from '../../src/install/endpoint-undo.js';
import { isSameEndpoint, type KubeletSources, kubeletSetup } from '../../src/install/kubelet.js';
import { withEndpoint } from '../../src/install/kubelet-config.js';
import type { Platform } from '../../src/install/platform.js';

const old = 'unix:///run/containerd/containerd.sock';
const ours = 'unix:///run/holdfast/holdfast.sock';
const flag = `--container-runtime-endpoint=${old}`;

function sources(service: string, files: Readonly<Record<string, string>>, ownConfigDir?: string): KubeletSources {
  return {
    unit: 'kubelet.service',
    unitText: `# /usr/lib/systemd/system/kubelet.service\n[Service]\n${service}\n`,
    ownConfigDir,
    text: (file) => files[file],
    names: (folder) =>
      Object.keys(files)
        .filter((file) => file.startsWith(`${folder}/`))
        .map((file) => file.slice(folder.length + 1))
        .sort(),
  };
}

const cases: [what: string, sources: KubeletSources, platform: Platform, changed: string[]][] = [
  [
    'a file is added to a --config-dir',
    sources('ExecStart=/k --config-dir=/d', { '/d/10.conf': 'a: 1\n' }),
    'config-dir',
    ['/d/99-holdfast.conf'],
  ],
  [
    'it comes behind a later file that says another endpoint',
    sources('ExecStart=/k --config-dir=/d', { '/d/zzz.conf': `containerRuntimeEndpoint: ${old}\n` }),
    'config-dir',
    ['/d/zzz~holdfast.conf'],
  ],
  ['a configuration is changed in its place', sources('ExecStart=/k --config /c', { '/c': 'a: 1' }), 'kubeadm', ['/c']],
  ['one in JSON too', sources('ExecStart=/k --config /c', { '/c': '{"a": 1}' }), 'nodeadm', ['/c']],
  [
    'a flag in an environment file beats all others',
    sources('EnvironmentFile=-/e\nExecStart=/k --config-dir=/d $ARGS', { '/e': `ARGS="${flag} --v=2"\n` }),
    'config-dir',
    ['/e'],
  ],
  [
    'a flag in ExecStart is repeated in a drop-in',
    sources(`ExecStart=/k ${flag} \\\n  --v=2`, {}),
    'kubeadm',
    ['/etc/systemd/system/kubelet.service.d/99-holdfast.conf'],
  ],
  [
    'and one of an Environment line',
    sources(`Environment="ARGS=${flag} --v=2"\nExecStart=/k $ARGS`, {}),
    'kubeadm',
    ['/etc/systemd/system/kubelet.service.d/99-holdfast.conf'],
  ],
  [
    'kubeadm from 1.34 on has two files',
    sources('ExecStart=/k --config=/c', {
      '/c': `containerRuntimeEndpoint: ${old}\n`,
      '/var/lib/kubelet/instance-config.yaml': `containerRuntimeEndpoint: ${old}\n`,
    }),
    'kubeadm',
    ['/var/lib/kubelet/instance-config.yaml', '/c'],
  ],
  [
    "a folder of k3s's, whose own flag is not the kubelet's",
    sources(`ExecStart=/k3s ${flag}`, {}, '/d'),
    'k3s',
    ['/d/99-holdfast.conf'],
  ],
];

const undone = (change: EndpointChange, current: string | undefined) =>
  undoChange({ ...change, endpoint: ours, fallback: old }, current);

for (const [what, from, platform, changed] of cases) {
  t.test(what, async (t) => {
    const plan = planEndpoint(from, platform, ours);
    t.same(
      plan.map(({ file }) => file),
      changed,
    );
    for (const change of plan)
      t.match(
        undone(change, change.after),
        change.before === undefined ? { kind: 'remove' } : { kind: 'write', text: change.before },
      );
  });
}

t.test('nothing is planned where the kubelet is behind Holdfast', async (t) => {
  t.same(planEndpoint(sources(`ExecStart=/k --container-runtime-endpoint ${ours}`, {}), 'kubeadm', ours), []);
});

t.test('a kubelet that names no place is refused with what to do', async (t) => {
  t.throws(() => planEndpoint(sources('ExecStart=/k', {}), 'kubeadm', ours), {
    name: 'Refusal',
    remedy: /--platform none/,
  });
});

t.test('a file that somebody changed since keeps that, and loses the endpoint', async (t) => {
  const [change] = planEndpoint(sources('ExecStart=/k --config=/c', { '/c': 'a: 1\n' }), 'kubeadm', ours);
  if (change === undefined) throw new Error('nothing planned');
  t.same(undone(change, `${change.after}b: 2\n`), { kind: 'write', text: 'a: 1\nb: 2\n', byHand: true });
  t.match(undone(change, 'containerRuntimeEndpoint: unix:///run/crio/crio.sock\n'), { kind: 'leave', why: /crio/ });
  t.match(undone(change, undefined), { kind: 'leave' });
  t.same(undone(change, change.before), { kind: 'nothing' });
});

t.test('only the endpoint of a configuration changes, or it is refused', async (t) => {
  t.equal(withEndpoint('{"containerRuntimeEndpoint": "x", "a": 1}', undefined, '/c'), '{"a": 1}');
  t.throws(() => withEndpoint('a: 1\n---\nb: 2\n', ours, '/c'), { name: 'KubeletConfigError' });
  t.throws(() => withEndpoint('a: |\n  text\n...\n', ours, '/c'), { name: 'KubeletConfigError' });
});

t.test('/var/run is /run, and the last flag counts', async (t) => {
  const setup = kubeletSetup(sources(`ExecStart=/k ${flag} --container-runtime-endpoint=/var/run/crio/crio.sock`, {}));
  t.ok(isSameEndpoint(setup.endpoint, 'unix:///run/crio/crio.sock'));
});
