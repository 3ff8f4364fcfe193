/** Kept cases: what once broke a router, as JSON with the bytes in hex, so that changes to the generator leave it alone. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Outcome } from './case.js';
import type { Setting, Step } from './world.js';

export const regressionFolder = path.join(path.dirname(fileURLToPath(import.meta.url)), 'regressions');

export interface Regression extends Setting {
  /** The rule, and in what way. */
  readonly broke: string;
  /** What it was generated from. */
  readonly seed: number;
  readonly steps: readonly Step[];
}

export function readRegressions(): Map<string, Regression> {
  const files = readdirSync(regressionFolder).filter((file) => file.endsWith('.json'));
  return new Map(files.map((file) => [file, parse(readFileSync(path.join(regressionFolder, file), 'utf8'))]));
}

function parse(text: string): Regression {
  const kept = JSON.parse(text) as Omit<Regression, 'steps'> & { steps: unknown[][] };
  const steps = kept.steps.map(([kind, ...rest]) =>
    kind === 'client' || kind === 'runtime' ? [kind, Buffer.from(String(rest[0]), 'hex')] : [kind, ...rest],
  );
  return { ...kept, steps: steps as unknown as Step[] };
}

const lineWidth = 120;

/** As Biome lays it out. */
function stepText(step: Step): string {
  const parts = step.map((part) => JSON.stringify(Buffer.isBuffer(part) ? part.toString('hex') : part));
  const line = `    [${parts.join(', ')}]`;
  return line.length < lineWidth ? line : `    [\n      ${parts.join(',\n      ')}\n    ]`;
}

/** @returns The file's path. */
export function writeRegression(seed: number, rule: string, { breach, setting, steps }: Outcome): string {
  const head = JSON.stringify({ broke: `${rule}: ${breach?.detail ?? ''}`, seed, ...setting }, null, 2);
  const file = path.join(regressionFolder, `${rule.replaceAll(/[^a-z]+/gi, '-').toLowerCase()}-${seed}.json`);
  writeFileSync(file, `${head.slice(0, -2)},\n  "steps": [\n${steps.map(stepText).join(',\n')}\n  ]\n}\n`);
  return file;
}
