/** What a creation is at. Knows its call and what that waits for; neither requests nor waiters. */
import type { Clock } from '../clock.js';
import type { Admission } from '../throttle/admission.js';
import type { Creation } from './creation.js';
import type { Progress } from './progress.js';

/** A runtime says at once that a name is taken: a try that takes longer is at work, in ms. */
const saysReservedWithinMs = 1_000;

export class CreationProgress {
  readonly #clock: Clock;
  readonly #admission: Pick<Admission, 'queued'>;

  constructor(clock: Clock, admission: Pick<Admission, 'queued'>) {
    this.#clock = clock;
    this.#admission = admission;
  }

  /** @param checkedSinceMs Since when the runtime is asked how it is, where it is made. */
  of({ call, obstacle, reservation }: Creation<unknown, unknown>, checkedSinceMs: number): Progress {
    const { begunMs, runningSinceMs } = call;
    if (!call.inFlight) return { at: 'checked', sinceMs: checkedSinceMs };
    const runningMs = runningSinceMs === undefined ? 0 : this.#clock.now() - runningSinceMs;
    if (reservation !== undefined && runningMs < saysReservedWithinMs) {
      const { holderId: id, sinceMs, error } = reservation;
      return { at: 'waiting', sinceMs: begunMs, for: { what: 'name', id, sinceMs, error } };
    }
    if (runningSinceMs !== undefined) return { at: 'running', sinceMs: runningSinceMs };
    if (obstacle !== undefined) return { at: 'waiting', sinceMs: begunMs, for: obstacle };
    return { at: 'queued', sinceMs: begunMs, behind: Math.max(0, this.#admission.queued - 1) };
  }
}
