/** The report as one HTML file that needs no network: curves, figures, and a timeline for each arm. */
import { createHash } from 'node:crypto';
import type { ArmReport, Report } from '../report-data.js';
import { armColours, curves, runningAtEnd } from './curves.js';
import { type Figure, figures, seconds } from './figures.js';
import { expectedToRun, headline } from './headline.js';
import { Markup, markup } from './markup.js';
import { script } from './page-script.js';
import { style } from './page-style.js';
import { glyphDefinitions, legend, timelines } from './timeline-rows.js';

const scriptHash = createHash('sha256').update(script).digest('base64');

export function reportHtml(report: Report): string {
  const { scenario, description, seed, pods, repeats, runtime, arms } = report;
  const endMs = Math.max(1, ...arms.map(({ durationMs }) => durationMs));
  return markup`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${scriptHash}'">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>${scenario} – holdfast bench</title>
<style>${new Markup(style)}</style>
</head>
<body>
${glyphDefinitions}
<header>
<p class="kicker">holdfast bench</p>
<h1>${scenario}</h1>
${headlineOf(report)}<p>${description}</p>
<dl>${Object.entries({ pods, seed, repeats, runtime }).map(
    ([name, value]) => markup`<div><dt>${name}</dt><dd>${value}</dd></div>`,
  )}</dl>
</header>
<main>
<section>
<h2>Pods running over time</h2>
<div class="overview">${curves(report)}<ul class="arms">${arms.map(armSummary)}</ul></div>
</section>
<section>
<h2>Figures</h2>
${figureTable(report)}
</section>
<section>
<h2 id="timelines">What happened to each pod</h2>
${legend}
<div class="bar"><div role="tablist" aria-labelledby="timelines">${arms.map(
    ({ name }, at) =>
      markup`<button type="button" role="tab" id="tab-${at}" aria-controls="panel-${at}" aria-selected="${String(at === 0)}" tabindex="${at === 0 ? 0 : -1}">${swatch(at)}${name}</button>`,
  )}</div><label><input type="checkbox" id="shared">One time axis for all arms</label></div>
<div class="panels"><div>${arms.map(
    (arm, at) =>
      markup`<div role="tabpanel" id="panel-${at}" aria-labelledby="tab-${at}"${at === 0 ? '' : new Markup(' hidden')}>${timelines(arm, endMs)}</div>`,
  )}</div>
<aside aria-label="Events of a pod"><h3></h3><div></div></aside></div>
</section>
</main>
<script>${new Markup(script)}</script>
</body>
</html>
`.text;
}

function armSummary(arm: ArmReport, at: number): Markup {
  const wanted = expectedToRun(arm);
  const running = runningAtEnd(arm);
  const state =
    arm.runningMs.all === null
      ? `${running} of ${wanted} ran when the watch ended, after ${seconds(arm.durationMs)}`
      : `all ${arm.neverRun > 0 ? `${wanted} that can ` : ''}ran after ${seconds(arm.runningMs.all)}`;
  return markup`<li>${swatch(at)}<div><b>${arm.name}</b> ${arm.title.startsWith(`${arm.name}: `) ? arm.title.slice(arm.name.length + 2) : arm.title}<p class="${arm.converged ? 'good' : 'bad'}">${state}</p></div></li>`;
}

function headlineOf(report: Report): Markup {
  const sentence = headline(report);
  return sentence === ''
    ? markup``
    : markup`<p class="headline">${sentence}</p>
`;
}

function swatch(at: number): Markup {
  return markup`<svg class="swatch" aria-hidden="true"><path class="curve arm-${at % armColours}" d="M0 6H22"/></svg>`;
}

function figureTable(report: Report): Markup {
  const all = figures(report);
  const zeros = all.filter(({ isZero }) => isZero);
  const folded = markup`<details><summary>0 in ${report.arms.length > 1 ? 'every arm' : 'it'}: ${zeros.map(({ name }) => name).join(', ')}</summary>
${table(report, zeros)}</details>`;
  return markup`<div class="wide" tabindex="0" role="group" aria-label="Figures">${table(
    report,
    all.filter(({ isZero }) => !isZero),
  )}
${zeros.length > 0 ? folded : markup``}</div>
<p class="note">Medians over the repeats. ×: ratio to the arm <i>direct</i>. —: never came to that, or does not apply. Curves and timelines are of the first repeat.</p>`;
}

function table({ arms }: Report, rows: readonly Figure[]): Markup {
  return markup`<table style="--arms:${arms.length}">
<thead><tr><td></td>${arms.map(({ name }, at) => markup`<th scope="col">${swatch(at)}${name}</th>`)}</tr></thead>
<tbody>${rows.map(
    ({ name, note, cells }) => markup`<tr><th scope="row">${name} <small>${note}</small></th>${cells.map(
      ({ text, ratio }) => markup`<td>${text}<small>${ratio ?? ''}</small></td>`,
    )}</tr>
`,
  )}</tbody></table>`;
}
