import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { WaiterLeftError } from '../../src/cache/detached-call.js';
import { settle } from '../support/manual-clock.js';
import { container, item, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

const reserved = () => new NameReservedError(new Error('name "n" is reserved for "x"'), 'x');

/** A request whose name turns out to be taken. */
async function taken(rig: StoreRig, request = container()) {
  const asked = rig.store.request(request, never);
  asked.catch(() => {});
  await settle();
  rig.runtime.call(-1).fail(reserved());
  await settle();
  return asked;
}

t.test('20: what has the name and fits is the answer, without another upstream call', async (t) => {
  const rig = setUp();
  rig.runtime.holders = [{ condition: 'fits', id: 'x' }];
  const { made, settle: settleGrant } = await taken(rig);
  t.same(made, { id: 'x', answer: 'answer x' });
  t.equal(rig.runtime.calls.length, 1);
  settleGrant(false);
  t.ok(rig.store.hiddenOwner(item('x')), 'nobody has got it, so it is hidden');
});

t.test('20: what has the name and was never used is removed, and the creation tried again', async (t) => {
  const rig = setUp();
  rig.runtime.holders = [{ condition: 'unusable', id: 'x' }];
  rig.runtime.conditions.set('x', 'unusable');
  const asked = taken(rig);
  await rig.clock.advance(0);
  t.same(rig.runtime.removed, ['x']);
  t.equal(rig.runtime.calls.length, 2);
  rig.runtime.call(1).end('c1');
  t.equal((await asked).made.id, 'c1');
});

t.test(
  "20: what has been used by the time it would be removed is left alone, and the runtime's error is the answer",
  async (t) => {
    for (const holders of [[{ condition: 'unusable', id: 'x' }], [{ condition: 'in use', id: 'x' }]] as const) {
      const rig = setUp();
      rig.runtime.holders = [...holders];
      rig.runtime.conditions.set('x', 'in use');
      await t.rejects(taken(rig), { name: 'NameReservedError', message: /is reserved for "x"/ });
      t.same(rig.runtime.removed, []);
      t.equal(rig.runtime.calls.length, 1);
    }
  },
);

t.test('20: what is not to be seen yet is tried again after 250, 500, … at most 10,000 ms', async (t) => {
  const rig = setUp();
  const asked = taken(rig);
  asked.catch(() => {});
  while (rig.store.progressOf(container().fingerprint)?.at !== 'waiting') await settle();
  for (const pauseMs of [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]) {
    const before = rig.runtime.calls.length;
    await rig.clock.advance(pauseMs - 1);
    t.equal(rig.runtime.calls.length, before, `not before ${pauseMs} ms`);
    await rig.clock.advance(1);
    t.equal(rig.runtime.calls.length, before + 1);
    rig.runtime.call(-1).fail(reserved());
    await settle();
  }
  await rig.clock.advance(10_000);
  rig.runtime.call(-1).end('c1');
  t.equal((await asked).made.id, 'c1');
  t.equal(rig.clock.pending, 0);
});

t.test(
  '20: while a name is waited for nobody else is kept back, and the container is hidden if nobody waits',
  async (t) => {
    const rig = setUp({ limit: 1 });
    const leave = new AbortController();
    const asked = rig.store.request(container(), leave.signal);
    asked.catch(() => {});
    await settle();
    rig.runtime.call(0).fail(reserved());
    await settle();
    void rig.store.request(podSandbox(), never);
    await settle();
    t.equal(rig.runtime.calls.length, 2, 'its place is free');
    leave.abort();
    await t.rejects(asked, WaiterLeftError);
    t.ok(rig.store.hiddenOwner(item('x')), 'by identity');
  },
);

t.test('20, 18: whoever leaves is told of the name, whose it is, and since when', async (t) => {
  const rig = setUp();
  const leave = new AbortController();
  const asked = rig.store.request(container(), leave.signal);
  await settle();
  const sinceMs = rig.clock.now();
  rig.runtime.holders = [new Error('cannot be seen')];
  rig.runtime.call(0).fail(reserved());
  await settle();
  leave.abort();
  const error = await asked.catch((error: unknown) => error);
  t.match(error, {
    progress: { at: 'waiting', for: { what: 'name', id: 'x', sinceMs, error: { message: 'cannot be seen' } } },
  });
});

t.test(
  '20: after wedge-after it is a wedge: counted, logged each minute, and no more once the name is free',
  async (t) => {
    const rig = setUp();
    const asked = taken(rig);
    asked.catch(() => {});
    const wedges = () => rig.details.filter(({ step }) => step === 'wedged');
    for (let second = 0; second < 360; second += 1) {
      await rig.clock.advance(1_000);
      const call = rig.runtime.calls.at(-1);
      call?.fail(reserved());
      await settle();
      if (second === 100) t.equal(rig.store.sizes.wedged, 0, 'not before');
    }
    t.equal(rig.store.sizes.wedged, 1);
    t.match(
      wedges().map(({ first, holderId }) => [first, holderId]),
      [
        [true, 'x'],
        [false, 'x'],
        [false, 'x'],
        [false, 'x'],
      ],
    );
    await rig.clock.advance(10_000);
    rig.runtime.call(-1).end('c1');
    t.equal((await asked).made.id, 'c1');
    t.equal(rig.store.sizes.wedged, 0);
  },
);

t.test('20: a name that nobody asks for any more is given up after hold-ttl', async (t) => {
  const rig = setUp();
  const leave = new AbortController();
  rig.store.request(container(), leave.signal).catch(() => {});
  await settle();
  rig.runtime.call(0).fail(reserved());
  await settle();
  leave.abort();
  for (let n = 0; n < 12; n += 1) {
    await rig.clock.advance(2_000);
    if (rig.runtime.calls.length > 1) rig.runtime.call(-1).fail(reserved());
  }
  t.ok(rig.steps.includes('dropped'));
  t.match(rig.store.sizes, { live: 0, hidden: 0, wedged: 0 });
  t.equal(rig.clock.pending, 0);
});

t.test('20: a removal that fails is told, and tried again with the creation', async (t) => {
  const rig = setUp();
  rig.runtime.holders = [
    { condition: 'unusable', id: 'x' },
    { condition: 'unusable', id: 'x' },
  ];
  rig.runtime.conditions.set('x', 'unusable');
  rig.runtime.removalErrors = [new Error('device or resource busy')];
  const asked = taken(rig);
  asked.catch(() => {});
  await settle();
  t.match(rig.store.progressOf(container().fingerprint), {
    at: 'waiting',
    for: { what: 'name', id: 'x', error: { message: 'device or resource busy' } },
  });
  await rig.clock.advance(250);
  rig.runtime.call(-1).fail(reserved());
  await rig.clock.advance(500);
  t.same(rig.runtime.removed, ['x']);
  rig.runtime.call(-1).end('c1');
  t.equal((await asked).made.id, 'c1');
});

t.test('20, 10: what was made by another request is given the resources that are asked for', async (t) => {
  const rig = setUp();
  rig.runtime.holders = [{ condition: 'fits', id: 'x' }];
  await taken(rig, container({ memory: 256 }));
  t.same(rig.runtime.updated, ['x']);
});

t.test('20: what still has the name after it was removed is not removed again at once', async (t) => {
  const rig = setUp();
  const answer = async () => {
    rig.runtime.holders = [{ condition: 'unusable', id: 'x' }];
    rig.runtime.call(-1).fail(reserved());
    await settle();
    return rig.runtime.calls.length;
  };
  rig.store.request(container(), never).catch(() => {});
  await settle();
  t.equal(await answer(), 2, 'removed, so at once');
  t.equal(await answer(), 2, 'there still, so after a pause');
  await rig.clock.advance(250);
  t.equal(rig.runtime.calls.length, 3);
  t.equal(await answer(), 3);
  await rig.clock.advance(499);
  t.equal(rig.runtime.calls.length, 3, 'a longer one');
});

t.test(
  '20: a creation that has run out of time while it is found out what has its name removes and reports nothing',
  async (t) => {
    for (const holder of [{ condition: 'unusable', id: 'x' } as const, { condition: 'unseen', id: 'x' } as const]) {
      const rig = setUp({ wedgeAfterMs: 0 });
      let see = () => {};
      const seen = new Promise<void>((resolve) => {
        see = resolve;
      });
      rig.runtime.holderOf = async () => {
        await seen;
        return holder;
      };
      const asked = taken(rig);
      asked.catch(() => {});
      await rig.clock.advance(60_000);
      await t.rejects(asked, { name: 'CallTimeoutError' });
      see();
      await settle();
      t.same(rig.runtime.removed, []);
      t.match(rig.store.sizes, { live: 0, wedged: 0 });
      t.notOk(rig.steps.includes('wedged'));
    }
  },
);

t.test('20: another attempt that takes a wedged creation over is no wedge yet', async (t) => {
  const rig = setUp({ wedgeAfterMs: 0 });
  taken(rig).catch(() => {});
  await rig.clock.advance(0);
  t.equal(rig.store.sizes.wedged, 1);
  rig.store.request(container({ attempt: 1 }), never).catch(() => {});
  await settle();
  t.equal(rig.store.sizes.wedged, 0);
});
