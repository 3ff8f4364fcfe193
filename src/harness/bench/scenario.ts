/**
 * Scenarios of `holdfast bench`: YAML files, checked and complete. examples/scenarios/README.md explains the fields to whoever
 * writes one.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ConfigError } from '../../config/config-error.js';
import { readConfigFile } from '../../config/file.js';
import { choice, count, duration, flag, type Kind, rate } from '../../config/kinds.js';
import { type Option, options } from '../../config/options.js';
import { shippedFiles, shippedText } from '../../shipped.js';
import { resources } from '../../throttle/pressure.js';
import type { ExitPlan } from '../exit-plan.js';
import type { RestartPolicy } from '../kubelet/pod.js';
import { type Profile, profiles } from '../runtime/profiles.js';
import { Fields } from './fields.js';

export const armNames = ['direct', 'holdfast', 'holdfast-off', 'holdfast-no-psi', ...profiles] as const;

export type ArmName = (typeof armNames)[number];

export interface Scenario {
  readonly name: string;
  readonly description: string;
  readonly pods: number;
  /** How long an arm is watched at most. */
  readonly watchMs: number;
  /** Whether it is watched for all of that time, also when all pods run. */
  readonly watchesAll: boolean;
  /** Whether the arms run at the same time. */
  readonly sideBySide: boolean;
  readonly kubelet: KubeletPart;
  readonly runtime: RuntimePart;
  readonly arms: readonly ArmName[];
  /** Further arguments of `holdfast serve`. */
  readonly holdfast: readonly string[];
}

export interface KubeletPart {
  readonly requestTimeoutMs: number;
  readonly backoffMs: readonly [least: number, longest: number];
  readonly relistMs: number;
  /** Pods asked for per second, at random times; undefined: all at once. */
  readonly arrivalsPerSecond: number | undefined;
  /** Per pod. */
  readonly containers: number;
  /** How containers end by themselves; undefined: they do not. */
  readonly exits: ExitPlan | undefined;
  /** Of each pod, and how long each runs before it ends with 0. */
  readonly initContainers: { readonly count: number; readonly runMs: number } | undefined;
  /** Pods take turns. */
  readonly restartPolicies: readonly [RestartPolicy, ...RestartPolicy[]];
  /** How long an image pull takes, before each container; undefined: nothing is pulled. */
  readonly pullMs: number | undefined;
  readonly events: boolean;
  /** A share of the pods is deleted so long after it was asked for. */
  readonly delete: { readonly share: number; readonly afterMs: number } | undefined;
  /** So many of the pods are in kube-system, and are asked for at once, so long after the beginning. */
  readonly critical: { readonly pods: number; readonly afterMs: number } | undefined;
  /** So many of the pods are static: they are in kube-system, are asked for at once, so long after the beginning, and do not end. */
  readonly static: StaticPart | undefined;
}

export interface StaticPart {
  readonly pods: number;
  readonly afterMs: number;
  /** They are deleted once and come back with their uid; undefined: they stay. */
  readonly away: { readonly deleteMs: number; readonly returnMs: number } | undefined;
}

/** How long a step takes: log-normal around its median (sigma 0: always as long), and longer for a share of the calls. */
export interface StepTime {
  readonly medianMs: number;
  readonly sigma: number;
  readonly stall: { readonly share: number; readonly forMs: number } | undefined;
}

export interface RuntimePart {
  readonly profile: Profile;
  readonly runPodSandbox: StepTime;
  readonly createContainer: StepTime;
  readonly startContainer: StepTime;
  /** How long undoing takes. */
  readonly rollbackMs: number;
  readonly contention:
    | {
        readonly cores: number;
        readonly coefficient: number;
        readonly resource: (typeof resources)[number];
        /** Share of the time in which others on the node want for the resource. */
        readonly busy: number;
      }
    | undefined;
  /** Of the calls that make something. */
  readonly failures: { readonly share: number; readonly hangShare: number };
  readonly hangs: Hangs;
  readonly restarts: readonly { readonly atMs: number; readonly downMs: number }[];
}

/** Pods whose sandboxes hang. */
export interface Hangs {
  readonly share: number;
  /** How many sandboxes of each hang, from the first on; undefined: all, so it never runs. */
  readonly times: number | undefined;
  /** They are asked for so long before the other pods, but for static ones and those in kube-system. */
  readonly leadMs: number;
}

export const noHangs: Hangs = { share: 0, times: undefined, leadMs: 0 };

/** The strategies for work whose caller has left: remove it, stop it, keep it, keep it and begin no more than the node can do. */
const strategies: readonly ArmName[] = ['crio-remove', 'containerd', 'crio-store', 'holdfast'];

const shippedFolder = 'examples/scenarios';

const text: Kind<string> = { allowed: 'a text', parse: (given) => (given.trim() === '' ? undefined : given.trim()) };
const time = duration('0s', '1h');
const someTime = duration('1ms', '1h');
export const podCount = count(1, 5_000);

/** 0 to 1. */
const share: Kind<number> = {
  allowed: 'percent from 0 to 100, like 20%',
  parse: (given) => {
    const percent = /^(\d+(?:\.\d+)?)%?$/.exec(given)?.[1];
    return percent !== undefined && Number(percent) <= 100 ? Number(percent) / 100 : undefined;
  },
};

/** 0: all at once. */
const arrivals: Kind<number> = {
  allowed: 'at-once or N/s, like 5/s or 0.5/s',
  parse: (given) =>
    given === 'at-once' ? 0 : given.endsWith('/s') ? rate(1_000).parse(given.slice(0, -2)) : undefined,
};

const restartPolicies: Readonly<Record<string, RestartPolicy>> = {
  always: 'Always',
  'on-failure': 'OnFailure',
  never: 'Never',
};

const restartPolicy: Kind<RestartPolicy> = {
  allowed: `one of ${Object.keys(restartPolicies).join(', ')}`,
  parse: (given) => restartPolicies[given],
};

const armOrStrategies = choice(...armNames, 'strategies');

/** Names of arms with commas between them, each arm once; `strategies` stands for four. */
export const armList: Kind<readonly ArmName[]> = {
  allowed: `${armOrStrategies.allowed}, with commas between them`,
  parse: (given) => {
    const names = given.split(',').map((name) => armOrStrategies.parse(name.trim()));
    return names.every((name) => name !== undefined) ? expand(names) : undefined;
  },
};

function expand(names: readonly (ArmName | 'strategies')[]): readonly ArmName[] {
  return [...new Set(names.flatMap((name) => (name === 'strategies' ? strategies : [name])))];
}

/** Names of the scenarios that come with Holdfast. */
export function shippedScenarios(): readonly string[] {
  return shippedFiles(shippedFolder)
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => path.basename(file, '.yaml'));
}

/**
 * @param asked Name of a scenario that comes with Holdfast, or a file.
 * @throws {ConfigError} There is no such scenario, or a field of it is wrong, missing or unknown.
 */
export function readScenario(asked: string): Scenario {
  const shipped = shippedScenarios();
  const isShipped = shipped.includes(asked);
  if (!isShipped && !existsSync(asked)) {
    throw new ConfigError(`--scenario: ${JSON.stringify(asked)} is no file, and none of ${shipped.join(', ')}`);
  }
  const file = isShipped ? `${shippedFolder}/${asked}.yaml` : asked;
  const read = isShipped ? shippedText : (found: string) => readFileSync(found, 'utf8');
  const fields = new Fields(readConfigFile(file, '--scenario', topLevel, read), file);
  const kubelet = fields.mapping('kubelet');
  const runtime = fields.mapping('runtime');
  return {
    name: path.basename(asked, path.extname(asked)),
    description: fields.value('description', text).replace(/\s+/g, ' '),
    pods: fields.value('pods', podCount),
    watchMs: fields.value('watch', someTime),
    watchesAll: fields.value('watch-all', flag, false),
    sideBySide: fields.value('side-by-side', flag, false),
    kubelet: kubeletPart(kubelet),
    runtime: runtimePart(runtime),
    arms: expand(fields.list('arms', armOrStrategies) ?? ['direct', 'holdfast']),
    holdfast: holdfastArguments(fields.mapping('holdfast')),
  };
}

const topLevel = [
  'description',
  'pods',
  'watch',
  'watch-all',
  'side-by-side',
  'kubelet',
  'runtime',
  'arms',
  'holdfast',
];

function kubeletPart(fields: Fields): KubeletPart {
  const backoff = fields.mapping('backoff');
  const deletion = fields.optionalMapping('delete');
  const critical = fields.optionalMapping('critical');
  const exits = fields.optionalMapping('exits');
  const init = fields.optionalMapping('init-containers');
  const statics = fields.optionalMapping('static');
  const least = backoff.value('least', time, 10_000);
  const longest = backoff.value('longest', time, Math.max(15_000, least));
  if (longest < least) throw backoff.refusal('longest', 'at least as much as for least');
  const part: KubeletPart = {
    requestTimeoutMs: fields.value('request-timeout', someTime, 120_000),
    backoffMs: [least, longest],
    relistMs: fields.value('relist', someTime, 1_000),
    arrivalsPerSecond: fields.value('arrivals', arrivals, 0) || undefined,
    containers: fields.value('containers', count(1, 20), 1),
    exits: exits && exitPlan(exits),
    initContainers: init && { count: init.value('count', count(1, 20)), runMs: init.value('run', time) },
    restartPolicies: restartPoliciesOf(fields),
    pullMs: fields.optional('pull', someTime),
    events: fields.value('events', flag, false),
    delete: deletion && { share: deletion.value('share', share), afterMs: deletion.value('after', time) },
    critical: critical && { pods: critical.value('pods', podCount), afterMs: critical.value('after', time) },
    static: statics && staticPart(statics),
  };
  for (const mapping of [fields, backoff, deletion, critical, exits, init, statics]) mapping?.end();
  return part;
}

function exitPlan(fields: Fields): ExitPlan {
  const times = fields.optional('times', count(1, 1_000));
  return {
    afterMs: fields.value('after', time),
    code: fields.value('code', count(0, 255), 0),
    ...(times === undefined ? {} : { times }),
  };
}

function restartPoliciesOf(fields: Fields): KubeletPart['restartPolicies'] {
  const [first, ...others] = fields.list('restart-policy', restartPolicy) ?? [];
  return first === undefined ? ['Always'] : [first, ...others];
}

function staticPart(fields: Fields): StaticPart {
  const [pods, afterMs] = [fields.value('pods', podCount), fields.value('after', time, 0)];
  if (fields.optional('delete', time) === undefined && fields.optional('return', time) === undefined) {
    return { pods, afterMs, away: undefined };
  }
  const [deleteMs, returnMs] = [fields.value('delete', time), fields.value('return', time)];
  if (deleteMs <= afterMs) throw fields.refusal('delete', 'more than for after');
  if (returnMs <= deleteMs) throw fields.refusal('return', 'more than for delete');
  return { pods, afterMs, away: { deleteMs, returnMs } };
}

function runtimePart(fields: Fields): RuntimePart {
  const contention = fields.optionalMapping('contention');
  const failures = fields.mapping('failures');
  const hangs = fields.optionalMapping('hangs');
  const restarts = fields.mappings('restarts');
  const part: RuntimePart = {
    profile: fields.value('profile', choice(...profiles), 'containerd'),
    runPodSandbox: stepTime(fields, 'run-pod-sandbox'),
    createContainer: stepTime(fields, 'create-container'),
    startContainer: stepTime(fields, 'start-container'),
    rollbackMs: fields.value('rollback', time, 100),
    contention: contention && {
      cores: contention.value('cores', count(1, 1_024)),
      coefficient: contention.value('coefficient', rate(10)),
      resource: contention.value('resource', choice(...resources), 'cpu'),
      busy: contention.value('busy', share, 0),
    },
    failures: {
      share: failures.value('share', share, 0),
      hangShare: failures.value('hang-share', share, 0),
    },
    hangs: hangs === undefined ? noHangs : hangsPart(hangs),
    restarts: restarts.map((restart) => ({
      atMs: restart.value('at', time),
      downMs: restart.value('down', time),
    })),
  };
  for (const mapping of [fields, contention, failures, hangs, ...restarts]) mapping?.end();
  return part;
}

function hangsPart(fields: Fields): Hangs {
  return {
    share: fields.value('share', share),
    times: fields.optional('times', count(1, 1_000)),
    leadMs: fields.value('lead', time, 0),
  };
}

const timeOrMapping: Kind<number> = { ...time, allowed: `${time.allowed}, or a mapping with median, sigma and stall` };

function stepTime(fields: Fields, key: string): StepTime {
  if (!fields.isMapping(key)) return { medianMs: fields.value(key, timeOrMapping, 100), sigma: 0, stall: undefined };
  const step = fields.mapping(key);
  const stall = step.optionalMapping('stall');
  const stepTimes: StepTime = {
    medianMs: step.value('median', time),
    sigma: step.optional('sigma', rate(3)) ?? 0,
    stall: stall && { share: stall.value('share', share), forMs: stall.value('for', time) },
  };
  for (const mapping of [step, stall]) mapping?.end();
  return stepTimes;
}

/** What the bench itself says to Holdfast. */
const ownOptions = ['listen', 'runtime', 'pressure-cgroup', 'log-level'];

function holdfastArguments(fields: Fields): readonly string[] {
  const known = Object.values<Option<unknown>>(options).filter(({ name }) => !ownOptions.includes(name));
  const given = known.flatMap(({ name, kind }) => {
    const written = fields.optional(name, {
      allowed: kind.allowed,
      parse: (value) => (kind.parse(value) === undefined ? undefined : value),
    });
    return written === undefined ? [] : [`--${name}=${written}`];
  });
  fields.end();
  return given;
}
