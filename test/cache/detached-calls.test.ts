import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { again, type DetachedCall, GivenUpError, ShutDownError } from '../../src/cache/detached-call.js';
import { DetachedCalls, type DetachedCallsOptions, type Job } from '../../src/cache/detached-calls.js';
import { Admission, type AdmissionOptions } from '../../src/throttle/admission.js';
import { fixedLimit } from '../../src/throttle/concurrency-limit.js';
import type { Overdue, Urgency } from '../../src/throttle/work-queue.js';
import { breakMethod } from '../support/break-method.js';
import { ManualClock, settle } from '../support/manual-clock.js';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

const holdTtlMs = 60_000;
const mib = 1024 * 1024;

interface Run {
  readonly request: string;
  readonly signal: AbortSignal;
  end(result: string | typeof again): void;
  fail(error: unknown): void;
}

interface Stage extends Partial<DetachedCallsOptions> {
  readonly limit?: number;
  readonly lendable?: number;
  readonly admission?: Partial<AdmissionOptions>;
}

/** One call runs at a time, unless a test says otherwise. */
function setUp({ limit = 1, lendable = 0, admission: more, ...options }: Stage = {}) {
  const clock = new ManualClock();
  /** What the limit is told of each that has ended: whether it succeeded. */
  const successes: boolean[] = [];
  const counted = { hangs: () => {}, ended: (succeeded: boolean) => void successes.push(succeeded) };
  const admission = new Admission({ ...fixedLimit(limit), lendable, begin: () => counted }, clock, {
    handlerLimits: new Map(),
    pace: undefined,
    ownPlaces: 0,
    hung: { deadlineShare: 1, most: 0, giveUp: undefined },
    ...more,
  });
  const calls = new DetachedCalls<string>(admission, clock, {
    creationTimeoutMs: 900_000,
    holdTtlMs,
    maxEntries: 100,
    ...options,
  });
  const runs: Run[] = [];
  const ends: string[] = [];
  const open = (name: string) =>
    calls.open(Buffer.from(name), {
      waiterLeft: () => {},
      succeeded: (result, waiters) => void ends.push(`${name}: ${result} for ${waiters}`),
      failed: (error) => void ends.push(`${name}: ${error instanceof Error ? error.name : error}`),
    });
  const job = (more: Partial<Job<string>> = {}): Job<string> => ({
    kind: 'container',
    urgency: () => ({}),
    begun: () => {},
    hangs: () => {},
    perform: (request, signal) =>
      new Promise((end, fail) => runs.push({ request: request.toString(), signal, end, fail })),
    ...more,
  });
  const ask = (name: string, more?: Partial<Job<string>>) => {
    const call = open(name);
    calls.queue(call, job(more));
    return call;
  };
  const end = async (run: number, result: string | typeof again = 'made') => {
    runs[run]?.end(result);
    await settle();
  };
  const requests = () => runs.map(({ request }) => request);
  return { clock, admission, calls, successes, runs, requests, ends, open, job, ask, end };
}

function join(call: DetachedCall<string>): () => void {
  const leave = new AbortController();
  call.join(leave.signal).catch(() => {});
  return () => leave.abort();
}

/** Somebody asked for it and has gone. */
function abandon(call: DetachedCall<string>): void {
  join(call)();
}

/** One call runs, so that what is asked for now is queued. */
async function setUpBusy(stage?: Stage) {
  const all = setUp(stage);
  join(all.ask('busy'));
  await settle();
  return all;
}

t.test('a call is made once, with the newest request, and its owner told when it begins and ends', async (t) => {
  const { calls, ask, end, requests, ends } = await setUpBusy();
  const phases: string[] = [];
  const call: DetachedCall<string> = ask('a', { begun: () => void phases.push(call.phase) });
  join(call);
  calls.replace(call, Buffer.from('newer'));
  await settle();
  t.strictSame([requests(), phases], [['busy'], []]);
  await end(0);
  t.strictSame([requests(), phases], [['busy', 'newer'], ['queued']]);
  await end(1);
  t.strictSame(ends, ['busy: made for 1', 'a: made for 1']);
  calls.replace(call, Buffer.from('too late'));
  t.equal(requests().length, 2);
});

t.test('a call is made once however often it is queued', async (t) => {
  const { calls, admission, ask, job, end, requests } = await setUpBusy({ limit: 1 });
  const call = ask('a');
  calls.queue(call, job());
  t.equal(admission.queued, 1);
  await end(0);
  calls.queue(call, job());
  t.equal(admission.queued, 0, 'it runs');
  await end(1);
  calls.queue(call, job());
  await settle();
  t.strictSame([admission.queued, requests()], [0, ['busy', 'a']], 'it has ended');
});

t.test('a call waits for its turn while it is in the queue', async (t) => {
  const { calls, admission, open, job, end, requests } = await setUpBusy();
  const call = open('a');
  t.equal(calls.isQueued(call), false);
  calls.queue(call, job());
  t.equal(calls.isQueued(call), true);
  calls.withdraw(call);
  calls.withdraw(call);
  t.strictSame([calls.isQueued(call), admission.queued, call.phase], [false, 0, 'queued']);
  await end(0);
  t.strictSame(requests(), ['busy']);
  calls.queue(call, job());
  await settle();
  t.strictSame([calls.isQueued(call), requests()], [false, ['busy', 'a']], 'it runs');
  calls.withdraw(call);
  await end(1);
  t.strictSame([calls.isQueued(call), call.phase], [false, 'succeeded']);
  calls.withdraw(call);
});

t.test('a call that fails while it is queued is not made', async (t) => {
  const { admission, ask, end, requests, ends } = await setUpBusy();
  ask('a').fail(new Error('no'));
  t.equal(admission.queued, 0);
  await end(0);
  t.strictSame([requests(), ends], [['busy'], ['a: Error', 'busy: made for 1']]);
});

t.test('the owner hears of every waiter that joins or leaves, where it wants to', async (t) => {
  const { calls, ask, end } = await setUpBusy();
  const told: string[] = [];
  const call = calls.open(Buffer.from('a'), {
    waiterJoined: (waiters) => void told.push(`joined ${waiters}`),
    waiterLeft: (waiters) => void told.push(`left ${waiters}`),
    succeeded: () => {},
    failed: () => {},
  });
  const leave = join(call);
  join(call);
  leave();
  t.strictSame(told, ['joined 1', 'joined 2', 'left 1']);
  const joined = ask('b').join(new AbortController().signal);
  await end(0);
  await end(1);
  t.equal(await joined, 'made');
});

t.test('the limit learns which calls did what they were to do', async (t) => {
  const { ask, runs, end, successes, clock } = setUp();
  ask('succeeds');
  await settle();
  await end(0);
  ask('fails');
  await settle();
  runs[1]?.fail(new Error('no'));
  await settle();
  ask('is to be made anew');
  await settle();
  await end(2, again);
  ask('may not begin', { mayBegin: () => false });
  await settle();
  t.strictSame(successes, [true, false, false, false]);
  ask('busy');
  ask('nobody asks for');
  await settle();
  clock.skip(holdTtlMs + 1);
  await end(3);
  t.strictSame(successes, [true, false, false, false, true, false]);
});

t.test('what may not begin is not made until its owner queues it again', async (t) => {
  const { calls, ask, job, requests, admission } = setUp();
  const call = ask('a', { mayBegin: () => false });
  await settle();
  t.strictSame([requests(), call.phase, calls.isQueued(call), admission.inFlight], [[], 'queued', false, 0]);
  calls.queue(call, job({ mayBegin: () => true }));
  await settle();
  t.strictSame(requests(), ['a']);
});

t.test('what is to be made anew is for its owner to queue again', async (t) => {
  const { calls, ask, job, end, requests, admission, ends } = setUp();
  let asked = 0;
  const call = ask('a', { again: () => (asked += 1) });
  join(call);
  await settle();
  await end(0, again);
  t.strictSame([asked, call.phase, calls.isQueued(call), admission.inFlight], [1, 'queued', false, 0]);
  calls.queue(call, job());
  await settle();
  await end(1, again);
  t.equal(call.phase, 'queued', 'with an owner that does not want to know it, too');
  calls.queue(call, job({ again: () => (asked += 1) }));
  await settle();
  await end(2);
  t.strictSame([asked, requests(), ends], [1, ['a', 'a', 'a'], ['a: made for 1']]);
});

t.test('of queued calls that nobody waits for, the oldest beyond so many are dropped', async (t) => {
  const { ask, ends, end, requests } = await setUpBusy({ maxEntries: 2 });
  for (const name of ['a', 'b', 'c']) abandon(ask(name));
  t.strictSame(ends, ['a: DroppedError']);
  await end(0);
  await end(1);
  t.strictSame(requests(), ['busy', 'b', 'c']);
});

t.test('of queued calls that nobody waits for, the oldest beyond so many bytes are dropped', async (t) => {
  const { calls, ask, ends } = await setUpBusy();
  for (const name of ['a', 'b']) {
    const call = ask(name);
    calls.replace(call, Buffer.alloc(40 * mib));
    abandon(call);
  }
  t.strictSame(ends, ['a: DroppedError']);
});

t.test('what somebody waits for still or again is not dropped', async (t) => {
  const { ask, ends } = await setUpBusy({ maxEntries: 1 });
  const again = ask('again');
  abandon(again);
  join(again);
  const still = ask('still');
  join(still);
  abandon(still);
  for (const name of ['a', 'b']) abandon(ask(name));
  t.strictSame(ends, ['a: DroppedError']);
});

t.test('what runs is not dropped, though nobody waits for it', async (t) => {
  const { ask, ends, end } = await setUpBusy({ maxEntries: 1, limit: 2 });
  const leave = join(ask('left while it ran'));
  await settle();
  const early = ask('left before');
  abandon(early);
  leave();
  await end(0);
  t.equal(early.phase, 'running');
  for (const name of ['a', 'b']) abandon(ask(name));
  t.strictSame(ends, ['busy: made for 1', 'a: DroppedError']);
});

t.test('what has ended takes no place among what nobody waits for', async (t) => {
  const { ask, ends } = await setUpBusy({ maxEntries: 2 });
  const [a, b, c] = [ask('a'), ask('b'), ask('c')];
  abandon(a);
  abandon(b);
  b.fail(new Error('no'));
  abandon(c);
  t.strictSame(ends, ['b: Error']);
});

t.test('what nobody waits for takes its place there, too, where it may not begin or is to be made anew', async (t) => {
  const mayNot = setUp({ maxEntries: 1 });
  for (const name of ['a', 'b']) mayNot.ask(name, { mayBegin: () => false });
  await settle();
  t.strictSame(mayNot.ends, ['a: DroppedError']);
  const anew = setUp({ maxEntries: 1 });
  for (const [run, name] of ['a', 'b'].entries()) {
    anew.ask(name);
    await settle();
    await anew.end(run, again);
  }
  t.strictSame(anew.ends, ['a: DroppedError']);
});

t.test('what nobody has asked for in a long time is dropped when it is its turn', async (t) => {
  for (const [leftMs, requests] of [
    [holdTtlMs, ['busy', 'a']],
    [holdTtlMs + 1, ['busy']],
  ] as const) {
    const all = await setUpBusy();
    abandon(all.ask('a'));
    all.clock.skip(leftMs);
    await all.end(0);
    t.strictSame(all.requests(), requests);
    t.equal(all.ends.includes('a: DroppedError'), leftMs > holdTtlMs);
  }
});

t.test('what somebody waits for goes first', async (t) => {
  const { ask, end, requests } = await setUpBusy();
  const [a, b, c] = [ask('a'), ask('b'), ask('c')];
  const leave = join(a);
  join(b);
  join(c);
  leave();
  await end(0);
  await end(1);
  await end(2);
  t.strictSame(requests(), ['busy', 'b', 'c', 'a']);
});

t.test('what somebody waits for again goes first', async (t) => {
  const { ask, end, requests } = await setUpBusy();
  const [, b] = [ask('a'), ask('b')];
  join(b);
  await end(0);
  t.strictSame(requests(), ['busy', 'b']);
});

t.test('what is left while it runs lends its place to what somebody waits for', async (t) => {
  const { clock, ask, requests } = setUp({ lendable: 1 });
  const leave = join(ask('left'));
  join(ask('asked for'));
  await settle();
  t.strictSame(requests(), ['left']);
  leave();
  await clock.advance(1_000);
  t.strictSame(requests(), ['left', 'asked for']);
});

t.test('the kind, importance and handler of a call decide when it is its turn', async (t) => {
  const { ask, end, requests } = await setUpBusy({ limit: 2, admission: { handlerLimits: new Map([['kata', 1]]) } });
  ask('kata', { handler: 'kata' });
  await settle();
  ask('other kata', { handler: 'kata' });
  ask('pod', { kind: 'podSandbox' });
  ask('container');
  ask('critical', { kind: 'podSandbox', urgency: () => ({ importance: 'critical' }) });
  await end(0);
  await end(2);
  await end(3);
  t.strictSame(requests(), ['busy', 'kata', 'critical', 'container', 'pod']);
  await end(1);
  t.equal(requests()[5], 'other kata');
});

t.test('whether a call hangs depends on the newest deadline', async (t) => {
  const hung = { deadlineShare: 0.5, most: 2, giveUp: undefined };
  const { ask, end, clock } = await setUpBusy({ admission: { hung } });
  let urgency: Urgency = { deadlineMs: 7_000 };
  const overdue: Overdue[] = [];
  ask('a', { kind: 'podSandbox', urgency: () => urgency, hangs: (how) => void overdue.push(how) });
  urgency = { deadlineMs: 5_000 };
  await end(0);
  await clock.advance(2_499);
  t.strictSame(overdue, []);
  await clock.advance(1);
  t.strictSame(overdue, [{ tookMs: 2_500, usualMs: undefined }]);
});

t.test('what takes far too long is given up, each time later, and is for its owner to queue again', async (t) => {
  const hung = { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 1_000 } };
  const { calls, ask, job, end, runs, clock } = setUp({ limit: 2, admission: { hung } });
  const overdue: Overdue[] = [];
  const anew: Partial<Job<string>> = {
    get timesGivenUp() {
      return overdue.length;
    },
    givenUp: (how) => void overdue.push(how),
    again: () => calls.queue(call, job(anew)),
  };
  const call: DetachedCall<string> = ask('a', anew);
  await clock.advance(999);
  t.equal(runs[0]?.signal.aborted, false);
  await clock.advance(1);
  t.ok(runs[0]?.signal.reason instanceof GivenUpError);
  t.strictSame([call.givenUp, call.phase, overdue], [false, 'running', [{ tookMs: 1_000, usualMs: undefined }]]);
  ask('b');
  await clock.advance(1);
  await end(2);
  await clock.advance(3_998);
  t.equal(runs[1]?.signal.aborted, false);
  await clock.advance(1);
  t.equal(runs[1]?.signal.aborted, true);
  t.equal(overdue.length, 2);
});

t.test('what hangs and has not been asked for in a while is given up for room, and not made anew', async (t) => {
  const hung = { deadlineShare: 1, most: 1, giveUp: { times: 10_000, leastMs: 900_000 } };
  const { calls, job, end, clock } = setUp({ limit: 3, admission: { hung }, creationTimeoutMs: 9_000_000 });
  const errors: unknown[] = [];
  const givenUp: number[] = [];
  const queuedAnew: number[] = [];
  const ask = (n: number) => {
    const events = { waiterLeft: () => {}, succeeded: () => {}, failed: (error: unknown) => void errors.push(error) };
    const call = calls.open(Buffer.from('x'), events);
    calls.queue(call, job({ givenUp: () => void givenUp.push(n), again: () => void queuedAnew.push(n) }));
    return call;
  };
  const left = join(ask(0));
  join(ask(1));
  ask(2);
  await clock.advance(1_000);
  await end(2);
  left();
  await clock.advance(60_000);
  t.strictSame(givenUp, [], 'it was asked for a minute ago');
  await clock.advance(10_000);
  t.strictSame(givenUp, [0]);
  t.match(errors, [{ name: 'DroppedError', message: 'nobody asked for it any more' }]);
  t.equal(errors.length, 1);
  t.strictSame(queuedAnew, []);
});

t.test('what is quick teaches nothing of what is not said to be', async (t) => {
  const hung = { deadlineShare: 1, most: 4, giveUp: undefined };
  const { ask, end, clock } = setUp({ limit: 2, admission: { hung } });
  ask('quick', { isQuick: true });
  await clock.advance(10);
  await end(0);
  const hangs: Overdue[] = [];
  ask('usual', { hangs: (how) => void hangs.push(how) });
  await clock.advance(3_999);
  t.equal(hangs.length, 0);
  await clock.advance(1);
  t.equal(hangs.length, 1);
});

t.test('what is asked for after the end fails at once, and the limit learns of no success', async (t) => {
  const { calls, ask, ends, successes } = setUp();
  calls.close();
  ask('late');
  await settle();
  t.strictSame([ends, successes], [['late: ShutDownError'], [false]]);
});

t.test('what cannot be given up is left to its timeout', async (t) => {
  const hung = { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 1_000 } };
  const { ask, runs, clock } = setUp({ creationTimeoutMs: 10_000, admission: { hung } });
  const call = ask('a');
  await clock.advance(9_999);
  t.equal(runs[0]?.signal.aborted, false);
  await clock.advance(1);
  t.match(runs[0]?.signal.reason, { name: 'CallTimeoutError' });
  t.equal(call.phase, 'failed');
});

t.test('at the end of Holdfast what runs is cut short, and nothing more is made', async (t) => {
  const { calls, ask, runs, requests, ends, admission } = await setUpBusy();
  ask('a');
  calls.close();
  await settle();
  t.ok(runs[0]?.signal.reason instanceof ShutDownError);
  t.strictSame(ends, ['a: ShutDownError', 'busy: ShutDownError']);
  join(ask('late'));
  await settle();
  t.strictSame([requests(), admission.queued, admission.inFlight], [['busy'], 0, 0]);
  t.equal(ends.at(-1), 'late: ShutDownError');
});

t.test('a call that has ended is let go of', async (t) => {
  const { ask } = setUp();
  for (const perform of [() => Promise.resolve('made'), () => Promise.reject(new Error('no'))]) {
    const begin = () => new WeakRef(ask('a', { perform }));
    const call = begin();
    t.equal(call.deref()?.phase, 'queued');
    await settle();
    await settle();
    collectGarbage();
    t.equal(call.deref(), undefined);
  }
});

t.test('what a call is to the admission is told while it waits for its turn and while it runs', async (t) => {
  const { calls, admission, open, job, runs } = setUp();
  const [first, second] = [open('first'), open('second')];
  t.equal(calls.workOf(first), undefined);
  calls.queue(first, job({ kind: 'start' }));
  calls.queue(second, job());
  await settle();
  t.equal(calls.workOf(first)?.kind, 'start');
  const waiting = calls.workOf(second);
  t.strictSame([...admission.view().places.keys()], [waiting]);
  runs[0]?.end('made');
  await settle();
  t.equal(calls.workOf(first), undefined);
  t.equal(calls.workOf(second), waiting, 'it runs now');
  t.equal(admission.view().places.size, 0);
});

t.test('a call whose end cannot be noted is let go of, and whoever waits hears of it', async (t) => {
  for (const isTold of [true, false]) {
    const { calls, job, end } = setUp();
    const faults: unknown[] = [];
    const call = calls.open(Buffer.from('a'), {
      waiterLeft: () => {},
      succeeded: () => {},
      failed: () => {},
      ...(isTold && { faulted: (error: unknown) => faults.push(error) }),
    });
    const waiter = t.rejects(call.join(new AbortController().signal), { message: 'withdraw is broken' });
    calls.queue(call, job());
    await settle();
    const broken = breakMethod(DetachedCalls.prototype, 'withdraw', 1);
    await end(0);
    await waiter;
    broken.mend();
    t.equal(calls.workOf(call), undefined);
    t.equal(faults.length, isTold ? 1 : 0);
  }
});

t.test('a call whose turn meets a fault fails with it', async (t) => {
  const { ask, ends } = setUp();
  const begun = () => {
    throw new TypeError('broken');
  };
  ask('a', { begun });
  await settle();
  t.strictSame(ends, ['a: TypeError']);
});
