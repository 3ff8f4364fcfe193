/** What a kubelet asks of a runtime while pods come up: the pods, and the lists without which it takes the node for down. */
import { setTimeout as delay } from 'node:timers/promises';
import type { CriClient, KubeletPod } from '../../support/cri-client.js';
import { images } from './images.js';

/** The deadlines of a kubelet, in ms: RunPodSandbox has twice `runtimeRequestTimeout`. */
const deadlines = { sandbox: { deadlineMs: 240_000 }, other: { deadlineMs: 120_000 } };

/** A new pod with one container, until that is started. */
export async function bringUp(client: CriClient, pod: KubeletPod): Promise<void> {
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest(), deadlines.sandbox);
  const request = pod.createContainerRequest(pod_sandbox_id, { image: images.busybox });
  const created = await client.call('CreateContainer', request, deadlines.other);
  await client.call('StartContainer', created, deadlines.other);
}

export interface ListCall {
  readonly method: 'ListPodSandbox' | 'ListContainers' | 'Status';
  /** As `Date.now()`. */
  readonly beganMs: number;
  readonly endedMs: number;
  readonly tookMs: number;
}

const methods = ['ListPodSandbox', 'ListContainers', 'Status'] as const;
/** Between the two lists and the Status of one client and those of the next. A kubelet pauses for 1 s. */
const pauseMs = 25;

/** Relists and asks for the status of the runtime, again and again, each client in its turn. */
export class Relists {
  /** By client, in their order. */
  readonly calls: readonly ListCall[][];
  readonly failures: string[] = [];
  readonly #ended: Promise<void>;
  #stopped = false;

  constructor(clients: readonly CriClient[]) {
    this.calls = clients.map(() => []);
    this.#ended = this.#goOn(clients);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#ended;
  }

  async #goOn(clients: readonly CriClient[]): Promise<void> {
    while (!this.#stopped) {
      for (const [n, client] of clients.entries()) {
        for (const method of methods) this.calls[n]?.push(await this.#timed(client, method));
        await delay(pauseMs);
      }
    }
  }

  async #timed(client: CriClient, method: ListCall['method']): Promise<ListCall> {
    const beganMs = Date.now();
    const began = performance.now();
    await client.call(method, {}, deadlines.other).catch((error) => this.failures.push(`${method}: ${error}`));
    return { method, beganMs, endedMs: Date.now(), tookMs: performance.now() - began };
  }
}
