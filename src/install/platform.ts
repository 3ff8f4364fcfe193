/** Which kind of node this is, as far as the place of the kubelet's endpoint depends on it, and which kinds Holdfast leaves alone. */
import type { KubeletSetup } from './kubelet.js';
import type { NodeFiles } from './node-files.js';
import { Refusal } from './refusal.js';

export const platforms = ['auto', 'config-dir', 'kubeadm', 'nodeadm', 'k3s', 'none'] as const;
export type Platform = Exclude<(typeof platforms)[number], 'auto'>;

/** What kubeadm ≥ 1.34 keeps of a node's own settings: `kubeadm upgrade` patches config.yaml with it. */
export const instanceConfig = '/var/lib/kubelet/instance-config.yaml';
export const kubeadmFlags = '/var/lib/kubelet/kubeadm-flags.env';
export const k3sConfigDir = '/var/lib/rancher/k3s/agent/etc/kubelet.conf.d';
const nodeadmConfig = '/etc/kubernetes/kubelet/config.json';

export const defaultRuntimes = {
  containerd: '/run/containerd/containerd.sock',
  crio: '/run/crio/crio.sock',
  k3s: '/run/k3s/containerd/containerd.sock',
} as const;

/**
 * @param acceptUnsupported Also a kind whose vendor does not want it changed, where it can be.
 * @throws {Refusal} It is a kind whose kubelet cannot be told, or is told by somebody else than the files of the node.
 */
export function refuseImpossible(files: NodeFiles, acceptUnsupported: boolean): void {
  const release = files.text('/etc/os-release') ?? files.text('/usr/lib/os-release') ?? '';
  const id = /^ID=["']?([\w.-]+)/m.exec(release)?.[1];
  if (id === 'talos') {
    throw new Refusal(
      "this is Talos, which sets the kubelet's endpoint itself, over whatever is configured",
      'Holdfast cannot stand between kubelet and runtime here: leave Talos nodes out',
    );
  }
  if (id === 'bottlerocket') {
    throw new Refusal(
      'this is Bottlerocket, where the endpoint is a flag in a generated unit on a read-only root',
      "it would take a variant of one's own: leave Bottlerocket nodes out",
    );
  }
  if (files.has('/etc/machine-config-daemon') || files.has('/etc/openshift/kubelet.conf.d')) {
    throw new Refusal(
      'this is OpenShift, whose Machine Config Operator writes kubelet.service and undoes what others change',
      `use a MachineConfig (docs/install.md has one), and here only holdfast install --platform none --accept-unsupported`,
    );
  }
  if (id === 'cos' && !acceptUnsupported) {
    throw new Refusal(
      'this is Container-Optimized OS, where GKE supports no endpoint but its own',
      'add --accept-unsupported to do it all the same; a new node image takes it away again',
    );
  }
}

/**
 * @param setup Of kubelet.service; undefined where there is none.
 * @throws {Refusal} Nothing tells.
 */
export function detectPlatform(files: NodeFiles, setup: KubeletSetup | undefined): Platform {
  if (setup === undefined && files.has(k3sConfigDir)) return 'k3s';
  if (files.has('/etc/eks') && files.has(nodeadmConfig)) return 'nodeadm';
  if (files.has(kubeadmFlags) || files.has(instanceConfig)) return 'kubeadm';
  if (setup?.configDir !== undefined) return 'config-dir';
  throw new Refusal(
    setup === undefined
      ? 'there is no kubelet.service on this node, and no k3s'
      : "kubelet.service has no --config-dir, and this is no node of kubeadm's, nodeadm's or k3s's",
    'say --platform if it is one of them (and --kubelet-unit if its unit has another name); --platform none installs all but the ' +
      'endpoint, which is then yours to set',
  );
}

/** @returns The socket of the runtime that is there. */
export function runtimeThere(files: NodeFiles): string | undefined {
  return [defaultRuntimes.containerd, defaultRuntimes.crio].find((socket) => files.has(socket));
}
