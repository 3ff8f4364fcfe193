/** The pods of examples/kubernetes on a node with a real systemd and something like a kubelet, with the rights that their manifests give them. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { parseAllDocuments } from 'yaml';
import {
  containerPrograms,
  furnish,
  imageFolder,
  type PodSpec,
  runContainer,
  startContainer,
} from './support/container.js';
import { buildImage, type Image, missingBuilder } from './support/image.js';
import { missingPrograms, skipFor } from './support/programs.js';
import { missingSystemd, nodeInside } from './support/systemd.js';
import { type NodeOptions, type SystemdNode, startNode } from './support/systemd-node.js';
import { until } from './support/until.js';

const skip = skipFor(missingSystemd() ?? missingPrograms(...containerPrograms) ?? missingBuilder());
const execute = promisify(execFile);
const repository = fileURLToPath(new URL('../..', import.meta.url));
const manifests = `${repository}/examples/kubernetes`;
const ours = '/run/holdfast/holdfast.sock';
const theirs = '/run/containerd/containerd.sock';
const metrics = 'http://127.0.0.1:9465';

function podOf(file: string, kind: string): PodSpec {
  const documents = parseAllDocuments(fs.readFileSync(`${manifests}/${file}`, 'utf8')).map((one) => one.toJS());
  return documents.find((one) => one.kind === kind).spec.template.spec;
}

const daemon = podOf('holdfast.yaml', 'DaemonSet');
const uninstaller = podOf('uninstall.yaml', 'Job');

let image: Image;
if (skip === false) {
  t.before(async () => {
    const folder = fs.mkdtempSync('/var/tmp/hfimage-');
    t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
    image = await buildImage(folder);
    await furnish(image);
  });
}

function node(t: Test, more: Partial<NodeOptions> = {}): Promise<SystemdNode> {
  return startNode(t, {
    kubeletArguments: '--config=/var/lib/kubelet/config.yaml --config-dir=/etc/kubernetes/kubelet.conf.d',
    files: {
      '/var/lib/kubelet/config.yaml':
        'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 20\n',
      '/etc/kubernetes/kubelet.conf.d/50-own.conf': 'maxPods: 30\n',
    },
    folders: { [imageFolder]: image.root },
    ...more,
  });
}

/** As a kubelet runs them: one after the other, each to its end. @returns What they said, by stage. */
async function stages(node: SystemdNode, t: Test): Promise<Record<string, string>> {
  const said: Record<string, string> = {};
  for (const container of daemon.initContainers ?? []) {
    const { code, output } = await runContainer(node, image, daemon, container);
    t.equal(code, 0, `${container.name}: ${output}`);
    said[container.name] = output;
  }
  return said;
}

async function kubeletPid(node: SystemdNode): Promise<string> {
  return (await node.run('systemctl', 'show', '--value', '--property=MainPID', 'kubelet.service')).output.trim();
}

/** @throws Where /readyz does not give this answer in time: with its last one, and what the sidecar has said. */
async function untilReadyz(node: SystemdNode, expected: RegExp, said: () => string): Promise<void> {
  const script = `fetch('${metrics}/readyz').then(async (r) => console.log(r.status, await r.text()), (e) => console.log(e.message))`;
  let last = '';
  await until(`/readyz answers ${expected}`, async () => {
    last = (await node.run(nodeInside, '-e', script)).output.trim();
    return expected.test(last);
  }).catch((error: Error) => {
    throw new Error(`${error.message}; it answers ${JSON.stringify(last)}, and the sidecar said:\n${said()}`);
  });
}

t.test('the image has Node, the bundle, chroot and the licences, and no shell', { skip }, async (t) => {
  const has = (file: string) => fs.statSync(image.root + file).size;
  for (const file of ['lib/holdfast.LICENSES.txt', 'lib/LICENSE', 'lib/node.LICENSE.txt', 'lib/chroot.LICENSE.txt']) {
    t.ok(has(`/opt/holdfast/${file}`), file);
  }
  const bundles = [`${image.root}/opt/holdfast/lib/holdfast.mjs`, `${repository}/dist/holdfast.mjs`];
  const [built, own] = bundles.map((file) => fs.readFileSync(file));
  t.ok(own !== undefined && built?.equals(own), 'the bundle is, to the byte, that of this tree');
  t.match(image.config, { User: '0:0', Entrypoint: ['/opt/holdfast/bin/node', '/opt/holdfast/lib/holdfast.mjs'] });
  t.ok(image.config.Env.includes('NODE_ENV=production'));
  const command = [...image.config.Env, 'chroot', image.root, ...image.config.Entrypoint, '--version'];
  const { stdout } = await execute('env', ['-i', ...command]);
  t.equal(stdout.trim(), JSON.parse(fs.readFileSync(`${repository}/package.json`, 'utf8')).version);
  for (const shell of ['/bin', '/usr/bin/sh', '/usr/bin/env']) t.notOk(fs.existsSync(image.root + shell), shell);
});

t.test(
  'the stages of the pod put the kubelet behind Holdfast, its sidecar gets ready, and the Job takes it all away',
  { skip },
  async (t) => {
    const on = await node(t);
    await until('the kubelet is well', () => on.isWell());
    const first = await stages(on, t);
    t.match(first.switch, /confirmed: kubelet.service is well/);
    t.equal(await on.dialled(), ours);

    const pid = await kubeletPid(on);
    const again = await stages(on, t);
    for (const [stage, output] of Object.entries(again))
      t.notMatch(output, /done {2}/, `${stage} once more changes nothing`);
    t.equal(await kubeletPid(on), pid, 'and restarts no kubelet');

    const [sidecar] = daemon.containers;
    if (sidecar === undefined) throw new Error('no sidecar');
    const running = startContainer(on, image, daemon, sidecar);
    t.teardown(() => running.kill());
    await untilReadyz(on, /^200 ok$/, running.output);
    await on.run('systemctl', 'stop', 'kubelet.service');
    await on.run('systemctl', 'restart', 'holdfast.service');
    await untilReadyz(on, /^503 no kubelet/, running.output);
    await on.run('systemctl', 'start', 'kubelet.service');
    await untilReadyz(on, /^200 ok$/, running.output);
    await running.kill();
    t.equal(await on.dialled(), ours, 'the end of the pod changes nothing on the node');

    const [job] = uninstaller.containers;
    if (job === undefined) throw new Error('no container in the Job');
    const uninstalled = await runContainer(on, image, uninstaller, job);
    t.match(uninstalled, { code: 0, output: /uninstalled/ }, uninstalled.output);
    t.equal(await on.dialled(), theirs);
    t.ok(await on.isWell());
    t.notMatch((await on.run('ls', '-R', '/etc/systemd/system', '/etc/kubernetes')).output, /holdfast/);
    for (const gone of ['/opt/holdfast', '/etc/holdfast.yaml', '/var/lib/holdfast', '/run/holdfast']) {
      t.not((await on.run('test', '-e', gone)).code, 0, `${gone} is gone`);
    }
  },
);
