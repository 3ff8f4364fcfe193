/**
 * Finds out whose container is to be started where the caller does not know, before the start goes upstream: second-copy-guard.ts says
 * why. Knows nothing of queues and answers.
 */
import type { Clock } from '../clock.js';
import { DroppedError } from './detached-call.js';
import type { SecondCopyGuard } from './second-copy-guard.js';
import type { Start } from './start.js';
import type { StartIdentity, StartRuntime } from './start-runtime.js';

/**
 * How long a start is kept back until the runtime has said whose container it is, in ms: as long as a kubelet waits for a status.
 * Nobody else waits for that, and a runtime that is frozen for a minute loses no start by it.
 */
const identifyTimeoutMs = 120_000;

export class StartIdentification<Origin, Answer> {
  readonly #runtime: Pick<StartRuntime<Origin, Answer>, 'identify'>;
  readonly #guard: Pick<SecondCopyGuard, 'unidentified'>;
  readonly #clock: Clock;

  constructor(
    runtime: Pick<StartRuntime<Origin, Answer>, 'identify'>,
    guard: Pick<SecondCopyGuard, 'unidentified'>,
    clock: Clock,
  ) {
    this.#runtime = runtime;
    this.#guard = guard;
    this.#clock = clock;
  }

  /**
   * Ends a start that may not go, or of which it cannot be told whose it is. Never rejects.
   *
   * @param go Told where the start may go, with whose container it is; undefined: nobody can say. It is to have the start watched at
   *   once: nothing is asked of the guard between its word and that.
   */
  async identify(start: Start<Origin, Answer>, go: (identity: StartIdentity | undefined) => void): Promise<void> {
    try {
      await this.#identify(start, go);
    } catch (error) {
      start.call.fail(error);
    }
  }

  async #identify(start: Start<Origin, Answer>, go: (identity: StartIdentity | undefined) => void): Promise<void> {
    const settle = this.#guard.unidentified();
    let identity: StartIdentity | undefined;
    let failure: unknown;
    try {
      identity = await this.#ask(start);
    } catch (error) {
      failure = error;
    }
    const mayGo = settle(identity);
    if (failure !== undefined) start.call.fail(failure);
    else if (!mayGo) start.call.fail(new DroppedError('a further attempt of the container was asked for meanwhile'));
    else if (start.call.inFlight) go(identity);
  }

  /** Ends with the start, in bounded time. */
  async #ask({ containerId, origin, call }: Start<Origin, Answer>): Promise<StartIdentity | undefined> {
    const abort = new AbortController();
    const aborted = new Promise<never>((_, reject) => {
      abort.signal.addEventListener('abort', () => reject(abort.signal.reason));
    });
    const tooLate = new DroppedError(`the runtime did not say within ${identifyTimeoutMs} ms whose container it is`);
    const cancelTimer = this.#clock.after(identifyTimeoutMs, () => abort.abort(tooLate));
    void call.ended.then(() => abort.abort());
    try {
      return await Promise.race([this.#runtime.identify(containerId, origin, abort.signal), aborted]);
    } finally {
      cancelTimer();
    }
  }
}
