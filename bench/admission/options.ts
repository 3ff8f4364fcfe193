/** The command line of `npm run bench:admission`. */
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { StormOptions } from './storm.js';

export interface Options {
  readonly storm: StormOptions;
  readonly limits: readonly number[];
  readonly repeats: number;
  /** Files to write. */
  readonly svg: string;
  readonly json: string | undefined;
}

/** @throws {Error} Its message is one line that names the option. */
export function readOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      pods: { type: 'string', default: '200' },
      deadline: { type: 'string', default: '8000' },
      base: { type: 'string', default: '1000' },
      contention: { type: 'string', default: '0.05' },
      cores: { type: 'string', default: '4' },
      hung: { type: 'string', default: '0' },
      'no-psi': { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
      repeat: { type: 'string', default: '3' },
      limits: { type: 'string', default: '1,2,4,6,8,10,12,16,24,32,64' },
      json: { type: 'string' },
      svg: { type: 'string', default: path.join(tmpdir(), 'admission.svg') },
    },
  });
  return {
    storm: {
      pods: wholeNumber('pods', values.pods),
      deadlineMs: wholeNumber('deadline', values.deadline),
      baseMs: wholeNumber('base', values.base),
      contention: notNegative('contention', values.contention),
      cores: wholeNumber('cores', values.cores),
      hungShare: percent('hung', values.hung) / 100,
      psi: !values['no-psi'],
      seed: wholeNumber('seed', values.seed),
    },
    limits: values.limits.split(',').map((limit) => wholeNumber('limits', limit)),
    repeats: wholeNumber('repeat', values.repeat),
    svg: values.svg,
    json: values.json,
  };
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Error(`--${name} takes ${name === 'limits' ? 'whole numbers' : 'a whole number'} above 0, not "${text}"`);
}

function percent(name: string, text: string): number {
  const value = Number(text);
  if (value >= 0 && value < 100 && text.trim() !== '') return value;
  throw new Error(`--${name} takes percent from 0 to below 100, not "${text}"`);
}

function notNegative(name: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value >= 0 && text.trim() !== '') return value;
  throw new Error(`--${name} takes a number of at least 0, not "${text}"`);
}
