import t, { type Test } from 'tap';
import { CallTimeoutError, WaiterLeftError } from '../../src/cache/detached-call.js';
import { settle } from '../support/manual-clock.js';
import { container, held, item, never, podSandbox, setUp } from './store-rig.js';

t.test('two equal requests in flight reach the runtime once, and both are answered', async (t) => {
  const { runtime, store } = setUp();
  const first = store.request(podSandbox(), never);
  const second = store.request(podSandbox(), never);
  await settle();
  runtime.call(0).end('s1');
  t.same([(await first).made.id, (await second).made.id], ['s1', 's1']);
  t.same([(await first).role, (await second).role], ['started', 'joined']);
  t.equal(runtime.calls.length, 1);
});

t.test('a waiter that leaves ends neither the creation nor another wait', async (t) => {
  const { runtime, store } = setUp();
  const leave = new AbortController();
  const first = store.request(podSandbox(), leave.signal);
  const second = store.request(podSandbox(), never);
  await settle();
  leave.abort();
  await t.rejects(first, WaiterLeftError);
  t.equal(runtime.call(0).signal.aborted, false);
  runtime.call(0).end('s1');
  t.equal((await second).made.id, 's1');
});

t.test('1,000 waiters on one creation are all answered', async (t) => {
  const { runtime, store } = setUp();
  const asked = Array.from({ length: 1_000 }, () => store.request(podSandbox(), never));
  await settle();
  runtime.call(0).end('s1');
  const ids = new Set((await Promise.all(asked)).map((grant) => grant.made.id));
  t.same([...ids], ['s1']);
  t.equal(runtime.calls.length, 1);
});

t.test('requests that differ only in the attempt of the pod sandbox are never merged', async (t) => {
  const { runtime, store } = setUp();
  const lower = store.request(podSandbox(0), never);
  await settle();
  const higher = store.request(podSandbox(1), never);
  await settle();
  t.equal(runtime.calls.length, 1, 'the higher one waits for the lower one');
  runtime.call(0).end('s0');
  (await lower).settle(false);
  await settle();
  t.same(runtime.removed, ['s0'], 'the lower one, which nobody got, is removed');
  runtime.call(1).end('s1');
  t.equal((await higher).made.id, 's1');
});

t.test('a lower pod sandbox attempt that was delivered is left alone', async (t) => {
  const { runtime, store } = setUp();
  const lower = store.request(podSandbox(0), never);
  await settle();
  const higher = store.request(podSandbox(1), never);
  runtime.call(0).end('s0');
  (await lower).settle(true);
  await settle();
  runtime.call(1).end('s1');
  t.equal((await higher).made.id, 's1');
  t.same(runtime.removed, []);
});

t.test('a creation that fails is told to every waiter and not kept', async (t) => {
  const { runtime, store } = setUp();
  const first = store.request(podSandbox(), never);
  await settle();
  runtime.call(0).fail(new Error('no network'));
  await t.rejects(first, { message: 'no network' });
  const second = store.request(podSandbox(), never);
  await settle();
  runtime.call(1).end('s1');
  t.equal((await second).role, 'started');
});

t.test('an error nobody waited for is dropped, and the next request tries', async (t) => {
  const { runtime, store, steps } = setUp();
  const leave = new AbortController();
  const first = store.request(container(), leave.signal);
  first.catch(() => {});
  await settle();
  leave.abort();
  runtime.call(0).fail(new Error('disk full'));
  await settle();
  t.ok(steps.includes('failed'));
  t.equal(store.hiding, false);
  const second = store.request(container(), never);
  await settle();
  runtime.call(1).end('c1');
  t.equal((await second).made.id, 'c1');
});

t.test('a runtime that never answers ends at the creation timeout, and its call is cancelled', async (t) => {
  const { runtime, store, clock, steps } = setUp();
  const asked = store.request(podSandbox(), never);
  const rejected = t.rejects(asked, CallTimeoutError);
  await clock.advance(60_000);
  await rejected;
  t.equal(runtime.call(0).signal.aborted, true);
  t.ok(steps.includes('timed out'));
});

t.test('a pod sandbox finished alone is given to the retry, after a look at the runtime', async (t) => {
  const { runtime, store, steps } = setUp();
  const leave = new AbortController();
  store.request(podSandbox(), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  runtime.call(0).end('s1');
  await settle();
  t.ok(steps.includes('shown'));
  const retry = await store.request(podSandbox(), never);
  t.same([retry.made.id, retry.role], ['s1', 'replayed']);
  t.same(runtime.checked, ['s1']);
});

t.test('a pod sandbox that is not READY any more is removed, and made anew', async (t) => {
  const { runtime, store } = setUp();
  const first = store.request(podSandbox(), never);
  await settle();
  runtime.call(0).end('s1');
  (await first).settle(false);
  runtime.conditions.set('s1', 'unusable');
  const retry = store.request(podSandbox(), never);
  await settle();
  runtime.call(1).end('s2');
  t.equal((await retry).made.id, 's2');
  t.same(runtime.removed, ['s1']);
});

t.test('a container nobody waits for is hidden while it is made and while it is held', async (t) => {
  const { runtime, store } = setUp();
  const leave = new AbortController();
  store.request(container(), leave.signal).catch(() => {});
  await settle();
  t.equal(store.hiding, false, 'somebody waits');
  leave.abort();
  t.ok(store.hiddenView()(item('c1')), 'by identity, before the runtime has answered');
  t.notOk(store.hiddenView()(item('other', { attempt: 1 })));
  t.notOk(store.hiddenView()(item('other', { podSandboxId: 'another' })));
  runtime.call(0).end('c1');
  await settle();
  t.ok(store.hiddenView()(item('c1')));
  t.notOk(store.hiddenView()(item('c2')));
});

t.test('a container is told by its labels where the response does not name its pod sandbox', async (t) => {
  const { store } = setUp();
  const leave = new AbortController();
  store.request(container(), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  const labels = (uid: string) =>
    new Map([
      ['io.kubernetes.pod.uid', uid],
      ['io.kubernetes.pod.name', 'p'],
      ['io.kubernetes.pod.namespace', 'n'],
    ]);
  const view = store.hiddenView();
  t.notOk(view({ ...item('c1', { podSandboxId: '' }), labels: labels('another') }));
  t.ok(view({ ...item('c1', { podSandboxId: '' }), labels: labels('u') }));
  t.ok(
    view({ id: 'c1', podSandboxId: '', name: '', attempt: 0, state: undefined, labels: new Map() }),
    'by id once it was seen',
  );
});

t.test('a held container is given to the retry and shown once it is delivered', async (t) => {
  const all = setUp();
  await held(all);
  const retry = await all.store.request(container(), never);
  t.same([retry.made.id, retry.role], ['c1', 'replayed']);
  t.ok(all.store.hiding, 'still hidden while the answer is under way');
  retry.settle(true);
  t.equal(all.store.hiding, false);
  t.same(all.seen, ['revealed c1']);
});

t.test('what was hidden when a list was asked for stays out of it, unless delivered meanwhile', async (t) => {
  const all = setUp();
  await held(all);
  const view = all.store.hiddenView();
  const retry = await all.store.request(container(), never);
  t.ok(view(item('c1')));
  retry.settle(true);
  t.notOk(view(item('c1')));
});

t.test('an answer that did not arrive leaves the container held, and the next retry gets it', async (t) => {
  const all = setUp();
  await held(all);
  (await all.store.request(container(), never)).settle(false);
  t.ok(all.store.hiding);
  t.equal((await all.store.request(container(), never)).made.id, 'c1');
  t.equal(all.runtime.calls.length, 1);
});

t.test('a held container nobody asks for is removed, retried until the runtime says so', async (t) => {
  const all = setUp();
  await held(all);
  all.runtime.removalErrors = [new Error('busy'), new Error('busy')];
  await all.clock.advance(9_999);
  t.same(all.runtime.removed, []);
  await all.clock.advance(1);
  t.ok(all.steps.includes('removal failed'));
  t.ok(all.store.hiding, 'hidden until it is gone');
  await all.clock.advance(3_000);
  t.same(all.runtime.removed, ['c1']);
  t.equal(all.store.hiding, false);
  t.same(all.seen, ['vanished c1']);
  t.equal(all.clock.pending, 0);
});

t.test('a delivered container is never removed', async (t) => {
  const { runtime, store, clock } = setUp();
  const asked = store.request(container(), never);
  await settle();
  runtime.call(0).end('c1');
  (await asked).settle(true);
  await clock.advance(1_000_000);
  t.same(runtime.removed, []);
});

t.test('a container being replayed when its time is up is not removed', async (t) => {
  const all = setUp();
  await held(all);
  let letCheckGoOn = () => {};
  all.runtime.checkGate = new Promise((resolve) => {
    letCheckGoOn = resolve;
  });
  const retry = all.store.request(container(), never);
  await all.clock.advance(20_000);
  letCheckGoOn();
  (await retry).settle(true);
  t.same(all.runtime.removed, []);
});

t.test('a retry that comes while a container is being removed waits and makes a new one', async (t) => {
  const all = setUp();
  await held(all);
  all.runtime.removalErrors = [new Error('busy')];
  await all.clock.advance(10_000);
  const retry = all.store.request(container(), never);
  await settle();
  t.equal(all.runtime.calls.length, 1, 'the name is still taken');
  await all.clock.advance(1_000);
  all.runtime.call(1).end('c2');
  t.equal((await retry).made.id, 'c2');
  t.same(all.runtime.removed, ['c1']);
});

t.test('a held container whose pod sandbox is stopped is removed at once', async (t) => {
  const all = setUp();
  await held(all);
  all.store.ended('podSandbox', 's');
  await settle();
  t.same(all.runtime.removed, ['c1']);
});

t.test('a container finished alone in a pod sandbox that was stopped meanwhile is removed', async (t) => {
  const { runtime, store } = setUp();
  const leave = new AbortController();
  store.request(container(), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  store.ended('podSandbox', 's');
  runtime.call(0).end('c1');
  await settle();
  t.same(runtime.removed, ['c1']);
});

t.test('a delivered answer is given again until its id is used', async (t) => {
  const { runtime, store } = setUp();
  const first = store.request(container(), never);
  await settle();
  runtime.call(0).end('c1');
  (await first).settle(true);
  t.equal((await store.request(container(), never)).role, 'replayed');
  store.used('container', 'c1');
  const anew = store.request(container(), never);
  await settle();
  runtime.call(1).end('c2');
  t.equal((await anew).role, 'started');
});

t.test('an answer is not given again after the replay time', async (t) => {
  const { runtime, store, clock } = setUp();
  const first = store.request(podSandbox(), never);
  await settle();
  runtime.call(0).end('s1');
  (await first).settle(true);
  await clock.advance(30_001);
  void store.request(podSandbox(), never).catch(() => {});
  await settle();
  t.equal(runtime.calls.length, 2);
});

t.test('the least recently used answers are forgotten beyond the limit, held containers never', async (t) => {
  const all = setUp({ maxEntries: 2 });
  await held(all);
  for (const name of ['a', 'b', 'd']) {
    const asked = all.store.request(container({ name }), never);
    await settle();
    all.runtime.calls.at(-1)?.end(`id-${name}`);
    (await asked).settle(true);
  }
  t.equal(all.store.census.sizes.answered, 2);
  t.equal((await all.store.request(container(), never)).made.id, 'c1');
  all.store.request(container({ name: 'a' }), never).catch(() => {});
  await settle();
  t.equal(all.runtime.calls.length, 5, 'a was forgotten and is made anew');
});

for (const [what, kind, id] of [
  ['a full id', 'container', 'c1'.padEnd(64, '0')],
  ['a unique prefix', 'container', 'c1'],
] as const) {
  t.test(`${what} that is stopped or removed is forgotten at once`, async (t) => {
    const all = setUp();
    await held(all, {}, 'c1'.padEnd(64, '0'));
    all.store.ended(kind, id);
    t.equal(all.store.hiding, false);
    all.store.request(container(), never).catch(() => {});
    await settle();
    t.equal(all.runtime.calls.length, 2);
  });
}

t.test('a prefix of two ids forgets neither', async (t) => {
  const all = setUp();
  await held(all, { name: 'a' }, 'ab1'.padEnd(64, '0'));
  await held(all, { name: 'b' }, 'ab2'.padEnd(64, '0'));
  all.store.ended('container', 'ab');
  t.equal(all.store.census.sizes.hidden, 2);
});

t.test('a pod sandbox that ends takes the entries of its containers along', async (t) => {
  const { runtime, store } = setUp();
  const first = store.request(container(), never);
  await settle();
  runtime.call(0).end('c1');
  (await first).settle(true);
  store.ended('podSandbox', 's');
  store.request(container(), never).catch(() => {});
  await settle();
  t.equal(runtime.calls.length, 2);
  t.same(runtime.removed, [], 'a delivered container is the kubelet’s');
});

t.test('drift is named and does not undo a held container', async (t) => {
  const all = setUp();
  await held(all);
  const retry = await all.store.request(container({ image: 'other' }), never);
  t.equal(retry.made.id, 'c1');
  const drift = all.details.find(({ step }) => step === 'drift');
  t.same(drift?.differs, ['config.image.image']);
});

for (const [what, options, fields] of [
  ['another pod sandbox', {}, { podSandboxId: 's2' }],
  ['another spec hash', {}, { hash: '2' }],
  ['any drift with onDrift recreate', { onDrift: 'recreate' }, { image: 'other' }],
  ['a higher attempt with onAttemptBump recreate', { onAttemptBump: 'recreate' }, { attempt: 1 }],
] as const) {
  t.test(`${what} removes the undelivered container first and makes a new one`, async (t) => {
    const all = setUp(options);
    await held(all);
    const asked = all.store.request(container(fields), never);
    await settle();
    t.same(all.runtime.removed, ['c1']);
    all.runtime.call(1).end('c2');
    t.equal((await asked).made.id, 'c2');
  });

  t.test(`${what} waits for a running creation to end before it is undone`, async (t) => {
    const { runtime, store } = setUp(options);
    const leave = new AbortController();
    store.request(container(), leave.signal).catch(() => {});
    await settle();
    leave.abort();
    const asked = store.request(container(fields), never);
    await settle();
    t.equal(runtime.calls.length, 1);
    runtime.call(0).end('c1');
    await settle();
    t.same(runtime.removed, ['c1']);
    runtime.call(1).end('c2');
    t.equal((await asked).made.id, 'c2');
  });
}

t.test('a higher attempt joins the running container and gets the held one', async (t) => {
  const all = setUp();
  await held(all);
  const next = await all.store.request(container({ attempt: 1 }), never);
  t.equal(next.made.id, 'c1');
  next.settle(true);
  t.equal((await all.store.request(container({ attempt: 1 }), never)).made.id, 'c1', 'and again, until it is used');
  t.equal(all.runtime.calls.length, 1);
});

t.test('a higher attempt of a delivered container is made', async (t) => {
  const { runtime, store } = setUp();
  const first = store.request(container(), never);
  await settle();
  runtime.call(0).end('c0');
  (await first).settle(true);
  const next = store.request(container({ attempt: 1 }), never);
  await settle();
  runtime.call(1).end('c1');
  t.equal((await next).made.id, 'c1');
  t.same(runtime.removed, []);
});

t.test('a queued creation is sent as it was last asked for, and keeps its place', async (t) => {
  const { runtime, store } = setUp({ limit: 1 });
  store.request(podSandbox(), never).catch(() => {});
  await settle();
  const leave = new AbortController();
  store.request(container({ image: 'old' }), leave.signal).catch(() => {});
  store.request(container({ name: 'behind' }), never).catch(() => {});
  await settle();
  leave.abort();
  const newer = container({ image: 'new', attempt: 1, podSandboxId: 's2', hash: '2' });
  const asked = store.request(newer, never);
  runtime.call(0).end('s1');
  await settle();
  t.equal(runtime.calls.length, 2);
  t.ok(runtime.call(1).bytes.equals(newer.bytes));
  runtime.call(1).end('c1');
  t.equal((await asked).made.id, 'c1');
});

t.test('a queued creation is as urgent as it was last asked for', async (t) => {
  const { runtime, store } = setUp({ limit: 1 });
  store.request(podSandbox(), never).catch(() => {});
  await settle();
  store.request(container({ name: 'first' }), never).catch(() => {});
  store.request(container({ name: 'second' }), never).catch(() => {});
  await settle();
  const urgent = { ...container({ name: 'second', image: 'newer' }), urgency: { importance: 'static' as const } };
  store.request(urgent, never).catch(() => {});
  await settle();
  runtime.call(0).end('s1');
  await settle();
  t.match(runtime.call(1).fingerprint.identity, { container: 'second' });
});

t.test('a queued creation nobody asked for within the hold time is dropped unstarted', async (t) => {
  const { runtime, store, clock, steps } = setUp({ limit: 1 });
  store.request(podSandbox(), never).catch(() => {});
  await settle();
  const leave = new AbortController();
  store.request(container(), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  await clock.advance(10_001);
  runtime.call(0).end('s1');
  await settle();
  t.equal(runtime.calls.length, 1);
  t.ok(steps.includes('dropped'));
});

t.test('the hold time of a queued creation begins when its last waiter leaves', async (t) => {
  const { runtime, store, clock } = setUp({ limit: 1 });
  store.request(podSandbox(), never).catch(() => {});
  await settle();
  const leave = new AbortController();
  store.request(container(), leave.signal).catch(() => {});
  await clock.advance(8_000);
  leave.abort();
  await clock.advance(9_000);
  runtime.call(0).end('s1');
  await settle();
  t.equal(runtime.calls.length, 2);
});

t.test('what is evicted is found by its id no more, and does not count', async (t) => {
  const { runtime, store } = setUp({ maxEntries: 1 });
  for (const name of ['a', 'b']) {
    const asked = store.request(container({ name }), never);
    await settle();
    runtime.call(-1).end(`id-${name}`);
    (await asked).settle(true);
  }
  t.equal(store.named('container', 'id-a'), undefined);
  t.ok(store.named('container', 'id-b'));
  t.same(store.census.sizes, { live: 0, answered: 1, hidden: 0, backingOff: 0, wedged: 0 });
});

t.test('what refuses a creation before it begins is told to its waiters', async (t) => {
  const { runtime, guard, store } = setUp();
  guard.start = { containerId: 'c0', attempt: 0, sinceMs: 0 };
  guard.passes = Promise.reject(new Error('already running'));
  guard.passes.catch(() => {});
  await t.rejects(store.request(container(), never), { message: 'already running' });
  t.equal(runtime.calls.length, 0);
});

t.test('a replay whose caller leaves during the check leaves the container held', async (t) => {
  const all = setUp();
  await held(all);
  all.runtime.checkGate = new Promise(() => {});
  const leave = new AbortController();
  const retry = all.store.request(container(), leave.signal);
  await settle();
  leave.abort();
  await t.rejects(retry, WaiterLeftError);
  all.runtime.checkGate = Promise.resolve();
  await all.clock.advance(10_000);
  t.same(all.runtime.removed, ['c1'], 'and is removed in its time');
});

t.test('a held container whose pod sandbox is gone is removed before a new one is made', async (t) => {
  const all = setUp();
  await held(all);
  all.runtime.conditions.set('c1', 'unusable');
  const retry = all.store.request(container(), never);
  await settle();
  t.same(all.runtime.removed, ['c1']);
  all.runtime.call(1).end('c2');
  t.equal((await retry).made.id, 'c2');
});

t.test('closing leaves no timer behind', async (t) => {
  const all = setUp();
  await held(all);
  all.runtime.removalErrors = [new Error('busy')];
  await all.clock.advance(10_000);
  t.equal(all.clock.pending, 1);
  all.store.close();
  t.equal(all.clock.pending, 0);
});

t.test('nothing is remembered of creations that were used', async (t: Test) => {
  const { runtime, store } = setUp();
  for (let n = 0; n < 50; n++) {
    const asked = store.request(container({ name: `c${n}` }), never);
    await settle();
    runtime.call(n).end(`id${n}`);
    (await asked).settle(true);
    store.used('container', `id${n}`);
  }
  t.same(store.census.sizes, { live: 0, answered: 0, hidden: 0, backingOff: 0, wedged: 0 });
});

t.test('queued creations that nobody waits for are bounded: the oldest are dropped and leave nothing', async (t) => {
  const { store, runtime, steps } = setUp({ limit: 1, maxEntries: 2 });
  store.request(container({ name: 'running' }), never).catch(() => {});
  const abandon = async (name: string) => {
    const leave = new AbortController();
    const asked = store.request(container({ name }), leave.signal);
    leave.abort();
    await asked.catch(() => {});
  };
  for (const name of ['a', 'b']) await abandon(name);
  const patient = store.request(container({ name: 'a' }), never);
  for (const name of ['c', 'd', 'e', 'f']) await abandon(name);
  t.equal(steps.filter((step) => step === 'dropped').length, 3, 'b, c and d; a is waited for again');
  t.equal(store.census.sizes.live, 4);
  for (const id of ['1', '2', '3', '4']) {
    runtime.calls.at(-1)?.end(id);
    await settle();
  }
  t.equal((await patient).made.id, '2');
  t.equal(runtime.calls.length, 4);
});

/** Fails the same creation so often, `everyMs` apart. */
async function failing({ runtime, store, clock }: ReturnType<typeof setUp>, times: number, everyMs = 1_000) {
  for (let n = 0; n < times; n += 1) {
    const asked = store.request(podSandbox(), never);
    asked.catch(() => {});
    await settle();
    runtime.calls.at(-1)?.fail(new Error('no network'));
    await clock.advance(everyMs);
  }
}

t.test('what failed three times in a row pauses longer from try to try, at most 30 s, its waiter held', async (t) => {
  const all = setUp();
  const { runtime, store, clock } = all;
  await failing(all, 3, 0);
  for (const [at, pauseMs] of [2_000, 4_000, 8_000, 16_000, 30_000, 30_000].entries()) {
    const asked = store.request(podSandbox(), never);
    asked.catch(() => {});
    await settle();
    t.equal(store.census.sizes.backingOff, 1);
    await clock.advance(pauseMs - 1);
    t.equal(runtime.calls.length, 3 + at, `not before ${pauseMs} ms`);
    await clock.advance(1);
    t.equal(runtime.calls.length, 4 + at);
    t.equal(store.census.sizes.backingOff, 0);
    runtime.call(3 + at).fail(new Error('no network'));
    await t.rejects(asked, { message: 'no network' });
  }
  t.match(all.details.filter(({ step }) => step === 'backing off').slice(0, 2), [
    { failures: 3, pauseMs: 2_000 },
    { failures: 4, pauseMs: 4_000 },
  ]);
});

t.test('the pause counts from the failure: a request that comes later than that does not wait', async (t) => {
  const all = setUp();
  await failing(all, 3, 2_000);
  all.store.request(podSandbox(), never).catch(() => {});
  await settle();
  t.equal(all.runtime.calls.length, 4);
});

t.test('one or two failures cost no pause', async (t) => {
  const all = setUp();
  await failing(all, 3, 0);
  t.equal(all.runtime.calls.length, 3);
});

t.test('a success ends the row of failures', async (t) => {
  const all = setUp();
  const { runtime, store } = all;
  await failing(all, 2, 0);
  const asked = store.request(podSandbox(), never);
  await settle();
  runtime.call(2).end('s1');
  (await asked).settle(true);
  store.used('podSandbox', 's1');
  await failing(all, 3, 0);
  t.equal(runtime.calls.length, 6);
});

t.test('a changed request does not pause, also where it joins one that pauses', async (t) => {
  const all = setUp();
  const { runtime, store } = all;
  await failing(all, 3, 0);
  store.request(podSandbox(), never).catch(() => {});
  await settle();
  t.equal(runtime.calls.length, 3);
  store.request(podSandbox(0, 'other'), never).catch(() => {});
  await settle();
  t.equal(runtime.calls.length, 4);
});

t.test('the next attempt of what keeps failing pauses too', async (t) => {
  const all = setUp();
  await failing(all, 3, 0);
  all.store.request(podSandbox(1), never).catch(() => {});
  await settle();
  t.equal(all.runtime.calls.length, 3);
  await all.clock.advance(2_000);
  t.equal(all.runtime.calls.length, 4);
});

t.test('a waiter of a creation that pauses leaves at its own deadline, and a retry joins the pause', async (t) => {
  const all = setUp();
  const { runtime, store, clock } = all;
  await failing(all, 3, 0);
  const leave = new AbortController();
  const asked = store.request(podSandbox(), leave.signal);
  await clock.advance(1_500);
  leave.abort();
  await t.rejects(asked, WaiterLeftError);
  const retry = store.request(podSandbox(), never);
  await clock.advance(500);
  runtime.call(3).end('s1');
  t.match(await retry, { role: 'joined', made: { id: 's1' } });
});

t.test('pauses keep nobody else back, and closing ends them', async (t) => {
  const all = setUp({ limit: 1 });
  const { runtime, store, clock } = all;
  await failing(all, 3, 0);
  store.request(podSandbox(), never).catch(() => {});
  store.request(container(), never).catch(() => {});
  await settle();
  t.equal(runtime.calls.length, 4);
  store.close();
  await settle();
  t.equal(clock.pending, 0);
  t.equal(runtime.calls.length, 4);
});

t.test('who has left before it asks begins nothing', async (t) => {
  const rig = setUp();
  await t.rejects(rig.store.request(container(), AbortSignal.abort()), WaiterLeftError);
  t.same([rig.runtime.calls.length, rig.steps.length], [0, 0]);
});
