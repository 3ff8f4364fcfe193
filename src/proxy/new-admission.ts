/** The admission as it is configured, and what it puts into metrics and log. */
import { availableParallelism } from 'node:os';
import type { Logger } from 'pino';
import type { Metrics } from '../admin/metrics.js';
import type { Clock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import { AdaptiveLimit } from '../throttle/adaptive-limit.js';
import { Admission } from '../throttle/admission.js';
import { type ConcurrencyLimit, fixedLimit } from '../throttle/concurrency-limit.js';
import { Pressure, pressureFiles, type ReadPressure } from '../throttle/pressure.js';
import { classOf } from '../throttle/work-queue.js';

/**
 * How long a creation or start keeps its place, in ms. Without Holdfast the kubelet would have given up by then (RunPodSandbox: twice
 * `runtimeRequestTimeout`, 4 min by default), and its other pods would have gone on.
 */
const placeMs = 240_000;

export interface AdmissionDeps {
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Default: the kernel's files. */
  readonly readPressure?: ReadPressure | undefined;
}

export function newAdmission(config: HoldfastConfig, deps: AdmissionDeps): Admission {
  const { clock, metrics } = deps;
  const { handlerLimits, creationRate, creationBurst } = config;
  const pressure = newPressure(config, deps);
  const admission = new Admission(newLimit(config, pressure, deps), clock, {
    handlerLimits: new Map(handlerLimits.map(({ handler, limit }) => [handler, limit])),
    pace:
      creationRate === undefined
        ? undefined
        : { perSecond: creationRate, burst: creationBurst ?? Math.max(1, Math.ceil(creationRate)) },
    placeMs,
    admitted: (work, waitedMs) => metrics.admissionWait.observe({ class: classOf(work) }, waitedMs / 1000),
  });
  metrics.observeAdmission(() => ({
    limit: admission.limit,
    inFlight: admission.inFlight,
    queued: admission.queuedByClass,
    pressure: pressure.latest,
  }));
  return admission;
}

function newPressure(config: HoldfastConfig, { log, readPressure }: AdmissionDeps): Pressure {
  const { pressureCpu: cpu, pressureIo: io, pressureMemory: memory, pressureCgroup } = config;
  const thresholds = Object.entries({ cpu, io, memory }).filter(([, threshold]) => threshold !== 'off');
  return new Pressure({
    read: readPressure ?? pressureFiles(pressureCgroup),
    thresholds: Object.fromEntries(thresholds),
    unavailable: (resource, error) =>
      log.warn({ resource, error: String(error) }, 'pressure cannot be read: it does not move the limit'),
  });
}

function newLimit(config: HoldfastConfig, pressure: Pressure, { log, clock }: AdmissionDeps): ConcurrencyLimit {
  const { admission, maxCreations: most, minCreations, startCreations, lateAfter, decreaseTo } = config;
  if (admission === 'off') return fixedLimit(Number.POSITIVE_INFINITY);
  if (admission === 'fixed') return fixedLimit(most);
  const least = minCreations ?? Math.min(most, 2);
  const start = startCreations ?? Math.max(least, Math.min(most, Math.max(16, 4 * availableParallelism())));
  return new AdaptiveLimit(clock, {
    start,
    least,
    most,
    deadlineShare: lateAfter / 100,
    decreaseFactor: decreaseTo / 100,
    pressure,
    moved: ({ detail, ...move }) => log.info({ ...move, ...detail }, 'admission limit moved'),
  });
}
