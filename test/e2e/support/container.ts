/**
 * Containers of a pod on a node of the tests, as its manifest says: command, environment, mounts, user, capabilities, read-only root, and of the
 * node's namespaces only those that the pod names. There is no container runtime: unshare, mount, chroot and setpriv do what one would.
 * seccomp, AppArmor, SELinux and cgroups are not there.
 */
import { once } from 'node:events';
import fs from 'node:fs';
import { copy, copyLibraries, type Image } from './image.js';
import { find } from './programs.js';
import type { Ended, SystemdNode } from './systemd-node.js';

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
export const containerPrograms = ['chroot', 'mount', 'setpriv', 'unshare'];

/** Puts into an image what a container of the tests needs there: the folders that are mounted, and `helper`. */
export async function furnish({ root }: Image): Promise<void> {
  const setpriv = find('setpriv') ?? '';
  copy(setpriv, root + helper);
  await copyLibraries(setpriv, root);
  for (const place of ['proc', 'dev', 'host', 'run/holdfast']) fs.mkdirSync(`${root}/${place}`, { recursive: true });
}

/** Runs one container of a pod to its end. */
export function runContainer(node: SystemdNode, image: Image, pod: PodSpec, container: Container): Promise<Ended> {
  const [program = '', ...args] = command(image, pod, container);
  return node.run(program, ...args);
}

/** Starts one container of a pod. @returns What kills it, and waits for its end. */
export function startContainer(
  node: SystemdNode,
  image: Image,
  pod: PodSpec,
  container: Container,
): { kill: () => Promise<void>; output: () => string } {
  const [program = '', ...args] = command(image, pod, container);
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

function command({ config }: Image, pod: PodSpec, { args, securityContext, volumeMounts }: Container): string[] {
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
    `exec env -i ${config.Env.join(' ')} chroot "$root" "$@"`,
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
    ...['--', ...config.Entrypoint, ...args],
  ];
}
