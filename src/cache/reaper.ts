/**
 * The only place that removes what nobody has. It looks first: what has been used is left alone. What cannot be removed is tried a
 * few times, then left to the kubelet's own garbage collection, and said so.
 */
import type { Clock } from '../clock.js';
import type { CreationRuntime, Subject } from './creation-runtime.js';

/** `in use`: it was not removed, since somebody has used it. `given up`: it could not be removed. */
export type Reaped = 'removed' | 'in use' | 'given up';

/** Tries to remove one thing. The pauses between them, in ms: 1,000, 2,000, 4,000, … 15 s in all. */
const tries = 5;
const firstPauseMs = 1_000;

export class Reaper<Origin> {
  readonly #runtime: Pick<CreationRuntime<Origin, unknown>, 'conditionOf' | 'isInhabited' | 'remove'>;
  readonly #clock: Clock;
  readonly #pauses = new Set<() => void>();
  #closed = false;

  constructor(runtime: Pick<CreationRuntime<Origin, unknown>, 'conditionOf' | 'isInhabited' | 'remove'>, clock: Clock) {
    this.#runtime = runtime;
    this.#clock = clock;
  }

  /**
   * @param stillWanted Asked before each try, and between its look and the removal: it may have been used meanwhile. Where it says no
   *   there is no other.
   * @param failed Each try that failed, and when there will be another, in ms; undefined: no more.
   */
  async reap(
    subject: Subject<Origin>,
    stillWanted: () => boolean,
    failed: (error: unknown, nextTryMs: number | undefined) => void,
  ): Promise<Reaped> {
    let pauseMs = firstPauseMs;
    for (let left = tries - 1; stillWanted(); left--) {
      try {
        return await this.tryOnce(subject, stillWanted);
      } catch (error) {
        const isLast = left === 0 || this.#closed;
        failed(error, isLast ? undefined : pauseMs);
        if (isLast) return 'given up';
      }
      await this.#pause(pauseMs);
      pauseMs *= 2;
    }
    return 'given up';
  }

  /** @throws Where it could be neither seen nor removed. */
  async tryOnce(subject: Subject<Origin>, stillWanted: () => boolean): Promise<'removed' | 'in use'> {
    const condition = await this.#runtime.conditionOf(subject);
    const isUsed = condition === 'in use' || (condition === 'as made' && (await this.#runtime.isInhabited(subject)));
    if (isUsed || !stillWanted()) return 'in use';
    if (condition !== 'absent') await this.#runtime.remove(subject);
    return 'removed';
  }

  /** Tries that wait are made at once, and are the last. */
  close(): void {
    this.#closed = true;
    for (const end of this.#pauses) end();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        cancel();
        this.#pauses.delete(end);
        resolve();
      };
      const cancel = this.#clock.after(ms, end);
      this.#pauses.add(end);
    });
  }
}
