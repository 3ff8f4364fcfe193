/** The same storm under each way to admit. */
import { type Outcome, type StormOptions, storm } from './storm.js';

export interface Comparison {
  readonly off: Outcome;
  readonly fixed: readonly ({ readonly limit: number } & Outcome)[];
  readonly adaptive: Outcome;
}

export async function compare(options: StormOptions, limits: readonly number[]): Promise<Comparison> {
  const off = await storm(options, 'off');
  const fixed: Comparison['fixed'][number][] = [];
  for (const limit of limits) fixed.push({ limit, ...(await storm(options, { limit })) });
  return { off, fixed, adaptive: await storm(options, 'adaptive') };
}

/** The fixed limit under which all pods ran first; undefined: under none of them did they. */
export function bestFixed({ fixed }: Comparison): Comparison['fixed'][number] | undefined {
  const runningMs = ({ allRunningMs }: Outcome) => allRunningMs ?? Infinity;
  const [best] = fixed.toSorted((a, b) => runningMs(a) - runningMs(b));
  return best === undefined || best.allRunningMs === null ? undefined : best;
}
