/** Nodes on which work hangs, for long, again and again, or much of it: what becomes of the rest. */
import { setMaxListeners } from 'node:events';
import t from 'tap';
import { Contention } from '../../src/harness/runtime/contention.js';
import { AdaptiveLimit } from '../../src/throttle/adaptive-limit.js';
import { Admission } from '../../src/throttle/admission.js';
import type { GiveUpOptions } from '../../src/throttle/hung-work.js';
import type { Work } from '../../src/throttle/work-queue.js';
import { ManualClock } from '../support/manual-clock.js';

const second = 1_000;
const never = new AbortController().signal;
setMaxListeners(0, never);

interface Job {
  beganMs: number | undefined;
  endedMs: number | undefined;
  givenUpMs: number | undefined;
}

/** A node of 2 cores with all defaults, but for pressure: there is none to be read. */
function setUp({ hungAtMost = 64, giveUp }: { hungAtMost?: number; giveUp?: GiveUpOptions } = {}) {
  const clock = new ManualClock();
  const limit = new AdaptiveLimit(clock, { start: 8, least: 2, most: 64, decreaseFactor: 0.6, deadlineShare: 0.5 });
  const admission = new Admission(limit, clock, {
    handlerLimits: new Map(),
    pace: undefined,
    ownPlaces: 4,
    hung: { deadlineShare: 0.5, most: hungAtMost, giveUp },
  });
  const begin = (takes: () => Promise<void>, more: Partial<Work> = {}): Job => {
    const job: Job = { beganMs: undefined, endedMs: undefined, givenUpMs: undefined };
    const admitted = admission.admit({
      kind: 'podSandbox',
      deadlineMs: 240 * second,
      giveUp: () => {
        job.givenUpMs = clock.now();
      },
      async run() {
        job.beganMs = clock.now();
        await takes();
        job.endedMs = clock.now();
        return true;
      },
      ...more,
    });
    admitted.catch(() => {});
    return job;
  };
  const lasting = (ms: number) => () => new Promise<void>((resolve) => clock.after(ms, resolve));
  return { clock, limit, admission, begin, lasting };
}

/** What waits for an agent that is away. */
function agent() {
  let back = () => {};
  const isBack = new Promise<void>((resolve) => {
    back = resolve;
  });
  return { isBack: () => isBack, back: () => back() };
}

t.test('an agent that was away for 5 min and is away again keeps other pods waiting for a minute or so', async (t) => {
  const { clock, begin, lasting } = setUp();
  for (let n = 0; n < 16; n += 1) begin(lasting(300));
  await clock.advance(5 * second);
  const first = agent();
  for (let n = 0; n < 20; n += 1) begin(first.isBack);
  await clock.advance(300 * second);
  first.back();
  await clock.advance(second);
  const again = agent();
  for (let n = 0; n < 16; n += 1) begin(again.isBack);
  const askedMs = clock.now();
  const other = begin(lasting(300));
  await clock.advance(900 * second);
  const waitedMs = (other.beganMs ?? Number.POSITIVE_INFINITY) - askedMs;
  t.ok(waitedMs <= 90 * second, `${waitedMs / second} s`);
});

t.test('one pod that took 90 s does not let 16 that hang keep others waiting for minutes', async (t) => {
  const { clock, begin, lasting } = setUp();
  for (let n = 0; n < 15; n += 1) begin(lasting(300));
  begin(lasting(90 * second));
  await clock.advance(100 * second);
  const away = agent();
  for (let n = 0; n < 16; n += 1) begin(away.isBack);
  const askedMs = clock.now();
  const other = begin(lasting(300));
  await clock.advance(900 * second);
  const waitedMs = (other.beganMs ?? Number.POSITIVE_INFINITY) - askedMs;
  t.ok(waitedMs <= 30 * second, `${waitedMs / second} s`);
});

/** 110 pods at once on a node that gets slower the more it does, and has no PSI. Nothing hangs. */
async function boot(hungAtMost: number) {
  const { clock, limit, begin } = setUp({ hungAtMost });
  const contention = new Contention(clock, { coefficient: 0.1, cores: 2 });
  let left = 110;
  let mostBeyond = 0;
  for (let n = 0; n < 110; n += 1) {
    begin(async () => {
      await contention.carryOut(8 * second * (0.8 + (n % 5) / 10), never);
      left -= 1;
    });
  }
  const beganMs = clock.now();
  while (left > 0) {
    await clock.advance(second);
    mostBeyond = Math.max(mostBeyond, contention.running - limit.value);
  }
  return { tookMs: clock.now() - beganMs, mostBeyond };
}

t.test('pods that are slow, and do not hang, go by the limit on a node without PSI', async (t) => {
  const withOut = await boot(0);
  const { tookMs, mostBeyond } = await boot(64);
  t.ok(mostBeyond <= 16, `${mostBeyond} beyond the limit`);
  t.ok(tookMs <= 1.25 * withOut.tookMs, `${(tookMs / withOut.tookMs).toFixed(2)} of the time`);
});

t.test('six pods a minute that hang and are deleted do not stop the node after some minutes', async (t) => {
  const { clock, begin, lasting } = setUp({ giveUp: { times: 10, leastMs: undefined } });
  /** Until it is cancelled. */
  const hangsForgotten = () => {
    const beganMs = clock.now();
    let cancel = () => {};
    const isCancelled = new Promise<void>((_, reject) => {
      cancel = () => reject(new Error('cancelled'));
    });
    begin(() => isCancelled, {
      get isForgotten() {
        return clock.now() - beganMs > 60 * second;
      },
      giveUp: () => cancel(),
    });
  };
  const waited: number[] = [];
  for (let minute = 0; minute < 60; minute += 1) {
    for (let n = 0; n < 6; n += 1) hangsForgotten();
    await clock.advance(30 * second);
    const askedMs = clock.now();
    const other = begin(lasting(300));
    await clock.advance(30 * second);
    waited.push((other.beganMs ?? Number.POSITIVE_INFINITY) - askedMs);
  }
  t.ok(Math.max(...waited) <= 10 * second, waited.map((ms) => Math.round(ms / second)).join(' '));
});

t.test('110 pods that hang do not keep the one on the host network from beginning that would free them', async (t) => {
  const { clock, begin, lasting } = setUp();
  for (let n = 0; n < 110; n += 1) begin(lasting(900 * second));
  const askedMs = clock.now();
  const freeing = begin(lasting(300), { isQuick: true });
  await clock.advance(240 * second);
  t.ok((freeing.beganMs ?? Number.POSITIVE_INFINITY) - askedMs <= 60 * second);
});

t.test('what would end within a second is not given up since a newer one was quicker', async (t) => {
  const { clock, begin, lasting } = setUp({ giveUp: { times: 10, leastMs: 30 * second } });
  for (let n = 0; n < 16; n += 1) begin(lasting(300));
  await clock.advance(5 * second);
  const away = agent();
  const hung = Array.from({ length: 20 }, (_, n) =>
    begin(async () => {
      await away.isBack();
      await lasting(300 + 20 * n)();
    }),
  );
  await clock.advance(60 * second);
  begin(async () => {
    await away.isBack();
    await lasting(200)();
  });
  await clock.advance(second);
  away.back();
  await clock.advance(5 * second);
  t.equal(hung.filter(({ givenUpMs }) => givenUpMs !== undefined).length, 0);
});

t.test('pods that are slow, all alike, are not given up since one on the host network was quick', async (t) => {
  const { clock, begin, lasting } = setUp({ giveUp: { times: 10, leastMs: undefined } });
  const own = { deadlineMs: 8 * second };
  const slow = Array.from({ length: 6 }, () => begin(lasting(40 * second), own));
  begin(lasting(300), { ...own, isQuick: true });
  await clock.advance(60 * second);
  t.equal(slow.filter(({ givenUpMs }) => givenUpMs !== undefined).length, 0);
});

t.test('pods of the node’s own that hang do not keep back the container of the agent they wait for', async (t) => {
  const { clock, begin, lasting } = setUp();
  const importance = 'critical';
  for (let n = 0; n < 16; n += 1) begin(lasting(300));
  await clock.advance(5 * second);
  for (let n = 0; n < 24; n += 1) begin(lasting(900 * second));
  await clock.advance(10 * second);
  for (let n = 0; n < 8; n += 1) begin(lasting(900 * second), { importance });
  await clock.advance(5 * second);
  const sandbox = begin(lasting(300), { importance, isQuick: true });
  await clock.advance(second);
  t.ok(sandbox.endedMs, 'its pod sandbox is there');
  const container = begin(lasting(300), { importance, kind: 'container' });
  await clock.advance(second);
  t.ok(container.endedMs);
});

t.test('where pod sandboxes hang, a start that hangs does not keep back other starts', async (t) => {
  const { clock, begin, lasting } = setUp();
  const start = { kind: 'start', deadlineMs: 120 * second } as const;
  for (let n = 0; n < 16; n += 1) {
    begin(lasting(300));
    begin(lasting(100), start);
  }
  await clock.advance(10 * second);
  for (let n = 0; n < 40; n += 1) begin(lasting(900 * second));
  await clock.advance(30 * second);
  begin(lasting(300 * second), start);
  const others = Array.from({ length: 5 }, () => begin(lasting(100), start));
  await clock.advance(10 * second);
  t.equal(others.filter(({ endedMs }) => endedMs !== undefined).length, 5);
});
