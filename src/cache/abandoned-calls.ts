/**
 * Queued calls that nobody waits for any more. To ask and to leave costs a caller nothing, so what callers leave behind is
 * bounded: beyond that the oldest are dropped. Knows how large a call's request is, nothing else of it.
 */
import { DroppedError } from './detached-call.js';

interface Droppable {
  fail(error: unknown): void;
}

export class AbandonedCalls {
  /** Bytes of their requests; the oldest first. */
  readonly #calls = new Map<Droppable, number>();
  readonly #maxCalls: number;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxCalls: number, maxBytes: number) {
    this.#maxCalls = maxCalls;
    this.#maxBytes = maxBytes;
  }

  /** The last waiter of a queued call has left. */
  add(call: Droppable, bytes: number): void {
    this.delete(call);
    this.#calls.set(call, bytes);
    this.#bytes += bytes;
    for (const oldest of this.#calls.keys()) {
      if (this.#calls.size <= this.#maxCalls && this.#bytes <= this.#maxBytes) break;
      this.delete(oldest);
      oldest.fail(new DroppedError('too many queued calls that nobody waits for'));
    }
  }

  /** Somebody asks for it again, or it is queued no more. */
  delete(call: Droppable): void {
    this.#bytes -= this.#calls.get(call) ?? 0;
    this.#calls.delete(call);
  }
}

/** Requests of queued calls that nobody waits for, all together; those of a kubelet are a few KiB each. */
export const maxAbandonedBytes = 64 * 1024 * 1024;
