/** What pods are brought up on: a simulated node, or a real one. */
import type { PodDefaults } from '../kubelet/requests.js';

export interface NodeUnderTest {
  /** The runtime's. */
  readonly socketPath: string;
  /** Of the pods that are brought up on it; undefined: the client's own. */
  readonly imageName?: string;
  readonly podDefaults?: PodDefaults;
  /** Arguments for `holdfast serve` in front of it. */
  readonly holdfastArguments: readonly string[];
  /** The pods are coming. */
  begin(): void;
  /** What the runtime began to make and to start, oldest first; undefined: it does not tell. */
  makings(): readonly NodeMaking[] | undefined;
  /** Containers that ran with an attempt above 0. */
  restarts(): number;
  /** Of a container that ran. */
  highestAttempt(): number;
  /** How often the process of a container of a pod ran; undefined: it does not tell. */
  runs(podUid: string, containerName: string): number | undefined;
  /** Containers of which two copies ran at once. */
  duplicatesAlive(): number;
  /** Pod sandboxes and containers that are there. */
  leftOvers(signal: AbortSignal): Promise<number>;
  /** Removes all there is and ends. */
  close(): Promise<void>;
}

export interface NodeMaking {
  readonly kind: 'podSandbox' | 'container' | 'start';
  readonly podUid: string;
  /** Namespace, pod, container and uid, and the attempt at the end. */
  readonly name: string;
  /** In ms of the system's clock. */
  readonly beganMs: number;
  readonly endedMs: number | undefined;
  readonly outcome: 'under way' | 'finished' | 'rolled back' | 'cut short';
}
