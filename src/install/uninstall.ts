/**
 * `holdfast uninstall`: what `install` did, backwards. The kubelet's endpoint first; the units go only once the kubelet is well without
 * them, the program last. It asks Holdfast nothing: that may be dead, half installed or long gone.
 */
import { dirname } from 'node:path';
import { alone } from './alone.js';
import { isOwnName } from './endpoint-plan.js';
import { type Undone, undoChange } from './endpoint-undo.js';
import { endpointFlag, isSameEndpoint, kubeletSetup, runningFlag, shownSource } from './kubelet.js';
import { endpointIn, KubeletConfigError, parseKubeletConfig } from './kubelet-config.js';
import { type AskHealthz, askHealthz, kubeletHealth, waitUntilHealthy } from './kubelet-health.js';
import { annotateForKubeadm, unlabelNode } from './label.js';
import type { Machine } from './machine.js';
import { configuredRuntime, findKubelet, type Kubelet } from './node-facts.js';
import { holdfastEndpoint, paths, unitNames } from './paths.js';
import { relabel } from './placing.js';
import { instanceConfig, k3sConfigDir } from './platform.js';
import { backupFolder, digest, type InstallRecord, readRecord, updateRecord } from './record.js';
import { Refusal } from './refusal.js';
import { marks, revert } from './revert-script.js';
import type { Steps } from './steps.js';
import { systemctl, unitState } from './systemctl.js';
import { forgetUpgrade } from './upgrade.js';
import { disarm } from './way-back.js';

/** In this order. */
export const uninstallStages = ['label', 'switch', 'units', 'artifacts'] as const;
export type UninstallStage = (typeof uninstallStages)[number];
export const usualUninstallStages: readonly UninstallStage[] = ['switch', 'units', 'artifacts'];

export interface UninstallOptions {
  readonly stages: readonly UninstallStage[];
  /** Where nothing tells what the kubelet used before. */
  readonly runtime: string | undefined;
  readonly kubeletUnit: string | undefined;
  /** How long the kubelet may take to get well, ms. */
  readonly healthyWithinMs: number;
}

/** @throws {Refusal} Something is left, and the message says what. */
export async function uninstall(
  machine: Machine,
  steps: Steps,
  options: UninstallOptions,
  healthz: AskHealthz = askHealthz,
): Promise<void> {
  const act = () => uninstallStagesOf(machine, steps, options, healthz);
  await (steps.dryRun ? act() : alone(machine.files, act));
}

async function uninstallStagesOf(
  machine: Machine,
  steps: Steps,
  options: UninstallOptions,
  healthz: AskHealthz,
): Promise<void> {
  const record = readRecord(machine.files);
  const find = () => {
    const unit = options.kubeletUnit ?? record?.kubeletUnit;
    return findKubelet(machine, unit === 'kubelet.service' ? undefined : unit, record?.ownConfigDir === k3sConfigDir);
  };
  const act: Readonly<Record<UninstallStage, () => Promise<void>>> = {
    label: async () => unlabelNode(machine, steps, (await find())?.setup.words ?? []),
    switch: () => switchBack(machine, steps, { options, record, find, healthz }),
    units: async () => {
      await refuseInUse(machine, await find(), steps.dryRun);
      if (!steps.dryRun) await forgetUpgrade(machine);
      await removeUnits(machine, steps, record);
    },
    artifacts: () => removeArtifacts(machine, steps, record),
  };
  for (const stage of uninstallStages) {
    if (!options.stages.includes(stage)) continue;
    steps.stage(stage);
    await act[stage]();
  }
}

interface SwitchingBack {
  readonly options: UninstallOptions;
  readonly record: InstallRecord | undefined;
  readonly find: () => Promise<Kubelet | undefined>;
  readonly healthz: AskHealthz;
}

async function switchBack(machine: Machine, steps: Steps, switching: SwitchingBack): Promise<void> {
  const { files } = machine;
  const { options, record, find } = switching;
  const runtime = options.runtime ?? (record?.runtime || undefined) ?? configuredRuntime(files.text(paths.config));
  const fallback = runtime === undefined ? undefined : `unix://${runtime}`;
  let changed = false;
  const undoAll = async (changes: readonly Undone[]) => {
    for (const change of changes) {
      if (!(await undo(machine, steps, change))) continue;
      changed = true;
      if (change.kind === 'unit' && !steps.dryRun) await systemctl(machine, 'daemon-reload');
    }
  };
  await undoAll(recorded(machine, record, fallback));
  // What no record tells of: it was lost, or somebody else set the endpoint.
  const there = await find();
  if (there !== undefined && !(steps.dryRun && changed)) await undoAll(unrecorded(there, fallback));
  // Until here it would have been taken back, whatever had become of this process.
  if (!steps.dryRun) {
    for (const mark of [marks.unconfirmed, marks.reverting]) files.remove(mark);
    await disarm(machine, revert);
  }
  const kubelet = await find();
  if (kubelet === undefined) {
    steps.note('there is no unit of a kubelet on this node');
    return;
  }
  refuseTold(kubelet, steps.dryRun);
  if (changed || files.has(marks.restartDue)) await restartKubelet(machine, steps, kubelet, switching);
  else steps.already(`the kubelet's endpoint is ${kubelet.setup.endpoint}`);
}

function recorded({ files }: Machine, record: InstallRecord | undefined, fallback = ''): Undone[] {
  return [...(record?.changes ?? [])].reverse().map(({ file, kind, previous, before, after }) => ({
    file,
    kind,
    previous,
    // Without its copy nothing is known to be as it was.
    before: before === undefined ? undefined : (files.text(before) ?? '(lost)'),
    after: files.text(before ?? after) === undefined ? undefined : files.text(after),
    endpoint: holdfastEndpoint,
    fallback,
  }));
}

/** Files that lead the kubelet to Holdfast and of which nothing is remembered. */
function unrecorded({ sources, setup }: Kubelet, fallback: string | undefined): Undone[] {
  const configs = [...setup.dropIns, ...(setup.configFile === undefined ? [] : [setup.configFile]), instanceConfig];
  const found = new Map<string, Undone['kind']>();
  for (const file of configs) {
    if (saysHoldfast(sources.text(file), file)) found.set(file, 'config');
  }
  if (setup.from.kind === 'flag' && isSameEndpoint(setup.endpoint, holdfastEndpoint)) {
    const { kind, file } = setup.from.word.origin;
    found.set(file, kind === 'environment-file' ? 'flag' : 'unit');
  }
  if (found.size > 0 && fallback === undefined) {
    throw new Refusal(
      `nothing tells which runtime the kubelet used before Holdfast (see ${[...found.keys()].join(', ')})`,
      'say it: holdfast uninstall --runtime unix:///run/containerd/containerd.sock',
    );
  }
  return [...found].map(([file, kind]) => {
    // Where Holdfast's own file stood there was none; in others the runtime's endpoint takes the place of Holdfast's.
    const isOwn = isOwnName(file);
    const [previous, after] = isOwn ? [undefined, sources.text(file)] : [fallback, undefined];
    return { file, kind, previous, before: undefined, after, endpoint: setup.endpoint, fallback: fallback ?? '' };
  });
}

function saysHoldfast(text: string | undefined, file: string): boolean {
  try {
    const said = text === undefined ? undefined : endpointIn(parseKubeletConfig(text, file));
    return said !== undefined && isSameEndpoint(said, holdfastEndpoint);
  } catch (error) {
    if (error instanceof KubeletConfigError) return false;
    throw error;
  }
}

/** @returns Whether the file is another one now, or would be. */
async function undo(machine: Machine, steps: Steps, change: Undone): Promise<boolean> {
  const { files } = machine;
  const { file } = change;
  const result = undoChange(change, files.text(file));
  if (result.kind === 'nothing') {
    steps.already(`${file} is as before Holdfast`);
    return false;
  }
  if (result.kind === 'leave') {
    steps.warn(`${file} is left alone: ${result.why}`);
    return false;
  }
  if (!steps.dryRun) files.write(marks.restartDue, '');
  if (result.kind === 'remove') {
    await steps.do(`${file} removed`, () => {
      files.remove(file);
      if (change.kind === 'unit') files.removeEmptyFolder(dirname(file));
    });
    return true;
  }
  const how = result.byHand ? 'was changed since, so that only the endpoint in it is put back' : 'is as before';
  await steps.do(`${file} ${how}`, async () => {
    files.write(file, result.text);
    await relabel(machine, file);
  });
  return true;
}

/** Without its socket a kubelet that is still behind Holdfast would end. */
function refuseTold({ sources, setup }: Kubelet, dryRun: boolean): void {
  if (dryRun || !isSameEndpoint(setup.endpoint, holdfastEndpoint)) return;
  throw new Refusal(
    `the kubelet is still told ${setup.endpoint} (${shownSource(setup.from)})`,
    `change that by hand, restart ${sources.unit} and run this again; nothing else was removed`,
  );
}

/** What it was started with need not be what it would be started with now. */
async function refuseInUse(machine: Machine, kubelet: Kubelet | undefined, dryRun: boolean): Promise<void> {
  if (kubelet === undefined || dryRun) return;
  refuseTold(kubelet, dryRun);
  const { unit } = kubelet.sources;
  if (machine.files.has(marks.restartDue)) {
    throw new Refusal(
      `${unit} has not been started since its endpoint was put back`,
      'run holdfast uninstall without --stage; nothing else was removed',
    );
  }
  const flag = await runningFlag(machine, unit);
  if (flag === undefined || !isSameEndpoint(flag, holdfastEndpoint)) return;
  throw new Refusal(
    `the kubelet runs with ${endpointFlag}=${flag}, which ${unit} does not say`,
    `change it in what starts the kubelet, restart ${unit} and run this again; nothing else was removed`,
  );
}

async function restartKubelet(
  machine: Machine,
  steps: Steps,
  { sources, setup }: Kubelet,
  { options, healthz }: SwitchingBack,
): Promise<void> {
  const { unit } = sources;
  const before = (await unitState(machine, unit, 'InvocationID')).InvocationID;
  await steps.do(`${unit} restarted`, async () => {
    await machine.run('systemctl', ['reset-failed', unit]);
    await systemctl(machine, '--no-block', 'restart', unit);
  });
  if (steps.dryRun) return;
  const look = async () => {
    const { config } = kubeletSetup(sources);
    const health = await kubeletHealth(machine, unit, config, healthz);
    if (health.invocation === before) return { ...health, trouble: 'it has not been started anew' };
    machine.files.remove(marks.restartDue);
    return health;
  };
  const trouble = await waitUntilHealthy(machine, look, options.healthyWithinMs);
  if (trouble !== undefined) {
    throw new Refusal(
      `the kubelet's endpoint is ${setup.endpoint}, and the kubelet is not well: ${trouble}`,
      `see journalctl -u ${unit}; what is left goes with holdfast uninstall --stage units,artifacts`,
    );
  }
  updateRecord(machine.files, { changes: [] });
  steps.note(`the kubelet is well, with ${setup.endpoint}`);
  if (setup.from.kind === 'flag') await annotateForKubeadm(machine, steps, setup.words, setup.endpoint);
}

async function removeUnits(machine: Machine, steps: Steps, record: InstallRecord | undefined): Promise<void> {
  const { files, run } = machine;
  // What starts others goes first, so that nothing starts what has been stopped.
  const there = [...unitNames].reverse().filter((name) => files.has(`${paths.units}/${name}`));
  if (there.length === 0) {
    steps.already('no unit of Holdfast is there');
  } else {
    await steps.do(`${there.join(', ')} stopped and disabled`, async () => {
      await run('systemctl', ['disable', ...there]);
      await systemctl(machine, 'stop', ...there);
      // One that hung has failed by being stopped, and that has started what follows a failure.
      await systemctl(machine, 'stop', ...there);
    });
    for (const name of there) await removeUnit(machine, steps, record, `${paths.units}/${name}`);
    if (!steps.dryRun) {
      await systemctl(machine, 'daemon-reload');
      await run('systemctl', ['reset-failed', ...there]);
    }
  }
  for (const folder of unitNames.map((name) => `${paths.units}/${name}.d`)) {
    if (files.has(folder)) steps.warn(`${folder} is not of holdfast install and stays`);
  }
  if (!steps.dryRun) files.remove(dirname(paths.socket));
}

/** What somebody has changed since is kept beside the other copies. */
async function removeUnit(
  machine: Machine,
  steps: Steps,
  record: InstallRecord | undefined,
  file: string,
): Promise<void> {
  const { files } = machine;
  const content = files.bytes(file) ?? Buffer.alloc(0);
  if (record !== undefined && digest(content) !== record.installed[file]) {
    const copy = `${backupFolder(machine.date())}/removed${file}`;
    steps.warn(`${file} was changed since it was installed; a copy is kept as ${copy}`);
    if (!steps.dryRun) files.write(copy, content);
  }
  await steps.do(`${file} removed`, () => files.remove(file));
}

async function removeArtifacts(machine: Machine, steps: Steps, record: InstallRecord | undefined): Promise<void> {
  const { files } = machine;
  if (files.linkTarget(paths.link) === paths.launcher) {
    await steps.do(`${paths.link} removed`, () => files.remove(paths.link));
  }
  const config = files.bytes(paths.config);
  if (config !== undefined && digest(config) !== record?.installed[paths.config]) {
    steps.warn(`${paths.config} is not as it was installed, and stays`);
  } else if (config !== undefined) {
    await steps.do(`${paths.config} removed`, () => files.remove(paths.config));
  }
  if (files.has(paths.program)) await steps.do(`${paths.program} removed`, () => files.remove(paths.program));
  else steps.already(`${paths.program} is not there`);
  if (!files.has(paths.state)) return;
  // Where something was left to somebody, they may want to see what it was.
  if (steps.warnings > 0) steps.note(`${paths.state} stays, with copies of what was changed`);
  else await steps.do(`${paths.state} removed`, () => files.remove(paths.state));
}
