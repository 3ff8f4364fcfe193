import type { Clock } from '../../src/clock.js';
import { Admission } from '../../src/throttle/admission.js';
import { fixedLimit } from '../../src/throttle/concurrency-limit.js';

/** A fixed limit and nothing else. */
export function plainAdmission(limit: number, clock: Clock, placeMs = Number.MAX_SAFE_INTEGER): Admission {
  return new Admission(fixedLimit(limit), clock, { handlerLimits: new Map(), pace: undefined, placeMs });
}
