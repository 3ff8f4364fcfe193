/**
 * Brings pods up as a kubelet 1.26 does: its deadlines, what it concludes from the lists before each try, when it tries again.
 * One sandbox and one container a pod, nothing else of a kubelet. Knows nothing of what is behind the socket.
 *
 * Source: kubernetes 1.26 pkg/kubelet: cri/remote/remote_runtime.go (deadlines), kuberuntime/util/util.go:PodSandboxChanged,
 * kuberuntime/kuberuntime_container.go:startContainer and calcRestartCountByLogDir (attempts), pod_workers.go:completeWork
 * (backoff), pleg/generic.go (relist).
 */
import { setMaxListeners } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { type Clock, systemClock } from '../clock.js';
import { type Caller, CriCaller } from './cri-caller.js';
import { untilAborted } from './gates.js';
import type { ContainerState, PodSandboxState, StringMap } from './messages.js';

/** Where the calls go: to a unix socket, or wherever the caller takes them. */
type Destination = { readonly socketPath: string } | { readonly caller: Caller };

export type KubeletLikeOptions = Destination & {
  /** Where the pods' log directories are made, in the place of /var/log/pods. */
  readonly podLogsDirectory: string;
  /** Names of the pods. */
  readonly pods: readonly string[];
  /** The pods are asked for at random times within this, in ms; default 0: all at once. */
  readonly spreadMs?: number;
  /** `runtimeRequestTimeout`, in ms; RunPodSandbox gets twice that. A kubelet's default is 2 min. */
  readonly requestTimeoutMs: number;
  /** Least and longest wait after a failed sync, in ms; a kubelet's is 10 to 15 s. */
  readonly backoffMs: readonly [least: number, longest: number];
  /** Time between two looks at the lists, in ms; a kubelet's is 1 s. */
  readonly relistMs: number;
  /** Default: the system's. Deadlines are the caller's affair: over a socket they are in real time. */
  readonly clock?: Clock;
  /** From 0 up to 1; default Math.random. */
  readonly random?: () => number;
};

/** What a pod's worker is doing. */
export type Phase = 'RunPodSandbox' | 'CreateContainer' | 'StartContainer' | 'waiting' | 'running';

export interface PodEvent {
  /** Since the start of the run. */
  readonly atMs: number;
  /** From here on. */
  readonly phase: Phase;
  readonly text: string;
  readonly error: boolean;
}

export interface PodTimeline {
  readonly name: string;
  readonly uid: string;
  readonly events: readonly PodEvent[];
}

export function isRunning({ events }: PodTimeline): boolean {
  return events.at(-1)?.phase === 'running';
}

interface ListedSandbox {
  readonly id: string;
  readonly metadata: { readonly uid: string; readonly attempt: number };
  readonly state: PodSandboxState;
  readonly created_at: string;
}

interface ListedContainer {
  readonly id: string;
  readonly pod_sandbox_id: string;
  readonly metadata: { readonly name: string };
  readonly state: ContainerState;
  readonly created_at: string;
  readonly labels: StringMap;
  readonly annotations: StringMap;
}

interface Lists {
  readonly sandboxes: readonly ListedSandbox[];
  readonly containers: readonly ListedContainer[];
}

interface Pod extends PodTimeline {
  readonly uid: string;
  readonly logDirectory: string;
  readonly events: PodEvent[];
  /** Ids this kubelet was given by RunPodSandbox. */
  readonly given: Set<string>;
}

const containerName = 'app';

export class KubeletLike {
  readonly #options: KubeletLikeOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #cri: Caller;
  readonly #configSeen = new Date().toISOString();
  #lists: Lists = { sandboxes: [], containers: [] };
  /** Wait for a relist that begins from now on. */
  #waiters: (() => void)[] = [];
  #startedMs = 0;

  constructor(options: KubeletLikeOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#cri = 'caller' in options ? options.caller : new CriCaller(options.socketPath);
  }

  /**
   * Brings every pod up; at most once.
   *
   * @param signal Ends the attempt; calls in flight are cancelled.
   * @returns Once every pod runs or the signal has fired.
   */
  async run(signal: AbortSignal): Promise<readonly PodTimeline[]> {
    const { pods: names, podLogsDirectory } = this.#options;
    const pods = names.map((name): Pod => {
      const uid = crypto.randomUUID();
      const logDirectory = path.join(podLogsDirectory, `default_${name}_${uid}`);
      return { name, uid, logDirectory, events: [], given: new Set() };
    });
    this.#startedMs = this.#clock.now();
    const allRun = new AbortController();
    const over = AbortSignal.any([signal, allRun.signal]);
    // Every pod listens.
    setMaxListeners(0, over);
    const working = Promise.all(pods.map((pod) => this.#work(pod, over)));
    const relisting = this.#relist(over);
    await working;
    allRun.abort();
    await relisting;
    this.#cri.close();
    return pods;
  }

  async #relist(over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      const waiters = this.#waiters;
      this.#waiters = [];
      try {
        const [{ items }, { containers }] = await Promise.all([
          this.#call<{ items: ListedSandbox[] }>('ListPodSandbox', {}, over),
          this.#call<{ containers: ListedContainer[] }>('ListContainers', {}, over),
        ]);
        this.#lists = { sandboxes: items, containers };
        for (const wake of waiters) wake();
      } catch {
        this.#waiters.push(...waiters);
      }
      await this.#sleep(this.#options.relistMs, over);
    }
  }

  async #work(pod: Pod, over: AbortSignal): Promise<void> {
    await this.#relisted(over);
    if (this.#options.spreadMs !== undefined) await this.#sleep(this.#random() * this.#options.spreadMs, over);
    while (!over.aborted) {
      const seen = this.#seen(pod);
      try {
        await this.#sync(pod, over);
        return;
      } catch (error) {
        if (over.aborted) return;
        this.#record(pod, 'waiting', describe(error), true);
        await this.#backOff(pod, seen, over);
      }
    }
  }

  /** Until the backoff is over or the lists show something that they did not show before the sync that failed. */
  async #backOff(pod: Pod, seen: string, over: AbortSignal): Promise<void> {
    const [least, longest] = this.#options.backoffMs;
    const dueMs = this.#clock.now() + least + this.#random() * (longest - least);
    do await this.#relisted(over);
    while (!over.aborted && this.#clock.now() < dueMs && this.#seen(pod) === seen);
  }

  /** What would wake the pod's worker when it changes; a CREATED container does not (pleg/generic.go:convertState). */
  #seen(pod: Pod): string {
    const containers = this.#containersOf(pod).filter(({ state }) => state !== 'CONTAINER_CREATED');
    return [...this.#sandboxesOf(pod), ...containers].map(({ id, state }) => `${id} ${state}`).join();
  }

  async #sync(pod: Pod, over: AbortSignal): Promise<void> {
    const containers = this.#containersOf(pod);
    const sandbox = await this.#sandbox(pod, over);
    const running = containers.find(
      ({ state, pod_sandbox_id }) => state === 'CONTAINER_RUNNING' && pod_sandbox_id === sandbox.id,
    );
    if (running !== undefined) {
      this.#record(pod, 'running', 'seen running');
      return;
    }
    const attempt = nextAttempt(containers[0], path.join(pod.logDirectory, containerName));
    this.#record(pod, 'CreateContainer', `CreateContainer, attempt ${attempt}`);
    const { container_id: id } = await this.#call<{ container_id: string }>(
      'CreateContainer',
      { pod_sandbox_id: sandbox.id, ...this.#containerRequest(pod, attempt, sandbox.attempt) },
      over,
    );
    if (id === '') throw new Error('container id is empty');
    this.#record(pod, 'StartContainer', 'StartContainer');
    await this.#call('StartContainer', { container_id: id }, over);
    this.#record(pod, 'running', 'running');
  }

  /** The sandbox to use, made where none can be. */
  async #sandbox(pod: Pod, over: AbortSignal): Promise<{ id: string; attempt: number }> {
    const visible = this.#sandboxesOf(pod);
    const [newest] = visible;
    const ready = visible.filter(({ state }) => state === 'SANDBOX_READY');
    if (newest?.state === 'SANDBOX_READY' && ready.length === 1) {
      if (!pod.given.has(newest.id)) this.#record(pod, 'waiting', `sees sandbox ${newest.metadata.attempt}, adopts it`);
      pod.given.add(newest.id);
      return { id: newest.id, attempt: newest.metadata.attempt };
    }
    for (const { id } of visible) await this.#call('StopPodSandbox', { pod_sandbox_id: id }, over);
    const attempt = newest === undefined ? 0 : newest.metadata.attempt + 1;
    this.#record(pod, 'RunPodSandbox', `RunPodSandbox, attempt ${attempt}`);
    const { pod_sandbox_id: id } = await this.#cri.call<{ pod_sandbox_id: string }>(
      'RunPodSandbox',
      { config: this.#sandboxConfig(pod, attempt) },
      2 * this.#options.requestTimeoutMs,
      over,
    );
    if (id === '') throw new Error('sandbox id is empty');
    pod.given.add(id);
    await this.#call('PodSandboxStatus', { pod_sandbox_id: id }, over);
    return { id, attempt };
  }

  #sandboxesOf({ uid }: Pod): ListedSandbox[] {
    return this.#lists.sandboxes.filter(({ metadata }) => metadata.uid === uid).sort(newestFirst);
  }

  #containersOf({ uid }: Pod): ListedContainer[] {
    return this.#lists.containers
      .filter(({ labels, metadata }) => labels['io.kubernetes.pod.uid'] === uid && metadata.name === containerName)
      .sort(newestFirst);
  }

  #sandboxConfig({ name, uid, logDirectory }: Pod, attempt: number): object {
    mkdirSync(logDirectory, { recursive: true });
    return {
      metadata: { name, uid, namespace: 'default', attempt },
      hostname: name,
      log_directory: logDirectory,
      labels: podLabels(name, uid),
      annotations: { 'kubernetes.io/config.seen': this.#configSeen, 'kubernetes.io/config.source': 'api' },
      linux: { cgroup_parent: `/kubepods/besteffort/pod${uid}` },
    };
  }

  /** Order of the environment and termination-log file are new in each try (kubelet_pods.go:makeEnvironmentVariables, makeMounts). */
  #containerRequest(pod: Pod, attempt: number, sandboxAttempt: number): object {
    mkdirSync(path.join(pod.logDirectory, containerName), { recursive: true });
    const envs = ['KUBERNETES_SERVICE_HOST', 'KUBERNETES_SERVICE_PORT', 'KUBERNETES_PORT', 'KUBERNETES_PORT_443_TCP']
      .map((key) => ({ key, value: Buffer.from('10.96.0.1'), order: this.#random() }))
      .sort((a, b) => a.order - b.order);
    const file = Math.floor(this.#random() * 2 ** 32)
      .toString(16)
      .padStart(8, '0');
    return {
      config: {
        metadata: { name: containerName, attempt },
        image: { image: 'simulated/image:1' },
        envs,
        mounts: [
          {
            container_path: '/dev/termination-log',
            host_path: `/var/lib/kubelet/pods/${pod.uid}/containers/${containerName}/${file}`,
          },
        ],
        labels: { 'io.kubernetes.container.name': containerName, ...podLabels(pod.name, pod.uid) },
        annotations: {
          'io.kubernetes.container.hash': '5f3c2a11',
          'io.kubernetes.container.restartCount': String(attempt),
        },
        log_path: `${containerName}/${attempt}.log`,
      },
      sandbox_config: this.#sandboxConfig(pod, sandboxAttempt),
    };
  }

  #call<T>(method: string, request: object, over: AbortSignal): Promise<T> {
    return this.#cri.call<T>(method, request, this.#options.requestTimeoutMs, over);
  }

  #record(pod: Pod, phase: Phase, text: string, error = false): void {
    pod.events.push({ atMs: this.#clock.now() - this.#startedMs, phase, text, error });
  }

  #relisted(over: AbortSignal): Promise<void> {
    return untilAborted(new Promise<void>((resolve) => this.#waiters.push(resolve)), over);
  }

  async #sleep(delayMs: number, over: AbortSignal): Promise<void> {
    let cancel = (): void => undefined;
    const slept = new Promise<void>((resolve) => {
      cancel = this.#clock.after(delayMs, resolve);
    });
    await untilAborted(slept, over);
    cancel();
  }
}

function podLabels(name: string, uid: string): StringMap {
  return {
    'io.kubernetes.pod.name': name,
    'io.kubernetes.pod.namespace': 'default',
    'io.kubernetes.pod.uid': uid,
  };
}

function newestFirst(a: { readonly created_at: string }, b: { readonly created_at: string }): number {
  return Number(BigInt(b.created_at) - BigInt(a.created_at));
}

/** One more than the newest visible container's, else than the highest `N.log` there is, else 0. */
function nextAttempt(newest: ListedContainer | undefined, logDirectory: string): number {
  if (newest !== undefined) return Number(newest.annotations['io.kubernetes.container.restartCount'] ?? 0) + 1;
  let files: string[] = [];
  try {
    files = readdirSync(logDirectory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const attempts = files.map((file) => /^(\d+)\.log/.exec(file)).map((match) => Number(match?.[1] ?? -1));
  return Math.max(-1, ...attempts) + 1;
}

function describe(error: unknown): string {
  const { code, details } = error as Partial<grpc.ServiceError>;
  if (code === undefined || details === undefined) return String(error);
  return code === grpc.status.UNKNOWN ? details : grpc.status[code];
}
