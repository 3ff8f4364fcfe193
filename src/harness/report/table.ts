/** The figures of a report as text for a terminal, arms side by side. */
import type { Report } from '../report-data.js';
import { type Figure, figures } from './figures.js';
import { headline } from './headline.js';
import { plain } from './plain.js';

const maxWidth = 100;
const maxName = 20;
const gap = '  ';

/** At most 100 columns wide: arms that do not fit beside the others follow below. */
export function reportTable(report: Report): string {
  const { scenario, seed, pods, repeats, runtime, arms } = report;
  const all = figures(report);
  const rows = all.filter(({ isZero }) => !isZero);
  const zeros = all.filter(({ isZero }) => isZero).map(({ name }) => name);
  const labels = rows.map(({ name }) => name);
  const labelWidth = longest(labels);
  const columns = arms.map(({ name }, at) => column(name, rows, at));

  const blocks: string[][][] = [];
  let left = 0;
  for (const cells of columns) {
    const width = gap.length + longest(cells);
    if (width > left) {
      blocks.push([['', ...labels].map((label) => label.padEnd(labelWidth))]);
      left = maxWidth - labelWidth;
    }
    blocks.at(-1)?.push(cells);
    left -= width;
  }
  const title = `${scenario}: ${pods} pods, seed ${seed}, ${repeats} repeat${repeats === 1 ? '' : 's'}, runtime ${runtime}`;
  const notes = [
    repeats > 1 ? ['medians over the repeats'] : [],
    rows.some(({ cells }) => cells.some(({ ratio }) => ratio !== undefined)) ? ['(×): ratio to direct'] : [],
    ['—: never came to that, or does not apply'],
  ];
  return [
    plain(title, maxWidth),
    ...wrapped(headline(report)),
    ...blocks.map((block) => `\n${lines(block).join('\n')}`),
    ...(zeros.length > 0 ? ['', ...wrapped(`0${arms.length > 1 ? ' in all arms' : ''}: ${zeros.join(', ')}`)] : []),
    `\n${notes.flat().join('; ')}`,
  ].join('\n');
}

/** A text in lines that are not too long; empty for the empty text. */
function wrapped(text: string): string[] {
  const lines: string[] = [];
  for (const word of plain(text, Number.POSITIVE_INFINITY).split(' ')) {
    const longer = [lines.at(-1) ?? [], word].flat().join(' ');
    if (lines.length > 0 && longer.length <= maxWidth) lines[lines.length - 1] = longer;
    else lines.push(plain(word, maxWidth));
  }
  return text === '' ? [] : lines;
}

/** Name and cells of an arm, all of one width: values and ratios each below one another. */
function column(name: string, rows: readonly Figure[], at: number): string[] {
  const cells = rows.map(({ cells }) => ({ text: cells[at]?.text ?? '', ratio: cells[at]?.ratio }));
  const ratios = cells.map(({ ratio }) => (ratio === undefined ? '' : ` (${ratio})`));
  const [textWidth, ratioWidth] = [longest(cells.map(({ text }) => text)), longest(ratios)];
  const written = cells.map(({ text }, row) => text.padStart(textWidth) + (ratios[row] ?? '').padEnd(ratioWidth));
  const all = [plain(name, maxName), ...written];
  const width = longest(all);
  return all.map((text) => text.padStart(width));
}

function lines([labels = [], ...columns]: readonly (readonly string[])[]): string[] {
  return labels.map((label, row) => [label, ...columns.map((cells) => cells[row])].join(gap).trimEnd());
}

function longest(texts: readonly string[]): number {
  return Math.max(0, ...texts.map(({ length }) => length));
}
