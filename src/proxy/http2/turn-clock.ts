/**
 * A clock that stands still while what was read from a socket is handled: what came in one read came at one time, and to read a clock for
 * each frame takes a good part of what the frame does. Knows nothing of what it is read for.
 */
import type { Clock } from '../../clock.js';

export class TurnClock implements Pick<Clock, 'now'> {
  readonly #clock: Clock;
  #isInTurn = false;
  /** When that was first asked for in this turn; undefined: nobody has. */
  #turnMs: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  turnBegins(): void {
    this.#isInTurn = true;
    this.#turnMs = undefined;
  }

  turnEnds(): void {
    this.#isInTurn = false;
  }

  now(): number {
    if (!this.#isInTurn) return this.#clock.now();
    this.#turnMs ??= this.#clock.now();
    return this.#turnMs;
  }
}
