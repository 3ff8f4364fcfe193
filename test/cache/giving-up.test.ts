/** Pod sandboxes that take far longer than others: cancelled upstream, and made anew. When that is, is the throttle's to say. */
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

t.test('nor is what the runtime says of its name by then', async (t) => {
  const rig = setUpGivingUp();
  const { runtime, clock, store } = rig;
  for (const call of [0, 1]) {
    hanging(rig);
    await settle();
    runtime.call(call).fail(new Error('no'));
    await settle();
  }
  hanging(rig);
  await settle();
  let found: (holder: { condition: 'in use'; id: string }) => void = () => {};
  runtime.holderOf = () =>
    new Promise((resolve) => {
      found = resolve;
    });
  runtime.call(2).fail(new NameReservedError(new Error('reserved'), undefined));
  await settle();
  await clock.advance(30 * second);
  found({ condition: 'in use', id: 's0' });
  await clock.advance(250);
  runtime.call(3).fail(new Error('no'));
  await settle();
  hanging(rig);
  await clock.advance(2 * second);
  t.equal(runtime.calls.length, 5, 'it has failed three times');
  store.close();
});

t.test('what nobody has asked for within a minute is not made anew', async (t) => {
  for (const [leftMs, calls] of [
    [59 * second, 1],
    [60 * second, 2],
  ] as const) {
    const rig = setUp({
      creationTimeoutMs: 900 * second,
      holdTtlMs: 900 * second,
      admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 120 * second } } },
    });
    const leave = new AbortController();
    rig.store.request(podSandbox(), leave.signal).catch(() => {});
    await settle();
    await rig.clock.advance(leftMs);
    leave.abort();
    await rig.clock.advance(120 * second);
    t.equal(rig.runtime.calls.length, calls, `left after ${leftMs / second} of 120 s`);
    rig.store.close();
  }
});

t.test('each time a pod sandbox is given up it gets more patience, also where a try between failed', async (t) => {
  const rig = setUpGivingUp();
  const { runtime, clock, store, steps } = rig;
  const asked = hanging(rig);
  await settle();
  await clock.advance(30 * second);
  runtime.call(1).fail(new Error('what was left of the first is not gone yet'));
  await t.rejects(asked);
  const again = hanging(rig);
  await settle();
  const other = store.request(podSandbox(0, 'h', 'other'), never);
  await settle();
  runtime.call(3).end('s9');
  await other;
  await clock.advance(119 * second);
  t.equal(runtime.call(2).signal.aborted, false);
  await clock.advance(second);
  t.equal(steps.filter((step) => step === 'given up').length, 2);
  runtime.call(4).end('s1');
  t.equal((await again).made.id, 's1');
});

t.test('a container is never given up: runtimes finish it however its call ends', async (t) => {
  const rig = setUpGivingUp();
  hanging(rig, container());
  await settle();
  await rig.clock.advance(899 * second);
  t.equal(rig.runtime.call(0).signal.aborted, false);
  rig.store.close();
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
