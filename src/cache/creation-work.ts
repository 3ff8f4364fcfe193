/**
 * Carries creations out: begins them, gives them a place in the queue once nothing is in their way, makes the upstream call, and takes
 * what comes of it. Knows requests and what they are to be made of; not who is given the result, and not whether a request needs a
 * creation of its own.
 */
import type { Admission } from '../throttle/admission.js';
import { type Asked, Creation, type CreationRequest } from './creation.js';
import type { CreationIndex } from './creation-index.js';
import type { CreationLives } from './creation-lives.js';
import type { CreationRuntime, Made } from './creation-runtime.js';
import { type again, DroppedError, failureStep, GivenUpError } from './detached-call.js';
import type { DetachedCalls, Job } from './detached-calls.js';
import type { FailureBackoff } from './failure-backoff.js';
import { resourcesAskedFor } from './fingerprint.js';
import type { NameReservations } from './name-reservations.js';
import type { Preparation } from './preparation.js';
import { StartedMeanwhileError } from './second-copy-guard.js';
import type { TimesGivenUp } from './times-given-up.js';

export interface CreationWorkParts<Origin, Answer> {
  readonly runtime: Pick<CreationRuntime<Origin, Answer>, 'create'>;
  readonly admission: Pick<Admission, 'queued'>;
  readonly lives: CreationLives<Origin, Answer>;
  readonly calls: DetachedCalls<Made<Answer>>;
  readonly preparation: Preparation<Origin, Answer>;
  readonly reservations: NameReservations<Origin, Answer>;
  readonly failures: FailureBackoff;
  readonly timesGivenUp: TimesGivenUp;
}

export class CreationWork<Origin, Answer> {
  readonly #runtime: Pick<CreationRuntime<Origin, Answer>, 'create'>;
  readonly #admission: Pick<Admission, 'queued'>;
  readonly #lives: CreationLives<Origin, Answer>;
  readonly #index: CreationIndex<Origin, Answer>;
  readonly #calls: DetachedCalls<Made<Answer>>;
  readonly #preparation: Preparation<Origin, Answer>;
  readonly #reservations: NameReservations<Origin, Answer>;
  readonly #failures: FailureBackoff;
  readonly #timesGivenUp: TimesGivenUp;

  constructor(parts: CreationWorkParts<Origin, Answer>) {
    this.#runtime = parts.runtime;
    this.#admission = parts.admission;
    this.#lives = parts.lives;
    this.#index = parts.lives.index;
    this.#calls = parts.calls;
    this.#preparation = parts.preparation;
    this.#reservations = parts.reservations;
    this.#failures = parts.failures;
    this.#timesGivenUp = parts.timesGivenUp;
  }

  /** @param attached Told the creation before anything is done for it. */
  begin(
    { bytes, ...asked }: CreationRequest<Origin>,
    attached: (creation: Creation<Origin, Answer>) => void,
  ): Creation<Origin, Answer> {
    const call = this.#calls.open(bytes, {
      succeeded: (made, waiters) => this.#succeeded(creation, made, waiters),
      failed: (error, waiters) => this.#failed(creation, error, waiters),
      waiterLeft: (waiters) => {
        this.#lives.step('waiter left', creation, { waiters });
        if (waiters === 0) this.#lives.hide(creation);
      },
      faulted: (error) => {
        // First: what is queued would end as if its pod sandbox had ended.
        call.fail(error);
        this.#lives.forgetAfterFault(creation, error);
      },
    });
    const creation: Creation<Origin, Answer> = new Creation(asked, call);
    attached(creation);
    this.#index.add(creation);
    this.#lives.step('queued', creation, { behind: this.#admission.queued });
    void this.queue(creation);
    return creation;
  }

  /** A queued creation is sent as it was last asked for, and waits for what that has to wait for. */
  takeOver(creation: Creation<Origin, Answer>, { bytes, ...asked }: CreationRequest<Origin>): void {
    const before = creation.asked;
    this.#lives.rename(creation, () => {
      this.#index.withdraw(creation);
      creation.asked = asked;
      creation.seenId = undefined;
      this.#index.add(creation);
    });
    this.#calls.replace(creation.call, bytes);
    const { key, digest } = before.fingerprint;
    if (asked.fingerprint.key === key && asked.fingerprint.digest === digest) return;
    const goesInTheSameLine =
      asked.urgency?.importance === before.urgency?.importance && handlerOf(asked) === handlerOf(before);
    const keepsItsPlace = goesInTheSameLine && this.#calls.isQueued(creation.call);
    if (keepsItsPlace && this.#preparation.isClear(creation)) return;
    this.#calls.withdraw(creation.call);
    this.#reservations.forget(creation);
    void this.queue(creation);
  }

  /** Gives it its place in the queue once nothing else is in its way; what it waited for until now it waits for no more. */
  async queue(creation: Creation<Origin, Answer>): Promise<void> {
    const { call } = creation;
    try {
      if (await this.#preparation.prepare(creation)) this.#calls.queue(call, this.#job(creation));
    } catch (error) {
      call.fail(error);
    }
  }

  #job(creation: Creation<Origin, Answer>): Job<Made<Answer>> {
    return {
      kind: creation.kind,
      handler: handlerOf(creation.asked),
      urgency: () => creation.asked.urgency ?? {},
      mayBegin: () => {
        if (this.#preparation.isClear(creation)) return true;
        void this.queue(creation);
        return false;
      },
      begun: () => {
        this.#lives.on(creation, 'begun');
        this.#lives.step('started', creation);
      },
      perform: (request, signal) => this.#perform(creation, request, signal),
      again: () => this.#again(creation),
      hangs: (overdue) => this.#lives.step('hangs', creation, { ...overdue }),
      ...this.#givingUp(creation),
    };
  }

  /**
   * A pod sandbox is given up where it takes far too long. A container is not: runtimes finish what they make of it however the call
   * ends, and meanwhile have its name.
   */
  #givingUp(creation: Creation<Origin, Answer>): Pick<Job<Made<Answer>>, 'isQuick' | 'timesGivenUp' | 'givenUp'> {
    const { fingerprint } = creation.asked;
    if (fingerprint.kind !== 'podSandbox') return {};
    const timesGivenUp = this.#timesGivenUp.of(fingerprint);
    return {
      isQuick: fingerprint.usesHostNetwork,
      timesGivenUp,
      givenUp: (overdue) => {
        this.#timesGivenUp.note(fingerprint, timesGivenUp + 1);
        this.#lives.step('given up', creation, { ...overdue, times: timesGivenUp + 1 });
      },
    };
  }

  #again(creation: Creation<Origin, Answer>): void {
    this.#lives.on(creation, 'to be made anew');
    if (creation.state === 'queued') void this.queue(creation);
    // What no request gets any more is not tried again.
    else creation.call.fail(new DroppedError('nobody can be given it any more'));
  }

  async #perform(
    creation: Creation<Origin, Answer>,
    request: Buffer,
    signal: AbortSignal,
  ): Promise<Made<Answer> | typeof again> {
    const { fingerprint, origin } = creation.asked;
    creation.resources = resourcesAskedFor(fingerprint);
    try {
      const made = await this.#runtime.create(request, fingerprint, origin, signal);
      this.#failures.succeeded(fingerprint);
      this.#timesGivenUp.forget(fingerprint);
      return made;
    } catch (error) {
      const resolved = isGivenUp(signal)
        ? undefined
        : await this.#reservations.resolve(creation, request, error, signal);
      // It has been queued again, or begun anew by now.
      if (isGivenUp(signal)) throw error;
      if (resolved === undefined) {
        this.#failures.failed(fingerprint, error);
        throw error;
      }
      // What was made by another request may have other resources.
      creation.resources = undefined;
      return resolved;
    }
  }

  #succeeded(creation: Creation<Origin, Answer>, made: Made<Answer>, waiters: number): void {
    this.#lives.rename(creation, () => {
      creation.made = made;
    });
    const before = this.#index.made(creation, made.id);
    creation.claim(waiters);
    if (waiters > 0) this.#lives.step('answered', creation, { waiters });
    this.#lives.on(creation, waiters > 0 ? 'answered with waiters' : 'answered with nobody waiting');
    if (before === undefined) return;
    // What has an id twice may be somebody's by either name.
    this.#lives.on(before, 'id used');
    this.#lives.on(creation, 'id used');
  }

  #failed(creation: Creation<Origin, Answer>, error: unknown, waiters: number): void {
    this.#lives.step(failureStep(error), creation, { waiters, error });
    if (waiters === 0 && error instanceof StartedMeanwhileError) error.unheard();
    this.#lives.on(creation, 'failed');
  }
}

function isGivenUp({ reason }: AbortSignal): boolean {
  return reason instanceof GivenUpError;
}

function handlerOf<Origin>({ fingerprint }: Asked<Origin>): string | undefined {
  return fingerprint.kind === 'podSandbox' ? fingerprint.runtimeHandler : undefined;
}
