/** Keeps containers that nobody has been given out of what the runtime reports. */
import type { Metrics } from '../admin/metrics.js';
import type { CreationStore } from '../cache/creation-store.js';
import { type ContainerItem, dropContainers } from '../cri/container-items.js';
import type { Method } from '../cri/methods.js';
import { readStringField } from '../cri/requests.js';
import { type Origin, siblingPath } from './cri-runtime.js';
import type { Faults } from './faults.js';
import type { Edit, Relay } from './relay.js';
import { containerNotFound, isFault } from './rescue.js';
import type { TakenCall } from './taken-call.js';
import type { Upstream, UpstreamAnswer } from './upstream.js';

/** Reports that name containers by id only. */
const idOnlyMethods = new Set(['ListPodSandboxMetrics', 'StreamPodSandboxMetrics']);

const asItCame: Edit = (message) => message;

export class Hiding {
  readonly #store: CreationStore<Origin, UpstreamAnswer>;
  readonly #upstream: Upstream;
  readonly #relay: Relay;
  readonly #metrics: Metrics;
  readonly #faults: Faults;

  constructor(
    store: CreationStore<Origin, UpstreamAnswer>,
    upstream: Upstream,
    relay: Relay,
    metrics: Metrics,
    faults: Faults,
  ) {
    this.#store = store;
    this.#upstream = upstream;
    this.#relay = relay;
    this.#metrics = metrics;
    this.#faults = faults;
  }

  /** Carries out a call that reports containers and leaves out the hidden ones. What cannot be looked at goes on as it came. */
  report(call: TakenCall, method: Method): Promise<void> {
    const edit = this.#faults.guard(method.name, () => this.#edit(call, method), asItCame);
    const guarded: Edit = async (message) => {
      try {
        return await edit(message);
      } catch (error) {
        if (!isFault(error)) throw error;
        this.#faults.note(method.name, error);
        return message;
      }
    };
    return method.streaming ? this.#relay.serverStream(call, guarded) : this.#relay.unary(call, guarded);
  }

  #edit(call: TakenCall, method: Method): Edit {
    const view = this.#store.hiddenView();
    const isHidden = (item: ContainerItem) => view(item) !== undefined;
    return async (message) => {
      if (idOnlyMethods.has(method.name) && this.#store.hidesUnknownIds) await this.#learnIds(call, isHidden);
      const { response, dropped, wholeHidden } = dropContainers(method.name, message, isHidden);
      this.#metrics.hiddenItems.inc(dropped);
      return wholeHidden ? containerNotFound(readStringField(call.request, 1)) : response;
    };
  }

  /** Looks the hidden containers up by their identity, so that they are known by id afterwards. */
  async #learnIds(call: TakenCall, isHidden: (item: ContainerItem) => boolean): Promise<void> {
    const path = siblingPath(call.path, 'ListContainers');
    const list = await this.#upstream.unary(path, Buffer.alloc(0), this.#relay.options(call));
    dropContainers('ListContainers', list.message, isHidden);
  }
}
