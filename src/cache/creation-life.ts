/** The life of a creation: the states it can be in, and what each event means in each of them. */

/**
 * One at a time:
 * - `queued`: its upstream call has not begun.
 * - `running`: its upstream call is under way.
 * - `answered`: an answer with its id is on its way, and it is not known whether it arrives.
 * - `held`: a container that is made and that nobody has been given. Kept out of sight until somebody asks.
 * - `shown`: a pod sandbox that is made and that nobody has been given. It is simply there.
 * - `delivered`: somebody is known to have its id.
 * - `doomed`: no request gets it any more; it is removed once it has ended and no answer with its id is on its way.
 * - `gone`: not known any more.
 */
export type CreationState = 'queued' | 'running' | 'answered' | 'held' | 'shown' | 'delivered' | 'doomed' | 'gone';

/** How a request relates to a creation of the same pod sandbox or container. */
export type RequestRelation =
  | 'same request'
  | 'other spec hash or pod sandbox'
  | 'another attempt of a container'
  | 'higher attempt of a pod sandbox'
  | 'lower attempt of a pod sandbox';

/**
 * What a request gets:
 * - `join`: what becomes of the creation. Where that is queued, the newer request takes over wholly.
 * - `check`: it, if a look at the runtime finds it as it was made.
 * - `new`: a creation of its own, which waits until the names of doomed ones are free.
 */
export type RequestOutcome = 'join' | 'check' | 'new';

interface Cell {
  readonly outcome: RequestOutcome;
  /** What the creation that was found becomes. */
  readonly becomes?: CreationState;
}

const join: Cell = { outcome: 'join' };
const check: Cell = { outcome: 'check' };
const another: Cell = { outcome: 'new' };
const doomed: Cell = { outcome: 'new', becomes: 'doomed' };
const gone: Cell = { outcome: 'new', becomes: 'gone' };

type Row<Value> = Readonly<Record<CreationState, Value>>;

const requestTable: Readonly<Record<RequestRelation, Row<Cell>>> = {
  'same request': {
    queued: join,
    running: join,
    answered: check,
    held: check,
    shown: check,
    delivered: check,
    doomed: another,
    gone: another,
  },
  'other spec hash or pod sandbox': {
    queued: join,
    running: doomed,
    answered: doomed,
    held: doomed,
    shown: doomed,
    delivered: gone,
    doomed: another,
    gone: another,
  },
  'another attempt of a container': {
    queued: join,
    running: join,
    answered: check,
    held: check,
    shown: check,
    delivered: another,
    doomed: another,
    gone: another,
  },
  'higher attempt of a pod sandbox': {
    queued: join,
    running: doomed,
    answered: doomed,
    held: doomed,
    shown: doomed,
    delivered: another,
    doomed: another,
    gone: another,
  },
  'lower attempt of a pod sandbox': {
    queued: join,
    running: join,
    answered: check,
    held: check,
    shown: check,
    delivered: another,
    doomed: another,
    gone: another,
  },
};

export function atRequest(relation: RequestRelation, state: CreationState): Cell {
  return requestTable[relation][state];
}

/** What happens to a creation other than by a request. */
export type CreationEvent =
  | 'found unusable'
  | 'found in use'
  | 'found absent'
  | 'cannot be told'
  | 'to be made anew'
  | 'begun'
  | 'answered with waiters'
  | 'answered with nobody waiting'
  | 'failed'
  | 'delivered'
  | 'not delivered'
  | 'id used'
  | 'id ended'
  | 'pod sandbox ended'
  | 'expired'
  | 'removed'
  | 'removal given up';

type EventRow = Partial<Row<CreationState>>;

/**
 * What an event makes of a creation; where a state is missing, it stays what it is. What nobody waits for becomes `held` where it is a
 * container and `shown` where it is a pod sandbox: here it says `held` for both.
 */
const eventTable: Readonly<Record<CreationEvent, EventRow>> = {
  'found unusable': { answered: 'doomed', held: 'doomed', shown: 'doomed', delivered: 'gone' },
  'found in use': { answered: 'gone', held: 'gone', shown: 'gone', delivered: 'gone', doomed: 'gone' },
  'found absent': { answered: 'gone', held: 'gone', shown: 'gone', delivered: 'gone', doomed: 'gone' },
  /** A few times in a row. */
  'cannot be told': { answered: 'gone', held: 'gone', shown: 'gone' },
  /** Its name was taken, or it took far too long and was cut short. */
  'to be made anew': { running: 'queued' },
  begun: { queued: 'running' },
  'answered with waiters': { running: 'answered', held: 'answered', shown: 'answered' },
  'answered with nobody waiting': { running: 'held' },
  failed: { queued: 'gone', running: 'gone', doomed: 'gone' },
  delivered: { answered: 'delivered', doomed: 'gone' },
  'not delivered': { answered: 'held' },
  'id used': { answered: 'gone', held: 'gone', shown: 'gone', delivered: 'gone', doomed: 'gone' },
  'id ended': { answered: 'gone', held: 'gone', shown: 'gone', delivered: 'gone', doomed: 'gone' },
  'pod sandbox ended': {
    queued: 'gone',
    running: 'doomed',
    answered: 'doomed',
    held: 'doomed',
    delivered: 'gone',
  },
  expired: { held: 'doomed', shown: 'gone', delivered: 'gone' },
  removed: { doomed: 'gone' },
  'removal given up': { doomed: 'gone' },
};

/** @returns undefined where nothing changes. */
export function atEvent(
  event: CreationEvent,
  state: CreationState,
  kind: 'podSandbox' | 'container',
): CreationState | undefined {
  const next = eventTable[event][state];
  return next === 'held' && kind === 'podSandbox' ? 'shown' : next;
}
