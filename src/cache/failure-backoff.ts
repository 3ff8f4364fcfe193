/** What keeps failing is tried less often: a broken CNI plugin or disk is not helped by being asked again and again. Knows no runtime. */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import type { FailuresView } from './creation-view.js';
import { type Fingerprint, hasDrifted, type Identity } from './fingerprint.js';

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

/** How much of what the runtime said is kept, in characters. */
const errorAtMost = 300;

interface Failures {
  readonly identity: Identity;
  /** Of the request that failed. Another one is another try, not one more. */
  readonly digest: string;
  readonly count: number;
  readonly lastMs: number;
  readonly error: string;
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
    const leftMs = Math.max(0, lastMs + betweenMs(count) - this.#clock.now());
    return { failures: count, pauseMs: Math.min(leftMs, longestWaitMs[fingerprint.kind]) };
  }

  /** This very request has failed once more; another one of its family that failed before is forgotten. */
  failed(fingerprint: Fingerprint, error: unknown): void {
    const { family, digest, identity } = fingerprint;
    const count = this.of(fingerprint).failures + 1;
    this.#failures.set(family, { identity, digest, count, lastMs: this.#clock.now(), error: excerpt(error) });
  }

  /** What has failed and not succeeded since. */
  get all(): readonly FailuresView[] {
    return [...this.#failures.values()].map(viewOf);
  }

  /** The same of this one, whatever it is asked for with. */
  viewOf({ family }: Fingerprint): FailuresView | undefined {
    const found = this.#failures.peek(family);
    return found && viewOf(found);
  }

  /** @returns Whose failures are forgotten. */
  forget(matches: (identity: Identity) => boolean): readonly Identity[] {
    const found = [...this.#failures].filter(([, { identity }]) => matches(identity));
    for (const [family] of found) this.#failures.delete(family);
    return found.map(([, { identity }]) => identity);
  }

  succeeded({ family }: Fingerprint): void {
    this.#failures.delete(family);
  }
}

/** Least time between two tries after so many failures in a row, in ms. */
function betweenMs(failures: number): number {
  if (failures < freeFailures) return 0;
  return Math.min(pauseMs.longest, pauseMs.first * 2 ** (failures - freeFailures));
}

function viewOf({ identity, count, lastMs, error }: Failures): FailuresView {
  return { identity, count, lastMs, nextMs: lastMs + betweenMs(count), error };
}

/** A copy: what is cut out of a long text keeps all of it. */
function excerpt(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return Buffer.from(text.slice(0, errorAtMost)).toString();
}
