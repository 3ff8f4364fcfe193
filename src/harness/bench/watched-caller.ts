/** A caller that keeps account of what became of the calls that make something, and of what runs. */
import * as grpc from '@grpc/grpc-js';
import type { Caller, CriCaller } from '../cri-caller.js';

type Outcome = 'deadline' | 'reserved' | 'other';

interface Identified {
  readonly metadata: { readonly uid?: string; readonly name: string };
}

interface MakingRequest {
  readonly config?: Identified;
  readonly sandbox_config?: Identified;
}

interface Listed {
  readonly containers: readonly { readonly state: string; readonly labels: Readonly<Record<string, string>> }[];
}

const making = new Set(['RunPodSandbox', 'CreateContainer', 'StartContainer']);

export class WatchedCaller implements Caller {
  /** Errors of RunPodSandbox, CreateContainer and StartContainer. */
  readonly errors: Record<Outcome, number> = { deadline: 0, reserved: 0, other: 0 };
  /** What was asked for and not refused because it is being made: as many as the runtime begins, where nothing is in between. */
  readonly begun: string[] = [];
  readonly #caller: CriCaller;
  readonly #containersPerPod: number;
  readonly #onRunning: (pods: number) => void;

  /** @param onRunning Told how many pods run with all of their containers whenever all containers were listed. */
  constructor(caller: CriCaller, containersPerPod: number, onRunning: (pods: number) => void) {
    this.#caller = caller;
    this.#containersPerPod = containersPerPod;
    this.#onRunning = onRunning;
  }

  async call<T>(method: string, request: object, timeoutMs: number, signal: AbortSignal): Promise<T> {
    let outcome: Outcome | undefined;
    try {
      const answer = await this.#caller.call<T>(method, request, timeoutMs, signal);
      if (method === 'ListContainers' && !('filter' in request)) this.#count(answer as Listed);
      return answer;
    } catch (error) {
      outcome = outcomeOf(error as Partial<grpc.ServiceError>);
      if (making.has(method) && !signal.aborted) this.errors[outcome] += 1;
      throw error;
    } finally {
      if (outcome !== 'reserved') this.#note(method, request);
    }
  }

  stream<T>(method: string, request: object, take: (message: T) => void, signal: AbortSignal): Promise<void> {
    return this.#caller.stream(method, request, take, signal);
  }

  close(): void {
    this.#caller.close();
  }

  #note(method: string, { config, sandbox_config }: MakingRequest): void {
    if (method === 'RunPodSandbox') this.begun.push(JSON.stringify(['podSandbox', config?.metadata.uid]));
    if (method !== 'CreateContainer') return;
    this.begun.push(JSON.stringify(['container', sandbox_config?.metadata.uid, config?.metadata.name]));
  }

  #count({ containers }: Listed): void {
    const perPod = new Map<string, number>();
    for (const { state, labels } of containers) {
      const uid = labels['io.kubernetes.pod.uid'] ?? '';
      if (state === 'CONTAINER_RUNNING') perPod.set(uid, (perPod.get(uid) ?? 0) + 1);
    }
    this.#onRunning([...perPod.values()].filter((running) => running >= this.#containersPerPod).length);
  }
}

/** A name that is taken: containerd says so at once, CRI-O at the end of its own wait. */
function outcomeOf({ code, details = '' }: Partial<grpc.ServiceError>): Outcome {
  if (/\breserved\b/.test(details)) return 'reserved';
  return code === grpc.status.DEADLINE_EXCEEDED ? 'deadline' : 'other';
}
