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
  return {
    admit: (work) =>
      new Promise((resolve, reject) => {
        void gate(() => {
          const running = (async () => work())();
          running.then(resolve, reject);
          return untilPlaceIsFree(running);
        });
      }),
    get inFlight() {
      return gate.activeCount;
    },
    get queued() {
      return gate.pendingCount;
    },
  };
}
