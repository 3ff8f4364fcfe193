/** One pod sandbox or container being made, or made and not yet in the kubelet's hands. */
import type { Urgency } from '../throttle/work-queue.js';
import type { CreationState } from './creation-life.js';
import type { Made, Subject } from './creation-runtime.js';
import type { DetachedCall } from './detached-call.js';
import type { Fingerprint } from './fingerprint.js';
import type { Obstacle } from './progress.js';

/** `Origin` says how the caller wants it sent (API version, metadata) and means nothing to the cache. */
export interface CreationRequest<Origin> {
  readonly fingerprint: Fingerprint;
  /** The downstream's own bytes: what goes upstream. */
  readonly bytes: Buffer;
  readonly origin: Origin;
  readonly urgency?: Urgency;
}

/** What of a request is kept when its bytes have been sent. */
export type Asked<Origin> = Omit<CreationRequest<Origin>, 'bytes'>;

/** A name that the runtime says is taken. */
export interface Reservation {
  readonly sinceMs: number;
  holderId: string | undefined;
  /** What had the name and was removed last. */
  removedId: string | undefined;
  /** Tries that were answered so, since something else that had the name was removed. */
  tries: number;
  /** Why what has the name cannot be removed or seen. */
  error: unknown;
  /** What has the name and cannot be removed: it is not this creation's. */
  strangerId: string | undefined;
  /** When it was last reported as a wedge, in ms of the clock. */
  reportedMs: number | undefined;
}

/** What a creation does at first, and when it is over. */
const nothing = () => {};

export class Creation<Origin, Answer> {
  readonly call: DetachedCall<Made<Answer>>;
  /** The newest request, until its bytes are sent. */
  asked: Asked<Origin>;
  /** Changed by the store alone, as creation-life.ts says. */
  state: CreationState = 'queued';
  made: Made<Answer> | undefined;
  /** Digest of the resources that a container has been given, '' for none; undefined: another request has made it, with its own. */
  resources: string | undefined = '';
  /** Keys of the fingerprints it answers to: its own, and those of other attempts that were given it. */
  keys: readonly string[] = [];
  /** The id under which the runtime already shows it, where it was seen before the runtime answered. */
  seenId: string | undefined;
  /** While it is queued: what it waits for before it may wait for its turn. */
  obstacle: Obstacle | undefined;
  reservation: Reservation | undefined;
  /** Since when it is in this state, in ms of the clock. */
  stateSinceMs: number;
  /** When it became held or shown, in ms of the clock. */
  heldSinceMs = 0;
  /** Why it could not be removed, where it is to be. */
  removalError: unknown;
  /** Looks at it, in a row, that could not tell how it is. */
  failedChecks = 0;
  /** Times in a row that it could not be given the resources that were asked for. */
  failedUpdates = 0;
  /** Settles when it is not known any more: then its name is no longer in Holdfast's way. */
  readonly gone: Promise<void>;
  cancelHoldTimer: () => void = nothing;
  /** Ends what it waits for before its turn, for a newer request to wait for what that has to. */
  endPreparation: () => void = nothing;
  #claims = 0;
  #markGone: () => void = nothing;
  #markQuiet: () => void = nothing;

  constructor(asked: Asked<Origin>, call: DetachedCall<Made<Answer>>) {
    this.asked = asked;
    this.call = call;
    this.stateSinceMs = call.begunMs;
    this.gone = new Promise((resolve) => {
      this.#markGone = resolve;
    });
  }

  get fingerprint(): Fingerprint {
    return this.asked.fingerprint;
  }

  get kind(): 'podSandbox' | 'container' {
    return this.fingerprint.identity.kind;
  }

  /** The pod sandbox a container belongs to; '' for a pod sandbox. */
  get podSandboxId(): string {
    return this.fingerprint.kind === 'container' ? this.fingerprint.podSandboxId : '';
  }

  /** What the runtime has made; undefined where it has not. */
  get subject(): Subject<Origin> | undefined {
    const { made, kind, podSandboxId, asked } = this;
    return made && { kind, id: made.id, podSandboxId, origin: asked.origin };
  }

  /** Answers under way whose delivery is not known, replays being checked included. While there is one, it is not removed. */
  get claims(): number {
    return this.#claims;
  }

  claim(count = 1): void {
    this.#claims += count;
  }

  release(): void {
    this.#claims -= 1;
    if (this.#claims === 0) this.#markQuiet();
  }

  /** Resolves when nobody claims it. Asked for once: who removes it waits for that. */
  quiet(): Promise<void> {
    return new Promise((resolve) => {
      this.#markQuiet = resolve;
      if (this.#claims === 0) resolve();
    });
  }

  markGone(): void {
    this.cancelHoldTimer();
    this.endPreparation();
    this.#markGone();
  }
}
