/** From the lines of Holdfast's log to what it did for each pod, and when. */
import type { Mark, Timeline, Work } from '../report-data.js';

/** A step of a creation or a start (proxy/life-log.ts). */
export interface LogLine {
  /** ISO 8601. */
  readonly time: string;
  readonly step: string;
  readonly kind: 'podSandbox' | 'container' | 'start';
  /** Of what was made, once it is; of a start, its container's. */
  readonly id?: string;
  /** The pod's, not with a start. */
  readonly uid?: string;
  readonly container?: string;
  readonly attempt?: number;
}

export type PodWork = Pick<Timeline, 'work' | 'marks'>;

/** After these nothing is under way; `queued`, `started` and `held` begin something. */
const ends = new Set(['answered', 'shown', 'failed', 'timed out', 'dropped']);
/** After these nothing is held. */
const releases = new Set(['replayed', 'delivered', 'forgotten', 'superseded', 'reaped']);
/** Nobody gets what was made until then. */
const losses = new Set(['failed', 'timed out', 'superseded', 'reaped']);

const marks: Readonly<Record<string, Mark['kind']>> = { 'waiter joined': 'joined', replayed: 'replayed' };

const methods = { podSandbox: 'RunPodSandbox', container: 'CreateContainer', start: 'StartContainer' } as const;

/**
 * @param beganAt When the arm began, in ms since 1970.
 * @param durationMs How long it was watched: what is still under way ends there.
 * @returns By uid of the pod.
 */
export function workOf(lines: readonly LogLine[], beganAt: number, durationMs: number): ReadonlyMap<string, PodWork> {
  const pods = new Map<string, { work: Work[]; marks: Mark[] }>();
  const owners = new Map<string, { readonly uid: string; readonly container: string }>();
  const open = new Map<string, { readonly uid: string; readonly fromMs: number; readonly state: Work['state'] }>();
  const podOf = (uid: string) => {
    const pod = pods.get(uid) ?? { work: [], marks: [] };
    pods.set(uid, pod);
    return pod;
  };
  const close = (key: string, toMs: number, step = ''): void => {
    const span = open.get(key);
    open.delete(key);
    if (span === undefined || toMs <= span.fromMs) return;
    const { uid, fromMs, state } = span;
    podOf(uid).work.push({ fromMs, toMs, state, ...(losses.has(step) ? { thrownAway: true } : {}) });
  };

  for (const line of lines) {
    const { step, kind, id = '' } = line;
    const { uid, container = '' } = line.uid === undefined ? (owners.get(id) ?? line) : line;
    if (uid === undefined) continue;
    if (kind === 'container' && id !== '') owners.set(id, { uid, container });
    const atMs = Date.parse(line.time) - beganAt;
    if (atMs < 0 || atMs > durationMs) continue;
    const key = JSON.stringify([kind, uid, container]);
    const state = step === 'queued' || step === 'held' ? step : step === 'started' ? kind : undefined;
    if (state !== undefined || ends.has(step) || (releases.has(step) && open.get(key)?.state === 'held')) {
      close(key, atMs, step);
    }
    if (state !== undefined) open.set(key, { uid, fromMs: atMs, state });
    const mark = marks[step];
    if (mark !== undefined)
      podOf(uid).marks.push({ atMs, kind: mark, text: `${methods[kind]} ${container}`.trimEnd() });
  }
  for (const key of [...open.keys()]) close(key, durationMs);
  for (const { work } of pods.values()) work.sort((a, b) => a.fromMs - b.fromMs);
  return pods;
}

/** Pod sandboxes and containers that were begun, by what they are: more than one with the same text was made more than once. */
export function begunBy(lines: readonly LogLine[]): readonly string[] {
  return lines
    .filter(({ step, kind }) => step === 'started' && kind !== 'start')
    .map(({ kind, uid, container }) => JSON.stringify([kind, uid, container]));
}
