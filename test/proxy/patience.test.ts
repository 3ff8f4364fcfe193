import t from 'tap';
import { Patience } from '../../src/proxy/patience.js';
import type { TakenCall } from '../../src/proxy/taken-call.js';
import { ManualClock } from '../support/manual-clock.js';

/** A call of which only the deadline and the end matter. */
function call(clock: ManualClock, timeoutMs: number | undefined) {
  const abort = new AbortController();
  const taken: TakenCall = {
    path: '/runtime.v1.RuntimeService/RunPodSandbox',
    metadata: [],
    deadlineMs: timeoutMs === undefined ? undefined : clock.now() + timeoutMs,
    request: Buffer.alloc(0),
    signal: abort.signal,
    keep() {},
    sendInitialMetadata() {},
    send: async () => {},
    end: async () => true,
  };
  return { taken, over: () => abort.abort() };
}

for (const [timeoutMs, keptMs] of [
  [240_000, 2_000],
  [120_000, 2_000],
  [8_000, 800],
  [4_000, 400],
  [1_000, 100],
  [400, 100],
  [100, 50],
] as const) {
  t.test(`18: of ${timeoutMs} ms, ${keptMs} are kept for telling what is waited for`, async (t) => {
    const clock = new ManualClock();
    const patience = new Patience(call(clock, timeoutMs).taken, clock);
    await clock.advance(timeoutMs - keptMs - 1);
    t.equal(patience.signal.aborted, false);
    await clock.advance(1);
    t.equal(patience.signal.aborted, true);
    t.equal(patience.hasRunOut, true);
  });
}

t.test('18: a call that is over has nothing to be told', async (t) => {
  const clock = new ManualClock();
  const { taken, over } = call(clock, 4_000);
  const patience = new Patience(taken, clock);
  over();
  t.equal(patience.signal.aborted, true);
  t.equal(patience.hasRunOut, false);
});

t.test('18: a call that was over before is over', async (t) => {
  const clock = new ManualClock();
  const { taken, over } = call(clock, undefined);
  over();
  const patience = new Patience(taken, clock);
  t.equal(patience.signal.aborted, true);
  t.equal(patience.hasRunOut, false);
});

t.test('18: who has no deadline waits', async (t) => {
  const clock = new ManualClock();
  const patience = new Patience(call(clock, undefined).taken, clock);
  t.equal(clock.pending, 0);
  await clock.advance(10_000_000);
  t.equal(patience.signal.aborted, false);
  patience.close();
});

t.test('18: a call whose deadline has passed is told at once', async (t) => {
  const clock = new ManualClock();
  const { taken } = call(clock, 4_000);
  clock.skip(5_000);
  const patience = new Patience(taken, clock);
  t.equal(patience.hasRunOut, false);
  await clock.advance(0);
  t.equal(patience.hasRunOut, true);
});

t.test('an answered call leaves no timer and no listener', async (t) => {
  const clock = new ManualClock();
  const { taken, over } = call(clock, 4_000);
  const patience = new Patience(taken, clock);
  patience.close();
  t.equal(clock.pending, 0);
  over();
  t.equal(patience.signal.aborted, false);
});
