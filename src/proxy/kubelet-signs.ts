/**
 * Whether a kubelet is behind Holdfast, as far as calls tell: it asks for the runtime's status each 5 s and lists at least once a
 * minute, where tools such as crictl do one or the other. Source: kubelet.go (`updateRuntimeUp`), `ContainerGCPeriod`.
 */
import type { Clock } from '../clock.js';

/** Calls of one sort. */
export interface CallsSeen {
  readonly calls: number;
  /** How long ago the last one was, in ms; undefined: there was none. */
  readonly lastAgoMs: number | undefined;
}

const lists: ReadonlySet<string> = new Set([
  'ListPodSandbox',
  'ListContainers',
  'StreamPodSandboxes',
  'StreamContainers',
]);

export class KubeletSigns {
  readonly #clock: Clock;
  readonly #status = { calls: 0, lastMs: 0 };
  readonly #lists = { calls: 0, lastMs: 0 };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @param method A name of the CRI. */
  note(method: string): void {
    const sort = method === 'Status' ? this.#status : lists.has(method) ? this.#lists : undefined;
    if (sort === undefined) return;
    sort.calls += 1;
    sort.lastMs = this.#clock.now();
  }

  get seen(): { readonly status: CallsSeen; readonly lists: CallsSeen } {
    return { status: this.#of(this.#status), lists: this.#of(this.#lists) };
  }

  #of({ calls, lastMs }: { readonly calls: number; readonly lastMs: number }): CallsSeen {
    return { calls, lastAgoMs: calls === 0 ? undefined : Math.round(this.#clock.now() - lastMs) };
  }
}
