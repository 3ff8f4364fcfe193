/** One start of a container: in flight, or past and not known to have reached anybody. */
import type { Urgency } from '../throttle/work-queue.js';
import type { DetachedCall } from './detached-call.js';
import type { WatchedStart } from './second-copy-guard.js';
import type { StartIdentity } from './start-runtime.js';

export interface StartRequest<Origin> {
  readonly containerId: string;
  /** The downstream's own bytes: what goes upstream. */
  readonly bytes: Buffer;
  readonly origin: Origin;
  /** Whose container it is, where the caller knows; else the runtime is asked. */
  readonly known?: StartIdentity | undefined;
  readonly urgency?: Urgency;
}

/** The steps of a start, as logged and counted. */
export type StartStep =
  | 'queued'
  | 'hangs'
  | 'started'
  | 'waiter joined'
  | 'waiter left'
  | 'answered'
  | 'held'
  | 'replayed'
  | 'delivered'
  | 'guarded'
  | 'let go'
  | 'dropped'
  | 'timed out'
  | 'failed';

/** Its request is not kept here. */
export class Start<Origin, Answer> {
  readonly containerId: string;
  readonly origin: Origin;
  readonly call: DetachedCall<Answer>;
  /** Undefined while nothing is known of the container, and where nobody can say. */
  identity: StartIdentity | undefined;
  /** As the guard sees it; undefined where there is no identity. */
  watched: WatchedStart | undefined;
  /** What a repeat is answered with, once it went through. */
  replayable: Answer | undefined;
  /** When it ended, in ms of the clock. */
  endedMs: number | undefined;
  failedLooks = 0;
  /** Its container or pod sandbox was stopped or removed. */
  isOver = false;
  /** An earlier start of this container may have gone through, so that a refusal of this one says nothing. */
  readonly isDoubtful: boolean;

  constructor(containerId: string, origin: Origin, call: DetachedCall<Answer>, isDoubtful: boolean) {
    this.containerId = containerId;
    this.origin = origin;
    this.call = call;
    this.isDoubtful = isDoubtful;
  }
}
