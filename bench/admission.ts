/**
 * `npm run bench:admission`: how long a storm of pods takes on a node that gets slower the more it does, under each fixed limit
 * and under the adaptive one. In virtual time: one seed gives one result, on every machine. Takes two to three minutes.
 */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chart } from './admission/chart.js';
import { bestFixed, compare } from './admission/compare.js';
import { report } from './admission/report.js';
import type { StormOptions } from './admission/storm.js';

const { values } = readOptions();
const storm: StormOptions = {
  pods: wholeNumber('pods', values.pods),
  deadlineMs: wholeNumber('deadline', values.deadline),
  baseMs: wholeNumber('base', values.base),
  contention: notNegative('contention', values.contention),
  cores: wholeNumber('cores', values.cores),
  seed: wholeNumber('seed', values.seed),
};
const limits = values.limits.split(',').map((limit) => wholeNumber('limits', limit));

const repeats = wholeNumber('repeat', values.repeat);

const comparison = await compare(storm, limits, repeats);
process.stdout.write(report(storm, repeats, comparison));
const title = `${storm.pods} pods at once under adaptive admission (seed ${storm.seed})`;
writeFileSync(values.svg, chart(title, comparison.adaptive.samples, bestFixed(comparison)?.limit));
process.stdout.write(`chart: ${path.resolve(values.svg)}\n`);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(comparison, null, 2)}\n`);

function readOptions() {
  try {
    return parseArgs({
      options: {
        pods: { type: 'string', default: '200' },
        deadline: { type: 'string', default: '8000' },
        base: { type: 'string', default: '1000' },
        contention: { type: 'string', default: '0.05' },
        cores: { type: 'string', default: '4' },
        seed: { type: 'string', default: '1' },
        repeat: { type: 'string', default: '3' },
        limits: { type: 'string', default: '1,2,4,6,8,10,12,16,24,32,64' },
        json: { type: 'string' },
        svg: { type: 'string', default: path.join(tmpdir(), 'admission.svg') },
      },
    });
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  return refuse(`--${name} takes ${name === 'limits' ? 'whole numbers' : 'a whole number'} above 0, not "${text}"`);
}

function notNegative(name: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value >= 0 && text.trim() !== '') return value;
  return refuse(`--${name} takes a number of at least 0, not "${text}"`);
}

function refuse(why: string): never {
  process.stderr.write(`bench:admission: ${why}\n`);
  process.exit(2);
}
