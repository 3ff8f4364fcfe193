/**
 * GetContainerEvents: one upstream subscription per downstream one. Events of hidden containers wait until the container is
 * delivered. The runtime's side is always drained, since a subscriber that does not read blocks containerd's creations.
 */
import type { Metrics } from '../admin/metrics.js';
import type { Creation } from '../cache/creation.js';
import type { CreationStore } from '../cache/creation-store.js';
import { type ContainerItem, dropContainers, readEvent } from '../cri/container-items.js';
import { ContainerEventType, ContainerState } from '../cri/enums.js';
import type { Origin } from './cri-runtime.js';
import type { Faults } from './faults.js';
import { GrpcCode } from './grpc-code.js';
import type { Relay } from './relay.js';
import { failCall, faultStatus, isFault } from './rescue.js';
import type { TakenCall } from './taken-call.js';
import type { Upstream, UpstreamAnswer } from './upstream.js';

const method = 'GetContainerEvents';

const noLabels: ReadonlyMap<string, string> = new Map();

type KnownCreation = Creation<Origin, UpstreamAnswer>;

/** Events kept for one subscriber, in bytes; beyond, its stream ends and it falls back to listing. */
const maxKeptBytes = 16 * 1024 * 1024;
/** What an event that waits takes of memory beside its bytes; measured. */
const eventOverheadBytes = 1024;

export class Events {
  readonly #store: CreationStore<Origin, UpstreamAnswer>;
  readonly #upstream: Upstream;
  readonly #relay: Relay;
  readonly #metrics: Metrics;
  readonly #faults: Faults;
  readonly #subscribers = new Set<Subscriber>();

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

  /** Subscriptions that are open. */
  get subscriptions(): number {
    return this.#subscribers.size;
  }

  async subscribe(call: TakenCall): Promise<void> {
    const stream = this.#upstream.serverStream(call.path, call.request, this.#relay.options(call));
    // What cannot be looked at goes on as it came.
    const visiblePart = (event: Buffer) => this.#faults.guard(method, () => this.#visiblePart(event), event);
    const subscriber = new Subscriber(call, visiblePart);
    this.#subscribers.add(subscriber);
    try {
      const metadata = await stream.initialMetadata;
      if (metadata !== undefined) call.sendInitialMetadata(metadata);
      for await (const event of stream) {
        const hidden = this.#faults.guard(method, () => this.#hiddenOwner(event), undefined);
        if (hidden === undefined) subscriber.send(event);
        else subscriber.suppress(hidden, event);
      }
      await call.end(await stream.status);
    } catch (error) {
      if (!isFault(error)) await failCall(call, error);
      else {
        this.#faults.note(method, error);
        await call.end(faultStatus(error));
      }
    } finally {
      this.#subscribers.delete(subscriber);
      subscriber.close();
    }
  }

  revealed(creation: KnownCreation): void {
    for (const subscriber of this.#subscribers) {
      this.#faults.guard(method, () => subscriber.reveal(creation), undefined);
    }
  }

  vanished(creation: KnownCreation): void {
    for (const subscriber of this.#subscribers) {
      this.#faults.guard(method, () => subscriber.drop(creation), undefined);
    }
  }

  #hiddenOwner(event: Buffer): KnownCreation | undefined {
    if (!this.#store.hiding) return undefined;
    const { containerId, podSandboxId, item, type } = readEvent(event);
    const nobody = { id: containerId, podSandboxId, name: '', attempt: 0, labels: noLabels };
    // What has started or stopped has run, whatever its status says by now.
    const hasRun = type === ContainerEventType.started || type === ContainerEventType.stopped;
    const state = hasRun ? ContainerState.running : item?.state;
    return this.#store.hiddenOwner({ ...(item ?? nobody), state });
  }

  #visiblePart(event: Buffer): Buffer {
    if (!this.#store.hiding) return event;
    const isHidden = (item: ContainerItem) => this.#store.hiddenOwner(item) !== undefined;
    const { response, dropped } = dropContainers(method, event, isHidden);
    this.#metrics.hiddenItems.inc(dropped);
    return response;
  }
}

class Subscriber {
  readonly #call: TakenCall;
  readonly #visiblePart: (event: Buffer) => Buffer;
  readonly #suppressed = new Map<KnownCreation, Buffer[]>();
  /** Suppressed, or sent and not read. */
  #keptBytes = 0;

  constructor(call: TakenCall, visiblePart: (event: Buffer) => Buffer) {
    this.#call = call;
    this.#visiblePart = visiblePart;
  }

  suppress(creation: KnownCreation, event: Buffer): void {
    if (!this.#keep(event)) return;
    this.#call.keep(event.length + eventOverheadBytes);
    const events = this.#suppressed.get(creation);
    if (events === undefined) this.#suppressed.set(creation, [event]);
    else events.push(event);
  }

  reveal(creation: KnownCreation): void {
    for (const event of this.#forget(creation)) this.send(event);
  }

  drop(creation: KnownCreation): void {
    this.#forget(creation);
  }

  send(event: Buffer): void {
    const visible = this.#visiblePart(event);
    if (!this.#keep(visible)) return;
    const { length } = visible;
    this.#call.keep(eventOverheadBytes);
    void this.#call.send(visible).then(() => {
      this.#keptBytes -= length + eventOverheadBytes;
      this.#call.keep(-eventOverheadBytes);
    });
  }

  /** The subscription is over. */
  close(): void {
    for (const creation of this.#suppressed.keys()) this.#forget(creation);
  }

  /** @returns false where it is too much: the subscription has ended. */
  #keep({ length }: Buffer): boolean {
    this.#keptBytes += length + eventOverheadBytes;
    if (this.#keptBytes <= maxKeptBytes) return true;
    const message = `${this.#keptBytes} bytes of container events were not read`;
    void this.#call.end({ code: GrpcCode.resourceExhausted, message, trailers: [] });
    return false;
  }

  #forget(creation: KnownCreation): readonly Buffer[] {
    const events = this.#suppressed.get(creation) ?? [];
    this.#suppressed.delete(creation);
    for (const { length } of events) {
      this.#keptBytes -= length + eventOverheadBytes;
      this.#call.keep(-length - eventOverheadBytes);
    }
    return events;
  }
}
