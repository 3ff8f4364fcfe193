/** What keeps failing is tried less often: a broken CNI plugin or disk is not helped by being asked again and again. Knows no runtime. */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import { type Fingerprint, hasDrifted } from './fingerprint.js';

/** Failures in a row before there is a pause: one or two may be bad luck, and cost the pod nothing more. */
const freeFailures = 3;

/** Least time between two tries, in ms: the first, and the longest. Each is twice as long as the one before. */
const pauseMs = { first: 2_000, longest: 30_000 } as const;

/**
 * What a caller waits of that at most, in ms. A pod's worker does one thing at a time: while a container that cannot be made is
 * paused, the pod's other containers wait, and so does its end. A pod sandbox has nothing beside it, and its failures cost CNI
 * work.
 */
const longestWaitMs = { podSandbox: Number.POSITIVE_INFINITY, container: 1_000 } as const;

/** What did not fail again for this long starts anew, in ms. A kubelet tries every 10 to 15 s. */
const memoryMs = 10 * 60_000;

interface Failures {
  /** Of the request that failed. Another one is another try, not one more. */
  readonly digest: string;
  readonly count: number;
  readonly lastMs: number;
}

export class FailureBackoff {
  readonly #clock: Clock;
  /** By identity without the attempt: where a failure leaves something visible, the kubelet's next try has the next attempt. */
  readonly #failures: LRUCache<string, Failures>;

  constructor(clock: Clock, maxEntries: number) {
    this.#clock = clock;
    this.#failures = new LRUCache({
      max: maxEntries,
      ttl: memoryMs,
      ttlResolution: 0,
      perf: { now: () => clock.now() },
    });
  }

  /** @returns How often this very request has failed in a row, and how long its caller is to be held, in ms. */
  of(fingerprint: Fingerprint): { readonly failures: number; readonly pauseMs: number } {
    const found = this.#failures.get(fingerprint.family);
    if (found === undefined || hasDrifted(found, fingerprint)) return { failures: 0, pauseMs: 0 };
    const { count, lastMs } = found;
    if (count < freeFailures) return { failures: count, pauseMs: 0 };
    const betweenMs = Math.min(pauseMs.longest, pauseMs.first * 2 ** (count - freeFailures));
    const leftMs = Math.max(0, lastMs + betweenMs - this.#clock.now());
    return { failures: count, pauseMs: Math.min(leftMs, longestWaitMs[fingerprint.kind]) };
  }

  /** This very request has failed once more; another one of its family that failed before is forgotten. */
  failed(fingerprint: Fingerprint): void {
    const { family, digest } = fingerprint;
    this.#failures.set(family, { digest, count: this.of(fingerprint).failures + 1, lastMs: this.#clock.now() });
  }

  succeeded({ family }: Fingerprint): void {
    this.#failures.delete(family);
  }
}
