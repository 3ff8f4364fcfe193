/** Two runs of the same pods side by side, as text for a terminal. Knows pods' timelines, not where they come from. */
import type { Phase, PodEvent, PodHistory } from './kubelet/pod-history.js';

export interface Side {
  readonly title: string;
  readonly pods: readonly PodHistory[];
  /** How long it was watched, in ms. */
  readonly durationMs: number;
}

const marks: Readonly<Record<Phase, string>> = {
  RunPodSandbox: 's',
  CreateContainer: 'c',
  StartContainer: 't',
  waiting: '.',
  running: '=',
  succeeded: '*',
  failed: 'x',
  deleted: ' ',
};

const barWidth = 44;

/** A bar for each pod, one character for each slice of time, then the first pod's events in words. */
export function demoTable(left: Side, right: Side): string {
  const sliceMs = Math.max(1, left.durationMs, right.durationMs) / barWidth;
  const rows = left.pods.map((pod, at) => [
    pod.name,
    bar(pod, left.durationMs, sliceMs),
    bar(right.pods[at], right.durationMs, sliceMs),
  ]);
  const first = left.pods[0]?.name ?? '';
  const [leftEvents, rightEvents] = [describe(left.pods[0]), describe(right.pods[0])];
  const events = Array.from({ length: Math.max(leftEvents.length, rightEvents.length) }, (_, at) => [
    at === 0 ? first : '',
    leftEvents[at] ?? '',
    rightEvents[at] ?? '',
  ]);
  return [
    line(['', left.title, right.title]),
    rule,
    ...rows.map(line),
    rule,
    ...events.map(line),
    rule,
    `s RunPodSandbox   c CreateContainer   t StartContainer   ! error   . waiting   = running   (${Math.round(sliceMs)} ms each)`,
  ].join('\n');
}

const nameWidth = 7;
const rule = ['-'.repeat(nameWidth), '-'.repeat(barWidth), '-'.repeat(barWidth)].join('-+-');

function line([name = '', left = '', right = '']: readonly string[]): string {
  return [name.padEnd(nameWidth), left.padEnd(barWidth), right].join(' | ').trimEnd();
}

function bar(pod: PodHistory | undefined, durationMs: number, sliceMs: number): string {
  let text = '';
  for (let fromMs = 0; fromMs < durationMs; fromMs += sliceMs)
    text += mark(pod?.events ?? [], fromMs, fromMs + sliceMs);
  return text;
}

/** An error in the slice, else what was being done at its end. */
function mark(events: readonly PodEvent[], fromMs: number, toMs: number): string {
  if (events.some(({ atMs, error }) => error && atMs >= fromMs && atMs < toMs)) return '!';
  const latest = events.filter(({ atMs }) => atMs < toMs).at(-1);
  return latest === undefined ? ' ' : marks[latest.phase];
}

function describe(pod: PodHistory | undefined): string[] {
  return (pod?.events ?? []).map(({ atMs, text, error }) => {
    const told = `${(atMs / 1000).toFixed(2).padStart(5)} s  ${error ? '! ' : ''}${text.replace(/\s+/g, ' ')}`;
    return told.length > barWidth ? `${told.slice(0, barWidth - 3)}...` : told;
  });
}
