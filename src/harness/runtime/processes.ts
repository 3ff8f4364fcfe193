/** The processes of containers: how often each ran its work, and those that end by themselves (exit-plan.ts). Knows no calls. */
import type { Clock } from '../../clock.js';
import { exitPlanOf } from '../exit-plan.js';
import type { Container, NodeState } from './node-state.js';

export class Processes {
  readonly #node: NodeState;
  readonly #clock: Clock;
  readonly #runs = new Map<string, number>();
  readonly #mostCopies = new Map<string, number>();
  /** Of ends that are to come: each cancels one. */
  readonly #cancels = new Set<() => void>();

  constructor(node: NodeState, clock: Clock) {
    this.#node = node;
    this.#clock = clock;
  }

  /** From here on it runs. Its end is of no call, and comes while the runtime is down, too. */
  run(container: Container): void {
    const { podUid, metadata, config } = container;
    const key = keyOf(podUid, metadata.name);
    const runs = (this.#runs.get(key) ?? 0) + 1;
    this.#runs.set(key, runs);
    this.#node.run(container);
    const copies = this.#node.runningCopies(podUid, metadata.name);
    this.#mostCopies.set(key, Math.max(this.#mostCopies.get(key) ?? 0, copies));
    const plan = exitPlanOf(config.annotations);
    if (plan === undefined || runs > (plan.times ?? Infinity)) return;
    const cancel = this.#clock.after(plan.afterMs, () => {
      this.#cancels.delete(cancel);
      if (container.state !== 'CONTAINER_RUNNING' || !this.#node.containers.has(container.id)) return;
      this.#node.exit(container, plan.code, plan.code === 0 ? 'Completed' : 'Error');
    });
    this.#cancels.add(cancel);
  }

  /** How often the process of a container of a pod began its work, all attempts counted together. */
  runs(podUid: string, containerName: string): number {
    return this.#runs.get(keyOf(podUid, containerName)) ?? 0;
  }

  /** Most copies of one container of one pod that ever ran at once. */
  mostCopies(podUid: string, containerName: string): number {
    return this.#mostCopies.get(keyOf(podUid, containerName)) ?? 0;
  }

  /** No process ends by itself any more. */
  close(): void {
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
  }
}

function keyOf(podUid: string, containerName: string): string {
  return JSON.stringify([podUid, containerName]);
}
