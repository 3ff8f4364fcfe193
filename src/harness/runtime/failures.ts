/** What goes wrong in the simulated runtime: calls that fail or hang, drawn by name and try (draws.ts), and restarts. */
import { status } from '@grpc/grpc-js';
import type { Clock } from '../../clock.js';
import { sleep } from '../sleep.js';
import { draws, type Uniform } from './draws.js';
import type { InjectedAnswer } from './gates.js';

/** What is put in the place of the answer to a try of a reserved name; undefined: nothing. */
export type Fate = (name: string) => InjectedAnswer | undefined;

export interface FailureShares {
  /** Share of calls that fail when their time is over, with code UNKNOWN. */
  readonly fail?: number;
  /** Share of calls that never end by themselves. */
  readonly hang?: number;
}

export function failing(random: Uniform, { fail = 0, hang = 0 }: FailureShares): Fate {
  const draw = draws(random);
  return (name) => {
    const drawn = draw(name);
    if (drawn < fail) return { code: status.UNKNOWN, details: 'simulated failure' };
    return drawn < fail + hang ? { hang: true } : undefined;
  };
}

export interface Restart {
  /** From the start of the scenario. */
  readonly atMs: number;
  /** How long nothing listens. */
  readonly downMs: number;
}

/** What can be restarted. */
export interface Restartable {
  kill(): Promise<void>;
  listen(): Promise<void>;
}

/**
 * Carries restarts out, counted from now, in the order given; each is to begin after the one before has ended.
 *
 * @param signal Ends it early; what is down then is started.
 */
export async function restartAt(
  runtime: Restartable,
  restarts: readonly Restart[],
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const beganMs = clock.now();
  for (const { atMs, downMs } of restarts) {
    await sleep(clock, beganMs + atMs - clock.now(), signal);
    if (signal.aborted) return;
    await runtime.kill();
    await sleep(clock, downMs, signal);
    await runtime.listen();
  }
}
