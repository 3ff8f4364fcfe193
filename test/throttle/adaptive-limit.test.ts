import fc from 'fast-check';
import t from 'tap';
import { AdaptiveLimit, type AdaptiveLimitOptions, type LimitMove } from '../../src/throttle/adaptive-limit.js';
import { Pressure, type Resource } from '../../src/throttle/pressure.js';
import type { WorkKind } from '../../src/throttle/work-queue.js';
import { ManualClock } from '../support/manual-clock.js';

const second = 1_000;

function stage(options: Partial<AdaptiveLimitOptions> = {}) {
  const clock = new ManualClock();
  const moves: LimitMove[] = [];
  const limit = new AdaptiveLimit(clock, {
    start: 8,
    least: 2,
    most: 20,
    decreaseFactor: 0.5,
    deadlineShare: 0.5,
    moved: (move) => moves.push(move),
    ...options,
  });
  const begin = (count: number, deadlineMs: number | undefined = 10 * second, kind: WorkKind = 'podSandbox') =>
    Array.from({ length: count }, () => limit.begin({ kind, deadlineMs }).ended);
  /** As much work as the limit allows, all of which takes as long. */
  const round = async (tookMs: number, deadlineMs?: number) => {
    const ends = begin(limit.value, deadlineMs);
    await clock.advance(tookMs);
    for (const end of ends) end(true);
  };
  return { clock, limit, moves, begin, round };
}

t.test('goes up by one for as much work as the limit is, ended in time while it was in use', async (t) => {
  const { limit, round, moves } = stage();
  await round(second);
  t.equal(limit.value, 9);
  await round(second);
  await round(second);
  t.equal(limit.value, 11);
  t.same(
    moves.map(({ from, to, reason }) => [from, to, reason]),
    [8, 9, 10].map((from) => [from, from + 1, 'work ends in time']),
  );
});

t.test('goes up to its most and no further', async (t) => {
  const { limit, round, moves } = stage({ most: 9 });
  for (let n = 0; n < 5; n += 1) await round(second);
  t.equal(limit.value, 9);
  t.equal(moves.length, 1, 'what does not move is not told');
});

t.test('does not go up while it is not in use', async (t) => {
  const { limit, begin } = stage();
  for (let n = 0; n < 50; n += 1) for (const end of begin(7)) end(true);
  t.equal(limit.value, 8);
});

t.test('work that failed says nothing about what the node can do', async (t) => {
  const { limit, begin } = stage();
  for (let n = 0; n < 50; n += 1) for (const end of begin(8)) end(false);
  t.equal(limit.value, 8);
});

t.test('goes down when work has taken more than the share of its deadline, and twice what is usual', async (t) => {
  const { limit, round, moves } = stage();
  await round(2.6 * second);
  await round(5.1 * second);
  t.equal(limit.value, 10);
  await round(5.3 * second);
  t.equal(limit.value, 5);
  t.match(moves.at(-1), {
    from: 10,
    to: 5,
    reason: 'work is late',
    detail: { kind: 'podSandbox', tookMs: 5.3 * second, deadlineMs: 10 * second },
  });
});

t.test('goes down for late work also before it is known what is usual', async (t) => {
  const { limit, round } = stage();
  await round(6 * second);
  t.equal(limit.value, 4);
});

t.test('goes down once for all work that had begun before, if it is not worse than late', async (t) => {
  const { clock, limit, begin } = stage();
  const ends = begin(40);
  await clock.advance(9 * second);
  for (const end of ends) end(true);
  t.equal(limit.value, 4);
});

t.test(
  'goes down again when as much has ended as the limit is, and work from before outlives its deadline',
  async (t) => {
    const { clock, limit, round, begin } = stage();
    await round(second);
    const ends = begin(9);
    await clock.advance(11 * second);
    const values = ends.map((end) => {
      end(true);
      return limit.value;
    });
    t.same(values, [4, 4, 4, 4, 2, 2, 2, 2, 2]);
  },
);

t.test('work that is late and began since takes it further down, to its least', async (t) => {
  const { limit, round, moves } = stage({ least: 3 });
  await round(second);
  const later: [tookMs: number, value: number][] = [
    [6 * second, 4],
    [13 * second, 3],
    [30 * second, 3],
  ];
  for (const [tookMs, value] of later) {
    await round(tookMs);
    t.equal(limit.value, value);
  }
  t.same(
    moves.map(({ to }) => to),
    [9, 4, 3],
    'what does not move is not told',
  );
});

t.test('it goes up when the last of as much has ended, not before', (t) => {
  const { limit, begin } = stage();
  const ends = begin(8);
  const values = ends.map((end) => {
    end(true);
    return limit.value;
  });
  t.same(values, [8, 8, 8, 8, 8, 8, 8, 9]);
  t.end();
});

t.test('just the share of its deadline is not late, and neither is just twice what is usual', async (t) => {
  const share = stage();
  await share.round(5 * second);
  t.equal(share.limit.value, 9);
  const usual = stage();
  await usual.round(3 * second);
  await usual.round(6 * second);
  t.equal(usual.limit.value, 10);
});

t.test('after it has gone down only what runs since shows whether it is in use', async (t) => {
  const { clock, limit, begin } = stage();
  const ends = begin(8);
  await clock.advance(6 * second);
  for (const [at, end] of ends.entries()) end(at === 7);
  t.equal(limit.value, 4);
  for (let n = 0; n < 20; n += 1) for (const end of begin(3)) end(true);
  t.equal(limit.value, 4);
});

t.test('work from before that took just its deadline does not take it down again', async (t) => {
  const { clock, limit, round, begin } = stage();
  await round(second);
  const ends = begin(9);
  await clock.advance(10 * second);
  for (const end of ends) end(true);
  t.equal(limit.value, 4);
});

t.test('it moves without being watched', async (t) => {
  const limit = new AdaptiveLimit(new ManualClock(), {
    start: 1,
    least: 1,
    most: 2,
    decreaseFactor: 0.5,
    deadlineShare: 0.5,
  });
  limit.begin({ kind: 'start' }).ended(true);
  t.equal(limit.value, 2);
});

t.test('work without a deadline is never late', async (t) => {
  const { clock, limit } = stage();
  const { ended: end } = limit.begin({ kind: 'start' });
  await clock.advance(3_600 * second);
  end(true);
  t.equal(limit.value, 8);
});

t.test('each kind of work has its own deadline, and its own usual time', async (t) => {
  const { clock, limit, begin } = stage();
  for (let n = 0; n < 8; n += 1) for (const end of begin(1, 10 * second)) end(true);
  const [podSandbox, start] = [...begin(1, 10 * second), ...begin(1, 2 * second, 'start')];
  await clock.advance(1.5 * second);
  podSandbox?.(true);
  t.equal(limit.value, 8);
  start?.(true);
  t.equal(limit.value, 4);
});

t.test('work that is slow whatever the limit takes it down once, then it goes up again', async (t) => {
  const { limit, round, moves } = stage();
  await round(12 * second);
  t.equal(limit.value, 4);
  for (let n = 0; n < 10; n += 1) await round(12 * second);
  t.equal(limit.value, 14);
  t.equal(moves.filter(({ reason }) => reason === 'work is late').length, 1);
});

t.test('work that becomes slow by itself takes it down twice at most', async (t) => {
  const { limit, round, moves } = stage({ start: 16 });
  for (let n = 0; n < 4; n += 1) await round(second);
  for (let n = 0; n < 10; n += 1) await round(12 * second);
  t.ok(moves.filter(({ reason }) => reason === 'work is late').length <= 2);
  t.ok(limit.value > 10, `it is ${limit.value}`);
});

t.test('one piece that was quick by chance does not make the others late', async (t) => {
  const { limit, begin, clock } = stage();
  for (let n = 0; n < 20; n += 1) {
    const [quick, ...others] = begin(limit.value, 4 * second);
    quick?.(true);
    await clock.advance(2.5 * second);
    for (const end of others) end(true);
  }
  t.ok(limit.value > 8, `it is ${limit.value}`);
});

t.test('work that hangs or fails late does not take it down: that may have reasons of its own', async (t) => {
  const { clock, limit, begin } = stage();
  begin(2);
  const failing = begin(2);
  await clock.advance(3_600 * second);
  for (const end of failing) end(false);
  t.equal(limit.value, 8);
});

t.test('for any course of work it stays between least and most, and leaves no timer when nothing runs', async (t) => {
  const course = fc.array(
    fc.record({ count: fc.integer({ min: 1, max: 30 }), tookMs: fc.nat(20_000), succeeded: fc.boolean() }),
    { maxLength: 30 },
  );
  await fc.assert(
    fc.asyncProperty(course, fc.integer({ min: 1, max: 10 }), async (played, least) => {
      const { clock, limit, begin } = stage({ least, start: 10, most: 12 });
      for (const { count, tookMs, succeeded } of played) {
        const ends = begin(count);
        await clock.advance(tookMs);
        for (const end of ends) end(succeeded);
        if (limit.value < least || limit.value > 12 || !Number.isInteger(limit.value)) return false;
      }
      return clock.pending === 0;
    }),
    { numRuns: 50 },
  );
  t.pass('held for every run');
});

/** A node on which something is short for some of the time, but `percent` says how much of it the kernel shows. */
function pressed(options: Partial<AdaptiveLimitOptions> = {}) {
  const percent: Record<Resource, number> = { cpu: 0, io: 0, memory: 0 };
  const stalled = { share: 0.5 };
  let reads = 0;
  const pressure = new Pressure({
    read: (resource) => {
      if (resource === 'cpu') reads += 1;
      return { avg10: percent[resource], stalledMs: on.clock.now() * stalled.share };
    },
    thresholds: { cpu: 60, io: 50, memory: 50 },
    unavailable: () => {},
  });
  const on = stage({ pressure, ...options });
  return { ...on, percent, stalled, reads: () => reads };
}

t.test('pressure over its threshold takes it down, once in the 10 s that the average looks back', async (t) => {
  const { limit, round, percent, moves } = pressed();
  await round(second);
  percent.io = 51;
  await round(second);
  await round(second);
  t.equal(limit.value, 4);
  for (let n = 0; n < 9; n += 1) await round(second);
  t.equal(limit.value, 4);
  for (let n = 0; n < 3; n += 1) await round(second);
  t.equal(limit.value, 2);
  const [, first] = moves;
  t.match(first, { reason: 'pressure', detail: { resource: 'io', percent: 51 } });
});

t.test('it does not go up under pressure', async (t) => {
  const { limit, round, percent } = pressed({ least: 8 });
  await round(second);
  percent.cpu = 61;
  for (let n = 0; n < 20; n += 1) await round(second);
  t.equal(limit.value, 8);
  percent.cpu = 60;
  for (let n = 0; n < 3; n += 1) await round(second);
  t.ok(limit.value > 8);
});

t.test('pressure that others make while the limit is not in use does not take it down', async (t) => {
  const { clock, limit, begin, percent } = pressed();
  percent.cpu = 100;
  for (let n = 0; n < 30; n += 1) {
    const ends = begin(3);
    await clock.advance(second);
    for (const end of ends) end(true);
  }
  t.equal(limit.value, 8);
});

t.test('pressure that was there before work began does not take it down', async (t) => {
  const { limit, round, percent } = pressed();
  percent.cpu = 100;
  for (let n = 0; n < 30; n += 1) await round(second);
  t.equal(limit.value, 20);
});

t.test('pressure that its own work has left behind still counts when more work comes', async (t) => {
  const { clock, limit, round, percent } = pressed({ most: 8 });
  for (let n = 0; n < 5; n += 1) await round(second);
  percent.cpu = 100;
  await clock.advance(5 * second);
  for (let n = 0; n < 5; n += 1) await round(second);
  t.equal(limit.value, 4);
});

t.test('work that begins just as the average has forgotten what ran before begins on a node of others', async (t) => {
  const { clock, limit, round, percent } = pressed({ most: 8 });
  await round(second);
  percent.cpu = 100;
  await clock.advance(10 * second);
  for (let n = 0; n < 5; n += 1) await round(second);
  t.equal(limit.value, 8);
});

t.test('pressure that comes while the limit is not in use does not take it down', async (t) => {
  const { clock, limit, begin, percent } = pressed();
  for (let n = 0; n < 30; n += 1) {
    const ends = begin(3);
    await clock.advance(second);
    for (const end of ends) end(true);
    percent.cpu = 100;
  }
  t.equal(limit.value, 8);
});

t.test(
  'pressure takes it down once as much has ended as it is, and again just when its window has passed',
  async (t) => {
    const { limit, round, percent } = pressed();
    percent.io = 0;
    const values: number[] = [];
    for (let n = 0; n < 13; n += 1) {
      await round(second);
      values.push(limit.value);
      percent.cpu = 100;
    }
    t.same(values, [9, 9, ...Array.from({ length: 10 }, () => 4), 2]);
  },
);

t.test('pressure counts from when just as much has ended as the limit is', async (t) => {
  const { clock, limit, begin, percent } = pressed({ most: 8 });
  const ends = begin(8);
  percent.cpu = 100;
  await clock.advance(second);
  t.equal(limit.value, 8, 'nothing has ended');
  for (const end of ends) end(true);
  begin(8);
  await clock.advance(second);
  t.equal(limit.value, 4);
});

t.test('a node is not idle in a second in which something ended', async (t) => {
  const { clock, limit, begin, stalled } = pressed();
  stalled.share = 0.09;
  const [first, other] = begin(8);
  await clock.advance(500);
  first?.(false);
  begin(1);
  await clock.advance(500);
  t.equal(limit.value, 8);
  other?.(false);
  begin(1);
  await clock.advance(second);
  t.equal(limit.value, 16, 'it ended just before');
});

t.test('doubles in each second in which the node is idle though all that may run does', async (t) => {
  const { clock, limit, begin, stalled, moves } = pressed();
  stalled.share = 0.09;
  begin(limit.value);
  const values: number[] = [];
  for (let n = 0; n < 4; n += 1) {
    const before = limit.value;
    await clock.advance(second);
    values.push(limit.value);
    begin(limit.value - before);
  }
  t.same(values, [16, 20, 20, 20]);
  t.match(moves[0], { from: 8, to: 16, reason: 'the node is idle' });
});

t.test(
  'an idle node is no reason to go up where less runs than may, or where something is short at times',
  async (t) => {
    const { clock, limit, begin, stalled } = pressed();
    begin(7);
    stalled.share = 0;
    await clock.advance(3 * second);
    t.equal(limit.value, 8);
    begin(1);
    stalled.share = 0.11;
    await clock.advance(second);
    await clock.advance(3 * second);
    t.equal(limit.value, 8);
  },
);

t.test('pressure is read at most once a second, and only while work runs', async (t) => {
  const { clock, begin, reads } = pressed();
  await clock.advance(60 * second);
  t.equal(reads(), 0);
  for (let n = 0; n < 100; n += 1) {
    const ends = begin(3);
    await clock.advance(100);
    for (const end of ends) end(true);
  }
  t.ok(reads() >= 10 && reads() <= 11, `${reads()} times in 10 s`);
  await clock.advance(60 * second);
  t.ok(reads() <= 11);
  t.equal(clock.pending, 0);
});

t.test('closing it ends its timers', async (t) => {
  const { clock, begin, limit } = pressed();
  const ends = begin(3);
  limit.close();
  for (const end of ends) end(true);
  t.equal(clock.pending, 0);
  pressed().limit.close();
});

/** So much work begins, and is found to hang at once. @returns The ends. */
function hang(limit: AdaptiveLimit, count: number) {
  const all = Array.from({ length: count }, () => limit.begin({ kind: 'podSandbox', deadlineMs: 10 * second }));
  for (const { hangs } of all) hangs();
  return all.map(({ ended }) => ended);
}

t.test('work that hangs does not keep the limit in use, and is not taken off twice when it ends', async (t) => {
  const { limit, begin } = stage();
  const hanging = hang(limit, 4);
  for (let n = 0; n < 20; n += 1) for (const end of begin(7)) end(true);
  t.equal(limit.value, 8);
  for (const end of hanging) end(false);
  for (let n = 0; n < 20; n += 1) for (const end of begin(7)) end(true);
  t.equal(limit.value, 8);
  for (const end of begin(8)) end(true);
  t.equal(limit.value, 9);
});

t.test('what it went up by while work hung in its place is taken back when that has none any more', async (t) => {
  const { clock, limit, stalled, moves } = pressed({ most: 12 });
  stalled.share = 0;
  const all = Array.from({ length: 8 }, () => limit.begin({ kind: 'podSandbox', deadlineMs: 10 * second }));
  await clock.advance(second);
  t.equal(limit.value, 12);
  const values = all.map(({ hangs }) => {
    hangs();
    return limit.value;
  });
  t.same(values, [11, 10, 9, 8, 8, 8, 8, 8], 'no more than that');
  t.match(moves.at(-1), { from: 9, to: 8, reason: 'work hangs' });
});

t.test('what it went up by before it went down is not taken back once more', async (t) => {
  const { clock, limit, stalled, begin } = pressed();
  stalled.share = 0;
  const ends = begin(8);
  await clock.advance(second);
  t.equal(limit.value, 16);
  stalled.share = 0.5;
  await clock.advance(5 * second);
  for (const end of ends) end(true);
  t.equal(limit.value, 8);
  hang(limit, 4);
  t.equal(limit.value, 8);
});

t.test('pressure that work made which hangs now still counts when more work comes', async (t) => {
  const { clock, limit, round, percent } = pressed({ most: 8 });
  await round(second);
  const slow = Array.from({ length: 8 }, () => limit.begin({ kind: 'podSandbox' }));
  await clock.advance(30 * second);
  percent.cpu = 100;
  for (const { hangs } of slow) hangs();
  for (let n = 0; n < 5; n += 1) await round(second);
  t.equal(limit.value, 4);
});

t.test('the node is short of something where pressure says so, and never without it', async (t) => {
  const { clock, limit, begin, stalled } = pressed();
  t.equal(limit.isShort, false);
  stalled.share = 0.61;
  begin(1);
  await clock.advance(2 * second);
  t.equal(limit.isShort, true);
  t.equal(stage().limit.isShort, false);
});

t.test('a quarter may be lent, but one place, of a limit of one none, and none while the node is short', async (t) => {
  for (const [start, lendable] of [
    [1, 0],
    [2, 1],
    [8, 2],
    [11, 2],
    [12, 3],
  ] as const) {
    t.equal(stage({ start, least: 1 }).limit.lendable, lendable, String(start));
  }
  const { clock, limit, begin, stalled } = pressed();
  stalled.share = 0.61;
  begin(1);
  await clock.advance(2 * second);
  t.equal(limit.lendable, 0);
});
