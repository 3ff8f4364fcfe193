/**
 * The sandboxes and containers of a simulated node: found by unique id prefix and in filtered lists, with their states and the
 * events of these. Knows nothing of calls, and nothing of how sandboxes and containers come to be.
 */
import type {
  ContainerConfig,
  ContainerState,
  PodSandboxConfig,
  PodSandboxMetadata,
  PodSandboxState,
  StringMap,
} from './messages.js';
import { timestamp } from './stamps.js';
import { containerStatus, podSandboxStatus } from './views.js';

export interface Sandbox {
  readonly id: string;
  /** The name it is reserved by. */
  readonly name: string;
  readonly metadata: PodSandboxMetadata;
  readonly config: PodSandboxConfig;
  readonly runtimeHandler: string;
  readonly createdAt: string;
  readonly ip: string;
  state: PodSandboxState;
  /** In CRI-O's resource store: made, and not shown before it is asked for again. */
  hidden: boolean;
}

export interface Container {
  readonly id: string;
  /** The name it is reserved by. */
  readonly name: string;
  readonly podUid: string;
  readonly sandboxId: string;
  readonly metadata: { readonly name: string; readonly attempt: number };
  readonly config: ContainerConfig;
  readonly logFile: string | undefined;
  readonly createdAt: string;
  state: ContainerState;
  starting: boolean;
  /** The runtime was killed while it started it, and left a task. */
  startCutShort: boolean;
  startedAt: string;
  finishedAt: string;
  exitCode: number;
  reason: string;
  message: string;
  hidden: boolean;
}

export type EventType =
  | 'CONTAINER_CREATED_EVENT'
  | 'CONTAINER_STARTED_EVENT'
  | 'CONTAINER_STOPPED_EVENT'
  | 'CONTAINER_DELETED_EVENT';

/** An id or prefix that does not stand for exactly one thing. */
export class UnknownIdError extends Error {
  /** Whether it stands for nothing; else it stands for several or is empty. */
  readonly isUnknown: boolean;
  constructor(id: string, found: number) {
    super(
      id === ''
        ? "Prefix can't be empty"
        : found === 0
          ? 'not found'
          : `multiple IDs found with provided prefix: ${id}`,
    );
    this.isUnknown = id !== '' && found === 0;
  }
}

interface Filter {
  readonly id?: string;
  readonly state?: { readonly state: string } | null;
  readonly pod_sandbox_id?: string;
  readonly label_selector?: StringMap;
}

export class NodeState {
  readonly sandboxes = new Map<string, Sandbox>();
  readonly containers = new Map<string, Container>();
  readonly #subscribers = new Set<(event: object) => void>();
  readonly #awaited = new Set<{ count: number; resolve: () => void }>();
  #addresses = 0;

  newIp(): string {
    this.#addresses += 1;
    return `10.88.${(this.#addresses >> 8) & 255}.${this.#addresses & 255}`;
  }

  /** @throws {UnknownIdError} Not exactly one sandbox that is shown has this id or prefix. */
  sandbox(id: string): Sandbox {
    return find(this.sandboxes, id);
  }

  /** @throws {UnknownIdError} Not exactly one container that is shown has this id or prefix. */
  container(id: string): Container {
    return find(this.containers, id);
  }

  containersOf(sandboxId: string): Container[] {
    return [...this.containers.values()].filter((container) => container.sandboxId === sandboxId && !container.hidden);
  }

  listSandboxes(filter: Filter | null): Sandbox[] {
    return [...this.sandboxes.values()].filter(
      (sandbox) =>
        !sandbox.hidden &&
        sandbox.id.startsWith(filter?.id ?? '') &&
        (filter?.state == null || filter.state.state === sandbox.state) &&
        hasLabels(sandbox.config.labels, filter?.label_selector),
    );
  }

  listContainers(filter: Filter | null): Container[] {
    return [...this.containers.values()].filter(
      (container) =>
        !container.hidden &&
        container.id.startsWith(filter?.id ?? '') &&
        container.sandboxId.startsWith(filter?.pod_sandbox_id ?? '') &&
        (filter?.state == null || filter.state.state === container.state) &&
        hasLabels(container.config.labels, filter?.label_selector),
    );
  }

  /** @returns Ends the subscription. */
  subscribe(listener: (event: object) => void): () => void {
    this.#subscribers.add(listener);
    for (const awaited of this.#awaited) {
      if (awaited.count > this.#subscribers.size) continue;
      this.#awaited.delete(awaited);
      awaited.resolve();
    }
    return () => this.#subscribers.delete(listener);
  }

  /** Resolves once there are `count` subscribers. */
  subscribed(count: number): Promise<void> {
    if (this.#subscribers.size >= count) return Promise.resolve();
    return new Promise((resolve) => this.#awaited.add({ count, resolve }));
  }

  get subscribers(): number {
    return this.#subscribers.size;
  }

  /** @param id Of a container, or of a sandbox: runtimes send both as `container_id`. */
  emit(id: string, type: EventType, sandbox: Sandbox | undefined): void {
    const event = {
      container_id: id,
      container_event_type: type,
      created_at: timestamp(),
      ...(sandbox === undefined
        ? {}
        : {
            pod_sandbox_status: podSandboxStatus(sandbox),
            containers_statuses: this.containersOf(sandbox.id).map(containerStatus),
          }),
    };
    for (const listener of this.#subscribers) listener(event);
  }

  run(container: Container): void {
    container.state = 'CONTAINER_RUNNING';
    container.startedAt = timestamp();
    this.emit(container.id, 'CONTAINER_STARTED_EVENT', this.sandboxes.get(container.sandboxId));
  }

  exit(container: Container, exitCode: number, reason: string): void {
    markExited(container, exitCode, reason, '');
    this.emit(container.id, 'CONTAINER_STOPPED_EVENT', this.sandboxes.get(container.sandboxId));
  }

  stopSandbox(sandbox: Sandbox): void {
    this.stopContainers(sandbox);
    this.endSandbox(sandbox);
  }

  /** Ends what runs in it; a container that was never started stays CREATED (containerd 1.6, container_stop.go:stopContainer). */
  stopContainers(sandbox: Sandbox): void {
    for (const container of this.containersOf(sandbox.id)) {
      if (container.state === 'CONTAINER_RUNNING') this.exit(container, 137, 'Error');
    }
  }

  endSandbox(sandbox: Sandbox): void {
    if (sandbox.state === 'SANDBOX_NOTREADY') return;
    sandbox.state = 'SANDBOX_NOTREADY';
    this.emit(sandbox.id, 'CONTAINER_STOPPED_EVENT', sandbox);
  }

  runningCopies(podUid: string, containerName: string): number {
    return [...this.containers.values()].filter(
      ({ podUid: uid, metadata, state }) =>
        uid === podUid && metadata.name === containerName && state === 'CONTAINER_RUNNING',
    ).length;
  }
}

/** Without an event: a start that failed has none (containerd, container_start.go:StartContainer). */
export function markExited(container: Container, exitCode: number, reason: string, message: string): void {
  container.state = 'CONTAINER_EXITED';
  container.finishedAt = timestamp();
  container.exitCode = exitCode;
  container.reason = reason;
  container.message = message;
}

function find<T extends { id: string; hidden: boolean }>(items: ReadonlyMap<string, T>, id: string): T {
  const exact = items.get(id);
  if (exact !== undefined && !exact.hidden) return exact;
  const found = id === '' ? [] : [...items.values()].filter((item) => !item.hidden && item.id.startsWith(id));
  const [only] = found;
  if (only === undefined || found.length > 1) throw new UnknownIdError(id, found.length);
  return only;
}

function hasLabels(labels: StringMap, selector: StringMap | undefined): boolean {
  return Object.entries(selector ?? {}).every(([key, value]) => labels[key] === value);
}
