/** What work is at, for people. It is made when somebody asks, and never kept. */
import type { Work, WorkClass } from './work-queue.js';

/** Where work stands in the queue. */
export interface QueuePlace {
  /** How much goes before it, as long as no class is overdue and nothing more important comes. */
  readonly before: number;
  readonly class: WorkClass;
  /** Since when it has been in the queue, in ms of the clock. */
  readonly sinceMs: number;
}

export interface AdmissionView {
  readonly places: ReadonlyMap<Work, QueuePlace>;
  /** What hangs and does not count against the limit, and since when, in ms of the clock. */
  readonly hungSinceMs: ReadonlyMap<Work, number>;
}
