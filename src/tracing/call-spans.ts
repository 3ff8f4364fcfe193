/**
 * Draws traces of calls: a span for each creation or start, from the moment it is queued until nothing more is to be seen of it, and one
 * for each call that waits for it. The first waiter's span is its parent; each waiter, in its own trace, has a link to it. What the
 * runtime is asked carries its context, so that the runtime's own span is its child.
 *
 * Only where the caller's trace is sampled: Holdfast adds to traces and begins none. Knows no collector.
 */
import {
  type Attributes,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { LRUCache } from 'lru-cache';
import type { Creation } from '../cache/creation.js';
import type { CreationStep } from '../cache/creation-lives.js';
import { containerOf, type Identity } from '../cache/fingerprint.js';
import type { Start, StartStep } from '../cache/start.js';
import type { Clock } from '../clock.js';
import type { CallTraces, Waiter, WaiterTrace } from '../proxy/call-traces.js';
import { methodNameOf, type Origin } from '../proxy/own-calls.js';
import type { Metadata } from '../proxy/taken-call.js';
import type { UpstreamAnswer } from '../proxy/upstream.js';
import { eventAttributes, idAttributes, identityAttributes, setFailed } from './attributes.js';
import { sampledContext, withContext } from './trace-context.js';

type Detail = Readonly<Record<string, unknown>>;

/** Steps after which nothing more is to be seen of a creation or a start. */
const lastSteps: ReadonlySet<CreationStep | StartStep> = new Set([
  'delivered',
  'forgotten',
  'reaped',
  'failed',
  'timed out',
  'dropped',
]);
const failures: ReadonlySet<string> = new Set(['failed', 'timed out', 'dropped']);
/** Steps at which the id of what was made has become known. */
const madeSteps: ReadonlySet<string> = new Set(['answered', 'held', 'shown']);

export interface CallSpansOptions {
  /** After so long nobody is answered with a start any more, in ms. */
  readonly replayTtlMs: number;
  /** Spans of creations and starts that are open at once; beyond, the one in which nothing has happened for longest ends. */
  readonly maxOpen: number;
}

/** What is known of a call by its origin, for as long as something was asked for by it. */
interface Asker {
  /** Of its span; undefined: it has none. */
  readonly context: SpanContext | undefined;
  readonly identity: Identity | undefined;
  /** What it waits for, or waited for last. */
  entry: object | undefined;
}

interface Open {
  readonly span: Span;
  cancelTimer: () => void;
}

const nothing = () => {};

export class CallSpans implements CallTraces {
  readonly #tracer: Tracer;
  readonly #clock: Clock;
  readonly #replayTtlMs: number;
  readonly #askers = new WeakMap<Origin, Asker>();
  /** By creation or start. */
  readonly #open: LRUCache<object, Open>;
  /** Also of those that have ended: a waiter that comes later is linked to them. */
  readonly #contexts = new WeakMap<object, SpanContext>();

  constructor(tracer: Tracer, clock: Clock, { replayTtlMs, maxOpen }: CallSpansOptions) {
    this.#tracer = tracer;
    this.#clock = clock;
    this.#replayTtlMs = replayTtlMs;
    this.#open = new LRUCache({
      max: maxOpen,
      dispose({ span, cancelTimer }, _, reason) {
        cancelTimer();
        if (reason === 'evict') span.setAttribute('holdfast.outcome', 'not followed to the end');
        span.end();
      },
    });
  }

  waiter({ kind, origin, identity, containerId }: Waiter): WaiterTrace {
    const parent = sampledContext(origin.metadata);
    const span =
      parent &&
      this.#tracer.startSpan(
        `holdfast.wait.${methodNameOf(origin)}`,
        {
          kind: SpanKind.SERVER,
          attributes: { ...identityAttributes(kind, identity), ...idAttributes('container', containerId) },
        },
        trace.setSpanContext(ROOT_CONTEXT, parent),
      );
    const asker: Asker = { context: span?.spanContext(), identity, entry: undefined };
    this.#askers.set(origin, asker);
    let isOver = false;
    return {
      attached: (entry) => {
        this.#link(span, asker.entry);
        asker.entry = entry;
      },
      ended: (outcome, error) => {
        if (isOver || span === undefined) return;
        isOver = true;
        this.#link(span, asker.entry);
        span.setAttribute('holdfast.outcome', outcome);
        if (outcome === 'failed' || outcome === 'fault') setFailed(span, error);
        span.end();
      },
    };
  }

  creation(step: CreationStep, creation: Creation<Origin, UpstreamAnswer>, detail: Detail): void {
    const { kind, fingerprint, podSandboxId, asked, made } = creation;
    if (step === 'queued') {
      const attributes = identityAttributes(kind, fingerprint.identity);
      this.#begin(creation, asked.origin, { ...attributes, ...idAttributes('podSandbox', podSandboxId) });
    }
    const open = this.#open.get(creation);
    if (open === undefined) return;
    if (madeSteps.has(step)) open.span.setAttributes(idAttributes(kind, made?.id));
    // It was looked for and is not there any more: no other step follows.
    const isAbsent = step === 'changed' && detail.condition === 'absent';
    this.#step(creation, open, step, detail, lastSteps.has(step) || isAbsent);
  }

  start(step: StartStep, start: Start<Origin, UpstreamAnswer>, detail: Detail): void {
    const { origin, containerId, identity } = start;
    if (step === 'queued') {
      const attributes = identityAttributes('start', this.#askers.get(origin)?.identity);
      this.#begin(start, origin, { ...attributes, ...idAttributes('container', containerId) });
    }
    const open = this.#open.get(start);
    if (open === undefined) return;
    if (step === 'started' && identity !== undefined) {
      const container = { kind: 'container', ...containerOf(identity.family), attempt: identity.attempt } as const;
      open.span.setAttributes(identityAttributes('start', container));
    }
    this.#step(start, open, step, detail, lastSteps.has(step));
    // No step says that it is too old to be answered again.
    if (step === 'answered' || step === 'held') {
      open.cancelTimer = this.#clock.after(this.#replayTtlMs, () => this.#step(start, open, 'forgotten', {}, true));
    }
  }

  metadataOf(origin: Origin): Metadata {
    const entry = this.#askers.get(origin)?.entry;
    const context = entry && this.#contexts.get(entry);
    return context === undefined ? origin.metadata : withContext(origin.metadata, context);
  }

  /** Ends what is open. */
  close(): void {
    for (const { span } of this.#open.values()) span.setAttribute('holdfast.outcome', 'Holdfast ended');
    this.#open.clear();
  }

  #begin(entry: object, origin: Origin, attributes: Attributes): void {
    const parent = this.#askers.get(origin)?.context;
    if (parent === undefined) return;
    const span = this.#tracer.startSpan(
      `holdfast.${methodNameOf(origin)}`,
      { kind: SpanKind.CLIENT, attributes },
      trace.setSpanContext(ROOT_CONTEXT, parent),
    );
    this.#contexts.set(entry, span.spanContext());
    this.#open.set(entry, { span, cancelTimer: nothing });
  }

  #step(entry: object, { span }: Open, step: CreationStep | StartStep, detail: Detail, isLast: boolean): void {
    span.addEvent(step, eventAttributes(detail));
    if (!isLast) return;
    span.setAttribute('holdfast.outcome', step);
    if (failures.has(step)) setFailed(span, detail.error);
    this.#open.delete(entry);
  }

  #link(span: Span | undefined, entry: object | undefined): void {
    const context = entry && this.#contexts.get(entry);
    if (context !== undefined) span?.addLink({ context });
  }
}
