/** A pod as a kubelet was given it, and what it keeps of it beside what the runtime shows. */
import path from 'node:path';
import { CrashLoops } from './attempts.js';
import type { Phase, PodEvent, PodHistory } from './pod-history.js';

export interface PodPlan {
  readonly name: string;
  readonly namespace: string;
  /** When the kubelet is told of it, in ms since the start of the run. */
  readonly arriveMs: number;
  /** When it is told of its deletion, in ms since the start of the run; never unless given. */
  readonly deleteMs?: number;
  /** Names of its containers, in the order they are made; default `['app']`. */
  readonly containers?: readonly string[];
  /** Whether it comes from a file on the node rather than the API server. */
  readonly isStatic?: boolean;
}

export class Pod implements PodHistory {
  readonly plan: PodPlan;
  readonly uid = crypto.randomUUID();
  readonly containers: readonly string[];
  readonly logDirectory: string;
  readonly events: PodEvent[] = [];
  /** Ids of sandboxes that RunPodSandbox returned or that were adopted. */
  readonly sandboxIds = new Set<string>();
  readonly crashLoops: CrashLoops;
  /** When it came, as in its annotation; undefined: it has not come yet. */
  seen: string | undefined;
  isDeleted = false;

  /** @param secondMs See KubeletLikeOptions.relistMs. */
  constructor(plan: PodPlan, podLogsDirectory: string, secondMs: number) {
    this.plan = plan;
    this.containers = plan.containers ?? ['app'];
    this.logDirectory = path.join(podLogsDirectory, `${plan.namespace}_${plan.name}_${this.uid}`);
    this.crashLoops = new CrashLoops(secondMs);
  }

  get name(): string {
    return this.plan.name;
  }

  get phase(): Phase {
    return this.events.at(-1)?.phase ?? 'waiting';
  }
}
