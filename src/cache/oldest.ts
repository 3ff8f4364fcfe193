/** Finds what has been in each stage for longest. Knows stages and times. */
import type { Progress } from './progress.js';

/**
 * Where a creation or start may be for long:
 * - `queued`: it waits for its turn, since it was first asked for.
 * - `waiting`: something has to be over before it may be queued (see progress.ts); since it was first asked for, too.
 * - `running`: its upstream call is under way, since that began.
 * - `held`: a container nobody has been given, since it was made.
 */
export type Stage = 'queued' | 'waiting' | 'running' | 'held';

/** Ages by stage, in ms; none where nothing is in it. */
export type OldestMs = Readonly<Partial<Record<Stage, number>>>;

export class Oldest {
  readonly #nowMs: number;
  readonly #ages: Partial<Record<Stage, number>> = {};

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  get ages(): OldestMs {
    return this.#ages;
  }

  /** @param sinceMs In ms of the clock. */
  add(stage: Stage, sinceMs: number): void {
    this.#ages[stage] = Math.max(this.#ages[stage] ?? 0, this.#nowMs - sinceMs);
  }

  /** Of work in flight. */
  addProgress({ at, sinceMs }: Progress): void {
    if (at !== 'checked') this.add(at, sinceMs);
  }
}
