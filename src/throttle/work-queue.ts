/**
 * Work that waits for its turn, and which of it is next: by importance, within a class first come, first served, and no class waits
 * forever. Knows neither time nor how much may run.
 */

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

export interface Work extends Urgency {
  readonly kind: WorkKind;
  /** The runtime handler asked for. */
  readonly handler?: string | undefined;
  /** Called at most once. @returns Whether it did what it was to do. */
  run(): Promise<boolean>;
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
  /** By order of arrival, with their number in it. */
  readonly works: Map<Work, number>;
}

interface Line {
  readonly class: WorkClass;
  readonly lanes: Map<string, Lane>;
  passedOver: number;
}

interface Candidate {
  readonly line: Line;
  readonly lane: Lane;
  readonly work: Work;
  readonly number: number;
}

export class WorkQueue {
  readonly #handlerLimits: ReadonlyMap<string, number>;
  readonly #running = new Map<string, number>();
  readonly #lines: readonly Line[] = workClasses.map((name) => ({ class: name, lanes: new Map(), passedOver: 0 }));
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

  get size(): number {
    return this.#lines.reduce((total, line) => total + sizeOf(line), 0);
  }

  add(work: Work): void {
    const { lanes } = this.#lineOf(work);
    const lane = this.#laneKey(work);
    const found = lanes.get(lane) ?? { handler: this.#limited(work), paced: isPaced(work), works: new Map() };
    lanes.set(lane, found);
    found.works.set(work, this.#arrivals++);
  }

  /** Takes it back; without effect where it does not wait. */
  delete(work: Work): void {
    const line = this.#lineOf(work);
    line.lanes.get(this.#laneKey(work))?.works.delete(work);
    if (sizeOf(line) === 0) line.passedOver = 0;
  }

  /** @param paceAllows Whether paced work may go now. */
  mayTake(paceAllows: boolean): boolean {
    return this.#lines.some((line) => this.#firstOf(line, paceAllows) !== undefined);
  }

  /** Takes out what is next. It counts as running for its handler until `ended`. */
  take(paceAllows: boolean): Work | undefined {
    const ready = this.#lines.flatMap((line) => this.#firstOf(line, paceAllows) ?? []);
    const [first] = ready;
    if (first === undefined) return undefined;
    const overdue = this.#lastWasOverdue ? undefined : mostOverdue(ready);
    const next = overdue ?? first;
    this.#lastWasOverdue = overdue !== undefined;
    for (const { line } of ready.slice(ready.indexOf(next) + 1)) line.passedOver += 1;
    const { line, lane, work } = next;
    lane.works.delete(work);
    line.passedOver = 0;
    this.#count(lane.handler, 1);
    return work;
  }

  /** Work that was taken is out no more. */
  ended(work: Work): void {
    this.#count(this.#limited(work), -1);
  }

  /** What came first of what may go. */
  #firstOf(line: Line, paceAllows: boolean): Candidate | undefined {
    let first: Candidate | undefined;
    for (const lane of line.lanes.values()) {
      if ((lane.paced && !paceAllows) || !this.#hasRoom(lane.handler)) continue;
      // Not in a loop over the map: an iterator that is held for long keeps all that was ever in it.
      const [oldest] = lane.works;
      if (oldest === undefined) continue;
      const [work, number] = oldest;
      if (first === undefined || number < first.number) first = { line, lane, work, number };
    }
    return first;
  }

  #hasRoom(handler: string | undefined): boolean {
    if (handler === undefined) return true;
    return (this.#running.get(handler) ?? 0) < (this.#handlerLimits.get(handler) ?? Number.POSITIVE_INFINITY);
  }

  #count(handler: string | undefined, by: 1 | -1): void {
    if (handler !== undefined) this.#running.set(handler, (this.#running.get(handler) ?? 0) + by);
  }

  #limited({ handler }: Work): string | undefined {
    return handler !== undefined && this.#handlerLimits.has(handler) ? handler : undefined;
  }

  #laneKey(work: Work): string {
    return `${isPaced(work)} ${this.#limited(work) ?? ''}`;
  }

  #lineOf(work: Work): Line {
    const line = this.#lines[workClasses.indexOf(classOf(work))];
    if (line === undefined) throw new RangeError(`no class of work ${classOf(work)}`);
    return line;
  }
}

function sizeOf({ lanes }: Line): number {
  return [...lanes.values()].reduce((total, { works }) => total + works.size, 0);
}

function mostOverdue(ready: readonly Candidate[]): Candidate | undefined {
  return ready
    .filter(({ line }) => line.passedOver >= passedOverAtMost)
    .sort((a, b) => b.line.passedOver - a.line.passedOver)[0];
}
