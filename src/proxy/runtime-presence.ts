/** Says in the log whether the runtime is there: at once, every half minute while it is not, and when it is again. */
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import type { PresenceEvents } from './http2/dialer.js';

const remindEveryMs = 30_000;

export class RuntimePresence implements PresenceEvents {
  readonly #runtime: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  #absentSinceMs: number | undefined;
  #stopReminding = (): void => {};

  /** @param runtime Path of its socket. */
  constructor(runtime: string, clock: Clock, log: Logger) {
    this.#runtime = runtime;
    this.#clock = clock;
    this.#log = log;
  }

  appeared(): void {
    const absentMs = this.#absentMs;
    this.#absentSinceMs = undefined;
    this.#stopReminding();
    this.#log.info({ runtime: this.#runtime, absentMs }, 'the runtime is there');
  }

  vanished(cause: NodeJS.ErrnoException | undefined): void {
    this.#absentSinceMs = this.#clock.now();
    this.#log.warn({ runtime: this.#runtime, error: cause?.code }, 'the runtime is not there: calls wait for it');
    this.#remindLater();
  }

  /** How long it has not been there, in ms; undefined: it is, as far as is known. */
  get absentForMs(): number | undefined {
    return this.#absentSinceMs === undefined ? undefined : this.#absentMs;
  }

  close(): void {
    this.#stopReminding();
  }

  get #absentMs(): number {
    return this.#absentSinceMs === undefined ? 0 : Math.round(this.#clock.now() - this.#absentSinceMs);
  }

  #remindLater(): void {
    this.#stopReminding = this.#clock.after(remindEveryMs, () => {
      this.#log.warn(
        { runtime: this.#runtime, absentMs: this.#absentMs },
        'the runtime is still not there: calls wait for it',
      );
      this.#remindLater();
    });
  }
}
