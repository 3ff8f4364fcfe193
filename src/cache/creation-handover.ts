/**
 * Hands what is made to one waiter: waits for it, or looks whether it is as it was made, gives it the resources that are asked for, and
 * is told whether the waiter got it. Knows waiters and results; not how either came about.
 */
import type { Clock } from '../clock.js';
import type { Creation, CreationRequest } from './creation.js';
import type { CreationLives } from './creation-lives.js';
import type { CreationProgress } from './creation-progress.js';
import type { Condition, CreationRuntime, Made } from './creation-runtime.js';
import { untilAborted, WaiterLeftError } from './detached-call.js';
import { resourcesAskedFor } from './fingerprint.js';

/** A result for one waiter. */
export interface Grant<Origin, Answer> {
  readonly role: 'started' | 'joined' | 'replayed';
  readonly creation: Creation<Origin, Answer>;
  readonly made: Made<Answer>;
  /** Must be called once: whether the waiter is known to have got it. Until then the resource is not reaped. */
  settle(delivered: boolean): void;
}

type Runtime<Origin, Answer> = Pick<CreationRuntime<Origin, Answer>, 'conditionOf' | 'updateResources'>;

/** Looks in a row that could not tell how something is, after which the runtime is left to judge the next request. */
const failedChecksAtMost = 3;

/** Times in a row that a container cannot be given the resources that are asked for, after which one is made that has them. */
const failedUpdatesAtMost = 3;

export class CreationHandover<Origin, Answer> {
  readonly #runtime: Runtime<Origin, Answer>;
  readonly #lives: CreationLives<Origin, Answer>;
  readonly #progress: CreationProgress;
  readonly #clock: Clock;

  constructor(
    runtime: Runtime<Origin, Answer>,
    lives: CreationLives<Origin, Answer>,
    progress: CreationProgress,
    clock: Clock,
  ) {
    this.#runtime = runtime;
    this.#lives = lives;
    this.#progress = progress;
    this.#clock = clock;
  }

  /**
   * Waits for what is queued or running.
   *
   * @throws {WaiterLeftError} `signal` fired first; `progress` says what it waited for.
   * @throws What the creation failed with, or the runtime where it could not give it the resources.
   */
  async wait(
    creation: Creation<Origin, Answer>,
    role: 'started' | 'joined',
    request: CreationRequest<Origin>,
    signal: AbortSignal,
  ): Promise<Grant<Origin, Answer>> {
    const { call } = creation;
    if (role === 'joined') this.#lives.step('waiter joined', creation, { waiters: call.waiters + 1 });
    const made = await this.#orProgress(creation, call.join(signal));
    return this.#grant(creation, role, request, made, signal);
  }

  /**
   * Gives what is made once more, after a look.
   *
   * @returns undefined where it is not what was made any more and the request has to begin anew.
   * @throws {WaiterLeftError} As {@link wait}.
   * @throws Where the runtime cannot tell how it is, or could not give it the resources.
   */
  async replay(
    creation: Creation<Origin, Answer>,
    request: CreationRequest<Origin>,
    signal: AbortSignal,
  ): Promise<Grant<Origin, Answer> | undefined> {
    const { made, subject, call } = creation;
    if (made === undefined || subject === undefined) return undefined;
    creation.claim();
    let condition: Condition;
    try {
      const looked = untilAborted(this.#runtime.conditionOf(subject, signal), signal);
      condition = await this.#orProgress(creation, looked);
    } catch (error) {
      if (!(error instanceof WaiterLeftError)) this.#checkFailed(creation, error);
      this.#lives.release(creation);
      throw error;
    }
    creation.failedChecks = 0;
    if (condition === 'as made' && creation.state !== 'gone' && creation.state !== 'doomed') {
      call.lastAskedMs = this.#clock.now();
      this.#lives.index.answerTo(creation, request.fingerprint.key);
      this.#lives.step('replayed', creation);
      this.#lives.on(creation, 'answered with waiters');
      return this.#grant(creation, 'replayed', request, made, signal);
    }
    if (condition !== 'as made') {
      this.#lives.step('changed', creation, { condition });
      this.#lives.on(creation, `found ${condition}`);
    }
    this.#lives.release(creation);
    return undefined;
  }

  #checkFailed(creation: Creation<Origin, Answer>, error: unknown): void {
    creation.failedChecks += 1;
    this.#lives.step('cannot be told', creation, { error, times: creation.failedChecks });
    if (creation.failedChecks >= failedChecksAtMost) this.#lives.on(creation, 'cannot be told');
  }

  /** It failed, or took longer than whoever asked could wait. */
  #updateFailed(creation: Creation<Origin, Answer>, error: unknown): void {
    creation.failedUpdates += 1;
    if (creation.failedUpdates < failedUpdatesAtMost) return;
    this.#lives.step('changed', creation, { condition: 'unusable', error });
    this.#lives.on(creation, 'found unusable');
  }

  /** A claimed creation for one waiter. What a kubelet believes to have applied is applied first. */
  async #grant(
    creation: Creation<Origin, Answer>,
    role: Grant<Origin, Answer>['role'],
    { fingerprint, bytes }: CreationRequest<Origin>,
    made: Made<Answer>,
    signal: AbortSignal,
  ): Promise<Grant<Origin, Answer>> {
    let settled = false;
    const settle = (delivered: boolean) => {
      if (settled) return;
      settled = true;
      if (delivered) this.#lives.on(creation, 'delivered');
      this.#lives.release(creation);
    };
    const { subject } = creation;
    const resources = resourcesAskedFor(fingerprint);
    if (subject !== undefined && resources !== '' && resources !== creation.resources) {
      try {
        await this.#orProgress(creation, untilAborted(this.#runtime.updateResources(subject, bytes, signal), signal));
      } catch (error) {
        this.#updateFailed(creation, error);
        settle(false);
        throw error;
      }
      creation.failedUpdates = 0;
      creation.resources = resources;
      this.#lives.step('resources updated', creation);
    }
    return { role, creation, made, settle };
  }

  /** Whoever leaves is told what it waited for. */
  async #orProgress<Result>(creation: Creation<Origin, Answer>, promise: Promise<Result>): Promise<Result> {
    const sinceMs = this.#clock.now();
    try {
      return await promise;
    } catch (error) {
      if (error instanceof WaiterLeftError) throw new WaiterLeftError(this.#progress.of(creation, sinceMs));
      throw error;
    }
  }
}
