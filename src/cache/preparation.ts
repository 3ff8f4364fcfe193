/** What a queued creation waits for before it may wait for its turn: names to get free, a pause after failures, starts under way. */
import type { Clock } from '../clock.js';
import type { Creation } from './creation.js';
import type { CreationIndex } from './creation-index.js';
import type { FailureBackoff } from './failure-backoff.js';
import type { ContainerFingerprint } from './fingerprint.js';
import type { Obstacle } from './progress.js';

/** Keeps a second copy of a container from being made. */
export interface CreationGuard {
  /** The start that the creation of this container has to wait for, as far as is known now. Time in ms of the clock. */
  inTheWay(
    fingerprint: ContainerFingerprint,
  ): { readonly containerId: string; readonly attempt: number; readonly sinceMs: number } | undefined;
  /** Resolves when it may be made. @throws Where it must not be made now. */
  pass(fingerprint: ContainerFingerprint, signal: AbortSignal): Promise<void>;
}

/** Pauses between two tries for a name that is taken, in ms: the first, and the longest. Each is twice as long as the one before. */
const namePauseMs = { first: 250, longest: 10_000 } as const;

export class Preparation<Origin, Answer> {
  readonly #clock: Clock;
  readonly #guard: CreationGuard;
  readonly #index: Pick<CreationIndex<Origin, Answer>, 'doomed'>;
  readonly #failures: FailureBackoff;
  readonly #pausing: (creation: Creation<Origin, Answer>, detail: Readonly<Record<string, unknown>>) => void;
  #paused = 0;

  /** @param pausing Told where a creation has failed too often and has to pause. */
  constructor(
    clock: Clock,
    guard: CreationGuard,
    index: Pick<CreationIndex<Origin, Answer>, 'doomed'>,
    failures: FailureBackoff,
    pausing: (creation: Creation<Origin, Answer>, detail: Readonly<Record<string, unknown>>) => void,
  ) {
    this.#clock = clock;
    this.#guard = guard;
    this.#index = index;
    this.#failures = failures;
    this.#pausing = pausing;
  }

  /** Creations that pause after failures. */
  get paused(): number {
    return this.#paused;
  }

  /** Whether, at this moment, nothing but its turn is to be waited for. */
  isClear({ fingerprint }: Creation<Origin, Answer>): boolean {
    for (const _ of this.#index.doomed(fingerprint)) return false;
    return fingerprint.kind !== 'container' || this.#guard.inTheWay(fingerprint) === undefined;
  }

  /**
   * Waits for all that is in the way of the creation as it is asked for now.
   *
   * @returns false where the creation has ended, or has become another request's, which is prepared anew.
   * @throws Where the guard refuses it.
   */
  async prepare(creation: Creation<Origin, Answer>): Promise<boolean> {
    const round = new AbortController();
    const { signal } = round;
    const end = () => round.abort();
    creation.endPreparation();
    creation.endPreparation = end;
    try {
      await this.#pauseForName(creation, signal);
      await this.#pauseAfterFailures(creation, signal);
      while (!signal.aborted && !this.isClear(creation)) {
        await this.#waitForRemovals(creation, signal);
        await this.#waitForStart(creation, signal);
      }
      return !signal.aborted;
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    } finally {
      if (creation.endPreparation === end) {
        creation.endPreparation = nothing;
        creation.obstacle = undefined;
      }
    }
  }

  async #pauseForName(creation: Creation<Origin, Answer>, signal: AbortSignal): Promise<void> {
    const { reservation } = creation;
    if (reservation === undefined || reservation.tries === 0) return;
    const { holderId, sinceMs, tries, error } = reservation;
    creation.obstacle = { what: 'name', id: holderId, sinceMs, error };
    await this.#pause(Math.min(namePauseMs.longest, namePauseMs.first * 2 ** (tries - 1)), signal);
  }

  async #pauseAfterFailures(creation: Creation<Origin, Answer>, signal: AbortSignal): Promise<void> {
    const { failures, pauseMs } = this.#failures.of(creation.fingerprint);
    if (pauseMs === 0 || signal.aborted) return;
    this.#pausing(creation, { failures, pauseMs });
    creation.obstacle = { what: 'pause', failures, untilMs: this.#clock.now() + pauseMs };
    this.#paused += 1;
    await this.#pause(pauseMs, signal);
    this.#paused -= 1;
  }

  async #waitForRemovals(creation: Creation<Origin, Answer>, signal: AbortSignal): Promise<void> {
    for (const doomed of this.#index.doomed(creation.fingerprint)) {
      if (signal.aborted) return;
      creation.obstacle = removalOf(doomed, this.#clock.now());
      await orAborted(doomed.gone, signal);
    }
  }

  async #waitForStart(creation: Creation<Origin, Answer>, signal: AbortSignal): Promise<void> {
    const { fingerprint } = creation;
    if (signal.aborted || fingerprint.kind !== 'container') return;
    const start = this.#guard.inTheWay(fingerprint);
    if (start === undefined) return;
    creation.obstacle = { what: 'start', ...start };
    await this.#guard.pass(fingerprint, signal);
  }

  #pause(ms: number, signal: AbortSignal): Promise<void> {
    let cancel = () => {};
    const over = new Promise<void>((resolve) => {
      cancel = this.#clock.after(ms, resolve);
    });
    return orAborted(over, signal).finally(() => cancel());
  }
}

const nothing = () => {};

function removalOf<Origin, Answer>(doomed: Creation<Origin, Answer>, nowMs: number): Obstacle {
  return { what: 'removal', id: doomed.made?.id, sinceMs: nowMs, error: () => doomed.removalError };
}

/** Resolves with the promise, or when the signal fires, which it has not yet. */
function orAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => resolve();
    signal.addEventListener('abort', end);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', end));
  });
}
