/** Which sandbox and which restart count come next, from what is visible of a pod, and when an exited container may be followed. */
import { readdirSync } from 'node:fs';
import { newestOf, type PodStatus, restartCountOf } from './pod-status.js';

/** What has to be done about a pod's sandbox. */
export interface SandboxDecision {
  /** Whether a new one is needed. */
  readonly create: boolean;
  /** Of the one that is needed or there. */
  readonly attempt: number;
  /** Of the one that is there. */
  readonly id: string;
}

/** As kubernetes 1.26 pkg/kubelet/kuberuntime/util/util.go:PodSandboxChanged, for a pod with a network of its own. */
export function sandboxDecision({ sandboxes }: PodStatus): SandboxDecision {
  const [newest] = sandboxes;
  if (newest === undefined) return { create: true, attempt: 0, id: '' };
  const { id, metadata, state, network, linux } = newest;
  const ready = sandboxes.filter((sandbox) => sandbox.state === 'SANDBOX_READY').length;
  const mode = linux?.namespaces?.options?.network ?? 'POD';
  const create = ready > 1 || state !== 'SANDBOX_READY' || mode !== 'POD' || network?.ip === '';
  return { create, attempt: metadata.attempt + (create ? 1 : 0), id };
}

/**
 * As kubernetes 1.26 pkg/kubelet/kuberuntime/kuberuntime_container.go:startContainer.
 *
 * @param logDirectory Of the container; need not exist.
 */
export function restartCount(status: PodStatus, name: string, logDirectory: string): number {
  const visible = newestOf(status, name);
  if (visible !== undefined) return restartCountOf(visible) + 1;
  const counts = fileNames(logDirectory).map((file) => Number(/(\d+).log(\..*)?/.exec(file)?.[1] ?? -1) + 1);
  return Math.max(0, ...counts);
}

/** All but directories: links count, whatever they lead to. */
function fileNames(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? [] : [entry.name],
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** A pod's crash-loop backoffs, as kubernetes 1.26 kuberuntime_manager.go:doBackOff and client-go util/flowcontrol/backoff.go. */
export class CrashLoops {
  readonly #secondMs: number;
  readonly #exits = new Map<string, number>();
  readonly #backoffs = new Map<string, { delayMs: number; nextMs: number }>();

  constructor(secondMs: number) {
    this.#secondMs = secondMs;
  }

  /**
   * Whether the container may not be followed yet; otherwise it is about to be. An exit counts from when it is first seen here,
   * since runtimes stamp it by a clock of their own.
   */
  holdsBack({ containers }: PodStatus, name: string, nowMs: number): boolean {
    const exited = containers.find(({ metadata, state }) => metadata.name === name && state === 'CONTAINER_EXITED');
    if (exited === undefined) return false;
    const exitedMs = this.#exits.get(exited.id) ?? nowMs;
    this.#exits.set(exited.id, exitedMs);
    const mostMs = 300 * this.#secondMs;
    const last = this.#backoffs.get(name);
    const backoff = last !== undefined && exitedMs - last.nextMs <= 2 * mostMs ? last : undefined;
    if (backoff !== undefined && nowMs - exitedMs < backoff.delayMs) return true;
    const delayMs = backoff === undefined ? 10 * this.#secondMs : Math.min(2 * backoff.delayMs, mostMs);
    this.#backoffs.set(name, { delayMs, nextMs: nowMs });
    return false;
  }
}
