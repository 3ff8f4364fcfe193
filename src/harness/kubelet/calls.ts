/** A kubelet's unary calls with the deadlines it gives them (kubernetes 1.26 pkg/kubelet/cri/remote/remote_runtime.go). */
import type { Clock } from '../../clock.js';
import type { Caller } from '../cri-caller.js';

/** `terminationGracePeriodSeconds` of every pod. */
export const gracePeriodSeconds = 1;

const lists: ReadonlySet<string> = new Set(['ListPodSandbox', 'ListContainers']);

export class Calls {
  readonly #caller: Caller;
  readonly #clock: Clock;
  readonly #requestTimeoutMs: number;
  readonly #listTimesMs: number[];
  readonly #signal: AbortSignal;

  /**
   * @param listTimesMs Gets how long each list took.
   * @param signal Cancels all of them, which a kubelet never does.
   */
  constructor(caller: Caller, clock: Clock, requestTimeoutMs: number, listTimesMs: number[], signal: AbortSignal) {
    this.#caller = caller;
    this.#clock = clock;
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#listTimesMs = listTimesMs;
    this.#signal = signal;
  }

  /** @throws {grpc.ServiceError} Any status but OK. */
  async call<T>(method: string, request: object): Promise<T> {
    const beganMs = this.#clock.now();
    try {
      return await this.#caller.call<T>(method, request, this.#timeoutMs(method), this.#signal);
    } finally {
      if (lists.has(method) && !this.#signal.aborted) this.#listTimesMs.push(this.#clock.now() - beganMs);
    }
  }

  #timeoutMs(method: string): number {
    if (method === 'RunPodSandbox') return 2 * this.#requestTimeoutMs;
    if (method === 'StopContainer') return this.#requestTimeoutMs + gracePeriodSeconds * 1_000;
    return this.#requestTimeoutMs;
  }
}
