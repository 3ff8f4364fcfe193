/** How much work may run at once, as the admission sees it. */
import type { Work } from './work-queue.js';

export interface ConcurrencyLimit {
  /** From 1 up, Infinity included. */
  readonly value: number;
  /** Set by the admission: called after `value` has moved. */
  onMove: () => void;
  /**
   * Work begins.
   *
   * @returns To be called once, when it has ended, also if it lost its place before: whether it did what it was to do.
   */
  begin(work: Pick<Work, 'kind' | 'deadlineMs'>): (succeeded: boolean) => void;
  /** Ends its timers. */
  close(): void;
}

export function fixedLimit(value: number): ConcurrencyLimit {
  return { value, onMove: () => {}, begin: () => () => {}, close: () => {} };
}
