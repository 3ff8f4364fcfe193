/**
 * Decides when new work may begin. It holds work back and never refuses it. Knows classes of work, not what the work is.
 */
import pLimit from 'p-limit';

export interface Admission {
  /**
   * Runs `work` when it may go; what it was queued behind does not depend on who still waits for it.
   *
   * @returns What `work` returns.
   */
  admit<T>(work: () => Promise<T>): Promise<T>;
  /** Work that runs now. */
  readonly inFlight: number;
  /** Work that waits for its turn. */
  readonly queued: number;
}

/** @param limit How many run at once; first come, first served. */
export function fixedAdmission(limit: number): Admission {
  const gate = pLimit(limit);
  return {
    admit: (work) => gate(work),
    get inFlight() {
      return gate.activeCount;
    },
    get queued() {
      return gate.pendingCount;
    },
  };
}
