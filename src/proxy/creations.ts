/** What happens to a taken RunPodSandbox, CreateContainer or StartContainer. */
import type { Logger } from 'pino';
import type { Kind, Metrics } from '../admin/metrics.js';
import type { CreationStore } from '../cache/creation-store.js';
import { WaiterLeftError } from '../cache/detached-call.js';
import { type Fingerprint, fingerprintContainer, fingerprintPodSandbox } from '../cache/fingerprint.js';
import type { StartStore } from '../cache/start-store.js';
import type { Clock } from '../clock.js';
import { readStringField } from '../cri/requests.js';
import type { Urgency } from '../throttle/work-queue.js';
import type { Origin } from './cri-runtime.js';
import { linkLog } from './pod-logs.js';
import { failCall } from './rescue.js';
import type { TakenCall } from './taken-call.js';
import type { UpstreamAnswer } from './upstream.js';

export interface CreationsOptions {
  readonly volatileAnnotations: readonly string[];
  readonly criticalNamespaces: readonly string[];
  readonly linkLogs: boolean;
}

export class Creations {
  readonly #store: CreationStore<Origin, UpstreamAnswer>;
  readonly #starts: StartStore<Origin, UpstreamAnswer>;
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #log: Logger;
  readonly #linkLogs: boolean;
  readonly #criticalNamespaces: ReadonlySet<string>;
  readonly #fingerprinting: { readonly volatileAnnotations: ReadonlySet<string> };

  constructor(
    store: CreationStore<Origin, UpstreamAnswer>,
    starts: StartStore<Origin, UpstreamAnswer>,
    clock: Clock,
    metrics: Metrics,
    log: Logger,
    options: CreationsOptions,
  ) {
    this.#store = store;
    this.#starts = starts;
    this.#clock = clock;
    this.#metrics = metrics;
    this.#log = log;
    this.#linkLogs = options.linkLogs;
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
    const named = readStringField(call.request, 1);
    if (named === '') return undefined;
    const creation = this.#store.named('container', named);
    const containerId = creation?.made?.id ?? named;
    const known = creation && {
      family: creation.fingerprint.family,
      attempt: creation.fingerprint.identity.attempt,
    };
    this.#store.used('container', containerId);
    const urgency = this.#urgencyOf(call, creation?.fingerprint);
    const request = { containerId, bytes: call.request, origin: originOf(call), known, urgency };
    return this.#answer(call, 'start', () => this.#starts.request(request, call.signal));
  }

  async #create(call: TakenCall, fingerprint: Fingerprint): Promise<void> {
    // Naming the pod sandbox shows that the kubelet has it.
    if (fingerprint.kind === 'container') this.#store.inhabited(fingerprint.podSandboxId);
    const urgency = this.#urgencyOf(call, fingerprint);
    const request = { fingerprint, bytes: call.request, origin: originOf(call), urgency };
    await this.#answer(call, fingerprint.kind, async () => {
      const grant = await this.#store.request(request, call.signal);
      await this.#linkLogOf(fingerprint, grant.creation.fingerprint);
      return { answer: grant.made.answer, settle: grant.settle };
    });
  }

  async #answer(
    call: TakenCall,
    kind: Kind,
    obtain: () => Promise<{ answer: UpstreamAnswer; settle(delivered: boolean): void }>,
  ): Promise<void> {
    this.#metrics.waiters.inc({ kind });
    try {
      const { answer, settle } = await obtain();
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
    } finally {
      this.#metrics.waiters.dec({ kind });
    }
  }

  /** @param fingerprint Of what is made or started; undefined: Holdfast did not make it. */
  #urgencyOf({ deadlineMs }: TakenCall, fingerprint: Fingerprint | undefined): Urgency {
    const isCritical = fingerprint !== undefined && this.#criticalNamespaces.has(fingerprint.identity.namespace);
    return {
      importance: fingerprint?.isStatic ? 'static' : isCritical ? 'critical' : undefined,
      deadlineMs: deadlineMs === undefined ? undefined : deadlineMs - this.#clock.now(),
    };
  }

  async #linkLogOf(asked: Fingerprint, made: Fingerprint): Promise<void> {
    if (!this.#linkLogs || asked.kind !== 'container' || made.kind !== 'container') return;
    if (asked.identity.attempt === made.identity.attempt) return;
    try {
      await linkLog(asked, made);
    } catch (error) {
      this.#log.warn({ asked: asked.logPath, made: made.logPath, error: String(error) }, 'log not linked');
    }
  }
}

function originOf({ path, metadata }: TakenCall): Origin {
  return { path, metadata };
}
