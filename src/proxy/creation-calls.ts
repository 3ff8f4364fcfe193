/** What happens to a taken RunPodSandbox, CreateContainer or StartContainer. */
import type { Logger } from 'pino';
import type { Kind, Metrics } from '../admin/metrics.js';
import type { CreationStore } from '../cache/creation-store.js';
import { WaiterLeftError } from '../cache/detached-call.js';
import { type Fingerprint, fingerprintContainer, fingerprintPodSandbox } from '../cache/fingerprint.js';
import type { Progress } from '../cache/progress.js';
import type { StartStore } from '../cache/start-store.js';
import type { Clock } from '../clock.js';
import { readStringField } from '../cri/requests.js';
import type { Urgency } from '../throttle/work-queue.js';
import type { Origin } from './cri-runtime.js';
import { GrpcCode } from './grpc-code.js';
import { Patience } from './patience.js';
import type { PodLogLinks } from './pod-log-links.js';
import { type Load, progressText } from './progress-text.js';
import { failCall } from './rescue.js';
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
  readonly logs: PodLogLinks;
  readonly load: () => Load;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** What a call asks for, for the log. */
type Who = Readonly<Record<string, unknown>>;

export class CreationCalls {
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
    const { store, starts } = this.#parts;
    const named = readStringField(call.request, 1);
    if (named === '') return undefined;
    const creation = store.named('container', named);
    const containerId = creation?.made?.id ?? named;
    const known = creation && {
      family: creation.fingerprint.family,
      attempt: creation.fingerprint.identity.attempt,
      podSandboxId: creation.podSandboxId,
    };
    const urgency = this.#urgencyOf(call, creation?.fingerprint);
    store.used('container', containerId);
    const request = { containerId, bytes: call.request, origin: originOf(call), known, urgency };
    return this.#answer(call, 'start', { id: containerId }, (signal) => starts.request(request, signal));
  }

  async #create(call: TakenCall, fingerprint: Fingerprint): Promise<void> {
    const { store, logs, metrics } = this.#parts;
    const { kind, ...who } = fingerprint.identity;
    if (fingerprint.tooLarge) metrics.tooLarge.inc({ kind });
    // Naming the pod sandbox shows that somebody has it.
    if (fingerprint.kind === 'container') store.used('podSandbox', fingerprint.podSandboxId);
    const urgency = this.#urgencyOf(call, fingerprint);
    const request = { fingerprint, bytes: call.request, origin: originOf(call), urgency };
    await this.#answer(call, kind, who, async (signal) => {
      const grant = await store.request(request, signal);
      await logs.given(fingerprint, grant.creation.fingerprint);
      return { answer: grant.made.answer, settle: grant.settle };
    });
  }

  async #answer(
    call: TakenCall,
    kind: Kind,
    who: Who,
    obtain: (signal: AbortSignal) => Promise<{ answer: UpstreamAnswer; settle(delivered: boolean): void }>,
  ): Promise<void> {
    const { metrics, clock } = this.#parts;
    const patience = new Patience(call, clock);
    metrics.waiters.inc({ kind });
    try {
      const { answer, settle } = await obtain(patience.signal);
      let delivered = false;
      try {
        call.sendInitialMetadata(answer.initialMetadata);
        void call.send(answer.message);
        delivered = await call.end(answer.status);
      } finally {
        settle(delivered);
      }
    } catch (error) {
      if (!(error instanceof WaiterLeftError)) await failCall(call, error);
      else if (patience.hasRunOut) await this.#tell(call, kind, who, error.progress);
    } finally {
      patience.close();
      metrics.waiters.dec({ kind });
    }
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

function originOf({ path, metadata }: TakenCall): Origin {
  return { path, metadata };
}
