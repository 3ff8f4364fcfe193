/** A report in one sentence: how many pods ran, after how long, and what became of them otherwise. */
import type { ArmReport, Report } from '../report-data.js';
import { runningAtEnd } from './curves.js';
import { seconds } from './figures.js';

/** @returns Empty where no pod was expected to run. */
export function headline({ arms, repeats }: Report): string {
  const lead = arms.find(({ name }) => name === 'holdfast') ?? [...arms].sort(byOutcome)[0];
  if (lead === undefined || expectedToRun(lead) === 0) return '';
  const others = arms.filter((arm) => arm !== lead);
  const idle = others.filter((arm) => ranInTime(arm) === 0);
  const rest = others.filter((arm) => !idle.includes(arm)).map((arm) => clause(arm, lead));
  if (idle.length > 0) rest.push(`${listed(idle.map(way))} none did`);
  return `${[opening(lead, arms), ...rest].join('; ')}${repeats > 1 ? `, by the medians of ${repeats} repeats` : ''}.`;
}

/** Pods that were not deleted and do not hang for ever. */
export function expectedToRun({ timelines, neverRun }: ArmReport): number {
  const deleted = timelines.filter(({ marks }) => marks.some(({ kind }) => kind === 'deleted')).length;
  return Math.max(0, timelines.length - deleted - neverRun);
}

function opening(arm: ArmReport, arms: readonly ArmReport[]): string {
  const all = expectedToRun(arm);
  const pods = arms.some(({ neverRun }) => neverRun > 0) ? 'pods that do not hang' : 'pods';
  const ran = ranInTime(arm);
  const text = `${ran === 0 ? 'None' : ran} of ${all} ${pods} ran ${way(arm)}`;
  const allMs = ran === all ? arm.runningMs.all : null;
  return allMs === null ? `${text} within ${seconds(arm.durationMs)}` : `${text} after ${seconds(allMs)}`;
}

function clause(arm: ArmReport, lead: ArmReport): string {
  const all = expectedToRun(arm);
  const ran = ranInTime(arm);
  const allMs = arm.runningMs.all;
  if (allMs === null || ran < all) return `${way(arm)} ${ran} of ${all} did within ${seconds(arm.durationMs)}`;
  const text = `${way(arm)} all did after ${seconds(allMs)}`;
  const leadMs = ranInTime(lead) === expectedToRun(lead) ? lead.runningMs.all : null;
  if (leadMs === null || seconds(leadMs) === seconds(allMs)) return text;
  return `${text}, ${seconds(Math.abs(allMs - leadMs))} ${allMs > leadMs ? 'later' : 'sooner'}`;
}

/** All of them only where it was all in each repeat; else what the first repeat came to. */
function ranInTime(arm: ArmReport): number {
  const all = expectedToRun(arm);
  if (arm.converged) return all;
  return arm.runningMs.all === null ? Math.min(runningAtEnd(arm), all) : Math.min(runningAtEnd(arm), all - 1);
}

function way({ name, title }: ArmReport): string {
  if (name === 'holdfast') return 'through Holdfast';
  return title.startsWith('straight to ') ? title : `with ${name}`;
}

/** More pods first, and those that took less time. */
function byOutcome(a: ArmReport, b: ArmReport): number {
  return ranInTime(b) - ranInTime(a) || (a.runningMs.all ?? a.durationMs) - (b.runningMs.all ?? b.durationMs);
}

function listed(parts: readonly string[]): string {
  return parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`;
}
