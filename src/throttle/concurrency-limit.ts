/** How much work may run at once, as the admission sees it. */
import type { Work } from './work-queue.js';

/** Work that the limit was told of. */
export interface Counted {
  /** Called at most once, before it has ended: it hangs, and is no load any more. */
  hangs(): void;
  /** Called once: whether it did what it was to do, and what it took tells something of the node. */
  ended(succeeded: boolean): void;
}

const uncounted: Counted = { hangs: () => {}, ended: () => {} };

export interface ConcurrencyLimit {
  /** From 1 up, Infinity included. */
  readonly value: number;
  /** Whether the node is short of something now, so that all it does is slow; false where nothing is known of it. */
  readonly isShort: boolean;
  /** How much more may run now in place of what nobody waits for any more. */
  readonly lendable: number;
  /** Set by the admission: called after `value` has moved. */
  onMove: () => void;
  /** Work begins. */
  begin(work: Pick<Work, 'kind' | 'deadlineMs'>): Counted;
  /** Ends its timers. */
  close(): void;
}

export function fixedLimit(value: number): ConcurrencyLimit {
  return { value, isShort: false, lendable: 0, onMove: () => {}, begin: () => uncounted, close: () => {} };
}
