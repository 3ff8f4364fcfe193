/** A kubelet on a manual clock whose caller is in the test's hands: what it is answered, and what the lists show. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import type { Caller } from '../../src/harness/cri-caller.js';
import { KubeletLike, type KubeletLikeOptions } from '../../src/harness/kubelet/kubelet-like.js';
import type { PodPlan } from '../../src/harness/kubelet/pod.js';
import { ManualClock } from '../support/manual-clock.js';

/** The fields of all requests. */
export interface Request {
  readonly pod_sandbox_id: string;
  readonly container_id: string;
  readonly filter?: { readonly state?: { readonly state: string }; readonly label_selector?: Record<string, string> };
  readonly config: {
    readonly metadata: { readonly name: string; readonly uid: string; readonly attempt: number };
    readonly log_directory: string;
    readonly log_path: string;
    readonly annotations: Record<string, string>;
    readonly envs: readonly { readonly key: string }[];
    readonly mounts: readonly { readonly container_path: string; readonly host_path: string }[];
  };
  readonly sandbox_config: Request['config'];
}

export interface Call {
  readonly method: string;
  readonly request: Request;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Since the start. */
  readonly atMs: number;
}

/** What a call is answered; undefined: what the node answers by itself. */
type Script = (request: Request) => object | undefined | Promise<object>;

interface Item {
  readonly id: string;
  readonly metadata: { readonly name: string; readonly uid: string; readonly attempt: number };
  readonly created_at: string;
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
  readonly pod_sandbox_id: string;
  readonly network: { readonly ip: string };
  readonly linux: null;
  state: string;
  exit_code: number;
}

export const plan = (name: string, more: Partial<PodPlan> = {}): PodPlan => ({
  name,
  namespace: 'default',
  arriveMs: 0,
  ...more,
});

/** It keeps a run from ending. */
export const neverComes = plan('never', { arriveMs: 1e12 });

export const failure = (code: number, details: string) => Object.assign(new Error(details), { code, details });

export class ScriptedNode implements Caller {
  readonly clock = new ManualClock();
  readonly calls: Call[] = [];
  readonly sandboxes = new Map<string, Item>();
  readonly containers = new Map<string, Item>();
  /** Gives an event to the open stream. */
  emit: (event: object) => void = () => undefined;
  /** How often GetContainerEvents was called, and when. */
  readonly streams: { readonly atMs: number; readonly signal: AbortSignal }[] = [];
  streamFails = false;
  readonly #startMs = this.clock.now();
  readonly #scripts = new Map<string, Script>();
  #made = 0;

  get nowMs(): number {
    return this.clock.now() - this.#startMs;
  }

  on(method: string, script: Script): void {
    this.#scripts.set(method, script);
  }

  /** Answers by itself again. */
  off(method: string): void {
    this.#scripts.delete(method);
  }

  /** The call lasts until its deadline. */
  hang(method: string): void {
    this.on(method, () => new Promise(() => undefined));
  }

  fail(method: string, code: number, details: string): void {
    this.on(method, () => Promise.reject(failure(code, details)));
  }

  /** Resolves after a time. */
  after<T>(delayMs: number, result: () => T): Promise<T> {
    return new Promise((resolve) => this.clock.after(delayMs, () => resolve(result())));
  }

  of(method: string): readonly Call[] {
    return this.calls.filter((call) => call.method === method);
  }

  times(method: string): number[] {
    return this.of(method).map(({ atMs }) => atMs);
  }

  /** The first one's, as RunPodSandbox says it. */
  get uid(): string {
    return this.of('RunPodSandbox')[0]?.request.config.metadata.uid ?? '';
  }

  sandbox(id: string, attempt: number, state: 'READY' | 'NOTREADY' = 'READY', ip = '10.0.0.1', uid = this.uid): void {
    this.sandboxes.set(id, this.#item(id, uid, 'web', attempt, `SANDBOX_${state}`, '', ip));
  }

  container(id: string, name: string, count: number, state: string, sandboxId: string, uid = this.uid): void {
    this.containers.set(id, this.#item(id, uid, name, count, `CONTAINER_${state}`, sandboxId, ''));
  }

  /** Its process ends by itself. */
  end(container: Item | undefined, exitCode: number): void {
    if (container !== undefined) Object.assign(container, { state: 'CONTAINER_EXITED', exit_code: exitCode });
  }

  /** Newest first. */
  named(name: string): Item[] {
    return [...this.containers.values()].filter(({ metadata }) => metadata.name === name).reverse();
  }

  call<T>(method: string, message: object, timeoutMs: number, signal: AbortSignal): Promise<T> {
    const request = message as Request;
    this.calls.push({ method, request, timeoutMs, signal, atMs: this.nowMs });
    return new Promise<T>((resolve, reject) => {
      const cancel = this.clock.after(timeoutMs, () => reject(failure(4, 'context deadline exceeded')));
      signal.addEventListener('abort', () => {
        cancel();
        reject(failure(1, 'context canceled'));
      });
      const answered = async () => (await this.#scripts.get(method)?.(request)) ?? this.#answer(method, request);
      answered()
        .then((answer) => resolve(answer as T), reject)
        .finally(cancel);
    });
  }

  async stream<T>(_method: string, _request: object, take: (message: T) => void, signal: AbortSignal): Promise<void> {
    this.streams.push({ atMs: this.nowMs, signal });
    if (this.streamFails) throw failure(14, 'gone');
    this.emit = (event) => take(event as T);
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
  }

  close(): void {}

  #item(
    id: string,
    uid: string,
    name: string,
    attempt: number,
    state: string,
    pod_sandbox_id: string,
    ip: string,
  ): Item {
    this.#made += 1;
    return {
      id,
      metadata: { name, uid, attempt },
      created_at: String(this.#made),
      labels: { 'io.kubernetes.pod.uid': uid },
      annotations: { 'io.kubernetes.container.restartCount': String(attempt) },
      pod_sandbox_id,
      network: { ip },
      linux: null,
      state,
      exit_code: 0,
    };
  }

  #answer(method: string, request: Request): object {
    const { pod_sandbox_id: sandboxId, container_id: containerId, config } = request;
    const [sandbox, container] = [this.sandboxes.get(sandboxId), this.containers.get(containerId)];
    switch (method) {
      case 'ListPodSandbox':
        return { items: listed(this.sandboxes, request) };
      case 'ListContainers':
        return { containers: listed(this.containers, request) };
      case 'PodSandboxStatus':
      case 'ContainerStatus': {
        const found = sandbox ?? container;
        if (found === undefined) throw failure(5, 'not found');
        return { status: { ...found } };
      }
      case 'RunPodSandbox': {
        const { uid, attempt } = config.metadata;
        const id = `sandbox-${this.#made}`;
        this.sandbox(id, attempt, 'READY', '10.0.0.1', uid);
        return { pod_sandbox_id: id };
      }
      case 'CreateContainer': {
        const { name, attempt } = config.metadata;
        const id = `container-${this.#made}`;
        this.container(id, name, attempt, 'CREATED', sandboxId, request.sandbox_config.metadata.uid);
        return { container_id: id };
      }
      case 'StartContainer':
        if (container !== undefined) container.state = 'CONTAINER_RUNNING';
        return {};
      case 'StopContainer':
        if (container !== undefined) container.state = 'CONTAINER_EXITED';
        return {};
      case 'StopPodSandbox':
        if (sandbox !== undefined) sandbox.state = 'SANDBOX_NOTREADY';
        return {};
      case 'RemoveContainer':
        this.containers.delete(containerId);
        return {};
      case 'RemovePodSandbox':
        this.sandboxes.delete(sandboxId);
        return {};
      default:
        return {};
    }
  }
}

function listed(items: ReadonlyMap<string, Item>, { filter }: Request): Item[] {
  const uid = filter?.label_selector?.['io.kubernetes.pod.uid'];
  return [...items.values()]
    .filter(({ state }) => filter?.state === undefined || filter.state.state === state)
    .filter(({ labels }) => uid === undefined || labels['io.kubernetes.pod.uid'] === uid)
    .map((item) => ({ ...item }));
}

/** A kubelet that has begun to run; it ends with the test. T is 4.5 s; by default waits after a failure are the least. */
export async function begin(
  t: Test,
  options: Partial<KubeletLikeOptions> = {},
  prepare: (node: ScriptedNode) => void = () => undefined,
): Promise<ScriptedNode> {
  const directory = mkdtempSync(path.join(tmpdir(), 'kubelet-'));
  const node = new ScriptedNode();
  prepare(node);
  const kubelet = new KubeletLike({
    caller: node,
    podLogsDirectory: directory,
    pods: [plan('web'), neverComes],
    requestTimeoutMs: 4_500,
    backoffMs: [10_000, 15_000],
    relistMs: 1_000,
    clock: node.clock,
    random: () => 0,
    ...options,
  });
  const over = new AbortController();
  const running = kubelet.run(over.signal);
  t.teardown(async () => {
    over.abort();
    await running;
    rmSync(directory, { recursive: true, force: true });
  });
  await node.clock.advance(0);
  return node;
}
