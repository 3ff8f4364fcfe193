/** What ids say of creations, what is hidden, and what becomes of it all at the end. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { settle } from '../support/manual-clock.js';
import { askAndLeave, container, held, holdLooks, item, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

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
    t.match(rig.store.census.sizes, { answered: 1, hidden: 1 });
    rig.store.ended('podSandbox', 's');
    t.equal(rig.store.named('podSandbox', 's'), undefined);
    await settle();
    t.same(rig.runtime.removed, ['c1']);
  },
);

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
