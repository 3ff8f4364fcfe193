/**
 * Every creation Holdfast knows of. A request joins one, is given one, or begins one; creation-life.ts says which. Here its parts are
 * put together: creation-work.ts carries creations out, creation-handover.ts gives what is made to who asked, creation-lives.ts changes
 * states, creation-census.ts tells of it all. Knows bytes and time; the runtime is reached through `CreationRuntime` alone.
 */
import type { Clock } from '../clock.js';
import type { ContainerItem } from '../cri/container-items.js';
import type { Admission } from '../throttle/admission.js';
import type { Creation, CreationRequest } from './creation.js';
import { CreationCensus } from './creation-census.js';
import { CreationHandover, type Grant } from './creation-handover.js';
import type { CreationIndex } from './creation-index.js';
import { atRequest } from './creation-life.js';
import { CreationLives, type CreationLivesOptions, type CreationObserver } from './creation-lives.js';
import { CreationProgress } from './creation-progress.js';
import type { CreationRuntime, Made } from './creation-runtime.js';
import { CreationWork } from './creation-work.js';
import { WaiterLeftError } from './detached-call.js';
import { DetachedCalls } from './detached-calls.js';
import { FailureBackoff } from './failure-backoff.js';
import { driftOf, type Fingerprint, hasDrifted, type Identity } from './fingerprint.js';
import { ForgetByHand, type Forgotten } from './forget-by-hand.js';
import { NameReservations } from './name-reservations.js';
import { type CreationGuard, Preparation } from './preparation.js';
import { Reaper } from './reaper.js';
import { type RelationOptions, relationOf } from './request-relation.js';
import { TimesGivenUp } from './times-given-up.js';

export interface CreationStoreOptions extends CreationLivesOptions, RelationOptions {
  readonly creationTimeoutMs: number;
  /** After how long a name that is taken counts as a wedge, in ms. */
  readonly wedgeAfterMs: number;
}

export class CreationStore<Origin, Answer> {
  /** What is told of creations. */
  readonly census: CreationCensus<Origin, Answer>;
  readonly #options: RelationOptions;
  readonly #lives: CreationLives<Origin, Answer>;
  readonly #index: CreationIndex<Origin, Answer>;
  readonly #calls: DetachedCalls<Made<Answer>>;
  readonly #work: CreationWork<Origin, Answer>;
  readonly #handover: CreationHandover<Origin, Answer>;
  readonly #byHand: ForgetByHand<Origin, Answer>;

  constructor(
    runtime: CreationRuntime<Origin, Answer>,
    guard: CreationGuard,
    admission: Admission,
    clock: Clock,
    observer: CreationObserver<Origin, Answer>,
    options: CreationStoreOptions,
  ) {
    const reaper = new Reaper(runtime, clock);
    const lives = new CreationLives(reaper, clock, observer, options);
    const calls = new DetachedCalls<Made<Answer>>(admission, clock, options);
    const failures = new FailureBackoff(clock, options.maxEntries);
    const timesGivenUp = new TimesGivenUp(options.maxEntries);
    const progress = new CreationProgress(clock, admission);
    const preparation = new Preparation<Origin, Answer>(clock, guard, lives.index, failures, (creation, detail) =>
      lives.step('backing off', creation, detail),
    );
    const reservations = new NameReservations(runtime, reaper, clock, options.wedgeAfterMs, (...step) =>
      lives.step(...step),
    );
    const parts = {
      runtime,
      admission,
      lives,
      calls,
      preparation,
      reservations,
      failures,
      timesGivenUp,
      progress,
      clock,
    };
    const work = new CreationWork(parts);
    this.census = new CreationCensus({ ...parts, holdTtlMs: options.holdTtlMs });
    this.#options = options;
    this.#lives = lives;
    this.#index = lives.index;
    this.#calls = calls;
    this.#work = work;
    this.#handover = new CreationHandover(runtime, lives, progress, clock);
    this.#byHand = new ForgetByHand({ ...parts, work });
  }

  /** Whether any container is hidden at all: if not, no response needs a look. */
  get hiding(): boolean {
    return this.#lives.hiddenCount > 0;
  }

  /** Whether a container is hidden or may become so any moment: what a report shows is to be looked at when it comes. */
  get mayHide(): boolean {
    return this.#lives.mayHide;
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
    const begin = () => this.#handover.wait(this.#work.begin(request, attached), 'started', request, signal);
    for (;;) {
      if (signal.aborted) throw new WaiterLeftError();
      const found = this.#index.find(request.fingerprint);
      if (found === undefined) return begin();
      const { outcome, becomes } = atRequest(relationOf(found, request.fingerprint, this.#options), found.state);
      if (outcome === 'new') {
        if (becomes !== undefined) this.#lives.become(found, becomes, 'superseded');
        // As the table has it; what is found is nobody's yet, or this very request's.
        else return begin();
        continue;
      }
      attached(found);
      this.#noteDrift(found, request.fingerprint);
      if (outcome === 'join') {
        if (found.state === 'queued') this.#work.takeOver(found, request);
        else this.#index.answerTo(found, request.fingerprint.key);
        return this.#handover.wait(found, 'joined', request, signal);
      }
      const grant = await this.#handover.replay(found, request, signal);
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
  forgetAfterFault(creation: Creation<Origin, Answer>, error: unknown): void {
    if (creation.call.phase === 'running') return;
    creation.call.fail(error);
    this.#lives.forgetAfterFault(creation, error);
  }

  /** See {@link ForgetByHand.forget}. */
  forgetByHand(matches: (identity: Identity) => boolean): readonly Forgotten[] {
    return this.#byHand.forget(matches);
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

  #noteDrift(creation: Creation<Origin, Answer>, asked: Fingerprint): void {
    if (!hasDrifted(creation.fingerprint, asked)) return;
    const differs = driftOf(creation.fingerprint.parts, asked.parts);
    this.#lives.step('drift', creation, { differs, askedAttempt: asked.identity.attempt });
  }
}
