/** Finds creations: by what a request asks for, by id or a prefix of it, by pod sandbox, by what would be in their way. */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import type { Creation } from './creation.js';
import type { Fingerprint } from './fingerprint.js';
import { onlyMatch } from './id-prefix.js';
import { SetMap } from './set-map.js';

export interface CreationIndexOptions<Origin, Answer> {
  readonly replayTtlMs: number;
  readonly maxEntries: number;
  /** What can be replayed has become too old, or too many. */
  evicted(creation: Creation<Origin, Answer>): void;
}

export class CreationIndex<Origin, Answer> {
  /** By family: what is queued, running, or made and nobody's. One of each family at most. */
  readonly #current = new Map<string, Creation<Origin, Answer>>();
  /** By family: what is to be removed. */
  readonly #doomed = new SetMap<Creation<Origin, Answer>>();
  /** By key: what somebody has. */
  readonly #delivered = new Map<string, Creation<Origin, Answer>>();
  /** What may be evicted: pod sandboxes that are shown, and all that is delivered. */
  readonly #replayable: LRUCache<Creation<Origin, Answer>, true>;
  readonly #byId = new Map<string, Creation<Origin, Answer>>();
  readonly #byPodSandbox = new SetMap<Creation<Origin, Answer>>();

  constructor(clock: Clock, options: CreationIndexOptions<Origin, Answer>) {
    this.#replayable = new LRUCache({
      max: options.maxEntries,
      ttl: options.replayTtlMs,
      ttlResolution: 0,
      perf: { now: () => clock.now() },
      disposeAfter: (_, creation, reason) => {
        if (reason !== 'delete') options.evicted(creation);
      },
    });
  }

  get sizes(): { live: number; answered: number } {
    let live = 0;
    for (const { state } of this.#current.values()) if (state !== 'shown') live += 1;
    return { live, answered: this.#replayable.size };
  }

  /** Every creation there is. */
  *all(): Iterable<Creation<Origin, Answer>> {
    yield* this.#current.values();
    for (const [, doomed] of this.#doomed) yield* doomed;
    yield* new Set(this.#delivered.values());
  }

  /** What a request asks for: what was delivered for its very key, or what is nobody's yet, whatever its attempt. */
  find(fingerprint: Fingerprint): Creation<Origin, Answer> | undefined {
    this.#evictIfStale(this.#delivered.get(fingerprint.key));
    this.#evictIfStale(this.#current.get(fingerprint.family));
    return this.#delivered.get(fingerprint.key) ?? this.#current.get(fingerprint.family);
  }

  /** What has to be gone before another one of this family is made. */
  doomed(fingerprint: Fingerprint): Iterable<Creation<Origin, Answer>> {
    return this.#doomed.get(fingerprint.family) ?? [];
  }

  /** What an id or a unique prefix of it names. */
  named(kind: 'podSandbox' | 'container', id: string): Creation<Origin, Answer> | undefined {
    const exact = this.#byId.get(id);
    if (exact !== undefined) return exact.kind === kind ? exact : undefined;
    return onlyMatch(id, this.#idsOf(kind));
  }

  /** Containers of the pod sandbox that an id or a unique prefix of it names. */
  inside(podSandboxId: string): readonly Creation<Origin, Answer>[] {
    return [...(this.#byPodSandbox.get(podSandboxId) ?? onlyMatch(podSandboxId, this.#byPodSandbox) ?? [])];
  }

  /** A creation that begins, or a queued one that has become another request's. */
  add(creation: Creation<Origin, Answer>): void {
    creation.keys = [creation.fingerprint.key];
    this.#current.set(creation.fingerprint.family, creation);
    if (creation.kind === 'container') this.#byPodSandbox.add(creation.podSandboxId, creation);
  }

  /** A queued creation is about to become another request's. */
  withdraw(creation: Creation<Origin, Answer>): void {
    this.#byPodSandbox.delete(creation.podSandboxId, creation);
  }

  /** It is given to a request with this key. */
  answerTo(creation: Creation<Origin, Answer>, key: string): void {
    if (!creation.keys.includes(key)) creation.keys = [...creation.keys, key];
    if (creation.state === 'delivered') this.#delivered.set(key, creation);
  }

  /** The runtime has made it. @returns What had this id before. */
  made(creation: Creation<Origin, Answer>, id: string): Creation<Origin, Answer> | undefined {
    const before = this.#byId.get(id);
    this.#byId.set(id, creation);
    return before;
  }

  shown(creation: Creation<Origin, Answer>): void {
    this.#replayable.set(creation, true);
  }

  delivered(creation: Creation<Origin, Answer>): void {
    this.#leaveCurrent(creation);
    for (const key of creation.keys) this.#delivered.set(key, creation);
    this.#replayable.set(creation, true);
  }

  /** No request finds it any more, but it is in the way of its family until it is gone. */
  doom(creation: Creation<Origin, Answer>): void {
    this.#leaveCurrent(creation);
    this.#replayable.delete(creation);
    this.#doomed.add(creation.fingerprint.family, creation);
  }

  remove(creation: Creation<Origin, Answer>): void {
    this.#leaveCurrent(creation);
    this.#doomed.delete(creation.fingerprint.family, creation);
    for (const key of creation.keys) {
      if (this.#delivered.get(key) === creation) this.#delivered.delete(key);
    }
    this.#replayable.delete(creation);
    this.#byPodSandbox.delete(creation.podSandboxId, creation);
    const { made } = creation;
    if (made !== undefined && this.#byId.get(made.id) === creation) this.#byId.delete(made.id);
  }

  *#idsOf(kind: Creation<Origin, Answer>['kind']): Iterable<[string, Creation<Origin, Answer>]> {
    for (const entry of this.#byId) if (entry[1].kind === kind) yield entry;
  }

  #evictIfStale(creation: Creation<Origin, Answer> | undefined): void {
    if (creation !== undefined) this.#replayable.get(creation);
  }

  #leaveCurrent(creation: Creation<Origin, Answer>): void {
    const { family } = creation.fingerprint;
    if (this.#current.get(family) === creation) this.#current.delete(family);
  }
}
