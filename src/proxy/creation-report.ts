/**
 * What creations and starts are at, in words and plain values, for whoever runs the node. It says names, ids, times and what the runtime
 * said, never values of a request, which hold secrets.
 */
import type { Kind } from '../admin/metrics.js';
import type { CreationView, FailuresView, GivenUpRemoval, StartView } from '../cache/creation-view.js';
import { containerOf, type Identity } from '../cache/fingerprint.js';
import type { Forgotten } from '../cache/forget-by-hand.js';
import type { Progress } from '../cache/progress.js';
import { type Load, progressText, wedgeRemedy } from './progress-text.js';
import { statusOf } from './rescue.js';

/** Whose it is. Of a start it may not be known whose container it starts: then only its id is there. */
export interface ReportedIdentity {
  readonly kind: Kind;
  readonly namespace?: string;
  readonly pod?: string;
  readonly uid?: string;
  readonly container?: string;
  readonly attempt?: number | undefined;
}

/** Durations in ms. */
export interface ReportedCreation extends ReportedIdentity {
  readonly id?: string | undefined;
  readonly podSandboxId?: string | undefined;
  /**
   * Those of a creation, and of a start `started` and `unclear`. `failing`: nothing is under way or remembered but that it failed;
   * `removal given up`: it is the kubelet's to remove.
   */
  readonly state: CreationView['state'] | StartView['state'] | 'failing' | 'removal given up';
  /** It needs a look: it hangs, fails again and again, cannot be removed, or takes longer than a kubelet waits. */
  readonly stuck: boolean;
  readonly ageMs: number;
  readonly stateForMs: number;
  /** How long ago somebody last asked for it or stopped waiting for it. */
  readonly askedAgoMs?: number;
  readonly waiters: number;
  /** Kept out of lists. */
  readonly hidden: boolean;
  readonly queue?: { readonly before: number; readonly class: string; readonly forMs: number } | undefined;
  /** In the words that a waiter is told. */
  readonly waitsFor?: string | undefined;
  /** What will happen. */
  readonly next: string;
  readonly hungForMs?: number | undefined;
  readonly timesGivenUp?: number | undefined;
  readonly failures?: ReportedFailures | undefined;
  readonly reserved?: ReportedReservation | undefined;
  readonly lastError?: string | undefined;
}

interface ReportedFailures {
  readonly count: number;
  readonly lastAgoMs: number;
  readonly nextInMs: number;
}

interface ReportedReservation {
  readonly by: string | undefined;
  readonly forMs: number;
  readonly tries: number;
  readonly wedged: boolean;
  /** Of a wedge: what an operator can do. */
  readonly remedy: string | undefined;
}

export interface ReportedForget extends ReportedIdentity {
  readonly state: ReportedCreation['state'];
  readonly outcome: 'done' | 'refused';
  readonly text: string;
}

export interface ReportContext {
  readonly nowMs: number;
  readonly load: Load;
  readonly wedgeAfterMs: number;
  readonly creationTimeoutMs: number;
  readonly holdTtlMs: number;
}

/** How long a kubelet waits by default, in ms: `runtimeRequestTimeout`, and for a pod sandbox twice that. */
const patienceMs = { podSandbox: 240_000, container: 120_000, start: 120_000 } as const;
/** What a removal or a start of another one keeps back for longer than this needs a look, in ms. */
const inTheWayMs = 60_000;
/** So many failures in a row are no bad luck. What is still wanted has been asked for again within that time, in ms. */
const failsOften = { times: 3, withinMs: 120_000 } as const;
/** How much of an error is told, in characters. */
const errorAtMost = 300;

export function reportCreation(view: CreationView, context: ReportContext): ReportedCreation {
  const { nowMs } = context;
  const { identity, state, podSandboxId, timesGivenUp, failures, reservation } = view;
  return {
    ...named(identity),
    id: view.id,
    podSandboxId: podSandboxId === '' ? undefined : podSandboxId,
    state,
    stuck: isStuck(view, nowMs),
    ...timesOf(view, identity.kind, context),
    hidden: view.isHidden,
    next: nextOf(view, context),
    timesGivenUp: timesGivenUp === 0 ? undefined : timesGivenUp,
    failures: failures && failureTimes(failures, nowMs),
    reserved: reservation && {
      by: reservation.holderId,
      forMs: since(reservation.sinceMs, nowMs),
      tries: reservation.tries,
      wedged: reservation.isWedged,
      remedy: reservation.isWedged ? wedgeRemedy(identity.kind, reservation.holderId) : undefined,
    },
    lastError: errorText(reservation?.error ?? view.removalError ?? failures?.error),
  };
}

export function reportStart(view: StartView, context: ReportContext): ReportedCreation {
  const { containerId, state, progress, stateSinceMs, hungSinceMs } = view;
  const isLate = progress !== undefined && context.nowMs - stateSinceMs > patienceMs.start;
  return {
    ...ofStart(view),
    id: containerId,
    state,
    stuck: hungSinceMs !== undefined || isLate,
    ...timesOf(view, 'start', context),
    hidden: false,
    next: nextOfStart(view, context),
  };
}

/** What failed and is not asked for now. */
export function reportFailing(view: FailuresView, nowMs: number): ReportedCreation {
  const { identity, count, lastMs, nextMs, error } = view;
  const pause = nextMs > nowMs ? `, in ${seconds(nextMs - nowMs)} at the earliest` : '';
  return {
    ...named(identity),
    state: 'failing',
    stuck: failsAgainAndAgain(view, nowMs),
    ...idle(lastMs, nowMs),
    waitsFor: `holdfast: it has failed ${count === 1 ? 'once' : `${count} times in a row`}, and nobody asks for it now`,
    next: `it is tried when the kubelet asks again${pause}`,
    failures: failureTimes(view, nowMs),
    lastError: errorText(error),
  };
}

export function reportGivenUp({ identity, id, sinceMs, error }: GivenUpRemoval, nowMs: number): ReportedCreation {
  return {
    ...named(identity),
    id,
    state: 'removal given up',
    stuck: true,
    ...idle(sinceMs, nowMs),
    waitsFor: 'holdfast: it could not be removed',
    next: 'the kubelet sees it, and its garbage collection has to remove it',
    lastError: errorText(error),
  };
}

export function reportForgotten({ identity, state, ...result }: Forgotten): ReportedForget {
  const told =
    'did' in result
      ? { outcome: 'done' as const, text: doneTexts[result.did] }
      : { outcome: 'refused' as const, text: refusedTexts[result.refused] };
  return { ...named(identity), state, ...told };
}

/** A start is never forgotten: it is what keeps a second copy of its container from being made. */
export function reportKept(view: StartView): ReportedForget {
  const text =
    view.progress === undefined
      ? 'its start may have gone through and nobody has been told: that keeps a second copy from being made'
      : 'its start is under way and ends by itself; meanwhile no second copy is made';
  return { ...ofStart(view), state: view.state, outcome: 'refused', text };
}

const doneTexts = {
  dropped: 'was queued, and nobody waited for it: dropped',
  'tried now': 'its pause is over: it is tried now, for whoever waits',
  'removal begun': 'was held: it is looked at and removed, and then the next request makes a new one',
  'memory dropped': 'forgotten: the next request asks the runtime',
} as const;

const refusedTexts = {
  running: 'the runtime is at it: to end that would leave half of it behind',
  'waited for': 'it is queued and somebody waits for it: it keeps its place',
  'removal in the way': 'it waits for the removal of the one before it',
  'start in the way': 'it waits for the start of the attempt before it, so that no second copy is made',
  'being answered': 'it is being given to somebody at this moment',
  'being removed': 'it is being removed, which is given up by itself after five tries',
} as const;

function named(identity: Identity): ReportedIdentity {
  const { kind, namespace, name: pod, uid, attempt } = identity;
  return { kind, namespace, pod, uid, ...(kind === 'container' && { container: identity.container }), attempt };
}

function ofStart({ family, attempt }: StartView): ReportedIdentity {
  if (family === undefined) return { kind: 'start' };
  const { namespace, name: pod, uid, container } = containerOf(family);
  return { kind: 'start', namespace, pod, uid, container, attempt };
}

function timesOf(view: CreationView | StartView, kind: Kind, { nowMs, load, wedgeAfterMs }: ReportContext) {
  const { place, progress, hungSinceMs } = view;
  return {
    ageMs: since(view.begunMs, nowMs),
    stateForMs: since(view.stateSinceMs, nowMs),
    askedAgoMs: since(view.lastAskedMs, nowMs),
    waiters: view.waiters,
    queue: place && { before: place.before, class: place.class, forMs: since(place.sinceMs, nowMs) },
    waitsFor: progress && progressText(kind, progress, nowMs, load, wedgeAfterMs),
    hungForMs: hungSinceMs === undefined ? undefined : since(hungSinceMs, nowMs),
  };
}

/** Of what nothing is under way for. */
function idle(sinceMs: number, nowMs: number) {
  const ageMs = since(sinceMs, nowMs);
  return { ageMs, stateForMs: ageMs, waiters: 0, hidden: false };
}

function failureTimes({ count, lastMs, nextMs }: FailuresView, nowMs: number): ReportedFailures {
  return { count, lastAgoMs: since(lastMs, nowMs), nextInMs: Math.max(0, since(nowMs, nextMs)) };
}

function isStuck(view: CreationView, nowMs: number): boolean {
  const { identity, stateSinceMs, progress, hungSinceMs, reservation, removalError, failures } = view;
  if (hungSinceMs !== undefined || reservation?.isWedged === true || removalError !== undefined) return true;
  if (progress === undefined) return false;
  if (failures !== undefined && failsAgainAndAgain(failures, nowMs)) return true;
  const obstacle = progress.at === 'waiting' ? progress.for : undefined;
  const isKeptBack = obstacle?.what === 'removal' || obstacle?.what === 'start';
  return (isKeptBack && nowMs - obstacle.sinceMs > inTheWayMs) || nowMs - stateSinceMs > patienceMs[identity.kind];
}

function failsAgainAndAgain({ count, lastMs }: FailuresView, nowMs: number): boolean {
  return count >= failsOften.times && nowMs - lastMs <= failsOften.withinMs;
}

function nextOf(view: CreationView, context: ReportContext): string {
  const { identity, state, waiters, progress, heldUntilMs = 0 } = view;
  switch (state) {
    case 'queued':
      return progress?.at === 'waiting' ? nextOfWaiting(progress, context.nowMs) : nextOfQueued(view, context);
    case 'running': {
      const left = identity.kind === 'container' ? 'it is held for the next request' : 'the kubelet finds it';
      return `when it ends ${waiters > 0 ? 'whoever waits is answered' : left}; ${timeLeft(progress, context)}`;
    }
    case 'answered':
      return 'its answer is on its way';
    case 'held':
      return `the next request gets it; without one it is removed in ${seconds(heldUntilMs - context.nowMs)}`;
    case 'shown':
      return 'the kubelet finds it in its list, or gets it when it asks again';
    case 'doomed':
      return progress === undefined ? 'it is removed' : 'it is removed when the runtime has made it';
    default:
      return 'somebody has it: the rest is up to the kubelet';
  }
}

function nextOfQueued({ place, waiters }: CreationView | StartView, { holdTtlMs }: ReportContext): string {
  const before = place?.before ?? 0;
  const turn = before === 0 ? 'it goes as soon as there is a place' : `it goes when the ${before} before it have gone`;
  return waiters > 0 ? turn : `${turn}; it is dropped if nobody asks for it within ${seconds(holdTtlMs)}`;
}

function nextOfWaiting({ for: obstacle }: Extract<Progress, { readonly at: 'waiting' }>, nowMs: number): string {
  switch (obstacle.what) {
    case 'removal':
      return 'it is made when that is gone, or its removal is given up';
    case 'start':
      return 'it is made if that start fails; else whoever waits is told that the container was started';
    case 'pause':
      return `it is tried in ${seconds(obstacle.untilMs - nowMs)}`;
    case 'name':
      return 'it is tried again, at the latest 10 s after the last time';
  }
}

function nextOfStart(view: StartView, context: ReportContext): string {
  const { state, progress, waiters } = view;
  if (state === 'started') return 'a repeat is answered at once; the next attempt of the container is refused once';
  if (state === 'unclear') return 'before the next attempt of the container is made, it is looked at';
  if (state === 'queued') return nextOfQueued(view, context);
  const whoHears = waiters > 0 ? 'whoever waits is answered' : 'a repeat is answered, and no second copy made';
  return `when it ends ${whoHears}; ${timeLeft(progress, context)}`;
}

function timeLeft(progress: Progress | undefined, { nowMs, creationTimeoutMs }: ReportContext): string {
  const leftMs = progress?.at === 'running' ? progress.sinceMs + creationTimeoutMs - nowMs : creationTimeoutMs;
  return `it is cancelled in ${seconds(leftMs)} at the latest`;
}

function errorText(error: unknown): string | undefined {
  return error === undefined ? undefined : statusOf(error).message.slice(0, errorAtMost);
}

function since(thenMs: number, nowMs: number): number {
  return Math.round(nowMs - thenMs);
}

function seconds(ms: number): string {
  return `${Math.max(0, Math.round(ms / 1000))} s`;
}
