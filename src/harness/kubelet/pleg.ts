/**
 * The pod lifecycle event generator: what the runtime shows of each pod, kept by relists, and whom a change wakes.
 *
 * Source: kubernetes 1.26 pkg/kubelet/pleg/generic.go and container/cache.go.
 */

import type { ContainerState, PodSandboxState, StringMap } from '../runtime/messages.js';
import { untilAborted } from '../sleep.js';
import type { Calls } from './calls.js';
import { nothing, type PodStatus, podStatus, podUidLabel } from './pod-status.js';

interface Listed {
  readonly id: string;
  readonly state: PodSandboxState | ContainerState;
  readonly labels: StringMap;
}

/** States by id. */
type Record = ReadonlyMap<string, Listed['state']>;

/** A place in the order of what happens here. */
export type Moment = number;

/** Before everything. */
export const never: Moment = 0;

interface Cached {
  readonly asked: Moment;
  readonly status: PodStatus | { readonly error: unknown };
}

export class Pleg {
  /** Whether a pod of which nothing is known counts as known to have nothing (container/cache.go:getIfNewerThan, with events). */
  trusting = false;
  readonly #calls: Calls;
  readonly #isOurs: (uid: string) => boolean;
  readonly #wake: (uid: string) => void;
  readonly #records = new Map<string, Record>();
  readonly #cache = new Map<string, Cached>();
  readonly #waiters = new Set<() => void>();
  #latest: Moment = never;
  /** When what is known of all pods was asked for. */
  #allAsked: Moment = never;
  #relisting: Promise<void> = Promise.resolve();

  /**
   * @param isOurs Of all others on the node nothing is asked or kept.
   * @param wake Gets the uid of a pod in which something has come to run or has ended.
   */
  constructor(calls: Calls, isOurs: (uid: string) => boolean, wake: (uid: string) => void) {
    this.#calls = calls;
    this.#isOurs = isOurs;
    this.#wake = wake;
  }

  /** Later than all moments before. */
  moment(): Moment {
    this.#latest += 1;
    return this.#latest;
  }

  /** One at a time. @throws {grpc.ServiceError} A list failed. */
  relist(): Promise<void> {
    const relisting = this.#relisting.then(() => this.#relist());
    this.#relisting = relisting.catch(() => undefined);
    return relisting;
  }

  /** Takes a status that came in an event for what there is of a pod. */
  replace(uid: string, status: PodStatus): void {
    this.#set(uid, { asked: this.moment(), status });
  }

  /** Takes what is known of all pods for up to date. */
  confirm(): void {
    this.#know(this.moment());
  }

  /**
   * What there is of a pod, asked for after the moment.
   *
   * @returns Undefined once the signal has fired.
   * @throws {grpc.ServiceError} Asking for it failed.
   */
  async newerThan(uid: string, moment: Moment, signal: AbortSignal): Promise<PodStatus | undefined> {
    while (!signal.aborted) {
      const cached = this.#cache.get(uid);
      const known = cached === undefined ? this.trusting || this.#allAsked > moment : cached.asked > moment;
      if (known || this.#allAsked > moment) {
        const status = cached?.status ?? nothing;
        if ('error' in status) throw status.error;
        return status;
      }
      await untilAborted(new Promise<void>((resolve) => this.#waiters.add(resolve)), signal);
    }
    return undefined;
  }

  async #relist(): Promise<void> {
    const began = this.moment();
    const { items } = await this.#calls.call<{ items: Listed[] }>('ListPodSandbox', {});
    const { containers } = await this.#calls.call<{ containers: Listed[] }>('ListContainers', {});
    const records = this.#byPod([...items, ...containers]);
    for (const uid of new Set([...this.#records.keys(), ...records.keys()])) {
      const [before, after] = [this.#records.get(uid), records.get(uid)];
      const { changed, wakes } = compare(before ?? new Map(), after ?? new Map());
      if (!changed) continue;
      if (after === undefined) this.#forget(uid);
      else if (await this.#inspect(uid)) this.#records.set(uid, after);
      else continue;
      if (wakes) this.#wake(uid);
    }
    this.#know(began);
  }

  #byPod(items: readonly Listed[]): Map<string, Map<string, Listed['state']>> {
    const records = new Map<string, Map<string, Listed['state']>>();
    for (const { id, state, labels } of items) {
      const uid = labels[podUidLabel] ?? '';
      if (!this.#isOurs(uid)) continue;
      const record = records.get(uid) ?? new Map<string, Listed['state']>();
      records.set(uid, record.set(id, state));
    }
    return records;
  }

  /** @returns Whether it could; otherwise the next relist sees the change again. */
  async #inspect(uid: string): Promise<boolean> {
    const asked = this.moment();
    try {
      this.#set(uid, { asked, status: await podStatus(this.#calls, uid) });
      return true;
    } catch (error) {
      this.#set(uid, { asked, status: { error } });
      return false;
    }
  }

  #forget(uid: string): void {
    this.#records.delete(uid);
    this.#cache.delete(uid);
  }

  #set(uid: string, cached: Cached): void {
    this.#cache.set(uid, cached);
    this.#tell();
  }

  #know(asked: Moment): void {
    this.#allAsked = asked;
    this.#tell();
  }

  #tell(): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const resolve of waiters) resolve();
  }
}

/** CREATED and UNKNOWN are the same to a kubelet: a change to them wakes nobody (pleg/generic.go:convertState, :generateEvents). */
function compare(before: Record, after: Record): { changed: boolean; wakes: boolean } {
  let [changed, wakes] = [false, false];
  for (const id of new Set([...before.keys(), ...after.keys()])) {
    const [was, is] = [kindOf(before.get(id)), kindOf(after.get(id))];
    if (was === is) continue;
    changed = true;
    // What is gone has ended first, unless that was seen before.
    if (is === 'runs' || is === 'ended' || (is === 'gone' && was !== 'ended')) wakes = true;
  }
  return { changed, wakes };
}

function kindOf(state: Listed['state'] | undefined): 'runs' | 'ended' | 'unknown' | 'gone' {
  if (state === undefined) return 'gone';
  if (state === 'SANDBOX_READY' || state === 'CONTAINER_RUNNING') return 'runs';
  return state === 'SANDBOX_NOTREADY' || state === 'CONTAINER_EXITED' ? 'ended' : 'unknown';
}
