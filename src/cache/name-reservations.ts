/**
 * What becomes of a creation whose name the runtime says is taken, though nothing that Holdfast knows of has it: it was made
 * before Holdfast was restarted, or past it. Complete, it is the answer; unused, it is removed; not to be seen, it is waited for.
 */
import type { Clock } from '../clock.js';
import type { Creation, Reservation } from './creation.js';
import { type CreationRuntime, type Made, NameReservedError } from './creation-runtime.js';
import { again } from './detached-call.js';
import type { Reaper } from './reaper.js';

/** How often a wedge is reported, in ms. */
const reportEveryMs = 60_000;

export class NameReservations<Origin, Answer> {
  readonly #runtime: CreationRuntime<Origin, Answer>;
  readonly #reaper: Reaper<Origin>;
  readonly #clock: Clock;
  readonly #wedgeAfterMs: number;
  readonly #step: (
    step: 'name reserved' | 'wedged' | 'reaped',
    creation: Creation<Origin, Answer>,
    detail: Readonly<Record<string, unknown>>,
  ) => void;
  readonly #wedged = new Set<Creation<Origin, Answer>>();

  constructor(
    runtime: CreationRuntime<Origin, Answer>,
    reaper: Reaper<Origin>,
    clock: Clock,
    wedgeAfterMs: number,
    step: (
      step: 'name reserved' | 'wedged' | 'reaped',
      creation: Creation<Origin, Answer>,
      detail: Readonly<Record<string, unknown>>,
    ) => void,
  ) {
    this.#runtime = runtime;
    this.#reaper = reaper;
    this.#clock = clock;
    this.#wedgeAfterMs = wedgeAfterMs;
    this.#step = step;
  }

  /** Creations whose name has been taken for so long that it will not get free by itself. */
  get wedged(): number {
    return this.#wedged.size;
  }

  isWedged(creation: Creation<Origin, Answer>): boolean {
    return this.#wedged.has(creation);
  }

  /**
   * @param error What the creation's upstream call was answered with.
   * @returns What has the name, where that is what was asked for; `again` where the creation is to be tried again; undefined where the
   *   error is the answer.
   */
  async resolve(
    creation: Creation<Origin, Answer>,
    request: Buffer,
    error: unknown,
    signal: AbortSignal,
  ): Promise<Made<Answer> | typeof again | undefined> {
    if (!(error instanceof NameReservedError)) return undefined;
    const { fingerprint, origin } = creation.asked;
    const reservation = this.#note(creation, error);
    try {
      const holder = await this.#runtime.holderOf(fingerprint, request, origin, error.holderId, signal);
      reservation.holderId = holder.id ?? error.holderId;
      if (holder.condition === 'fits') return this.#runtime.answerFor(holder.id);
      if (holder.condition === 'in use') return undefined;
      if (holder.condition === 'unusable') {
        const podSandboxId = holder.podSandboxId ?? creation.podSandboxId;
        const subject = { kind: creation.kind, id: holder.id, podSandboxId, origin };
        reservation.strangerId = holder.id;
        if ((await this.#reaper.tryOnce(subject, () => !signal.aborted)) === 'in use') return undefined;
        this.#step('reaped', creation, { why: 'name reserved', removedId: holder.id });
        reservation.strangerId = undefined;
        // The name is free, unless the runtime only says that it has removed it.
        if (reservation.removedId !== holder.id) reservation.tries = 0;
        reservation.removedId = holder.id;
      }
      reservation.error = undefined;
    } catch (failure) {
      if (signal.aborted) throw failure;
      reservation.error = failure;
    }
    // The call may have ended meanwhile.
    if (!signal.aborted) this.#reportIfDue(creation, reservation);
    return again;
  }

  /** It has become another request's. */
  forget(creation: Creation<Origin, Answer>): void {
    creation.reservation = undefined;
    this.#wedged.delete(creation);
  }

  #note(creation: Creation<Origin, Answer>, { holderId }: NameReservedError): Reservation {
    const known = creation.reservation;
    const reservation: Reservation = known ?? {
      sinceMs: this.#clock.now(),
      holderId,
      removedId: undefined,
      tries: 0,
      error: undefined,
      strangerId: undefined,
      reportedMs: undefined,
    };
    reservation.tries += 1;
    reservation.holderId = holderId ?? reservation.holderId;
    creation.reservation = reservation;
    if (known === undefined) {
      this.#step('name reserved', creation, { holderId });
      void creation.call.ended.then(() => this.#wedged.delete(creation));
    }
    return reservation;
  }

  #reportIfDue(creation: Creation<Origin, Answer>, reservation: Reservation): void {
    const now = this.#clock.now();
    const { sinceMs, holderId, error, reportedMs } = reservation;
    if (now - sinceMs < this.#wedgeAfterMs) return;
    this.#wedged.add(creation);
    if (reportedMs !== undefined && now - reportedMs < reportEveryMs) return;
    reservation.reportedMs = now;
    this.#step('wedged', creation, { holderId, reservedMs: now - sinceMs, first: reportedMs === undefined, error });
  }
}
