/**
 * A bug anywhere behind a call: whatever method of the stores, of admission or of what is around them throws, and at whichever of its
 * calls, a pod comes up in the end, nothing of it is made twice, and no call stays without an answer.
 */
import t from 'tap';
import { Creation } from '../../src/cache/creation.js';
import { CreationIndex } from '../../src/cache/creation-index.js';
import { CreationLives } from '../../src/cache/creation-lives.js';
import { CreationStore } from '../../src/cache/creation-store.js';
import { DetachedCall } from '../../src/cache/detached-call.js';
import { DetachedCalls } from '../../src/cache/detached-calls.js';
import { FailureBackoff } from '../../src/cache/failure-backoff.js';
import { HiddenContainers } from '../../src/cache/hidden-containers.js';
import { NameReservations } from '../../src/cache/name-reservations.js';
import { Preparation } from '../../src/cache/preparation.js';
import { SecondCopyGuard, WatchedStart } from '../../src/cache/second-copy-guard.js';
import { StartStore } from '../../src/cache/start-store.js';
import { CreationCalls } from '../../src/proxy/creation-calls.js';
import { CriRuntime } from '../../src/proxy/cri-runtime.js';
import { Events } from '../../src/proxy/events.js';
import { Hiding } from '../../src/proxy/hiding.js';
import { LifeLog } from '../../src/proxy/life-log.js';
import { Patience } from '../../src/proxy/patience.js';
import { Turns } from '../../src/proxy/turns.js';
import { Admission } from '../../src/throttle/admission.js';
import { Lenders } from '../../src/throttle/lenders.js';
import { WorkQueue } from '../../src/throttle/work-queue.js';
import { breakMethod } from '../support/break-method.js';
import { codeOf } from '../support/code-of.js';
import type { KubeletPod } from '../support/cri-client.js';
import { Rig } from '../support/rig.js';

/** What may be broken, and what of it is no part of a call: it is asked by timers, for gauges and at the end. */
const classes: readonly (readonly [{ readonly name: string; readonly prototype: object }, ...string[]])[] = [
  [CreationStore, 'close', 'removeHeld', 'sizes'],
  [CreationIndex, 'all', 'sizes'],
  [CreationLives, 'close', 'removeHeld'],
  [Creation],
  [DetachedCall, 'shutDown', 'giveUp', 'waiters'],
  [DetachedCalls, 'close'],
  [Preparation, 'paused'],
  [FailureBackoff],
  [NameReservations, 'wedged'],
  [HiddenContainers],
  [SecondCopyGuard],
  [WatchedStart],
  [StartStore, 'close', 'sizes'],
  [CreationCalls],
  [CriRuntime],
  [Hiding],
  [Events, 'subscriptions'],
  [LifeLog],
  [Patience],
  [Turns],
  // What turns go by is asked in turns, which belong to no call: a bug there ends the process, and a new one begins.
  [Admission, 'close', 'limit', 'inFlight', 'hung', 'queuedByClass'],
  [WorkQueue, 'take', 'mayTake', 'leftPlace', 'sizes'],
  [Lenders, 'add', 'delete', 'count', 'moved'],
];

const deadlineExceeded = 4;

/** Nothing waits for that long but what hangs. */
const deadlineMs = 10_000;

/** The answer a call got. */
interface Answer {
  readonly method: string;
  readonly code: number | undefined;
}

/** What a kubelet does for a pod of one container: what fails is asked again, and what is there is not asked for. */
class Kubelet {
  readonly #rig: Rig;
  readonly #pod: KubeletPod;
  readonly answers: Answer[] = [];

  constructor(rig: Rig, pod: KubeletPod) {
    this.#rig = rig;
    this.#pod = pod;
  }

  get sandboxes() {
    return this.#rig.runtime.sandboxes.filter(({ config }) => config.metadata?.uid === this.#pod.uid);
  }

  get containers() {
    const ids = this.sandboxes.map(({ id }) => id);
    return this.#rig.runtime.containers.filter(({ sandboxId }) => ids.includes(sandboxId));
  }

  /** @returns Whether it came up within a few tries. */
  async bringUp(): Promise<boolean> {
    const { client, runtime } = this.#rig;
    await this.#until(
      () => this.sandboxes.length > 0,
      () => client.call('RunPodSandbox', this.#pod.runPodSandboxRequest(), { deadlineMs }),
      'RunPodSandbox',
    );
    const [sandbox] = this.sandboxes;
    if (sandbox === undefined) return false;
    // Whoever asks first leaves: the container is held, hidden, and given to the next.
    const hold = runtime.hold('createContainer');
    const leave = new AbortController();
    const request = () => this.#pod.createContainerRequest(sandbox.id, { image: 'app' });
    const left = codeOf(client.call('CreateContainer', request(), { signal: leave.signal, deadlineMs }));
    await Promise.race([hold.arrived(), left]);
    leave.abort();
    this.answers.push({ method: 'CreateContainer', code: await left });
    await this.#list();
    hold.release();
    await this.#until(
      () => false,
      () => client.call('CreateContainer', request(), { deadlineMs }),
      'CreateContainer',
      () => this.containers.length > 0,
    );
    const [container] = this.containers;
    if (container === undefined) return false;
    await this.#list();
    await this.#until(
      () => container.state === 'CONTAINER_RUNNING',
      () => client.call('StartContainer', { container_id: container.id }, { deadlineMs }),
      'StartContainer',
    );
    return container.state === 'CONTAINER_RUNNING' && (await this.#list()).includes(container.id);
  }

  async #list(): Promise<readonly string[]> {
    const { containers } = await this.#rig.client.call('ListContainers');
    return containers.map(({ id }) => id);
  }

  /** @param enough Asked where the last try failed too: what is there may do. */
  async #until(isThere: () => boolean, call: () => Promise<unknown>, method: string, enough?: () => boolean) {
    for (let tries = 0; tries < 4 && !isThere(); tries++) {
      const code = await codeOf(call());
      this.answers.push({ method, code });
      if (code === 0) return true;
    }
    return isThere() || enough?.() === true;
  }
}

for (const [{ name, prototype }, ...apart] of classes) {
  const methods = Object.getOwnPropertyNames(prototype).filter(
    (each) => each !== 'constructor' && !apart.includes(each),
  );
  t.test(`a bug in ${name}`, async (t) => {
    const rig = await Rig.start(t);
    for (const method of methods) {
      for (const nth of [1, 2, 3]) {
        const where = `${name}.${method}, call ${nth}`;
        const kubelet = new Kubelet(rig, rig.pod({ uid: where }));
        const broken = breakMethod(prototype, method, nth);
        const isUp = await kubelet.bringUp();
        broken.mend();
        t.ok(isUp, `${where}: the pod runs`);
        t.strictSame([kubelet.sandboxes.length, kubelet.containers.length], [1, 1], `${where}: made once`);
        t.equal(rig.runtime.runs(where, 'app'), 1, `${where}: started once`);
        t.notOk(
          kubelet.answers.some(({ code }) => code === deadlineExceeded),
          `${where}: nothing hangs`,
        );
        if (broken.times === 0) break;
      }
    }
    // Those that come after are none the worse.
    const after = new Kubelet(rig, rig.pod({ uid: 'after' }));
    t.ok(await after.bringUp());
    t.strictSame(
      after.answers.map(({ code }) => code),
      [0, 1, 0, 0],
    );
  });
}
