/**
 * Fetches what CRI-O has made for a caller that has left, while it keeps the next caller waiting.
 *
 * CRI-O finishes a creation whose caller is gone and keeps it for the next request. A request that comes before it is finished waits,
 * and goes on waiting when it is, until its own deadline (getResourceOrWait in its server/utils.go; seen with 1.36.3): a kubelet's is
 * minutes away, Holdfast's a quarter of an hour, and longer than CRI-O keeps the thing. So where Holdfast asks for what one before it had
 * begun, or for what it has given up, it would be the one that is kept waiting. Another request meanwhile gets the thing at once if it is
 * there, and changes nothing if it is not, whoever makes it.
 */
import type { Clock } from '../clock.js';
import { readStringField } from '../cri/requests.js';
import { siblingPath } from './own-calls.js';
import type { Upstream, UpstreamAnswer, UpstreamCallOptions } from './upstream.js';

/** How long a creation may take before it is asked after, and between two times, in ms. */
const pauseMs = 5_000;
/** How long such a request waits: an answer that is there comes at once. */
const askMs = 1_000;

const runtimeNameField = 2;

export class StalledCreations {
  readonly #upstream: Upstream;
  readonly #clock: Clock;
  readonly #longestMs: number;
  /** Until then there may be something under way at the runtime that nobody here waits for. */
  #settledMs: number;

  /** @param longestMs The longest that a creation may take. */
  constructor(upstream: Upstream, clock: Clock, longestMs: number) {
    this.#upstream = upstream;
    this.#clock = clock;
    this.#longestMs = longestMs;
    this.#settledMs = clock.now() + longestMs;
  }

  /** As Upstream.unary, for a creation. */
  async unary(path: string, bytes: Buffer, options: UpstreamCallOptions): Promise<UpstreamAnswer> {
    const leave = () => {
      this.#settledMs = this.#clock.now() + this.#longestMs;
    };
    options.signal?.addEventListener('abort', leave);
    try {
      return await this.#ask(path, bytes, options);
    } finally {
      options.signal?.removeEventListener('abort', leave);
    }
  }

  async #ask(path: string, bytes: Buffer, options: UpstreamCallOptions): Promise<UpstreamAnswer> {
    if (this.#clock.now() > this.#settledMs) return this.#upstream.unary(path, bytes, options);
    const over = new AbortController();
    const signal = options.signal === undefined ? over.signal : AbortSignal.any([options.signal, over.signal]);
    const both = { ...options, signal };
    try {
      return await Promise.race([this.#upstream.unary(path, bytes, both), this.#fetch(path, bytes, both)]);
    } finally {
      over.abort();
    }
  }

  /** Settles only where it is got. */
  async #fetch(path: string, bytes: Buffer, options: { readonly signal: AbortSignal }): Promise<UpstreamAnswer> {
    for (;;) {
      await this.#pause(options.signal);
      try {
        const version = await this.#upstream.unary(siblingPath(path, 'Version'), Buffer.alloc(0), {
          timeoutMs: askMs,
          signal: options.signal,
        });
        if (readStringField(version.message, runtimeNameField) !== 'cri-o') return new Promise(() => {});
        return await this.#upstream.unary(path, bytes, { ...options, timeoutMs: askMs });
      } catch {
        // It is not there yet, or the call that waits will tell what is wrong.
      }
    }
  }

  /** Never ends where the signal fires first. */
  #pause(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return;
      const cancel = this.#clock.after(pauseMs, () => {
        signal.removeEventListener('abort', cancel);
        resolve();
      });
      signal.addEventListener('abort', cancel);
    });
  }
}
