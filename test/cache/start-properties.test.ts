/** Random starts of containers, with the creations of their next attempts, second by second. */
import fc from 'fast-check';
import t from 'tap';
import { WaiterLeftError } from '../../src/cache/detached-call.js';
import { SecondCopyGuard, StartedMeanwhileError } from '../../src/cache/second-copy-guard.js';
import type { StartIdentity, StartRuntime } from '../../src/cache/start-runtime.js';
import { StartStore } from '../../src/cache/start-store.js';
import { ManualClock } from '../support/manual-clock.js';
import { plainAdmission } from '../support/plain-admission.js';
import { attempt, identity, keptIn, Refusal, unending } from './start-rig.js';

/** What chance decides, in order; where it has run out all goes well and at once. */
class Tape {
  readonly #numbers: readonly number[];
  #next = 0;

  constructor(numbers: readonly number[]) {
    this.#numbers = numbers;
  }

  get hasEnded(): boolean {
    return this.#next >= this.#numbers.length;
  }

  /** @returns From 0 to below `bound`. */
  below(bound: number): number {
    return (this.#numbers[this.#next++] ?? 0) % bound;
  }

  /** Whether what happens once in `times` does. */
  oneIn(times: number): boolean {
    return this.below(times) === times - 1;
  }
}

interface SimulatedContainer {
  readonly id: string;
  readonly family: string;
  readonly attempt: number;
  state: 'created' | 'running' | 'exited';
  /** Moment of the look at which its start was decided. */
  decidedAt: number;
  /** Moment its process began; undefined: it never ran. */
  ranAt: number | undefined;
}

/** A runtime, the store and the guard, and what a creation store does with the guard, second by second. */
class World {
  readonly clock = new ManualClock();
  readonly guard = new SecondCopyGuard(this.clock);
  readonly store: StartStore<string, string>;
  readonly containers: SimulatedContainer[] = [];
  readonly wrong: string[] = [];
  /** Looks and runs so far. */
  moment = 0;
  /** Calls that have not been answered. */
  open = 0;
  /** Creations refused by the guard. */
  refused = 0;
  readonly #tape: Tape;
  /** Containers of which Holdfast has said that it does not know whether they run, and that it does not wait for them. */
  readonly #letGo = new Set<string>();
  #sleepers: (() => void)[] = [];
  /** By family: creations that nobody has been given. */
  readonly #creations = new Map<string, { waiters: number; made: Promise<SimulatedContainer> }>();

  constructor(tape: Tape) {
    this.#tape = tape;
    const runtime: StartRuntime<string, string> = {
      start: (_, id, signal) => this.#start(id, signal),
      isRefusal: (error) => error instanceof Refusal,
      identify: async (id) => {
        await this.seconds(tape.below(4));
        if (tape.oneIn(8)) throw new Error('whose it is cannot be told');
        return this.identityOf(id);
      },
      stateOf: async (id) => {
        await this.seconds(tape.below(3));
        if (tape.oneIn(3)) throw new Error('it cannot be seen');
        return { state: this.containers.find((each) => each.id === id)?.state ?? 'gone' };
      },
    };
    const options = { creationTimeoutMs: 5_000, holdTtlMs: 50_000, replayTtlMs: 900_000, maxEntries: 100 };
    const observe = (step: string, { containerId }: { containerId: string }) => {
      if (step === 'guarded') this.refused += 1;
      if (step === 'let go') this.#letGo.add(containerId);
    };
    this.store = new StartStore(runtime, this.guard, plainAdmission(2, this.clock), this.clock, observe, options);
  }

  identityOf(id: string): StartIdentity | undefined {
    const found = this.containers.find((each) => each.id === id);
    return found && identity(found.attempt, found.family, sandboxOf(found.family));
  }

  async seconds(count: number): Promise<void> {
    for (let n = 0; n < count; n++) await new Promise<void>((resolve) => this.#sleepers.push(resolve));
  }

  async pass(): Promise<void> {
    for (const container of this.containers) {
      if (container.state === 'running' && this.#tape.oneIn(6)) container.state = 'exited';
    }
    for (const wake of this.#sleepers.splice(0)) wake();
    await this.clock.advance(1_000);
  }

  stop(family: string): void {
    for (const container of this.containers) if (container.family === family) container.state = 'exited';
    this.store.ended('podSandbox', sandboxOf(family));
  }

  /** As a creation store has it: it goes on without its waiters, and the next request joins it or is given what was made. */
  async create(family: string, number: number, signal: AbortSignal): Promise<SimulatedContainer> {
    const creation = this.#creations.get(family) ?? { waiters: 0, made: this.#make(family, number) };
    this.#creations.set(family, creation);
    creation.waiters += 1;
    const left = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new WaiterLeftError()), { once: true });
    });
    try {
      const made = await Promise.race([creation.made, left]);
      this.#creations.delete(family);
      return made;
    } finally {
      creation.waiters -= 1;
    }
  }

  async #make(family: string, number: number): Promise<SimulatedContainer> {
    const asked = attempt(number, family);
    this.open += 1;
    try {
      do await this.guard.pass(asked, unending());
      while (this.guard.inTheWay(asked) !== undefined);
    } catch (error) {
      const waiters = this.#creations.get(family)?.waiters ?? 0;
      this.#creations.delete(family);
      if (error instanceof StartedMeanwhileError && waiters === 0) error.unheard();
      throw error;
    } finally {
      this.open -= 1;
    }
    const made: SimulatedContainer = {
      id: `${family}${number}`,
      family,
      attempt: number,
      state: 'created',
      decidedAt: 0,
      ranAt: undefined,
    };
    this.containers.push(made);
    return made;
  }

  async #start(id: string, signal: AbortSignal): Promise<string> {
    await this.seconds(this.#tape.below(8));
    const container = this.containers.find((each) => each.id === id);
    if (container?.state !== 'created') throw new Refusal(`it is ${container?.state}`);
    const outcome = this.#tape.below(8);
    if (outcome === 7) {
      container.state = 'exited';
      throw new Refusal('no such file');
    }
    if (outcome === 6 || signal.aborted) throw new Error('UNAVAILABLE, and not started');
    this.#run(container);
    if (outcome === 5) throw new Error('UNAVAILABLE, and started');
    return 'started';
  }

  #run(container: SimulatedContainer): void {
    this.moment += 1;
    container.state = 'running';
    container.ranAt = this.moment;
    for (const other of this.containers) {
      if (other === container || other.family !== container.family || this.#letGo.has(other.id)) continue;
      if (other.state === 'running') this.wrong.push(`${other.id} and ${container.id} run`);
      if (other.ranAt !== undefined && other.ranAt > container.decidedAt) {
        this.wrong.push(`${container.id} runs, and ${other.id} has run since its start was decided`);
      }
    }
  }
}

function sandboxOf(family: string): string {
  return `sandbox of ${family}`;
}

/** Drives one container as a kubelet's worker does: looks, pulls, creates, starts, and gives up each call at its deadline. */
async function work(world: World, tape: Tape, family: string): Promise<void> {
  while (!tape.hasEnded) {
    await world.seconds(1);
    world.moment += 1;
    const lookedAt = world.moment;
    const last = world.containers.filter((each) => each.family === family).at(-1);
    if (last?.state === 'running') continue;
    if (tape.oneIn(16)) {
      world.stop(family);
      continue;
    }
    await world.seconds(tape.below(6));
    try {
      const made = await within(world, tape, (signal) => world.create(family, (last?.attempt ?? -1) + 1, signal));
      made.decidedAt = lookedAt;
      const known = tape.oneIn(3) ? undefined : world.identityOf(made.id);
      const request = { containerId: made.id, bytes: Buffer.alloc(1), origin: made.id, known };
      const twice = tape.oneIn(6) ? [1, 2] : [1];
      const grants = await within(world, tape, (signal) =>
        Promise.all(twice.map(() => world.store.request(request, signal))),
      );
      for (const grant of grants) grant.settle(!tape.oneIn(4));
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
  }
}

/** A call with a deadline. */
async function within<T>(world: World, tape: Tape, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const deadline = new AbortController();
  void world.seconds(tape.below(6) + 1).then(() => deadline.abort());
  world.open += 1;
  try {
    return await ask(deadline.signal);
  } finally {
    world.open -= 1;
  }
}

t.test(
  '12: whatever happens, no container runs twice without a look in between, nobody waits for ever, and nothing is left',
  async (t) => {
    const families = ['a', 'b', 'c'];
    let [runs, guarded] = [0, 0];
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(5_039), { minLength: 100, maxLength: 400 }), async (numbers) => {
        const tape = new Tape(numbers);
        const world = new World(tape);
        let working = families.length;
        for (const family of families) void work(world, tape, family).then(() => (working -= 1));
        for (let seconds = 0; working > 0 && seconds < 2_000; seconds++) await world.pass();
        for (let seconds = 0; seconds < 200; seconds++) await world.pass();
        if (world.wrong.length > 0) throw new Error(world.wrong.join('\n'));
        if (working > 0 || world.open > 0 || keptIn(world.store).inFlight > 0)
          throw new Error('something waits for ever');
        await world.clock.advance(900_001);
        const left = { ...keptIn(world.store), ...world.guard.sizes, timers: world.clock.pending };
        if (Object.values(left).some((count) => count > 0)) throw new Error(`left: ${JSON.stringify(left)}`);
        runs += world.containers.filter(({ ranAt }) => ranAt !== undefined).length;
        guarded += world.refused;
      }),
      { numRuns: 300 },
    );
    t.comment(`${runs} runs, ${guarded} creations refused`);
    t.ok(runs > 0 && guarded > 0);
  },
);
