/** How many pods run, or have ended with success, over time: one curve for each arm, from the timelines of its first repeat. */
import type { ArmReport, Report, Timeline } from '../report-data.js';
import { type Markup, markup } from './markup.js';
import { percent, ticks, timeLabels, timeLines } from './scale.js';

/** @param endMs The end of the time axis. */
export function curves({ arms, pods }: Report, endMs: number): Markup {
  const top = Math.max(1, pods);
  const levels = ticks(top, 5).filter(Number.isInteger);
  return markup`<div class="curves">
<svg class="levels" aria-hidden="true">${levels.map(
    (level) => markup`<text x="100%" dx="-8" y="${percent(top - level, top)}" dy="4" text-anchor="end">${level}</text>`,
  )}</svg>
<svg class="plot" role="img" aria-label="Pods running over time">
<g class="lines">${timeLines(endMs)}${levels.map((level) => {
    const y = percent(top - level, top);
    return markup`<line x1="0" x2="100%" y1="${y}" y2="${y}"/>`;
  })}</g>
<svg viewBox="0 0 ${endMs} ${top}" preserveAspectRatio="none">${arms.map(
    (arm, at) => markup`<path class="curve arm-${at % armColours}" d="${path(arm, top)}"/>`,
  )}</svg>
${arms.map((arm, at) => {
  const running = runningAtEnd(arm);
  return markup`<circle class="arm-${at % armColours}" cx="${percent(arm.durationMs, endMs)}" cy="${percent(top - running, top)}" r="4"/>`;
})}</svg>
<svg class="times" aria-hidden="true">${timeLabels(endMs)}</svg>
</div>`;
}

/** Colours and dashes that the style sheet has for arms. */
export const armColours = 6;

/** Pods that ran, or had ended with success, when the watch ended. */
export function runningAtEnd({ timelines, durationMs }: ArmReport): number {
  return timelines.filter((timeline) => upSpans(timeline).some(({ toMs }) => toMs >= durationMs)).length;
}

/** When a pod runs or has ended with success, without a gap between the two. */
function upSpans({ calls }: Timeline): { fromMs: number; toMs: number }[] {
  const spans: { fromMs: number; toMs: number }[] = [];
  for (const { fromMs, toMs, state } of calls) {
    if (state !== 'running' && state !== 'done') continue;
    const last = spans.at(-1);
    if (last?.toMs === fromMs) last.toMs = toMs;
    else spans.push({ fromMs, toMs });
  }
  return spans;
}

function path({ timelines, durationMs }: ArmReport, top: number): string {
  const running = timelines.flatMap(upSpans);
  const steps = [
    ...running.map(({ fromMs }) => ({ atMs: fromMs, by: 1 })),
    ...running.filter(({ toMs }) => toMs < durationMs).map(({ toMs }) => ({ atMs: toMs, by: -1 })),
  ].sort((a, b) => a.atMs - b.atMs);
  let level = top;
  const corners = steps.map(({ atMs, by }) => {
    level -= by;
    return `H${Math.round(atMs)}V${level}`;
  });
  return `M0 ${top}${corners.join('')}H${Math.round(durationMs)}`;
}
