import type { Clock } from '../../src/clock.js';
import { Admission, type AdmissionOptions } from '../../src/throttle/admission.js';
import { fixedLimit } from '../../src/throttle/concurrency-limit.js';

/** A fixed limit and nothing else, but for `more`. */
export function plainAdmission(limit: number, clock: Clock, more: Partial<AdmissionOptions> = {}): Admission {
  return new Admission(fixedLimit(limit), clock, {
    handlerLimits: new Map(),
    pace: undefined,
    ownPlaces: 0,
    hung: { deadlineShare: 1, most: 0, giveUp: undefined },
    ...more,
  });
}
