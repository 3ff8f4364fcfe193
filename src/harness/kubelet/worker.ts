/** A pod's worker: when it tries again. Source: kubernetes 1.26 pkg/kubelet/pod_workers.go. */
import { type Moment, never, type Pleg } from './pleg.js';
import type { Pod } from './pod.js';
import { describe } from './pod-history.js';
import { podOutcome } from './pod-outcome.js';
import { type SyncTools, syncPod, terminatePod } from './sync.js';

export interface WorkerTools extends SyncTools {
  readonly pleg: Pleg;
  readonly random: () => number;
  /** Least and longest wait after a failed sync, in ms. */
  readonly backoffMs: readonly [least: number, longest: number];
  /** See KubeletLikeOptions.relistMs. */
  readonly secondMs: number;
}

/** pkg/kubelet/errors.go:NetworkNotReadyErrorMsg. */
const networkNotReady = 'network is not ready';

/** After a sync without an error, in s: workerResyncIntervalJitterFactor is 0.5 here too. */
const resyncSeconds = 60;

export class PodWorker {
  readonly pod: Pod;
  /** Resolves once the pod is deleted or over, and what was seen of it is stopped. */
  readonly ended: Promise<void>;
  readonly #tools: WorkerTools;
  readonly #end: () => void;
  #hasEnded = false;
  #isWorking = false;
  /** Whether an update came while it worked. */
  #again = false;
  #dueMs = Infinity;
  #synced: Moment = never;
  /** What has become of the pod by itself. */
  #outcome: 'succeeded' | 'failed' | undefined;

  constructor(pod: Pod, tools: WorkerTools) {
    this.pod = pod;
    this.#tools = tools;
    let end = (): void => undefined;
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    this.#end = end;
  }

  /** Syncs the pod, right now or after the sync that is under way. */
  update(): void {
    this.#again = true;
    if (!this.#isWorking && !this.#hasEnded) void this.#work();
  }

  delete(): void {
    const { pod } = this;
    pod.isDeleted = true;
    this.#tools.record(pod, pod.phase, 'deleted');
    this.update();
  }

  /** Syncs the pod if it is time to do so again. */
  updateIfDue(): void {
    if (this.#tools.clock.now() < this.#dueMs) return;
    this.#dueMs = Infinity;
    this.update();
  }

  async #work(): Promise<void> {
    this.#isWorking = true;
    while (this.#again && !this.#hasEnded && !this.#tools.signal.aborted) {
      this.#again = false;
      const errors = await this.#once();
      this.#dueMs = this.#tools.clock.now() + this.#waitMs(errors);
    }
    this.#isWorking = false;
  }

  /** @returns The texts of what went wrong. */
  async #once(): Promise<string[]> {
    const { pod } = this;
    const { pleg, calls, signal, record } = this.#tools;
    // What came while it waits for the status is the next sync's.
    const ends = pod.isDeleted ? 'deleted' : this.#outcome;
    try {
      const status = await pleg.newerThan(pod.uid, this.#synced, signal);
      if (status === undefined) return [];
      if (ends === undefined) {
        this.#outcome = podOutcome(pod, status);
        if (this.#outcome === undefined) return await syncPod(pod, status, this.#tools);
        this.#again = true;
        return [];
      }
      await terminatePod(status, calls);
      if (signal.aborted) return [];
      this.#hasEnded = true;
      record(pod, ends, ends === 'deleted' ? 'stopped' : ends, ends === 'failed');
      this.#end();
      return [];
    } catch (error) {
      if (!signal.aborted) record(pod, 'waiting', describe(error), true);
      return [String(error)];
    } finally {
      this.#synced = pleg.moment();
    }
  }

  #waitMs(errors: readonly string[]): number {
    const { random, secondMs, backoffMs } = this.#tools;
    const jittered = (seconds: number) => seconds * secondMs * (1 + random() / 2);
    if (errors.length === 0) return jittered(resyncSeconds);
    if (errors.some((text) => text.includes(networkNotReady))) return jittered(1);
    const [least, longest] = backoffMs;
    return least + random() * (longest - least);
  }
}
