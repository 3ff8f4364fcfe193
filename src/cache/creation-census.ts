/**
 * Tells what creations there are and what each is at: numbers and ages for gauges, views for people. It asks those who know, keeps
 * nothing and changes nothing.
 */
import type { Clock } from '../clock.js';
import type { Admission } from '../throttle/admission.js';
import type { AdmissionView } from '../throttle/admission-view.js';
import type { Creation } from './creation.js';
import type { CreationLives } from './creation-lives.js';
import type { CreationProgress } from './creation-progress.js';
import type { Made } from './creation-runtime.js';
import type { CreationView, FailuresView, GivenUpRemoval } from './creation-view.js';
import type { DetachedCalls } from './detached-calls.js';
import type { FailureBackoff } from './failure-backoff.js';
import type { NameReservations } from './name-reservations.js';
import { Oldest, type OldestMs } from './oldest.js';
import type { Preparation } from './preparation.js';
import type { TimesGivenUp } from './times-given-up.js';

export interface CreationCensusParts<Origin, Answer> {
  readonly lives: Pick<CreationLives<Origin, Answer>, 'index' | 'hiddenCount' | 'isHidden' | 'givenUpRemovals'>;
  readonly calls: Pick<DetachedCalls<Made<Answer>>, 'workOf'>;
  readonly admission: Pick<Admission, 'view'>;
  readonly progress: CreationProgress;
  readonly preparation: Pick<Preparation<Origin, Answer>, 'paused'>;
  readonly reservations: Pick<NameReservations<Origin, Answer>, 'wedged' | 'isWedged'>;
  readonly failures: Pick<FailureBackoff, 'all' | 'viewOf'>;
  readonly timesGivenUp: Pick<TimesGivenUp, 'of'>;
  readonly clock: Clock;
  /** After how long a held container is removed, in ms. */
  readonly holdTtlMs: number;
}

export class CreationCensus<Origin, Answer> {
  readonly #parts: CreationCensusParts<Origin, Answer>;

  constructor(parts: CreationCensusParts<Origin, Answer>) {
    this.#parts = parts;
  }

  /** Creations by what became of them, for gauges. */
  get sizes(): { live: number; answered: number; hidden: number; backingOff: number; wedged: number } {
    const { lives, preparation, reservations } = this.#parts;
    return {
      ...lives.index.sizes,
      hidden: lives.hiddenCount,
      backingOff: preparation.paused,
      wedged: reservations.wedged,
    };
  }

  /** For each kind and stage the age of what has been in it for longest, in ms: for gauges. */
  get oldest(): Readonly<Record<'podSandbox' | 'container', OldestMs>> {
    const { lives, progress, clock } = this.#parts;
    const nowMs = clock.now();
    const oldest = { podSandbox: new Oldest(nowMs), container: new Oldest(nowMs) };
    for (const creation of lives.index.all()) {
      const { kind, state, heldSinceMs } = creation;
      if (state === 'held') oldest[kind].add('held', heldSinceMs);
      else oldest[kind].addProgress(progress.of(creation, nowMs));
    }
    return { podSandbox: oldest.podSandbox.ages, container: oldest.container.ages };
  }

  /** Every creation, as it is now. For people: it costs what there is. */
  views(): readonly CreationView[] {
    const admission = this.#parts.admission.view();
    return [...this.#parts.lives.index.all()].map((creation) => this.#view(creation, admission));
  }

  /** What has failed and not succeeded since. */
  get failing(): readonly FailuresView[] {
    return this.#parts.failures.all;
  }

  /** What could not be removed and was left to the kubelet. */
  get givenUpRemovals(): readonly GivenUpRemoval[] {
    return this.#parts.lives.givenUpRemovals.all;
  }

  #view(creation: Creation<Origin, Answer>, { places, hungSinceMs }: AdmissionView): CreationView {
    const { lives, calls, progress, reservations, failures, timesGivenUp, clock, holdTtlMs } = this.#parts;
    const { fingerprint, state, stateSinceMs, call, made, seenId, reservation } = creation;
    const { begunMs, lastAskedMs, waiters } = call;
    const work = calls.workOf(call);
    return {
      identity: fingerprint.identity,
      state,
      begunMs,
      stateSinceMs,
      lastAskedMs,
      waiters,
      id: made?.id ?? seenId,
      podSandboxId: creation.podSandboxId,
      isHidden: lives.isHidden(creation),
      progress: call.inFlight ? progress.of(creation, clock.now()) : undefined,
      place: work && places.get(work),
      hungSinceMs: work && hungSinceMs.get(work),
      timesGivenUp: timesGivenUp.of(fingerprint),
      failures: failures.viewOf(fingerprint),
      reservation: reservation && {
        holderId: reservation.holderId,
        sinceMs: reservation.sinceMs,
        tries: reservation.tries,
        isWedged: reservations.isWedged(creation),
        error: reservation.error,
      },
      removalError: creation.removalError,
      heldUntilMs: state === 'held' ? creation.heldSinceMs + holdTtlMs : undefined,
    };
  }
}
