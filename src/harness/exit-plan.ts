/**
 * Containers of a simulated node that end by themselves: what a pod's plan says of them, and the annotations of CreateContainer
 * that tell the simulated runtime. A real runtime passes them over.
 */
import type { StringMap } from './runtime/messages.js';

export interface ExitPlan {
  /** How long its process runs, in ms. */
  readonly afterMs: number;
  /** Of the process. */
  readonly code: number;
  /** How many of its runs end like this, all attempts counted together; the ones after that run on. Default: all. */
  readonly times?: number;
}

const names = {
  afterMs: 'holdfast.dev/simulated-exit-after-ms',
  code: 'holdfast.dev/simulated-exit-code',
  times: 'holdfast.dev/simulated-exit-times',
} as const;

export function exitAnnotations(plan: ExitPlan | undefined): StringMap {
  if (plan === undefined) return {};
  const { afterMs, code, times } = plan;
  return {
    [names.afterMs]: String(afterMs),
    [names.code]: String(code),
    ...(times === undefined ? {} : { [names.times]: String(times) }),
  };
}

/** @returns Undefined: its process does not end by itself. */
export function exitPlanOf(annotations: StringMap): ExitPlan | undefined {
  const [afterMs, code, times] = [annotations[names.afterMs], annotations[names.code], annotations[names.times]];
  if (afterMs === undefined) return undefined;
  return {
    afterMs: Number(afterMs),
    code: Number(code ?? 0),
    ...(times === undefined ? {} : { times: Number(times) }),
  };
}
