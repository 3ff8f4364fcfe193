/** How long a call may be kept waiting, so that there is time left to say why. */
import type { Clock } from '../clock.js';
import type { TakenCall } from './taken-call.js';

/** Share of the time a caller has that is kept for telling it, and the bounds of that, in ms: it must arrive on a busy node too. */
const shareKept = 0.1;
const keptAtLeastMs = 100;
const keptAtMostMs = 2_000;

export class Patience {
  /** Fires when the call is over, or when it is time to tell it what it waits for. */
  readonly signal: AbortSignal;
  readonly #abort = new AbortController();
  readonly #call: TakenCall;
  readonly #cancelTimer: () => void;
  readonly #over = () => this.#abort.abort();

  constructor(call: TakenCall, clock: Clock) {
    this.#call = call;
    this.signal = this.#abort.signal;
    if (call.signal.aborted) this.#over();
    else call.signal.addEventListener('abort', this.#over);
    const leftMs = call.deadlineMs === undefined ? undefined : call.deadlineMs - clock.now();
    this.#cancelTimer = leftMs === undefined ? () => {} : clock.after(leftMs - keptMs(leftMs), this.#over);
  }

  /** Whether the caller still waits, and is to be told for what. */
  get hasRunOut(): boolean {
    return this.signal.aborted && !this.#call.signal.aborted;
  }

  close(): void {
    this.#cancelTimer();
    this.#call.signal.removeEventListener('abort', this.#over);
  }
}

function keptMs(leftMs: number): number {
  return Math.min(Math.max(shareKept * leftMs, keptAtLeastMs), keptAtMostMs, leftMs / 2);
}
