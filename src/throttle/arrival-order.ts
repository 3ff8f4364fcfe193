/** Work in the order it arrived in, whenever it is put in here. Knows nothing of work but its number. */

export interface Arrived<T> {
  /** The lower the earlier. No two are the same. */
  readonly number: number;
  readonly item: T;
}

export class ArrivalOrder<T> {
  readonly #sorted: Arrived<T>[] = [];

  get size(): number {
    return this.#sorted.length;
  }

  get first(): Arrived<T> | undefined {
    return this.#sorted[0];
  }

  /** First to last. */
  [Symbol.iterator](): Iterator<Arrived<T>> {
    return this.#sorted[Symbol.iterator]();
  }

  add(arrived: Arrived<T>): void {
    this.#sorted.splice(this.#placeOf(arrived.number), 0, arrived);
  }

  /** Without effect where it is not in here. */
  delete(number: number): void {
    const place = this.#placeOf(number);
    if (this.#sorted[place]?.number === number) this.#sorted.splice(place, 1);
  }

  /** Where the number is or would be. */
  #placeOf(number: number): number {
    // What is put in has mostly just arrived.
    if ((this.#sorted.at(-1)?.number ?? -1) < number) return this.#sorted.length;
    let [from, to] = [0, this.#sorted.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#sorted[middle]?.number ?? 0) < number) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
