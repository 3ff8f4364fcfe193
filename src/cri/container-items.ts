/**
 * Finds the containers in CRI responses and events, and cuts some of them out. Works on wire bytes, so that whatever is kept,
 * unknown fields included, stays as the runtime wrote it. Knows where containers are, not which ones are hidden.
 *
 * Field numbers: k8s.io/cri-api runtime/v1/api.proto of Kubernetes 1.36; runtime.v1alpha2 has the same.
 */
import { encodeVarint, FieldCursor, lastBytes, lastVarint, mergedMessage, WireError, wireTypes } from './wire.js';

/** What a response says of one container. Strings it does not give are '', labels empty. */
export interface ContainerItem {
  readonly id: string;
  /** From the item or the pod sandbox around it. */
  readonly podSandboxId: string;
  readonly name: string;
  readonly attempt: number;
  /** ContainerState: CREATED 0, RUNNING 1, EXITED 2, UNKNOWN 3. Undefined in stats and metrics, which do not say. */
  readonly state: number | undefined;
  /** Read from the bytes when first asked for. */
  readonly labels: ReadonlyMap<string, string>;
}

export interface Dropped {
  /** The very Buffer that was given, where nothing was dropped. */
  readonly response: Buffer;
  readonly dropped: number;
  /** The response was about one container only, and that one is hidden. */
  readonly wholeHidden: boolean;
}

/** A ContainerEventResponse, as far as it matters here. */
export interface EventSummary {
  /** Of the pod sandbox itself, where the event is about that. */
  readonly containerId: string;
  /** ContainerEventType: CREATED 0, STARTED 1, STOPPED 2, DELETED 3. */
  readonly type: number;
  readonly podSandboxId: string;
  /** The status of that container that came with the event. */
  readonly item: ContainerItem | undefined;
}

/** Field numbers of a container; all but `within` count in the message that `within`, if set, is the number of. */
interface ItemLayout {
  readonly within?: number;
  readonly id: number;
  readonly podSandboxId?: number;
  readonly metadata?: number;
  readonly state?: number;
  readonly labels?: number;
}

/** A message with containers in it: the item fields themselves, and fields of messages that have some further inside. */
interface Place {
  /** Path of field numbers to the id of the pod sandbox that the items belong to. */
  readonly podSandboxId?: readonly number[];
  readonly items?: Readonly<Record<number, ItemLayout>>;
  readonly inside?: Readonly<Record<number, Place>>;
}

const container: ItemLayout = { id: 1, podSandboxId: 2, metadata: 3, state: 6, labels: 8 };
const containerStatus: ItemLayout = { id: 1, metadata: 2, state: 3, labels: 12 };
const containerStats: ItemLayout = { within: 1, id: 1, metadata: 2, labels: 3 };
const containerMetrics: ItemLayout = { id: 1 };

const podSandboxStats: Place = {
  podSandboxId: [1, 1],
  inside: { 2: { items: { 5: containerStats } }, 3: { items: { 5: containerStats } } },
};
const podSandboxMetrics: Place = { podSandboxId: [1], items: { 3: containerMetrics } };
const event: Place = { podSandboxId: [4, 1], items: { 5: containerStatus } };

const places: ReadonlyMap<string, Place> = new Map<string, Place>([
  ['ListContainers', { items: { 1: container } }],
  ['StreamContainers', { items: { 1: container } }],
  ['ListContainerStats', { items: { 1: containerStats } }],
  ['StreamContainerStats', { items: { 1: containerStats } }],
  ['PodSandboxStatus', { podSandboxId: [1, 1], items: { 3: containerStatus } }],
  ['PodSandboxStats', { inside: { 1: podSandboxStats } }],
  ['ListPodSandboxStats', { inside: { 1: podSandboxStats } }],
  ['StreamPodSandboxStats', { inside: { 1: podSandboxStats } }],
  ['ListPodSandboxMetrics', { inside: { 1: podSandboxMetrics } }],
  ['StreamPodSandboxMetrics', { inside: { 1: podSandboxMetrics } }],
  ['GetContainerEvents', event],
]);

/** Responses about one container: their field 1. */
const singles: ReadonlyMap<string, ItemLayout> = new Map([
  ['ContainerStatus', containerStatus],
  ['ContainerStats', containerStats],
]);

const noLabels: ReadonlyMap<string, string> = new Map();

/** @param method Name without the service, such as `ListContainers`. */
export function hidesContainers(method: string): boolean {
  return places.has(method) || singles.has(method);
}

/**
 * Cuts the containers for which `hidden` says yes out of a response message (of a streaming method: one message of the
 * stream). Lengths of the messages around them are rewritten, all else stays byte for byte. A malformed response is returned
 * unchanged: its reader cannot decode it either.
 *
 * @param method As in hidesContainers; for any other the response is returned unchanged.
 */
export function dropContainers(method: string, response: Buffer, hidden: (item: ContainerItem) => boolean): Dropped {
  const unchanged = { response, dropped: 0, wholeHidden: false };
  try {
    const single = singles.get(method);
    if (single !== undefined) {
      const item = mergedMessage(response, 1);
      if (item === undefined || !hidden(readItem(item, single, ''))) return unchanged;
      return {
        response: new Cutter(() => true).cut({ items: { 1: single } }, response, ''),
        dropped: 1,
        wholeHidden: true,
      };
    }
    const place = places.get(method);
    if (place === undefined) return unchanged;
    const cutter = new Cutter(hidden);
    return { response: cutter.cut(place, response, ''), dropped: cutter.dropped, wholeHidden: false };
  } catch (error) {
    if (error instanceof WireError) return unchanged;
    throw error;
  }
}

/** Never throws: a malformed event reads as one that names nothing. */
export function readEvent(message: Buffer): EventSummary {
  try {
    const containerId = lastBytes(message, 1).toString();
    const podSandboxId = readPath(message, event.podSandboxId ?? []);
    let item: ContainerItem | undefined;
    const field = new FieldCursor(message);
    while (field.next()) {
      const layout = field.wireType === wireTypes.bytes ? event.items?.[field.number] : undefined;
      if (layout === undefined) continue;
      const candidate = readItem(field.value, layout, podSandboxId);
      if (candidate.id === containerId) item = candidate;
    }
    return { containerId, type: Number(BigInt.asIntN(32, lastVarint(message, 2))), podSandboxId, item };
  } catch (error) {
    if (error instanceof WireError) return { containerId: '', type: 0, podSandboxId: '', item: undefined };
    throw error;
  }
}

class Cutter {
  dropped = 0;
  readonly #hidden: (item: ContainerItem) => boolean;

  constructor(hidden: (item: ContainerItem) => boolean) {
    this.#hidden = hidden;
  }

  /** @returns `message` itself where nothing in it is hidden. */
  cut(place: Place, message: Buffer, outerPodSandboxId: string): Buffer {
    const podSandboxId = place.podSandboxId === undefined ? outerPodSandboxId : readPath(message, place.podSandboxId);
    const kept: Buffer[] = [];
    let keptTo = 0;
    const field = new FieldCursor(message);
    while (field.next()) {
      if (field.wireType !== wireTypes.bytes) continue;
      const layout = place.items?.[field.number];
      const inner = place.inside?.[field.number];
      if (layout !== undefined) {
        if (!this.#hidden(readItem(field.value, layout, podSandboxId))) continue;
        this.dropped++;
        kept.push(message.subarray(keptTo, field.start));
        keptTo = field.end;
      } else if (inner !== undefined) {
        const before = field.value;
        const after = this.cut(inner, before, podSandboxId);
        if (after === before) continue;
        kept.push(message.subarray(keptTo, field.tagEnd), encodeVarint(after.length), after);
        keptTo = field.end;
      }
    }
    if (keptTo === 0) return message;
    kept.push(message.subarray(keptTo));
    return Buffer.concat(kept);
  }
}

function readPath(message: Buffer, path: readonly number[]): string {
  const number = path[0];
  if (number === undefined) return '';
  if (path.length === 1) return lastBytes(message, number).toString();
  const inner = mergedMessage(message, number);
  return inner === undefined ? '' : readPath(inner, path.slice(1));
}

function readItem(bytes: Buffer, layout: ItemLayout, podSandboxId: string): ContainerItem {
  const message = layout.within === undefined ? bytes : (mergedMessage(bytes, layout.within) ?? Buffer.alloc(0));
  const own = layout.podSandboxId === undefined ? '' : lastBytes(message, layout.podSandboxId).toString();
  const metadata = layout.metadata === undefined ? undefined : mergedMessage(message, layout.metadata);
  let labels: ReadonlyMap<string, string> | undefined;
  return {
    id: lastBytes(message, layout.id).toString(),
    podSandboxId: own === '' ? podSandboxId : own,
    name: metadata === undefined ? '' : lastBytes(metadata, 1).toString(),
    attempt: metadata === undefined ? 0 : Number(BigInt.asUintN(32, lastVarint(metadata, 2))),
    state: layout.state === undefined ? undefined : Number(BigInt.asIntN(32, lastVarint(message, layout.state))),
    get labels() {
      labels ??= layout.labels === undefined ? noLabels : readMap(message, layout.labels);
      return labels;
    },
  };
}

/** A map of strings; empty where an entry is malformed. */
function readMap(message: Buffer, number: number): ReadonlyMap<string, string> {
  const map = new Map<string, string>();
  try {
    const field = new FieldCursor(message);
    while (field.next()) {
      if (field.number !== number || field.wireType !== wireTypes.bytes) continue;
      map.set(lastBytes(field.value, 1).toString(), lastBytes(field.value, 2).toString());
    }
  } catch (error) {
    if (error instanceof WireError) return noLabels;
    throw error;
  }
  return map;
}
