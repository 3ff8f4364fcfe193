/** Finds creations: by fingerprint, by id or a prefix of it, by pod sandbox, by what they would get in the way of. */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import type { Creation } from './creation.js';
import type { Fingerprint } from './fingerprint.js';

/** Ids are 64 hex digits in both runtimes; anything shorter may be a prefix. */
const fullIdLength = 64;

export class CreationIndex<Origin, Answer> {
  /** Queued and running creations, and containers made but not delivered. */
  readonly #live = new Map<string, Creation<Origin, Answer>>();
  /** What can be replayed and may be dropped: pod sandboxes, and containers known to be delivered. */
  readonly #answered: LRUCache<string, Creation<Origin, Answer>>;
  readonly #byId = new Map<string, Creation<Origin, Answer>>();
  /** What has no owner yet, by identity without the attempt; doomed ones until they are gone. */
  readonly #families = new Map<string, Set<Creation<Origin, Answer>>>();

  constructor(clock: Clock, options: { readonly replayTtlMs: number; readonly maxEntries: number }) {
    this.#answered = new LRUCache({
      max: options.maxEntries,
      ttl: options.replayTtlMs,
      ttlResolution: 0,
      perf: { now: () => clock.now() },
      dispose: (creation) => this.#drop(creation),
    });
  }

  get sizes(): { live: number; answered: number } {
    return { live: this.#live.size, answered: this.#answered.size };
  }

  /** Every creation there is, doomed ones included. */
  all(): Set<Creation<Origin, Answer>> {
    const ownerless = [...this.#families.values()].flatMap((members) => [...members]);
    return new Set([...this.#live.values(), ...this.#answered.values(), ...ownerless]);
  }

  /**
   * What a request asks for: the creation with its fingerprint's key, or the highest lower attempt that nobody owns. Of pod
   * sandboxes only a queued lower attempt counts, as its place can be taken.
   */
  find(fingerprint: Fingerprint): Creation<Origin, Answer> | undefined {
    const exact = this.#live.get(fingerprint.key) ?? this.#answered.get(fingerprint.key);
    if (exact !== undefined) return exact;
    let highest: Creation<Origin, Answer> | undefined;
    for (const creation of this.family(fingerprint)) {
      const { attempt } = creation.fingerprint.identity;
      if (creation.doomed || attempt > fingerprint.identity.attempt) continue;
      if (creation.kind === 'podSandbox' && creation.call.phase !== 'queued') continue;
      if (highest === undefined || attempt > highest.fingerprint.identity.attempt) highest = creation;
    }
    return highest;
  }

  /** Creations of the same identity but for the attempt that have no owner yet. */
  family(fingerprint: Fingerprint): Creation<Origin, Answer>[] {
    return [...(this.#families.get(fingerprint.family) ?? [])];
  }

  /** What an id or a unique prefix of it names. */
  named(kind: 'podSandbox' | 'container', id: string): Creation<Origin, Answer> | undefined {
    const exact = this.#byId.get(id);
    if (exact !== undefined || id.length >= fullIdLength) return exact?.kind === kind ? exact : undefined;
    const matches = [...this.#byId].filter(([known, creation]) => creation.kind === kind && isNamedBy(known, id));
    return matches.length === 1 ? matches[0]?.[1] : undefined;
  }

  /** Containers of the pod sandbox that an id or a unique prefix of it names. */
  inside(podSandboxId: string): Creation<Origin, Answer>[] {
    const inside = [...this.all()].filter((creation) => isNamedBy(creation.podSandboxId, podSandboxId));
    return new Set(inside.map((creation) => creation.podSandboxId)).size === 1 ? inside : [];
  }

  /** A creation that begins. */
  add(creation: Creation<Origin, Answer>): void {
    this.answerTo(creation, creation.fingerprint.key);
    this.#joinFamily(creation);
  }

  /** Makes it what a request with this key finds. */
  answerTo(creation: Creation<Origin, Answer>, key: string): void {
    creation.keys.add(key);
    if (this.#answered.peek(creation.fingerprint.key) === creation) this.#answered.set(key, creation);
    else this.#live.set(key, creation);
  }

  /** The runtime has made it. */
  made(creation: Creation<Origin, Answer>, id: string): void {
    this.#byId.set(id, creation);
    if (creation.kind === 'podSandbox') this.#moveToAnswered(creation);
  }

  /** It has got an owner. */
  delivered(creation: Creation<Origin, Answer>): void {
    this.#leaveFamily(creation);
    this.#moveToAnswered(creation);
  }

  /** No request finds it any more, but it is in the way of its family until it is gone. */
  doom(creation: Creation<Origin, Answer>): void {
    this.remove(creation);
    this.#joinFamily(creation);
    if (creation.made !== undefined) this.#byId.set(creation.made.id, creation);
  }

  remove(creation: Creation<Origin, Answer>): void {
    for (const key of creation.keys) {
      if (this.#live.get(key) === creation) this.#live.delete(key);
      if (this.#answered.peek(key, { allowStale: true }) === creation) this.#answered.delete(key);
    }
    creation.keys.clear();
    this.#drop(creation);
  }

  #drop(creation: Creation<Origin, Answer>): void {
    if (creation.made !== undefined && this.#byId.get(creation.made.id) === creation) {
      this.#byId.delete(creation.made.id);
    }
    this.#leaveFamily(creation);
  }

  #moveToAnswered(creation: Creation<Origin, Answer>): void {
    for (const key of creation.keys) {
      if (this.#live.get(key) !== creation) continue;
      this.#live.delete(key);
      this.#answered.set(key, creation);
    }
  }

  #joinFamily(creation: Creation<Origin, Answer>): void {
    const { family } = creation.fingerprint;
    const members = this.#families.get(family);
    if (members === undefined) this.#families.set(family, new Set([creation]));
    else members.add(creation);
  }

  #leaveFamily(creation: Creation<Origin, Answer>): void {
    const { family } = creation.fingerprint;
    const members = this.#families.get(family);
    if (members?.delete(creation) && members.size === 0) this.#families.delete(family);
  }
}

/** Whether a request's id means this resource: both runtimes take unique prefixes. */
function isNamedBy(id: string, idOrPrefix: string): boolean {
  return idOrPrefix !== '' && (idOrPrefix.length >= fullIdLength ? id === idOrPrefix : id.startsWith(idOrPrefix));
}
