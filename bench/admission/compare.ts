/** The same storms under each way to admit. */
import { type Arm, type Outcome, type StormOptions, storm } from './storm.js';

export interface Comparison {
  readonly off: Outcome;
  readonly fixed: readonly ({ readonly limit: number } & Outcome)[];
  readonly adaptive: Outcome;
}

/** @param repeats Storms under each, with a seed each: when the last of many pods runs is in part a matter of luck. */
export async function compare(options: StormOptions, limits: readonly number[], repeats: number): Promise<Comparison> {
  const off = await storms(options, repeats, 'off');
  const fixed: Comparison['fixed'][number][] = [];
  for (const limit of limits) fixed.push({ limit, ...(await storms(options, repeats, { limit })) });
  return { off, fixed, adaptive: await storms(options, repeats, 'adaptive') };
}

/** Means over the storms; the samples are those of the first. */
async function storms(options: StormOptions, repeats: number, arm: Arm): Promise<Outcome> {
  const outcomes: Outcome[] = [];
  for (let n = 0; n < repeats; n += 1) outcomes.push(await storm({ ...options, seed: options.seed + n }, arm));
  const mean = (values: number[]) => Math.round(values.reduce((sum, value) => sum + value, 0) / repeats);
  const meanOrNever = (values: (number | null)[]) => {
    const known = values.filter((value) => value !== null);
    return known.length < repeats ? null : mean(known);
  };
  return {
    allRunningMs: meanOrNever(outcomes.map(({ allRunningMs }) => allRunningMs)),
    p95RunningMs: meanOrNever(outcomes.map(({ p95RunningMs }) => p95RunningMs)),
    failedCalls: mean(outcomes.map(({ failedCalls }) => failedCalls)),
    creations: mean(outcomes.map(({ creations }) => creations)),
    samples: outcomes[0]?.samples ?? [],
  };
}

/** The fixed limit under which all pods ran first; undefined: under none of them did they. */
export function bestFixed({ fixed }: Comparison): Comparison['fixed'][number] | undefined {
  const runningMs = ({ allRunningMs }: Outcome) => allRunningMs ?? Infinity;
  const [best] = fixed.toSorted((a, b) => runningMs(a) - runningMs(b));
  return best === undefined || best.allRunningMs === null ? undefined : best;
}
