/**
 * Containers of a pod on a node of the tests, as its manifest says: command, environment, mounts, user, capabilities, read-only root, and of the
 * node's namespaces only those that the pod names. There is no container runtime: unshare, mount, chroot and setpriv do what one would.
 * seccomp, AppArmor, SELinux and cgroups are not there.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Ended, SystemdNode } from './systemd-node.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const execute = promisify(execFile);

/** Where the node has the image. */
export const imageFolder = '/opt/test/image';
/** Runs in the image with the rights of the container, as runc would have set them up. */
const helper = '/emulated/setpriv';

interface VolumeMount {
  readonly name: string;
  readonly mountPath: string;
  readonly readOnly?: boolean;
}

export interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly securityContext: {
    readonly privileged: boolean;
    readonly runAsUser: number;
    readonly readOnlyRootFilesystem: boolean;
    readonly allowPrivilegeEscalation: boolean;
    readonly capabilities: { readonly drop: readonly string[]; readonly add?: readonly string[] };
  };
  readonly volumeMounts: readonly VolumeMount[];
}

export interface PodSpec {
  readonly hostNetwork?: boolean;
  readonly hostPID?: boolean;
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[];
}

/** Why no container can be run here. */
export const containerPrograms = ['chroot', 'ldd', 'mount', 'setpriv', 'unshare'];

/** Makes in `folder` what the image has: Node, what `npm run bundle` has made, chroot and the libraries of both programs. */
export async function makeImage(folder: string): Promise<void> {
  const copy = (from: string, to = from) => {
    fs.mkdirSync(path.dirname(folder + to), { recursive: true });
    fs.copyFileSync(from, folder + to);
  };
  const programs = {
    '/opt/holdfast/bin/node': process.execPath,
    '/usr/sbin/chroot': await which('chroot'),
    [helper]: await which('setpriv'),
  };
  for (const [to, from] of Object.entries(programs)) {
    copy(from, to);
    const { stdout } = await execute('ldd', [from]);
    for (const [library] of stdout.matchAll(/\/\S+(?= \()/g)) copy(library);
  }
  fs.mkdirSync(`${folder}/opt/holdfast/lib`);
  for (const file of ['holdfast.mjs', 'holdfast.LICENSES.txt']) {
    fs.copyFileSync(`${repository}/dist/${file}`, `${folder}/opt/holdfast/lib/${file}`);
  }
  for (const place of ['proc', 'dev', 'host', 'config', 'run/holdfast'])
    fs.mkdirSync(`${folder}/${place}`, { recursive: true });
}

async function which(program: string): Promise<string> {
  return fs.realpathSync((await execute('sh', ['-c', 'command -v "$0"', program])).stdout.trim());
}

/** What the image starts, from the Containerfile. */
function entrypoint(): string[] {
  const line = /^ENTRYPOINT (\[.*\])$/m.exec(fs.readFileSync(`${repository}/Containerfile`, 'utf8'))?.[1];
  return JSON.parse(line ?? '[]');
}

/** Runs one container of a pod to its end. */
export function runContainer(node: SystemdNode, pod: PodSpec, container: Container): Promise<Ended> {
  const [program = '', ...args] = command(pod, container);
  return node.run(program, ...args);
}

/** Starts one container of a pod. @returns What kills it, and waits for its end. */
export function startContainer(
  node: SystemdNode,
  pod: PodSpec,
  container: Container,
): { kill: () => Promise<void>; output: () => string } {
  const [program = '', ...args] = command(pod, container);
  const child = node.start(program, ...args);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  return {
    output: () => output,
    kill: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    },
  };
}

function command(pod: PodSpec, { args, securityContext, volumeMounts }: Container): string[] {
  const { capabilities, readOnlyRootFilesystem, allowPrivilegeEscalation, runAsUser, privileged } = securityContext;
  if (privileged || !capabilities.drop.includes('ALL')) throw new Error('it keeps rights that are not emulated');
  const kept = (capabilities.add ?? []).map((name) => `,+${name.toLowerCase()}`).join('');
  const mounts = volumeMounts.flatMap(({ name, mountPath, readOnly }) => {
    const source = pod.volumes.find((volume) => volume.name === name)?.hostPath?.path;
    if (source === undefined) throw new Error(`${name} is no folder of the node`);
    const target = `"$root"${mountPath}`;
    return [
      `mkdir -p ${source}`,
      `mount --rbind ${source} ${target}`,
      `mount --make-rslave ${target}`,
      ...(readOnly === true ? [`mount -o remount,bind,ro ${target}`] : []),
    ];
  });
  const script = [
    'set -e',
    'root=/run/container-$$; mkdir -p "$root"',
    `mount --bind ${imageFolder} "$root"`,
    'mount -t proc proc "$root/proc"',
    'mount -t tmpfs tmpfs "$root/dev"',
    'for device in null zero urandom; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done',
    ...mounts,
    ...(readOnlyRootFilesystem ? ['mount -o remount,bind,ro "$root"'] : []),
    'exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin NODE_ENV=production chroot "$root" "$@"',
  ].join('\n');
  const rights = [
    `--bounding-set=-all${kept}`,
    '--inh-caps=-all',
    `--reuid=${runAsUser}`,
    '--regid=0',
    '--clear-groups',
  ];
  return [
    ...['unshare', '--mount', '--ipc', '--propagation', 'private', '--kill-child=KILL', '--fork'],
    ...(pod.hostPID === true ? [] : ['--pid']),
    ...(pod.hostNetwork === true ? [] : ['--net']),
    ...[
      'bash',
      '--norc',
      '-c',
      script,
      'bash',
      helper,
      ...rights,
      ...(allowPrivilegeEscalation ? [] : ['--no-new-privs']),
    ],
    ...['--', ...entrypoint(), ...args],
  ];
}
