/** Places on an axis, and its labels. */
import { type Markup, markup } from './markup.js';

/** `value` of `whole` as a percentage, which keeps text and marks in shape whatever the width is. */
export function percent(value: number, whole: number): string {
  return `${Math.round((value / whole) * 100_000) / 1000}%`;
}

/** At most `most` + 1 round values from 0 to `end`, in steps of 1, 2 or 5 times a power of ten. */
export function ticks(end: number, most: number): number[] {
  const power = 10 ** Math.floor(Math.log10(end / most));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => end / candidate <= most) ?? end;
  return Array.from({ length: Math.floor(end / step + 1e-9) + 1 }, (_, at) => at * step);
}

const mostTimes = 10;

/** Labels in seconds for times from 0 to `endMs`. */
export function timeLabels(endMs: number): Markup[] {
  return ticks(endMs, mostTimes).map((ms) => {
    // A label at the very end would run out of the picture.
    const anchor = ms === 0 ? 'start' : ms > 0.97 * endMs ? 'end' : 'middle';
    return markup`<text x="${percent(ms, endMs)}" y="13" text-anchor="${anchor}">${Number((ms / 1000).toPrecision(6))} s</text>`;
  });
}

/** Lines at the same times, as high as the picture. */
export function timeLines(endMs: number): Markup[] {
  return ticks(endMs, mostTimes).map((ms) => {
    const x = percent(ms, endMs);
    return markup`<line x1="${x}" x2="${x}" y1="0" y2="100%"/>`;
  });
}
