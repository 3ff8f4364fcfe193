/**
 * Decides when new work may begin. It holds work back and never refuses it. Knows classes of work, not what the work is.
 */
import pLimit from 'p-limit';
import type { Clock } from '../clock.js';

export interface Admission {
  /**
   * Runs `work` when it may go; what it was queued behind does not depend on who still waits for it.
   *
   * @returns What `work` returns.
   */
  admit<T>(work: () => Promise<T>): Promise<T>;
  /** Takes back work that is queued: it will not run, and its `admit` stays unanswered. Without effect on any other. */
  withdraw(work: () => Promise<unknown>): void;
  /** Work that has a place now. */
  readonly inFlight: number;
  /** Work that waits for its turn. */
  readonly queued: number;
}

/**
 * First come, first served.
 *
 * @param limit Places: how much runs at once.
 * @param placeMs Work that takes longer goes on without its place: what hangs in the runtime must not keep back the rest of
 * the node.
 */
export function fixedAdmission(limit: number, clock: Clock, placeMs: number): Admission {
  const gate = pLimit(limit);
  const untilPlaceIsFree = (running: Promise<unknown>) =>
    new Promise<void>((resolve) => {
      const cancel = clock.after(placeMs, resolve);
      const leave = () => {
        cancel();
        resolve();
      };
      running.then(leave, leave);
    });
  const waiting = new Map<() => Promise<unknown>, () => Promise<unknown>>();
  /** Turns asked for: as many as there is work waiting, or more where work was withdrawn. */
  let turns = 0;
  const takeTurn = async () => {
    turns -= 1;
    // Not in a loop over the map: an iterator that is held for long keeps all that was ever in it.
    const [first] = waiting;
    if (first === undefined) return;
    const [work, run] = first;
    waiting.delete(work);
    await untilPlaceIsFree(run());
  };
  return {
    admit: (work) =>
      new Promise((resolve, reject) => {
        waiting.set(work, () => {
          const running = (async () => work())();
          running.then(resolve, reject);
          return running;
        });
        if (turns >= waiting.size) return;
        turns += 1;
        void gate(takeTurn);
      }),
    withdraw(work) {
      waiting.delete(work);
    },
    get inFlight() {
      return gate.activeCount;
    },
    get queued() {
      return waiting.size;
    },
  };
}
