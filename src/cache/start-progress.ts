/** What a start is at. Knows its call and how long the queue is; neither requests nor waiters. */
import type { Admission } from '../throttle/admission.js';
import type { Progress } from './progress.js';
import type { Start } from './start.js';

export function progressOfStart(
  { call }: Pick<Start<unknown, unknown>, 'call'>,
  admission: Pick<Admission, 'queued'>,
): Progress {
  if (!call.inFlight) return { at: 'checked', sinceMs: call.lastAskedMs };
  if (call.runningSinceMs !== undefined) return { at: 'running', sinceMs: call.runningSinceMs };
  return { at: 'queued', sinceMs: call.begunMs, behind: Math.max(0, admission.queued - 1) };
}
