/** What a store says of each step of a creation, for the log and the metrics. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { DroppedError } from '../../src/cache/detached-call.js';
import { StartedMeanwhileError } from '../../src/cache/second-copy-guard.js';
import { settle } from '../support/manual-clock.js';
import { askAndLeave, container, held, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

function ask({ store }: StoreRig, request = container()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
}

/** What was said of a step, each time. */
function said({ details }: StoreRig, step: string) {
  return details.filter((detail) => detail.step === step).map(({ step: _, ageMs: __, ...detail }) => detail);
}

t.test('a creation that is waited for is queued, started, answered and delivered', async (t) => {
  const rig = setUp();
  const asked = ask(rig);
  await settle();
  await rig.clock.advance(500);
  rig.runtime.call(0).end('c1');
  (await asked).settle(true);
  t.same(rig.details, [
    { step: 'queued', ageMs: 0, behind: 0 },
    { step: 'started', ageMs: 0 },
    { step: 'answered', ageMs: 500, waiters: 1 },
    { step: 'delivered', ageMs: 500 },
  ]);
});

t.test('what is queued is said with how many were before it', async (t) => {
  const rig = setUp({ limit: 1 });
  for (const name of ['a', 'b', 'c']) {
    ask(rig, container({ name }));
    await settle();
  }
  t.same(
    said(rig, 'queued').map(({ behind }) => behind),
    [0, 0, 1],
  );
});

t.test(
  'who joins and who leaves is said with how many wait then, and an answer that nobody gets is none',
  async (t) => {
    const rig = setUp();
    const leaves = [new AbortController(), new AbortController()];
    for (const { signal } of leaves) rig.store.request(container(), signal).catch(() => {});
    await settle();
    t.same(said(rig, 'waiter joined'), [{ waiters: 2 }]);
    for (const leave of leaves) leave.abort();
    t.same(said(rig, 'waiter left'), [{ waiters: 1 }, { waiters: 0 }]);
    rig.runtime.call(0).end('c1');
    await settle();
    t.same(rig.steps.slice(-1), ['held']);
    t.notOk(rig.steps.includes('answered'));
  },
);

t.test('a container is hidden when its last waiter leaves, not before', async (t) => {
  const rig = setUp();
  const leaves = [new AbortController(), new AbortController()];
  for (const { signal } of leaves) rig.store.request(container(), signal).catch(() => {});
  await settle();
  leaves[0]?.abort();
  t.notOk(rig.store.hiding);
  leaves[1]?.abort();
  t.ok(rig.store.hiding);
});

t.test('what hangs is said with how long it takes and what is usual', async (t) => {
  const rig = setUp({ admission: { hung: { deadlineShare: 1, most: 16, giveUp: undefined } } });
  ask(rig);
  await rig.clock.advance(100);
  rig.runtime.call(0).end('c1');
  await settle();
  ask(rig, container({ name: 'other' }));
  await rig.clock.advance(5_000);
  t.same(said(rig, 'hangs'), [{ tookMs: 2_000, usualMs: 100 }]);
  rig.store.close();
});

t.test('an answer that is given again is said, and one that is not as it was made any more', async (t) => {
  const rig = setUp();
  await held(rig);
  (await ask(rig)).settle(false);
  t.same(rig.steps.slice(-2), ['replayed', 'held']);
  rig.runtime.conditions.set('c1', 'unusable');
  ask(rig);
  await settle();
  t.same(said(rig, 'changed'), [{ condition: 'unusable' }]);
  t.equal(said(rig, 'replayed').length, 1);
});

t.test('a look that cannot tell is said each time, and from the third on it is somebody’s', async (t) => {
  const rig = setUp();
  await held(rig);
  const error = new Error('unknown');
  rig.runtime.checkErrors = [error, error, error];
  for (const times of [1, 2]) {
    await t.rejects(ask(rig), error);
    t.same(said(rig, 'cannot be told').at(-1), { error, times });
    t.ok(rig.store.hiding);
  }
  await t.rejects(ask(rig), error);
  t.same(said(rig, 'cannot be told').at(-1), { error, times: 3 });
  t.same(rig.seen, ['revealed c1']);
});

t.test('a look that can tell ends the row of those that could not', async (t) => {
  const rig = setUp();
  await held(rig);
  for (let n = 0; n < 4; n += 1) {
    rig.runtime.checkErrors = [new Error('unknown')];
    await t.rejects(ask(rig));
    (await ask(rig)).settle(false);
  }
  t.ok(rig.store.hiding);
  t.same(
    said(rig, 'cannot be told').map(({ times }) => times),
    [1, 1, 1, 1],
  );
});

t.test('who leaves during a look says nothing about the container', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.checkGate = new Promise(() => {});
  for (let n = 0; n < 4; n += 1) await askAndLeave(rig, container());
  t.ok(rig.store.hiding);
  t.notOk(rig.steps.includes('cannot be told'));
});

t.test('drift is said with the attempt that asks, where it joins and where it is given what is made', async (t) => {
  const rig = setUp();
  ask(rig);
  await settle();
  const joined = ask(rig, container({ image: 'other', attempt: 2 }));
  t.same(said(rig, 'drift'), [{ differs: ['config.image.image'], askedAttempt: 2 }]);
  rig.runtime.call(0).end('c1');
  (await joined).settle(false);
  await ask(rig, container({ image: 'third', attempt: 1 }));
  t.same(said(rig, 'drift').at(-1), { differs: ['config.image.image'], askedAttempt: 1 });
  t.equal(said(rig, 'drift').length, 2);
});

t.test('what does not differ is not said to', async (t) => {
  const rig = setUp();
  ask(rig);
  await settle();
  const joined = ask(rig, container({ attempt: 1 }));
  rig.runtime.call(0).end('c1');
  (await joined).settle(false);
  await ask(rig);
  t.notOk(rig.steps.includes('drift'));
});

t.test('a name that is taken is said with whose it is', async (t) => {
  const rig = setUp();
  ask(rig);
  await settle();
  rig.runtime.call(0).fail(new NameReservedError(new Error('reserved'), 'x'));
  await settle();
  t.same(said(rig, 'name reserved'), [{ holderId: 'x' }]);
});

t.test('resources that are given are said once they are, what cannot be given makes it unusable', async (t) => {
  const rig = setUp();
  await held(rig);
  (await ask(rig, container({ memory: 5 }))).settle(false);
  t.same(said(rig, 'resources updated'), [{}]);
  const error = new Error('no such cgroup');
  rig.runtime.updateErrors = [error, error, error];
  for (let n = 0; n < 3; n += 1) {
    t.same(said(rig, 'changed'), []);
    await t.rejects(ask(rig, container({ memory: 6 })), error);
  }
  t.same(said(rig, 'changed'), [{ condition: 'unusable', error }]);
  t.same(said(rig, 'resources updated'), [{}]);
});

t.test('a creation that no request gets any more is said to be superseded', async (t) => {
  const rig = setUp();
  await held(rig);
  ask(rig, container({ hash: '2' }));
  await settle();
  t.same(said(rig, 'superseded'), [{}]);
  t.same(
    said(rig, 'reaped').map(({ why }) => why),
    ['superseded'],
  );
});

t.test('a failure is said with its error and for how many', async (t) => {
  const rig = setUp();
  ask(rig);
  ask(rig);
  await settle();
  const error = new Error('disk full');
  rig.runtime.call(0).fail(error);
  await settle();
  t.same(said(rig, 'failed'), [{ waiters: 2, error }]);
});

t.test('how long a container was held counts from its last use', async (t) => {
  const rig = setUp();
  await held(rig);
  await rig.clock.advance(4_000);
  (await ask(rig)).settle(false);
  await rig.clock.advance(10_000);
  t.match(said(rig, 'reaped'), [{ heldMs: 10_000 }]);
});

t.test('a refusal that nobody hears is passed back, one that somebody hears is not', async (t) => {
  for (const isHeard of [true, false]) {
    const rig = setUp();
    let unheard = 0;
    const start = { containerId: 'c0', attempt: 0, sinceMs: 0 };
    const refusal = Object.create(StartedMeanwhileError.prototype, { unheard: { value: () => (unheard += 1) } });
    rig.guard.start = start;
    let refuse: (error: Error) => void = () => {};
    rig.guard.passes = new Promise((_, reject) => {
      refuse = reject;
    });
    if (isHeard) ask(rig);
    await askAndLeave(rig, container());
    refuse(refusal);
    await settle();
    t.equal(unheard, isHeard ? 0 : 1);
  }
});

t.test('what nobody can be given any more is not made anew when it is given up, and its waiter is told', async (t) => {
  const rig = setUp({
    creationTimeoutMs: 900_000,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30_000 } } },
  });
  const lower = ask(rig, podSandbox(0));
  await settle();
  const higher = ask(rig, podSandbox(1));
  await rig.clock.advance(30_000);
  const error = await lower.catch((error: unknown) => error);
  t.ok(error instanceof DroppedError);
  t.match(error, { message: 'nobody can be given it any more' });
  t.equal(rig.runtime.calls.length, 2);
  rig.runtime.call(1).end('s1');
  t.equal((await higher).made.id, 's1');
  t.same(rig.runtime.removed, []);
});

t.test('nor is it where its name is taken, which is no failure', async (t) => {
  const rig = setUp();
  const lower = ask(rig, podSandbox(0));
  await settle();
  ask(rig, podSandbox(1));
  await settle();
  rig.runtime.call(0).fail(new NameReservedError(new Error('reserved'), 'x'));
  await t.rejects(lower, { message: 'nobody can be given it any more' });
  await settle();
  t.equal(rig.runtime.calls.length, 2);
  for (const call of [1, 2]) {
    rig.runtime.call(call).fail(new Error('no network'));
    await settle();
    ask(rig, podSandbox(1));
    await settle();
  }
  t.equal(rig.runtime.calls.length, 4, 'one that has failed twice does not pause');
});

t.test('a name that is said to be taken of what was given up before is not looked into', async (t) => {
  const rig = setUp({
    creationTimeoutMs: 900_000,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30_000 } } },
  });
  const asked = ask(rig, podSandbox());
  await rig.clock.advance(30_000);
  t.equal(rig.runtime.calls.length, 2);
  rig.runtime.call(0).fail(new NameReservedError(new Error('reserved'), 'x'));
  await settle();
  t.notOk(rig.steps.includes('name reserved'));
  rig.runtime.call(1).end('s1');
  await asked;
  rig.store.close();
});
