/** How many pods run over time: one curve for each arm, from the timelines of its first repeat. */
import type { ArmReport, Report } from '../report-data.js';
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

/** Pods that ran when the watch ended. */
export function runningAtEnd({ timelines, durationMs }: ArmReport): number {
  return timelines.filter(({ calls }) => calls.some(({ state, toMs }) => state === 'running' && toMs >= durationMs))
    .length;
}

function path({ timelines, durationMs }: ArmReport, top: number): string {
  const running = timelines.flatMap(({ calls }) => calls.filter(({ state }) => state === 'running'));
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
