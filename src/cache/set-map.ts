/** Sets by key. A key whose set is empty is not kept. */
export class SetMap<Value> {
  readonly #sets = new Map<string, Set<Value>>();

  /** How many keys there are. */
  get size(): number {
    return this.#sets.size;
  }

  get(key: string): ReadonlySet<Value> | undefined {
    return this.#sets.get(key);
  }

  /** Without effect where it is there already. */
  add(key: string, value: Value): void {
    const set = this.#sets.get(key);
    if (set === undefined) this.#sets.set(key, new Set([value]));
    else set.add(value);
  }

  /** Without effect where it is not there. */
  delete(key: string, value: Value): void {
    const set = this.#sets.get(key);
    if (set?.delete(value) && set.size === 0) this.#sets.delete(key);
  }

  [Symbol.iterator](): Iterator<[string, ReadonlySet<Value>]> {
    return this.#sets[Symbol.iterator]();
  }
}
