/**
 * What creations and starts are at, for people: plain values, made when somebody asks and never kept. All times in ms of the clock.
 */
import type { QueuePlace } from '../throttle/admission-view.js';
import type { CreationState } from './creation-life.js';
import type { Identity } from './fingerprint.js';
import type { Progress } from './progress.js';

export interface CreationView {
  readonly identity: Identity;
  readonly state: CreationState;
  readonly begunMs: number;
  readonly stateSinceMs: number;
  /** When somebody last asked for it or stopped waiting for it. */
  readonly lastAskedMs: number;
  readonly waiters: number;
  /** As the runtime gave it, or as it was seen in a list before. */
  readonly id: string | undefined;
  /** '' for a pod sandbox. */
  readonly podSandboxId: string;
  readonly isHidden: boolean;
  /** While it is queued or running. */
  readonly progress: Progress | undefined;
  /** While it waits for its turn. */
  readonly place: QueuePlace | undefined;
  /** It takes so long that it does not count as load any more. */
  readonly hungSinceMs: number | undefined;
  readonly timesGivenUp: number;
  readonly failures: FailuresView | undefined;
  readonly reservation: ReservationView | undefined;
  /** Why it could not be removed yet, where it is to be. */
  readonly removalError: unknown;
  /** When it is removed if nobody asks for it; undefined: it is not held. */
  readonly heldUntilMs: number | undefined;
}

/** A creation that failed and has not succeeded since, whether or not it is asked for now. */
export interface FailuresView {
  readonly identity: Identity;
  /** In a row. */
  readonly count: number;
  readonly lastMs: number;
  /** Before this it is not tried again. */
  readonly nextMs: number;
  /** The begin of what the runtime said last. */
  readonly error: string;
}

export interface ReservationView {
  /** What has the name, where that is known. */
  readonly holderId: string | undefined;
  readonly sinceMs: number;
  readonly tries: number;
  /** It has lasted so long that it will not get free by itself. */
  readonly isWedged: boolean;
  readonly error: unknown;
}

/** What could not be removed and was left to the kubelet. */
export interface GivenUpRemoval {
  readonly identity: Identity;
  readonly id: string;
  readonly sinceMs: number;
  readonly error: unknown;
}

export interface StartView {
  readonly containerId: string;
  /** Whose container it is, as in `Fingerprint.family`, and its attempt; undefined: not known. */
  readonly family: string | undefined;
  readonly attempt: number | undefined;
  /**
   * `started`: it went through, and nobody is known to have been told. `unclear`: it failed in a way that does not say whether the
   * container runs. Both keep a second copy of the container from being made.
   */
  readonly state: 'queued' | 'running' | 'started' | 'unclear';
  readonly begunMs: number;
  readonly stateSinceMs: number;
  readonly lastAskedMs: number;
  readonly waiters: number;
  readonly progress: Progress | undefined;
  readonly place: QueuePlace | undefined;
  readonly hungSinceMs: number | undefined;
}
