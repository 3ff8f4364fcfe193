/** What could not be removed and was left to the kubelet: the last few of it, for people. */
import type { GivenUpRemoval } from './creation-view.js';
import type { Identity } from './fingerprint.js';

/** As many as a node that cannot remove anything may show before it is clear. */
const keptAtMost = 100;

export class GivenUpRemovals {
  #all: readonly GivenUpRemoval[] = [];

  /** The one given up first is first. */
  get all(): readonly GivenUpRemoval[] {
    return this.#all;
  }

  add(removal: GivenUpRemoval): void {
    this.#all = [...this.#all, removal].slice(-keptAtMost);
  }

  /** What this id or a prefix of it names has been removed after all. */
  ended(idOrPrefix: string): void {
    this.#all = this.#all.filter(({ id }) => !id.startsWith(idOrPrefix));
  }

  forget(matches: (identity: Identity) => boolean): void {
    this.#all = this.#all.filter(({ identity }) => !matches(identity));
  }
}
