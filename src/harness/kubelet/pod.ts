/** A pod as a kubelet was given it, and what it keeps of it beside what the runtime shows. */
import path from 'node:path';
import type { ExitPlan } from '../exit-plan.js';
import { CrashLoops } from './attempts.js';
import type { Phase, PodEvent, PodHistory } from './pod-history.js';

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

export interface PodPlan {
  readonly name: string;
  readonly namespace: string;
  /** When the kubelet is told of it, in ms since the start of the run. */
  readonly arriveMs: number;
  /** When it is told of its deletion, in ms since the start of the run; never unless given. */
  readonly deleteMs?: number;
  /**
   * When it is told of it again, with the same uid, as of a static pod whose file comes back: after its deletion, and not before
   * that is done. In ms since the start of the run; never unless given.
   */
  readonly returnMs?: number;
  /** Names of its containers, in the order they are made; default `['app']`. */
  readonly containers?: readonly string[];
  /** Names of its init containers, in the order they are run; default none. */
  readonly initContainers?: readonly string[];
  /** Default `Always`. */
  readonly restartPolicy?: RestartPolicy;
  /** Containers and init containers that end by themselves, by name. Only the simulated runtime heeds it. */
  readonly exits?: Readonly<Record<string, ExitPlan>>;
  /** Whether it comes from a file on the node rather than the API server. */
  readonly isStatic?: boolean;
  /** Whether it is known beforehand that it cannot come to run: a run does not wait for it. A kubelet does not know. */
  readonly neverRuns?: boolean;
}

/** Init containers first. */
export function containerNames({ containers = ['app'], initContainers = [] }: PodPlan): readonly string[] {
  return [...initContainers, ...containers];
}

/** Whether it comes to an end that is not its deletion. */
export function endsByItself({ restartPolicy = 'Always', containers = ['app'], exits }: PodPlan): boolean {
  return (
    restartPolicy !== 'Always' &&
    containers.every((name) => exits?.[name] !== undefined && exits[name].times === undefined)
  );
}

export class Pod implements PodHistory {
  readonly plan: PodPlan;
  readonly uid = crypto.randomUUID();
  readonly containers: readonly string[];
  readonly initContainers: readonly string[];
  readonly restartPolicy: RestartPolicy;
  readonly logDirectory: string;
  readonly events: PodEvent[] = [];
  /** Ids of sandboxes that RunPodSandbox returned or that were adopted. */
  readonly sandboxIds = new Set<string>();
  readonly crashLoops: CrashLoops;
  /** When it came, the last time, as in its annotation; undefined: it has not come yet. */
  seen: string | undefined;
  isDeleted = false;
  /** How often it has come. */
  #lives = 0;

  /** @param secondMs See KubeletLikeOptions.relistMs. */
  constructor(plan: PodPlan, podLogsDirectory: string, secondMs: number) {
    this.plan = plan;
    this.containers = plan.containers ?? ['app'];
    this.initContainers = plan.initContainers ?? [];
    this.restartPolicy = plan.restartPolicy ?? 'Always';
    this.logDirectory = path.join(podLogsDirectory, `${plan.namespace}_${plan.name}_${this.uid}`);
    this.crashLoops = new CrashLoops(secondMs);
  }

  /** A kubelet is told of it. */
  come(): void {
    this.seen = new Date().toISOString();
    this.isDeleted = false;
    this.#lives += 1;
  }

  /** Whether nothing more is to become of it: it is deleted or over, it runs and does not end by itself, or it never will run. */
  get isSettled(): boolean {
    const { returnMs, neverRuns } = this.plan;
    if (neverRuns === true) return true;
    if (this.#lives < (returnMs === undefined ? 1 : 2)) return false;
    if (this.isDeleted || this.phase === 'succeeded' || this.phase === 'failed') return true;
    return this.phase === 'running' && !endsByItself(this.plan);
  }

  get name(): string {
    return this.plan.name;
  }

  get phase(): Phase {
    return this.events.at(-1)?.phase ?? 'waiting';
  }
}
