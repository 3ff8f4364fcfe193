/** Creations that take far longer than others: cancelled upstream, and made anew. When that is, is the throttle's to say. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { settle } from '../support/manual-clock.js';
import { container, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

const second = 1_000;
const setUpGivingUp = () =>
  setUp({
    creationTimeoutMs: 900 * second,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30 * second } } },
  });

/** The first of its kind, which may be given up though nothing is there to compare it with. */
function hanging({ store }: StoreRig, request = podSandbox()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
}

t.test('what is given up is cancelled upstream and made anew, for whoever waits', async (t) => {
  const rig = setUpGivingUp();
  const { runtime, clock, details } = rig;
  const asked = hanging(rig);
  await settle();
  await clock.advance(30 * second - 1);
  t.equal(runtime.call(0).signal.aborted, false);
  await clock.advance(1);
  t.equal(runtime.call(0).signal.aborted, true);
  t.equal(runtime.calls.length, 2);
  runtime.call(1).end('s1');
  t.equal((await asked).made.id, 's1');
  t.match(
    details.find(({ step }) => step === 'given up'),
    { tookMs: 30 * second, usualMs: undefined, times: 1 },
  );
  t.equal(clock.pending, 0, 'no timer is left');
});

t.test('an answer or error that still comes of what was given up changes nothing', async (t) => {
  for (const late of ['answer', 'error'] as const) {
    const rig = setUpGivingUp();
    const { runtime, clock, steps } = rig;
    const asked = hanging(rig);
    await settle();
    await clock.advance(30 * second);
    if (late === 'answer') runtime.call(0).end('s0');
    else runtime.call(0).fail(new Error('canceled'));
    await settle();
    t.equal(steps.includes('failed'), false);
    runtime.call(1).end('s1');
    t.equal((await asked).made.id, 's1', late);
  }
});

t.test('a name that is still reserved for what was given up is waited for', async (t) => {
  const rig = setUpGivingUp();
  const { runtime, clock } = rig;
  const asked = hanging(rig);
  await settle();
  await clock.advance(30 * second);
  runtime.call(1).fail(new NameReservedError(new Error('reserved'), undefined));
  await settle();
  await clock.advance(10 * second);
  t.equal(runtime.calls.length, 3);
  runtime.call(2).end('s1');
  t.equal((await asked).made.id, 's1');
});

t.test('what is given up while its name is looked into is not made twice', async (t) => {
  const rig = setUpGivingUp();
  const { runtime, clock } = rig;
  const asked = hanging(rig);
  await settle();
  let found: (holder: { condition: 'fits'; id: string }) => void = () => {};
  runtime.holderOf = () =>
    new Promise((resolve) => {
      found = resolve;
    });
  runtime.call(0).fail(new NameReservedError(new Error('reserved'), undefined));
  await settle();
  await clock.advance(30 * second);
  found({ condition: 'fits', id: 's0' });
  await clock.advance(10 * second);
  t.equal(runtime.calls.length, 2);
  runtime.call(1).end('s1');
  t.equal((await asked).made.id, 's1');
});

t.test('being given up is no failure, and lengthens no pause', async (t) => {
  const rig = setUpGivingUp();
  const { runtime, clock, store } = rig;
  const ask = async () => {
    store.request(podSandbox(), never).catch(() => {});
    await settle();
  };
  const fail = async (call: number) => {
    runtime.call(call).fail(new Error('no'));
    await settle();
  };
  for (const call of [0, 1]) {
    await ask();
    await fail(call);
  }
  await ask();
  await clock.advance(30 * second);
  await fail(2);
  await fail(3);
  await ask();
  await clock.advance(2 * second);
  t.equal(runtime.calls.length, 5, 'it has failed three times');
  store.close();
});

t.test('with nobody waiting it is made anew, and held', async (t) => {
  const rig = setUpGivingUp();
  const { runtime, clock, store, creations } = rig;
  const leave = new AbortController();
  store.request(container(), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  await clock.advance(5 * second);
  await clock.advance(25 * second);
  // Longer than it is held: nobody asks for it any more.
  t.equal(runtime.calls.length, 1);
  t.equal(creations()[0]?.state, 'gone');
  store.request(container(), leave.signal).catch(() => {});
  const again = new AbortController();
  store.request(container(), again.signal).catch(() => {});
  await settle();
  t.equal(runtime.calls.length, 2);
  store.close();
});

t.test('at the creation timeout it has failed, however soon it would be given up', async (t) => {
  const rig = setUp({
    creationTimeoutMs: 20 * second,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30 * second } } },
  });
  const asked = hanging(rig);
  await settle();
  await rig.clock.advance(20 * second);
  await t.rejects(asked, { name: 'CallTimeoutError' });
  await rig.clock.advance(60 * second);
  t.equal(rig.runtime.calls.length, 1);
});

t.test('a call that is cut short at the end of Holdfast is not made anew', async (t) => {
  const rig = setUpGivingUp();
  const asked = hanging(rig);
  await settle();
  rig.store.close();
  await t.rejects(asked, { name: 'ShutDownError' });
  await rig.clock.advance(60 * second);
  t.equal(rig.runtime.calls.length, 1);
});
