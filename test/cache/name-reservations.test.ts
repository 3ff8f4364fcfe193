import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { again, WaiterLeftError } from '../../src/cache/detached-call.js';
import { NameReservations } from '../../src/cache/name-reservations.js';
import { Reaper } from '../../src/cache/reaper.js';
import { ContainerState } from '../../src/cri/enums.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { container, item, lone, never, podSandbox, type StoreRig, setUp, TestRuntime } from './store-rig.js';

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
  const isWaiting = () => rig.store.census.views()[0]?.progress?.at === 'waiting';
  for (let turn = 0; turn < 10 && !isWaiting(); turn += 1) await settle();
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
      if (second === 100) t.equal(rig.store.census.sizes.wedged, 0, 'not before');
    }
    t.equal(rig.store.census.sizes.wedged, 1);
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
    t.equal(rig.store.census.sizes.wedged, 0);
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
  t.match(rig.store.census.sizes, { live: 0, hidden: 0, wedged: 0 });
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
  t.match(rig.store.census.views()[0]?.progress, {
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
      t.match(rig.store.census.sizes, { live: 0, wedged: 0 });
      t.notOk(rig.steps.includes('wedged'));
    }
  },
);

t.test('20: another attempt that takes a wedged creation over is no wedge yet', async (t) => {
  const rig = setUp({ wedgeAfterMs: 0 });
  taken(rig).catch(() => {});
  await rig.clock.advance(0);
  t.equal(rig.store.census.sizes.wedged, 1);
  rig.store.request(container({ attempt: 1 }), never).catch(() => {});
  await settle();
  t.equal(rig.store.census.sizes.wedged, 0);
  t.equal(rig.runtime.calls.length, 2, 'nor does it wait for the name of the one before');
});

/** Nobody waits for the container, and what has its name is found to be unusable. */
async function hiddenAndTaken(rig: StoreRig): Promise<void> {
  const leave = new AbortController();
  rig.store.request(container(), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  rig.runtime.holders = [{ condition: 'unusable', id: 'x' }];
  rig.runtime.call(0).fail(reserved());
  await settle();
}

t.test('20: what had the name and was removed is left out of a list that still shows it', async (t) => {
  const rig = setUp();
  await hiddenAndTaken(rig);
  t.same(rig.runtime.removed, ['x']);
  t.ok(rig.store.hiddenOwner(item('x', { state: ContainerState.created })));
});

t.test('20: what has the name and cannot be removed is there to be seen', async (t) => {
  const rig = setUp();
  rig.runtime.removalErrors = [new Error('device or resource busy')];
  await hiddenAndTaken(rig);
  t.notOk(rig.store.hiddenOwner(item('x', { state: ContainerState.created })));
  t.ok(rig.store.hiddenOwner(item('c1', { state: ContainerState.created })), 'only what is made is hidden');
});

/** One creation, without a store. `resolve`: the runtime has answered that its name is taken, and whose it is. */
function setUpAlone() {
  const clock = new ManualClock();
  const runtime = new TestRuntime();
  const steps: Readonly<Record<string, unknown>>[] = [];
  const reaper = new Reaper(runtime, clock);
  const reservations = new NameReservations<string, string>(runtime, reaper, clock, 120_000, (step, _, detail) => {
    steps.push({ step, ...detail });
  });
  const request = container();
  const creation = lone(request, clock);
  const resolve = (holderId?: string, signal = never) =>
    reservations.resolve(creation, request.bytes, new NameReservedError(new Error('reserved'), holderId), signal);
  return { clock, runtime, steps, reservations, creation, resolve };
}

t.test('20: what else the runtime says is the answer, and says nothing of the name', async (t) => {
  const { clock, reservations, creation } = setUpAlone();
  t.equal(await reservations.resolve(creation, container().bytes, new Error('no space left'), never), undefined);
  t.equal(creation.reservation, undefined);
  t.equal(clock.pending, 0);
});

t.test('20: a name is said to be of what was seen to have it, or else of what the runtime named last', async (t) => {
  const { runtime, creation, resolve } = setUpAlone();
  runtime.holders = [{ condition: 'unseen', id: 'y' }, new Error('cannot be seen'), new Error('cannot be seen')];
  await resolve();
  t.equal(creation.reservation?.holderId, 'y');
  await resolve();
  t.equal(creation.reservation?.holderId, 'y', 'neither seen nor named');
  await resolve('x');
  t.equal(creation.reservation?.holderId, 'x');
});

t.test('20: why what has the name cannot be seen is forgotten when it can', async (t) => {
  const { runtime, creation, resolve } = setUpAlone();
  const error = new Error('cannot be seen');
  runtime.holders = [error];
  t.equal(await resolve('x'), again);
  t.equal(creation.reservation?.error, error);
  t.equal(await resolve('x'), again);
  t.equal(creation.reservation?.error, undefined);
});

t.test('20: a look that is cut short says nothing of the name', async (t) => {
  const { runtime, creation, resolve } = setUpAlone();
  const abort = new AbortController();
  runtime.holderOf = () =>
    new Promise((_, reject) => abort.signal.addEventListener('abort', () => reject(new Error())));
  const resolved = resolve('x', abort.signal);
  abort.abort();
  await t.rejects(resolved);
  t.equal(creation.reservation?.error, undefined);
});

t.test('20: what is still being made or rolled back is not removed, though its id is known', async (t) => {
  const { runtime, resolve } = setUpAlone();
  runtime.holders = [{ condition: 'unseen', id: 'x' }];
  t.equal(await resolve('x'), again);
  t.same(runtime.removed, []);
});

t.test('20: what has the name is looked at in the pod sandbox that it is in', async (t) => {
  for (const podSandboxId of ['before', undefined]) {
    const { runtime, resolve } = setUpAlone();
    runtime.conditionOf = async (subject) => (subject.podSandboxId === (podSandboxId ?? 's') ? 'unusable' : 'absent');
    runtime.holders = [{ condition: 'unusable', id: 'x', podSandboxId }];
    await resolve('x');
    t.same(runtime.removed, ['x']);
  }
});

t.test('20: it is told once that a name is taken, and of each removal for its sake', async (t) => {
  const { runtime, steps, resolve } = setUpAlone();
  runtime.holders = [{ condition: 'unusable', id: 'x' }];
  await resolve('x');
  await resolve('y');
  t.same(steps, [
    { step: 'name reserved', holderId: 'x' },
    { step: 'reaped', why: 'name reserved', removedId: 'x' },
  ]);
});

t.test('20: a wedge is told after wedge-after and then each minute, with for how long the name is taken', async (t) => {
  const { clock, runtime, steps, reservations, resolve } = setUpAlone();
  const error = new Error('cannot be seen');
  const wedgesAfter = async (ms: number) => {
    steps.length = 0;
    clock.skip(ms);
    runtime.holders = [error];
    await resolve('x');
    return steps.filter(({ step }) => step === 'wedged');
  };
  await resolve('x');
  t.same(await wedgesAfter(119_999), []);
  t.equal(reservations.wedged, 0);
  const wedge = { step: 'wedged', holderId: 'x', error };
  t.same(await wedgesAfter(1), [{ ...wedge, reservedMs: 120_000, first: true }]);
  t.equal(reservations.wedged, 1);
  t.same(await wedgesAfter(59_999), []);
  t.same(await wedgesAfter(1), [{ ...wedge, reservedMs: 180_000, first: false }]);
});
