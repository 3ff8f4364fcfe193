/** How long work of each sort has taken lately. Unlike `UsualTime` it follows what the node is like now, load included. */
import { LRUCache } from 'lru-cache';

/** How many of a sort are looked back at. One of them may have been quick by chance, so the longest counts. */
const kept = 16;

/** The runtime handler is part of a sort, and it is for the client to say. */
const maxSorts = 100;

export class RecentTimes {
  readonly #tookMs = new LRUCache<string, number[]>({ max: maxSorts });

  /** Work that did what it was to do. */
  succeeded(sort: string, tookMs: number): void {
    const times = this.#tookMs.get(sort) ?? [];
    this.#tookMs.set(sort, [...times, tookMs].slice(-kept));
  }

  /** @returns ms; undefined while nothing is known. */
  longestMs(sort: string): number | undefined {
    const times = this.#tookMs.get(sort);
    return times && Math.max(...times);
  }
}
