/** What has to be known of a node before anything is changed: its platform, its kubelet, its runtime. */
import { parse } from 'yaml';
import { isSameSocket } from '../config/same-socket.js';
import {
  isSameEndpoint,
  type KubeletSetup,
  type KubeletSources,
  kubeletSetup,
  kubeletSources,
  shownSource,
  socketOf,
} from './kubelet.js';
import type { Machine } from './machine.js';
import { holdfastEndpoint, paths } from './paths.js';
import {
  defaultRuntimes,
  detectPlatform,
  k3sConfigDir,
  type Platform,
  type platforms,
  refuseImpossible,
  runtimeThere,
} from './platform.js';
import { type InstallRecord, readRecord } from './record.js';
import { Refusal } from './refusal.js';

export interface Wanted {
  readonly platform: (typeof platforms)[number];
  /** The runtime's socket. */
  readonly runtime: string | undefined;
  readonly kubeletUnit: string | undefined;
  readonly acceptUnsupported: boolean;
}

export interface Kubelet {
  readonly sources: KubeletSources;
  readonly setup: KubeletSetup;
}

export interface NodeFacts {
  readonly platform: Platform;
  /** undefined only with platform none. */
  readonly kubelet: Kubelet | undefined;
  readonly kubeletUnit: string;
  readonly runtime: string;
}

const sayRuntime = 'say its socket: --runtime unix:///run/containerd/containerd.sock';

/** @throws {Refusal | KubeletConfigError} It cannot be done here. */
export async function nodeFacts(machine: Machine, wanted: Wanted): Promise<NodeFacts> {
  const { files } = machine;
  if (wanted.platform !== 'none' || !wanted.acceptUnsupported) refuseImpossible(files, wanted.acceptUnsupported);
  const kubelet = await findKubelet(machine, wanted.kubeletUnit, wanted.platform === 'k3s');
  const isK3s = kubelet?.sources.ownConfigDir !== undefined;
  const platform =
    wanted.platform === 'auto' ? detectPlatform(files, isK3s ? undefined : kubelet?.setup) : wanted.platform;
  if (platform !== 'none' && kubelet === undefined) {
    const unit = wanted.kubeletUnit ?? (platform === 'k3s' ? 'k3s.service or k3s-agent.service' : 'kubelet.service');
    throw new Refusal(`there is no ${unit}`, 'name the unit that runs the kubelet: --kubelet-unit');
  }
  if (platform === 'config-dir' && kubelet?.setup.configDir === undefined) {
    throw new Refusal(
      'the kubelet has no --config-dir',
      'give it one (Kubernetes 1.30 and later), or leave --platform out',
    );
  }
  const runtime = wanted.runtime ?? knownRuntime(machine, kubelet?.setup, readRecord(files), platform);
  if (runtime === undefined) throw new Refusal('no container runtime is to be seen', sayRuntime);
  const socket = socketOf(runtime);
  if (socket === undefined) throw new Refusal(`the runtime's endpoint ${runtime} is no unix socket`, sayRuntime);
  if (socket === paths.socket) throw new Refusal(`${socket} is Holdfast's own socket, not the runtime's`, sayRuntime);
  if (platform !== 'none' && kubelet !== undefined) refuseOtherRuntime(machine, kubelet, socket);
  return { platform, kubelet, kubeletUnit: kubelet?.sources.unit ?? 'kubelet.service', runtime: socket };
}

/** Behind Holdfast it would find none of its pods, and make all of them once more. */
function refuseOtherRuntime({ files }: Machine, { sources, setup }: Kubelet, runtime: string): void {
  const used = socketOf(setup.endpoint);
  if (used === undefined || isSameEndpoint(used, holdfastEndpoint)) return;
  // Where nothing that is seen here tells it, as with k3s, only what is there can be meant.
  if (setup.from.kind === 'default' && (sources.ownConfigDir !== undefined || !files.has(used))) return;
  if (isSameSocket(files.real(used), files.real(runtime))) return;
  throw new Refusal(
    `the kubelet uses ${used} (${shownSource(setup.from)}), and Holdfast's runtime is ${runtime}: its pods would be lost`,
    `set runtime: ${used} in ${paths.config} if that is there, leave --runtime out, and run this again`,
  );
}

/**
 * @param unit undefined: kubelet.service, and on a node of k3s's the unit that runs that.
 * @param isK3s Whether it is one of k3s's, if it does not look like one.
 */
export async function findKubelet(
  machine: Machine,
  unit: string | undefined,
  isK3s = false,
): Promise<Kubelet | undefined> {
  const looksLikeK3s = isK3s || machine.files.has(k3sConfigDir);
  const k3s = ['k3s.service', 'k3s-agent.service'].map((name) => [name, k3sConfigDir] as const);
  const usual = [...(isK3s ? [] : [['kubelet.service', undefined] as const]), ...(looksLikeK3s ? k3s : [])];
  const candidates =
    unit === undefined ? usual : [[unit, /^k3s/.test(unit) || isK3s ? k3sConfigDir : undefined] as const];
  for (const [name, folder] of candidates) {
    const sources = await kubeletSources(machine, name, folder);
    if (sources !== undefined) return { sources, setup: kubeletSetup(sources) };
  }
  return undefined;
}

/** What Holdfast has been told, else what the kubelet uses, else what is there. */
function knownRuntime(
  { files }: Machine,
  setup: KubeletSetup | undefined,
  record: InstallRecord | undefined,
  platform: Platform,
): string | undefined {
  const told = configuredRuntime(files.text(paths.config)) ?? (record?.runtime || undefined);
  if (told !== undefined) return told;
  if (platform === 'k3s') return defaultRuntimes.k3s;
  if (setup === undefined || isSameEndpoint(setup.endpoint, holdfastEndpoint)) return runtimeThere(files);
  return setup.from.kind === 'default' ? (runtimeThere(files) ?? setup.endpoint) : setup.endpoint;
}

/** @param config Of Holdfast. @returns The runtime's socket in it. */
export function configuredRuntime(config: string | undefined): string | undefined {
  try {
    const { runtime } = (parse(config ?? '') ?? {}) as Readonly<Record<string, unknown>>;
    return typeof runtime === 'string' ? socketOf(runtime) : undefined;
  } catch {
    return undefined;
  }
}
