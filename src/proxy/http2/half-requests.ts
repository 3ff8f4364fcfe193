/**
 * Requests of all connections that are kept and not whole yet: of taken streams, and those that are read along. They have an age, and
 * where memory for requests is short the oldest goes first: a kubelet sends a request in one go. Knows time, and how to give one up.
 */
import type { Clock } from '../../clock.js';

/** What is sent in one go is read within far less, in ms. */
const slowMs = 1000;

export interface HalfRequest {
  /** Gives back what it holds, and ends it where it cannot do without. */
  giveUp(reason: string): void;
}

export class HalfRequests {
  readonly #clock: Clock;
  readonly #maxAgeMs: number;
  /** When each began, in ms of the clock; the oldest first. */
  readonly #begunMs = new Map<HalfRequest, number>();
  #cancelTimer: (() => void) | undefined;

  constructor(clock: Clock, maxAgeMs: number) {
    this.#clock = clock;
    this.#maxAgeMs = maxAgeMs;
  }

  begun(request: HalfRequest): void {
    this.#begunMs.set(request, this.#clock.now());
    this.#watchOldest();
  }

  /** It is whole, or its stream is over. */
  over(request: HalfRequest): void {
    this.#begunMs.delete(request);
    if (this.#begunMs.size > 0) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  /** @returns Whether there was one other than `request`, and slow to come in: who floods may not cost others what is just arriving. */
  giveUpOldest(request: HalfRequest): boolean {
    const [first] = this.#begunMs;
    if (first === undefined) return false;
    const [oldest, begunMs] = first;
    if (oldest === request || this.#clock.now() - begunMs < slowMs) return false;
    this.#begunMs.delete(oldest);
    oldest.giveUp('the requests in flight take too much memory, and this one is not whole');
    return true;
  }

  #watchOldest(): void {
    const [oldest] = this.#begunMs;
    if (oldest === undefined || this.#cancelTimer !== undefined) return;
    this.#cancelTimer = this.#clock.after(oldest[1] + this.#maxAgeMs - this.#clock.now(), () => {
      this.#cancelTimer = undefined;
      const limit = this.#clock.now() - this.#maxAgeMs;
      for (const [request, begunMs] of this.#begunMs) {
        if (begunMs > limit) break;
        this.#begunMs.delete(request);
        request.giveUp(`the request was not whole after ${this.#maxAgeMs} ms`);
      }
      this.#watchOldest();
    });
  }
}
