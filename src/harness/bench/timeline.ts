/** From what a kubelet did for a pod to its row in a report. */
import type { Phase, PodHistory } from '../kubelet/pod-history.js';
import type { Mark, Span, Timeline } from '../report-data.js';
import type { PodWork } from './holdfast-log.js';

type CallState = Timeline['calls'][number]['state'];

const states: Readonly<Record<Exclude<Phase, 'failed' | 'deleted'>, CallState>> = {
  RunPodSandbox: 'podSandbox',
  CreateContainer: 'container',
  StartContainer: 'start',
  waiting: 'waiting',
  running: 'running',
  succeeded: 'done',
};

/** @param durationMs How long it was watched: what lasts until then ends there. */
export function timelineOf({ name, events }: PodHistory, behind: PodWork | undefined, durationMs: number): Timeline {
  const calls = events.flatMap(({ atMs, phase }, n): Span<CallState>[] => {
    const fromMs = Math.round(atMs);
    const toMs = Math.round(Math.min(events[n + 1]?.atMs ?? durationMs, durationMs));
    // What ran at the very end ran.
    if (phase === 'deleted' || phase === 'failed' || toMs < fromMs) return [];
    const lasts = phase === 'running' || phase === 'succeeded';
    return toMs === fromMs && !lasts ? [] : [{ fromMs, toMs, state: states[phase] }];
  });
  const marks = events.flatMap(({ text, error, ...event }): Mark[] => {
    const atMs = Math.round(event.atMs);
    if (error) return [{ atMs, kind: text.includes('DEADLINE_EXCEEDED') ? 'deadline passed' : 'error', text }];
    if (text === 'deleted') return [{ atMs, kind: 'deleted', text }];
    return text.includes('adopts') ? [{ atMs, kind: 'adopted', text }] : [];
  });
  return {
    pod: name,
    calls,
    work: behind?.work ?? [],
    marks: [...marks, ...(behind?.marks ?? [])].sort((a, b) => a.atMs - b.atMs),
  };
}

/** Since when it has run with all its containers, or has been over with success; undefined: neither. */
export function upSince({ events }: PodHistory): number | undefined {
  const last = events.at(-1);
  return last?.phase === 'running' || last?.phase === 'succeeded' ? Math.round(last.atMs) : undefined;
}
