/**
 * Image pulls of a node, one at a time, as with `serializeImagePulls` (kubernetes 1.26 pkg/kubelet/images/puller.go). They take
 * their time; no call is made for them.
 */
import type { Clock } from '../../clock.js';
import { sleep } from '../sleep.js';

export class ImagePulls {
  readonly #clock: Clock;
  readonly #eachMs: number;
  readonly #signal: AbortSignal;
  #last: Promise<void> = Promise.resolve();

  /** @param signal Ends them all. */
  constructor(clock: Clock, eachMs: number, signal: AbortSignal) {
    this.#clock = clock;
    this.#eachMs = eachMs;
    this.#signal = signal;
  }

  /** Resolves when those before it and then this one are done, or the signal has fired. */
  pull(): Promise<void> {
    this.#last = this.#last.then(() => sleep(this.#clock, this.#eachMs, this.#signal));
    return this.#last;
  }
}
