/** The figures of an arm, in the order and the words in which the table and the picture show them. */
import type { ArmReport, Report } from '../report-data.js';

export interface Figure {
  readonly name: string;
  /** What a reader may need to know about it. */
  readonly note: string;
  /** It is 0 in each arm, of which nobody needs a row. */
  readonly isZero: boolean;
  /** One for each arm: text, and its ratio to the arm `direct` where there is one that can be said. */
  readonly cells: readonly { readonly text: string; readonly ratio: string | undefined }[];
}

interface Definition {
  readonly name: string;
  readonly note: string;
  readonly value: (arm: ArmReport) => number | null;
  readonly format: (value: number, arm: ArmReport) => string;
  /** It is left out where it applies to no arm; default: to all. */
  readonly applies?: (arm: ArmReport) => boolean;
}

export const none = '—';

const hung: Definition = {
  ...definition('pods not expected to run', 'they hang for ever', (arm) => arm.neverRun, count),
  applies: ({ neverRun }) => neverRun > 0,
};

/** @param pods What those are called that are expected to run. */
const definitionsFor = (pods: string): readonly Definition[] => [
  definition(`50 % of ${pods} ran after`, 'since the arm began', (arm) => arm.runningMs.p50, seconds),
  definition(`95 % of ${pods} ran after`, 'since the arm began', (arm) => arm.runningMs.p95, seconds),
  definition(`all ${pods} ran after`, 'since the arm began', (arm) => arm.runningMs.all, seconds),
  {
    ...definition('static pods ran after', 'all, since asked for', (arm) => arm.staticPods?.allMs ?? null, seconds),
    applies: ({ staticPods }) => staticPods !== null,
  },
  {
    ...definition('kube-system ran after', 'all, since asked for', (arm) => arm.criticalPods?.allMs ?? null, seconds),
    applies: ({ criticalPods }) => criticalPods !== null,
  },
  definition(
    'creations per pod',
    'begun by the runtime ÷ different ones',
    (arm) => arm.creationsPerPod,
    (n) => n.toFixed(2),
  ),
  definition('deadline errors', 'the client stopped waiting', (arm) => arm.deadlineErrors, count),
  definition('"name reserved" errors', 'refused: still being made', (arm) => arm.reservedErrors, count),
  definition('other errors', 'of creations and starts', (arm) => arm.otherErrors, count),
  definition('restarts', 'containers with an attempt above 0', (arm) => arm.restarts, count),
  definition('highest attempt', 'of a container that ran', (arm) => arm.highestAttempt, count),
  {
    ...definition('work done exactly once', 'each container ran once', (arm) => arm.work?.once ?? null, ofPods),
    applies: ({ work }) => work !== null,
  },
  {
    ...definition('work done more than once', 'a container ran again', (arm) => arm.work?.more ?? null, ofPods),
    applies: ({ work }) => work !== null,
  },
  definition('duplicates', 'containers that ran twice at once', (arm) => arm.duplicatesAlive, count),
  definition('left over', 'after all pods were removed', (arm) => arm.leftOvers, count),
  definition('list calls, p50', 'while pods came up', (arm) => arm.listMs.p50, milliseconds),
  definition('list calls, p99', 'while pods came up', (arm) => arm.listMs.p99, milliseconds),
  definition('CPU of Holdfast', 'user and system time', (arm) => arm.holdfast?.cpuMs ?? null, seconds),
  definition('memory of Holdfast', 'resident', (arm) => arm.holdfast?.rssBytes ?? null, mebibytes),
];

export function figures({ arms }: Report): Figure[] {
  const direct = arms.find(({ name }) => name === 'direct');
  const pods = arms.some(({ neverRun }) => neverRun > 0) ? 'other pods' : 'pods';
  const converged: Figure = {
    name: `all ${pods} ran`,
    note: 'in each repeat',
    isZero: false,
    cells: arms.map((arm) => ({ text: arm.converged ? 'yes' : 'no', ratio: undefined })),
  };
  const applying = (definitions: readonly Definition[]) =>
    definitions.filter(({ applies }) => applies === undefined || arms.some(applies));
  return [
    ...applying([hung]).map((definition) => figure(definition, arms, undefined)),
    converged,
    ...applying(definitionsFor(pods)).map((definition) => figure(definition, arms, direct)),
  ];
}

/** @param direct What the others are compared with. */
function figure(
  { name, note, value, format }: Definition,
  arms: readonly ArmReport[],
  direct: ArmReport | undefined,
): Figure {
  return {
    name,
    note,
    isZero: arms.length > 0 && arms.every((arm) => value(arm) === 0),
    cells: arms.map((arm) => {
      const own = value(arm);
      return {
        text: own === null ? none : format(own, arm),
        ratio: direct === undefined || arm === direct ? undefined : ratio(own, value(direct)),
      };
    }),
  };
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

function definition(name: string, note: string, value: Definition['value'], format: Definition['format']): Definition {
  return { name, note, value, format };
}

/** Undefined where there is nothing to compare with. */
function ratio(own: number | null, direct: number | null): string | undefined {
  if (own === null || direct === null || direct === 0) return undefined;
  const times = own / direct;
  return `${times.toFixed(times < 10 ? 2 : 0)}×`;
}

function ofPods(value: number, { work }: ArmReport): string {
  return `${count(value)} of ${work?.pods ?? 0} pods`;
}

/** Medians of two repeats can lie between whole numbers. */
function count(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
