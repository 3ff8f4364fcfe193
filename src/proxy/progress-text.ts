/** Puts into words what a call waits for. Kubelets show it as an event of the pod. */
import type { Kind } from '../admin/metrics.js';
import type { Obstacle, Progress } from '../cache/progress.js';
import { statusOf } from './rescue.js';

/** What the node is at. */
export interface Load {
  /** How many creations and starts may be carried out at once. */
  readonly limit: number;
  /** How many of them hang, and do not count. */
  readonly hung: number;
  /** `some avg10` of each resource that is looked at, in percent. */
  readonly pressure: ReadonlyMap<string, number>;
}

const things = { podSandbox: 'pod sandbox', container: 'container', start: 'container' } as const;

/** How much of an error is told, in characters. */
const errorAtMost = 300;

/**
 * @param progress undefined: it is not known.
 * @param wedgeAfterMs From when on a reserved name will not get free by itself.
 */
export function progressText(
  kind: Kind,
  progress: Progress | undefined,
  nowMs: number,
  load: Load,
  wedgeAfterMs: number,
): string {
  return `holdfast: ${said(kind, progress, nowMs, load, wedgeAfterMs)}`;
}

function said(kind: Kind, progress: Progress | undefined, nowMs: number, load: Load, wedgeAfterMs: number): string {
  const thing = things[kind];
  if (progress === undefined) return `this ${thing} is still waited for`;
  const forText = seconds(nowMs - progress.sinceMs);
  switch (progress.at) {
    case 'running':
      return kind === 'start'
        ? `the runtime is still starting this container after ${forText}; it goes on`
        : `the runtime is still making this ${thing} after ${forText}; it goes on, ask again`;
    case 'queued': {
      const what = kind === 'start' ? 'the start of this container' : `this ${thing}`;
      const remedy = kind === 'start' ? '' : ', ask again';
      return `${what} has been queued for ${forText} behind ${progress.behind} (${loadText(load)}); it keeps its place${remedy}`;
    }
    case 'checked':
      return `this ${thing} is made, and the runtime has not said for ${forText} how it is; ask again`;
    case 'waiting':
      return `${obstacleText(kind, progress.for, nowMs, wedgeAfterMs)}; ask again`;
  }
}

function obstacleText(kind: Kind, obstacle: Obstacle, nowMs: number, wedgeAfterMs: number): string {
  const thing = things[kind];
  switch (obstacle.what) {
    case 'removal': {
      const error = obstacle.error();
      if (error !== undefined)
        return `the ${thing} before it (${named(obstacle.id)}) cannot be removed: ${errorText(error)}`;
      const before =
        obstacle.id === undefined ? 'is still being made' : `(${named(obstacle.id)}) is still to be removed`;
      return `the ${thing} before it ${before}, waited for since ${seconds(nowMs - obstacle.sinceMs)}`;
    }
    case 'start':
      return (
        `attempt ${obstacle.attempt} of this container (${named(obstacle.containerId)}) is still being started ` +
        `after ${seconds(nowMs - obstacle.sinceMs)}`
      );
    case 'pause':
      return (
        `making this ${thing} has failed ${obstacle.failures} times in a row; ` +
        `the next try is in ${seconds(obstacle.untilMs - nowMs)}`
      );
    case 'name':
      return nameText(kind, obstacle, nowMs - obstacle.sinceMs, wedgeAfterMs);
  }
}

function nameText(
  kind: Kind,
  { id, error }: Extract<Obstacle, { readonly what: 'name' }>,
  forMs: number,
  wedgeAfterMs: number,
): string {
  const holder = id === undefined ? '' : ` for ${id}`;
  const text = `the runtime has had the name of this ${things[kind]} reserved${holder} for ${seconds(forMs)}`;
  const why = error === undefined ? 'of which nothing is to be seen yet' : errorText(error);
  if (forMs < wedgeAfterMs) return `${text}, ${why}; it is tried again`;
  return `${text}, ${why}; it will not get free by itself: ${wedgeRemedy(kind, id)}`;
}

/** What an operator can do about a name that does not get free. @param id Of what has it, where that is known. */
export function wedgeRemedy(kind: Kind, id: string | undefined): string {
  const command = kind === 'podSandbox' ? 'crictl rmp --force' : 'crictl rm --force';
  return id === undefined ? 'restart the runtime' : `try "${command} ${id}", else restart the runtime`;
}

function loadText({ limit, hung, pressure }: Load): string {
  const parts = [...pressure].map(([resource, percent]) => `${resource} pressure ${Math.round(percent)} %`);
  return [`limit ${limit}`, ...(hung > 0 ? [`${hung} hang`] : []), ...parts].join(', ');
}

function errorText(error: unknown): string {
  return statusOf(error).message.slice(0, errorAtMost);
}

function named(id: string | undefined): string {
  return id === undefined ? 'of unknown id' : id.slice(0, 13);
}

function seconds(ms: number): string {
  return `${Math.max(0, Math.round(ms / 1000))} s`;
}
