/** The figures of `npm run bench:admission` as text. */
import { bestFixed, type Comparison } from './compare.js';
import { type Outcome, podsOf, type StormOptions } from './storm.js';

export function report(options: StormOptions, repeats: number, comparison: Comparison): string {
  const { off, fixed, adaptive } = comparison;
  const best = bestFixed(comparison);
  const line = (name: string, outcome: Outcome) =>
    row(
      name,
      seconds(outcome.allRunningMs),
      seconds(outcome.p95RunningMs),
      String(outcome.failedCalls),
      String(outcome.creations),
      ratio(outcome, best),
      ratio(outcome, off),
    );
  const { pods, deadlineMs, baseMs, contention, cores, psi, seed } = options;
  const hung = podsOf(options).hung.size;
  return [
    `${pods} pods at once; a pod sandbox, a container and a start take ${baseMs} ms each on the idle node,`,
    `${cores} cores, contention ${contention}${psi ? '' : ', no PSI'}; RunPodSandbox has ${deadlineMs} ms, all else half of it;`,
    ...(hung === 0
      ? []
      : [`${hung} of the pods hang for ever: "all" are the others, and fixed limits have ${hung} places more;`]),
    `means of ${repeats} storms, from seed ${seed}`,
    '',
    row('limit', 'all running s', '95 % running s', 'failed calls', 'creations', '÷ best fixed', '÷ off'),
    line('off', off),
    ...fixed.map((outcome) => line(String(outcome.limit), outcome)),
    line('adaptive', adaptive),
    '',
    `creations: ${3 * (pods - hung) + hung} where none is made twice`,
    `adaptive ÷ best fixed${best === undefined ? '' : ` (limit ${best.limit})`}: ${ratio(adaptive, best)}`,
    `adaptive ÷ off: ${ratio(adaptive, off)}`,
    '',
  ].join('\n');
}

/** Of the times until all pods ran; a dash where they did not. */
function ratio({ allRunningMs: ours }: Outcome, other: Outcome | undefined): string {
  const theirs = other?.allRunningMs ?? null;
  return ours === null || theirs === null ? '-' : (ours / theirs).toFixed(2);
}

function seconds(ms: number | null): string {
  return ms === null ? '-' : (ms / 1_000).toFixed(1);
}

const widths = [8, 13, 14, 12, 9, 12, 6];

function row(...cells: string[]): string {
  return cells
    .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
    .join('  ');
}
