/** What happens to a taken RunPodSandbox, CreateContainer or StartContainer. */
import type { Logger } from 'pino';
import type { Kind, Metrics } from '../admin/metrics.js';
import type { CreationStore } from '../cache/creation-store.js';
import { type DetachedCall, WaiterLeftError } from '../cache/detached-call.js';
import { type Fingerprint, fingerprintContainer, fingerprintPodSandbox, type Identity } from '../cache/fingerprint.js';
import type { Progress } from '../cache/progress.js';
import type { StartStore } from '../cache/start-store.js';
import type { Clock } from '../clock.js';
import { readStringField } from '../cri/requests.js';
import type { Urgency } from '../throttle/work-queue.js';
import type { CallTraces, WaiterOutcome } from './call-traces.js';
import type { Origin } from './cri-runtime.js';
import type { Faults } from './faults.js';
import { GrpcCode } from './grpc-code.js';
import { Patience } from './patience.js';
import type { PodLogLinks } from './pod-log-links.js';
import { type Load, progressText } from './progress-text.js';
import type { Relay } from './relay.js';
import { failCall, faultStatus, isFault } from './rescue.js';
import type { TakenCall } from './taken-call.js';
import type { UpstreamAnswer } from './upstream.js';

export interface CreationCallsOptions {
  readonly volatileAnnotations: readonly string[];
  readonly criticalNamespaces: readonly string[];
  readonly wedgeAfterMs: number;
}

export interface CreationCallsParts {
  readonly store: CreationStore<Origin, UpstreamAnswer>;
  readonly starts: StartStore<Origin, UpstreamAnswer>;
  readonly relay: Relay;
  readonly faults: Faults;
  readonly traces: CallTraces;
  readonly logs: PodLogLinks;
  readonly load: () => Load;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** What a call asks for, for the log. */
type Who = Readonly<Record<string, unknown>>;

const methods = { podSandbox: 'RunPodSandbox', container: 'CreateContainer', start: 'StartContainer' } as const;

/** What a call got from a store. */
interface Given {
  readonly answer: UpstreamAnswer;
  settle(delivered: boolean): void;
}

/** A creation or start, as far as a fault is concerned. */
interface Entry {
  readonly call: Pick<DetachedCall<unknown>, 'hasBegun'>;
}

/** How a call asks for what it wants. */
interface Asking<E extends Entry> {
  readonly kind: Kind;
  readonly who: Who;
  readonly origin: Origin;
  /** What is made, or the container that is started, where that is known. */
  readonly identity: Identity | undefined;
  /** Of a start. */
  readonly containerId?: string;
  /** @param attached Told what the call waits for. */
  obtain(signal: AbortSignal, attached: (entry: E) => void): Promise<Given>;
  /** What there is of it. */
  found(): E | undefined;
  /** See `forgetAfterFault` of the stores. */
  forgetAfterFault(entry: E, error: unknown): void;
}

export class CreationCalls {
  /** What met a fault before it went upstream, and was left to the runtime by one of the calls that waited for it. */
  readonly #leftToRuntime = new WeakSet<Entry>();
  readonly #parts: CreationCallsParts;
  readonly #options: CreationCallsOptions;
  readonly #criticalNamespaces: ReadonlySet<string>;
  readonly #fingerprinting: { readonly volatileAnnotations: ReadonlySet<string> };

  constructor(parts: CreationCallsParts, options: CreationCallsOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#criticalNamespaces = new Set(options.criticalNamespaces);
    this.#fingerprinting = { volatileAnnotations: new Set(options.volatileAnnotations) };
  }

  /** @returns undefined where the request says too little to be told from others: it is the runtime's to judge. */
  create(call: TakenCall, kind: 'podSandbox' | 'container'): Promise<void> | undefined {
    const fingerprint =
      kind === 'podSandbox'
        ? fingerprintPodSandbox(call.request, this.#fingerprinting)
        : fingerprintContainer(call.request, this.#fingerprinting);
    return fingerprint && this.#create(call, fingerprint);
  }

  /** @returns undefined where the request names no container. */
  start(call: TakenCall): Promise<void> | undefined {
    const { store, starts, faults } = this.#parts;
    const named = readStringField(call.request, 1);
    if (named === '') return undefined;
    // What it is told by may be wanting; a start under way must still be found.
    const creation = faults.guard(methods.start, () => store.named('container', named), undefined);
    const containerId = creation?.made?.id ?? named;
    const known = creation && {
      family: creation.fingerprint.family,
      attempt: creation.fingerprint.identity.attempt,
      podSandboxId: creation.podSandboxId,
    };
    const urgency = this.#urgencyOf(call, creation?.fingerprint);
    const origin = originOf(call);
    const request = { containerId, bytes: call.request, origin, known, urgency };
    return this.#answer(call, {
      kind: 'start',
      who: { id: containerId },
      origin,
      identity: creation?.fingerprint.identity,
      containerId,
      obtain(signal, attached) {
        store.used('container', containerId);
        return starts.request(request, signal, attached);
      },
      found: () => starts.found(containerId),
      forgetAfterFault: (start, error) => starts.forgetAfterFault(start, error),
    });
  }

  async #create(call: TakenCall, fingerprint: Fingerprint): Promise<void> {
    const { store, logs, metrics, faults } = this.#parts;
    const { kind, ...who } = fingerprint.identity;
    if (fingerprint.tooLarge) metrics.tooLarge.inc({ kind });
    const urgency = this.#urgencyOf(call, fingerprint);
    const origin = originOf(call);
    const request = { fingerprint, bytes: call.request, origin, urgency };
    await this.#answer(call, {
      kind,
      who,
      origin,
      identity: fingerprint.identity,
      async obtain(signal, attached) {
        // Naming the pod sandbox shows that somebody has it.
        if (fingerprint.kind === 'container') store.used('podSandbox', fingerprint.podSandboxId);
        const { creation, made, settle } = await store.request(request, signal, attached);
        try {
          await logs.given(fingerprint, creation.fingerprint);
        } catch (error) {
          // It is no reason to keep back what was made.
          faults.note(methods[kind], error);
        }
        return { answer: made.answer, settle };
      },
      found: () => store.found(fingerprint),
      forgetAfterFault: (creation, error) => store.forgetAfterFault(creation, error),
    });
  }

  async #answer<E extends Entry>(call: TakenCall, asking: Asking<E>): Promise<void> {
    try {
      await this.#tryToAnswer(call, asking);
    } catch (error) {
      // Even the way out of a fault has one. Without effect where the call has been answered.
      this.#parts.faults.note(methods[asking.kind], error);
      await call.end(faultStatus(error));
    }
  }

  async #tryToAnswer<E extends Entry>(call: TakenCall, asking: Asking<E>): Promise<void> {
    const { metrics, clock, traces } = this.#parts;
    const { kind, who } = asking;
    const patience = new Patience(call, clock);
    const trace = traces.waiter(asking);
    let entry: E | undefined;
    metrics.waiters.inc({ kind });
    try {
      const { answer, settle } = await asking.obtain(patience.signal, (attached) => {
        entry = attached;
        trace.attached(attached);
      });
      let delivered = false;
      try {
        call.sendInitialMetadata(answer.initialMetadata);
        void call.send(answer.message);
        delivered = await call.end(answer.status);
      } finally {
        settle(delivered);
      }
      trace.ended(delivered ? 'delivered' : 'not delivered');
    } catch (error) {
      trace.ended(outcomeOf(error, patience), error);
      if (isFault(error)) await this.#fallBack(call, asking, entry, error);
      else if (!(error instanceof WaiterLeftError)) await failCall(call, error);
      else if (patience.hasRunOut) await this.#tell(call, kind, who, error.progress);
    } finally {
      patience.close();
      metrics.waiters.dec({ kind });
    }
  }

  /**
   * Something went wrong in Holdfast. The runtime gets the call as it came where it has heard nothing of what the call is about, and
   * from one call only; else the client is to ask again. Either way the next request begins anew, but for what runs upstream: that goes
   * on for the others who wait for it.
   */
  async #fallBack<E extends Entry>(
    call: TakenCall,
    { kind, found, forgetAfterFault }: Asking<E>,
    attached: E | undefined,
    error: unknown,
  ): Promise<void> {
    const { faults, relay } = this.#parts;
    const method = methods[kind];
    faults.note(method, error);
    const entry = attached ?? faults.guard(method, found, undefined);
    const isNew = entry === undefined || !(entry.call.hasBegun || this.#leftToRuntime.has(entry));
    if (entry !== undefined) {
      this.#leftToRuntime.add(entry);
      faults.guard(method, () => forgetAfterFault(entry, error), undefined);
    }
    if (isNew) await relay.unary(call);
    else await call.end(faultStatus(error));
  }

  /** Answers a call whose deadline is near with what it waits for. */
  async #tell(call: TakenCall, kind: Kind, who: Who, progress: Progress | undefined): Promise<void> {
    const { clock, load, log, metrics } = this.#parts;
    const message = progressText(kind, progress, clock.now(), load(), this.#options.wedgeAfterMs);
    metrics.told.inc({ kind, waits_for: progress?.at === 'waiting' ? progress.for.what : (progress?.at ?? 'unknown') });
    log.info({ kind, ...who, told: message }, 'waiter told');
    await call.end({ code: GrpcCode.deadlineExceeded, message, trailers: [] });
  }

  /** @param fingerprint Of what is made or started; undefined: Holdfast did not make it. */
  #urgencyOf({ deadlineMs }: TakenCall, fingerprint: Fingerprint | undefined): Urgency {
    const isCritical = fingerprint !== undefined && this.#criticalNamespaces.has(fingerprint.identity.namespace);
    return {
      importance: fingerprint?.isStatic ? 'static' : isCritical ? 'critical' : undefined,
      deadlineMs: deadlineMs === undefined ? undefined : deadlineMs - this.#parts.clock.now(),
    };
  }
}

function outcomeOf(error: unknown, { hasRunOut }: Patience): WaiterOutcome {
  if (error instanceof WaiterLeftError) return hasRunOut ? 'told' : 'left';
  return isFault(error) ? 'fault' : 'failed';
}

function originOf({ path, metadata }: TakenCall): Origin {
  return { path, metadata };
}
