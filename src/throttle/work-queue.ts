/**
 * Work that waits for its turn, and which of it is next: by importance, within a class what somebody waits for, then first come, first
 * served, and no class waits forever. Knows neither time nor how much may run.
 */
import { ArrivalOrder, type Arrived } from './arrival-order.js';

/** What asks for a turn, the most important first: what is begun is finished before more is begun. */
export const workClasses = ['static', 'critical', 'start', 'container', 'podSandbox'] as const;

export type WorkClass = (typeof workClasses)[number];

/** What is done; work of one kind takes about as long as other work of that kind. */
export type WorkKind = 'podSandbox' | 'container' | 'start';

/** What is known of whoever asks. */
export interface Urgency {
  /** Undefined: as important as the kind of work is. */
  readonly importance?: 'static' | 'critical' | undefined;
  /** How long it waits in all, in ms; undefined: for as long as it takes. */
  readonly deadlineMs?: number | undefined;
}

/** What is known of work that takes too long, in ms. */
export interface Overdue {
  readonly tookMs: number;
  /** The most that others of its sort took lately; undefined: none has ended. */
  readonly usualMs: number | undefined;
}

export interface Work extends Urgency {
  readonly kind: WorkKind;
  /** The runtime handler asked for. */
  readonly handler?: string | undefined;
  /** Whether it takes less than other work of its kind and handler, for it leaves something out; default false. */
  readonly isQuick?: boolean;
  /** Whether somebody waits for it now; default true. */
  readonly isAwaited?: boolean;
  /** Whether nobody has waited for it for so long that it is not wanted any more; default false. */
  readonly isForgotten?: boolean;
  /** How often it was given up before; default 0. */
  readonly givenUp?: number;
  /** Called at most once. @returns Whether it did what it was to do. */
  run(): Promise<boolean>;
  /** It has taken so long that it does not count as load any more. */
  hangs?(overdue: Overdue): void;
  /** To be cut short, for it has taken far longer than others; undefined: it cannot be. */
  giveUp?(overdue: Overdue): void;
}

export function classOf({ importance, kind }: Work): WorkClass {
  return importance ?? kind;
}

/** A start completes something that exists; only what makes something anew is paced. */
export function isPaced({ kind }: Work): boolean {
  return kind !== 'start';
}

/**
 * A class that could go is passed over by at most about this many of more important classes (twice the number of classes more where
 * several are overdue at once). Every second turn at least goes by importance.
 */
export const passedOverAtMost = 16;

/** Work of one class that may go under the same conditions. */
interface Lane {
  /** Undefined: no handler with a limit. */
  readonly handler: string | undefined;
  readonly paced: boolean;
  readonly awaited: ArrivalOrder<Work>;
  readonly unawaited: ArrivalOrder<Work>;
  /** How much of it has a place. */
  inPlace: number;
}

interface Line {
  readonly class: WorkClass;
  readonly lanes: Map<string, Lane>;
  passedOver: number;
}

interface Candidate extends Arrived<Work> {
  readonly line: Line;
  readonly lane: Lane;
  readonly isAwaited: boolean;
}

/**
 * What a place is for: one of those the limit allows; one lent by what nobody waits for, for what somebody does; one of the node's own
 * pods, beyond every limit; or a spare one, beyond every limit too, for work of which nothing that may go under the same conditions has
 * one.
 */
export type PlaceKind = 'shared' | 'lent' | 'own' | 'spare';

/** What may be taken. */
export interface Conditions {
  /** Whether paced work may go now. */
  readonly paceAllows: boolean;
  readonly place: PlaceKind;
}

export class WorkQueue {
  readonly #handlerLimits: ReadonlyMap<string, number>;
  readonly #running = new Map<string, number>();
  readonly #lines: readonly Line[] = workClasses.map((name) => ({ class: name, lanes: new Map(), passedOver: 0 }));
  readonly #numbers = new Map<Work, number>();
  #arrivals = 0;
  #lastWasOverdue = false;

  /** @param handlerLimits How much work of a runtime handler may be out at once, for those that have a limit. */
  constructor(handlerLimits: ReadonlyMap<string, number>) {
    this.#handlerLimits = handlerLimits;
  }

  /** Work that waits, by class. */
  get sizes(): Readonly<Record<WorkClass, number>> {
    const sizes = this.#lines.map((line) => [line.class, sizeOf(line)] as const);
    return Object.fromEntries(sizes) as Record<WorkClass, number>;
  }

  /** What waits, in the order in which it goes as long as no class is overdue and nothing else comes. For people: it costs a sort. */
  get inOrder(): readonly Work[] {
    return this.#lines.flatMap(({ lanes }) => [
      ...byArrival([...lanes.values()].map(({ awaited }) => awaited)),
      ...byArrival([...lanes.values()].map(({ unawaited }) => unawaited)),
    ]);
  }

  add(work: Work): void {
    const number = this.#arrivals++;
    this.#numbers.set(work, number);
    this.#put({ number, item: work });
  }

  /** Takes it back; without effect where it does not wait. */
  delete(work: Work): void {
    const number = this.#numbers.get(work);
    if (number === undefined) return;
    this.#numbers.delete(work);
    const line = this.#lineOf(work);
    this.#takeOut(this.#laneOf(line, work), number);
    if (sizeOf(line) === 0) line.passedOver = 0;
  }

  /** Whether somebody waits for it has changed. It keeps its place among those it is with now. */
  moved(work: Work): void {
    const number = this.#numbers.get(work);
    if (number === undefined) return;
    this.#takeOut(this.#laneOf(this.#lineOf(work), work), number);
    this.#put({ number, item: work });
  }

  mayTake(conditions: Conditions): boolean {
    return this.#lines.some((line) => this.#firstOf(line, conditions) !== undefined);
  }

  /** Takes out what is next. It has the place until `leftPlace`. */
  take(conditions: Conditions): Work | undefined {
    const ready = this.#lines.flatMap((line) => this.#firstOf(line, conditions) ?? []);
    const [first] = ready;
    if (first === undefined) return undefined;
    const overdue = this.#lastWasOverdue ? undefined : mostOverdue(ready);
    const next = overdue ?? first;
    this.#lastWasOverdue = overdue !== undefined;
    for (const { line } of ready.slice(ready.indexOf(next) + 1)) line.passedOver += 1;
    const { line, lane, item: work, number } = next;
    this.#numbers.delete(work);
    this.#takeOut(lane, number);
    line.passedOver = 0;
    this.#count(lane, conditions.place, 1);
    return work;
  }

  /** Work that was taken for such a place has it no more. */
  leftPlace(work: Work, place: PlaceKind): void {
    this.#count(this.#laneOf(this.#lineOf(work), work), place, -1);
  }

  #put(arrived: Arrived<Work>): void {
    const { item: work } = arrived;
    const lane = this.#laneOf(this.#lineOf(work), work);
    (work.isAwaited === false ? lane.unawaited : lane.awaited).add(arrived);
  }

  #takeOut({ awaited, unawaited }: Lane, number: number): void {
    awaited.delete(number);
    unawaited.delete(number);
  }

  /** What is next of what may go. */
  #firstOf(line: Line, { paceAllows, place }: Conditions): Candidate | undefined {
    if (place === 'own' && !ownClasses.has(line.class)) return undefined;
    let first: Candidate | undefined;
    for (const lane of line.lanes.values()) {
      if ((lane.paced && !paceAllows) || !this.#mayGo(lane, place)) continue;
      const isAwaited = lane.awaited.first !== undefined;
      const arrived = lane.awaited.first ?? lane.unawaited.first;
      if (arrived === undefined || (place === 'lent' && !isAwaited)) continue;
      const goesFirst =
        first === undefined || (isAwaited === first.isAwaited ? arrived.number < first.number : isAwaited);
      if (goesFirst) first = { line, lane, isAwaited, ...arrived };
    }
    return first;
  }

  #mayGo({ handler, inPlace }: Lane, place: PlaceKind): boolean {
    if (place === 'spare') return inPlace === 0;
    return place === 'own' || this.#hasRoom(handler);
  }

  #hasRoom(handler: string | undefined): boolean {
    if (handler === undefined) return true;
    return (this.#running.get(handler) ?? 0) < (this.#handlerLimits.get(handler) ?? Number.POSITIVE_INFINITY);
  }

  /** Own and spare places are beyond the limit of a handler. */
  #count(lane: Lane, place: PlaceKind, by: 1 | -1): void {
    lane.inPlace += by;
    const { handler } = lane;
    if (handler === undefined || (place !== 'shared' && place !== 'lent')) return;
    this.#running.set(handler, (this.#running.get(handler) ?? 0) + by);
  }

  #limited({ handler }: Work): string | undefined {
    return handler !== undefined && this.#handlerLimits.has(handler) ? handler : undefined;
  }

  #laneOf({ lanes }: Line, work: Work): Lane {
    const handler = this.#limited(work);
    const paced = isPaced(work);
    const key = `${work.kind} ${work.isQuick ?? false} ${handler ?? ''}`;
    const found = lanes.get(key);
    if (found !== undefined) return found;
    const lane = { handler, paced, awaited: new ArrivalOrder<Work>(), unawaited: new ArrivalOrder<Work>(), inPlace: 0 };
    lanes.set(key, lane);
    return lane;
  }

  #lineOf(work: Work): Line {
    const line = this.#lines[workClasses.indexOf(classOf(work))];
    if (line === undefined) throw new RangeError(`no class of work ${classOf(work)}`);
    return line;
  }
}

/** Those that work of the node's own pods is in. */
const ownClasses: ReadonlySet<WorkClass> = new Set(['static', 'critical']);

function byArrival(orders: readonly ArrivalOrder<Work>[]): readonly Work[] {
  const all = orders.flatMap((order) => [...order]);
  return all.sort((a, b) => a.number - b.number).map(({ item }) => item);
}

function sizeOf({ lanes }: Line): number {
  return [...lanes.values()].reduce((total, { awaited, unawaited }) => total + awaited.size + unawaited.size, 0);
}

function mostOverdue(ready: readonly Candidate[]): Candidate | undefined {
  return ready
    .filter(({ line }) => line.passedOver >= passedOverAtMost)
    .sort((a, b) => b.line.passedOver - a.line.passedOver)[0];
}
