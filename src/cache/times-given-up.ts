/** How often pod sandboxes were given up that have not been made since. Knows families and counts. */
import { LRUCache } from 'lru-cache';
import type { Fingerprint } from './fingerprint.js';

type Family = Pick<Fingerprint, 'family'>;

export class TimesGivenUp {
  /** By identity without the attempt. */
  readonly #times: LRUCache<string, number>;

  constructor(maxEntries: number) {
    this.#times = new LRUCache({ max: maxEntries });
  }

  of({ family }: Family): number {
    return this.#times.peek(family) ?? 0;
  }

  /** @param times With this one. */
  note({ family }: Family, times: number): void {
    this.#times.set(family, times);
  }

  /** It has been made, or is to be tried as if for the first time. */
  forget({ family }: Family): void {
    this.#times.delete(family);
  }
}
