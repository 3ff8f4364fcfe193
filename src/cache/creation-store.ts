/**
 * Every creation Holdfast knows of. A request joins one, is given one, or begins one; creation-life.ts says which. Knows bytes
 * and time; the runtime is reached through `CreationRuntime` alone.
 */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.js';
import type { ContainerItem } from '../cri/container-items.js';
import type { Admission } from '../throttle/admission.js';
import type { AdmissionView } from '../throttle/admission-view.js';
import { type Asked, Creation, type CreationRequest } from './creation.js';
import type { CreationIndex } from './creation-index.js';
import { atRequest, type RequestRelation } from './creation-life.js';
import { CreationLives, type CreationLivesOptions, type CreationObserver } from './creation-lives.js';
import type { Condition, CreationRuntime, Made } from './creation-runtime.js';
import type { CreationView, FailuresView, ForgetResult, Forgotten, GivenUpRemoval } from './creation-view.js';
import { type again, DroppedError, failureStep, GivenUpError, untilAborted, WaiterLeftError } from './detached-call.js';
import { DetachedCalls, type Job } from './detached-calls.js';
import { FailureBackoff } from './failure-backoff.js';
import { driftOf, type Fingerprint, hasDrifted, type Identity } from './fingerprint.js';
import { NameReservations } from './name-reservations.js';
import { Oldest, type OldestMs } from './oldest.js';
import { type CreationGuard, Preparation } from './preparation.js';
import type { Progress } from './progress.js';
import { Reaper } from './reaper.js';
import { StartedMeanwhileError } from './second-copy-guard.js';

export interface CreationStoreOptions extends CreationLivesOptions {
  readonly creationTimeoutMs: number;
  /** After how long a name that is taken counts as a wedge, in ms. */
  readonly wedgeAfterMs: number;
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

/** Looks in a row that could not tell how something is, after which the runtime is left to judge the next request. */
const failedChecksAtMost = 3;

/** Times in a row that a container cannot be given the resources that are asked for, after which one is made that has them. */
const failedUpdatesAtMost = 3;

export class CreationStore<Origin, Answer> {
  readonly #runtime: CreationRuntime<Origin, Answer>;
  readonly #admission: Admission;
  readonly #clock: Clock;
  readonly #options: CreationStoreOptions;
  readonly #lives: CreationLives<Origin, Answer>;
  readonly #index: CreationIndex<Origin, Answer>;
  readonly #calls: DetachedCalls<Made<Answer>>;
  readonly #failures: FailureBackoff;
  /** How often pod sandboxes were given up that have not been made since, by identity without the attempt. */
  readonly #givenUp: LRUCache<string, number>;
  readonly #preparation: Preparation<Origin, Answer>;
  readonly #reservations: NameReservations<Origin, Answer>;

  constructor(
    runtime: CreationRuntime<Origin, Answer>,
    guard: CreationGuard,
    admission: Admission,
    clock: Clock,
    observer: CreationObserver<Origin, Answer>,
    options: CreationStoreOptions,
  ) {
    this.#runtime = runtime;
    this.#admission = admission;
    this.#clock = clock;
    this.#options = options;
    const reaper = new Reaper(runtime, clock);
    this.#lives = new CreationLives(reaper, clock, observer, options);
    this.#index = this.#lives.index;
    this.#calls = new DetachedCalls(admission, clock, options);
    this.#failures = new FailureBackoff(clock, options.maxEntries);
    this.#givenUp = new LRUCache({ max: options.maxEntries });
    this.#preparation = new Preparation(clock, guard, this.#index, this.#failures, (creation, detail) =>
      this.#lives.step('backing off', creation, detail),
    );
    this.#reservations = new NameReservations(runtime, reaper, clock, options.wedgeAfterMs, (...step) =>
      this.#lives.step(...step),
    );
  }

  /** Whether any container is hidden at all: if not, no response needs a look. */
  get hiding(): boolean {
    return this.#lives.hiddenCount > 0;
  }

  /** Whether a container is hidden or may become so any moment: what a report shows is to be looked at when it comes. */
  get mayHide(): boolean {
    return this.#lives.mayHide;
  }

  /** Creations by what became of them, for gauges. */
  get sizes(): { live: number; answered: number; hidden: number; backingOff: number; wedged: number } {
    return {
      ...this.#index.sizes,
      hidden: this.#lives.hiddenCount,
      backingOff: this.#preparation.paused,
      wedged: this.#reservations.wedged,
    };
  }

  /** For each kind and stage the age of what has been in it for longest, in ms: for gauges. */
  get oldest(): Readonly<Record<'podSandbox' | 'container', OldestMs>> {
    const nowMs = this.#clock.now();
    const oldest = { podSandbox: new Oldest(nowMs), container: new Oldest(nowMs) };
    for (const creation of this.#index.all()) {
      const { kind, state, heldSinceMs } = creation;
      if (state === 'held') oldest[kind].add('held', heldSinceMs);
      else oldest[kind].addProgress(this.#progress(creation, nowMs));
    }
    return { podSandbox: oldest.podSandbox.ages, container: oldest.container.ages };
  }

  /**
   * Joins, replays or begins the creation a request asks for.
   *
   * @param signal The waiter's deadline or cancel; firing ends its wait, never the creation.
   * @param attached Told which creation it is about, whenever that is another one.
   * @throws {WaiterLeftError} `signal` fired first; `progress` says what it waited for.
   * @throws What the runtime answered, CallTimeoutError, DroppedError, or what the guard refused with.
   */
  async request(
    request: CreationRequest<Origin>,
    signal: AbortSignal,
    attached: (creation: Creation<Origin, Answer>) => void = () => {},
  ): Promise<Grant<Origin, Answer>> {
    const begin = () => this.#wait(this.#begin(request, attached), 'started', request, signal);
    for (;;) {
      if (signal.aborted) throw new WaiterLeftError();
      const found = this.#index.find(request.fingerprint);
      if (found === undefined) return begin();
      const { outcome, becomes } = atRequest(this.#relation(found, request.fingerprint), found.state);
      if (outcome === 'new') {
        if (becomes !== undefined) this.#lives.become(found, becomes, 'superseded');
        // As the table has it; what is found is nobody's yet, or this very request's.
        else return begin();
        continue;
      }
      attached(found);
      this.#noteDrift(found, request.fingerprint);
      if (outcome === 'join') {
        if (found.state === 'queued') this.#takeOver(found, request);
        else this.#index.answerTo(found, request.fingerprint.key);
        return this.#wait(found, 'joined', request, signal);
      }
      const grant = await this.#replay(found, request, signal);
      if (grant !== undefined) return grant;
    }
  }

  /** What a request with this fingerprint would find. */
  found(fingerprint: Fingerprint): Creation<Origin, Answer> | undefined {
    return this.#index.find(fingerprint);
  }

  /**
   * Something went wrong in Holdfast with a request for this creation: the next request begins anew. What runs upstream goes on, for
   * it cannot be done twice and may have other waiters; what has not begun ends with `error`.
   */
  abandon(creation: Creation<Origin, Answer>, error: unknown): void {
    if (creation.call.phase === 'running') return;
    creation.call.fail(error);
    this.#lives.forget(creation, error);
  }

  /** What a request with this fingerprint waits for, or would. */
  progressOf(fingerprint: Fingerprint): Progress | undefined {
    const found = this.#index.find(fingerprint);
    return found && this.#progress(found, this.#clock.now());
  }

  /** Every creation, as it is now. For people: it costs what there is. */
  views(): readonly CreationView[] {
    const admission = this.#admission.view();
    return [...this.#index.all()].map((creation) => this.#view(creation, admission));
  }

  /** What has failed and not succeeded since. */
  get failing(): readonly FailuresView[] {
    return this.#failures.all;
  }

  /** What could not be removed and was left to the kubelet. */
  get givenUpRemovals(): readonly GivenUpRemoval[] {
    return this.#lives.givenUpRemovals.all;
  }

  /**
   * Forgets what is remembered of these, so that the next request asks the runtime afresh. What is under way, and what keeps a name or a
   * second copy in order, stays: nothing is lost that somebody waits for, and nothing is made twice.
   */
  forget(matches: (identity: Identity) => boolean): readonly Forgotten[] {
    const failing = this.#failures.forget(matches);
    this.#lives.givenUpRemovals.forget(matches);
    const creations = [...this.#index.all()].filter(({ fingerprint }) => matches(fingerprint.identity));
    const forgotten = creations.map((creation): Forgotten => {
      const { state, fingerprint } = creation;
      return { identity: fingerprint.identity, state, ...this.#forget(creation) };
    });
    const alone = failing.filter((identity) => !forgotten.some((other) => areOfOneFamily(other.identity, identity)));
    const dropped = alone.map((identity): Forgotten => ({ identity, state: 'failing', did: 'memory dropped' }));
    return [...forgotten, ...dropped];
  }

  /** Somebody uses this id (or a unique prefix of it), so it is somebody's. */
  used(kind: 'podSandbox' | 'container', id: string): void {
    const creation = this.#index.named(kind, id);
    if (creation !== undefined) this.#lives.on(creation, 'id used');
  }

  /** Somebody looks at the pod sandbox with this id (or a unique prefix). That says something only of one whose id was answered. */
  lookedAt(id: string): void {
    const creation = this.#index.named('podSandbox', id);
    if (creation?.state === 'answered' || creation?.state === 'delivered') this.#lives.on(creation, 'id used');
  }

  /** What this id (or a unique prefix of it) names has been stopped or removed. A pod sandbox takes its containers along. */
  ended(kind: 'podSandbox' | 'container', id: string): void {
    const creation = this.#index.named(kind, id);
    if (creation !== undefined) this.#lives.on(creation, 'id ended');
    this.#lives.givenUpRemovals.ended(id);
    if (kind !== 'podSandbox') return;
    for (const inside of this.#index.inside(id)) this.#lives.on(inside, 'pod sandbox ended');
  }

  /** What an id or a unique prefix of it names. */
  named(kind: 'podSandbox' | 'container', id: string): Creation<Origin, Answer> | undefined {
    return this.#index.named(kind, id);
  }

  /** See {@link CreationLives.hiddenOwner}. */
  hiddenOwner(item: ContainerItem): Creation<Origin, Answer> | undefined {
    return this.#lives.hiddenOwner(item);
  }

  /** See {@link CreationLives.hiddenView}. */
  hiddenView(): (item: ContainerItem) => Creation<Origin, Answer> | undefined {
    return this.#lives.hiddenView();
  }

  /** See {@link HiddenContainers.includesUnknownIds}. */
  get hidesUnknownIds(): boolean {
    return this.#lives.hidesUnknownIds;
  }

  /** See {@link CreationLives.removeHeld}. */
  removeHeld(): Promise<void> {
    return this.#lives.removeHeld();
  }

  /** Stops every timer and cuts short what runs upstream. */
  close(): void {
    this.#lives.close();
    this.#calls.close();
  }

  #relation(creation: Creation<Origin, Answer>, asked: Fingerprint): RequestRelation {
    const { onDrift, onAttemptBump } = this.#options;
    const known = creation.fingerprint;
    const isOther =
      (onDrift === 'recreate' && hasDrifted(known, asked)) ||
      (known.kind === 'container' &&
        asked.kind === 'container' &&
        (known.podSandboxId !== asked.podSandboxId || known.specHash !== asked.specHash));
    if (isOther) return 'other spec hash or pod sandbox';
    if (creation.keys.includes(asked.key)) return 'same request';
    if (asked.kind === 'podSandbox') {
      const isHigher = asked.identity.attempt > known.identity.attempt;
      return isHigher ? 'higher attempt of a pod sandbox' : 'lower attempt of a pod sandbox';
    }
    return onAttemptBump === 'recreate' ? 'other spec hash or pod sandbox' : 'another attempt of a container';
  }

  #begin(
    { bytes, ...asked }: CreationRequest<Origin>,
    attached: (creation: Creation<Origin, Answer>) => void,
  ): Creation<Origin, Answer> {
    const call = this.#calls.open(bytes, {
      succeeded: (made, waiters) => this.#succeeded(creation, made, waiters),
      failed: (error, waiters) => this.#failed(creation, error, waiters),
      waiterLeft: (waiters) => {
        this.#lives.step('waiter left', creation, { waiters });
        if (waiters === 0) this.#lives.hide(creation);
      },
      faulted: (error) => {
        // First: what is queued would end as if its pod sandbox had ended.
        call.fail(error);
        this.#lives.forget(creation, error);
      },
    });
    const creation: Creation<Origin, Answer> = new Creation(asked, call);
    attached(creation);
    this.#index.add(creation);
    this.#lives.step('queued', creation, { behind: this.#admission.queued });
    void this.#queue(creation);
    return creation;
  }

  /** Gives it its place in the queue once nothing else is in its way. */
  async #queue(creation: Creation<Origin, Answer>): Promise<void> {
    const { call } = creation;
    try {
      if (await this.#preparation.prepare(creation)) this.#calls.queue(call, this.#job(creation));
    } catch (error) {
      call.fail(error);
    }
  }

  #job(creation: Creation<Origin, Answer>): Job<Made<Answer>> {
    return {
      kind: creation.kind,
      handler: handlerOf(creation.asked),
      urgency: () => creation.asked.urgency ?? {},
      mayBegin: () => {
        if (this.#preparation.isClear(creation)) return true;
        void this.#queue(creation);
        return false;
      },
      begun: () => {
        this.#lives.on(creation, 'begun');
        this.#lives.step('started', creation);
      },
      perform: (request, signal) => this.#perform(creation, request, signal),
      again: () => this.#again(creation),
      hangs: (overdue) => this.#lives.step('hangs', creation, { ...overdue }),
      ...this.#givingUp(creation),
    };
  }

  /**
   * A pod sandbox is given up where it takes far too long. A container is not: runtimes finish what they make of it however the call
   * ends, and meanwhile have its name.
   */
  #givingUp(creation: Creation<Origin, Answer>): Pick<Job<Made<Answer>>, 'isQuick' | 'timesGivenUp' | 'givenUp'> {
    const { fingerprint } = creation.asked;
    if (fingerprint.kind !== 'podSandbox') return {};
    const { family, usesHostNetwork: isQuick } = fingerprint;
    const timesGivenUp = this.#givenUp.get(family) ?? 0;
    return {
      isQuick,
      timesGivenUp,
      givenUp: (overdue) => {
        this.#givenUp.set(family, timesGivenUp + 1);
        this.#lives.step('given up', creation, { ...overdue, times: timesGivenUp + 1 });
      },
    };
  }

  #again(creation: Creation<Origin, Answer>): void {
    this.#lives.on(creation, 'to be made anew');
    if (creation.state === 'queued') void this.#queue(creation);
    // What no request gets any more is not tried again.
    else creation.call.fail(new DroppedError('nobody can be given it any more'));
  }

  async #perform(
    creation: Creation<Origin, Answer>,
    request: Buffer,
    signal: AbortSignal,
  ): Promise<Made<Answer> | typeof again> {
    const { fingerprint, origin } = creation.asked;
    creation.resources = resourcesOf(fingerprint);
    try {
      const made = await this.#runtime.create(request, fingerprint, origin, signal);
      this.#failures.succeeded(fingerprint);
      this.#givenUp.delete(fingerprint.family);
      return made;
    } catch (error) {
      const resolved = isGivenUp(signal)
        ? undefined
        : await this.#reservations.resolve(creation, request, error, signal);
      // It has been queued again, or begun anew by now.
      if (isGivenUp(signal)) throw error;
      if (resolved === undefined) {
        this.#failures.failed(fingerprint, error);
        throw error;
      }
      // What was made by another request may have other resources.
      creation.resources = unknownResources;
      return resolved;
    }
  }

  async #wait(
    creation: Creation<Origin, Answer>,
    role: 'started' | 'joined',
    request: CreationRequest<Origin>,
    signal: AbortSignal,
  ): Promise<Grant<Origin, Answer>> {
    const { call } = creation;
    if (role === 'joined') this.#lives.step('waiter joined', creation, { waiters: call.waiters + 1 });
    const made = await this.#orProgress(creation, call.join(signal));
    return this.#grant(creation, role, request, made, signal);
  }

  /** @returns undefined where it is not what was made any more and the request has to begin anew. */
  async #replay(
    creation: Creation<Origin, Answer>,
    request: CreationRequest<Origin>,
    signal: AbortSignal,
  ): Promise<Grant<Origin, Answer> | undefined> {
    const { made, subject, call } = creation;
    if (made === undefined || subject === undefined) return undefined;
    creation.claim();
    let condition: Condition;
    try {
      const looked = untilAborted(this.#runtime.conditionOf(subject, signal), signal);
      condition = await this.#orProgress(creation, looked);
    } catch (error) {
      if (!(error instanceof WaiterLeftError)) this.#checkFailed(creation, error);
      this.#lives.release(creation);
      throw error;
    }
    creation.failedChecks = 0;
    if (condition === 'as made' && creation.state !== 'gone' && creation.state !== 'doomed') {
      call.lastAskedMs = this.#clock.now();
      this.#index.answerTo(creation, request.fingerprint.key);
      this.#lives.step('replayed', creation);
      this.#lives.on(creation, 'answered with waiters');
      return this.#grant(creation, 'replayed', request, made, signal);
    }
    if (condition !== 'as made') {
      this.#lives.step('changed', creation, { condition });
      this.#lives.on(creation, `found ${condition}`);
    }
    this.#lives.release(creation);
    return undefined;
  }

  #checkFailed(creation: Creation<Origin, Answer>, error: unknown): void {
    creation.failedChecks += 1;
    this.#lives.step('cannot be told', creation, { error, times: creation.failedChecks });
    if (creation.failedChecks >= failedChecksAtMost) this.#lives.on(creation, 'cannot be told');
  }

  /** It failed, or took longer than whoever asked could wait. */
  #updateFailed(creation: Creation<Origin, Answer>, error: unknown): void {
    creation.failedUpdates += 1;
    if (creation.failedUpdates < failedUpdatesAtMost) return;
    this.#lives.step('changed', creation, { condition: 'unusable', error });
    this.#lives.on(creation, 'found unusable');
  }

  /** A claimed creation for one waiter. What a kubelet believes to have applied is applied first. */
  async #grant(
    creation: Creation<Origin, Answer>,
    role: Grant<Origin, Answer>['role'],
    { fingerprint, bytes }: CreationRequest<Origin>,
    made: Made<Answer>,
    signal: AbortSignal,
  ): Promise<Grant<Origin, Answer>> {
    let settled = false;
    const settle = (delivered: boolean) => {
      if (settled) return;
      settled = true;
      if (delivered) this.#lives.on(creation, 'delivered');
      this.#lives.release(creation);
    };
    const { subject } = creation;
    const resources = resourcesOf(fingerprint);
    if (subject !== undefined && resources !== '' && resources !== creation.resources) {
      try {
        await this.#orProgress(creation, untilAborted(this.#runtime.updateResources(subject, bytes, signal), signal));
      } catch (error) {
        this.#updateFailed(creation, error);
        settle(false);
        throw error;
      }
      creation.failedUpdates = 0;
      creation.resources = resources;
      this.#lives.step('resources updated', creation);
    }
    return { role, creation, made, settle };
  }

  #succeeded(creation: Creation<Origin, Answer>, made: Made<Answer>, waiters: number): void {
    this.#lives.rename(creation, () => {
      creation.made = made;
    });
    const before = this.#index.made(creation, made.id);
    creation.claim(waiters);
    if (waiters > 0) this.#lives.step('answered', creation, { waiters });
    this.#lives.on(creation, waiters > 0 ? 'answered with waiters' : 'answered with nobody waiting');
    if (before === undefined) return;
    // What has an id twice may be somebody's by either name.
    this.#lives.on(before, 'id used');
    this.#lives.on(creation, 'id used');
  }

  #failed(creation: Creation<Origin, Answer>, error: unknown, waiters: number): void {
    this.#lives.step(failureStep(error), creation, { waiters, error });
    if (waiters === 0 && error instanceof StartedMeanwhileError) error.unheard();
    this.#lives.on(creation, 'failed');
  }

  /** A queued creation is sent as it was last asked for, and waits for what that has to wait for. */
  #takeOver(creation: Creation<Origin, Answer>, { bytes, ...asked }: CreationRequest<Origin>): void {
    const before = creation.asked;
    this.#lives.rename(creation, () => {
      this.#index.withdraw(creation);
      creation.asked = asked;
      creation.seenId = undefined;
      this.#index.add(creation);
    });
    this.#calls.replace(creation.call, bytes);
    const { key, digest } = before.fingerprint;
    if (asked.fingerprint.key === key && asked.fingerprint.digest === digest) return;
    const goesInTheSameLine =
      asked.urgency?.importance === before.urgency?.importance && handlerOf(asked) === handlerOf(before);
    const keepsItsPlace = goesInTheSameLine && this.#calls.isQueued(creation.call);
    if (keepsItsPlace && this.#preparation.isClear(creation)) return;
    this.#calls.withdraw(creation.call);
    this.#reservations.forget(creation);
    void this.#queue(creation);
  }

  #noteDrift(creation: Creation<Origin, Answer>, asked: Fingerprint): void {
    if (!hasDrifted(creation.fingerprint, asked)) return;
    const differs = driftOf(creation.fingerprint.parts, asked.parts);
    this.#lives.step('drift', creation, { differs, askedAttempt: asked.identity.attempt });
  }

  #forget(creation: Creation<Origin, Answer>): ForgetResult {
    const { state, claims, call, obstacle, reservation } = creation;
    if (state === 'running') return { refused: 'running' };
    if (state === 'doomed') return { refused: 'being removed' };
    if (state !== 'queued') {
      if (claims > 0) return { refused: 'being answered' };
      this.#lives.on(creation, 'expired');
      return { did: state === 'held' ? 'removal begun' : 'memory dropped' };
    }
    this.#givenUp.delete(creation.fingerprint.family);
    if (call.waiters === 0) {
      call.fail(new DroppedError('an operator had it forgotten, and nobody waited for it'));
      return { did: 'dropped' };
    }
    if (obstacle?.what === 'removal') return { refused: 'removal in the way' };
    if (obstacle?.what === 'start') return { refused: 'start in the way' };
    if (obstacle === undefined && reservation === undefined) return { refused: 'waited for' };
    this.#reservations.forget(creation);
    if (obstacle !== undefined) void this.#queue(creation);
    return { did: 'tried now' };
  }

  #view(creation: Creation<Origin, Answer>, { places, hungSinceMs }: AdmissionView): CreationView {
    const { fingerprint, state, stateSinceMs, call, made, seenId, reservation } = creation;
    const { begunMs, lastAskedMs, waiters } = call;
    const work = this.#calls.workOf(call);
    return {
      identity: fingerprint.identity,
      state,
      begunMs,
      stateSinceMs,
      lastAskedMs,
      waiters,
      id: made?.id ?? seenId,
      podSandboxId: creation.podSandboxId,
      isHidden: this.#lives.isHidden(creation),
      progress: call.inFlight ? this.#progress(creation, this.#clock.now()) : undefined,
      place: work && places.get(work),
      hungSinceMs: work && hungSinceMs.get(work),
      timesGivenUp: this.#givenUp.peek(fingerprint.family) ?? 0,
      failures: this.#failures.viewOf(fingerprint),
      reservation: reservation && {
        holderId: reservation.holderId,
        sinceMs: reservation.sinceMs,
        tries: reservation.tries,
        isWedged: this.#reservations.isWedged(creation),
        error: reservation.error,
      },
      removalError: creation.removalError,
      heldUntilMs: state === 'held' ? creation.heldSinceMs + this.#options.holdTtlMs : undefined,
    };
  }

  /** @param checkedSinceMs Since when the runtime is asked how it is, where it is made. */
  #progress({ call, obstacle, reservation }: Creation<Origin, Answer>, checkedSinceMs: number): Progress {
    const { begunMs, runningSinceMs } = call;
    if (!call.inFlight) return { at: 'checked', sinceMs: checkedSinceMs };
    const runningMs = runningSinceMs === undefined ? 0 : this.#clock.now() - runningSinceMs;
    if (reservation !== undefined && runningMs < saysReservedWithinMs) {
      const { holderId: id, sinceMs, error } = reservation;
      return { at: 'waiting', sinceMs: begunMs, for: { what: 'name', id, sinceMs, error } };
    }
    if (runningSinceMs !== undefined) return { at: 'running', sinceMs: runningSinceMs };
    if (obstacle !== undefined) return { at: 'waiting', sinceMs: begunMs, for: obstacle };
    return { at: 'queued', sinceMs: begunMs, behind: Math.max(0, this.#admission.queued - 1) };
  }

  /** Whoever leaves is told what it waited for. */
  async #orProgress<Result>(creation: Creation<Origin, Answer>, promise: Promise<Result>): Promise<Result> {
    const sinceMs = this.#clock.now();
    try {
      return await promise;
    } catch (error) {
      if (error instanceof WaiterLeftError) throw new WaiterLeftError(this.#progress(creation, sinceMs));
      throw error;
    }
  }
}

function areOfOneFamily(one: Identity, other: Identity): boolean {
  const parts = new Set([...Object.keys(one), ...Object.keys(other)]) as ReadonlySet<keyof Identity>;
  return [...parts].every((part) => part === 'attempt' || one[part] === other[part]);
}

function isGivenUp({ reason }: AbortSignal): boolean {
  return reason instanceof GivenUpError;
}

function handlerOf<Origin>({ fingerprint }: Asked<Origin>): string | undefined {
  return fingerprint.kind === 'podSandbox' ? fingerprint.runtimeHandler : undefined;
}

/** A runtime says at once that a name is taken: a try that takes longer is at work, in ms. */
const saysReservedWithinMs = 1_000;

/** Resources that no request asks for. */
const unknownResources = '?';

/** '' where it asks for none. */
function resourcesOf(fingerprint: Fingerprint): string {
  return fingerprint.kind === 'container' ? fingerprint.resources : '';
}
