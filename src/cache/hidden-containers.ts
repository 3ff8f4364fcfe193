/** The containers that nobody has been given, and how to tell them in what a runtime reports. */
import type { ContainerItem } from '../cri/container-items.js';
import { ContainerState } from '../cri/enums.js';
import type { Creation } from './creation.js';

export class HiddenContainers<Origin, Answer> {
  readonly #hidden = new Set<Creation<Origin, Answer>>();
  readonly #byId = new Map<string, Creation<Origin, Answer>>();
  /**
   * Those whose id is not known yet, by what names them beside it: name and attempt, and pod sandbox or pod. Never an empty list.
   * One that is to be removed has the name of the one that waits for that.
   */
  readonly #byName = new Map<string, readonly Creation<Origin, Answer>[]>();
  /** Those that may be seen, for good. */
  readonly #revealed = new WeakSet<Creation<Origin, Answer>>();
  /** How often one was hidden no more, or anew. */
  #departures = 0;

  get size(): number {
    return this.#hidden.size;
  }

  has(creation: Creation<Origin, Answer>): boolean {
    return this.#hidden.has(creation);
  }

  /** Whether one's id is not known yet, so that it can be told by its identity only. */
  get includesUnknownIds(): boolean {
    return this.#byName.size > 0;
  }

  hide(creation: Creation<Origin, Answer>): void {
    this.#forget(creation);
    this.#hidden.add(creation);
    const id = idOf(creation);
    if (id !== undefined) this.#byId.set(id, creation);
    else for (const name of namesOf(creation)) this.#byName.set(name, [...(this.#byName.get(name) ?? []), creation]);
  }

  /** It may be seen. @returns Whether it was hidden. */
  reveal(creation: Creation<Origin, Answer>): boolean {
    this.#revealed.add(creation);
    return this.#forget(creation);
  }

  /** It is no more; what was asked for before that still leaves it out. @returns Whether it was hidden. */
  vanish(creation: Creation<Origin, Answer>): boolean {
    return this.#forget(creation);
  }

  /**
   * Which hidden creation's container an item of a response is: by id, or by identity while the runtime has not answered. An id
   * that is told by identity is known from then on, but for that of one that has run, which is another one's.
   */
  recognise(item: ContainerItem): Creation<Origin, Answer> | undefined {
    const known = this.#byId.get(item.id);
    if (known !== undefined) return isStranger(known, item.id) ? undefined : known;
    if (this.#byName.size === 0) return undefined;
    const all = this.#byName.get(item.podSandboxId === '' ? nameInPod(item) : nameInPodSandbox(item));
    const named = all?.find(({ call }) => call.phase === 'running') ?? all?.[0];
    if (named === undefined || isStranger(named, item.id)) return undefined;
    if (item.state === ContainerState.running || item.state === ContainerState.exited) return named;
    named.seenId = item.id;
    this.hide(named);
    return named;
  }

  /** As {@link recognise}, for a report that is asked for now: what is no more by the time it comes is left out too. */
  view(): (item: ContainerItem) => Creation<Origin, Answer> | undefined {
    const then = new Set(this.#hidden);
    let departures = this.#departures;
    let vanished = new Map<string | undefined, Creation<Origin, Answer>>();
    return (item) => {
      const now = this.recognise(item);
      if (now !== undefined) return now;
      if (this.#departures !== departures) {
        departures = this.#departures;
        vanished = this.#vanishedOf(then);
      }
      return vanished.get(item.id);
    };
  }

  /** Those of them that are no more, by id. */
  #vanishedOf(then: ReadonlySet<Creation<Origin, Answer>>): Map<string | undefined, Creation<Origin, Answer>> {
    const vanished = [...then].filter((creation) => !this.#hidden.has(creation) && !this.#revealed.has(creation));
    return new Map(vanished.map((creation) => [idOf(creation), creation]));
  }

  #forget(creation: Creation<Origin, Answer>): boolean {
    if (!this.#hidden.delete(creation)) return false;
    this.#departures += 1;
    for (const id of [creation.made?.id, creation.seenId]) {
      if (id !== undefined && this.#byId.get(id) === creation) this.#byId.delete(id);
    }
    for (const name of namesOf(creation)) this.#unname(name, creation);
    return true;
  }

  #unname(name: string, creation: Creation<Origin, Answer>): void {
    const all = this.#byName.get(name);
    if (!all?.includes(creation)) return;
    const others = all.filter((each) => each !== creation);
    if (others.length > 0) this.#byName.set(name, others);
    else this.#byName.delete(name);
  }
}

function idOf<Origin, Answer>({ made, seenId }: Creation<Origin, Answer>): string | undefined {
  return made?.id ?? seenId;
}

/** Whether this is what stands in the creation's way under its name. */
function isStranger<Origin, Answer>({ reservation }: Creation<Origin, Answer>, id: string): boolean {
  return reservation?.strangerId === id;
}

function nameInPodSandbox({ podSandboxId, name, attempt }: Pick<ContainerItem, 'podSandboxId' | 'name' | 'attempt'>) {
  return JSON.stringify([podSandboxId, name, attempt]);
}

function nameInPod({ labels, name, attempt }: Pick<ContainerItem, 'labels' | 'name' | 'attempt'>): string {
  const pod = ['namespace', 'name', 'uid'].map((field) => labels.get(`io.kubernetes.pod.${field}`));
  return JSON.stringify([...pod, name, attempt]);
}

function namesOf<Origin, Answer>({ fingerprint }: Creation<Origin, Answer>): readonly string[] {
  if (fingerprint.kind !== 'container') return [];
  const { identity, podSandboxId } = fingerprint;
  const { container, attempt, namespace, name, uid } = identity;
  return [
    nameInPodSandbox({ podSandboxId, name: container, attempt }),
    JSON.stringify([namespace, name, uid, container, attempt]),
  ];
}
