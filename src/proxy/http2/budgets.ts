/**
 * What all connections together may keep in memory, and what of it each of them holds. Who holds most pays first: one greedy client
 * costs the others nothing. Counts only.
 */
import pLimit, { type LimitFunction } from 'p-limit';
import type { Clock } from '../../clock.js';
import { HalfRequests } from './half-requests.js';
import { defaultLimits } from './limits.js';

const MiB = 1024 * 1024;

/** Bytes that may be in memory at once. */
export class ByteBudget {
  readonly #max: number;
  #spent = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** @returns false, and nothing is spent, where there are not as many left of this part of the budget. */
  take(bytes: number, part = 1): boolean {
    if (this.#spent + bytes > this.#max * part) return false;
    this.#spent += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#spent -= bytes;
  }
}

/** What one connection holds of a budget. The last quarter is for those that hold little: one greedy client costs the others nothing. */
export class BudgetShare {
  readonly #budget: ByteBudget;
  #held = 0;

  constructor(budget: ByteBudget) {
    this.#budget = budget;
  }

  /** @returns false, and nothing is taken, where there are not as many left for this connection. */
  take(bytes: number): boolean {
    const isGreedy = this.#held + bytes > modestBytes;
    if (!this.#budget.take(bytes, isGreedy ? 0.75 : 1)) return false;
    this.#held += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#held -= bytes;
    this.#budget.giveBack(bytes);
  }
}

/** More than the requests of a kubelet ever take at once. */
const modestBytes = MiB;

/** Answers on their way in, and those that wait for their clients: they are there, so they are counted rather than refused. */
export class AnswerBudget {
  readonly #max: number;
  readonly #shares = new Set<AnswerShare>();
  #spent = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** @param by Negative where they wait no more. */
  changed(share: AnswerShare, by: number): void {
    this.#spent += by;
    if (share.bytes > 0) this.#shares.add(share);
    else this.#shares.delete(share);
    if (by <= 0 || this.#spent <= this.#max || this.#shares.size < 2) return;
    let largest = share;
    for (const other of this.#shares) if (other.bytes > largest.bytes) largest = other;
    largest.overdrawn();
  }
}

/** The answers of one connection. */
export class AnswerShare {
  readonly overdrawn: () => void;
  readonly #budget: AnswerBudget;
  readonly #max: number;
  #bytes = 0;
  #held = 0;
  #unread = 0;

  /** @param overdrawn This connection has to go. */
  constructor(budget: AnswerBudget, max: number, overdrawn: () => void) {
    this.#budget = budget;
    this.#max = max;
    this.overdrawn = overdrawn;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Those of them that wait for the windows of the client. */
  get heldBytes(): number {
    return this.#held;
  }

  /** Those of them that were put out, and that the client does not read. */
  get unreadBytes(): number {
    return this.#unread;
  }

  /** Bytes that have begun to wait for the windows of the client, or (negative) wait no more. */
  add(bytes: number): void {
    this.#held += bytes;
    this.keep(bytes);
  }

  /** @param bytes All that was put out and is not read. */
  unread(bytes: number): void {
    const change = bytes - this.#unread;
    if (change === 0) return;
    this.#unread = bytes;
    this.keep(change);
  }

  /** Bytes that are kept before they can wait, or (negative) no more. */
  keep(bytes: number): void {
    const before = this.#bytes;
    this.#bytes += bytes;
    this.#budget.changed(this, bytes);
    // A single answer may be as large as it likes.
    if (bytes > 0 && before > this.#max) this.overdrawn();
  }
}

/** What all connections together may keep in memory. */
export interface Budgets {
  /**
   * Requests of taken calls, from their first byte to their stream's end, and of observed ones while they are read; where somebody
   * waits for how the call ends, until then.
   */
  readonly requests: ByteBudget;
  /** What their streams take beside the messages, see `streamBytes`. */
  readonly streams: ByteBudget;
  readonly answers: AnswerBudget;
  readonly halfRequests: HalfRequests;
  /** Compressed requests are undone a few at a time: each may grow a thousandfold. */
  readonly decompression: LimitFunction;
}

export function newBudgets(clock: Clock): Budgets {
  return {
    requests: new ByteBudget(256 * MiB),
    streams: new ByteBudget(128 * MiB),
    answers: new AnswerBudget(256 * MiB),
    halfRequests: new HalfRequests(clock, defaultLimits.halfRequestMs),
    decompression: pLimit(2),
  };
}
