/** The containers that nobody has been given, and how to tell them in what a runtime reports. */
import type { ContainerItem } from '../cri/container-items.js';
import type { Creation } from './creation.js';

export class HiddenContainers<Origin, Answer> {
  readonly #hidden = new Set<Creation<Origin, Answer>>();

  get size(): number {
    return this.#hidden.size;
  }

  /** Whether one's id is not known yet, so that it can be told by its identity only. */
  get includesUnknownIds(): boolean {
    for (const creation of this.#hidden) {
      if (creation.made === undefined && creation.seenId === undefined) return true;
    }
    return false;
  }

  add(creation: Creation<Origin, Answer>): void {
    this.#hidden.add(creation);
  }

  /** @returns Whether it was hidden. */
  delete(creation: Creation<Origin, Answer>): boolean {
    return this.#hidden.delete(creation);
  }

  /**
   * Tells for items of a response which of them belong to a hidden creation. What is hidden now or became so by the time an
   * item is looked at counts, unless it has been revealed since.
   */
  view(): (item: ContainerItem) => Creation<Origin, Answer> | undefined {
    const then = [...this.#hidden];
    return (item) => {
      for (const creation of this.#hidden) if (isShownAs(creation, item)) return creation;
      return then.find((creation) => !creation.delivered && !creation.forgotten && isShownAs(creation, item));
    };
  }
}

/** Whether an item of a response is this creation's container: by id, or by identity while the runtime has not answered. */
function isShownAs<Origin, Answer>(creation: Creation<Origin, Answer>, item: ContainerItem): boolean {
  const id = creation.made?.id ?? creation.seenId;
  if (id !== undefined) return item.id === id;
  const { identity } = creation.fingerprint;
  if (identity.kind !== 'container' || item.name !== identity.container || item.attempt !== identity.attempt)
    return false;
  const same =
    item.podSandboxId !== ''
      ? item.podSandboxId === creation.podSandboxId
      : item.labels.get('io.kubernetes.pod.uid') === identity.uid &&
        item.labels.get('io.kubernetes.pod.name') === identity.name &&
        item.labels.get('io.kubernetes.pod.namespace') === identity.namespace;
  if (same) creation.seenId = item.id;
  return same;
}
