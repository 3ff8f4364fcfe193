/** Finds starts: by container, by an id or a prefix of it, by pod sandbox. One of a container at most. Knows nothing of what they do. */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import { onlyMatch } from './id-prefix.js';
import { SetMap } from './set-map.js';
import type { Start } from './start.js';

export interface StartIndexOptions<Origin, Answer> {
  readonly replayTtlMs: number;
  readonly maxEntries: number;
  /** One that was kept is kept no more: it is too old, or has made room, or was let go of. */
  forgotten(start: Start<Origin, Answer>): void;
}

export class StartIndex<Origin, Answer> {
  readonly #inFlight = new Map<string, Start<Origin, Answer>>();
  /** Went through or failed unclearly, and nobody is known to have been told. */
  readonly #past: LRUCache<string, Start<Origin, Answer>>;
  /** Both of these, by the pod sandbox they are in. */
  readonly #inside = new SetMap<Start<Origin, Answer>>();

  constructor(clock: Clock, { replayTtlMs, maxEntries, forgotten }: StartIndexOptions<Origin, Answer>) {
    this.#past = new LRUCache({
      max: maxEntries,
      ttl: replayTtlMs,
      ttlResolution: 0,
      perf: { now: () => clock.now() },
      dispose: (start) => {
        forgotten(start);
        this.#leave(start);
      },
    });
  }

  inFlight(containerId: string): Start<Origin, Answer> | undefined {
    return this.#inFlight.get(containerId);
  }

  past(containerId: string): Start<Origin, Answer> | undefined {
    return this.#past.get(containerId);
  }

  /** What a start of this container would find. */
  find(containerId: string): Start<Origin, Answer> | undefined {
    return this.#inFlight.get(containerId) ?? this.#past.peek(containerId);
  }

  allInFlight(): Iterable<Start<Origin, Answer>> {
    return this.#inFlight.values();
  }

  /** Those in flight first. What is too old is let go of before. */
  *all(): Iterable<Start<Origin, Answer>> {
    this.#past.purgeStale();
    yield* this.#inFlight.values();
    yield* this.#past.values();
  }

  /** Those of the container, or in the pod sandbox, that an id or a unique prefix of it names. */
  named(kind: 'podSandbox' | 'container', idOrPrefix: string): Iterable<Start<Origin, Answer>> {
    if (kind === 'podSandbox') return this.#inside.get(idOrPrefix) ?? onlyMatch(idOrPrefix, this.#inside) ?? [];
    const start = this.find(idOrPrefix) ?? onlyMatch(idOrPrefix, this.#inFlight, this.#past);
    return start === undefined ? [] : [start];
  }

  /** It takes the place of one that is past. */
  began(start: Start<Origin, Answer>): void {
    this.#past.delete(start.containerId);
    this.#inFlight.set(start.containerId, start);
  }

  /** It is known where its container is. */
  identified(start: Start<Origin, Answer>, podSandboxId: string): void {
    this.#inside.add(podSandboxId, start);
  }

  /** Its call has ended. @param isKept Whether it may be answered again, or is held against creations. */
  landed(start: Start<Origin, Answer>, isKept: boolean): void {
    this.#inFlight.delete(start.containerId);
    if (isKept) this.#past.set(start.containerId, start);
    else this.#leave(start);
  }

  /** One that is past is kept no more. @returns Whether it was until now. */
  letGo(start: Start<Origin, Answer>): boolean {
    if (this.#past.peek(start.containerId) !== start) return false;
    return this.#past.delete(start.containerId);
  }

  /** It is known no more, wherever it is. */
  remove(start: Start<Origin, Answer>): void {
    if (this.#inFlight.get(start.containerId) === start) this.#inFlight.delete(start.containerId);
    this.letGo(start);
    this.#leave(start);
  }

  #leave(start: Start<Origin, Answer>): void {
    if (start.identity !== undefined) this.#inside.delete(start.identity.podSandboxId, start);
  }
}
