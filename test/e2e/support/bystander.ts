/** A client with which nothing is wrong, on a connection of its own. */
import { setTimeout as delay } from 'node:timers/promises';
import { type CriClient, encodeMessage } from '../../support/cri-client.js';

/** What it waits for an answer at most, in ms: far above what a busy machine needs, far below what a kubelet waits. */
const patienceMs = 10_000;
const pauseMs = 10;
const callsPerCreation = 8;

const runtimeService = '/runtime.v1.RuntimeService';

/** RunPodSandbox of a pod nobody else asks for. */
export function podSandboxRequest(): Buffer {
  const metadata = { name: 'web-0', uid: crypto.randomUUID(), namespace: 'default' };
  return encodeMessage('RunPodSandboxRequest', { config: { metadata } });
}

export class Bystander {
  calls = 0;
  slowestMs = 0;
  readonly failures: string[] = [];
  readonly #client: CriClient;
  readonly #creates: boolean;
  #stopped = false;
  #ended: Promise<void> | undefined;

  /** @param creates Whether it makes pod sandboxes too, beside calls that are passed. */
  constructor(client: CriClient, creates: boolean) {
    this.#client = client;
    this.#creates = creates;
  }

  /** Resolves with the first answer; from then on it calls again and again. */
  async start(): Promise<void> {
    await this.#call();
    this.#ended = this.#goOn();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#ended;
  }

  async #goOn(): Promise<void> {
    while (!this.#stopped) {
      await this.#call();
      await delay(pauseMs);
    }
  }

  async #call(): Promise<void> {
    this.calls += 1;
    const creates = this.#creates && this.calls % callsPerCreation === 0;
    const method = creates ? 'RunPodSandbox' : 'Version';
    const request = creates ? podSandboxRequest() : Buffer.alloc(0);
    const began = performance.now();
    try {
      await this.#client.callRaw(`${runtimeService}/${method}`, request, { deadlineMs: patienceMs });
    } catch (error) {
      this.failures.push(`${method}: ${error}`);
    }
    this.slowestMs = Math.max(this.slowestMs, performance.now() - began);
  }
}
