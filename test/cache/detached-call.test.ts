import { getEventListeners } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import {
  again,
  CallTimeoutError,
  DetachedCall,
  DroppedError,
  failureStep,
  GivenUpError,
  PodSandboxEndedError,
  ShutDownError,
  untilAborted,
  WaiterLeftError,
} from '../../src/cache/detached-call.js';
import { ManualClock, settle } from '../support/manual-clock.js';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

const timeoutMs = 900;

/** Upstream work that a test ends. */
class Work {
  signal: AbortSignal | undefined;
  end: (result: string | typeof again) => void = () => {};
  fail: (error: unknown) => void = () => {};

  readonly perform = (signal: AbortSignal) => {
    this.signal = signal;
    return new Promise<string | typeof again>((resolve, reject) => {
      this.end = resolve;
      this.fail = reject;
    });
  };
}

/** What its owner and its waiters are told goes to `told`, in order. */
function setUp() {
  const clock = new ManualClock();
  const told: string[] = [];
  const call = new DetachedCall<string>(clock, {
    waiterJoined: (waiters) => void told.push(`joined ${waiters}`),
    waiterLeft: (waiters) => void told.push(`left ${waiters}`),
    succeeded: (result, waiters) => void told.push(`succeeded ${result} ${waiters}`),
    failed: (error, waiters) => void told.push(`failed ${String(error)} ${waiters}`),
  });
  const join = (name: string) => {
    const leave = new AbortController();
    const joined = call.join(leave.signal);
    joined.then(
      (result) => told.push(`${name}: ${result}`),
      (error) => told.push(`${name}: ${String(error)}`),
    );
    return { joined, leave, listeners: () => getEventListeners(leave.signal, 'abort').length };
  };
  const run = (work = new Work()) => {
    void call.run(timeoutMs, work.perform);
    return work;
  };
  return { clock, told, call, join, run };
}

t.test('every waiter gets the answer, after the owner has', async (t) => {
  const { call, told, join, run } = setUp();
  let isOver = false;
  void call.ended.then(() => {
    isOver = true;
  });
  const waiters = [join('a'), join('b')];
  t.equal(call.waiters, 2);
  const work = run();
  t.strictSame([call.phase, call.inFlight, call.result, call.runningSinceMs], ['running', true, undefined, 1_000]);
  await settle();
  t.equal(isOver, false);
  work.end('made');
  await settle();
  t.strictSame(told, ['joined 1', 'joined 2', 'succeeded made 2', 'a: made', 'b: made']);
  t.strictSame([call.phase, call.inFlight, call.result, call.waiters, isOver], ['succeeded', false, 'made', 0, true]);
  t.strictSame(
    waiters.map(({ listeners }) => listeners()),
    [0, 0],
    'nothing is left on their signals',
  );
});

t.test('every waiter gets the error, after the owner has', async (t) => {
  const { call, told, join, run } = setUp();
  const waiters = [join('a'), join('b')];
  run().fail(new Error('no'));
  await settle();
  t.strictSame(told.slice(2), ['failed Error: no 2', 'a: Error: no', 'b: Error: no']);
  t.strictSame([call.phase, call.inFlight, call.waiters], ['failed', false, 0]);
  await call.ended;
  t.strictSame(
    waiters.map(({ listeners }) => listeners()),
    [0, 0],
    'nothing is left on their signals',
  );
});

t.test('a call is made with nobody waiting, whatever comes of it', async (t) => {
  const one = setUp();
  one.run().end('made');
  const other = setUp();
  other.run().fail(new Error('no'));
  await settle();
  t.strictSame([...one.told, ...other.told], ['succeeded made 0', 'failed Error: no 0']);
});

t.test('nobody has to be told that a waiter joins', async (t) => {
  const silent = { waiterLeft: () => {}, succeeded: () => {}, failed: () => {} };
  const call = new DetachedCall<string>(new ManualClock(), silent);
  const joined = call.join(new AbortController().signal);
  void call.run(timeoutMs, async () => 'made');
  t.equal(await joined, 'made');
});

t.test('a waiter that leaves changes nothing for the call and the others', async (t) => {
  const { call, told, join, run, clock } = setUp();
  const a = join('a');
  join('b');
  const work = run();
  clock.skip(50);
  a.leave.abort();
  await t.rejects(a.joined, { name: 'WaiterLeftError', progress: undefined });
  t.strictSame([call.waiters, call.lastAskedMs, a.listeners()], [1, 1_050, 0]);
  t.equal(work.signal?.aborted, false);
  work.end('made');
  await settle();
  t.strictSame(told, [
    'joined 1',
    'joined 2',
    'left 1',
    'a: WaiterLeftError: the waiter left',
    'succeeded made 1',
    'b: made',
  ]);
});

t.test('a waiter whose time is up already does not join, but has asked', async (t) => {
  const { call, told, clock } = setUp();
  clock.skip(50);
  await t.rejects(call.join(AbortSignal.abort()), WaiterLeftError);
  t.strictSame([call.waiters, call.lastAskedMs, told], [0, 1_050, []]);
});

t.test('nobody asks for a call once it is longer ago than so many ms that somebody joined or left', async (t) => {
  const { call, join, clock } = setUp();
  t.strictSame([call.begunMs, call.lastAskedMs], [1_000, 1_000]);
  clock.skip(100);
  t.strictSame([call.unaskedFor(99), call.unaskedFor(100)], [true, false]);
  const { leave } = join('a');
  clock.skip(100);
  t.strictSame([call.lastAskedMs, call.unaskedFor(99)], [1_100, false], 'it is waited for');
  leave.abort();
  clock.skip(100);
  t.strictSame([call.unaskedFor(99), call.unaskedFor(100)], [true, false]);
});

t.test('at its timeout a call fails, and the runtime is told', async (t) => {
  const { call, join, run, clock } = setUp();
  const { joined } = join('a');
  const work = run();
  await clock.advance(timeoutMs - 1);
  t.equal(work.signal?.aborted, false);
  await clock.advance(1);
  await t.rejects(joined, {
    name: 'CallTimeoutError',
    message: 'the runtime did not answer within 900 ms (creation-timeout)',
  });
  t.equal(call.phase, 'failed');
  t.ok(work.signal?.reason instanceof CallTimeoutError);
  t.equal(work.signal && getEventListeners(work.signal, 'abort').length, 0);
});

t.test('no timer is left of a call that has ended', async (t) => {
  const { run, clock } = setUp();
  const work = run();
  t.equal(clock.pending, 1);
  work.end('made');
  await settle();
  t.equal(clock.pending, 0);
});

t.test('what is to be done anew is queued as if it had not begun, and its waiters wait on', async (t) => {
  const { call, told, join, run, clock } = setUp();
  const { joined } = join('a');
  run().end(again);
  await settle();
  t.strictSame([call.phase, call.inFlight, call.runningSinceMs, call.waiters], ['queued', true, undefined, 1]);
  t.equal(clock.pending, 0);
  clock.skip(50);
  const work = run();
  t.equal(call.runningSinceMs, 1_050);
  work.end('made');
  t.equal(await joined, 'made');
  t.strictSame(told, ['joined 1', 'succeeded made 1', 'a: made']);
});

t.test('what is given up is cut short and queued again', async (t) => {
  const { call, told, run } = setUp();
  const work = run();
  const error = new GivenUpError(1_234.5);
  call.giveUp(error);
  await settle();
  t.equal(work.signal?.reason, error);
  t.strictSame([call.phase, call.givenUp, told], ['queued', true, []]);
  t.equal(error.name, 'GivenUpError');
  run().end('made');
  await settle();
  t.strictSame(told, ['succeeded made 0']);
});

t.test('what does not run cannot be given up', async (t) => {
  const { call, run } = setUp();
  const giveUp = () => call.giveUp(new GivenUpError(1));
  giveUp();
  t.strictSame([call.phase, call.givenUp], ['queued', false]);
  run().end(again);
  await settle();
  giveUp();
  t.strictSame([call.phase, call.givenUp], ['queued', false]);
  run().end('made');
  await settle();
  giveUp();
  t.strictSame([call.phase, call.givenUp], ['succeeded', false]);
});

t.test('only its own giving up has a call made anew', async (t) => {
  const { call, run } = setUp();
  run().fail(new GivenUpError(1));
  await settle();
  t.equal(call.phase, 'failed');
});

t.test('a call ends once: what still comes of its work changes nothing', async (t) => {
  for (const end of [
    (work: Work) => work.end('made'),
    (work: Work) => work.end(again),
    (work: Work) => work.fail(new Error('late')),
  ]) {
    const { call, told, run } = setUp();
    const work = run();
    call.fail(new Error('no'));
    end(work);
    await settle();
    t.strictSame([call.phase, call.result, told], ['failed', undefined, ['failed Error: no 0']]);
  }
});

t.test('a call that has succeeded cannot fail any more', async (t) => {
  const { call, told, run } = setUp();
  run().end('made');
  await settle();
  call.fail(new Error('late'));
  t.strictSame([call.phase, call.result, told], ['succeeded', 'made', ['succeeded made 0']]);
});

t.test('at the end of Holdfast a call fails, and the runtime is told of what runs', async (t) => {
  const queued = setUp();
  queued.call.shutDown();
  const running = setUp();
  const work = running.run();
  running.call.shutDown();
  await settle();
  t.ok(work.signal?.reason instanceof ShutDownError);
  const failed = 'failed ShutDownError: Holdfast is shutting down 0';
  t.strictSame([...queued.told, ...running.told], [failed, failed]);
});

t.test('a call that was to be made anew fails at the end of Holdfast', async (t) => {
  const { call, run } = setUp();
  run().end(again);
  await settle();
  call.shutDown();
  t.equal(call.phase, 'failed');
});

t.test('a call that has ended lets go of its owner', async (t) => {
  const begin = () => {
    const events = { waiterLeft: () => {}, succeeded: () => {}, failed: () => {} };
    return { call: new DetachedCall<string>(new ManualClock(), events), owner: new WeakRef(events) };
  };
  const { call, owner } = begin();
  await settle();
  collectGarbage();
  t.not(owner.deref(), undefined);
  call.fail(new Error('no'));
  await settle();
  collectGarbage();
  t.equal(owner.deref(), undefined);
});

t.test('a wait ends with what is waited for, and leaves nothing on the signal', async (t) => {
  const { signal } = new AbortController();
  t.equal(await untilAborted(Promise.resolve('done'), signal), 'done');
  await t.rejects(untilAborted(Promise.reject(new Error('no')), signal), { message: 'no' });
  await settle();
  t.equal(getEventListeners(signal, 'abort').length, 0);
});

t.test('a wait ends when its signal fires, or has fired', async (t) => {
  const never = new Promise<never>(() => {});
  const leave = new AbortController();
  const left = untilAborted(never, leave.signal);
  leave.abort();
  await t.rejects(left, WaiterLeftError);
  t.equal(getEventListeners(leave.signal, 'abort').length, 0);
  await t.rejects(untilAborted(Promise.resolve('done'), AbortSignal.abort()), WaiterLeftError);
});

t.test('a failure is counted as dropped, timed out or failed', async (t) => {
  const ended = new PodSandboxEndedError('s1');
  t.match(ended.message, 'pod sandbox s1 was stopped or removed');
  t.equal(ended.name, 'DroppedError');
  const errors = [
    new DroppedError('late'),
    ended,
    new CallTimeoutError(1),
    new ShutDownError('over'),
    new Error('no'),
    'no',
  ];
  t.strictSame(errors.map(failureStep), ['dropped', 'dropped', 'timed out', 'failed', 'failed', 'failed']);
});

const broken = new TypeError('broken');

/** A call whose owner meets a fault when it is told of this. */
function withFaultIn(event: 'waiterLeft' | 'succeeded' | 'failed') {
  const faults: unknown[] = [];
  const fail = () => {
    throw broken;
  };
  const call = new DetachedCall<string>(new ManualClock(), {
    waiterLeft() {},
    succeeded() {},
    failed() {},
    [event]: fail,
    faulted: (error) => void faults.push(error),
  });
  return { call, faults };
}

t.test('a fault of its owner at the end of a call is heard by every waiter, and the call has ended', async (t) => {
  const { call, faults } = withFaultIn('succeeded');
  const waiters = [call.join(new AbortController().signal), call.join(new AbortController().signal)];
  const ended = Promise.all(waiters.map((waiter) => t.rejects(waiter, broken)));
  await call.run(timeoutMs, async () => 'made');
  await ended;
  await call.ended;
  t.same(faults, [broken]);
});

t.test('a fault of its owner at a failure leaves the waiters what it failed with', async (t) => {
  const { call, faults } = withFaultIn('failed');
  const refused = new Error('refused');
  const waiter = t.rejects(call.join(new AbortController().signal), refused);
  call.fail(refused);
  await waiter;
  await call.ended;
  t.same(faults, [broken]);
});

t.test('a fault of its owner when a waiter leaves ends the call for the others', async (t) => {
  const { call, faults } = withFaultIn('waiterLeft');
  const leave = new AbortController();
  const left = t.rejects(call.join(leave.signal), { name: 'WaiterLeftError' });
  const other = t.rejects(call.join(new AbortController().signal), broken);
  leave.abort();
  await Promise.all([left, other]);
  t.same([faults, call.phase], [[broken], 'failed']);
});

t.test('an owner need not hear of faults', async (t) => {
  const call = new DetachedCall<string>(new ManualClock(), {
    waiterLeft() {},
    succeeded() {},
    failed() {
      throw broken;
    },
  });
  call.fail(new Error('refused'));
  await call.ended;
  t.equal(call.phase, 'failed');
});

t.test('who asks for a call that has failed hears why', async (t) => {
  const { call } = setUp();
  const refused = new Error('refused');
  call.fail(refused);
  await t.rejects(call.join(new AbortController().signal), refused);
  await t.rejects(call.join(AbortSignal.abort()), { name: 'WaiterLeftError' });
});

t.test('a call has begun once its upstream call is made, and stays so', async (t) => {
  const { call } = setUp();
  t.equal(call.hasBegun, false);
  await call.run(timeoutMs, async () => again);
  t.strictSame([call.phase, call.hasBegun], ['queued', true]);
});
