/**
 * Changes the states of creations, with all that goes with a change: what is found, what is hidden, what is removed, and when. Knows
 * neither requests nor waiters.
 */
import type { Clock } from '../clock.js';
import type { ContainerItem } from '../cri/container-items.js';
import { ContainerState } from '../cri/enums.js';
import type { Creation } from './creation.js';
import { CreationIndex } from './creation-index.js';
import { atEvent, type CreationEvent, type CreationState } from './creation-life.js';
import { PodSandboxEndedError } from './detached-call.js';
import { GivenUpRemovals } from './given-up-removals.js';
import { HiddenContainers } from './hidden-containers.js';
import type { Reaper } from './reaper.js';

/** The steps of a creation's life, as logged and counted. */
export type CreationStep =
  | 'backing off'
  | 'queued'
  | 'started'
  | 'waiter joined'
  | 'waiter left'
  | 'hangs'
  | 'given up'
  | 'name reserved'
  | 'wedged'
  | 'answered'
  | 'shown'
  | 'held'
  | 'replayed'
  | 'delivered'
  | 'forgotten'
  | 'changed'
  | 'cannot be told'
  | 'drift'
  | 'resources updated'
  | 'superseded'
  | 'removal failed'
  | 'removal given up'
  | 'reaped'
  | 'in use'
  | 'dropped'
  | 'timed out'
  | 'failed';

export interface CreationObserver<Origin, Answer> {
  /** @param detail `ageMs` since the creation was first asked for, and more by step. */
  step(step: CreationStep, creation: Creation<Origin, Answer>, detail: Readonly<Record<string, unknown>>): void;
  /** A container that was hidden may now be seen. */
  revealed(creation: Creation<Origin, Answer>): void;
  /** A container that was hidden is no more. */
  vanished(creation: Creation<Origin, Answer>): void;
  /** Something went wrong in Holdfast itself, and the creation is forgotten. */
  faulted(creation: Creation<Origin, Answer>, error: unknown): void;
}

export interface CreationLivesOptions {
  readonly holdTtlMs: number;
  readonly replayTtlMs: number;
  readonly maxEntries: number;
}

/** Ends of a creation after which there is nothing to be seen of it. */
const leavesNothing: ReadonlySet<string> = new Set<CreationEvent>(['failed', 'removed', 'found absent']);

export class CreationLives<Origin, Answer> {
  readonly index: CreationIndex<Origin, Answer>;
  /** What could not be removed and was left to the kubelet. */
  readonly givenUpRemovals = new GivenUpRemovals();
  readonly #reaper: Reaper<Origin>;
  readonly #clock: Clock;
  readonly #observer: CreationObserver<Origin, Answer>;
  readonly #options: CreationLivesOptions;
  readonly #hidden = new HiddenContainers<Origin, Answer>();
  /** Containers from their upstream call on until somebody has them or they are no more: each may become hidden any moment. */
  readonly #unsettled = new Set<Creation<Origin, Answer>>();
  /** Nothing is held any more. */
  #ending = false;

  constructor(
    reaper: Reaper<Origin>,
    clock: Clock,
    observer: CreationObserver<Origin, Answer>,
    options: CreationLivesOptions,
  ) {
    this.#reaper = reaper;
    this.#clock = clock;
    this.#observer = observer;
    this.#options = options;
    this.index = new CreationIndex(clock, { ...options, evicted: (creation) => this.on(creation, 'expired') });
  }

  get hiddenCount(): number {
    return this.#hidden.size;
  }

  /** Whether a container is hidden or may become so any moment. */
  get mayHide(): boolean {
    return this.#hidden.size > 0 || this.#unsettled.size > 0;
  }

  /** See {@link HiddenContainers.includesUnknownIds}. */
  get hidesUnknownIds(): boolean {
    return this.#hidden.includesUnknownIds;
  }

  isHidden(creation: Creation<Origin, Answer>): boolean {
    return this.#hidden.has(creation);
  }

  step(step: CreationStep, creation: Creation<Origin, Answer>, detail: Readonly<Record<string, unknown>> = {}): void {
    this.#observer.step(step, creation, { ageMs: this.#clock.now() - creation.call.begunMs, ...detail });
  }

  on(creation: Creation<Origin, Answer>, event: CreationEvent): void {
    const next = atEvent(event, creation.state, creation.kind);
    if (next !== undefined) this.become(creation, next, event);
  }

  /** The one place where a creation changes its state. */
  become(creation: Creation<Origin, Answer>, state: CreationState, why: string): void {
    const before = creation.state;
    creation.state = state;
    creation.stateSinceMs = this.#clock.now();
    creation.cancelHoldTimer();
    switch (state) {
      case 'running':
        // What was seen before is not what is made now.
        this.rename(creation, () => {
          creation.seenId = undefined;
        });
        if (creation.kind === 'container') this.#unsettled.add(creation);
        break;
      case 'held':
        this.hide(creation);
        this.step('held', creation);
        if (this.#ending) this.become(creation, 'doomed', 'Holdfast ends');
        else this.#armHoldTimer(creation);
        break;
      case 'shown':
        this.index.shown(creation);
        this.step('shown', creation);
        break;
      case 'delivered':
        this.step('delivered', creation);
        this.index.delivered(creation);
        this.#reveal(creation);
        break;
      case 'doomed':
        this.hide(creation);
        this.index.doom(creation);
        if (why === 'superseded') this.step('superseded', creation);
        void this.#remove(creation, why);
        break;
      case 'gone':
        this.#end(creation, before, why);
        break;
      default:
    }
  }

  /**
   * Something went wrong with it in Holdfast itself: it is known no more, and what is or will be made of it is shown. Never throws.
   */
  forgetAfterFault(creation: Creation<Origin, Answer>, error: unknown): void {
    this.#observer.faulted(creation, error);
    try {
      if (creation.state !== 'gone') this.become(creation, 'gone', 'fault');
    } catch (another) {
      this.#observer.faulted(creation, another);
    }
  }

  /** One answer or check is over. */
  release(creation: Creation<Origin, Answer>): void {
    creation.release();
    if (creation.claims > 0) return;
    if (creation.state === 'answered') this.on(creation, 'not delivered');
    else if (creation.state === 'held') this.#expireIfDue(creation);
  }

  /** Nobody waits for it. */
  hide(creation: Creation<Origin, Answer>): void {
    if (creation.kind === 'container' && creation.state !== 'delivered' && creation.state !== 'gone') {
      this.#hidden.hide(creation);
    }
  }

  /** Its id has become known, or what it is recognised by changes: `change` says how. */
  rename(creation: Creation<Origin, Answer>, change: () => void): void {
    const wasHidden = this.#hidden.vanish(creation);
    change();
    if (wasHidden) this.#hidden.hide(creation);
  }

  /** The hidden creation whose container this is. One that has run is somebody's, and hidden no more. */
  hiddenOwner(item: ContainerItem): Creation<Origin, Answer> | undefined {
    return this.#unlessRun(this.#hidden.recognise(item), item);
  }

  /** As {@link hiddenOwner}, for a report that is asked for now. */
  hiddenView(): (item: ContainerItem) => Creation<Origin, Answer> | undefined {
    const view = this.#hidden.view();
    return (item) => this.#unlessRun(view(item), item);
  }

  /** Removes what is held. Resolves when nothing is, or what is left cannot be removed. */
  async removeHeld(): Promise<void> {
    this.#ending = true;
    this.#reaper.close();
    for (const creation of [...this.index.all()]) {
      if (creation.state === 'held') this.become(creation, 'doomed', 'Holdfast ends');
    }
    const isMade = ({ state, subject }: Creation<Origin, Answer>) => state === 'doomed' && subject !== undefined;
    for (;;) {
      const made = [...this.index.all()].filter(isMade);
      if (made.length === 0) return;
      await Promise.all(made.map(({ gone }) => gone));
    }
  }

  /** Stops every timer. */
  close(): void {
    this.#ending = true;
    this.#reaper.close();
    for (const creation of this.index.all()) creation.cancelHoldTimer();
  }

  #end(creation: Creation<Origin, Answer>, before: CreationState, why: string): void {
    this.index.remove(creation);
    creation.markGone();
    if (before === 'queued') creation.call.fail(new PodSandboxEndedError(creation.podSandboxId));
    if (leavesNothing.has(why)) {
      this.#unsettled.delete(creation);
      if (this.#hidden.vanish(creation)) this.#observer.vanished(creation);
      return;
    }
    if (creation.made !== undefined) this.step('forgotten', creation, { why });
    this.#reveal(creation);
  }

  #armHoldTimer(creation: Creation<Origin, Answer>): void {
    creation.heldSinceMs = this.#clock.now();
    creation.cancelHoldTimer = this.#clock.after(this.#options.holdTtlMs, () => this.#expireIfDue(creation));
  }

  #expireIfDue(creation: Creation<Origin, Answer>): void {
    const heldMs = this.#clock.now() - creation.heldSinceMs;
    if (creation.claims === 0 && heldMs >= this.#options.holdTtlMs) this.on(creation, 'expired');
  }

  /** Removes what is doomed as soon as it has ended and nobody claims it. */
  async #remove(creation: Creation<Origin, Answer>, why: string): Promise<void> {
    const isDoomed = () => creation.state === 'doomed';
    await creation.call.ended;
    await creation.quiet();
    const { subject } = creation;
    if (subject === undefined) return;
    const reaped = await this.#reaper.reap(subject, isDoomed, (error, nextTryMs) => {
      creation.removalError = error;
      this.step(nextTryMs === undefined ? 'removal given up' : 'removal failed', creation, { error, nextTryMs });
    });
    if (!isDoomed()) return;
    if (reaped === 'removed') {
      this.step('reaped', creation, { why, heldMs: this.#clock.now() - creation.call.lastAskedMs });
      this.on(creation, 'removed');
    } else if (reaped === 'in use') {
      this.step('in use', creation, { why });
      this.on(creation, 'found in use');
    } else {
      const { identity } = creation.fingerprint;
      this.givenUpRemovals.add({ identity, id: subject.id, sinceMs: this.#clock.now(), error: creation.removalError });
      this.on(creation, 'removal given up');
    }
  }

  #unlessRun(
    creation: Creation<Origin, Answer> | undefined,
    { state }: ContainerItem,
  ): Creation<Origin, Answer> | undefined {
    if (creation === undefined || !hasRun(state)) return creation;
    // While it is being made, it is another one of its name that has run.
    if (!creation.call.inFlight) this.on(creation, 'found in use');
    return undefined;
  }

  #reveal(creation: Creation<Origin, Answer>): void {
    this.#unsettled.delete(creation);
    if (this.#hidden.reveal(creation)) this.#observer.revealed(creation);
  }
}

function hasRun(state: number | undefined): boolean {
  return state === ContainerState.running || state === ContainerState.exited;
}
