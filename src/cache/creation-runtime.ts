/** The runtime as the creation store needs it: it makes, looks at and removes. */
import type { Fingerprint } from './fingerprint.js';

/** What the runtime answered: the id it gave, never empty, and its whole answer. */
export interface Made<Answer> {
  readonly id: string;
  readonly answer: Answer;
}

/** A pod sandbox or container that is there. */
export interface Subject<Origin> {
  readonly kind: 'podSandbox' | 'container';
  readonly id: string;
  /** '' for a pod sandbox. */
  readonly podSandboxId: string;
  /** How it was asked for. */
  readonly origin: Origin;
}

/**
 * How something is found:
 * - `as made`: pod sandbox READY; container CREATED and its pod sandbox READY.
 * - `unusable`: never used, and worth nothing to a retry: pod sandbox not READY; container CREATED and its pod sandbox not READY or gone.
 * - `in use`: container that has run; pod sandbox that is not READY and in which one has.
 * - `absent`: the runtime does not know it.
 */
export type Condition = 'as made' | 'unusable' | 'in use' | 'absent';

/** What has the name that a creation wants. */
export type NameHolder =
  /** Complete, and what the request asks for. */
  | { readonly condition: 'fits'; readonly id: string }
  | { readonly condition: 'unusable'; readonly id: string; readonly podSandboxId?: string | undefined }
  | { readonly condition: 'in use'; readonly id: string }
  /** The runtime is still at it, or is rolling it back. */
  | { readonly condition: 'unseen'; readonly id: string | undefined };

/** The runtime says that the name is taken. `cause` is what it said. */
export class NameReservedError extends Error {
  override readonly name = 'NameReservedError';
  /** Whose name it is, where the runtime says so. */
  readonly holderId: string | undefined;

  constructor(cause: Error, holderId: string | undefined) {
    super(cause.message, { cause });
    this.holderId = holderId;
  }
}

export interface CreationRuntime<Origin, Answer> {
  /**
   * The one upstream call.
   *
   * @throws {NameReservedError} The name is taken.
   * @throws What else the runtime said, or where it answered without an id.
   */
  create(bytes: Buffer, fingerprint: Fingerprint, origin: Origin, signal: AbortSignal): Promise<Made<Answer>>;
  /** @throws Where it cannot be told. */
  conditionOf(subject: Subject<Origin>, signal?: AbortSignal): Promise<Condition>;
  /** Whether it is a pod sandbox in which a container has run or is being started. @throws Where it cannot be told. */
  isInhabited(subject: Subject<Origin>): Promise<boolean>;
  /**
   * What has the name that this request wants.
   *
   * @param holderId As the runtime said; undefined: found by identity.
   */
  holderOf(
    fingerprint: Fingerprint,
    bytes: Buffer,
    origin: Origin,
    holderId: string | undefined,
    signal?: AbortSignal,
  ): Promise<NameHolder>;
  /** The answer that the runtime gives for what has this id. */
  answerFor(id: string): Made<Answer>;
  /** Resolves once the runtime no longer has it. */
  remove(subject: Subject<Origin>): Promise<void>;
  /** Gives a container the resources that a CreateContainerRequest asks for. */
  updateResources(subject: Subject<Origin>, createContainerRequest: Buffer, signal: AbortSignal): Promise<void>;
}
