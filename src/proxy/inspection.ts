/** What a running Holdfast says of itself to whoever runs the node, and what may be done to it from there. It is asked, and keeps nothing. */
import type { Logger } from 'pino';
import type { CreationCensus } from '../cache/creation-census.js';
import type { Identity } from '../cache/fingerprint.js';
import { containerOf } from '../cache/fingerprint.js';
import type { Forgotten } from '../cache/forget-by-hand.js';
import type { StartCensus } from '../cache/start-census.js';
import type { Clock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import type { Admission } from '../throttle/admission.js';
import {
  type ReportContext,
  type ReportedCreation,
  type ReportedForget,
  reportCreation,
  reportFailing,
  reportForgotten,
  reportGivenUp,
  reportKept,
  reportStart,
} from './creation-report.js';
import type { CallsSeen, KubeletSigns } from './kubelet-signs.js';
import type { Load } from './progress-text.js';

/** Which creations are meant: all that have each of these. */
export interface Wanted {
  readonly namespace?: string | undefined;
  readonly pod?: string | undefined;
  readonly uid?: string | undefined;
  readonly container?: string | undefined;
}

export interface CreationsReport {
  readonly creations: readonly ReportedCreation[];
  /** Of how many more it is remembered that somebody has them. */
  readonly deliveredLeftOut: number;
}

/** Durations in ms. */
export interface LoadReport {
  readonly admission: {
    /** null: there is no limit. */
    readonly limit: number | null;
    readonly inFlight: number;
    readonly hung: number;
    readonly queued: Readonly<Record<string, number>>;
    /** `some avg10` when it was last read, in percent. */
    readonly pressurePercent: Readonly<Record<string, number>>;
  };
  readonly creations: {
    readonly remembered: number;
    readonly hidden: number;
    readonly backingOff: number;
    readonly wedged: number;
  };
  readonly kubelet: { readonly status: CallsSeen; readonly lists: CallsSeen };
}

export interface InspectionParts {
  readonly creations: Pick<CreationCensus<never, never>, 'views' | 'failing' | 'givenUpRemovals' | 'sizes'>;
  readonly starts: Pick<StartCensus<never, never>, 'views'>;
  readonly forget: (matches: (identity: Identity) => boolean) => readonly Forgotten[];
  readonly admission: Admission;
  readonly load: () => Load;
  readonly signs: KubeletSigns;
  readonly clock: Clock;
  readonly log: Logger;
}

export class Inspection {
  readonly #parts: InspectionParts;
  readonly #config: Pick<HoldfastConfig, 'wedgeAfterMs' | 'creationTimeoutMs' | 'holdTtlMs'>;

  constructor(
    parts: InspectionParts,
    config: Pick<HoldfastConfig, 'wedgeAfterMs' | 'creationTimeoutMs' | 'holdTtlMs'>,
  ) {
    this.#parts = parts;
    this.#config = config;
  }

  /** @param withDelivered Whether to tell of what somebody has, too. */
  creations(withDelivered: boolean): CreationsReport {
    const { creations, starts, clock, load } = this.#parts;
    const { wedgeAfterMs, creationTimeoutMs, holdTtlMs } = this.#config;
    const nowMs = clock.now();
    const context: ReportContext = { nowMs, load: load(), wedgeAfterMs, creationTimeoutMs, holdTtlMs };
    const all = creations.views();
    const told = withDelivered ? all : all.filter(({ state }) => state !== 'delivered');
    // What failed is told with its creation where there is one.
    const known = new Set(all.map(({ failures }) => JSON.stringify(failures?.identity)));
    return {
      creations: [
        ...told.map((view) => reportCreation(view, context)),
        ...starts.views().map((view) => reportStart(view, context)),
        ...creations.failing
          .filter(({ identity }) => !known.has(JSON.stringify(identity)))
          .map((view) => reportFailing(view, nowMs)),
        ...creations.givenUpRemovals.map((removal) => reportGivenUp(removal, nowMs)),
      ],
      deliveredLeftOut: all.length - told.length,
    };
  }

  summary(): LoadReport {
    const { admission, creations, signs, load } = this.#parts;
    const { limit, inFlight, hung, queuedByClass: queued } = admission;
    const { live, answered, hidden, backingOff, wedged } = creations.sizes;
    return {
      admission: {
        limit: Number.isFinite(limit) ? limit : null,
        inFlight,
        hung,
        queued,
        pressurePercent: Object.fromEntries(load().pressure),
      },
      creations: { remembered: live + answered, hidden, backingOff, wedged },
      kubelet: signs.seen,
    };
  }

  /** Forgets what may be forgotten of these. Each is told with what became of it. */
  forget(wanted: Wanted): readonly ReportedForget[] {
    const { forget, starts, log } = this.#parts;
    const results = [
      ...forget((identity) => isWanted(wanted, identity)).map(reportForgotten),
      ...starts
        .views()
        .filter(({ family }) => family !== undefined && isWanted(wanted, containerOf(family)))
        .map(reportKept),
    ];
    for (const result of results) log.warn({ ...result }, 'an operator asked to forget');
    return results;
  }
}

type Named = Pick<Identity, 'namespace' | 'name' | 'uid'> & { readonly container?: string };

function isWanted({ namespace, pod, uid, container }: Wanted, named: Named): boolean {
  const pairs = [
    [namespace, named.namespace],
    [pod, named.name],
    [uid, named.uid],
    [container, named.container],
  ];
  return pairs.every(([asked, has]) => asked === undefined || asked === has);
}
