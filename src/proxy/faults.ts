/**
 * Faults of Holdfast itself: what is thrown where nothing should be, while a call is in hand. They are counted and said in the log
 * here, and the call goes to the runtime as it came wherever that can be (call-path.ts, creation-calls.ts, hiding.ts, events.ts).
 * Knows nothing of what is done about one.
 */
import { LRUCache } from 'lru-cache';
import type { Logger } from 'pino';
import type { Metrics } from '../admin/metrics.js';
import type { Clock } from '../clock.js';

/** The same stack is said once in so long, in ms. */
const saidAgainMs = 60_000;
/** Stacks that are told apart; each is some KiB. */
const maxStacks = 100;

interface Said {
  readonly sinceMs: number;
  /** Faults since, which were not said. */
  unsaid: number;
}

export class Faults {
  readonly #metrics: Pick<Metrics, 'faults'>;
  readonly #log: Logger;
  readonly #clock: Clock;
  /** One fault may be met by several calls, and more than once by one. */
  readonly #noted = new WeakSet<object>();
  readonly #said = new LRUCache<string, Said>({ max: maxStacks });

  constructor(metrics: Pick<Metrics, 'faults'>, log: Logger, clock: Clock) {
    this.#metrics = metrics;
    this.#log = log;
    this.#clock = clock;
  }

  /**
   * Counts a fault and says it, each once.
   *
   * @param method Of the call in hand: a name of the CRI, `other` for anything else.
   */
  note(method: string, error: unknown): void {
    if (typeof error === 'object' && error !== null) {
      if (this.#noted.has(error)) return;
      this.#noted.add(error);
    }
    this.#metrics.faults.inc({ method });
    const stack = error instanceof Error ? String(error.stack) : String(error);
    const nowMs = this.#clock.now();
    const said = this.#said.get(stack);
    if (said !== undefined && nowMs - said.sinceMs < saidAgainMs) {
      said.unsaid += 1;
      return;
    }
    this.#said.set(stack, { sinceMs: nowMs, unsaid: 0 });
    this.#log.error({ method, stack, ...(said && { unsaid: said.unsaid }) }, 'fault inside Holdfast');
  }

  /** @returns What `run` does; where it throws, which is noted, `otherwise`. */
  guard<T>(method: string, run: () => T, otherwise: T): T {
    try {
      return run();
    } catch (error) {
      this.note(method, error);
      return otherwise;
    }
  }
}
