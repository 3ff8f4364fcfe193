/**
 * What goes wrong in the simulated runtime: calls that fail or hang, drawn by name and try (draws.ts), pods whose sandboxes hang, and
 * restarts.
 */
import { status } from '@grpc/grpc-js';
import type { Clock } from '../../clock.js';
import { sleep } from '../sleep.js';
import { draws, type Uniform } from './draws.js';
import type { InjectedAnswer } from './gates.js';
import { podOf } from './profiles.js';

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

/**
 * The pod sandboxes of some pods hang once their time is over: they take no more of the node, and are undone when the runtime gives
 * them up, containerd when its caller leaves, CRI-O never. Only what was begun counts, not what was refused.
 *
 * @param pods As podOf says them.
 * @param times How many of each pod, from the first on; Infinity: all.
 */
export function hanging(pods: ReadonlySet<string>, times: number): Fate {
  const begun = new Map<string, number>();
  return (name) => {
    const pod = podOf(name);
    const count = (begun.get(pod) ?? 0) + 1;
    begun.set(pod, count);
    return pods.has(pod) && count <= times ? { hang: true } : undefined;
  };
}

/** The first of these fates that there is. */
export function firstOf(...fates: readonly Fate[]): Fate {
  return (name) => {
    // Each is asked, so that none has other draws for the sake of another.
    const [fate] = fates.flatMap((fateOf) => fateOf(name) ?? []);
    return fate;
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
