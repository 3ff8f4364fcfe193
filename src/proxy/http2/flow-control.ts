/**
 * The client's connection window (RFC 9113 section 6.9), which runtime and Holdfast both spend while the runtime
 * believes it is alone. Counts only.
 */
import { initialSettings } from './frames.js';

/**
 * `available` is what the client really grants. `debt` is what Holdfast spent of it and has not yet kept from the
 * client's WINDOW_UPDATEs; the runtime believes in `available` + `debt` (less what is held back).
 */
export class ConnectionWindow {
  #available: number = initialSettings.windowSize;
  #debt = 0;

  get available(): number {
    return this.#available;
  }

  get debt(): number {
    return this.#debt;
  }

  /**
   * Whether DATA of the runtime may go now. Without debt the runtime knows the window itself, and a frame that
   * overdraws it is between the runtime and the client.
   */
  admits(length: number): boolean {
    return this.#debt === 0 || length <= this.#available;
  }

  spendForRuntime(length: number): void {
    this.#available -= length;
  }

  spendOwn(length: number): void {
    this.#available -= length;
    this.#debt += length;
  }

  /**
   * The client granted `increment`.
   *
   * @returns What of it the runtime may learn.
   */
  replenish(increment: number): number {
    const kept = Math.min(increment, this.#debt);
    this.#available += increment;
    this.#debt -= kept;
    return increment - kept;
  }
}
