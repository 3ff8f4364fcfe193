/**
 * A containerd's configuration, in the format of its version: 2 for containerd 1.x, 3 for 2.x, in which the CRI is two plugins. Knows
 * the names of settings, and nothing of where things are.
 */
import type { ContainerdVersion } from '../../support/containerd-version.js';

/** Absolute paths, but for the image. */
export interface ContainerdSettings {
  readonly root: string;
  readonly state: string;
  /** Of the CRI. */
  readonly socket: string;
  /** Where containerd would install programs to. */
  readonly opt: string;
  readonly sandboxImage: string;
  readonly cniBin: string;
  readonly cniConf: string;
  /** The OCI runtime and where it keeps its state. */
  readonly runc: string;
  readonly runcRoot: string;
}

export function containerdConfig({ major }: ContainerdVersion, settings: ContainerdSettings): string {
  return major === 1 ? formatTwo(settings) : formatThree(settings);
}

/** Not probed for; they need devices and file systems that few machines have. */
const disabled = ['aufs', 'btrfs', 'devmapper', 'zfs'].map((name) => `"io.containerd.snapshotter.v1.${name}"`);

function formatTwo(settings: ContainerdSettings): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return `version = 2
${common(settings)}
[${cri}]
  sandbox_image = "${settings.sandboxImage}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[${cri}.cni]
  bin_dir = "${settings.cniBin}"
  conf_dir = "${settings.cniConf}"
${runtime(cri, settings)}`;
}

/** NRI, which 2.x has on, would take a socket that all containerds of a machine share. */
function formatThree(settings: ContainerdSettings): string {
  const cri = 'plugins."io.containerd.cri.v1.runtime"';
  return `version = 3
${common(settings)}
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${settings.sandboxImage}"
[${cri}]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[${cri}.cni]
  bin_dirs = ["${settings.cniBin}"]
  conf_dir = "${settings.cniConf}"
${runtime(cri, settings)}`;
}

function common({ root, state, socket, opt }: ContainerdSettings): string {
  return `root = "${root}"
state = "${state}"
disabled_plugins = [${disabled.join(', ')}]
[grpc]
  address = "${socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${opt}"`;
}

function runtime(cri: string, { runc, runcRoot }: ContainerdSettings): string {
  return `[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[${cri}.containerd.runtimes.runc.options]
  BinaryName = "${runc}"
  Root = "${runcRoot}"
`;
}
