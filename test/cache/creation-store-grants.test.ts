/** What becomes of a creation between the runtime's answer and the waiter, and what ids say of it. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { settle } from '../support/manual-clock.js';
import { askAndLeave, container, held, item, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

function ask({ store }: StoreRig, request = container()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
}

/** One that somebody waited for. */
async function answered(rig: StoreRig, id: string, request = container()) {
  const asked = ask(rig, request);
  await settle();
  rig.runtime.call(-1).end(id);
  return asked;
}

/** Lets looks wait until it is called. */
function holdLooks({ runtime }: StoreRig): () => Promise<void> {
  let go = () => {};
  runtime.checkGate = new Promise((resolve) => {
    go = resolve;
  });
  return () => {
    runtime.checkGate = Promise.resolve();
    go();
    return settle();
  };
}

t.test('each waiter says once whether it got its answer', async (t) => {
  const rig = setUp();
  const first = ask(rig);
  const second = ask(rig);
  await settle();
  rig.runtime.call(0).end('c1');
  const grant = await first;
  grant.settle(false);
  grant.settle(false);
  t.notOk(rig.steps.includes('held'), 'the other answer is under way');
  grant.settle(true);
  t.notOk(rig.steps.includes('delivered'), 'what was said first counts');
  (await second).settle(false);
  t.equal(rig.steps.at(-1), 'held');
});

t.test('what is used during a look is somebody’s, and the request begins anew', async (t) => {
  const rig = setUp();
  await held(rig);
  const letGo = holdLooks(rig);
  const asked = ask(rig);
  await settle();
  rig.store.used('container', 'c1');
  await letGo();
  t.equal(rig.runtime.calls.length, 2);
  rig.runtime.call(1).end('c2');
  t.match(await asked, { role: 'started', made: { id: 'c2' } });
  t.notOk(rig.steps.includes('changed'));
  t.same(rig.runtime.removed, []);
});

t.test(
  'what another request makes way for during a look is not given, and removed once the look is over',
  async (t) => {
    const rig = setUp();
    await held(rig);
    const letGo = holdLooks(rig);
    const asked = ask(rig);
    const other = ask(rig, container({ hash: '2' }));
    await settle();
    t.equal(rig.runtime.calls.length, 1);
    await letGo();
    await settle();
    t.same(rig.runtime.removed, ['c1']);
    rig.runtime.call(1).end('c2');
    t.equal((await other).made.id, 'c2');
    t.notOk(rig.steps.includes('changed'));
    t.notOk(rig.steps.includes('replayed'));
    void asked;
  },
);

t.test('what cannot be looked at is removed in its time', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.checkErrors = [new Error('unknown')];
  await t.rejects(ask(rig));
  await rig.clock.advance(10_000);
  t.same(rig.runtime.removed, ['c1']);
});

t.test('what was given with failed resources is removed in its time too', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.updateErrors = [new Error('no')];
  await t.rejects(ask(rig, container({ memory: 5 })));
  await rig.clock.advance(10_000);
  t.same(rig.runtime.removed, ['c1']);
});

t.test('what was delivered is given again to each attempt that had it', async (t) => {
  const rig = setUp();
  const lower = ask(rig);
  await settle();
  const higher = ask(rig, container({ attempt: 1 }));
  await settle();
  rig.runtime.call(0).end('c1');
  (await lower).settle(true);
  (await higher).settle(true);
  for (const attempt of [0, 1]) {
    const grant = await ask(rig, container({ attempt }));
    t.match(grant, { role: 'replayed', made: { id: 'c1' } });
    grant.settle(false);
  }
  ask(rig, container({ attempt: 2 }));
  await settle();
  t.equal(rig.runtime.calls.length, 2, 'and to no other');
});

t.test('what was held is given again to the attempt that got it, also before that is known', async (t) => {
  const rig = setUp();
  await held(rig);
  const first = await ask(rig, container({ attempt: 1 }));
  first.settle(true);
  t.equal((await ask(rig, container({ attempt: 1 }))).role, 'replayed');
  t.equal((await ask(rig)).role, 'replayed');
});

t.test(
  'what was made by another request is given its resources, whatever they are, where some are asked for',
  async (t) => {
    for (const [memory, updated] of [
      [64, ['x']],
      [0, []],
    ] as const) {
      const rig = setUp();
      rig.runtime.holders = [{ condition: 'fits', id: 'x' }];
      const asked = ask(rig, container({ memory }));
      await settle();
      rig.runtime.call(0).fail(new NameReservedError(new Error('reserved'), 'x'));
      const grant = await asked;
      t.equal(grant.made.id, 'x');
      t.same(rig.runtime.updated, updated);
      grant.settle(false);
      (await ask(rig, container({ memory }))).settle(false);
      t.same(rig.runtime.updated, updated, 'once');
    }
  },
);

t.test('a pod sandbox is given no resources, whoever made it', async (t) => {
  const rig = setUp();
  rig.runtime.holders = [{ condition: 'fits', id: 'x' }];
  const asked = ask(rig, podSandbox());
  await settle();
  rig.runtime.call(0).fail(new NameReservedError(new Error('reserved'), 'x'));
  t.equal((await asked).made.id, 'x');
  t.same(rig.runtime.updated, []);
});

t.test('a pod sandbox that somebody looks at is theirs where its id was answered, and only then', async (t) => {
  for (const [state, calls] of [
    ['answered', 2],
    ['delivered', 2],
    ['shown', 1],
  ] as const) {
    const rig = setUp();
    const grant = await answered(rig, 's1', podSandbox());
    if (state !== 'answered') grant.settle(state === 'delivered');
    rig.store.lookedAt('s1');
    ask(rig, podSandbox());
    await settle();
    t.equal(rig.runtime.calls.length, calls, state);
  }
});

t.test('looking at what is not known, or at a container by the id of a pod sandbox, says nothing', async (t) => {
  const rig = setUp();
  await answered(rig, 'c1');
  rig.store.lookedAt('c1');
  rig.store.lookedAt('s9');
  rig.store.used('podSandbox', 'c1');
  rig.store.used('container', 's9');
  rig.store.ended('container', 's9');
  t.equal((await ask(rig)).role, 'replayed');
});

t.test(
  'a pod sandbox that ends is forgotten with its containers, a container of that id takes nothing along',
  async (t) => {
    const rig = setUp();
    (await answered(rig, 's', podSandbox())).settle(true);
    await held(rig);
    rig.store.ended('container', 's');
    await settle();
    t.same(rig.runtime.removed, []);
    t.match(rig.store.sizes, { answered: 1, hidden: 1 });
    rig.store.ended('podSandbox', 's');
    t.equal(rig.store.named('podSandbox', 's'), undefined);
    await settle();
    t.same(rig.runtime.removed, ['c1']);
  },
);

t.test('sizes are those of each sort', async (t) => {
  const rig = setUp({ limit: 3, wedgeAfterMs: 0 });
  (await answered(rig, 'c1', container({ name: 'a' }))).settle(true);
  await held(rig, { name: 'b' }, 'c2');
  ask(rig, container({ name: 'c' }));
  await settle();
  rig.runtime.call(-1).fail(new NameReservedError(new Error('reserved'), 'x'));
  await settle();
  for (let n = 0; n < 4; n += 1) {
    ask(rig, podSandbox());
    await settle();
    if (n < 3) rig.runtime.call(-1).fail(new Error('no network'));
    await settle();
  }
  t.same(rig.store.sizes, { live: 3, answered: 1, hidden: 1, backingOff: 1, wedged: 1 });
});

t.test('a container may be hidden from its upstream call on, until it is known who has it', async (t) => {
  const rig = setUp();
  t.notOk(rig.store.mayHide);
  const asked = ask(rig);
  t.notOk(rig.store.mayHide);
  await settle();
  t.ok(rig.store.mayHide);
  rig.runtime.call(0).end('c1');
  (await asked).settle(true);
  t.notOk(rig.store.mayHide);
  await held(rig, { name: 'other' }, 'c2');
  t.ok(rig.store.mayHide);
});

t.test('ids are not known until the runtime has answered, or a report has shown them', async (t) => {
  for (const isReported of [true, false]) {
    const rig = setUp();
    t.notOk(rig.store.hidesUnknownIds);
    await askAndLeave(rig, container());
    t.ok(rig.store.hidesUnknownIds);
    if (isReported) t.ok(rig.store.hiddenOwner(item('c1')));
    else rig.runtime.call(0).end('c1');
    await settle();
    t.notOk(rig.store.hidesUnknownIds);
    t.ok(rig.store.hiddenOwner(item('c1', { podSandboxId: '?' })));
  }
});

t.test('what is answered for a doomed container is told by its id until it is removed', async (t) => {
  const rig = setUp();
  await askAndLeave(rig, container());
  ask(rig, container({ hash: '2' }));
  const letGo = holdLooks(rig);
  rig.runtime.call(0).end('c1');
  await settle();
  t.notOk(rig.store.hidesUnknownIds);
  t.ok(rig.store.hiddenOwner(item('c1', { podSandboxId: '?' })));
  await letGo();
  t.same(rig.runtime.removed, ['c1']);
});

t.test('what is held is removed at the end', async (t) => {
  const rig = setUp();
  await held(rig);
  await rig.store.removeHeld();
  t.same(rig.runtime.removed, ['c1']);
});

t.test('closing cuts short what runs and ends what waits for a name, a start or a removal', async (t) => {
  const rig = setUp();
  const running = ask(rig, podSandbox());
  await settle();
  await held(rig, { name: 'a' });
  rig.runtime.removalErrors = [new Error('busy')];
  await rig.clock.advance(10_000);
  const waiting = ask(rig, container({ name: 'a' }));
  const named = ask(rig, container({ name: 'b' }));
  await settle();
  rig.runtime.call(-1).fail(new NameReservedError(new Error('reserved'), 'x'));
  await settle();
  rig.store.close();
  for (const asked of [running, waiting, named]) await t.rejects(asked, { name: 'ShutDownError' });
  t.ok(rig.runtime.call(0).signal.aborted);
  await rig.clock.advance(60_000);
  t.equal(rig.clock.pending, 0);
  t.equal(rig.runtime.calls.length, 3);
});
