import fc from 'fast-check';
import t from 'tap';
import { Admission, type AdmissionOptions } from '../../src/throttle/admission.js';
import type { ConcurrencyLimit } from '../../src/throttle/concurrency-limit.js';
import { classOf, passedOverAtMost, type Work, type WorkClass, workClasses } from '../../src/throttle/work-queue.js';
import { ManualClock, settle } from '../support/manual-clock.js';

/** A limit that the test moves. */
class MovableLimit implements ConcurrencyLimit {
  onMove = () => {};
  isShort = false;
  lendable = 1;
  value: number;
  /** What it was told of work that ended. */
  readonly told: boolean[] = [];
  isClosed = false;
  constructor(value: number) {
    this.value = value;
    this.#values.push(value);
  }
  /** The highest it was. */
  get highest(): number {
    return Math.max(...this.#values);
  }
  readonly #values: number[] = [];
  moveTo(value: number): void {
    this.value = value;
    this.#values.push(value);
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
  isAwaited: boolean;
  /** Was told that it hangs. */
  hangs: boolean;
  /** Was told that it is given up; what is does not end by that alone, unless it was asked for as `endsGivenUp`. */
  isGivenUp: boolean;
  ended: boolean;
  /** Ends it; undefined before it has begun. */
  end: ((succeeded: boolean | Error) => void) | undefined;
  /** How its `admit` settled. */
  outcome: Promise<unknown>;
}

type Kind = Omit<Work, 'run' | 'isAwaited'>;

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
  const ask = (what: Kind & { readonly endsGivenUp?: boolean } = kinds.podSandbox): Asked => {
    const { endsGivenUp = false, ...known } = what;
    const work: Work = {
      ...known,
      get isAwaited() {
        return asked.isAwaited;
      },
      hangs: () => {
        asked.hangs = true;
      },
      giveUp: () => {
        asked.isGivenUp = true;
        if (endsGivenUp) asked.end?.(false);
      },
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
    const asked: Asked = {
      n: all.length,
      work,
      isAwaited: true,
      hangs: false,
      isGivenUp: false,
      ended: false,
      end: undefined,
      outcome: Promise.resolve(),
    };
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

/** Nobody waits for it any more. */
function leave(admission: Admission, asked: Asked): void {
  asked.isAwaited = false;
  admission.moved(asked.work);
}

/** Lets everything that was asked for run to its end, one at a time. */
async function drain({ all, running, end, clock }: Stage): Promise<void> {
  for (let turns = 0; all.some(({ ended }) => !ended) && turns < 10 * all.length + 10; turns += 1) {
    if (running().length === 0) await clock.advance(1_000);
    await end(running()[0]);
  }
}

/** What may happen, in an order of fast-check's choice. */
type Move =
  | {
      readonly do: 'ask';
      readonly of: WorkClass;
      readonly handler: string | undefined;
      readonly deadlineMs: number | undefined;
      readonly endsGivenUp: boolean;
    }
  | { readonly do: 'end'; readonly pick: number; readonly as: boolean | Error }
  | { readonly do: 'limit'; readonly to: number }
  | { readonly do: 'withdraw'; readonly pick: number }
  | { readonly do: 'leave or ask again'; readonly pick: number }
  | { readonly do: 'wait'; readonly ms: number };

const aMove: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      of: fc.constantFrom(...workClasses),
      handler: fc.constantFrom(undefined, 'kata'),
      deadlineMs: fc.constantFrom(undefined, 4_000, 240_000),
      endsGivenUp: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      pick: fc.nat(),
      as: fc.constantFrom(true, true, false, new Error('failed')),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('limit' as const), to: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('withdraw' as const), pick: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('leave or ask again' as const), pick: fc.nat() }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 2_000 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 2_000, max: 60_000 }) }),
  },
);

const moves = fc.array(aMove, { maxLength: 60, size: 'max' });

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
  check: (stage: Stage, begunNow: readonly number[], withdrawn: ReadonlySet<number>) => void,
) {
  const on = stage(3, options);
  const withdrawn = new Set<number>();
  for (const move of played) {
    const before = on.begun.length;
    const queued = on.all.filter(({ n }) => !on.begun.includes(n) && !withdrawn.has(n));
    const among = move.do === 'leave or ask again' ? [...queued, ...on.running()] : queued;
    const chosen = 'pick' in move ? among[move.pick % Math.max(1, among.length)] : undefined;
    if (move.do === 'ask') {
      const { handler, deadlineMs, endsGivenUp } = move;
      on.ask({ ...kinds[move.of], handler, deadlineMs, endsGivenUp });
    } else if (move.do === 'limit') on.concurrency.moveTo(move.to);
    else if (move.do === 'wait') await on.clock.advance(move.ms);
    else if (move.do === 'end') await on.end(on.running()[move.pick % Math.max(1, on.running().length)], move.as);
    else if (chosen !== undefined && move.do === 'withdraw') {
      withdrawn.add(chosen.n);
      on.admission.withdraw(chosen.work);
    } else if (chosen !== undefined) {
      chosen.isAwaited = !chosen.isAwaited;
      on.admission.moved(chosen.work);
    }
    await settle();
    check(on, on.begun.slice(before), withdrawn);
  }
  return { on, withdrawn };
}

/** How an admission may be set up, in a choice of fast-check's. */
const setUps: fc.Arbitrary<Partial<AdmissionOptions> & Pick<AdmissionOptions, 'ownPlaces' | 'hung'>> = fc.record({
  handlerLimits: fc.constant(new Map([['kata', kataLimit]])),
  pace: fc.constantFrom(undefined, { perSecond: 2, burst: 3 }),
  ownPlaces: fc.integer({ min: 0, max: 2 }),
  hung: fc.record({
    deadlineShare: fc.constant(0.5),
    most: fc.integer({ min: 0, max: 3 }),
    giveUp: fc.constantFrom(undefined, { times: 2, leastMs: 5_000 }),
  }),
});

const isOrdinary = ({ work }: Asked) => work.importance === undefined;

/** A thousand in all. */
const numRuns = 250;

/** One of each class, of kata and of the rest. */
const spareAtMost = 2 * workClasses.length;

/** What the limit of a stage lets be lent. */
const lentAtMost = 1;

t.test(
  'for any mix of work that ends, fails, hangs and is given up, no more is out than there are places',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(moves, setUps, async (played, setUp) => {
        const { ownPlaces, hung } = setUp;
        await play(played, setUp, ({ admission, concurrency, all, running }, begunNow, withdrawn) => {
          const out = running().length;
          if (admission.hung > hung.most) throw new Error(`${admission.hung} hang`);
          if (admission.inFlight + admission.hung !== out) {
            throw new Error(`${admission.inFlight} and ${admission.hung} said to be out, ${out} are`);
          }
          const waits = all.filter(({ n, end }) => end === undefined && !withdrawn.has(n)).length;
          const byClass = Object.values(admission.queuedByClass).reduce((total, size) => total + size, 0);
          if (admission.queued !== waits || byClass !== waits) throw new Error(`${byClass} said to wait, ${waits} do`);
          if (out > concurrency.highest + lentAtMost + ownPlaces + hung.most + spareAtMost)
            throw new Error(`${out} are out`);
          const begin = all.filter(({ n }) => begunNow.includes(n));
          const places = concurrency.value + lentAtMost + ownPlaces + spareAtMost;
          if (begin.some(isOrdinary) && admission.inFlight > places) {
            throw new Error(`${admission.inFlight} have a place`);
          }
        });
      }),
      { numRuns },
    );
    t.pass('held for every run');
  },
);

t.test('for any such mix no work is lost, none runs twice, each is told its end, and nothing is left', async (t) => {
  await fc.assert(
    fc.asyncProperty(moves, setUps, async (played, setUp) => {
      const { on, withdrawn } = await play(played, setUp, () => {});
      for (const n of withdrawn) {
        const asked = on.all[n];
        if (asked !== undefined) asked.ended = true;
      }
      await drain(on);
      const expected = on.all.map(({ n }) => n).filter((n) => !withdrawn.has(n));
      if (JSON.stringify(on.begun.toSorted((a, b) => a - b)) !== JSON.stringify(expected)) return false;
      const outcomes = await Promise.all(expected.map((n) => on.all[n]?.outcome));
      const { admission, concurrency, clock, all } = on;
      // The pace may have had a timer for what was withdrawn.
      await clock.advance(1_000);
      return (
        outcomes.every((outcome) => typeof outcome === 'boolean' || outcome instanceof Error) &&
        concurrency.told.length === expected.length &&
        concurrency.hung === all.filter(({ hangs }) => hangs).length &&
        admission.queued + admission.inFlight + admission.hung + clock.pending === 0
      );
    }),
    { numRuns },
  );
  t.pass('held for every run');
});

t.test(
  'for any such mix, work of one class and handler begins by who waits for it, then in the order it came',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(moves, setUps, async (played, setUp) => {
        await play(played, setUp, (on, begunNow, withdrawn) => {
          for (const n of begunNow) {
            const begun = on.all[n];
            const passedBy = on.all.find(
              (other) =>
                begun !== undefined &&
                other.end === undefined &&
                !withdrawn.has(other.n) &&
                classOf(other.work) === classOf(begun.work) &&
                other.work.handler === begun.work.handler &&
                (other.isAwaited === begun.isAwaited ? other.n < n : other.isAwaited),
            );
            if (passedBy !== undefined) throw new Error(`${n} began before ${passedBy.n}`);
          }
        });
      }),
      { numRuns },
    );
    t.pass('held for every run');
  },
);

t.test(
  'for any such mix, a handler has no more out than its limit, but for what hangs and for own and spare places',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(moves, setUps, async (played, setUp) => {
        await play(played, setUp, (on) => {
          const kata = on.running().filter(({ work, hangs }) => work.handler === 'kata' && !hangs);
          if (kata.length > kataLimit + setUp.ownPlaces + workClasses.length)
            throw new Error(`${kata.length} of kata run`);
          const ordinary = kata.filter(isOrdinary).length;
          if (ordinary > kataLimit + workClasses.length)
            throw new Error(`${ordinary} of kata run that have no own place`);
        });
      }),
      { numRuns },
    );
    t.pass('held for every run');
  },
);

t.test(
  'for any mix of classes that keeps coming, every class gets its turn within a bounded number of others',
  async (t) => {
    const classes = fc.array(fc.constantFrom(...workClasses), { minLength: 100, maxLength: 150 });
    const [limits, ownPlacesToo] = [fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 2 })];
    await fc.assert(
      fc.asyncProperty(classes, limits, ownPlacesToo, async (coming, limit, ownPlaces) => {
        const on = stage(limit, { ownPlaces });
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
          // The first of what runs ends each time, so that between two turns of a shared place each own one has one at most.
          const atMost = (passedOverAtMost + 2 * workClasses.length) * (1 + ownPlaces);
          if (Math.max(...passedOver.values()) > atMost) return false;
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

t.test('while the node is short of something, what takes long keeps its place', async (t) => {
  const { clock, concurrency, begun, ask } = stage(1, { hung: { deadlineShare: 1, most: 1, giveUp: undefined } });
  concurrency.isShort = true;
  ask();
  ask();
  await clock.advance(20_000);
  t.same(begun, [0]);
  concurrency.isShort = false;
  await clock.advance(1_000);
  t.same(begun, [0, 1]);
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

const mayHang = (most: number) => ({ hung: { deadlineShare: 0.5, most, giveUp: undefined } });

t.test(
  'static and critical work begins at once beyond the limit while there is an own place, no other does',
  async (t) => {
    const { ask, begun, admission } = stage(1, { ownPlaces: 2 });
    ask();
    await settle();
    for (const name of ['start', 'container', 'critical', 'static', 'static'] as const) ask(kinds[name]);
    await settle();
    t.same(begun, [0, 4, 5]);
    t.equal(admission.inFlight, 3);
    t.equal(admission.queued, 3);
  },
);

t.test('with the own places full, static and critical work goes by importance as any other', async (t) => {
  const { ask, begun, end, all } = stage(1, { ownPlaces: 1 });
  ask();
  ask(kinds.static);
  await settle();
  for (const name of ['podSandbox', 'critical', 'static'] as const) ask(kinds[name]);
  await end(all[0]);
  t.same(begun, [1, 0, 4], 'a shared place that gets free is for the most important');
  await end(all[1]);
  t.same(begun, [1, 0, 4, 3], 'an own one for the most important of the own ones');
  await end(all[3]);
  t.same(begun, [1, 0, 4, 3], 'and for none if there is none');
  await end(all[4]);
  t.same(begun, [1, 0, 4, 3, 2]);
});

t.test('what has an own place leaves the shared ones to others', async (t) => {
  const { ask, begun } = stage(2, { ownPlaces: 2 });
  for (const name of ['static', 'static', 'podSandbox', 'podSandbox', 'podSandbox'] as const) ask(kinds[name]);
  await settle();
  t.same(begun.toSorted(), [0, 1, 2, 3]);
});

t.test(
  'an own place is beyond the limit of a handler and does not count for it, but not beyond the pace',
  async (t) => {
    const kata = { kind: 'podSandbox', handler: 'kata' } as const;
    const beyond = stage(9, { ownPlaces: 1, handlerLimits: new Map([['kata', 1]]) });
    beyond.ask(kata);
    beyond.ask({ ...kata, importance: 'static' });
    await settle();
    t.same(beyond.begun.toSorted(), [0, 1]);
    beyond.ask(kata);
    await beyond.end(beyond.all[1]);
    t.equal(beyond.begun.length, 2, 'its end makes no room for others of its handler');
    await beyond.end(beyond.all[0]);
    t.same(beyond.begun.at(-1), 2);

    const { ask, begun, clock } = stage(9, { ownPlaces: 1, pace: { perSecond: 1, burst: 1 } });
    ask();
    await settle();
    ask(kinds.static);
    await settle();
    t.same(begun, [0]);
    await clock.advance(1_000);
    t.same(begun, [0, 1]);
  },
);

t.test('of two that the pace lets go, one with an own place and one with a shared, none goes too early', async (t) => {
  const { ask, begun, clock } = stage(9, { ownPlaces: 1, pace: { perSecond: 1, burst: 1 } });
  ask();
  await settle();
  ask(kinds.podSandbox);
  ask(kinds.static);
  await clock.advance(1_000);
  t.same(begun, [0, 2]);
  await clock.advance(1_000);
  t.same(begun, [0, 2, 1]);
  t.equal(clock.pending, 0);
});

t.test('work that hangs gives back its place, an own one too, and its handler has one less out', async (t) => {
  const { ask, begun, clock, admission, end, all } = stage(2, {
    ...mayHang(9),
    ownPlaces: 1,
    handlerLimits: new Map([['kata', 1]]),
  });
  const kata = { kind: 'podSandbox', handler: 'kata' } as const;
  for (const what of [kata, kata, kinds.static, kinds.static, kinds.static]) {
    ask(what);
    await settle();
  }
  t.same(begun.toSorted(), [0, 2, 3]);
  await clock.advance(4_000);
  t.same(begun.toSorted(), [0, 1, 2, 3, 4]);
  t.equal(admission.inFlight, 2);
  t.equal(admission.hung, 3);
  await end(all[0]);
  ask(kata);
  await settle();
  t.equal(begun.length, 5, 'what ends late makes no room once more');
  t.equal(admission.hung, 2);
  await end(all[1]);
  t.equal(begun.at(-1), 5);
});

t.test(
  'behind sixteen that hang, static and critical pods begin at once, and an ordinary one within 10 s',
  async (t) => {
    const { ask, begun, clock } = stage(8, { ...mayHang(64), ownPlaces: 4 });
    const deadlineMs = 240_000;
    for (let n = 0; n < 16; n += 1) ask({ ...kinds.podSandbox, deadlineMs });
    await settle();
    const ordinary = ask({ ...kinds.podSandbox, deadlineMs });
    const own = [ask({ ...kinds.static, deadlineMs }), ask({ ...kinds.critical, deadlineMs })];
    await settle();
    for (const { n } of own) t.ok(begun.includes(n));
    await clock.advance(7_999);
    t.notOk(begun.includes(ordinary.n));
    await clock.advance(1);
    t.ok(begun.includes(ordinary.n));
  },
);

t.test(
  'no more is out than the limit, the own places and as much as may hang, and one of a class of which nothing is',
  async (t) => {
    const { ask, clock, running, admission, end } = stage(2, { ...mayHang(3), ownPlaces: 1 });
    for (let n = 0; n < 20; n += 1) {
      ask();
      ask(kinds.static);
    }
    await clock.advance(3_600_000);
    t.same(
      running().map(({ work }) => work.importance),
      [undefined, ...Array(6).fill('static')],
    );
    t.equal(admission.inFlight, 4);
    t.equal(admission.hung, 3);
    t.equal(admission.queued, 33);
    const [hanging] = running().filter(({ hangs }) => hangs);
    await end(hanging, false);
    t.equal(running().length, 7, 'where one of them ends, another of them counts as hung and the next begins');
    t.equal(admission.hung, 3);
  },
);

t.test(
  'the limit is told once of what hangs, and of a success that tells nothing of the node as of none',
  async (t) => {
    const { ask, clock, concurrency, end, all } = stage(1, mayHang(9));
    ask();
    await clock.advance(60_000);
    t.equal(concurrency.hung, 1);
    ask();
    await settle();
    await end(all[1]);
    t.equal(concurrency.hung, 1);
    await end(all[0], true);
    t.same(concurrency.told, [true, false]);
    t.equal(await all[0]?.outcome, true, 'who asked for it is told what it was');
  },
);

t.test('work that is given up ends as any other, and what it leaves goes to the next', async (t) => {
  const { ask, clock, begun, admission, all, end } = stage(1, {
    hung: { deadlineShare: 0.5, most: 0, giveUp: { times: 2, leastMs: 5_000 } },
  });
  ask({ ...kinds.podSandbox, endsGivenUp: true });
  ask(kinds.container);
  await clock.advance(4_999);
  t.same(begun, [1], 'the more important one went first');
  await end(all[1]);
  await clock.advance(4_999);
  t.notOk(all[0]?.isGivenUp);
  await clock.advance(1);
  t.ok(all[0]?.isGivenUp);
  t.equal(await all[0]?.outcome, false);
  t.equal(admission.inFlight, 0);
});

t.test('what somebody waits for goes first, and what is asked for again takes its old place', async (t) => {
  const { ask, begun, end, running, admission } = stage(1);
  ask();
  await settle();
  const [left, again, third] = [ask(), ask(), ask()];
  for (const asked of [left, again]) {
    asked.isAwaited = false;
    admission.moved(asked.work);
  }
  again.isAwaited = true;
  admission.moved(again.work);
  while (running().length > 0) await end(running()[0]);
  t.same(begun, [0, again.n, third.n, left.n]);
  admission.moved(left.work);
  await settle();
  t.same(begun, [0, again.n, third.n, left.n], 'what has run does not run again');
});

t.test('closing it ends the timer for what hangs', async (t) => {
  const { ask, clock, admission, end, all } = stage(2, mayHang(9));
  ask();
  ask();
  await settle();
  t.equal(clock.pending, 1);
  admission.close();
  t.equal(clock.pending, 0);
  await end(all[0]);
  t.equal(clock.pending, 0);
});

t.test('ten thousand that wait are left, asked for again and withdrawn within the time a test has', async (t) => {
  const { ask, admission, running, end, begun } = stage(100, { ownPlaces: 4 });
  const all = Array.from({ length: 10_000 }, () => ask());
  for (const isAwaited of [false, true]) {
    for (const asked of all) {
      asked.isAwaited = isAwaited;
      admission.moved(asked.work);
    }
  }
  await settle();
  t.equal(admission.queued, 9_900);
  for (const { work } of all.slice(200)) admission.withdraw(work);
  for (const asked of running()) asked.end?.(true);
  await end(undefined);
  t.equal(begun.length, 200);
  t.equal(admission.queued, 0);
});

t.test('work that nobody waits for any more lends its place to what somebody waits for', async (t) => {
  const { clock, admission, begun, ask } = stage(4);
  const dead = Array.from({ length: 8 }, () => ask());
  await settle();
  t.strictSame(begun, [0, 1, 2, 3]);
  for (const asked of dead) leave(admission, asked);
  await clock.advance(10_000);
  t.strictSame(begun, [0, 1, 2, 3], 'but not to others of which that is so');
  ask();
  await settle();
  t.strictSame(begun, [0, 1, 2, 3, 8]);
  t.equal(admission.inFlight, 5);
});

t.test('it lends to what came before it was left, once nobody has waited for it for a while', async (t) => {
  const { clock, admission, begun, all, ask } = stage(2);
  for (let n = 0; n < 3; n += 1) ask();
  await settle();
  for (const asked of all.slice(0, 1)) leave(admission, asked);
  await clock.advance(249);
  t.strictSame(begun, [0, 1]);
  await clock.advance(1);
  t.strictSame(begun, [0, 1, 2]);
});

t.test('as many places are lent as the limit says, and none for what is waited for', async (t) => {
  for (const [limit, left, lendable, lent] of [
    [1, 1, 0, 0],
    [4, 4, 1, 1],
    [4, 4, 3, 3],
    [4, 2, 3, 2],
    [4, 0, 3, 0],
  ] as const) {
    const { clock, concurrency, admission, all, ask } = stage(limit);
    concurrency.lendable = lendable;
    for (let n = 0; n < limit; n += 1) ask();
    await settle();
    for (const asked of all.slice(0, left)) leave(admission, asked);
    await clock.advance(250);
    for (let n = 0; n < 10; n += 1) ask();
    await settle();
    t.equal(admission.inFlight, limit + lent, `${left} of ${limit}`);
  }
});

t.test('what is asked for again, while it is queued, gets a place that is lent at once', async (t) => {
  const { clock, admission, begun, ask } = stage(1);
  leave(admission, ask());
  const queued = ask();
  leave(admission, queued);
  await clock.advance(250);
  t.strictSame(begun, [0], 'nobody waits for it');
  queued.isAwaited = true;
  admission.moved(queued.work);
  await settle();
  t.strictSame(begun, [0, 1]);
});

t.test('what has a place of its own lends none', async (t) => {
  const { clock, admission, begun, ask } = stage(1, { ownPlaces: 1 });
  const critical = ask(kinds.critical);
  ask();
  await settle();
  leave(admission, critical);
  await clock.advance(250);
  ask();
  await settle();
  t.strictSame(begun, [0, 1]);
});

t.test('a place that is given back is lent again', async (t) => {
  const { clock, admission, begun, all, ask, end } = stage(2);
  for (let n = 0; n < 2; n += 1) leave(admission, ask());
  await clock.advance(250);
  ask();
  ask();
  await settle();
  t.strictSame(begun, [0, 1, 2]);
  await end(all[2]);
  t.strictSame(begun, [0, 1, 2, 3]);
});

t.test('a place that is lent counts for the limit of a handler', async (t) => {
  const { clock, admission, begun, ask } = stage(3, { handlerLimits: new Map([['kata', 1]]) });
  const kata = { ...kinds.podSandbox, handler: 'kata' };
  for (const asked of [ask(kata), ask(), ask()]) leave(admission, asked);
  await clock.advance(250);
  t.strictSame(begun, [0, 1, 2]);
  ask(kata);
  await settle();
  t.strictSame(begun, [0, 1, 2], 'as many of it run as may');
  ask();
  await settle();
  t.strictSame(begun, [0, 1, 2, 4]);
});

t.test('what hangs has no place to lend', async (t) => {
  const hung = { deadlineShare: 0.5, most: 64, giveUp: undefined };
  const { clock, admission, begun, ask } = stage(1, { hung });
  leave(admission, ask());
  await clock.advance(10_000);
  t.equal(admission.hung, 1);
  for (let n = 0; n < 2; n += 1) ask();
  await settle();
  t.strictSame(begun, [0, 1]);
});

t.test('closed, it has no timer for what is left', async (t) => {
  const { clock, admission, all, ask } = stage(1);
  ask();
  await settle();
  for (const asked of all) leave(admission, asked);
  admission.close();
  t.equal(clock.pending, 0);
});

t.test('what waits is told with its place, its class and since when, and what hangs with since when', async (t) => {
  const { admission, clock, ask, end } = stage(1, { hung: { deadlineShare: 1, most: 1, giveUp: undefined } });
  const startMs = clock.now();
  const runs = ask();
  await clock.advance(500);
  const podSandbox = ask();
  const start = ask(kinds.start);
  await settle();
  const { places, hungSinceMs } = admission.view();
  t.equal(hungSinceMs.size, 0);
  t.same(
    [...places.values()],
    [
      { before: 0, class: 'start', sinceMs: startMs + 500 },
      { before: 1, class: 'podSandbox', sinceMs: startMs + 500 },
    ],
  );
  t.strictSame([...places.keys()], [start.work, podSandbox.work]);
  await clock.advance(3_500);
  t.same([...admission.view().hungSinceMs], [[runs.work, startMs + 4_000]]);
  for (const each of [runs, start, podSandbox]) await end(each);
});
