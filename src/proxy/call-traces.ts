/**
 * What is told of calls to whoever draws traces of them (src/tracing/). Nothing here knows what a span is, or where it goes; without
 * `--otlp` nobody is told, and calls go to the runtime with the metadata they came with.
 */
import type { Kind } from '../admin/metrics.js';
import type { Creation } from '../cache/creation.js';
import type { CreationStep } from '../cache/creation-lives.js';
import type { Identity } from '../cache/fingerprint.js';
import type { Start, StartStep } from '../cache/start.js';
import type { Faults } from './faults.js';
import { methodNameOf, type Origin } from './own-calls.js';
import type { Metadata } from './taken-call.js';
import type { UpstreamAnswer } from './upstream.js';

/** A call that waits for a creation or a start. */
export interface Waiter {
  readonly kind: Kind;
  /** The same object that the stores get: by it a creation is known to whoever asked for it first. */
  readonly origin: Origin;
  /** What is made, or the container that is started; undefined: Holdfast did not make it. */
  readonly identity: Identity | undefined;
  /** Of a start. */
  readonly containerId?: string | undefined;
}

/**
 * - `delivered`: it is known to have got the answer; `not delivered`: it was answered, and that is not known.
 * - `told`: its deadline was near, and it was answered with what it waited for.
 * - `left`: it went away first.
 * - `failed`: it was answered with an error; `fault`: so it was, or left to the runtime, for a fault of Holdfast.
 */
export type WaiterOutcome = 'delivered' | 'not delivered' | 'told' | 'left' | 'failed' | 'fault';

export interface WaiterTrace {
  /** It waits for this creation or start from now on. */
  attached(entry: object): void;
  /** Counts once. */
  ended(outcome: WaiterOutcome, error?: unknown): void;
}

type Detail = Readonly<Record<string, unknown>>;

export interface CallTraces {
  waiter(waiter: Waiter): WaiterTrace;
  creation(step: CreationStep, creation: Creation<Origin, UpstreamAnswer>, detail: Detail): void;
  start(step: StartStep, start: Start<Origin, UpstreamAnswer>, detail: Detail): void;
  /** What goes to the runtime with a creation or start that was asked for so. */
  metadataOf(origin: Origin): Metadata;
}

const untraced: WaiterTrace = { attached() {}, ended() {} };

export const noTraces: CallTraces = {
  waiter: () => untraced,
  creation() {},
  start() {},
  metadataOf: ({ metadata }) => metadata,
};

/** The same traces, of which a fault costs a span and never a call. */
export function guardedTraces(traces: CallTraces, faults: Faults): CallTraces {
  return {
    waiter(waiter) {
      const method = methodNameOf(waiter.origin);
      const trace = faults.guard(method, () => traces.waiter(waiter), untraced);
      return {
        attached: (entry) => faults.guard(method, () => trace.attached(entry), undefined),
        ended: (outcome, error) => faults.guard(method, () => trace.ended(outcome, error), undefined),
      };
    },
    creation: (step, creation, detail) =>
      faults.guard(methodNameOf(creation.asked.origin), () => traces.creation(step, creation, detail), undefined),
    start: (step, start, detail) =>
      faults.guard(methodNameOf(start.origin), () => traces.start(step, start, detail), undefined),
    metadataOf: (origin) => faults.guard(methodNameOf(origin), () => traces.metadataOf(origin), origin.metadata),
  };
}
