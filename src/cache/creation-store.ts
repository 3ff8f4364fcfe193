/**
 * Every creation Holdfast knows of: queued, running, held, answered. A request joins one, is given one, or begins one; what
 * nobody asks for is reaped. Knows bytes and time; the runtime is reached through `CreationRuntime` alone.
 */
import type { Clock } from '../clock.js';
import type { ContainerItem } from '../cri/container-items.js';
import type { Admission } from '../throttle/admission.js';
import type { Work } from '../throttle/work-queue.js';
import { AbandonedCalls, maxAbandonedBytes } from './abandoned-calls.js';
import { Creation, type CreationRequest, type Made } from './creation.js';
import { CreationIndex } from './creation-index.js';
import { DroppedError, failureStep, WaiterLeftError } from './detached-call.js';
import { FailureBackoff } from './failure-backoff.js';
import { driftOf, type Fingerprint } from './fingerprint.js';
import { HiddenContainers } from './hidden-containers.js';

/** The steps of a creation's life, as logged and counted. */
export type CreationStep =
  | 'backing off'
  | 'queued'
  | 'started'
  | 'waiter joined'
  | 'waiter left'
  | 'answered'
  | 'shown'
  | 'held'
  | 'replayed'
  | 'delivered'
  | 'forgotten'
  | 'changed'
  | 'drift'
  | 'superseded'
  | 'removal failed'
  | 'reaped'
  | 'dropped'
  | 'timed out'
  | 'failed';

export interface CreationRuntime<Origin, Answer> {
  /** Resolves when the creation may be begun; rejects to refuse it, and every waiter is told. */
  beforeCreate(fingerprint: Fingerprint): Promise<void>;
  /** The one upstream call. Rejects with the runtime's error, or where it answered without an id. */
  create(bytes: Buffer, fingerprint: Fingerprint, origin: Origin, signal: AbortSignal): Promise<Made<Answer>>;
  /** Whether it still is as its maker expects: pod sandbox READY; container CREATED and its pod sandbox READY. */
  isAsMade(creation: Creation<Origin, Answer>, signal: AbortSignal): Promise<boolean>;
  /** Resolves once the runtime no longer has it. */
  remove(creation: Creation<Origin, Answer>): Promise<void>;
}

export interface CreationObserver<Origin, Answer> {
  /** @param detail `ageMs` since the creation was first asked for, and more by step. */
  step(step: CreationStep, creation: Creation<Origin, Answer>, detail: Readonly<Record<string, unknown>>): void;
  /** A container that was hidden may now be seen. */
  revealed(creation: Creation<Origin, Answer>): void;
  /** A container that was hidden is no more. */
  vanished(creation: Creation<Origin, Answer>): void;
}

export interface CreationStoreOptions {
  readonly creationTimeoutMs: number;
  readonly holdTtlMs: number;
  readonly replayTtlMs: number;
  readonly maxEntries: number;
  readonly onDrift: 'keep' | 'recreate';
  readonly onAttemptBump: 'join' | 'recreate';
}

/** A result for one waiter. */
export interface Grant<Origin, Answer> {
  readonly role: 'started' | 'joined' | 'replayed';
  readonly creation: Creation<Origin, Answer>;
  readonly made: Made<Answer>;
  /** Must be called once: whether the waiter is known to have got it. Until then the resource is not reaped. */
  settle(delivered: boolean): void;
}

/** First pause after a failed removal, and the longest, in ms. */
const removalBackoffMs = { first: 1_000, longest: 60_000 } as const;

export class CreationStore<Origin, Answer> {
  readonly #runtime: CreationRuntime<Origin, Answer>;
  readonly #admission: Admission;
  readonly #clock: Clock;
  readonly #observer: CreationObserver<Origin, Answer>;
  readonly #options: CreationStoreOptions;
  readonly #index: CreationIndex<Origin, Answer>;
  readonly #hidden = new HiddenContainers<Origin, Answer>();
  /** Containers from their upstream call on until they are delivered or are no more: each may become hidden any moment. */
  readonly #unsettled = new Set<Creation<Origin, Answer>>();
  readonly #abandoned: AbandonedCalls;
  readonly #failures: FailureBackoff;
  readonly #backoffs = new Set<() => void>();
  #backingOff = 0;
  #closed = false;

  constructor(
    runtime: CreationRuntime<Origin, Answer>,
    admission: Admission,
    clock: Clock,
    observer: CreationObserver<Origin, Answer>,
    options: CreationStoreOptions,
  ) {
    this.#runtime = runtime;
    this.#admission = admission;
    this.#clock = clock;
    this.#observer = observer;
    this.#options = options;
    this.#index = new CreationIndex(clock, options);
    this.#abandoned = new AbandonedCalls(options.maxEntries, maxAbandonedBytes);
    this.#failures = new FailureBackoff(clock, options.maxEntries);
  }

  /** Whether any container is hidden at all: if not, no response needs a look. */
  get hiding(): boolean {
    return this.#hidden.size > 0;
  }

  /** Whether a container is hidden or may become so any moment: what a report shows is to be looked at when it comes. */
  get mayHide(): boolean {
    return this.hiding || this.#unsettled.size > 0;
  }

  /** Creations by what became of them, for gauges. */
  get sizes(): { live: number; answered: number; hidden: number; backingOff: number } {
    return { ...this.#index.sizes, hidden: this.#hidden.size, backingOff: this.#backingOff };
  }

  /**
   * Joins, replays or begins the creation a request asks for.
   *
   * @param signal The waiter's deadline or cancel; firing ends its wait, never the creation.
   * @throws {WaiterLeftError} `signal` fired first.
   * @throws What the runtime answered, CallTimeoutError, or what `beforeCreate` refused with.
   */
  async request(request: CreationRequest<Origin>, signal: AbortSignal): Promise<Grant<Origin, Answer>> {
    for (;;) {
      if (signal.aborted) throw new WaiterLeftError();
      const found = this.#index.find(request.fingerprint);
      if (found === undefined) return this.#wait(this.#begin(request), 'started', signal);
      if (found.call.phase === 'queued') {
        this.#noteDrift(found, request.fingerprint);
        this.#replaceQueued(found, request);
        return this.#wait(found, 'joined', signal);
      }
      if (!this.#mayUse(found, request.fingerprint)) {
        if (found.delivered) this.#forget(found, 'superseded');
        else this.#doom(found, 'superseded');
        continue;
      }
      this.#index.answerTo(found, request.fingerprint.key);
      if (found.call.inFlight) return this.#wait(found, 'joined', signal);
      const grant = await this.#replay(found, signal);
      if (grant !== undefined) return grant;
    }
  }

  /**
   * The kubelet used this id (or a unique prefix of it), so it has it. Not where the id was never answered: a pod sandbox that is
   * simply there is looked at by whoever lists it, while the one that asked for it may be about to ask again.
   */
  used(kind: 'podSandbox' | 'container', id: string): void {
    const creation = this.named(kind, id);
    if (creation?.answered) this.#forget(creation, 'used');
  }

  /** A container is asked for in this pod sandbox: whoever asked for that has it, answered or adopted. */
  inhabited(podSandboxId: string): void {
    const creation = this.named('podSandbox', podSandboxId);
    if (creation !== undefined) this.#forget(creation, 'used');
  }

  /** The kubelet stops or removes this id (or a unique prefix of it). A pod sandbox takes its containers along. */
  ended(kind: 'podSandbox' | 'container', id: string): void {
    const creation = this.named(kind, id);
    if (creation !== undefined) this.#forget(creation, 'ended');
    if (kind === 'podSandbox') this.#orphan(id);
  }

  /** What an id or a unique prefix of it names. */
  named(kind: 'podSandbox' | 'container', id: string): Creation<Origin, Answer> | undefined {
    return this.#index.named(kind, id);
  }

  /** See {@link HiddenContainers.view}. */
  hiddenView(): (item: ContainerItem) => Creation<Origin, Answer> | undefined {
    return this.#hidden.view();
  }

  /** See {@link HiddenContainers.includesUnknownIds}. */
  get hidesUnknownIds(): boolean {
    return this.#hidden.includesUnknownIds;
  }

  /** Stops every timer and cuts short what runs upstream. */
  close(): void {
    this.#closed = true;
    for (const creation of this.#index.all()) {
      creation.cancelHoldTimer();
      creation.call.shutDown();
    }
    for (const cancel of this.#backoffs) cancel();
    this.#backoffs.clear();
  }

  #orphan(podSandboxId: string): void {
    for (const creation of this.#index.inside(podSandboxId)) {
      creation.orphaned = true;
      if (creation.delivered) this.#forget(creation, 'its pod sandbox ended');
      else if (creation.undelivered && creation.claims === 0) this.#doom(creation, 'its pod sandbox ended');
    }
  }

  #step(step: CreationStep, creation: Creation<Origin, Answer>, detail: Readonly<Record<string, unknown>> = {}): void {
    this.#observer.step(step, creation, { ageMs: this.#clock.now() - creation.call.begunMs, ...detail });
  }

  #begin(request: CreationRequest<Origin>): Creation<Origin, Answer> {
    const { fingerprint } = request;
    for (const creation of this.#index.family(fingerprint)) {
      const isLowerPodSandbox =
        creation.kind === 'podSandbox' && creation.fingerprint.identity.attempt < fingerprint.identity.attempt;
      if (isLowerPodSandbox && !creation.doomed) this.#doom(creation, 'superseded');
    }
    const predecessors = this.#index.family(fingerprint).filter((creation) => creation.doomed);
    const creation: Creation<Origin, Answer> = new Creation(request, this.#clock, {
      succeeded: (made, waiters) => this.#succeeded(creation, made, waiters),
      failed: (error, waiters) => this.#failed(creation, error, waiters),
      waiterLeft: (waiters) => {
        this.#step('waiter left', creation, { waiters });
        if (waiters > 0) return;
        if (creation.call.phase === 'running') this.#hide(creation);
        else this.#abandoned.add(creation.call, creation.bytes?.length ?? 0);
      },
    });
    this.#index.add(creation);
    this.#step('queued', creation, { behind: this.#admission.queued });
    void this.#carryOut(creation, predecessors);
    return creation;
  }

  async #carryOut(
    creation: Creation<Origin, Answer>,
    predecessors: readonly Creation<Origin, Answer>[],
  ): Promise<void> {
    const { call, fingerprint } = creation;
    const work: Work = {
      kind: creation.kind,
      handler: fingerprint.kind === 'podSandbox' ? fingerprint.runtimeHandler : undefined,
      ...creation.urgency,
      run: () => this.#make(creation),
    };
    void call.ended.then(() => {
      creation.endBackOff();
      this.#admission.withdraw(work);
    });
    try {
      await Promise.all(predecessors.map((predecessor) => predecessor.gone));
      await this.#backOff(creation);
      await this.#runtime.beforeCreate(creation.fingerprint);
      if (call.inFlight) await this.#admission.admit(work);
    } catch (error) {
      call.fail(error);
    }
  }

  /** The one upstream call. @returns Whether it succeeded. */
  async #make(creation: Creation<Origin, Answer>): Promise<boolean> {
    const { call, bytes, fingerprint, origin } = creation;
    this.#abandoned.delete(call);
    if (this.#closed || call.unaskedFor(this.#options.holdTtlMs)) call.fail(new DroppedError());
    if (bytes === undefined || !call.inFlight) return false;
    const running = call.run(this.#options.creationTimeoutMs, (signal) =>
      this.#runtime.create(bytes, fingerprint, origin, signal),
    );
    this.#step('started', creation);
    if (creation.kind === 'container') this.#unsettled.add(creation);
    if (call.waiters === 0) this.#hide(creation);
    await running;
    const succeeded = call.result !== undefined;
    if (succeeded) this.#failures.succeeded(fingerprint);
    else this.#failures.failed(fingerprint);
    return succeeded;
  }

  /** Waits where the same request has failed too often; a changed one or the end of the creation ends the wait. */
  async #backOff(creation: Creation<Origin, Answer>): Promise<void> {
    const { failures, pauseMs } = this.#failures.of(creation.fingerprint);
    if (pauseMs === 0 || !creation.call.inFlight) return;
    this.#step('backing off', creation, { failures, pauseMs });
    this.#backingOff += 1;
    await this.#pause(pauseMs, (end) => {
      creation.endBackOff = end;
    });
    this.#backingOff -= 1;
  }

  async #wait(
    creation: Creation<Origin, Answer>,
    role: 'started' | 'joined',
    signal: AbortSignal,
  ): Promise<Grant<Origin, Answer>> {
    this.#abandoned.delete(creation.call);
    if (role === 'joined') this.#step('waiter joined', creation, { waiters: creation.call.waiters + 1 });
    return this.#grant(creation, role, await creation.call.join(signal));
  }

  /** @returns undefined where it is not what was made any more and the request has to begin anew. */
  async #replay(creation: Creation<Origin, Answer>, signal: AbortSignal): Promise<Grant<Origin, Answer> | undefined> {
    const { made } = creation;
    if (made === undefined) return undefined;
    creation.cancelHoldTimer();
    creation.call.lastAskedMs = this.#clock.now();
    creation.claim();
    let asMade: boolean;
    try {
      asMade = await untilAborted(this.#runtime.isAsMade(creation, signal), signal);
    } catch (error) {
      this.#settle(creation, false);
      throw error;
    }
    if (asMade && !creation.forgotten && !creation.doomed) {
      this.#step('replayed', creation);
      creation.answered = true;
      return this.#grant(creation, 'replayed', made);
    }
    if (!asMade && !creation.forgotten && !creation.doomed) {
      this.#step('changed', creation);
      if (creation.kind === 'container' && !creation.delivered) this.#doom(creation, 'superseded');
      else this.#forget(creation, 'changed behind');
    }
    this.#settle(creation, false);
    return undefined;
  }

  #grant(
    creation: Creation<Origin, Answer>,
    role: Grant<Origin, Answer>['role'],
    made: Made<Answer>,
  ): Grant<Origin, Answer> {
    let settled = false;
    return {
      role,
      creation,
      made,
      settle: (delivered) => {
        if (settled) return;
        settled = true;
        this.#settle(creation, delivered);
      },
    };
  }

  #settle(creation: Creation<Origin, Answer>, delivered: boolean): void {
    if (delivered) this.#deliver(creation);
    creation.release();
    if (!creation.undelivered || creation.claims > 0) return;
    if (creation.doomed) this.#hide(creation);
    else this.#hold(creation);
  }

  #succeeded(creation: Creation<Origin, Answer>, made: Made<Answer>, waiters: number): void {
    creation.made = made;
    creation.bytes = undefined;
    this.#index.made(creation, made.id);
    creation.claim(waiters);
    creation.answered = waiters > 0;
    if (waiters > 0) this.#step('answered', creation, { waiters });
    else if (!creation.doomed) this.#hold(creation);
  }

  #failed(creation: Creation<Origin, Answer>, error: unknown, waiters: number): void {
    this.#step(failureStep(error), creation, { waiters, error });
    creation.bytes = undefined;
    this.#abandoned.delete(creation.call);
    this.#index.remove(creation);
    this.#vanish(creation);
  }

  /** Nobody waits for it: a pod sandbox is simply there, a container is kept out of sight until somebody asks. */
  #hold(creation: Creation<Origin, Answer>): void {
    if (creation.kind === 'podSandbox') {
      this.#step('shown', creation);
      return;
    }
    this.#hide(creation);
    if (creation.orphaned) {
      this.#doom(creation, 'its pod sandbox ended');
      return;
    }
    this.#step('held', creation);
    creation.cancelHoldTimer();
    if (this.#closed) return;
    creation.cancelHoldTimer = this.#clock.after(this.#options.holdTtlMs, () => {
      if (creation.undelivered && creation.claims === 0) this.#doom(creation, 'nobody asked for it');
    });
  }

  #deliver(creation: Creation<Origin, Answer>): void {
    if (creation.delivered || creation.forgotten) return;
    creation.delivered = true;
    creation.cancelHoldTimer();
    this.#step('delivered', creation);
    this.#index.delivered(creation);
    this.#reveal(creation);
  }

  #forget(creation: Creation<Origin, Answer>, why: string): void {
    creation.forgotten = true;
    this.#step('forgotten', creation, { why });
    this.#index.remove(creation);
    this.#reveal(creation);
    creation.markGone();
  }

  /** Takes it out of every request's reach and removes it as soon as it has ended and nobody claims it. */
  #doom(creation: Creation<Origin, Answer>, why: string): void {
    if (creation.doomed) return;
    creation.doomed = true;
    creation.cancelHoldTimer();
    this.#index.doom(creation);
    if (why === 'superseded') this.#step('superseded', creation);
    void this.#removeWhenQuiet(creation, why);
  }

  async #removeWhenQuiet(creation: Creation<Origin, Answer>, why: string): Promise<void> {
    await creation.call.ended;
    await creation.quiet();
    for (let pauseMs: number = removalBackoffMs.first; !this.#closed; ) {
      if (creation.made === undefined || creation.delivered || creation.forgotten) break;
      try {
        await this.#runtime.remove(creation);
        this.#step('reaped', creation, { why, heldMs: this.#clock.now() - creation.call.lastAskedMs });
        break;
      } catch (error) {
        this.#step('removal failed', creation, { error, nextTryMs: pauseMs });
      }
      await this.#pause(pauseMs);
      pauseMs = Math.min(2 * pauseMs, removalBackoffMs.longest);
    }
    this.#index.remove(creation);
    this.#vanish(creation);
  }

  /** @param handOut Gets what ends the pause early. */
  #pause(ms: number, handOut?: (end: () => void) => void): Promise<void> {
    return new Promise((resolve) => {
      if (this.#closed) {
        resolve();
        return;
      }
      const end = () => {
        this.#backoffs.delete(stop);
        resolve();
      };
      const cancel = this.#clock.after(ms, end);
      const stop = () => {
        cancel();
        end();
      };
      this.#backoffs.add(stop);
      handOut?.(stop);
    });
  }

  #mayUse(creation: Creation<Origin, Answer>, asked: Fingerprint): boolean {
    const { fingerprint } = creation;
    const drifted = this.#noteDrift(creation, asked);
    if (drifted && this.#options.onDrift === 'recreate') return false;
    const bumped = fingerprint.identity.attempt !== asked.identity.attempt;
    if (bumped && this.#options.onAttemptBump === 'recreate') return false;
    if (fingerprint.kind !== 'container' || asked.kind !== 'container') return true;
    return fingerprint.podSandboxId === asked.podSandboxId && fingerprint.specHash === asked.specHash;
  }

  #noteDrift(creation: Creation<Origin, Answer>, asked: Fingerprint): boolean {
    if (creation.fingerprint.digest === asked.digest) return false;
    const differs = driftOf(creation.fingerprint.parts, asked.parts);
    this.#step('drift', creation, { differs, askedAttempt: asked.identity.attempt });
    return true;
  }

  /** A queued creation is sent as it was last asked for. */
  #replaceQueued(creation: Creation<Origin, Answer>, request: CreationRequest<Origin>): void {
    if (request.fingerprint.digest !== creation.fingerprint.digest) creation.endBackOff();
    this.#index.remove(creation);
    creation.fingerprint = request.fingerprint;
    creation.bytes = request.bytes;
    creation.origin = request.origin;
    this.#index.add(creation);
  }

  #hide(creation: Creation<Origin, Answer>): void {
    if (creation.kind !== 'container' || creation.delivered || creation.forgotten) return;
    creation.hidden = true;
    this.#hidden.add(creation);
  }

  #reveal(creation: Creation<Origin, Answer>): void {
    this.#unsettled.delete(creation);
    if (!creation.hidden) return;
    creation.hidden = false;
    this.#hidden.delete(creation);
    this.#observer.revealed(creation);
  }

  #vanish(creation: Creation<Origin, Answer>): void {
    this.#unsettled.delete(creation);
    creation.markGone();
    if (!creation.hidden) return;
    creation.hidden = false;
    this.#hidden.delete(creation);
    this.#observer.vanished(creation);
  }
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(new WaiterLeftError());
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
