/**
 * Random lives of creations: requests, leaves, failures, uses, ends, givings up, attempts up and down, evictions and time, over a runtime that reserves
 * names as real ones do. `HOLDFAST_PROPERTY_RUNS=100000` plays more of them.
 */
import fc from 'fast-check';
import t from 'tap';
import type { CreationRequest } from '../../src/cache/creation.js';
import type { Grant } from '../../src/cache/creation-handover.js';
import {
  type Condition,
  type CreationRuntime,
  type Made,
  type NameHolder,
  NameReservedError,
  type Subject,
} from '../../src/cache/creation-runtime.js';
import { CreationStore } from '../../src/cache/creation-store.js';
import type { Fingerprint } from '../../src/cache/fingerprint.js';
import { ContainerState } from '../../src/cri/enums.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { plainAdmission } from '../support/plain-admission.js';
import { container, item, podSandbox, TestGuard } from './store-rig.js';

const runs = Number(process.env.HOLDFAST_PROPERTY_RUNS ?? 2_000);
// Each takes 1 to 2 ms.
t.setTimeout(30_000 + 20 * runs);

/** What there is of a name at the runtime. */
interface Thing {
  readonly id: string;
  readonly key: string;
  readonly kind: 'podSandbox' | 'container';
  readonly podSandboxId: string;
  readonly name: string;
  readonly attempt: number;
  used: boolean;
  podSandboxEnded: boolean;
  delivered: boolean;
}

interface Call {
  readonly key: string;
  readonly make: () => void;
  readonly fail: () => void;
}

/** Reserves the name of what it makes from the call on, and says so to whoever wants it meanwhile. */
class Runtime implements CreationRuntime<string, string> {
  readonly calls: Call[] = [];
  readonly things = new Map<string, Thing>();
  readonly wrong: string[] = [];
  readonly #inFlight = new Set<string>();
  /** How many of the next looks, and removals, fail. */
  failingLooks = 0;
  failingRemovals = 0;
  #made = 0;

  create(_: Buffer, fingerprint: Fingerprint, __: string, signal: AbortSignal): Promise<Made<string>> {
    const { key, identity } = fingerprint;
    if (this.#inFlight.has(key)) this.wrong.push(`two upstream calls at once for ${key}`);
    this.#inFlight.add(key);
    return new Promise((resolve, reject) => {
      const over = () => {
        this.calls.splice(this.calls.indexOf(call), 1);
        this.#inFlight.delete(key);
      };
      const call = {
        key,
        make: () => {
          over();
          const holder = this.things.get(key);
          if (holder !== undefined) {
            reject(new NameReservedError(new Error('reserved'), holder.id));
            return;
          }
          const podSandboxId = fingerprint.kind === 'container' ? fingerprint.podSandboxId : '';
          const name = identity.kind === 'container' ? identity.container : identity.name;
          const { kind, attempt } = identity;
          const id = `${kind}-${++this.#made}`;
          const state = { used: false, podSandboxEnded: false, delivered: false };
          this.things.set(key, { id, key, kind, podSandboxId, name, attempt, ...state });
          resolve({ id, answer: id });
        },
        fail: () => {
          over();
          reject(new Error('failed'));
        },
      };
      signal.addEventListener('abort', over, { once: true });
      this.calls.push(call);
    });
  }

  async conditionOf({ id }: Subject<string>): Promise<Condition> {
    if (this.failingLooks > 0) {
      this.failingLooks -= 1;
      throw new Error('cannot tell');
    }
    return this.#conditionOf(this.thing(id));
  }

  async isInhabited(): Promise<boolean> {
    return false;
  }

  async holderOf({ key }: Fingerprint): Promise<NameHolder> {
    const thing = this.things.get(key);
    const condition = this.#conditionOf(thing);
    if (thing === undefined || condition === 'absent') return { condition: 'unseen', id: undefined };
    // Whoever asks for its name anew does not have it.
    thing.delivered = false;
    return { condition: condition === 'as made' ? 'fits' : condition, id: thing.id };
  }

  answerFor(id: string): Made<string> {
    return { id, answer: id };
  }

  async remove({ id }: Subject<string>): Promise<void> {
    if (this.failingRemovals > 0) {
      this.failingRemovals -= 1;
      throw new Error('busy');
    }
    const thing = this.thing(id);
    if (thing?.used) this.wrong.push(`${id} was used, and removed`);
    if (thing?.delivered) this.wrong.push(`${id} was delivered, and removed`);
    if (thing !== undefined) this.things.delete(thing.key);
  }

  async updateResources(): Promise<void> {}

  thing(id: string): Thing | undefined {
    return [...this.things.values()].find((thing) => thing.id === id);
  }

  #conditionOf(thing: Thing | undefined): Condition {
    if (thing === undefined) return 'absent';
    if (thing.used) return 'in use';
    return thing.podSandboxEnded ? 'unusable' : 'as made';
  }
}

interface Waiter {
  readonly leave: () => void;
  readonly asked: CreationRequest<string>;
  grant: Grant<string, string> | undefined;
  over: boolean;
}

class World {
  /** Whether it does not always wait for what an action sets off. Then nothing is used past Holdfast: no look could be in time. */
  readonly hurries: boolean;
  /** What could not be removed or looked at for long, and is for the kubelet to see. */
  readonly #leftAlone = new Set<string>();
  readonly clock = new ManualClock();
  readonly runtime = new Runtime();
  readonly guard = new TestGuard();
  readonly waiters: Waiter[] = [];
  readonly store = new CreationStore<string, string>(
    this.runtime,
    this.guard,
    plainAdmission(2, this.clock, { hung: { deadlineShare: 1, most: 2, giveUp: { times: 2, leastMs: 3_000 } } }),
    this.clock,
    {
      step: (_, { made }, { why }) => {
        if (made !== undefined && (why === 'removal given up' || why === 'cannot be told'))
          this.#leftAlone.add(made.id);
      },
      revealed: () => {},
      vanished: () => {},
      faulted(_, error) {
        throw error;
      },
    },
    {
      creationTimeoutMs: 60_000,
      holdTtlMs: 10_000,
      replayTtlMs: 30_000,
      wedgeAfterMs: 20_000,
      maxEntries: 3,
      onDrift: 'keep',
      onAttemptBump: 'join',
    },
  );

  constructor(hurries: boolean) {
    this.hurries = hurries;
  }

  ask(asked: CreationRequest<string>): void {
    const abort = new AbortController();
    const waiter: Waiter = { leave: () => abort.abort(), asked, grant: undefined, over: false };
    this.waiters.push(waiter);
    this.store.request(asked, abort.signal).then(
      (grant) => {
        waiter.grant = grant;
      },
      () => {
        waiter.over = true;
      },
    );
  }

  /** The waiter's answer has arrived, or has not. */
  settle(waiter: Waiter, delivered: boolean): void {
    if (waiter.grant === undefined || waiter.over) return;
    waiter.over = true;
    const thing = this.runtime.thing(waiter.grant.made.id);
    // By the time it arrives it may be known no more, or be another one's.
    const isKnown = thing !== undefined && this.store.named(thing.kind, thing.id) === waiter.grant.creation;
    if (delivered && isKnown) thing.delivered = true;
    waiter.grant.settle(delivered);
  }

  use(thing: Thing, throughHoldfast: boolean): void {
    thing.used = true;
    if (throughHoldfast || this.hurries) this.store.used(thing.kind, thing.id);
  }

  end(thing: Thing): void {
    this.runtime.things.delete(thing.key);
    this.store.ended(thing.kind, thing.id);
  }

  endPodSandbox(podSandboxId: string): void {
    for (const thing of this.runtime.things.values()) {
      if (thing.podSandboxId === podSandboxId) thing.podSandboxEnded = true;
    }
    this.store.ended('podSandbox', podSandboxId);
  }

  /** What a list shows that nobody has been given and nobody waits for. */
  shownTooEarly(): string[] {
    const known = new Set(this.waiters.filter(({ over }) => !over).map(({ asked }) => asked.fingerprint.family));
    const given = new Set(this.waiters.map(({ grant }) => grant?.made.id));
    return [...this.runtime.things.values()]
      .filter(({ kind, used, id }) => kind === 'container' && !used && !given.has(id) && !this.#leftAlone.has(id))
      .filter(({ key }) => ![...known].some((family) => key.startsWith(`${family}#`)))
      .filter((thing) => this.store.hiddenOwner(this.#item(thing)) === undefined)
      .map(({ id }) => id);
  }

  look(): void {
    for (const thing of this.runtime.things.values()) this.store.hiddenOwner(this.#item(thing));
  }

  #item({ id, name, attempt, podSandboxId, used }: Thing) {
    const state = used ? ContainerState.running : ContainerState.created;
    return item(id, { name, attempt, podSandboxId, state });
  }
}

type Action = (world: World) => void | Promise<void>;

const nth = fc.nat(20);
const pick = <T>(from: readonly T[], n: number): T | undefined => from[n % Math.max(1, from.length)];
const attempt = fc.nat(2);
const hash = fc.constantFrom('1', '1', '1', '2');
const image = fc.constantFrom('i', 'i', 'j');
const podSandboxId = fc.constantFrom('s', 's', 't');

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 3,
    arbitrary: attempt.map(
      (n): Action =>
        (world) =>
          world.ask(podSandbox(n)),
    ),
  },
  {
    weight: 6,
    arbitrary: fc.record({ attempt, hash, image, podSandboxId, name: fc.constantFrom('c', 'd') }).map(
      (fields): Action =>
        (world) =>
          world.ask(container(fields)),
    ),
  },
  {
    weight: 4,
    arbitrary: nth.map(
      (n): Action =>
        ({ waiters }) =>
          pick(waiters, n)?.leave(),
    ),
  },
  {
    weight: 6,
    arbitrary: nth.map(
      (n): Action =>
        ({ runtime }) =>
          pick(runtime.calls, n)?.make(),
    ),
  },
  {
    weight: 2,
    arbitrary: nth.map(
      (n): Action =>
        ({ runtime }) =>
          pick(runtime.calls, n)?.fail(),
    ),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(nth, fc.boolean()).map(
      ([n, delivered]): Action =>
        (world) => {
          const waiter = pick(world.waiters, n);
          if (waiter !== undefined) world.settle(waiter, delivered);
        },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(nth, fc.boolean()).map(
      ([n, through]): Action =>
        (world) => {
          const thing = pick([...world.runtime.things.values()], n);
          if (thing !== undefined) world.use(thing, through);
        },
    ),
  },
  {
    weight: 1,
    arbitrary: nth.map(
      (n): Action =>
        (world) => {
          const thing = pick([...world.runtime.things.values()], n);
          if (thing !== undefined) world.end(thing);
        },
    ),
  },
  {
    weight: 1,
    arbitrary: podSandboxId.map(
      (id): Action =>
        (world) =>
          world.endPodSandbox(id),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.nat(5).map(
      (n): Action =>
        ({ runtime }) => {
          runtime.failingLooks = n;
        },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.nat(7).map(
      (n): Action =>
        ({ runtime }) => {
          runtime.failingRemovals = n;
        },
    ),
  },
  { weight: 1, arbitrary: fc.constant<Action>((world) => world.look()) },
  {
    weight: 3,
    arbitrary: fc.constantFrom(1, 500, 2_000, 10_001, 30_001).map(
      (ms): Action =>
        ({ clock }) =>
          clock.advance(ms),
    ),
  },
);

async function live(hurries: boolean, actions: readonly Action[]): Promise<void> {
  const world = new World(hurries);
  const { runtime, store, clock, waiters } = world;
  const isRight = (): void => {
    if (runtime.wrong.length > 0) throw new Error(runtime.wrong.join('; '));
  };
  for (const [n, act] of actions.entries()) {
    await act(world);
    // Some come in the middle of what the one before has set off.
    if (hurries && n % 2 === 0) continue;
    await settle();
    isRight();
    if (runtime.failingRemovals === 0 && runtime.failingLooks === 0) {
      const early = world.shownTooEarly();
      if (early.length > 0) throw new Error(`nobody has ${early.join()}, and it is shown`);
    }
  }
  // Everybody leaves or is answered, the runtime is well again, and time goes by.
  runtime.failingLooks = 0;
  runtime.failingRemovals = 0;
  for (const waiter of waiters) waiter.leave();
  for (let round = 0; round < 40; round += 1) {
    for (const waiter of waiters) world.settle(waiter, false);
    for (const call of [...runtime.calls]) call.make();
    await clock.advance(3_000);
    isRight();
  }
  const hanging = waiters.filter(({ over }) => !over).length;
  if (hanging > 0) throw new Error(`${hanging} waiters hang`);
  if (store.hiding || store.mayHide) throw new Error('something is hidden for ever');
  if (clock.pending > 0) throw new Error(`${clock.pending} timers are left`);
  const { live, backingOff, wedged } = store.census.sizes;
  if (live + backingOff + wedged > 0) throw new Error(`left: ${JSON.stringify(store.census.sizes)}`);
  const left = [...runtime.things.values()].filter(
    ({ kind, used, delivered }) => kind === 'container' && !used && !delivered,
  );
  for (const { id } of left) if (store.named('container', id) !== undefined) throw new Error(`${id} is held for ever`);
}

t.test(`${runs} random lives: each name is made once at a time, nobody hangs, nothing is left`, async (t) => {
  await fc.assert(fc.asyncProperty(fc.boolean(), fc.array(action, { maxLength: 40, size: 'max' }), live), {
    numRuns: runs,
  });
  t.pass();
});
