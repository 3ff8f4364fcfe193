/** The level of the log while the program runs: it goes back by itself, so that nobody leaves a node at `debug`. */
import type { Clock } from '../clock.js';

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;

export type LogLevelName = (typeof logLevels)[number];

export interface LogLevelState {
  readonly level: string;
  /** What it goes back to. */
  readonly configured: string;
  /** In how many ms; null: it is as configured. */
  readonly backInMs: number | null;
}

export class LogLevel {
  readonly #log: { level: string };
  readonly #clock: Clock;
  readonly #configured: string;
  #backMs: number | undefined;
  #cancelTimer = (): void => {};

  constructor(log: { level: string }, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
    this.#configured = log.level;
  }

  get state(): LogLevelState {
    const backInMs = this.#backMs === undefined ? null : Math.round(this.#backMs - this.#clock.now());
    return { level: this.#log.level, configured: this.#configured, backInMs };
  }

  /** @param forMs How long it stays. */
  set(level: LogLevelName, forMs: number): void {
    this.reset();
    if (level === this.#configured) return;
    this.#log.level = level;
    this.#backMs = this.#clock.now() + forMs;
    this.#cancelTimer = this.#clock.after(forMs, () => this.reset());
  }

  /** As configured. */
  reset(): void {
    this.#cancelTimer();
    this.#backMs = undefined;
    this.#log.level = this.#configured;
  }
}
