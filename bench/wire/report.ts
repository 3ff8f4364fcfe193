/** The figures of `npm run bench:wire` as text. */
import type { Server } from './processes.js';

/** From the client to the backend. */
export interface Way {
  readonly name: string;
  readonly socket: string;
  /** undefined: no proxy in between. */
  readonly server: Server | undefined;
}

export interface Case {
  readonly name: string;
  readonly path: string;
  readonly calls: number;
  readonly atOnce: number;
  /** Medians over the repeats; CPU time over all of them. */
  readonly ways: readonly {
    readonly name: string;
    readonly perSecond: number;
    readonly meanMs: number;
    readonly p99Ms: number;
    readonly dataBytes: number;
    readonly cpuSecondsPer10kCalls: number | null;
    readonly rssBytes: number | null;
  }[];
}

export interface Result {
  readonly backend: string;
  readonly repeats: number;
  readonly cases: readonly Case[];
  /** Holdfast's RSS after each tenth of `calls`. */
  readonly soak: { readonly calls: number; readonly rssBytes: readonly number[] };
}

const MiB = 1024 * 1024;

export function report({ backend, repeats, cases, soak }: Result): string {
  const lines = [`backend: ${backend}; medians of ${repeats} repeats, the ways taking turns`];
  for (const { name, calls, ways } of cases) {
    const holdfast = ways.find((way) => way.name === 'holdfast');
    lines.push('', `${name} (${calls} calls a repeat)`);
    lines.push(
      row('', 'calls/s', 'mean ms', 'p99 ms', 'CPU s/10k', 'RSS MiB', 'holdfast ÷ it: calls/s', 'mean', 'CPU'),
    );
    for (const way of ways) {
      const { perSecond, meanMs, p99Ms, cpuSecondsPer10kCalls, rssBytes } = way;
      lines.push(
        row(
          way.name,
          perSecond.toFixed(0),
          meanMs.toFixed(3),
          p99Ms.toFixed(3),
          cpuSecondsPer10kCalls?.toFixed(3) ?? '',
          rssBytes === null ? '' : (rssBytes / MiB).toFixed(0),
          ratio(holdfast?.perSecond, perSecond),
          ratio(holdfast?.meanMs, meanMs),
          ratio(holdfast?.cpuSecondsPer10kCalls, cpuSecondsPer10kCalls),
        ),
      );
    }
  }
  const rss = soak.rssBytes.map((bytes) => (bytes / MiB).toFixed(0)).join(' ');
  lines.push('', `holdfast's RSS after each tenth of ${soak.calls} calls, MiB: ${rss}`);
  return `${lines.join('\n')}\n`;
}

function ratio(ours: number | null | undefined, theirs: number | null): string {
  return typeof ours !== 'number' || theirs === null ? '' : (ours / theirs).toFixed(2);
}

const widths = [10, 8, 9, 9, 10, 8, 23, 6, 6];

function row(...cells: string[]): string {
  return cells
    .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
    .join(' ')
    .trimEnd();
}
