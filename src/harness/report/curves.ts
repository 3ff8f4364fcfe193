/** How many pods run, or have ended with success, over time: one curve for each arm, from the timelines of its first repeat. */
import type { ArmReport, Report, Timeline } from '../report-data.js';
import { type Markup, markup } from './markup.js';
import { percent, ticks, timeLabels, timeLines } from './scale.js';

/** How much of the time in which nothing changes any more is shown, as a part of the time before it. */
const calmPart = 0.25;
/** Less of a whole than this is not worth being left out. */
const worthCutting = 1 / 4;

/**
 * The end of the time axis, in ms: when the last arm is over, or, where curves go on for long without a change, soon after the last
 * change of any of them.
 */
export function curvesEnd({ arms }: Pick<Report, 'arms'>): number {
  const overMs = Math.max(1, ...arms.map(({ durationMs }) => durationMs));
  const changes = arms.flatMap(({ timelines, durationMs }) =>
    timelines.flatMap(upSpans).flatMap(({ fromMs, toMs }) => (toMs < durationMs ? [fromMs, toMs] : [fromMs])),
  );
  const calmMs = Math.max(0, ...changes) * (1 + calmPart);
  return calmMs > 0 && calmMs < overMs * (1 - worthCutting) ? calmMs : overMs;
}

export function curves(report: Report): Markup {
  const { arms, pods } = report;
  const endMs = curvesEnd(report);
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
    (arm, at) => markup`<path class="curve arm-${at % armColours}" d="${path(arm, top, endMs)}"/>`,
  )}</svg>
${arms.map((arm, at) => {
  const y = percent(top - runningAtEnd(arm), top);
  if (arm.durationMs > endMs)
    return markup`<text class="goes-on arm-${at % armColours}" x="100%" y="${y}" dx="1" dy="4">▸<title>${arm.name} stays like this until it is over</title></text>`;
  return markup`<circle class="arm-${at % armColours}" cx="${percent(arm.durationMs, endMs)}" cy="${y}" r="4"/>`;
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

function path({ timelines, durationMs }: ArmReport, top: number, endMs: number): string {
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
  return `M0 ${top}${corners.join('')}H${Math.round(Math.min(durationMs, endMs))}`;
}
