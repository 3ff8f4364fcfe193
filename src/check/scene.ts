/** What the checks see of a node. */
import type { HoldfastConfig } from '../config/config.js';
import { resolveConfig } from '../config/resolve.js';
import type { Asks } from '../install/asks.js';
import { isSameEndpoint, socketOf } from '../install/kubelet.js';
import type { Machine } from '../install/machine.js';
import { configuredRuntime, type Kubelet } from '../install/node-facts.js';
import { holdfastEndpoint, paths } from '../install/paths.js';
import { runtimeThere } from '../install/platform.js';
import { readRecord } from '../install/record.js';
import { type ServiceStart, serviceStart, valuesOf, variableOf } from '../install/unit-environment.js';

export interface Scene {
  readonly machine: Machine;
  readonly asks: Asks;
  /** The runtime's socket. */
  readonly runtime: string | undefined;
  readonly kubelet: Kubelet | undefined;
  /** What holdfast.service starts Holdfast with. */
  readonly start: ServiceStart;
  /** Of Holdfast, whole and checked; undefined where there is none, or none that is accepted. */
  readonly config: HoldfastConfig | undefined;
  /** Why it is not accepted. */
  readonly configFault: string | undefined;
  readonly isInstalled: boolean;
  readonly isBehind: boolean;
}

/** @param runtime As the user has it, who knows best. */
export async function sceneOf(
  machine: Machine,
  kubelet: Kubelet | undefined,
  runtime: string | undefined,
  asks: Asks,
): Promise<Scene> {
  const { files } = machine;
  const start = await serviceStart(machine);
  const told =
    socketOf(variableOf(start, 'runtime')?.value ?? '') ??
    configuredRuntime(files.text(paths.config)) ??
    (readRecord(files)?.runtime || undefined);
  const isBehind = kubelet !== undefined && isSameEndpoint(kubelet.setup.endpoint, holdfastEndpoint);
  const used = kubelet === undefined || isBehind ? undefined : socketOf(kubelet.setup.endpoint);
  return {
    machine,
    asks,
    runtime: runtime ?? told ?? used ?? runtimeThere(files),
    kubelet,
    start,
    ...holdfastConfig(machine, start),
    isInstalled: files.has(`${paths.units}/holdfast.service`) || files.has(paths.launcher),
    isBehind,
  };
}

/** As the service would have it. */
function holdfastConfig({ files }: Machine, start: ServiceStart): Pick<Scene, 'config' | 'configFault'> {
  const { config: file, ...argv } = start.argv;
  const read = file === undefined ? {} : { config: files.real(file) };
  try {
    const config = resolveConfig({ argv: { ...argv, ...read }, env: valuesOf(start), willBePassed: true });
    return { config, configFault: undefined };
  } catch (error) {
    return { config: undefined, configFault: error instanceof Error ? error.message : String(error) };
  }
}
