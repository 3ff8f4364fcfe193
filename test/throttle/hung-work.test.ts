import t from 'tap';
import { HungWork, type HungWorkOptions } from '../../src/throttle/hung-work.js';
import type { Overdue, Work } from '../../src/throttle/work-queue.js';
import { ManualClock } from '../support/manual-clock.js';

const second = 1_000;
const minute = 60 * second;

/** As by default. */
const byDefault = { times: 10, leastMs: undefined };

type What = Omit<Work, 'run' | 'hangs' | 'giveUp'> & { readonly canBeGivenUp?: boolean };

interface Begun {
  /** What it was told, each with when, in ms since the start. */
  readonly told: string[];
  /** Told with it. */
  readonly overdue: Overdue[];
  /** @returns What `begin` gave. */
  end(succeeded?: boolean): boolean;
  isOut: boolean;
}

function stage(options: Partial<HungWorkOptions> = {}) {
  const clock = new ManualClock();
  const startMs = clock.now();
  const now = { isShort: false };
  /** How often it became full. */
  const full = { times: 0 };
  const hung = new HungWork(
    clock,
    { deadlineShare: 0.5, most: 100, giveUp: undefined, ...options },
    () => now.isShort,
    () => {
      full.times += 1;
    },
  );
  /** In seconds since the start. */
  const at = () => (clock.now() - startMs) / second;
  const begin = (what: Partial<What> = {}): Begun => {
    const { canBeGivenUp = true } = what;
    const tell = (word: string) => (overdue: Overdue) => {
      begun.told.push(`${word} at ${at()}`);
      begun.overdue.push(overdue);
    };
    const work: Work = Object.defineProperties(
      {
        kind: 'podSandbox',
        deadlineMs: 240 * second,
        run: async () => true,
        hangs: tell('hangs'),
        ...(canBeGivenUp && { giveUp: tell('given up') }),
      },
      // What is asked of it at any time stays so.
      Object.getOwnPropertyDescriptors(what),
    );
    let left = 0;
    const ended = hung.begin(work, () => {
      left += 1;
      if (left > 1) begun.told.push('left twice');
    });
    const begun: Begun = {
      told: [],
      overdue: [],
      isOut: true,
      end: (succeeded = true) => {
        begun.isOut = false;
        return ended(succeeded);
      },
    };
    return begun;
  };
  /** Work of its sort that takes as long and succeeds, one after the other. */
  const done = async (count: number, tookMs: number, what: Partial<What> = {}) => {
    for (let n = 0; n < count; n += 1) {
      const begun = begin(what);
      await clock.advance(tookMs);
      begun.end();
    }
  };
  return { clock, now, hung, begin, done, at, full };
}

t.test('before anything of its sort is known, what took half its deadline hangs, and what took 4 s', async (t) => {
  const { clock, begin, hung } = stage();
  const [short, long, patient] = [begin({ deadlineMs: 6 * second }), begin(), begin({ deadlineMs: undefined })];
  await clock.advance(2_999);
  t.equal(hung.size, 0);
  await clock.advance(minute);
  t.same(short.told, ['hangs at 3']);
  t.same(long.told, ['hangs at 4']);
  t.same(patient.told, ['hangs at 4']);
  t.same(long.overdue, [{ tookMs: 4_000, usualMs: undefined }]);
  t.equal(hung.size, 3);
});

t.test('nothing hangs before it took 2 s, however short its deadline is and however quick its sort', async (t) => {
  const { clock, begin, done } = stage();
  const hasty = begin({ deadlineMs: 10 });
  await clock.advance(5 * second);
  t.same(hasty.told, ['hangs at 2']);
  await done(3, 50, { kind: 'start' });
  const quick = begin({ kind: 'start' });
  await clock.advance(1_999);
  t.same(quick.told, []);
  await clock.advance(1);
  t.equal(quick.told.length, 1);
});

t.test('what took twice as long as the longest of the last 16 of its sort hangs', async (t) => {
  const { clock, begin, done, at } = stage();
  await done(1, 8 * second);
  await done(15, 3 * second);
  const one = begin();
  const began = at();
  await clock.advance(minute);
  t.same(one.told, [`hangs at ${began + 16}`]);
  t.same(one.overdue, [{ tookMs: 16 * second, usualMs: 8 * second }]);
  one.end(false);
  await done(1, 3 * second);
  const other = begin();
  const beganNext = at();
  await clock.advance(minute);
  t.same(other.told, [`hangs at ${beganNext + 6}`]);
});

t.test('what is known counts for work that runs already, and takes back what was thought before', async (t) => {
  const { clock, begin } = stage();
  const [first, second_] = [begin(), begin()];
  await clock.advance(3 * second);
  first.end();
  await clock.advance(2_999);
  t.same(second_.told, []);
  await clock.advance(1);
  t.same(second_.told, ['hangs at 6']);
});

t.test('a sort is a kind and a handler', async (t) => {
  const { clock, begin, done } = stage();
  await done(1, 10 * second);
  const others = [
    begin({ kind: 'container' }),
    begin({ kind: 'start' }),
    begin({ handler: 'kata' }),
    begin({ kind: 'container', handler: 'kata' }),
  ];
  const same = [begin(), begin({ handler: '' })];
  await clock.advance(4 * second);
  for (const other of others) t.equal(other.told.length, 1);
  for (const each of same) t.same(each.told, []);
});

t.test('what failed says nothing of how long its sort takes', async (t) => {
  const { clock, begin } = stage();
  const failed = begin();
  await clock.advance(3 * second);
  t.equal(failed.end(false), false);
  const next = begin();
  await clock.advance(4 * second);
  t.same(next.told, ['hangs at 7']);
});

t.test('what hangs is told once, and what has ended is not', async (t) => {
  const { clock, begin, hung } = stage();
  const [hanging, quick] = [begin(), begin()];
  quick.end(false);
  await clock.advance(10 * minute);
  t.same(hanging.told, ['hangs at 4']);
  t.same(quick.told, []);
  t.equal(hung.size, 1);
  hanging.end();
  t.equal(hung.size, 0);
  await clock.advance(10 * minute);
  t.same(hanging.told, ['hangs at 4']);
});

t.test('no more than its most hangs at once, those that began first', async (t) => {
  const { clock, begin, hung } = stage({ most: 2 });
  const all = [begin(), begin(), begin(), begin()];
  await clock.advance(minute);
  t.same(
    all.map(({ told }) => told),
    [['hangs at 4'], ['hangs at 4'], [], []],
  );
  all[1]?.end(false);
  t.same(all[2]?.told, ['hangs at 60'], 'the next at once where one has ended');
  t.same(all[3]?.told, []);
  t.equal(hung.size, 2);
});

t.test('where none may, nothing hangs and nothing is timed', async (t) => {
  const { clock, begin, hung } = stage({ most: 0 });
  const one = begin();
  t.equal(clock.pending, 0);
  await clock.advance(10 * minute);
  t.same(one.told, []);
  t.equal(hung.size, 0);
});

t.test(
  'while the node is short of something work is slow, until half its deadline or until others overtake it',
  async (t) => {
    const { clock, begin, now } = stage();
    now.isShort = true;
    const [slow, other, patient] = [begin(), begin({ deadlineMs: 100 * second }), begin({ deadlineMs: undefined })];
    await clock.advance(49_999);
    t.same([slow.told, other.told], [[], []]);
    await clock.advance(1);
    t.same(other.told, ['hangs at 50']);
    const overtaking = begin();
    await clock.advance(second);
    overtaking.end();
    t.same(slow.told, ['hangs at 51']);
    t.same(patient.told, ['hangs at 51']);
  },
);

t.test('within a second of the node being short no longer, what took too long hangs', async (t) => {
  const { clock, begin, now, done } = stage();
  await done(1, second);
  now.isShort = true;
  const slow = begin();
  await clock.advance(9_500);
  now.isShort = false;
  t.same(slow.told, []);
  await clock.advance(second);
  t.equal(slow.told.length, 1);
});

t.test(
  'what hung while work that began later succeeded does not change what is usual, and tells nothing of the node',
  async (t) => {
    const { clock, begin, done, at } = stage();
    await done(1, 3 * second);
    const late = begin();
    await clock.advance(6 * second);
    t.equal(late.told.length, 1);
    await done(1, 3 * second);
    await clock.advance(minute);
    t.equal(late.end(), false);
    const next = begin();
    const began = at();
    await clock.advance(minute);
    t.same(next.told, [`hangs at ${began + 6}`]);
  },
);

t.test('what hung and was overtaken by none does change what is usual, for all may be as slow now', async (t) => {
  const { clock, begin, done, at } = stage();
  await done(1, 3 * second);
  const late = begin();
  await clock.advance(5 * second);
  const before = begin();
  await clock.advance(3 * second);
  before.end();
  await clock.advance(12 * second);
  t.equal(late.told.length, 1);
  t.equal(late.end(), true, 'what began before it counted as hung says nothing of it');
  const next = begin();
  const began = at();
  await clock.advance(2 * minute);
  t.same(next.told, [`hangs at ${began + 24}`], 'by twice what would have counted as hung when it began at the most');
});

t.test(
  'one that took very long teaches that its sort takes twice what would have counted as hung, at the most',
  async (t) => {
    const { clock, begin, done, at } = stage();
    await done(16, second);
    const long = begin();
    await clock.advance(5 * minute);
    long.end();
    const next = begin();
    const began = at();
    await clock.advance(minute);
    t.same(next.told, [`hangs at ${began + 8}`]);
  },
);

t.test(
  'of what is not proven to be stuck sixteen count as hung; the next is proven when one of its sort took half as long',
  async (t) => {
    const { clock, begin, hung } = stage();
    const all = Array.from({ length: 20 }, () => begin());
    await clock.advance(10 * minute);
    t.equal(hung.size, 16);
    t.ok(hung.isFull);
    const quick = begin();
    await clock.advance(second);
    quick.end();
    t.equal(hung.size, 20);
    t.notOk(hung.isFull);
    t.same(all.at(-1)?.told, ['hangs at 601']);
  },
);

t.test('one that took more than half as long proves nothing', async (t) => {
  const { clock, begin, hung } = stage();
  Array.from({ length: 20 }, () => begin());
  const slow = begin();
  await clock.advance(10 * second);
  slow.end();
  await clock.advance(6 * second);
  t.equal(hung.size, 16);
  await clock.advance(4 * second);
  t.equal(hung.size, 20, 'until they took twice as long');
});

t.test('that some keep their places since as much hangs as may is told when it begins', async (t) => {
  const { clock, begin, hung, full } = stage({ most: 1 });
  const [first, other] = [begin(), begin()];
  await clock.advance(3_999);
  t.same([hung.isFull, full.times], [false, 0]);
  await clock.advance(1);
  t.same([hung.isFull, full.times], [true, 1]);
  await clock.advance(minute);
  t.equal(full.times, 1);
  first.end(false);
  t.equal(hung.isFull, false);
  other.end(false);
  t.equal(clock.pending, 0);
});

t.test(
  'where as much hangs as may, what has hung for longest of what is stuck and not wanted is given up',
  async (t) => {
    const forgetful = () => {
      const known = { isForgotten: false };
      const forgettable = {
        get isForgotten() {
          return known.isForgotten;
        },
      };
      return { known, forgettable };
    };
    const { clock, begin, done } = stage({ most: 2, giveUp: byDefault });
    const { known, forgettable } = forgetful();
    const all = [begin(), begin(forgettable), begin(forgettable)];
    await done(1, second);
    await clock.advance(59 * second);
    t.same(all[1]?.told, ['hangs at 2']);
    known.isForgotten = true;
    await clock.advance(5 * second);
    t.same(
      all.map(({ told }) => told),
      [['hangs at 2'], ['hangs at 2', 'given up at 62'], []],
      'but one at a time, and nothing that keeps its place',
    );
    await clock.advance(30 * second);
    t.same(all[1]?.told.length, 2, 'is told so once');
    all[1]?.end(false);
    t.same(all[2]?.told, ['hangs at 95']);

    const off = stage({ most: 1 });
    const kept = off.begin({ isForgotten: true });
    off.begin();
    await off.done(1, second);
    await off.clock.advance(minute);
    t.same(kept.told, ['hangs at 2'], 'not with the option off');

    const cannot = stage({ most: 2, giveUp: byDefault });
    const [start, sandbox] = [
      cannot.begin({ isForgotten: true, canBeGivenUp: false }),
      cannot.begin({ isForgotten: true }),
    ];
    cannot.begin();
    await cannot.done(1, second);
    await cannot.clock.advance(10 * second);
    t.same(
      [start.told, sandbox.told],
      [['hangs at 2'], ['hangs at 2', 'given up at 2']],
      'nor what cannot be: the next is',
    );
  },
);

t.test('where all are slow, what is not wanted for a while is not given up to make room', async (t) => {
  const { clock, begin, hung } = stage({ giveUp: byDefault });
  const all = Array.from({ length: 24 }, () => begin({ isForgotten: true }));
  await clock.advance(5 * minute);
  t.ok(hung.isFull);
  for (const each of all) each.end();
  t.same(
    all.flatMap(({ told }) => told.filter((word) => word.startsWith('given up'))),
    [],
  );
});

t.test('of each sort as much may hang that is not proven to be stuck', async (t) => {
  const { clock, begin, hung } = stage();
  for (let n = 0; n < 20; n += 1) begin();
  const other = begin({ kind: 'start' });
  await clock.advance(minute);
  t.same(other.told, ['hangs at 4']);
  t.equal(hung.size, 17);
});

t.test('work of the node’s own pods hangs by what is usual though the node is short of something', async (t) => {
  const { clock, begin, now, done } = stage();
  await done(1, 5 * second);
  now.isShort = true;
  const own = [begin({ importance: 'static' }), begin({ importance: 'critical' })];
  const other = begin();
  await clock.advance(10 * second);
  for (const { told } of own) t.same(told, ['hangs at 15']);
  t.same(other.told, []);
});

t.test('what may have got what it waited for is not given up at once for one that was quicker', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  await done(16, second);
  const late = begin({ deadlineMs: 8 * second });
  await clock.advance(minute);
  await done(1, second);
  await clock.advance(1_999);
  t.equal(late.told.length, 1);
  await clock.advance(1);
  t.match(late.told[1], /^given up/);
});

t.test('work that leaves something out is another sort', async (t) => {
  const { clock, begin, done, at } = stage();
  await done(1, 3 * second, { isQuick: true });
  const other = begin();
  const began = at();
  await clock.advance(minute);
  t.same(other.told, [`hangs at ${began + 4}`]);
});

t.test('what was overtaken is given up at ten times the longest of its sort', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  const stuck = begin({ deadlineMs: 8 * second });
  await done(1, 7 * second);
  await clock.advance(5 * minute);
  t.same(stuck.told, ['hangs at 4', 'given up at 70']);
  t.same(stuck.overdue.at(-1), { tookMs: 70 * second, usualMs: 7 * second });
});

t.test('the longest counts for giving up also where it hung and was left behind', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  const [slow, stuck] = [begin({ deadlineMs: 8 * second }), begin({ deadlineMs: 8 * second })];
  await clock.advance(4 * second);
  await done(3, second);
  await clock.advance(3 * second);
  slow.end();
  await clock.advance(5 * minute);
  t.same(stuck.told, ['hangs at 4', 'given up at 100']);
});

t.test('never before twice its deadline has passed, nor before 30 s', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  const [soon, later, patient] = [
    begin({ deadlineMs: 8 * second }),
    begin({ deadlineMs: 16 * second }),
    begin({ deadlineMs: undefined }),
  ];
  await done(1, second);
  await clock.advance(60 * minute);
  t.same(soon.told.at(-1), 'given up at 30');
  t.same(later.told.at(-1), 'given up at 32');
  t.same(patient.told, ['hangs at 2'], 'who has no deadline waits as long as it takes');
});

t.test('the option takes the place of both, and the multiple holds beside it', async (t) => {
  const { clock, begin, done } = stage({ giveUp: { times: 3, leastMs: 5 * second } });
  const one = begin();
  await done(1, second);
  await clock.advance(minute);
  t.same(one.told.at(-1), 'given up at 5');
  one.end(false);
  const other = begin();
  const began = 61;
  await done(1, 4 * second);
  await clock.advance(minute);
  t.same(other.told.at(-1), `given up at ${began + 12}`);
});

t.test('each time it was given up before makes that four times as long', async (t) => {
  for (const [givenUp, atSeconds] of [
    [0, 30],
    [1, 120],
    [2, 480],
  ] as const) {
    const { clock, begin, done } = stage({ giveUp: byDefault });
    const one = begin({ givenUp, deadlineMs: 8 * second });
    await done(1, second);
    await clock.advance(60 * minute);
    t.equal(one.told.at(-1), `given up at ${atSeconds}`);
  }
});

t.test('given up is told once', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  const one = begin({ deadlineMs: 8 * second });
  await done(1, second);
  await clock.advance(60 * minute);
  await done(1, second);
  t.equal(one.told.filter((told) => told.startsWith('given up')).length, 1);
  t.equal(clock.pending, 0);
});

t.test('only what began no later than a second after the work that succeeded is overtaken by it', async (t) => {
  const { clock, begin } = stage({ giveUp: byDefault });
  const first = begin({ deadlineMs: 8 * second });
  await clock.advance(second);
  const atOnce = begin({ deadlineMs: 8 * second });
  await clock.advance(1);
  const after = begin({ deadlineMs: 8 * second });
  await clock.advance(second);
  first.end();
  await clock.advance(60 * minute);
  t.same(atOnce.told.at(-1), 'given up at 31');
  t.match(after.told, [/^hangs/]);
  t.equal(after.told.length, 1);
});

t.test('work of another sort that succeeds, or of its own that fails, overtakes nothing', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  const all = [begin({ deadlineMs: 8 * second }), begin({ deadlineMs: 8 * second })];
  await done(3, second, { handler: 'kata' });
  await done(3, second, { kind: 'container' });
  const failing = begin();
  await clock.advance(second);
  failing.end(false);
  await clock.advance(60 * minute);
  for (const { told } of all) t.same(told, ['hangs at 4']);
});

t.test('the first of its sort is given up once where it is alone: one more try tells', async (t) => {
  const { clock, begin, at } = stage({ giveUp: byDefault });
  const first = begin({ deadlineMs: 8 * second });
  await clock.advance(minute);
  t.same(first.told, ['hangs at 4', 'given up at 48'], 'after six deadlines');
  first.end(false);
  const again = begin({ deadlineMs: 8 * second, givenUp: 1 });
  const began = at();
  await clock.advance(60 * minute);
  t.same(again.told, [`hangs at ${began + 4}`]);

  const kubelets = stage({ giveUp: byDefault });
  const slow = kubelets.begin({ deadlineMs: 240 * second });
  await kubelets.clock.advance(24 * minute - 1);
  t.same(slow.told, ['hangs at 4'], 'by a kubelet’s default not before creation-timeout');
});

t.test('the first of its sort is not given up while another of it runs, nor once one has succeeded', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  const two = [begin({ deadlineMs: 8 * second }), begin({ deadlineMs: 8 * second })];
  const elsewhere = begin({ deadlineMs: 8 * second, handler: 'kata' });
  await clock.advance(5 * minute);
  for (const { told } of two) t.same(told, ['hangs at 4']);
  t.same(elsewhere.told, ['hangs at 4', 'given up at 48'], 'another sort is none of its');
  two[0]?.end(false);
  t.same(two[1]?.told, ['hangs at 4', 'given up at 300']);
  await done(1, second, { kind: 'container' });
  const later = begin({ kind: 'container', deadlineMs: 8 * second });
  await clock.advance(10 * minute);
  t.equal(later.told.length, 1);
});

t.test('nothing is given up that cannot be, and nothing with the option off', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  const start = begin({ canBeGivenUp: false });
  await done(1, second);
  await clock.advance(60 * minute);
  t.same(start.told, ['hangs at 2']);
  const off = stage({ giveUp: undefined });
  const one = off.begin();
  await off.done(1, second);
  await off.clock.advance(60 * minute);
  t.same(one.told, ['hangs at 2']);
});

t.test('what does not hang, for as much hangs as may, is given up all the same', async (t) => {
  const { clock, begin, done } = stage({ most: 0, giveUp: byDefault });
  const one = begin({ deadlineMs: 8 * second });
  await done(1, second);
  await clock.advance(5 * minute);
  t.same(one.told, ['given up at 30']);
});

t.test('on a node where all is slow nothing is given up', async (t) => {
  const tookMs = 5 * minute;
  for (const deadlineMs of [240 * second, 8 * second]) {
    for (const everyMs of [0, 700, 15 * second]) {
      const { clock, begin, hung } = stage({ giveUp: byDefault });
      const all: Begun[] = [];
      let next = 0;
      /** 60 in all, 20 at a time at most: each ends after as long, and another begins. */
      const run = () => {
        if (next === 60) return;
        next += 1;
        const begun = begin({ deadlineMs });
        all.push(begun);
        clock.after(tookMs, () => {
          begun.end();
          run();
        });
      };
      for (let n = 0; n < 20; n += 1) clock.after(n * everyMs, run);
      await clock.advance(4 * tookMs + 20 * everyMs);
      t.equal(all.filter(({ isOut }) => !isOut).length, 60);
      const given = all.filter(({ told }) => told.some((word) => word.startsWith('given up')));
      t.equal(given.length, 0, `one every ${everyMs} ms, with a deadline of ${deadlineMs} ms`);
      t.equal(hung.size, 0);
      t.equal(clock.pending, 0);
    }
  }
});

t.test('where all becomes slow that was quick, nothing is given up', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  await done(20, second);
  const all = Array.from({ length: 20 }, () => begin({ deadlineMs: 8 * second }));
  await clock.advance(5 * minute);
  for (const each of all) each.end();
  t.same(
    all.flatMap(({ told }) => told.filter((word) => word.startsWith('given up'))),
    [],
  );
});

t.test('nothing is timed any more when nothing runs, nor once what runs has been told all', async (t) => {
  const { clock, begin, done } = stage({ giveUp: byDefault });
  await done(3, second);
  t.equal(clock.pending, 0);
  const [one, other] = [begin(), begin()];
  t.equal(clock.pending, 1);
  await clock.advance(60 * minute);
  t.equal(clock.pending, 0);
  one.end();
  other.end();
  t.equal(clock.pending, 0);
});

t.test('closing it ends its timer for good', async (t) => {
  const { clock, begin, hung } = stage({ giveUp: byDefault });
  const [one, other] = [begin(), begin()];
  hung.close();
  t.equal(clock.pending, 0);
  begin({ deadlineMs: 4 * second });
  t.equal(clock.pending, 0);
  await clock.advance(60 * minute);
  one.end(false);
  t.equal(clock.pending, 0);
  t.same(other.told, []);
  stage().hung.close();
});

t.test('two thousand at once are looked at within the time a test has', (t) => {
  const { hung } = stage({ giveUp: byDefault });
  const work: Work = { kind: 'podSandbox', run: async () => true, giveUp: () => {} };
  const ends = Array.from({ length: 2_000 }, () => hung.begin(work, () => {}));
  for (const end of ends) end(false);
  t.equal(hung.size, 0);
  t.end();
});

t.test('what is proven to be stuck leaves the sixteen to what is not', async (t) => {
  const { clock, begin, hung } = stage();
  for (let n = 0; n < 16; n += 1) begin();
  const quick = begin();
  await clock.advance(second);
  quick.end();
  await clock.advance(9 * second);
  t.equal(hung.size, 16);
  for (let n = 0; n < 16; n += 1) begin();
  await clock.advance(10 * second);
  t.equal(hung.size, 32);

  const late = stage();
  for (let n = 0; n < 16; n += 1) late.begin();
  const other = late.begin();
  await late.clock.advance(second);
  other.end();
  await late.clock.advance(500);
  for (let n = 0; n < 16; n += 1) late.begin();
  // No look has been taken in between.
  late.clock.skip(minute);
  await late.clock.advance(0);
  t.equal(late.hung.size, 32, 'also where all are looked at at once');
});

t.test('what took twice as long as one that overtook it is proven to be stuck from that moment on', async (t) => {
  const { clock, begin } = stage();
  const slow = begin();
  for (let n = 0; n < 16; n += 1) begin();
  await clock.advance(4 * second);
  const other = begin();
  await clock.advance(6 * second);
  slow.end();
  await clock.advance(minute);
  t.same(other.told, ['hangs at 20']);
});

t.test('the quickest that overtook it counts', async (t) => {
  const { clock, begin, done } = stage({ giveUp: { times: 1, leastMs: 30 * second } });
  const stuck = begin({ deadlineMs: 8 * second });
  await done(1, second);
  const slow = begin();
  await clock.advance(25 * second);
  slow.end();
  await clock.advance(minute);
  t.equal(stuck.told.at(-1), 'given up at 30');
});

t.test('one timer is enough, and what cannot be given up needs none for that', async (t) => {
  const { clock, begin } = stage({ giveUp: byDefault });
  begin();
  begin({ deadlineMs: 4 * second });
  t.equal(clock.pending, 1);
  const cannot = stage({ giveUp: byDefault });
  cannot.begin({ canBeGivenUp: false });
  await cannot.done(1, second);
  await cannot.clock.advance(10 * second);
  t.equal(cannot.clock.pending, 0);
});

t.test('what hangs is told with since when, and only that', async (t) => {
  const { clock, hung, begin, done } = stage();
  const startMs = clock.now();
  await done(1, second);
  const [stuck] = [begin(), begin({ kind: 'start', deadlineMs: minute })];
  t.equal(hung.since.size, 0);
  await clock.advance(3 * second);
  t.same([...hung.since.values()], [startMs + 3 * second]);
  t.equal([...hung.since.keys()][0]?.kind, 'podSandbox');
  stuck.end();
  t.equal(hung.since.size, 0);
});
