/**
 * Forgets creations where somebody who runs the node asks for it, so that the next request asks the runtime afresh. What is under way, and
 * what keeps a name or a second copy in order, stays: nothing is lost that somebody waits for, and nothing is made twice.
 */
import type { Creation } from './creation.js';
import type { CreationState } from './creation-life.js';
import type { CreationLives } from './creation-lives.js';
import type { CreationWork } from './creation-work.js';
import { DroppedError } from './detached-call.js';
import type { FailureBackoff } from './failure-backoff.js';
import type { Identity } from './fingerprint.js';
import type { NameReservations } from './name-reservations.js';
import type { TimesGivenUp } from './times-given-up.js';

/** What becomes of a creation that is to be forgotten. */
type ForgetResult =
  /**
   * - `dropped`: it was not begun, and nobody waited for it.
   * - `tried now`: it paused after failures, or since its name was taken.
   * - `removal begun`: a held container; it is removed after a look, as when nobody asks for it in time.
   * - `memory dropped`: at the runtime nothing changes.
   */
  | { readonly did: 'dropped' | 'tried now' | 'removal begun' | 'memory dropped' }
  /** It stays as it is. */
  | {
      readonly refused:
        | 'running'
        | 'waited for'
        | 'removal in the way'
        | 'start in the way'
        | 'being answered'
        | 'being removed';
    };

export type Forgotten = ForgetResult & {
  readonly identity: Identity;
  /** `failing`: nothing is under way or remembered but that it failed. */
  readonly state: CreationState | 'failing';
};

export interface ForgetByHandParts<Origin, Answer> {
  readonly lives: Pick<CreationLives<Origin, Answer>, 'index' | 'on' | 'givenUpRemovals'>;
  readonly work: Pick<CreationWork<Origin, Answer>, 'queue'>;
  readonly reservations: Pick<NameReservations<Origin, Answer>, 'forget'>;
  readonly failures: Pick<FailureBackoff, 'forget'>;
  readonly timesGivenUp: Pick<TimesGivenUp, 'forget'>;
}

export class ForgetByHand<Origin, Answer> {
  readonly #parts: ForgetByHandParts<Origin, Answer>;

  constructor(parts: ForgetByHandParts<Origin, Answer>) {
    this.#parts = parts;
  }

  /** @returns What became of each that matches. */
  forget(matches: (identity: Identity) => boolean): readonly Forgotten[] {
    const { lives, failures } = this.#parts;
    const failing = failures.forget(matches);
    lives.givenUpRemovals.forget(matches);
    const creations = [...lives.index.all()].filter(({ fingerprint }) => matches(fingerprint.identity));
    const forgotten = creations.map((creation): Forgotten => {
      const { state, fingerprint } = creation;
      return { identity: fingerprint.identity, state, ...this.#forget(creation) };
    });
    const alone = failing.filter((identity) => !forgotten.some((other) => areOfOneFamily(other.identity, identity)));
    const dropped = alone.map((identity): Forgotten => ({ identity, state: 'failing', did: 'memory dropped' }));
    return [...forgotten, ...dropped];
  }

  #forget(creation: Creation<Origin, Answer>): ForgetResult {
    const { lives, work, reservations, timesGivenUp } = this.#parts;
    const { state, claims, call, obstacle, reservation } = creation;
    if (state === 'running') return { refused: 'running' };
    if (state === 'doomed') return { refused: 'being removed' };
    if (state !== 'queued') {
      if (claims > 0) return { refused: 'being answered' };
      lives.on(creation, 'expired');
      return { did: state === 'held' ? 'removal begun' : 'memory dropped' };
    }
    timesGivenUp.forget(creation.fingerprint);
    if (call.waiters === 0) {
      call.fail(new DroppedError('an operator had it forgotten, and nobody waited for it'));
      return { did: 'dropped' };
    }
    if (obstacle?.what === 'removal') return { refused: 'removal in the way' };
    if (obstacle?.what === 'start') return { refused: 'start in the way' };
    if (obstacle === undefined && reservation === undefined) return { refused: 'waited for' };
    reservations.forget(creation);
    if (obstacle !== undefined) void work.queue(creation);
    return { did: 'tried now' };
  }
}

function areOfOneFamily(one: Identity, other: Identity): boolean {
  const parts = new Set([...Object.keys(one), ...Object.keys(other)]) as ReadonlySet<keyof Identity>;
  return [...parts].every((part) => part === 'attempt' || one[part] === other[part]);
}
