/**
 * Spreads work over turns of the event loop: what else comes in, lists above all, is looked at in between. A storm of pods comes in
 * one read of a socket, and the runtime's answers to it may.
 */

/** Either end of a creation takes about 1 ms of CPU time, several while its code is not compiled yet. */
const perTurn = 2;

export class Turns {
  readonly #waiting: (() => void)[] = [];
  #begun = 0;
  #turnAsked = false;

  /** Resolves when one more may begin: first come, first served, the first of a turn at once. */
  next(): Promise<void> {
    this.#askTurn();
    if (this.#begun < perTurn) {
      this.#begun += 1;
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #askTurn(): void {
    if (this.#turnAsked) return;
    this.#turnAsked = true;
    setImmediate(() => {
      this.#turnAsked = false;
      const due = this.#waiting.splice(0, perTurn);
      this.#begun = due.length;
      if (due.length > 0) this.#askTurn();
      for (const resolve of due) resolve();
    });
  }
}
