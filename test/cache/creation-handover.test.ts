/** What becomes of a creation between the runtime's answer and the waiter: looks, resources, and whether the answer arrived. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { settle } from '../support/manual-clock.js';
import { container, held, holdLooks, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

function ask({ store }: StoreRig, request = container()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
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

t.test('a container that cannot be given its resources is made anew after a few tries', async (t) => {
  const rig = setUp();
  const { runtime } = rig;
  await held(rig);
  runtime.updateErrors = [1, 2, 3].map((n) => new Error(`no ${n}`));
  for (let tries = 0; tries < 2; tries += 1) ask(rig, container({ memory: 5 }));
  await settle();
  t.same(runtime.removed, [], 'a few tries are bad luck');
  ask(rig, container({ memory: 5 }));
  await settle();
  t.same(runtime.removed, ['c1']);
  ask(rig, container({ memory: 5 }));
  await settle();
  t.equal(runtime.calls.length, 2);
});

t.test('so is one whose update hangs', async (t) => {
  const rig = setUp();
  const { runtime, store } = rig;
  await held(rig);
  runtime.updateResources = () => new Promise(() => {});
  for (let tries = 0; tries < 3; tries += 1) {
    const leave = new AbortController();
    store.request(container({ memory: 5 }), leave.signal).catch(() => {});
    await settle();
    leave.abort();
    await settle();
  }
  t.same(runtime.removed, ['c1']);
});

t.test('what cannot be given its resources now and then is kept', async (t) => {
  const rig = setUp();
  const { runtime, store } = rig;
  await held(rig);
  for (let memory = 1; memory < 6; memory += 1) {
    runtime.updateErrors = [new Error('no')];
    ask(rig, container({ memory }));
    await settle();
    (await store.request(container({ memory }), never)).settle(false);
  }
  t.same(runtime.removed, []);
});
