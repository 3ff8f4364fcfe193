/** What one arm did to each pod: a row of two lanes, the client's calls and the work behind its back, with marks on them. */
import type { ArmReport, Mark, Timeline, Work } from '../report-data.js';
import { seconds } from './figures.js';
import { type Markup, markup } from './markup.js';
import { percent, timeLabels, timeLines } from './scale.js';

const callNames: Readonly<Record<Timeline['calls'][number]['state'], string>> = {
  podSandbox: 'RunPodSandbox',
  container: 'CreateContainer',
  start: 'StartContainer',
  waiting: 'waiting to retry',
  running: 'running',
  done: 'ended with success',
};

const workNames: Readonly<Record<Work['state'], string>> = {
  queued: 'queued in Holdfast',
  podSandbox: 'pod sandbox being made',
  container: 'container being made',
  start: 'container being started',
  held: 'result held',
};

/** Glyphs in a box of 12 by 12; colours come from the style sheet. */
const glyphs: Readonly<Record<Mark['kind'], Markup>> = {
  'deadline passed': markup`<path d="M2.5 2.5 9.5 9.5M9.5 2.5 2.5 9.5"/>`,
  error: markup`<path d="M6 .5 11.5 6 6 11.5.5 6Z"/>`,
  joined: markup`<circle cx="6" cy="6" r="3.8"/>`,
  replayed: markup`<circle cx="6" cy="6" r="4.6"/>`,
  adopted: markup`<path d="M1.8 1.8h8.4v8.4H1.8Z"/>`,
  deleted: markup`<path d="M6 0V12"/>`,
};

function glyphClass(kind: string): string {
  return kind.replace(' ', '-');
}

/** Rows get thinner the more there are, down to where a name can still be read. */
function rowHeight(rows: number): number {
  return Math.max(10, Math.min(26, Math.floor(640 / Math.max(1, rows))));
}

/** @param endMs The end of the time axis that all arms share. */
export function timelines(arm: ArmReport, endMs: number): Markup {
  const ownEndMs = Math.max(1, arm.durationMs);
  const height = rowHeight(arm.timelines.length);
  return markup`<div class="rows" style="--row:${height}px;--fit:${percent(endMs, ownEndMs)}">
<div class="axis" aria-hidden="true"><svg class="shared">${timeLabels(endMs)}</svg><svg class="fit">${timeLabels(ownEndMs)}</svg></div>
<div class="grid" aria-hidden="true"><svg class="shared"><rect width="${percent(ownEndMs, endMs)}" height="100%"/>${timeLines(endMs)}</svg><svg class="fit"><rect width="100%" height="100%"/>${timeLines(ownEndMs)}</svg></div>
<ol>${arm.timelines.map((timeline, at) => row(timeline, at, endMs, height))}</ol>
</div>`;
}

function row(timeline: Timeline, at: number, endMs: number, height: number): Markup {
  const { pod, calls, work, marks } = timeline;
  const gap = height / 13;
  const callHeight = 6.5 * gap;
  const workTop = 8.5 * gap;
  const workHeight = 3.5 * gap;
  const glyph = Math.max(7, Math.min(12, height / 2));
  const bar = (fromMs: number, toMs: number, y: number, high: number, classes: string) =>
    markup`<rect class="${classes}" x="${percent(fromMs, endMs)}" y="${round(y)}" width="${percent(toMs - fromMs, endMs)}" height="${round(high)}"/>`;
  return markup`<li class="row" tabindex="${at === 0 ? 0 : -1}" aria-label="${pod}: ${summary(timeline)}"><span class="name">${pod}</span><span class="track"><svg aria-hidden="true">${calls.map(
    ({ fromMs, toMs, state }) =>
      state === 'waiting'
        ? bar(fromMs, toMs, gap + callHeight / 2 - 0.75, 1.5, state)
        : bar(fromMs, toMs, gap, callHeight, state),
  )}${work.map(({ fromMs, toMs, state, thrownAway }) =>
    bar(fromMs, toMs, workTop, workHeight, thrownAway ? `${state} thrown-away` : state),
  )}<g transform="translate(${-glyph / 2})">${marks.map(
    ({ atMs, kind }) =>
      markup`<use href="#${glyphClass(kind)}" x="${percent(atMs, endMs)}" y="${round(gap + (callHeight - glyph) / 2)}" width="${glyph}" height="${glyph}"/>`,
  )}</g></svg></span><ol class="events" hidden>${events(timeline)}</ol></li>
`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function summary({ calls, marks }: Timeline): string {
  const last = calls.at(-1);
  const state = last === undefined ? 'never tried' : `${callNames[last.state]} since ${seconds(last.fromMs)}`;
  const passed = marks.filter(({ kind }) => kind === 'deadline passed').length;
  return passed > 0 ? `${state}, deadline passed ${passed} times` : state;
}

/** What happened, in the order of time; at the same time, what ends a call before what begins. */
function events({ calls, work, marks }: Timeline): Markup[] {
  const told = [
    ...calls.map(({ fromMs, toMs, state }) => ({
      atMs: fromMs,
      order: 1,
      text: markup`${callNames[state]}${lasting(fromMs, toMs)}`,
    })),
    ...work.map(({ fromMs, toMs, state, thrownAway }) => ({
      atMs: fromMs,
      order: 2,
      text: markup`<i>${workNames[state]}${lasting(fromMs, toMs)}${thrownAway ? ', thrown away' : ''}</i>`,
    })),
    ...marks.map(({ atMs, kind, text }) => ({
      atMs,
      order: kind === 'joined' ? 3 : 0,
      text: markup`<svg aria-hidden="true"><use href="#${glyphClass(kind)}" width="12" height="12"/></svg><b>${kind}</b> ${text}`,
    })),
  ];
  return told
    .sort((a, b) => a.atMs - b.atMs || a.order - b.order)
    .map(({ atMs, text }) => markup`<li><time>${seconds(atMs)}</time><span>${text}</span></li>`);
}

function lasting(fromMs: number, toMs: number): string {
  return ` (${seconds(toMs - fromMs)})`;
}

/** The definitions that bars and marks refer to; once in a page. */
export const glyphDefinitions: Markup = markup`<svg class="definitions" aria-hidden="true"><defs>
${(['podSandbox', 'container', 'start'] as const).map(
  (state) =>
    markup`<pattern id="lost-${state}" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="ghost" width="5" height="5"/><rect class="${state}" width="2" height="5"/></pattern>`,
)}<pattern id="dots" width="4" height="4" patternUnits="userSpaceOnUse"><rect class="dot" width="2" height="4"/></pattern>
${Object.entries(glyphs).map(
  ([kind, shape]) =>
    markup`<symbol id="${glyphClass(kind)}" class="glyph" viewBox="-1 -1 14 14"><g class="halo">${shape}</g><g class="${glyphClass(kind)}">${shape}</g></symbol>`,
)}</defs></svg>`;

const sample = (classes: string) =>
  markup`<svg class="sample" aria-hidden="true"><rect class="${classes}" width="100%" height="100%"/></svg>`;

export const legend: Markup = markup`<dl class="legend">
<div><dt>Upper lane: the client&#39;s calls</dt>${Object.entries(callNames).map(
  ([state, name]) => markup`<dd>${sample(state)}${name}</dd>`,
)}</div>
<div><dt>Lower lane: work behind its back</dt>${Object.entries(workNames).map(
  ([state, name]) => markup`<dd>${sample(state)}${name}</dd>`,
)}<dd>${sample('podSandbox thrown-away')}thrown away</dd></div>
<div><dt>Marks</dt>${Object.keys(glyphs).map(
  (kind) =>
    markup`<dd><svg class="mark" aria-hidden="true"><use href="#${glyphClass(kind)}" width="14" height="14"/></svg>${kind}</dd>`,
)}</div>
</dl>`;
