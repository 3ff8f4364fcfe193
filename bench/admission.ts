/**
 * `npm run bench:admission`: how long a storm of pods takes on a node that gets slower the more it does, under each fixed limit
 * and under the adaptive one. In virtual time: one seed gives one result, on every machine. Takes two to three minutes. With
 * `--hung 10` a tenth of the pods hangs for ever, with `--no-psi` Holdfast sees no pressure.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { chart } from './admission/chart.js';
import { bestFixed, compare } from './admission/compare.js';
import { type Options, readOptions } from './admission/options.js';
import { report } from './admission/report.js';

const { storm, limits, repeats, svg, json } = options();
const comparison = await compare(storm, limits, repeats);
process.stdout.write(report(storm, repeats, comparison));
const title = `${storm.pods} pods at once under adaptive admission (seed ${storm.seed})`;
writeFileSync(svg, chart(title, comparison.adaptive.samples, bestFixed(comparison)?.limit));
process.stdout.write(`chart: ${path.resolve(svg)}\n`);
if (json !== undefined) writeFileSync(json, `${JSON.stringify(comparison, null, 2)}\n`);

function options(): Options {
  try {
    return readOptions(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`bench:admission: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(2);
  }
}
