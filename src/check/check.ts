/** `holdfast check`: looks at everything on a node that Holdfast depends on, before it is installed and after, and changes nothing. */
import { type Asks, nodeAsks } from '../install/asks.js';
import { KubeletConfigError } from '../install/kubelet-config.js';
import type { Machine } from '../install/machine.js';
import { findKubelet, type Kubelet } from '../install/node-facts.js';
import { readRecord } from '../install/record.js';
import { config, environment } from './configuration-checks.js';
import { consequence, type Finding, type Found, fail } from './finding.js';
import {
  bypass,
  installed,
  program,
  service,
  socket,
  socketUnit,
  upgraded,
  versionThrough,
  watchdog,
  way,
} from './holdfast-checks.js';
import { confirmed, crioStats, deadline, endpoint, kubeletWell, lists, runningEndpoint } from './kubelet-checks.js';
import { crictl, disk, pressure, problemDetector, socketProxy } from './node-checks.js';
import { runtimeVersion } from './runtime-checks.js';
import { type Scene, sceneOf } from './scene.js';

export interface CheckOptions {
  /** The runtime's socket. */
  readonly runtime: string | undefined;
  readonly kubeletUnit: string | undefined;
}

type Outcome = Found | typeof consequence | undefined;
/** @param failed Names of the checks before it that failed. @returns Nothing where there is nothing to look at. */
type Look = (scene: Scene, failed: ReadonlySet<string>) => Outcome | Promise<Outcome>;

interface Check {
  readonly group: Finding['group'];
  readonly name: string;
  readonly look: Look;
  /** Checks without whose success there is nothing to look at. */
  readonly after?: readonly string[];
}

const checks: readonly Check[] = [
  { group: 'runtime', name: 'runtime-version', look: runtimeVersion },
  { group: 'holdfast', name: 'installed', look: installed },
  { group: 'holdfast', name: 'program', look: program },
  { group: 'holdfast', name: 'config', look: config },
  { group: 'holdfast', name: 'environment', look: environment },
  { group: 'holdfast', name: 'bypass', look: bypass },
  { group: 'holdfast', name: 'service', look: service, after: ['bypass'] },
  { group: 'holdfast', name: 'upgrade', look: upgraded },
  { group: 'holdfast', name: 'socket-unit', look: socketUnit },
  { group: 'holdfast', name: 'watchdog', look: watchdog },
  { group: 'holdfast', name: 'socket', look: socket, after: ['socket-unit'] },
  { group: 'holdfast', name: 'version-through', look: versionThrough, after: way },
  { group: 'kubelet', name: 'kubelet', look: kubeletWell, after: ['configuration'] },
  { group: 'kubelet', name: 'confirmed', look: confirmed },
  { group: 'kubelet', name: 'endpoint', look: endpoint, after: ['confirmed'] },
  { group: 'kubelet', name: 'process', look: runningEndpoint },
  { group: 'kubelet', name: 'lists', look: lists, after: [...way, 'version-through', 'kubelet', 'process', 'bypass'] },
  { group: 'kubelet', name: 'deadline', look: deadline },
  { group: 'kubelet', name: 'crio-stats', look: crioStats },
  { group: 'node', name: 'pressure', look: pressure },
  { group: 'node', name: 'crictl', look: crictl },
  { group: 'node', name: 'node-problem-detector', look: problemDetector },
  { group: 'node', name: 'socket-proxy', look: socketProxy },
  { group: 'node', name: 'disk', look: disk },
];

export async function check(machine: Machine, options: CheckOptions, asks: Asks = nodeAsks): Promise<Finding[]> {
  let kubelet: Kubelet | undefined;
  const found: Finding[] = [];
  try {
    kubelet = await findKubelet(machine, options.kubeletUnit ?? readRecord(machine.files)?.kubeletUnit);
  } catch (error) {
    if (!(error instanceof KubeletConfigError)) throw error;
    const remedy = 'put it right: the kubelet does not start with it';
    found.push({ group: 'kubelet', name: 'configuration', ...fail(error.message, remedy) });
  }
  const scene = await sceneOf(machine, kubelet, options.runtime, asks);
  const failed = new Set(found.map(({ name }) => name));
  for (const { group, name, look, after = [] } of checks) {
    if (after.some((other) => failed.has(other))) continue;
    const finding = await look(scene, failed);
    if (finding === consequence || finding?.level === 'fail') failed.add(name);
    if (finding !== undefined && finding !== consequence) found.push({ group, name, ...finding });
  }
  const order = [...new Set(checks.map(({ group }) => group))];
  return found.sort((a, b) => order.indexOf(a.group) - order.indexOf(b.group));
}
