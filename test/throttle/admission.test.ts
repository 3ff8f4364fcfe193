import fc from 'fast-check';
import t from 'tap';
import { Admission, type AdmissionOptions } from '../../src/throttle/admission.js';
import type { ConcurrencyLimit } from '../../src/throttle/concurrency-limit.js';
import { classOf, passedOverAtMost, type Work, type WorkClass, workClasses } from '../../src/throttle/work-queue.js';
import { ManualClock, settle } from '../support/manual-clock.js';

/** A limit that the test moves. */
class MovableLimit implements ConcurrencyLimit {
  onMove = () => {};
  value: number;
  /** What it was told of work that ended. */
  readonly told: boolean[] = [];
  isClosed = false;
  constructor(value: number) {
    this.value = value;
  }
  moveTo(value: number): void {
    this.value = value;
    this.onMove();
  }
  /** What it was told of work that hangs. */
  hung = 0;
  begin() {
    return {
      hangs: () => {
        this.hung += 1;
      },
      ended: (succeeded: boolean) => void this.told.push(succeeded),
    };
  }
  close() {
    this.isClosed = true;
  }
}

interface Asked {
  readonly n: number;
  readonly work: Work;
  ended: boolean;
  /** Ends it; undefined before it has begun. */
  end: ((succeeded: boolean | Error) => void) | undefined;
  /** How its `admit` settled. */
  outcome: Promise<unknown>;
}

type Kind = Omit<Work, 'run'>;

const kinds: Readonly<Record<WorkClass, Kind>> = {
  static: { kind: 'podSandbox', importance: 'static' },
  critical: { kind: 'container', importance: 'critical' },
  start: { kind: 'start' },
  container: { kind: 'container' },
  podSandbox: { kind: 'podSandbox' },
};

/** An admission whose work ends when the test says so. */
function stage(limit: number, options: Partial<AdmissionOptions> = {}) {
  const clock = new ManualClock();
  const concurrency = new MovableLimit(limit);
  const begun: number[] = [];
  const waits: number[] = [];
  const admission = new Admission(concurrency, clock, {
    handlerLimits: new Map(),
    pace: undefined,
    ownPlaces: 0,
    hung: { deadlineShare: 1, most: 0, giveUp: undefined },
    admitted: (_, waitedMs) => waits.push(waitedMs),
    ...options,
  });
  const all: Asked[] = [];
  const ask = (what: Kind = kinds.podSandbox): Asked => {
    const work: Work = {
      ...what,
      run() {
        begun.push(asked.n);
        return new Promise((resolve, reject) => {
          asked.end = (succeeded) => {
            asked.ended = true;
            if (typeof succeeded === 'boolean') resolve(succeeded);
            else reject(succeeded);
          };
        });
      },
    };
    const asked: Asked = { n: all.length, work, ended: false, end: undefined, outcome: Promise.resolve() };
    asked.outcome = admission.admit(work).catch((error: unknown) => error);
    all.push(asked);
    return asked;
  };
  const running = () => all.filter(({ end, ended }) => end !== undefined && !ended);
  const end = async (asked: Asked | undefined, succeeded: boolean | Error = true) => {
    asked?.end?.(succeeded);
    await settle();
  };
  return { clock, concurrency, admission, begun, waits, all, ask, running, end };
}

type Stage = ReturnType<typeof stage>;

/** Lets everything that was asked for run to its end, one at a time. */
async function drain({ all, running, end, clock }: Stage): Promise<void> {
  for (let turns = 0; all.some(({ ended }) => !ended) && turns < 10 * all.length + 10; turns += 1) {
    if (running().length === 0) await clock.advance(1_000);
    await end(running()[0]);
  }
}

/** What may happen, in an order of fast-check's choice. */
type Move =
  | { readonly do: 'ask'; readonly of: WorkClass; readonly handler: string | undefined }
  | { readonly do: 'end'; readonly pick: number; readonly as: boolean | Error }
  | { readonly do: 'limit'; readonly to: number }
  | { readonly do: 'withdraw'; readonly pick: number }
  | { readonly do: 'wait'; readonly ms: number };

const aMove: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      of: fc.constantFrom(...workClasses),
      handler: fc.constantFrom(undefined, 'kata', 'runc'),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      pick: fc.nat(),
      as: fc.constantFrom(true, true, false, new Error('failed')),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('limit' as const), to: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('withdraw' as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 2_000 }) }) },
);

const moves = fc.array(aMove, { maxLength: 80 });

const kataLimit = 2;

/**
 * Plays the moves.
 *
 * @param check Called after each; `begunNow` is what began by it.
 * @returns The stage, and what was withdrawn in time.
 */
async function play(
  played: readonly Move[],
  options: Partial<AdmissionOptions>,
  check: (stage: Stage, begunNow: readonly number[]) => void,
) {
  const on = stage(3, options);
  const withdrawn = new Set<number>();
  for (const move of played) {
    const before = on.begun.length;
    if (move.do === 'ask') on.ask({ ...kinds[move.of], handler: move.handler });
    else if (move.do === 'limit') on.concurrency.moveTo(move.to);
    else if (move.do === 'wait') await on.clock.advance(move.ms);
    else if (move.do === 'end') await on.end(on.running()[move.pick % Math.max(1, on.running().length)], move.as);
    else {
      const queued = on.all.filter(({ n }) => !on.begun.includes(n) && !withdrawn.has(n));
      const chosen = queued[move.pick % Math.max(1, queued.length)];
      if (chosen !== undefined) {
        withdrawn.add(chosen.n);
        on.admission.withdraw(chosen.work);
      }
    }
    await settle();
    check(on, on.begun.slice(before));
  }
  return { on, withdrawn };
}

const paced = { handlerLimits: new Map([['kata', kataLimit]]), pace: { perSecond: 2, burst: 3 } };

t.test(
  'for any order of arrivals, ends, failures and moves of the limit, no work begins beyond the limit',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(moves, fc.boolean(), async (played, isPaced) => {
        await play(played, isPaced ? paced : {}, (on, begunNow) => {
          const { length } = on.running();
          if (begunNow.length > 0 && length > on.concurrency.value) throw new Error(`${length} run`);
          if (length !== on.admission.inFlight) throw new Error(`${on.admission.inFlight} said to run, ${length} do`);
        });
      }),
    );
    t.pass('held for every run');
  },
);

t.test('for any order, no work is lost, none runs twice, and each is told how it ended', async (t) => {
  await fc.assert(
    fc.asyncProperty(moves, fc.boolean(), async (played, isPaced) => {
      const { on, withdrawn } = await play(played, isPaced ? paced : {}, () => {});
      for (const n of withdrawn) {
        const asked = on.all[n];
        if (asked !== undefined) asked.ended = true;
      }
      await drain(on);
      const expected = on.all.map(({ n }) => n).filter((n) => !withdrawn.has(n));
      if (JSON.stringify(on.begun.toSorted((a, b) => a - b)) !== JSON.stringify(expected)) return false;
      const outcomes = await Promise.all(expected.map((n) => on.all[n]?.outcome));
      return (
        outcomes.every((outcome) => typeof outcome === 'boolean' || outcome instanceof Error) &&
        on.admission.queued === 0 &&
        on.admission.inFlight === 0
      );
    }),
  );
  t.pass('held for every run');
});

t.test('for any order, work of one class and handler begins in the order it came', async (t) => {
  await fc.assert(
    fc.asyncProperty(moves, fc.boolean(), async (played, isPaced) => {
      const { on } = await play(played, isPaced ? paced : {}, () => {});
      const lanes = new Map<string, number>();
      for (const n of on.begun) {
        const work = on.all[n]?.work;
        if (work === undefined) return false;
        const lane = `${classOf(work)} ${work.handler}`;
        if ((lanes.get(lane) ?? -1) > n) return false;
        lanes.set(lane, n);
      }
      return true;
    }),
  );
  t.pass('held for every run');
});

t.test('for any order, a runtime handler never has more at once than its limit', async (t) => {
  await fc.assert(
    fc.asyncProperty(moves, async (played) => {
      await play(played, paced, (on) => {
        const { length } = on.running().filter(({ work }) => work.handler === 'kata');
        if (length > kataLimit) throw new Error(`${length} of kata run`);
      });
    }),
  );
  t.pass('held for every run');
});

t.test(
  'for any mix of classes that keeps coming, every class gets its turn within a bounded number of others',
  async (t) => {
    const classes = fc.array(fc.constantFrom(...workClasses), { minLength: 100, maxLength: 150 });
    await fc.assert(
      fc.asyncProperty(classes, fc.integer({ min: 1, max: 4 }), async (coming, limit) => {
        const on = stage(limit);
        for (const name of workClasses) on.ask(kinds[name]);
        /** Since the class was served, how many of more important ones were. */
        const passedOver = new Map<WorkClass, number>(workClasses.map((name) => [name, 0]));
        let seen = 0;
        for (const name of coming) {
          // There is always something of each class, and more of the one that fast-check chose.
          for (const each of workClasses) if (on.admission.queuedByClass[each] === 0) on.ask(kinds[each]);
          on.ask(kinds[name]);
          await on.end(on.running()[0]);
          for (const n of on.begun.slice(seen)) {
            const served = classOf(on.all[n]?.work ?? { ...kinds.static, run: async () => true });
            for (const lower of workClasses.slice(workClasses.indexOf(served) + 1)) {
              passedOver.set(lower, (passedOver.get(lower) ?? 0) + 1);
            }
            passedOver.set(served, 0);
          }
          seen = on.begun.length;
          if (Math.max(...passedOver.values()) > passedOverAtMost + 2 * workClasses.length) return false;
        }
        return true;
      }),
      { numRuns: 20 },
    );
    t.pass('held for every run');
  },
);

t.test('the most important of what waits goes first, whatever came first', async (t) => {
  const { ask, begun, end, running, all } = stage(1);
  ask();
  await settle();
  for (const name of [...workClasses].reverse()) ask(kinds[name]);
  while (begun.length < all.length) await end(running()[0]);
  t.same(begun, [0, 5, 4, 3, 2, 1]);
});

t.test(
  'a critical pod behind 100 queued ones begins within two completions, also when other classes are overdue',
  async (t) => {
    for (const history of [0, 10, 17, 40]) {
      const on = stage(4);
      for (let n = 0; n < 100; n += 1)
        for (const name of ['start', 'container', 'podSandbox'] as const) on.ask(kinds[name]);
      await settle();
      for (let n = 0; n < history; n += 1) await on.end(on.running()[0]);
      const critical = on.ask(kinds.critical);
      await on.end(on.running()[0]);
      await on.end(on.running()[0]);
      t.ok(on.begun.includes(critical.n), `after ${history} completions`);
    }
  },
);

t.test('a critical pod begins within two completions where every other class is overdue', async (t) => {
  const on = stage(1);
  on.ask(kinds.critical);
  await settle();
  for (let n = 0; n < passedOverAtMost; n += 1) on.ask(kinds.critical);
  for (const name of ['start', 'container', 'podSandbox'] as const) on.ask(kinds[name]);
  for (let n = 0; n < passedOverAtMost; n += 1) await on.end(on.running()[0]);
  const late = on.ask(kinds.critical);
  await on.end(on.running()[0]);
  t.not(on.begun.at(-1), late.n, 'one that is overdue goes first');
  await on.end(on.running()[0]);
  t.equal(on.begun.at(-1), late.n);
});

t.test('a turn that was given before the limit went down is not taken', async (t) => {
  const { concurrency, ask, begun, end, running } = stage(2);
  ask();
  await settle();
  ask();
  concurrency.moveTo(1);
  await settle();
  t.same(begun, [0]);
  await end(running()[0]);
  t.same(begun, [0, 1]);
});

t.test('work that fails gives up its place and tells its caller', async (t) => {
  const { ask, end, begun } = stage(1);
  const failing = ask();
  ask();
  await settle();
  await end(failing, new Error('no'));
  t.match(await failing.outcome, { message: 'no' });
  t.same(begun, [0, 1]);
});

t.test('work that hangs keeps nobody back for longer than seconds, and its result still comes', async (t) => {
  const { clock, begun, ask, admission } = stage(1, { hung: { deadlineShare: 1, most: 1, giveUp: undefined } });
  const hanging = ask();
  ask();
  await clock.advance(3_999);
  t.same(begun, [0]);
  await clock.advance(1);
  t.same(begun, [0, 1]);
  t.equal(admission.inFlight, 1);
  hanging.end?.(true);
  t.equal(await hanging.outcome, true);
  await settle();
  t.equal(admission.inFlight, 1);
});

t.test('work that ends leaves no timer behind', async (t) => {
  const { clock, ask, end } = stage(1);
  const asked = ask();
  await settle();
  await end(asked);
  t.equal(clock.pending, 0);
});

t.test('work that is withdrawn does not run, and what is behind it moves up', async (t) => {
  const { admission, begun, ask, end, all } = stage(1);
  ask();
  await settle();
  for (let n = 0; n < 100; n += 1) admission.withdraw(ask().work);
  ask();
  ask();
  t.equal(admission.queued, 2);
  await end(all[0]);
  t.same(begun, [0, 101]);
  admission.withdraw((all[101] as Asked).work);
  await end(all[101]);
  t.same(begun, [0, 101, 102]);
  t.equal(admission.queued, 0);
});

t.test('a limit that goes up lets more go at once, one that goes down waits for as many to end', async (t) => {
  const { concurrency, ask, begun, end, running } = stage(1);
  for (let n = 0; n < 8; n += 1) ask();
  await settle();
  concurrency.moveTo(4);
  await settle();
  t.equal(begun.length, 4);
  concurrency.moveTo(2);
  await end(running()[0]);
  await end(running()[0]);
  t.equal(begun.length, 4);
  await end(running()[0]);
  t.equal(begun.length, 5);
  concurrency.moveTo(Number.POSITIVE_INFINITY);
  await settle();
  t.equal(begun.length, 8);
});

t.test('a handler at its limit does not keep back others of the same class', async (t) => {
  const { ask, begun, end, all } = stage(10, { handlerLimits: new Map([['kata', 1]]) });
  for (const handler of ['kata', 'kata', 'runc', undefined]) ask({ kind: 'podSandbox', handler });
  await settle();
  t.same(begun, [0, 2, 3]);
  await end(all[0]);
  t.same(begun, [0, 2, 3, 1]);
});

t.test(
  'at a pace of 2 per second with a burst of 3, three go at once, then one each half second; starts go at any time',
  async (t) => {
    const { clock, ask, begun } = stage(10, { pace: { perSecond: 2, burst: 3 } });
    for (let n = 0; n < 5; n += 1) ask();
    await settle();
    t.same(begun, [0, 1, 2]);
    ask(kinds.start);
    await settle();
    t.same(begun, [0, 1, 2, 5]);
    await clock.advance(499);
    t.equal(begun.length, 4);
    await clock.advance(1);
    t.same(begun, [0, 1, 2, 5, 3]);
    await clock.advance(500);
    t.same(begun, [0, 1, 2, 5, 3, 4]);
    t.equal(clock.pending, 0, 'nothing is timed any more');
  },
);

t.test('how long work waited is told when it begins', async (t) => {
  const { clock, ask, waits, end, all } = stage(1);
  ask();
  await settle();
  ask();
  await clock.advance(250);
  await end(all[0]);
  t.same(waits, [0, 250]);
});

t.test('what is queued is told by class', async (t) => {
  const { ask, admission } = stage(1);
  ask();
  await settle();
  ask(kinds.static);
  ask();
  ask();
  t.same(admission.queuedByClass, { static: 1, critical: 0, start: 0, container: 0, podSandbox: 2 });
});

t.test('the limit is told of all work how it ended, and a failure is no success', async (t) => {
  const { concurrency, ask, end } = stage(3);
  const [done, undone, failing] = [ask(), ask(), ask()];
  await settle();
  await end(done, true);
  await end(undone, false);
  await end(failing, new Error('no'));
  t.same(concurrency.told, [true, false, false]);
});

t.test('what is paced does not go with the turn of a start that came later, however important it is', async (t) => {
  const { clock, ask, begun } = stage(10, { pace: { perSecond: 1, burst: 1 } });
  ask();
  await settle();
  ask(kinds.critical);
  ask(kinds.start);
  await settle();
  t.same(begun, [0, 2]);
  await clock.advance(1_000);
  t.same(begun, [0, 2, 1]);
});

t.test('closing it ends the timer of the pace and the limit, also where there is no such timer', async (t) => {
  const paced = stage(10, { pace: { perSecond: 1, burst: 1 } });
  paced.ask();
  paced.ask();
  await settle();
  await paced.end(paced.all[0]);
  t.equal(paced.clock.pending, 1);
  paced.admission.close();
  t.equal(paced.clock.pending, 0);
  t.equal(paced.concurrency.isClosed, true);
  const { admission, concurrency } = stage(7);
  t.equal(admission.limit, 7);
  admission.close();
  t.equal(concurrency.isClosed, true);
});

t.test('work that is withdrawn takes no place of its handler', async (t) => {
  const { admission, ask, begun, end, all } = stage(1, { handlerLimits: new Map([['kata', 1]]) });
  const kata = { kind: 'podSandbox', handler: 'kata' } as const;
  ask();
  await settle();
  admission.withdraw(ask(kata).work);
  ask(kata);
  t.equal(admission.queuedByClass.podSandbox, 1);
  await end(all[0]);
  t.same(begun, [0, 2]);
});
