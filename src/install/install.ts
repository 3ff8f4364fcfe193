/** `holdfast install`: its stages in order, each of which can be done by itself and done again. */
import { alone } from './alone.js';
import { installArtifacts, ownProgram } from './artifacts.js';
import { type Asks, nodeAsks } from './asks.js';
import { hostCheck } from './host-check.js';
import { isSameEndpoint } from './kubelet.js';
import { annotateForKubeadm, labelNode } from './label.js';
import type { Machine } from './machine.js';
import { findKubelet, type NodeFacts, nodeFacts, type Wanted } from './node-facts.js';
import { holdfastEndpoint } from './paths.js';
import { Refusal } from './refusal.js';
import { marks } from './revert-script.js';
import type { Steps } from './steps.js';
import { switchKubelet } from './switch.js';
import { installUnits } from './units.js';
import { endInterruptedUpgrade } from './upgrade.js';
import { pauseEnds } from './way-back.js';

/** In this order. */
export const stages = ['host-check', 'artifacts', 'units', 'switch', 'label'] as const;
export type Stage = (typeof stages)[number];
/** The label is for a cluster that installs by itself. */
export const usualStages: readonly Stage[] = ['host-check', 'artifacts', 'units', 'switch'];

export interface InstallOptions extends Wanted {
  readonly stages: readonly Stage[];
  /** The node binary and the one-file program to install; undefined: what runs this. */
  readonly node: string | undefined;
  readonly program: string | undefined;
  /** Folder with unit files; undefined: those that came with the program. */
  readonly units: string | undefined;
  readonly confirmWithinMs: number;
  /** How long a switch or an upgrade that was taken back is not tried again, ms; 0: it is tried at once. */
  readonly retryAfterMs: number;
  /** The configuration to install; undefined: the one that came with the program. */
  readonly config: string | undefined;
}

/**
 * @throws {Refusal | KubeletConfigError} It cannot be done, and the message says why.
 * @throws {RevertedError} The kubelet or a new Holdfast did not do well, and is what it was.
 */
export async function install(
  machine: Machine,
  steps: Steps,
  options: InstallOptions,
  asks: Asks = nodeAsks,
): Promise<void> {
  const act = () => installStages(machine, steps, options, asks);
  await (steps.dryRun ? act() : alone(machine.files, act));
}

async function installStages(machine: Machine, steps: Steps, options: InstallOptions, asks: Asks): Promise<void> {
  const facts = await nodeFacts(machine, options);
  const { runtime, kubeletUnit, kubelet } = facts;
  const act: Readonly<Record<Stage, () => Promise<void>>> = {
    'host-check': () => hostCheck(machine, steps, facts, asks.version),
    artifacts: () => installArtifacts(machine, steps, artifactsOf(options), runtime, options.config),
    units: () =>
      installUnits(machine, steps, { ...options, runtime, kubeletUnit, kubelet, folder: options.units }, asks),
    switch: () => sendKubelet(machine, steps, facts, options, asks),
    label: () => labelNode(machine, steps, kubelet?.setup.words ?? []),
  };
  for (const stage of stages) {
    if (!options.stages.includes(stage)) continue;
    steps.stage(stage);
    const replaces = stage === 'artifacts' || stage === 'units';
    if (replaces && !steps.dryRun) await endInterruptedUpgrade(machine, steps, asks);
    await act[stage]();
  }
}

function artifactsOf({ node, program }: InstallOptions): { node: string; program: string } {
  const found = program ?? ownProgram();
  if (found === undefined) {
    throw new Refusal(
      'this is not the one-file program, and there is none beside it',
      'say where it is: --program FILE',
    );
  }
  return { node: node ?? process.execPath, program: found };
}

function refuseTooSoon(machine: Machine, retryAfterMs: number): void {
  const reverted = machine.files.text(marks.reverted)?.trim();
  const againAt = pauseEnds(machine, reverted, retryAfterMs);
  if (againAt === undefined) return;
  throw new Refusal(
    `the switch was taken back at ${reverted} and is not tried again before ${againAt}`,
    `find out why first (holdfast check, journalctl -u holdfast.service); without ${marks.reverted} it is tried at once`,
  );
}

async function sendKubelet(
  machine: Machine,
  steps: Steps,
  facts: NodeFacts,
  { confirmWithinMs, retryAfterMs }: InstallOptions,
  asks: Asks,
): Promise<void> {
  const { platform, kubelet, kubeletUnit } = facts;
  if (platform === 'none' || kubelet === undefined) {
    steps.later(
      `set the kubelet's containerRuntimeEndpoint to ${holdfastEndpoint}, restart it, and run holdfast check`,
    );
    return;
  }
  refuseTooSoon(machine, retryAfterMs);
  await switchKubelet(machine, steps, { ...facts, kubelet }, confirmWithinMs, asks);
  if (steps.dryRun) return;
  const setup = (await findKubelet(machine, kubeletUnit, platform === 'k3s'))?.setup;
  if (setup?.from.kind === 'flag' && isSameEndpoint(setup.endpoint, holdfastEndpoint)) {
    await annotateForKubeadm(machine, steps, setup.words, holdfastEndpoint);
  }
  if (platform === 'nodeadm') {
    steps.later(
      'set spec.kubelet.config.containerRuntimeEndpoint in the NodeConfig, too: nodeadm writes the configuration anew at each boot',
    );
  }
}
