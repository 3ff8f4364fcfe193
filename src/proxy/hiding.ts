/** Keeps containers that nobody has been given out of what the runtime reports. */
import type { Metrics } from '../admin/metrics.js';
import type { CreationStore } from '../cache/creation-store.js';
import { type ContainerItem, dropContainers } from '../cri/container-items.js';
import type { Method } from '../cri/methods.js';
import { readStringField } from '../cri/requests.js';
import { type Origin, siblingPath } from './cri-runtime.js';
import type { Edit, Relay } from './relay.js';
import { containerNotFound } from './rescue.js';
import type { TakenCall } from './taken-call.js';
import type { Upstream, UpstreamAnswer } from './upstream.js';

/** Reports that name containers by id only. */
const idOnlyMethods = new Set(['ListPodSandboxMetrics', 'StreamPodSandboxMetrics']);

export class Hiding {
  readonly #store: CreationStore<Origin, UpstreamAnswer>;
  readonly #upstream: Upstream;
  readonly #relay: Relay;
  readonly #metrics: Metrics;

  constructor(store: CreationStore<Origin, UpstreamAnswer>, upstream: Upstream, relay: Relay, metrics: Metrics) {
    this.#store = store;
    this.#upstream = upstream;
    this.#relay = relay;
    this.#metrics = metrics;
  }

  /** Carries out a call that reports containers and leaves out the hidden ones. */
  report(call: TakenCall, method: Method): Promise<void> {
    const view = this.#store.hiddenView();
    const isHidden = (item: ContainerItem) => view(item) !== undefined;
    const edit: Edit = async (message) => {
      if (idOnlyMethods.has(method.name) && this.#store.hidesUnknownIds) await this.#learnIds(call, isHidden);
      const { response, dropped, wholeHidden } = dropContainers(method.name, message, isHidden);
      this.#metrics.hiddenItems.inc(dropped);
      return wholeHidden ? containerNotFound(readStringField(call.request, 1)) : response;
    };
    return method.streaming ? this.#relay.serverStream(call, edit) : this.#relay.unary(call, edit);
  }

  /** Looks the hidden containers up by their identity, so that they are known by id afterwards. */
  async #learnIds(call: TakenCall, isHidden: (item: ContainerItem) => boolean): Promise<void> {
    const path = siblingPath(call.path, 'ListContainers');
    const list = await this.#upstream.unary(path, Buffer.alloc(0), this.#relay.options(call));
    dropContainers('ListContainers', list.message, isHidden);
  }
}
