/**
 * Brings pods up and takes them down as a kubelet 1.26 does, towards the runtime: what it calls, with which deadlines, what it
 * concludes from what it sees, when it tries again. What it claims is in facts.ts, by number. It has no volumes, no probes and no
 * hooks. Knows nothing of what is behind the caller.
 */
import { setMaxListeners } from 'node:events';
import { type Clock, systemClock } from '../../clock.js';
import { type Caller, CriCaller } from '../cri-caller.js';
import { repeat, sleep, untilAborted } from '../sleep.js';
import { Calls } from './calls.js';
import { followEvents } from './evented-pleg.js';
import { Garbage } from './garbage.js';
import { ImagePulls } from './image-pulls.js';
import { Pleg } from './pleg.js';
import { Pod, type PodPlan } from './pod.js';
import type { Phase, PodHistory } from './pod-history.js';
import { type PodDefaults, Requests } from './requests.js';
import { PodWorker, type WorkerTools } from './worker.js';

/** Where the calls go: to a unix socket, or wherever the caller takes them; whoever made the caller closes it. */
type Destination = { readonly socketPath: string } | { readonly caller: Caller };

export type KubeletLikeOptions = Destination & {
  /** Where the pods' log directories are made, in the place of /var/log/pods. */
  readonly podLogsDirectory: string;
  readonly pods: readonly PodPlan[];
  /** `runtimeRequestTimeout`, in ms; RunPodSandbox gets twice that. A kubelet's default is 2 min. */
  readonly requestTimeoutMs: number;
  /** Least and longest wait after a failed sync, in ms; a kubelet's is 10 to 15 s. */
  readonly backoffMs: readonly [least: number, longest: number];
  /**
   * Time between two looks at the lists, in ms. A kubelet's is 1 s, and all its other times are in units of it: with 100, Status
   * comes every 500 ms and housekeeping every 200 ms.
   */
  readonly relistMs: number;
  /**
   * How long an image pull takes, in ms, with pull policy Always; one at a time on the node. Default: the policy is IfNotPresent, and
   * the image is there.
   */
  readonly pullMs?: number;
  /** Whether it uses GetContainerEvents; default false, as the gate EventedPLEG is. */
  readonly events?: boolean;
  /** Default: the system's. Deadlines are the caller's affair: over a socket they are in real time. */
  readonly clock?: Clock;
  /** From 0 up to 1; default Math.random. */
  readonly random?: () => number;
  /** Default: the one the simulated runtime has. */
  readonly imageName?: string;
  readonly podDefaults?: PodDefaults;
};

/** In units of a kubelet's second (kubelet.go: Run, housekeepingPeriod, ContainerGCPeriod). */
const statusSeconds = 5;
const housekeepingSeconds = 2;
const garbageSeconds = 60;

/** What lives during one `run` or `removeAll`. */
interface Life {
  readonly workers: ReadonlyMap<Pod, PodWorker>;
  readonly garbage: Garbage;
  /** Fires at its end. */
  readonly over: AbortSignal;
  /** Gives a pod its worker. */
  begin(pod: Pod): PodWorker;
}

export class KubeletLike {
  /** How long each ListPodSandbox and ListContainers took, filtered ones too. */
  readonly listTimesMs: readonly number[];
  readonly #listTimesMs: number[] = [];
  readonly #options: KubeletLikeOptions;
  readonly #clock: Clock;
  readonly #requests: Requests;
  readonly #random: () => number;
  readonly #pods: ReadonlyMap<string, Pod>;
  #startedMs = 0;
  #recorded = (): void => undefined;

  constructor(options: KubeletLikeOptions) {
    const { podLogsDirectory, relistMs, imageName = 'simulated/image:1', podDefaults = {} } = options;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#requests = new Requests(imageName, podDefaults, this.#random);
    const pods = options.pods.map((plan) => new Pod(plan, podLogsDirectory, relistMs));
    this.#pods = new Map(pods.map((pod) => [pod.uid, pod]));
    this.listTimesMs = this.#listTimesMs;
  }

  /**
   * Brings every pod up as its plan says; at most once.
   *
   * @param signal Ends it; calls in flight are cancelled.
   * @param toTheEnd Whether to go on until the signal fires, whatever the pods do.
   * @returns Once every pod that ever runs does, is over or was told to go, for good, or the signal has fired.
   */
  async run(signal: AbortSignal, toTheEnd = false): Promise<readonly PodHistory[]> {
    this.#startedMs = this.#clock.now();
    const pods = [...this.#pods.values()];
    await this.#live(signal, async ({ begin, over }) => {
      const come = (pod: Pod) => {
        pod.come();
        const worker = begin(pod);
        worker.update();
        return worker;
      };
      for (const pod of pods) void this.#follow(pod, come, over);
      const settled = new Promise<void>((resolve) => {
        this.#recorded = () => {
          if (!toTheEnd && pods.every(({ isSettled }) => isSettled)) resolve();
        };
        this.#recorded();
      });
      await untilAborted(settled, over);
    });
    return pods.map(({ name, uid, events }) => ({ name, uid, events: [...events] }));
  }

  /**
   * Deletes every pod that has come, as a kubelet that was restarted meanwhile; garbage collection does not wait for its minute.
   *
   * @param signal Ends it; calls in flight are cancelled.
   * @returns Once the runtime shows nothing of them any more, or the signal has fired.
   */
  async removeAll(signal: AbortSignal): Promise<void> {
    await this.#live(signal, async ({ workers, begin, garbage, over }) => {
      for (const pod of this.#pods.values()) {
        if (pod.seen !== undefined && pod.phase !== 'deleted') begin(pod).delete();
      }
      await untilAborted(Promise.all([...workers.values()].map(({ ended }) => ended)), over);
      while (!over.aborted && (await garbage.collect().catch(() => Infinity)) > 0) {
        await sleep(this.#clock, this.#options.relistMs, over);
      }
    });
  }

  /** Tells of the pod when it comes, goes, and comes back. */
  async #follow(pod: Pod, begin: Life['begin'], over: AbortSignal): Promise<void> {
    const { arriveMs, deleteMs, returnMs } = pod.plan;
    await this.#until(arriveMs, over);
    if (over.aborted) return;
    const worker = begin(pod);
    if (deleteMs === undefined) return;
    await this.#until(deleteMs, over);
    if (over.aborted) return;
    worker.delete();
    if (returnMs === undefined) return;
    await this.#until(returnMs, over);
    await untilAborted(worker.ended, over);
    if (!over.aborted) begin(pod);
  }

  /** @param atMs Since the start of the run. */
  #until(atMs: number, over: AbortSignal): Promise<void> {
    return sleep(this.#clock, this.#startedMs + atMs - this.#clock.now(), over);
  }

  /** Does what a kubelet does all the time until `body` has ended. */
  async #live(signal: AbortSignal, body: (life: Life) => Promise<void>): Promise<void> {
    const { requestTimeoutMs, relistMs: secondMs, backoffMs, pullMs, events = false } = this.#options;
    const [clock, random] = [this.#clock, this.#random];
    const done = new AbortController();
    const over = AbortSignal.any([signal, done.signal]);
    // Every pod listens.
    setMaxListeners(0, over);
    const caller = 'caller' in this.#options ? this.#options.caller : new CriCaller(this.#options.socketPath);
    const calls = new Calls(caller, clock, requestTimeoutMs, this.#listTimesMs, over);
    const workers = new Map<Pod, PodWorker>();
    const podOf = (uid: string) => this.#pods.get(uid);
    const wake = (uid: string) => {
      const pod = podOf(uid);
      if (pod !== undefined) workers.get(pod)?.update();
    };
    const pleg = new Pleg(calls, (uid) => this.#pods.has(uid), wake);
    const garbage = new Garbage(calls, this.#pods, (pod) => workers.has(pod));
    const record = (pod: Pod, phase: Phase, text: string, error = false) => {
      pod.events.push({ atMs: clock.now() - this.#startedMs, phase, text, error });
      this.#recorded();
    };
    const requests = this.#requests;
    const pulls = pullMs === undefined ? undefined : new ImagePulls(clock, pullMs, over);
    const tools: WorkerTools = {
      ...{ calls, requests, clock, pulls, record, pleg, random, backoffMs, secondMs },
      signal: over,
    };
    const begin = (pod: Pod) => {
      const worker = new PodWorker(pod, tools);
      workers.set(pod, worker);
      void worker.ended.then(() => workers.delete(pod));
      return worker;
    };
    const every = (seconds: number, task: () => unknown) => repeat(clock, seconds * secondMs, over, task);
    const relists = async () => {
      if (events) await followEvents(caller, pleg, clock, secondMs, wake, over);
      await every(1, () => pleg.relist());
    };
    const always = [
      relists(),
      every(1, () => {
        for (const worker of workers.values()) worker.updateIfDue();
      }),
      every(statusSeconds, () => calls.call('Status', {})),
      every(housekeepingSeconds, () => garbage.housekeep()),
      every(garbageSeconds, () => garbage.collect()),
    ];
    await body({ workers, begin, garbage, over });
    done.abort();
    await Promise.all(always);
    if (!('caller' in this.#options)) caller.close();
  }
}
