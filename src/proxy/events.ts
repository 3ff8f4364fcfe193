/**
 * GetContainerEvents: one upstream subscription per downstream one. Events of hidden containers wait until the container is
 * delivered. The runtime's side is always drained, since a subscriber that does not read blocks containerd's creations.
 */
import { status } from '@grpc/grpc-js';
import type { Metrics } from '../admin/metrics.js';
import type { Creation } from '../cache/creation.js';
import type { CreationStore } from '../cache/creation-store.js';
import { dropContainers, readEvent } from '../cri/container-items.js';
import type { Origin } from './cri-runtime.js';
import type { Relay } from './relay.js';
import type { TakenCall } from './taken-call.js';
import type { Upstream, UpstreamAnswer } from './upstream.js';

type KnownCreation = Creation<Origin, UpstreamAnswer>;

/** Events kept for a downstream that does not read, in bytes; beyond, its stream ends and it falls back to listing. */
const maxUnreadBytes = 16 * 1024 * 1024;

export class Events {
  readonly #store: CreationStore<Origin, UpstreamAnswer>;
  readonly #upstream: Upstream;
  readonly #relay: Relay;
  readonly #metrics: Metrics;
  readonly #subscribers = new Set<Subscriber>();

  constructor(store: CreationStore<Origin, UpstreamAnswer>, upstream: Upstream, relay: Relay, metrics: Metrics) {
    this.#store = store;
    this.#upstream = upstream;
    this.#relay = relay;
    this.#metrics = metrics;
  }

  async subscribe(call: TakenCall): Promise<void> {
    const subscriber = new Subscriber(call, (event) => this.#visiblePart(event));
    this.#subscribers.add(subscriber);
    const ended = await this.#upstream.serverStream(call.path, call.request, this.#relay.options(call), {
      initialMetadata: (metadata) => call.sendInitialMetadata(metadata),
      message: (event) => {
        const hidden = this.#hiddenOwner(event);
        if (hidden === undefined) subscriber.send(event);
        else subscriber.suppress(hidden, event);
      },
    });
    this.#subscribers.delete(subscriber);
    await call.end(ended);
  }

  revealed(creation: KnownCreation): void {
    for (const subscriber of this.#subscribers) subscriber.reveal(creation);
  }

  vanished(creation: KnownCreation): void {
    for (const subscriber of this.#subscribers) subscriber.drop(creation);
  }

  #hiddenOwner(event: Buffer): KnownCreation | undefined {
    if (!this.#store.hiding) return undefined;
    const { containerId, podSandboxId, item } = readEvent(event);
    const nobody = { id: containerId, podSandboxId, name: '', attempt: 0, labels: new Map<string, string>() };
    return this.#store.hiddenView()(item ?? nobody);
  }

  #visiblePart(event: Buffer): Buffer {
    if (!this.#store.hiding) return event;
    const view = this.#store.hiddenView();
    const { response, dropped } = dropContainers('GetContainerEvents', event, (item) => view(item) !== undefined);
    this.#metrics.hiddenItems.inc(dropped);
    return response;
  }
}

class Subscriber {
  readonly #call: TakenCall;
  readonly #visiblePart: (event: Buffer) => Buffer;
  readonly #suppressed = new Map<KnownCreation, Buffer[]>();
  #unreadBytes = 0;

  constructor(call: TakenCall, visiblePart: (event: Buffer) => Buffer) {
    this.#call = call;
    this.#visiblePart = visiblePart;
  }

  suppress(creation: KnownCreation, event: Buffer): void {
    const events = this.#suppressed.get(creation);
    if (events === undefined) this.#suppressed.set(creation, [event]);
    else events.push(event);
  }

  reveal(creation: KnownCreation): void {
    const events = this.#suppressed.get(creation) ?? [];
    this.#suppressed.delete(creation);
    for (const event of events) this.send(event);
  }

  drop(creation: KnownCreation): void {
    this.#suppressed.delete(creation);
  }

  send(event: Buffer): void {
    const visible = this.#visiblePart(event);
    this.#unreadBytes += visible.length;
    if (this.#unreadBytes > maxUnreadBytes) {
      const message = `${this.#unreadBytes} bytes of container events were not read`;
      void this.#call.end({ code: status.RESOURCE_EXHAUSTED, message, trailers: [] });
      return;
    }
    void this.#call.send(visible).then(() => {
      this.#unreadBytes -= visible.length;
    });
  }
}
