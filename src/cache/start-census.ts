/**
 * Tells what starts there are and what each is at: ages for gauges, views for people. It asks those who know, keeps nothing and changes
 * nothing.
 */
import type { Clock } from '../clock.js';
import type { Admission } from '../throttle/admission.js';
import type { AdmissionView } from '../throttle/admission-view.js';
import type { StartView } from './creation-view.js';
import type { DetachedCalls } from './detached-calls.js';
import { Oldest, type OldestMs } from './oldest.js';
import type { Start } from './start.js';
import type { StartIndex } from './start-index.js';
import { progressOfStart } from './start-progress.js';

export interface StartCensusParts<Origin, Answer> {
  readonly index: Pick<StartIndex<Origin, Answer>, 'all' | 'allInFlight'>;
  readonly calls: Pick<DetachedCalls<Answer>, 'workOf'>;
  readonly admission: Pick<Admission, 'queued' | 'view'>;
  readonly clock: Clock;
}

export class StartCensus<Origin, Answer> {
  readonly #parts: StartCensusParts<Origin, Answer>;

  constructor(parts: StartCensusParts<Origin, Answer>) {
    this.#parts = parts;
  }

  /** For each stage the age of the start that has been in it for longest, in ms: for gauges. */
  get oldest(): OldestMs {
    const { index, admission, clock } = this.#parts;
    const oldest = new Oldest(clock.now());
    for (const start of index.allInFlight()) oldest.addProgress(progressOfStart(start, admission));
    return oldest.ages;
  }

  /** Every start that is in flight or held against a creation, as it is now. For people: it costs what there is. */
  views(): readonly StartView[] {
    const admission = this.#parts.admission.view();
    return [...this.#parts.index.all()].map((start) => this.#view(start, admission));
  }

  #view(start: Start<Origin, Answer>, { places, hungSinceMs }: AdmissionView): StartView {
    const { calls, admission } = this.#parts;
    const { containerId, identity, call, replayable, endedMs } = start;
    const { begunMs, runningSinceMs, lastAskedMs, waiters, inFlight } = call;
    const work = calls.workOf(call);
    const flying = runningSinceMs === undefined ? 'queued' : 'running';
    const past = replayable === undefined ? 'unclear' : 'started';
    return {
      containerId,
      family: identity?.family,
      attempt: identity?.attempt,
      state: inFlight ? flying : past,
      begunMs,
      stateSinceMs: endedMs ?? runningSinceMs ?? begunMs,
      lastAskedMs,
      waiters,
      progress: inFlight ? progressOfStart(start, admission) : undefined,
      place: work && places.get(work),
      hungSinceMs: work && hungSinceMs.get(work),
    };
  }
}
