/** One pod sandbox or container being made, or made and not yet in the kubelet's hands. */
import type { Clock } from '../clock.js';
import type { Urgency } from '../throttle/work-queue.js';
import { DetachedCall, type DetachedCallEvents } from './detached-call.js';
import type { Fingerprint } from './fingerprint.js';

/** `Origin` says how the caller wants it sent (API version, metadata) and means nothing to the cache. */
export interface CreationRequest<Origin> {
  readonly fingerprint: Fingerprint;
  /** The downstream's own bytes: what goes upstream. */
  readonly bytes: Buffer;
  readonly origin: Origin;
  readonly urgency?: Urgency;
}

/** What the runtime answered: the id it gave, never empty, and its whole answer. */
export interface Made<Answer> {
  readonly id: string;
  readonly answer: Answer;
}

export class Creation<Origin, Answer> {
  readonly call: DetachedCall<Made<Answer>>;
  fingerprint: Fingerprint;
  origin: Origin;
  /** Of whoever asked first. */
  readonly urgency: Urgency;
  /** Released once the upstream call has ended. */
  bytes: Buffer | undefined;
  made: Made<Answer> | undefined;
  /** Keys of the fingerprints it answers to: its own, and those of higher attempts that were given it. */
  readonly keys = new Set<string>();
  /** The id under which the runtime already shows it, where it was seen before the runtime answered. */
  seenId: string | undefined;
  /** Its id was given to somebody, whether or not it arrived. */
  answered = false;
  /** Known to be in the kubelet's hands. */
  delivered = false;
  /** The kubelet has used its id, or ended it: nothing is left to do here. */
  forgotten = false;
  /** To be removed as soon as nobody claims it; never replayed. */
  doomed = false;
  /** Its pod sandbox was stopped or removed: worth nothing to a retry. */
  orphaned = false;
  hidden = false;
  /** Settles when it has failed, was removed, or has got an owner: then its name is no longer in Holdfast's way. */
  readonly gone: Promise<void>;
  cancelHoldTimer: () => void = () => {};
  /** Ends its pause, where it has failed too often and is to wait. */
  endBackOff: () => void = () => {};
  #claims = 0;
  #markGone: () => void = () => {};
  #whenQuiet: (() => void)[] = [];

  constructor(request: CreationRequest<Origin>, clock: Clock, events: DetachedCallEvents<Made<Answer>>) {
    this.fingerprint = request.fingerprint;
    this.origin = request.origin;
    this.bytes = request.bytes;
    this.urgency = request.urgency ?? {};
    this.call = new DetachedCall(clock, events);
    this.gone = new Promise((resolve) => {
      this.#markGone = resolve;
    });
  }

  get kind(): 'podSandbox' | 'container' {
    return this.fingerprint.identity.kind;
  }

  /** The pod sandbox a container belongs to; '' for a pod sandbox. */
  get podSandboxId(): string {
    return this.fingerprint.kind === 'container' ? this.fingerprint.podSandboxId : '';
  }

  /** Made, and not known to have reached anybody. */
  get undelivered(): boolean {
    return this.made !== undefined && !this.delivered && !this.forgotten;
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
    if (this.#claims > 0) return;
    for (const resolve of this.#whenQuiet.splice(0)) resolve();
  }

  /** Resolves when nobody claims it. */
  quiet(): Promise<void> {
    if (this.#claims === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenQuiet.push(resolve));
  }

  markGone(): void {
    this.cancelHoldTimer();
    this.#markGone();
  }
}
