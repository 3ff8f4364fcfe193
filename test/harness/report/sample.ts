/** Reports that look like those of a real run: pods on a slow node under five strategies, played roughly from a seed. */

import { Random } from '../../../src/harness/random.js';
import type { ArmReport, Mark, Report, Timeline, Work } from '../../../src/harness/report-data.js';

interface Strategy {
  readonly name: string;
  readonly title: string;
  /** What becomes of work whose caller left. */
  readonly late: 'cancelled' | 'removed' | 'stored' | 'joined';
  /** Work that goes on at once; what has to wait is queued, and what goes on is faster. */
  readonly places: number;
}

const strategies: readonly Strategy[] = [
  { name: 'direct', title: 'containerd, as it is', late: 'cancelled', places: Number.POSITIVE_INFINITY },
  {
    name: 'crio-remove',
    title: 'finish, then remove what came too late',
    late: 'removed',
    places: Number.POSITIVE_INFINITY,
  },
  { name: 'crio-store', title: 'finish and save for the next retry', late: 'stored', places: Number.POSITIVE_INFINITY },
  {
    name: 'holdfast-unlimited',
    title: 'finish, save, let retries join',
    late: 'joined',
    places: Number.POSITIVE_INFINITY,
  },
  { name: 'holdfast', title: 'finish, save, join, and throttle', late: 'joined', places: 9 },
];

type Stage = 'podSandbox' | 'container' | 'start';

const stages: readonly { readonly state: Stage; readonly deadlineMs: number; readonly medianMs: number }[] = [
  { state: 'podSandbox', deadlineMs: 8_000, medianMs: 5_200 },
  { state: 'container', deadlineMs: 4_000, medianMs: 1_500 },
  { state: 'start', deadlineMs: 4_000, medianMs: 600 },
];

const watchMs = 60_000;

export interface SampleOptions {
  readonly pods: number;
  readonly seed?: number;
  /** Share of pods that are deleted before the end. */
  readonly deleted?: number;
}

export function sampleReport({ pods, seed = 7, deleted = 0 }: SampleOptions): Report {
  return {
    scenario: 'slow-cni',
    description: `${pods} pods arrive on a node whose network plugin takes longer than the kubelet is ready to wait.`,
    seed,
    pods,
    repeats: 3,
    runtime: 'simulated',
    arms: strategies.map((strategy) => playArm(strategy, pods, new Random(seed), deleted)),
  };
}

function playArm(strategy: Strategy, pods: number, random: Random, deleted: number): ArmReport {
  // In a larger storm places do more at once, or nobody would wait for the end of it.
  const places = Array<number>(Math.min(1_000, strategy.places * Math.ceil(pods / 20))).fill(0);
  const played = Array.from({ length: pods }, (_, at) => {
    const arriveMs = Math.round((at * 3_000) / pods + random.below(250));
    const deleteMs = random.chance(deleted) ? random.between(5_000, 30_000) : undefined;
    return playPod(strategy, podName(at), arriveMs, deleteMs, places, random);
  });
  const wanted = played.filter(({ marks }) => !marks.some(({ kind }) => kind === 'deleted'));
  const ran = wanted.map(({ calls }) => calls.find(({ state }) => state === 'running')?.fromMs ?? watchMs);
  ran.sort((a, b) => a - b);
  const when = (share: number) => {
    const ms = ran[Math.ceil(share * ran.length) - 1] ?? watchMs;
    return ms < watchMs ? ms : null;
  };
  const all = when(1);
  const durationMs = Math.min(watchMs, all === null ? watchMs : all + 1_500);
  const timelines = played.map((timeline) => cut(timeline, durationMs));
  const marks = timelines.flatMap((timeline) => timeline.marks);
  const begun = timelines.flatMap(({ work }) => work).filter(({ state }) => state !== 'held' && state !== 'queued');
  const holdfast = strategy.late === 'joined';
  return {
    name: strategy.name,
    title: strategy.title,
    neverRun: 0,
    converged: all !== null,
    runningMs: { p50: when(0.5), p95: when(0.95), all },
    staticPods: null,
    criticalPods: null,
    creationsPerPod: begun.filter(({ state }) => state === 'podSandbox').length / pods,
    deadlineErrors: marks.filter(({ kind }) => kind === 'deadline passed').length,
    reservedErrors: marks.filter(({ kind }) => kind === 'error').length,
    otherErrors: 0,
    restarts: strategy.late === 'cancelled' ? 2 : 0,
    highestAttempt: strategy.late === 'cancelled' ? 1 : 0,
    work: null,
    duplicatesAlive: 0,
    leftOvers: strategy.late === 'stored' ? 3 : 0,
    listMs: { p50: 2.4 + random.below(20) / 10, p99: 14 + random.below(30) },
    holdfast: holdfast ? { cpuMs: 640 + 12 * pods, rssBytes: (58 + pods / 20) * 2 ** 20 } : null,
    durationMs,
    timelines,
  };
}

function podName(at: number): string {
  const groups = ['web', 'checkout', 'search-index', 'payments-7d9f8b6c4', 'cache'];
  return `${groups[at % groups.length]}-${Math.floor(at / groups.length)}`;
}

function playPod(
  { late, places: limit }: Strategy,
  pod: string,
  arriveMs: number,
  deleteMs: number | undefined,
  places: number[],
  random: Random,
): Timeline {
  const calls: Timeline['calls'][number][] = [];
  const work: Work[] = [];
  const marks: Mark[] = [];
  const backoff = (fromMs: number, state: 'waiting') => {
    const toMs = fromMs + random.between(3_000, 5_000);
    calls.push({ fromMs, toMs, state });
    return toMs;
  };
  let nowMs = arriveMs;
  for (const { state, deadlineMs, medianMs } of stages) {
    let madeMs: number | undefined;
    let refusedUntilMs = 0;
    for (let first = true; nowMs < watchMs; first = false) {
      if (nowMs < refusedUntilMs) {
        calls.push({ fromMs: nowMs, toMs: nowMs + 60, state });
        marks.push({
          atMs: nowMs + 60,
          kind: 'error',
          text: `failed to reserve name "${pod}_shop_0": name is reserved`,
        });
        nowMs = backoff(nowMs + 60, 'waiting');
        continue;
      }
      const begun = madeMs !== undefined;
      if (madeMs === undefined) {
        const slow = Number.isFinite(limit) ? 0.6 : 1.9;
        const needMs = Math.round(medianMs * slow * Math.exp(normal(random) * 0.3));
        const place = places.indexOf(Math.min(...places));
        const beginMs = Math.max(nowMs, places[place] ?? 0);
        if (beginMs > nowMs) work.push({ fromMs: nowMs, toMs: beginMs, state: 'queued' });
        madeMs = beginMs + needMs;
        places[place] = Number.isFinite(limit) ? madeMs : 0;
        const inTime = madeMs <= nowMs + deadlineMs;
        if (!inTime && late === 'cancelled') {
          work.push({ fromMs: beginMs, toMs: nowMs + deadlineMs + 250, state, thrownAway: true });
        } else {
          work.push({ fromMs: beginMs, toMs: madeMs, state, thrownAway: !inTime && late === 'removed' });
        }
      } else if (madeMs <= nowMs) {
        work.push({ fromMs: madeMs, toMs: nowMs, state: 'held' });
        calls.push({ fromMs: nowMs, toMs: nowMs + 40, state });
        marks.push({ atMs: nowMs + 40, kind: 'replayed', text: `${state} made ${seconds(nowMs - madeMs)} earlier` });
        nowMs += 40;
        break;
      }
      if (!first && begun)
        marks.push({ atMs: nowMs, kind: 'joined', text: `under way for ${seconds(nowMs - arriveMs)}` });
      if (madeMs <= nowMs + deadlineMs && (first || late !== 'stored')) {
        calls.push({ fromMs: nowMs, toMs: madeMs, state });
        nowMs = madeMs;
        break;
      }
      calls.push({ fromMs: nowMs, toMs: nowMs + deadlineMs, state });
      nowMs += deadlineMs;
      marks.push({ atMs: nowMs, kind: 'deadline passed', text: 'context deadline exceeded' });
      const retryMs = backoff(nowMs, 'waiting');
      if (late === 'joined' && state === 'podSandbox' && madeMs < retryMs) {
        calls.pop();
        const seenMs = Math.max(nowMs, madeMs) + random.between(100, 900);
        calls.push({ fromMs: nowMs, toMs: seenMs, state: 'waiting' });
        marks.push({ atMs: seenMs, kind: 'adopted', text: 'the pod sandbox is in the list' });
        nowMs = seenMs;
        break;
      }
      nowMs = retryMs;
      if (late === 'cancelled' || late === 'removed') {
        refusedUntilMs = madeMs;
        if (late === 'cancelled') refusedUntilMs = 0;
        madeMs = undefined;
      }
    }
  }
  if (nowMs < watchMs) calls.push({ fromMs: nowMs, toMs: watchMs, state: 'running' });
  if (deleteMs === undefined) return { pod, calls, work, marks };
  const ended = cut({ pod, calls, work, marks }, deleteMs);
  return { ...ended, marks: [...ended.marks, { atMs: deleteMs, kind: 'deleted', text: 'by its owner' }] };
}

function cut({ pod, calls, work, marks }: Timeline, endMs: number): Timeline {
  const within = <S extends { readonly fromMs: number; readonly toMs: number }>(spans: readonly S[]) =>
    spans.filter(({ fromMs }) => fromMs < endMs).map((span) => ({ ...span, toMs: Math.min(span.toMs, endMs) }));
  return { pod, calls: within(calls), work: within(work), marks: marks.filter(({ atMs }) => atMs <= endMs) };
}

/** Roughly normal: the sum of twelve. */
function normal(random: Random): number {
  return Array.from({ length: 12 }, () => random.uint32() / 2 ** 32).reduce((sum, part) => sum + part, -6);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
