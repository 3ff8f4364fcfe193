/** What a store makes of a creation or a start that met a fault of Holdfast: it is forgotten, and the next request begins anew. */
import t from 'tap';
import { Creation } from '../../src/cache/creation.js';
import { CreationIndex } from '../../src/cache/creation-index.js';
import { CreationLives } from '../../src/cache/creation-lives.js';
import { WaiterLeftError } from '../../src/cache/detached-call.js';
import { DetachedCalls } from '../../src/cache/detached-calls.js';
import { SecondCopyGuard, WatchedStart } from '../../src/cache/second-copy-guard.js';
import type { Start } from '../../src/cache/start.js';
import { breakMethod } from '../support/break-method.js';
import { settle } from '../support/manual-clock.js';
import { abandoned, finished, keptIn, setUp as setUpStarts, unending } from './start-rig.js';
import { container, held, item, never, podSandbox, setUp } from './store-rig.js';

const fault = new TypeError('broken');

t.test('a request is told which creation it is about, be it begun, joined or replayed', async (t) => {
  const { runtime, store } = setUp();
  const about: (Creation<string, string> | undefined)[] = [];
  const ask = () => store.request(container(), never, (creation) => void about.push(creation));
  const [first, second] = [ask(), ask()];
  await settle();
  t.equal(store.found(container().fingerprint), about[0]);
  runtime.call(0).end('c1');
  await Promise.all([first, second]);
  const third = ask();
  await settle();
  t.equal(about.length, 3);
  t.equal(new Set(about).size, 1);
  await third;
  t.equal(store.found(podSandbox().fingerprint), undefined);
});

t.test('a queued creation that met a fault ends for all who wait, and the next request begins anew', async (t) => {
  const { runtime, store, faults } = setUp({ limit: 1 });
  store.request(podSandbox(), never).catch(() => {});
  await settle();
  const waiters = [container(), container()].map((request) => t.rejects(store.request(request, never), fault));
  const found = store.found(container().fingerprint);
  if (found === undefined) throw new Error('nothing is queued');
  store.forgetAfterFault(found, fault);
  await Promise.all(waiters);
  t.same([found.state, faults], ['gone', [fault]]);
  t.equal(store.found(container().fingerprint), undefined);
  store.request(container(), never).catch(() => {});
  runtime.call(0).end('s1');
  await settle();
  t.equal(runtime.calls.length, 2, 'once');
});

t.test('one that runs upstream goes on for the others', async (t) => {
  const { runtime, store, faults } = setUp();
  const asked = store.request(container(), never);
  await settle();
  const found = store.found(container().fingerprint);
  if (found === undefined) throw new Error('nothing runs');
  store.forgetAfterFault(found, fault);
  t.equal(store.found(container().fingerprint), found);
  runtime.call(0).end('c1');
  t.equal((await asked).made.id, 'c1');
  t.same(faults, []);
});

t.test('a held container that met a fault is seen again', async (t) => {
  const rig = setUp();
  await held(rig);
  const found = rig.store.found(container().fingerprint);
  if (found === undefined) throw new Error('nothing is held');
  t.ok(rig.store.hiddenOwner(item('c1')));
  rig.store.forgetAfterFault(found, fault);
  t.equal(rig.store.hiddenOwner(item('c1')), undefined);
  t.same([rig.seen, rig.store.mayHide], [['revealed c1'], false]);
  t.match(rig.details.at(-1), { step: 'forgotten', why: 'fault' });
  const { length } = rig.steps;
  rig.store.forgetAfterFault(found, fault);
  t.equal(rig.steps.length, length, 'it is gone');
});

t.test('a creation that cannot be forgotten is said to have met another fault', async (t) => {
  const { store, faults } = setUp({ limit: 1 });
  store.request(podSandbox(), never).catch(() => {});
  await settle();
  const waiter = t.rejects(store.request(container(), never), fault);
  const found = store.found(container().fingerprint);
  if (found === undefined) throw new Error('nothing is queued');
  const broken = breakMethod(CreationIndex.prototype, 'remove');
  store.forgetAfterFault(found, fault);
  broken.mend();
  await waiter;
  t.match(faults, [{ message: 'remove is broken' }, fault]);
});

t.test(
  'a held container that cannot be forgotten is said to have met another fault, and is found no more',
  async (t) => {
    const rig = setUp();
    await held(rig);
    const found = rig.store.found(container().fingerprint);
    if (found === undefined) throw new Error('nothing is held');
    const broken = breakMethod(Creation.prototype, 'markGone');
    rig.store.forgetAfterFault(found, fault);
    broken.mend();
    t.match(rig.faults, [fault, { message: 'markGone is broken' }]);
    t.equal(rig.store.found(container().fingerprint), undefined);
  },
);

t.test('a creation whose end cannot be noted is forgotten, and its waiters hear of the fault', async (t) => {
  const { runtime, store, faults } = setUp();
  const waiter = t.rejects(store.request(container(), never), { message: 'rename is broken' });
  await settle();
  const broken = breakMethod(CreationLives.prototype, 'rename');
  runtime.call(0).end('c1');
  await waiter;
  broken.mend();
  t.match(faults, [{ message: 'rename is broken' }]);
  t.equal(store.found(container().fingerprint), undefined);
});

t.test('so it is where the same fault comes each time, and the next request begins anew', async (t) => {
  const { runtime, store, faults } = setUp();
  const waiter = t.rejects(store.request(container(), never), { message: 'withdraw is broken' });
  await settle();
  const broken = breakMethod(DetachedCalls.prototype, 'withdraw');
  runtime.call(0).end('c1');
  await waiter;
  broken.mend();
  t.match(faults, [{ message: 'withdraw is broken' }]);
  const again = store.request(container(), never);
  await settle();
  runtime.call(1).end('c2');
  t.equal((await again).made.id, 'c2');
});

t.test('where it cannot be noted that one leaves a queued creation, the others hear of the fault', async (t) => {
  const { store, faults } = setUp({ limit: 1 });
  store.request(podSandbox(), never).catch(() => {});
  await settle();
  const leave = new AbortController();
  const left = t.rejects(store.request(container(), leave.signal), WaiterLeftError);
  const other = t.rejects(store.request(container(), never), { message: 'step is broken' });
  await settle();
  const broken = breakMethod(CreationLives.prototype, 'step', 1);
  leave.abort();
  await Promise.all([left, other]);
  broken.mend();
  t.match(faults, [{ message: 'step is broken' }]);
  t.equal(store.found(container().fingerprint), undefined);
});

t.test('a creation whose begin cannot be noted is not made', async (t) => {
  const { runtime, store } = setUp();
  const broken = breakMethod(CreationLives.prototype, 'on', 1);
  const waiter = t.rejects(store.request(container(), never), { message: 'on is broken' });
  await settle();
  await waiter;
  broken.mend();
  t.equal(runtime.calls.length, 0);
});

t.test('a request is told which start it is about, be it begun, joined or repeated', async (t) => {
  const { runtime, store } = setUpStarts();
  const about: (Start<string, string> | undefined)[] = [];
  const request = { containerId: 'c0', bytes: Buffer.alloc(0), origin: 'test' };
  const ask = () => store.request(request, unending(), (start) => void about.push(start));
  const [first, second] = [ask(), ask()];
  await settle();
  t.equal(store.found('c0'), about[0]);
  runtime.calls[0]?.end();
  await Promise.all([first, second]);
  t.equal(store.found('c0'), about[0], 'it is past');
  runtime.states.set('c0', 'running');
  await ask();
  t.equal(about.length, 3);
  t.equal(new Set(about).size, 1);
});

t.test(
  'a queued start that met a fault ends, one that runs goes on, one that is past is not answered again',
  async (t) => {
    const rig = setUpStarts();
    await abandoned(rig);
    const running = rig.store.found('c0');
    const waiter = t.rejects(rig.ask('c1'), fault);
    await settle();
    const queued = rig.store.found('c1');
    if (running === undefined || queued === undefined) throw new Error('not under way');
    rig.store.forgetAfterFault(running, fault);
    t.equal(rig.store.found('c0'), running);
    rig.store.forgetAfterFault(queued, fault);
    await waiter;
    t.equal(rig.store.found('c1'), undefined);
    rig.runtime.calls[0]?.end();
    await settle();
    t.equal(rig.store.found('c0'), running, 'it is past');
    rig.store.forgetAfterFault(running, fault);
    t.equal(rig.store.found('c0'), undefined);
    t.strictSame(keptIn(rig.store), { inFlight: 0, past: 0 });
    t.same(rig.faults, [fault, fault]);
  },
);

t.test('a start that met a fault takes nothing from the one that came after it', async (t) => {
  const rig = setUpStarts();
  await finished(rig);
  const past = rig.store.found('c0');
  rig.runtime.states.set('c0', 'created');
  rig.ask('c0').catch(() => {});
  await settle();
  const next = rig.store.found('c0');
  if (past === undefined || next === undefined) throw new Error('not there');
  t.not(next, past);
  rig.store.forgetAfterFault(past, fault);
  t.equal(rig.store.found('c0'), next);
  rig.runtime.calls[1]?.end();
  await settle();
  rig.store.forgetAfterFault(past, fault);
  t.equal(rig.store.found('c0'), next, 'it is past, too');
});

t.test('a start that meets a fault before it is known whose it is ends with that fault alone', async (t) => {
  const rig = setUpStarts();
  rig.runtime.identifiesByHand = true;
  const waiter = t.rejects(rig.askUnknown('c0'), fault);
  await settle();
  const found = rig.store.found('c0');
  if (found === undefined) throw new Error('not under way');
  rig.store.forgetAfterFault(found, fault);
  await waiter;
  t.strictSame(rig.faults, [fault]);
});

t.test('a start whose end cannot be noted is forgotten, and its waiters hear of the fault', async (t) => {
  for (const [prototype, method, nth] of [
    [WatchedStart.prototype, 'succeeded', 1],
    [DetachedCalls.prototype, 'withdraw', 1],
    [DetachedCalls.prototype, 'withdraw', undefined],
  ] as const) {
    const rig = setUpStarts();
    const waiter = t.rejects(rig.ask('c0'), { message: `${method} is broken` });
    await settle();
    const broken = breakMethod(prototype, method, nth);
    rig.runtime.calls[0]?.end();
    await waiter;
    broken.mend();
    t.match(rig.faults, [{ message: `${method} is broken` }]);
    t.equal(rig.store.found('c0'), undefined);
    t.strictSame(keptIn(rig.store), { inFlight: 0, past: 0 });
  }
});

t.test('a start that cannot be forgotten is said to have met another fault', async (t) => {
  const rig = setUpStarts();
  await finished(rig);
  const past = rig.store.found('c0');
  if (past === undefined) throw new Error('not there');
  const broken = breakMethod(WatchedStart.prototype, 'over');
  rig.store.forgetAfterFault(past, fault);
  broken.mend();
  t.match(rig.faults, [fault, { message: 'over is broken' }]);
});

t.test('a start that cannot be queued once it is known whose it is ends with the fault', async (t) => {
  const rig = setUpStarts();
  const broken = breakMethod(SecondCopyGuard.prototype, 'unidentified');
  await t.rejects(rig.askUnknown('c0'), { message: 'unidentified is broken' });
  broken.mend();
  t.equal(rig.store.found('c0'), undefined);
});
