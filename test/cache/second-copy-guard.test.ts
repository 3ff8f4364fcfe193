import { getEventListeners } from 'node:events';
import t from 'tap';
import type { ContainerFingerprint } from '../../src/cache/fingerprint.js';
import {
  type ContainerNow,
  SecondCopyGuard,
  StartedMeanwhileError,
  type WatchedStart,
} from '../../src/cache/second-copy-guard.js';
import { ManualClock, settle } from '../support/manual-clock.js';

const keptMs = 900_000;

/** As far as the guard looks at it. */
function creation(attempt: number, family = 'app'): ContainerFingerprint {
  return { kind: 'container', family, identity: { attempt } } as ContainerFingerprint;
}

type Looked = ContainerNow | Error;

function setUp() {
  const clock = new ManualClock();
  const guard = new SecondCopyGuard(clock);
  const told: string[] = [];
  const looks: { signal: AbortSignal; end(found: Looked): void }[] = [];
  /** What looks find, in order; when there is none, each is ended by hand. */
  const found: Looked[] = [];

  const look = (signal: AbortSignal) =>
    new Promise<ContainerNow>((resolve, reject) => {
      const end = (now: Looked) => (now instanceof Error ? reject(now) : resolve(now));
      const next = found.shift();
      if (next === undefined) looks.push({ signal, end });
      else end(next);
    });

  const watch = (attempt: number, family = 'app') =>
    guard.watch({
      containerId: `${family}-${attempt}`,
      family,
      attempt,
      sinceMs: clock.now(),
      keptMs,
      look,
      guarded: (askedAttempt, now) => told.push(`guarded ${askedAttempt} ${now?.state}`),
      letGo: (error) => told.push(`let go ${error}`),
    });

  /** A start that nobody waits for any more. */
  const left = (attempt: number, family?: string) => {
    const watched = watch(attempt, family);
    watched.attended(false);
    return watched;
  };

  /** Asks for the creation of an attempt. */
  const ask = (attempt: number, family?: string, signal = never) => {
    const asked: { outcome: unknown } = { outcome: 'waits' };
    guard.pass(creation(attempt, family), signal).then(
      () => {
        asked.outcome = 'goes';
      },
      (error) => {
        asked.outcome = error;
      },
    );
    return asked;
  };

  return { clock, guard, told, looks, found, watch, left, ask };
}

const never = new AbortController().signal;
const running: ContainerNow = { state: 'running' };

t.test('12: a creation waits for a start of a lower attempt that nobody waits for', async (t) => {
  const { left, ask, guard, clock, looks } = setUp();
  clock.skip(7);
  left(0);
  const next = ask(1);
  await settle();
  t.equal(next.outcome, 'waits');
  t.equal(looks.length, 0, 'there is nothing to see yet');
  t.strictSame(guard.inTheWay(creation(1)), { containerId: 'app-0', attempt: 0, sinceMs: 1_007 });
});

t.test('12: a start that goes through refuses the creation that waits, and says that the container runs', async (t) => {
  const { left, ask, found, told } = setUp();
  const start = left(0);
  const next = ask(1);
  found.push(running);
  start.succeeded();
  await settle();
  t.type(next.outcome, StartedMeanwhileError);
  t.equal(
    String(next.outcome),
    'StartedMeanwhileError: container app-0 (attempt 0) was started meanwhile and is running: attempt 1 is not made',
  );
  t.strictSame(told, ['guarded 1 running']);
});

t.test(
  '12: what has ended meanwhile refuses the creation as well, and the text says what the container is at',
  async (t) => {
    const texts: [Looked, RegExp][] = [
      [{ state: 'exited', exitCode: 0, ranMs: 3_400 }, /was started meanwhile and has exited with code 0 after 3 s: /],
      [{ state: 'exited', exitCode: 137 }, /and has exited with code 137: /],
      [{ state: 'exited' }, /and has exited with code unknown: /],
      [{ state: 'gone' }, /was started meanwhile and is there no more: /],
      [{ state: 'unknown' }, /was started meanwhile; the runtime does not know its state: /],
      [new Error('away'), /was started meanwhile; its state could not be seen: /],
    ];
    for (const [now, text] of texts) {
      const { left, ask, found } = setUp();
      left(0).succeeded();
      found.push(now);
      const next = ask(1);
      await settle();
      t.type(next.outcome, StartedMeanwhileError);
      t.match(String(next.outcome), text);
    }
  },
);

t.test('12: the refusal does not wait for longer than 10 s for a look that only completes its text', async (t) => {
  const { left, ask, clock, looks } = setUp();
  left(0).succeeded();
  const next = ask(1);
  await clock.advance(9_999);
  t.equal(next.outcome, 'waits');
  await clock.advance(1);
  t.match(String(next.outcome), /its state could not be seen/);
  t.equal(looks[0]?.signal.aborted, true);

  const quick = setUp();
  quick.left(0).succeeded();
  quick.found.push(running);
  quick.ask(1);
  await settle();
  t.equal(quick.clock.pending, 0, 'a look in time leaves no timer');
});

t.test('12: a look that decides takes as long as the runtime does', async (t) => {
  const { left, ask, clock, looks } = setUp();
  left(0).failedUnclearly();
  const next = ask(1);
  await clock.advance(60_000);
  t.equal(next.outcome, 'waits');
  looks[0]?.end(running);
  await settle();
  t.type(next.outcome, StartedMeanwhileError);
});

t.test('12: each start refuses once, and then the next attempt is made', async (t) => {
  const { left, ask, found, guard } = setUp();
  left(0).succeeded();
  found.push(running);
  const first = ask(1);
  await settle();
  t.type(first.outcome, StartedMeanwhileError);
  t.equal(guard.inTheWay(creation(1)), undefined);
  const second = ask(1);
  await settle();
  t.equal(second.outcome, 'goes');
  t.equal(guard.sizes.containers, 0);
});

t.test('12: a refusal that nobody heard does not count', async (t) => {
  const { left, ask, found, guard, told } = setUp();
  const start = left(0);
  start.succeeded();
  found.push(running, running);
  const first = ask(1);
  await settle();
  if (!(first.outcome instanceof StartedMeanwhileError)) return t.fail('not refused');
  first.outcome.unheard();
  t.equal(guard.inTheWay(creation(1))?.containerId, 'app-0');
  const second = ask(1);
  await settle();
  if (!(second.outcome instanceof StartedMeanwhileError)) return t.fail('not refused again');
  start.told();
  second.outcome.unheard();
  t.equal(guard.inTheWay(creation(1)), undefined, 'what was told meanwhile stays out');
  t.strictSame(told, ['guarded 1 running', 'guarded 1 running'], 'each is said once');
  t.equal(guard.sizes.containers, 0);
});

t.test('12: a start whose answer is known to have arrived is not held against a creation', async (t) => {
  const { watch, ask, guard } = setUp();
  const start = watch(0);
  start.succeeded();
  t.equal(guard.inTheWay(creation(1))?.attempt, 0, 'answered, and not known to have arrived');
  start.told();
  const next = ask(1);
  await settle();
  t.equal(next.outcome, 'goes');
  t.equal(guard.sizes.containers, 0);
});

t.test(
  '12: a creation that waited is refused also where the answer of the start arrives while it is looked at',
  async (t) => {
    const { left, ask, looks } = setUp();
    const start = left(0);
    const next = ask(1);
    start.attended(true);
    start.succeeded();
    start.told();
    await settle();
    t.equal(next.outcome, 'waits');
    looks[0]?.end(running);
    await settle();
    t.type(next.outcome, StartedMeanwhileError);
    const later = ask(1);
    await settle();
    t.equal(later.outcome, 'goes', 'whoever asked for the start knows');
  },
);

t.test('12: a start is in the way from the moment its last waiter leaves, and not before', async (t) => {
  const { watch, ask, guard } = setUp();
  const start = watch(0);
  const early = ask(1);
  await settle();
  t.equal(early.outcome, 'goes');
  start.attended(false);
  t.equal(guard.inTheWay(creation(1))?.attempt, 0);
  start.attended(true);
  t.equal(guard.inTheWay(creation(1)), undefined);
});

t.test('12: a creation that waits is not let go by a repeat of the start', async (t) => {
  const { left, ask, found, guard } = setUp();
  const start = left(0);
  const next = ask(1);
  start.attended(true);
  await settle();
  t.equal(next.outcome, 'waits');
  t.equal(guard.inTheWay(creation(1))?.attempt, 0, 'nor is another one');
  found.push(running);
  start.succeeded();
  await settle();
  t.type(next.outcome, StartedMeanwhileError);
});

t.test(
  '12: a start that failed in the container’s own way, or whose container has ended, lets creations go at once',
  async (t) => {
    const inFlight = setUp();
    const first = inFlight.left(0);
    const next = inFlight.ask(1);
    first.over();
    await settle();
    t.equal(next.outcome, 'goes');
    t.equal(inFlight.guard.sizes.containers, 0);

    const looked = setUp();
    const second = looked.left(0);
    second.succeeded();
    const other = looked.ask(1);
    await settle();
    t.equal(looked.looks.length, 1);
    second.over();
    await settle();
    t.equal(other.outcome, 'goes', 'also while it is looked at');
    looked.looks[0]?.end(running);
    await settle();
    t.strictSame(looked.told, []);
    t.equal(looked.guard.sizes.containers, 0);
  },
);

t.test('12: a start that went through and is CREATED all the same is not in the way', async (t) => {
  const { left, ask, found, guard } = setUp();
  left(0).succeeded();
  found.push({ state: 'created' });
  const next = ask(1);
  await settle();
  t.equal(next.outcome, 'goes');
  t.equal(guard.sizes.containers, 0);
});

t.test('12: after a start that failed unclearly the container decides', async (t) => {
  for (const now of [{ state: 'created' }, { state: 'gone' }, { state: 'exited', neverRan: true }] as const) {
    const { left, ask, found, guard } = setUp();
    left(0).failedUnclearly();
    found.push(now);
    const next = ask(1);
    await settle();
    t.equal(next.outcome, 'goes', now.state);
    t.equal(guard.sizes.containers, 0);
  }
  for (const state of ['running', 'exited', 'unknown'] as const) {
    const { left, ask, found } = setUp();
    const start = left(0);
    const next = ask(1);
    found.push({ state });
    start.failedUnclearly();
    await settle();
    t.type(next.outcome, StartedMeanwhileError, state);
  }
});

t.test(
  '12: where the container cannot be seen either, the creation fails with that, three times at most',
  async (t) => {
    const { left, ask, found, told, guard } = setUp();
    left(0).failedUnclearly();
    for (const text of ['first', 'second', 'third']) {
      t.ok(guard.inTheWay(creation(1)));
      found.push(new Error(text));
      const next = ask(1);
      await settle();
      t.equal(String(next.outcome), `Error: ${text}`);
    }
    t.strictSame(told, ['let go Error: third'], 'and it is said');
    const fourth = ask(1);
    await settle();
    t.equal(fourth.outcome, 'goes');
    t.equal(guard.sizes.containers, 0);
  },
);

t.test('12: a start whose container has ended while it was looked at in vain is not said to be let go', async (t) => {
  const { left, ask, looks, told } = setUp();
  const start = left(0);
  start.failedUnclearly();
  for (const n of [0, 1, 2]) {
    ask(1);
    await settle();
    if (n === 2) start.over();
    looks[n]?.end(new Error('away'));
    await settle();
  }
  t.strictSame(told, []);
});

t.test('12: creations that wait for the same look hear the same, and cost one', async (t) => {
  const { left, ask, looks } = setUp();
  left(0).failedUnclearly();
  const asked = [ask(1), ask(2)];
  await settle();
  asked.push(ask(3));
  await settle();
  t.equal(looks.length, 1);
  looks[0]?.end(running);
  await settle();
  t.match(
    asked.map(({ outcome }) => String(outcome)),
    [/attempt 1 is not made/, /attempt 2 is not made/, /attempt 3 is not made/],
  );
});

t.test('12: a look that failed counts for the start, however many creations wait for it', async (t) => {
  const { left, ask, looks, told } = setUp();
  left(0).failedUnclearly();
  const asked = [ask(1), ask(2), ask(3)];
  await settle();
  looks[0]?.end(new Error('away'));
  await settle();
  t.strictSame(
    asked.map(({ outcome }) => String(outcome)),
    ['Error: away', 'Error: away', 'Error: away'],
  );
  t.strictSame(told, []);
});

t.test('12: a creation that leaves hears its own reason, and does not use up the refusal', async (t) => {
  const { left, ask, looks, guard } = setUp();
  const start = left(0);
  const leave = new AbortController();
  const next = ask(1, 'app', leave.signal);
  await settle();
  leave.abort(new Error('not wanted'));
  await settle();
  t.equal(String(next.outcome), 'Error: not wanted');
  start.succeeded();
  t.equal(looks.length, 0, 'nobody asks');

  const again = new AbortController();
  const other = ask(1, 'app', again.signal);
  await settle();
  again.abort(new Error('not wanted'));
  looks[0]?.end(running);
  await settle();
  t.equal(String(other.outcome), 'Error: not wanted');
  t.ok(guard.inTheWay(creation(1)));

  const patient = new AbortController();
  ask(1, 'app', patient.signal);
  start.over();
  await settle();
  t.equal(getEventListeners(patient.signal, 'abort').length, 0, 'whoever has been told is not heard any more');
});

t.test('12: a creation that is gone already costs no look', async (t) => {
  const { left, ask, looks } = setUp();
  left(0).succeeded();
  const gone = ask(1, 'app', AbortSignal.abort(new Error('gone before')));
  await settle();
  t.equal(String(gone.outcome), 'Error: gone before');
  t.equal(looks.length, 0);
});

t.test('12: a creation waits for every lower attempt, and for none that is not lower', async (t) => {
  const { left, ask, guard } = setUp();
  const [second, first, third] = [left(2), left(1), left(3)];
  const next = ask(3);
  await settle();
  second.over();
  await settle();
  t.equal(next.outcome, 'waits');
  first.over();
  await settle();
  t.equal(next.outcome, 'goes');
  t.equal(guard.inTheWay(creation(3)), undefined);
  t.equal(guard.inTheWay(creation(4))?.attempt, 3);
  third.over();
});

t.test('12: other containers are not kept waiting', async (t) => {
  const { left, ask, guard } = setUp();
  left(0, 'app');
  const other = ask(1, 'sidecar');
  await settle();
  t.equal(other.outcome, 'goes');
  t.equal(guard.inTheWay(creation(1, 'sidecar')), undefined);
});

t.test('12: a start is held against creations for as long as it can be answered again', async (t) => {
  const { left, guard, clock } = setUp();
  const start = left(0);
  clock.skip(2 * keptMs);
  t.ok(guard.inTheWay(creation(1)), 'it is in flight');
  start.succeeded();
  clock.skip(keptMs - 1);
  t.ok(guard.inTheWay(creation(1)));
  clock.skip(1);
  t.equal(guard.inTheWay(creation(1)), undefined);
});

t.test('12: what has ended does not end again', async (t) => {
  const { left, guard } = setUp();
  const start = left(0);
  start.over();
  start.succeeded();
  start.failedUnclearly();
  t.equal(guard.inTheWay(creation(1)), undefined);
  t.equal(guard.sizes.containers, 0);
});

t.test(
  '12: a creation passes a start of an unknown container, and then it is the start that does not go',
  async (t) => {
    const { guard, ask } = setUp();
    const settleStart = guard.unidentified();
    const next = ask(1);
    await settle();
    t.equal(next.outcome, 'goes', 'nobody waits for the identification of a start');
    t.equal(settleStart({ family: 'app', attempt: 0 }), false);
    t.strictSame(guard.sizes, { containers: 0, gone: 0 });
  },
);

t.test('12: a creation that was told that nothing is in its way counts as gone', async (t) => {
  const { guard } = setUp();
  const settleStart = guard.unidentified();
  t.equal(guard.inTheWay(creation(2)), undefined);
  t.equal(guard.inTheWay(creation(1)), undefined);
  t.equal(settleStart({ family: 'app', attempt: 1 }), false, 'the highest counts');
});

t.test(
  '12: a start of an unknown container goes where no higher attempt of that container went meanwhile',
  async (t) => {
    const { guard } = setUp();
    guard.inTheWay(creation(5));
    const early = guard.unidentified();
    guard.inTheWay(creation(5, 'sidecar'));
    guard.inTheWay(creation(0, 'job'));
    guard.inTheWay(creation(3, 'init'));
    const late = guard.unidentified();
    t.equal(late({ family: 'init', attempt: 0 }), true, 'it went before this one');
    t.equal(early({ family: 'app', attempt: 0 }), true, 'it went before both');
    const more = ['init', 'job'].map((family) => {
      const settleStart = guard.unidentified();
      guard.inTheWay(creation(3, family));
      return settleStart;
    });
    t.equal(more[0]?.({ family: 'init', attempt: 3 }), true, 'it is the same attempt');
    t.equal(more[1]?.(undefined), true, 'nobody can say');
    t.strictSame(guard.sizes, { containers: 0, gone: 0 });
  },
);

t.test('12: of creations that went only those are remembered that a start may be of', async (t) => {
  const { guard } = setUp();
  const first = guard.unidentified();
  guard.inTheWay(creation(1, 'a'));
  guard.inTheWay(creation(1, 'b'));
  const second = guard.unidentified();
  guard.inTheWay(creation(2, 'a'));
  guard.inTheWay(creation(1, 'c'));
  t.equal(guard.sizes.gone, 3);
  first(undefined);
  t.equal(guard.sizes.gone, 2, 'a and c');
  second(undefined);
  t.equal(guard.sizes.gone, 0);
});

t.test('12: nothing is remembered of creations that no start can be held against', async (t) => {
  const { guard } = setUp();
  guard.inTheWay(creation(1));
  t.equal(guard.sizes.gone, 0, 'no start of an unknown container is about');
  const settleStart = guard.unidentified();
  guard.inTheWay(creation(0));
  t.equal(guard.sizes.gone, 0, 'no attempt is lower');
  settleStart(undefined);
});

t.test('12: a start says itself whether it is in the way', async (t) => {
  const { left, watch, ask, found, clock } = setUp();
  t.equal(watch(0).isInTheWay, false, 'somebody waits for it');
  const abandoned = left(0);
  t.equal(abandoned.isInTheWay, true);
  abandoned.over();
  t.equal(abandoned.isInTheWay, false, 'it is over');

  const [started, unclear] = [left(1, 'job'), left(1, 'init')];
  started.succeeded();
  unclear.failedUnclearly();
  t.equal(started.isInTheWay, true);
  t.equal(unclear.isInTheWay, true);
  unclear.told();
  t.equal(unclear.isInTheWay, false, 'it was told');
  found.push(running);
  ask(2, 'job');
  await settle();
  t.equal(started.isInTheWay, false, 'it has refused a creation');

  const past = left(0, 'sidecar');
  past.succeeded();
  clock.skip(keptMs);
  t.equal(past.isInTheWay, false, 'it is too long ago');
});

t.test(
  '12: a refusal that nobody heard does not bring back what was told while the container was looked at',
  async (t) => {
    const { left, ask, looks, guard } = setUp();
    const start = left(0);
    start.succeeded();
    const next = ask(1);
    await settle();
    start.told();
    looks[0]?.end(running);
    await settle();
    if (!(next.outcome instanceof StartedMeanwhileError)) return t.fail('not refused');
    next.outcome.unheard();
    t.equal(guard.inTheWay(creation(1)), undefined);
    t.equal(guard.sizes.containers, 0);
  },
);

t.test('12: a start that went through is held against creations, and whether its container ran at all', async (t) => {
  const { left, ask, found } = setUp();
  left(0).succeeded();
  found.push({ state: 'exited', neverRan: true });
  const next = ask(1);
  await settle();
  t.type(next.outcome, StartedMeanwhileError);
});

t.test('12: a creation that has been told hears nothing of its own end', async (t) => {
  const { left, ask, found } = setUp();
  left(0).succeeded();
  found.push(running);
  const leave = new AbortController();
  const next = ask(1, 'app', leave.signal);
  await settle();
  t.equal(getEventListeners(leave.signal, 'abort').length, 0);
  leave.abort();
  await settle();
  t.type(next.outcome, StartedMeanwhileError);
});

t.test('12: the guard costs a creation the same, however many starts there are', async (t) => {
  const { watch, left, guard, ask } = setUp();
  const watched: WatchedStart[] = [];
  for (let n = 0; n < 60_000; n++) watched.push(n % 2 === 0 ? left(0, `container-${n}`) : watch(0, `container-${n}`));
  let asked = 0;
  for (const each of watched) {
    Object.defineProperty(each, 'isInTheWay', {
      get: () => {
        asked += 1;
        return true;
      },
    });
  }
  t.equal(guard.inTheWay(creation(1, 'another')), undefined);
  const next = ask(1, 'another');
  await Promise.resolve();
  await Promise.resolve();
  t.equal(next.outcome, 'goes', 'within the same turn');
  t.equal(asked, 0, 'no start is looked at');
  guard.inTheWay(creation(1, 'container-7'));
  t.equal(asked, 1, 'and of its own container its own');
  for (const each of watched) each.over();
  t.equal(guard.sizes.containers, 0);
});
