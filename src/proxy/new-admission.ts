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
import type { Load } from './progress-text.js';

/*
 * Where the defaults of the adaptive limit come from: 60 pods at once on containerd 1.6, 2 cores, each number of creations at once
 * fixed. Nothing but the node to wait for: 4 and 6 were quickest (5.0 to 6.6 s), 8, 16 and 60 took 5.9 to 6.2 s, 2 took 6.8 s and
 * 1 12.6 s. A CNI plugin of 1 s: 60 took 8.3 s and 4 20.9 s. So a limit that is too high costs little but the time of the single
 * call (RunPodSandbox, 95 %: 0.3 s at 6, 1.1 s at 16, 4.3 s at 60), and one that is too low may cost much. Beginning with 8 instead of
 * 16, 40 pods and a CNI plugin of 1 s took as long (6.9 s), and lists answered meanwhile 50 instead of 125 ms (99 %).
 *
 * CPU pressure was 49 % at 2, 75 % at 4, 82 to 88 % from 8 to 60, and 100 % with four busy loops beside it and no creation at all: it
 * tells little, and 90 % is above what the creations made. I/O pressure on a disk held to 2,500 writes a second was 57 % at 4 and 92 %
 * at 60, when single containers took ten times as long. Memory pressure was 0; 20 % is a node that thrashes.
 *
 * late-after and decrease-to: those with which storms on nodes of many kinds (test/throttle/storm.test.ts) came nearest to the best
 * fixed limit and followed a change of capacity.
 */
const defaultLeast = 2;
const defaultStart = Math.max(8, 4 * availableParallelism());

export interface AdmissionDeps {
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Default: the kernel's files. */
  readonly readPressure?: ReadPressure | undefined;
}

export interface NewAdmission {
  readonly admission: Admission;
  /** What the node is at. */
  readonly load: () => Load;
}

export function newAdmission(config: HoldfastConfig, deps: AdmissionDeps): NewAdmission {
  const { clock, metrics } = deps;
  const { handlerLimits, creationRate, creationBurst, ownPlaces, maxHung, lateAfter } = config;
  const { giveUpTimes: times, giveUpAfterMs: leastMs } = config;
  const pressure = newPressure(config, deps);
  const limit = newLimit(config, pressure, () => admission.hung, deps);
  const admission: Admission = new Admission(limit, clock, {
    handlerLimits: new Map(handlerLimits.map(({ handler, limit }) => [handler, limit])),
    pace:
      creationRate === undefined
        ? undefined
        : { perSecond: creationRate, burst: creationBurst ?? Math.max(1, Math.ceil(creationRate)) },
    ownPlaces,
    hung: {
      deadlineShare: lateAfter / 100,
      most: maxHung,
      giveUp: times === 'off' ? undefined : { times, leastMs },
    },
    admitted: (work, waitedMs) => metrics.admissionWait.observe({ class: classOf(work) }, waitedMs / 1000),
  });
  metrics.observeAdmission(() => ({
    limit: admission.limit,
    inFlight: admission.inFlight,
    hung: admission.hung,
    queued: admission.queuedByClass,
    pressure: pressure.latest,
  }));
  return { admission, load: () => ({ limit: admission.limit, hung: admission.hung, pressure: pressure.latest }) };
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

/** @param hung How much hangs now. */
function newLimit(
  config: HoldfastConfig,
  pressure: Pressure,
  hung: () => number,
  { log, clock }: AdmissionDeps,
): ConcurrencyLimit {
  const { admission, maxCreations: most, minCreations, startCreations, lateAfter, decreaseTo } = config;
  if (admission === 'off') return fixedLimit(Number.POSITIVE_INFINITY);
  if (admission === 'fixed') return fixedLimit(most);
  const least = minCreations ?? Math.min(most, defaultLeast);
  const start = startCreations ?? Math.max(least, Math.min(most, defaultStart));
  return new AdaptiveLimit(clock, {
    start,
    least,
    most,
    deadlineShare: lateAfter / 100,
    decreaseFactor: decreaseTo / 100,
    pressure,
    moved: ({ detail, ...move }) => log.info({ ...move, hung: hung(), ...detail }, 'admission limit moved'),
  });
}
