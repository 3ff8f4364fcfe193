/**
 * Connects to the runtime's socket. While the runtime is not there it is looked for, once for all who wait. It knows nothing of
 * what is said over a connection.
 */
import type { Clock } from '../../clock.js';
import { Port, type PortEvents } from './port.js';

/** What is known of the runtime's socket: nothing before the first attempt. */
export interface PresenceEvents {
  /** Somebody accepts connections; after an absence or for the first time. */
  appeared(): void;
  /** @param cause Why the first attempt that failed did. */
  vanished(cause: NodeJS.ErrnoException | undefined): void;
}

/** Pauses between attempts while the runtime is not there, in ms: it is found within a second of its return, with room to spare. */
const retryMs = { first: 100, longest: 500 } as const;

interface Dial {
  readonly events: PortEvents;
  readonly connected: (port: Port) => void;
  attempt: Port | undefined;
}

export class Dialer {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #presence: PresenceEvents | undefined;
  /** Those not connected yet, in the order they asked. */
  readonly #dials = new Set<Dial>();
  #isPresent: boolean | undefined;
  #open = 0;
  #pauseMs: number = retryMs.first;
  /** While a look is due. */
  #cancelRetry: (() => void) | undefined;

  /** @param path Absolute path of the runtime's unix socket. */
  constructor(path: string, clock: Clock, presence?: PresenceEvents) {
    this.#path = path;
    this.#clock = clock;
    this.#presence = presence;
  }

  /** False once an attempt has failed and none has succeeded since. */
  get isPresent(): boolean {
    return this.#isPresent !== false;
  }

  /** Connections that were made and are not closed. */
  get open(): number {
    return this.#open;
  }

  /**
   * Connects, as soon as that is possible.
   *
   * @param events Of the connection, from `connected` on.
   * @returns Gives it up; harmless once connected.
   */
  dial(events: PortEvents, connected: (port: Port) => void): () => void {
    const dial: Dial = { events, connected, attempt: undefined };
    this.#dials.add(dial);
    this.#attempt(dial);
    return () => {
      if (!this.#dials.delete(dial)) return;
      dial.attempt?.destroy();
      if (this.#dials.size === 0) this.#stopRetrying();
      // It may have been the one that looks for the runtime.
      else if (!this.isPresent) this.#retryLater();
    };
  }

  close(): void {
    this.#stopRetrying();
    for (const { attempt } of this.#dials) attempt?.destroy();
    this.#dials.clear();
  }

  #attempt(dial: Dial): void {
    const port = Port.connect(
      this.#path,
      {
        received: (bytes) => dial.events.received(bytes),
        drained: () => dial.events.drained(),
        ended: () => dial.events.ended(),
        closed: (error) => {
          if (dial.attempt === port) {
            this.#failed(dial, error);
            return;
          }
          this.#open -= 1;
          dial.events.closed(error);
        },
      },
      () => {
        dial.attempt = undefined;
        this.#open += 1;
        this.#dials.delete(dial);
        dial.connected(port);
        this.#succeeded();
      },
    );
    dial.attempt = port;
  }

  #succeeded(): void {
    this.#pauseMs = retryMs.first;
    this.#stopRetrying();
    if (this.#isPresent === true) return;
    this.#isPresent = true;
    this.#presence?.appeared();
    for (const dial of this.#dials) if (dial.attempt === undefined) this.#attempt(dial);
  }

  #failed(dial: Dial, error: NodeJS.ErrnoException | undefined): void {
    dial.attempt = undefined;
    if (!this.#dials.has(dial)) return;
    if (this.isPresent) {
      this.#isPresent = false;
      this.#presence?.vanished(error);
    }
    this.#retryLater();
  }

  #retryLater(): void {
    // Who was told that the runtime is not there may have given up over it.
    if (this.#cancelRetry !== undefined || this.#dials.size === 0) return;
    this.#cancelRetry = this.#clock.after(this.#pauseMs, () => {
      this.#cancelRetry = undefined;
      this.#pauseMs = Math.min(retryMs.longest, this.#pauseMs * 2);
      const [longest] = this.#dials;
      if (longest !== undefined && longest.attempt === undefined) this.#attempt(longest);
    });
  }

  #stopRetrying(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
  }
}
