/** A storm under adaptive admission as an SVG: three panels over one time axis, legible on light and on dark backgrounds. */
import type { Sample } from './storm.js';

const width = 880;
const plot = { left: 64, right: 856 } as const;
const colors = {
  text: '#7d858f',
  limit: '#2f81f7',
  running: '#e0823d',
  fixed: '#3fa45b',
  queued: '#9a6ee0',
  pressure: '#e5534b',
} as const;

interface Series {
  readonly name: string;
  readonly color: string;
  readonly value: (sample: Sample) => number;
  /** Attributes of its line. */
  readonly style: string;
}

interface Panel {
  readonly top: number;
  readonly height: number;
  readonly unit: string;
  readonly series: readonly Series[];
  /** At least this high. */
  readonly atLeast: number;
}

/** @param fixedLimit The best fixed one, for comparison. */
export function chart(title: string, samples: readonly Sample[], fixedLimit: number | undefined): string {
  const best: Series[] =
    fixedLimit === undefined
      ? []
      : [
          {
            name: `best fixed limit (${fixedLimit})`,
            color: colors.fixed,
            value: () => fixedLimit,
            style: 'stroke-width="1" stroke-dasharray="5 4"',
          },
        ];
  const thick = 'stroke-width="2"';
  const panels: readonly Panel[] = [
    {
      top: 72,
      height: 220,
      unit: 'creations and starts',
      atLeast: 5,
      series: [
        {
          name: 'running at once',
          color: colors.running,
          value: ({ running }) => running,
          style: 'stroke-width="1.25"',
        },
        ...best,
        { name: 'limit', color: colors.limit, value: ({ limit }) => limit, style: thick },
      ],
    },
    {
      top: 340,
      height: 90,
      unit: 'waiting',
      atLeast: 5,
      series: [{ name: 'queued', color: colors.queued, value: ({ queued }) => queued, style: thick }],
    },
    {
      top: 478,
      height: 90,
      unit: '%',
      atLeast: 100,
      series: [
        { name: 'CPU pressure (some avg10)', color: colors.pressure, value: ({ pressure }) => pressure, style: thick },
      ],
    },
  ];
  const bottom = Math.max(...panels.map(({ top, height }) => top + height));
  const endMs = Math.max(1, ...samples.map(({ atMs }) => atMs));
  const x = (atMs: number) => plot.left + ((plot.right - plot.left) * atMs) / endMs;
  const parts = [
    text(plot.left, 28, title, 'font-size="16" font-weight="600"'),
    ...panels.map((panel) => drawn(panel, samples, x)),
    ...multiples(tickStep(endMs / 1_000, 10), endMs / 1_000).map((atS) =>
      text(x(atS * 1_000), bottom + 20, String(atS), 'text-anchor="middle"'),
    ),
    text((plot.left + plot.right) / 2, bottom + 42, 'time since the storm began, s', 'text-anchor="middle"'),
  ];
  const height = bottom + 58;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="13" role="img" aria-label="${escaped(title)}">
${parts.join('\n')}
</svg>
`;
}

function drawn({ top, height, unit, series, atLeast }: Panel, samples: readonly Sample[], x: (ms: number) => number) {
  const values = series.flatMap(({ value }) => samples.map(value));
  const step = tickStep(Math.max(atLeast, ...values), height / 40);
  const most = step * Math.ceil(Math.max(atLeast, ...values) / step);
  const y = (value: number) => top + height - (height * value) / most;
  const grid = multiples(step, most).flatMap((value) => [
    `<path d="M${plot.left} ${round(y(value))}H${plot.right}" stroke="${colors.text}" stroke-opacity="${value === 0 ? 0.9 : 0.25}"/>`,
    text(plot.left - 8, y(value) + 4, String(value), 'text-anchor="end"'),
  ]);
  const lines = series.map(
    ({ color, value, style }) =>
      `<path d="${steps(samples, x, (sample) => y(value(sample)))}" fill="none" stroke="${color}" stroke-linejoin="round" ${style}/>`,
  );
  let left = plot.left;
  const legend = series.toReversed().flatMap(({ name, color, style }) => {
    const at = left;
    left += 52 + 6.5 * name.length;
    return [
      `<path d="M${round(at)} ${top - 18}h22" stroke="${color}" ${style}/>`,
      text(at + 28, top - 14, name, `style="fill:${color}"`),
    ];
  });
  return [...grid, ...lines, ...legend, text(plot.right, top - 14, unit, 'text-anchor="end"')].join('\n');
}

/** Each value holds until the next sample. */
function steps(samples: readonly Sample[], x: (ms: number) => number, y: (sample: Sample) => number): string {
  let d = '';
  let last: number | undefined;
  for (const sample of samples) {
    const to = round(y(sample));
    if (last === undefined) d = `M${round(x(sample.atMs))} ${to}`;
    else if (to !== last) d += `H${round(x(sample.atMs))}V${to}`;
    last = to;
  }
  const end = samples.at(-1);
  return end === undefined ? '' : `${d}H${round(x(end.atMs))}`;
}

/** A round number that goes into `most` at most `count` times. */
function tickStep(most: number, count: number): number {
  const decade = 10 ** Math.floor(Math.log10(most / count));
  const step = [1, 2, 5].map((times) => times * decade).find((size) => most / size <= count);
  return Math.max(1, step ?? 10 * decade);
}

function multiples(step: number, most: number): number[] {
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, n) => n * step);
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${round(x)}" y="${round(y)}" fill="${colors.text}" ${attributes}>${escaped(content)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(content: string): string {
  return content.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
