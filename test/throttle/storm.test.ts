/** Storms of pods on a node that gets slower the more it does at once, in virtual time: the same on every machine. */
import { setMaxListeners } from 'node:events';
import t from 'tap';
import { Contention, type ContentionOptions } from '../../src/harness/runtime/contention.js';
import { AdaptiveLimit, type LimitMove } from '../../src/throttle/adaptive-limit.js';
import { Admission } from '../../src/throttle/admission.js';
import { type ConcurrencyLimit, fixedLimit } from '../../src/throttle/concurrency-limit.js';
import { Pressure } from '../../src/throttle/pressure.js';
import { ManualClock } from '../support/manual-clock.js';

interface Storm extends ContentionOptions {
  /** What a pod sandbox, a container and a start take alone, in ms. */
  readonly base: readonly [podSandbox: number, container: number, start: number];
}

const deadlineMs = { podSandbox: 8_000, container: 4_000, start: 4_000 };
const never = new AbortController().signal;
setMaxListeners(0, never);

class Node {
  readonly clock = new ManualClock();
  readonly contention: Contention;
  readonly moves: LimitMove[] = [];
  /** When each piece of work ended, in ms since the start. */
  readonly ends: number[] = [];
  readonly #startMs = this.clock.now();
  readonly #base: Storm['base'];
  readonly #random = newRandom();
  #admission: Admission | undefined;

  constructor({ base, ...contention }: Storm) {
    this.#base = base;
    this.contention = new Contention(this.clock, contention);
  }

  /** As by default, but that only cpu is short. */
  adaptive(): AdaptiveLimit {
    const { contention } = this;
    const read = () => ({ avg10: contention.avg10, stalledMs: contention.totalStalledMs });
    return new AdaptiveLimit(this.clock, {
      start: 16,
      least: 2,
      most: 64,
      decreaseFactor: 0.6,
      deadlineShare: 0.5,
      pressure: new Pressure({ read, thresholds: { cpu: 90, io: 100, memory: 100 }, unavailable: () => {} }),
      moved: (move) => this.moves.push(move),
    });
  }

  /** So many pods are asked for at once. */
  begin(pods: number, limit: ConcurrencyLimit): void {
    const admission = new Admission(limit, this.clock, {
      handlerLimits: new Map(),
      pace: undefined,
      ownPlaces: 4,
      hung: { deadlineShare: 0.5, most: 64, giveUp: undefined },
    });
    this.#admission = admission;
    for (let n = 0; n < pods; n += 1) void this.#pod(admission);
  }

  get inFlight(): number {
    return this.#admission?.inFlight ?? 0;
  }

  /** @returns When the last of `count` pieces of work had ended, in ms. */
  async until(count: number): Promise<number> {
    for (let turns = 0; this.ends.length < count && turns < 100_000; turns += 1) await this.clock.advance(100);
    return this.ends[count - 1] ?? Number.POSITIVE_INFINITY;
  }

  async #pod(admission: Admission): Promise<void> {
    for (const [at, kind] of (['podSandbox', 'container', 'start'] as const).entries()) {
      const run = async () => {
        await this.contention.carryOut((this.#base[at] ?? 0) * (0.8 + 0.4 * this.#random()), never);
        this.ends.push(this.clock.now() - this.#startMs);
        return true;
      };
      await admission.admit({ kind, deadlineMs: deadlineMs[kind], run });
    }
  }
}

/** Numbers from 0 up to 1, always the same. Source: the constants of Numerical Recipes' quick generator. */
function newRandom(): () => number {
  let state = 1;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

const pods = 200;

async function allRunningMs(storm: Storm, limitOf: (node: Node) => ConcurrencyLimit): Promise<number> {
  const node = new Node(storm);
  node.begin(pods, limitOf(node));
  return node.until(3 * pods);
}

async function bestFixedMs(storm: Storm): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (const limit of [2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32]) {
    best = Math.min(best, await allRunningMs(storm, () => fixedLimit(limit)));
  }
  return best;
}

const usual: Storm = { coefficient: 0.05, cores: 4, base: [1_000, 1_000, 1_000] };

t.test(
  '200 pods at once run within 1.10 times what the best fixed limit takes, and half of what no limit does',
  async (t) => {
    const adaptive = await allRunningMs(usual, (node) => node.adaptive());
    const ratios = {
      fixed: adaptive / (await bestFixedMs(usual)),
      off: adaptive / (await allRunningMs(usual, () => fixedLimit(Number.POSITIVE_INFINITY))),
    };
    t.ok(ratios.fixed <= 1.1, `${ratios.fixed.toFixed(3)} of the best fixed limit`);
    t.ok(ratios.off <= 0.5, `${ratios.off.toFixed(3)} of no limit`);
  },
);

const others: Readonly<Record<string, Storm>> = {
  'few cores': { ...usual, coefficient: 0.1, cores: 2 },
  'many cores': { ...usual, cores: 16 },
  'hardly any contention': { ...usual, coefficient: 0.02, cores: 2 },
  'work that is quick': { ...usual, base: [500, 300, 300] },
  'heavy pod sandboxes': { ...usual, base: [2_000, 500, 1_000] },
};

for (const [name, storm] of Object.entries(others)) {
  t.test(`on a node with ${name} it stays within 1.25 times the best fixed limit`, async (t) => {
    const ratio = (await allRunningMs(storm, (node) => node.adaptive())) / (await bestFixedMs(storm));
    t.ok(ratio <= 1.25, `${ratio.toFixed(3)}`);
  });
}

/** How much of the most that the node can do with its capacity it does at a limit, from 0 to 1. */
function yieldOf(limit: number, capacity: number, { coefficient, cores }: ContentionOptions): number {
  const perSecond = (n: number) => n / (1 + coefficient * Math.max(0, n / capacity - cores) ** 1.5);
  return perSecond(limit) / Math.max(...Array.from({ length: 64 }, (_, n) => perSecond(n + 1)));
}

t.test('a capacity that falls to a quarter is followed within 10 completions, and back within 30', async (t) => {
  // Wherever the limit is between two moves down.
  for (const before of [200, 213, 226, 239, 252]) {
    const node = new Node(usual);
    const limit = node.adaptive();
    const isFollowed = (capacity: number, when: string) =>
      t.ok(yieldOf(limit.value, capacity, usual) >= 0.9, `${when} a limit of ${limit.value}`);
    node.begin(2_000, limit);
    await node.until(before);
    isFollowed(1, `after ${before} completions`);
    node.contention.capacity = 0.25;
    const fell = node.ends.length;
    await node.until(fell + 10);
    isFollowed(0.25, '10 later');
    await node.until(fell + 60);
    node.contention.capacity = 1;
    const rose = node.ends.length;
    await node.until(rose + 30);
    isFollowed(1, '30 after that has passed');
  }
});
