/**
 * Finds out what has the name that a creation wants, and whether it is what the creation would have made. Looks only; it knows how
 * runtimes list things, and nothing of what is done about it.
 *
 * Lists, not statuses: a list says which pod sandbox a container is in, and says image, labels and annotations as they were asked for
 * (containerd 1.6, 2.1 and CRI-O 1.36), while containerd's ContainerStatus has a tag in the place of an image id.
 */

import type { NameHolder } from '../cache/creation-runtime.js';
import type {
  ContainerFingerprint,
  ContainerIdentity,
  Fingerprint,
  PodSandboxFingerprint,
  PodSandboxIdentity,
} from '../cache/fingerprint.js';
import { ContainerState, PodSandboxState } from '../cri/enums.js';
import {
  type CallLimits,
  type ListedContainer,
  type ListedPodSandbox,
  type Origin,
  type OwnCalls,
  read,
  type StringMap,
} from './own-calls.js';

/** The labels by which a kubelet's containers say whose they are. */
export const podLabels = {
  namespace: 'io.kubernetes.pod.namespace',
  name: 'io.kubernetes.pod.name',
  uid: 'io.kubernetes.pod.uid',
} as const;

/** CreateContainerRequest, as far as it matters here. */
interface CreateContainerRequest {
  readonly config?: {
    readonly image?: { readonly image: string } | null;
    readonly labels: StringMap;
    readonly annotations: StringMap;
  } | null;
}

/** What is looked for. */
export interface Wanted {
  readonly fingerprint: Fingerprint;
  /** The request. */
  readonly bytes: Buffer;
  readonly origin: Origin;
  /** As the runtime's error has it. What is there under it counts only where it is of this identity. */
  readonly holderId: string | undefined;
}

type Looks = Pick<OwnCalls, 'podSandboxes' | 'containers' | 'isReady'>;

export class NameHolders {
  readonly #calls: Looks;
  readonly #volatileAnnotations: ReadonlySet<string>;

  /** @param volatileAnnotations Keys of those that differ between two tries without meaning anything. */
  constructor(calls: Looks, volatileAnnotations: ReadonlySet<string>) {
    this.#calls = calls;
    this.#volatileAnnotations = volatileAnnotations;
  }

  async find(wanted: Wanted, limits: CallLimits): Promise<NameHolder> {
    const { fingerprint } = wanted;
    const found =
      fingerprint.kind === 'podSandbox'
        ? await this.#podSandbox(fingerprint, wanted, limits)
        : await this.#container(fingerprint, wanted, limits);
    return found ?? { condition: 'unseen', id: wanted.holderId };
  }

  async #podSandbox(
    { identity }: PodSandboxFingerprint,
    { origin, holderId }: Wanted,
    limits: CallLimits,
  ): Promise<NameHolder | undefined> {
    const found = await findByIdOrAmongAll(
      holderId,
      (filter) => this.#calls.podSandboxes(origin, filter, limits),
      (each) => isPodSandboxOf(identity, each),
    );
    if (found === undefined) return undefined;
    const { id, state } = found;
    if (state === PodSandboxState.ready) return { condition: 'fits', id };
    const inside = await this.#calls.containers(origin, { pod_sandbox_id: id }, limits);
    return { condition: inside.some(wasUsed) ? 'in use' : 'unusable', id };
  }

  async #container(
    { identity, podSandboxId }: ContainerFingerprint,
    { bytes, origin, holderId }: Wanted,
    limits: CallLimits,
  ): Promise<NameHolder | undefined> {
    const found = await findByIdOrAmongAll(
      holderId,
      (filter) => this.#calls.containers(origin, filter, limits),
      (each) => isContainerOf(identity, podSandboxId, each),
    );
    if (found === undefined) return undefined;
    const { id } = found;
    if (wasUsed(found)) return { condition: 'in use', id };
    const fits =
      found.pod_sandbox_id === podSandboxId &&
      this.#isAsAskedFor(found, bytes) &&
      (await this.#calls.isReady(podSandboxId, origin, limits));
    return fits ? { condition: 'fits', id } : { condition: 'unusable', id, podSandboxId: found.pod_sandbox_id };
  }

  /** What a runtime adds of its own does not count. */
  #isAsAskedFor({ image, labels, annotations }: ListedContainer, request: Buffer): boolean {
    const { config } = read<CreateContainerRequest>('CreateContainerRequest', request);
    if (config == null) return false;
    return (
      image?.image === config.image?.image &&
      contains(labels, config.labels) &&
      contains(annotations, config.annotations, this.#volatileAnnotations)
    );
  }
}

/** Whether it is more than made: started at some time, or nobody knows. UNKNOWN may run. */
export function wasUsed({ state }: Pick<ListedContainer, 'state'>): boolean {
  return state !== ContainerState.created;
}

/** One that has the id and is it, else one of all that is it; where nothing has the id it is not listed yet, or no more. */
async function findByIdOrAmongAll<Item extends { readonly id: string }>(
  id: string | undefined,
  list: (filter?: { readonly id: string }) => Promise<readonly Item[]>,
  isIt: (item: Item) => boolean,
): Promise<Item | undefined> {
  if (id !== undefined) {
    const [named] = await list({ id });
    if (named === undefined || isIt(named)) return named;
  }
  return (await list()).find(isIt);
}

function isPodSandboxOf(identity: PodSandboxIdentity, { metadata }: ListedPodSandbox): boolean {
  return (
    metadata?.namespace === identity.namespace &&
    metadata.name === identity.name &&
    metadata.uid === identity.uid &&
    metadata.attempt === identity.attempt
  );
}

/** A container says by its labels whose it is, or is in the pod sandbox that is asked for. */
function isContainerOf(identity: ContainerIdentity, podSandboxId: string, item: ListedContainer): boolean {
  const { metadata, labels } = item;
  if (metadata?.name !== identity.container || metadata.attempt !== identity.attempt) return false;
  if (item.pod_sandbox_id === podSandboxId) return true;
  return (
    labels[podLabels.namespace] === identity.namespace &&
    labels[podLabels.name] === identity.name &&
    labels[podLabels.uid] === identity.uid
  );
}

function contains(whole: StringMap, part: StringMap, but: ReadonlySet<string> = new Set()): boolean {
  return Object.entries(part).every(([key, value]) => but.has(key) || whole[key] === value);
}
