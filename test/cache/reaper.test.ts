import t from 'tap';
import type { Condition } from '../../src/cache/creation-runtime.js';
import { Reaper } from '../../src/cache/reaper.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { container, held, item, never, podSandbox, setUp, TestRuntime } from './store-rig.js';

const busy = (times: number) => Array.from({ length: times }, () => new Error('busy'));

t.test('8: what is removed is looked at first: a container that has run is shown, and not removed', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.conditions.set('c1', 'in use');
  await rig.clock.advance(10_000);
  t.same(rig.runtime.removed, []);
  t.same(rig.seen, ['revealed c1']);
  t.match(rig.store.census.sizes, { live: 0, hidden: 0 });
});

t.test('8: a removal is tried five times within 15 s, then what it is for is shown and left alone', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.removalErrors = busy(9);
  await rig.clock.advance(24_999);
  t.equal(rig.runtime.removalErrors.length, 5);
  t.ok(rig.store.hiding, 'hidden until then');
  await rig.clock.advance(1);
  t.equal(rig.runtime.removalErrors.length, 4);
  t.same(rig.seen, ['revealed c1']);
  t.same(
    rig.details.filter(({ step }) => step === 'removal failed').map(({ nextTryMs }) => nextTryMs),
    [1_000, 2_000, 4_000, 8_000],
  );
  t.ok(rig.steps.includes('removal given up'));
  t.equal(rig.clock.pending, 0);
});

t.test('8: a look that fails counts as a removal that does', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.checkErrors = busy(5);
  await rig.clock.advance(25_000);
  t.same(rig.runtime.removed, []);
  t.same(rig.seen, ['revealed c1']);
});

t.test('8: what is absent needs no removal', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.conditions.set('c1', 'absent');
  await rig.clock.advance(10_000);
  t.same(rig.runtime.removed, []);
  t.same(rig.seen, ['vanished c1']);
});

t.test('8: its id used while it waits for its removal, it is not removed', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.removalErrors = busy(1);
  await rig.clock.advance(10_000);
  rig.store.used('container', 'c1');
  await rig.clock.advance(20_000);
  t.same(rig.runtime.removed, []);
});

t.test('6: checks that fail do not put off the time a container is held for', async (t) => {
  const rig = setUp();
  await held(rig);
  for (let n = 0; n < 2; n += 1) {
    rig.runtime.checkErrors = busy(1);
    await t.rejects(rig.store.request(container(), never), { message: 'busy' });
    await rig.clock.advance(4_000);
  }
  await rig.clock.advance(2_000);
  t.same(rig.runtime.removed, ['c1']);
});

t.test('6: checks that fail three times in a row leave the next request to the runtime', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.checkErrors = busy(3);
  for (let n = 0; n < 3; n += 1) await t.rejects(rig.store.request(container(), never), { message: 'busy' });
  t.same(rig.seen, ['revealed c1']);
  void rig.store.request(container(), never);
  await settle();
  t.equal(rig.runtime.calls.length, 2);
});

t.test('6: a check that succeeds ends the row', async (t) => {
  const rig = setUp();
  await held(rig);
  for (let n = 0; n < 4; n += 1) {
    rig.runtime.checkErrors = busy(2);
    for (let k = 0; k < 2; k += 1) await t.rejects(rig.store.request(container(), never), { message: 'busy' });
    (await rig.store.request(container(), never)).settle(false);
  }
  t.ok(rig.store.hiding);
});

t.test('a held container is removed when Holdfast ends, one that cannot be removed is shown at once', async (t) => {
  for (const fails of [false, true]) {
    const rig = setUp();
    await held(rig);
    if (fails) rig.runtime.removalErrors = busy(1);
    await rig.store.removeHeld();
    t.same(rig.runtime.removed, fails ? [] : ['c1']);
    t.equal(rig.store.hiding, false);
    t.equal(rig.clock.pending, 0);
  }
});

t.test(
  'a container that becomes held while Holdfast ends is removed at once, one under way is not waited for',
  async (t) => {
    const rig = setUp();
    const leave = new AbortController();
    rig.store.request(container(), leave.signal).catch(() => {});
    await settle();
    leave.abort();
    await rig.store.removeHeld();
    rig.runtime.call(0).end('c1');
    await settle();
    t.same(rig.runtime.removed, ['c1']);
  },
);

t.test('a removal that waits for its next try is tried once more when Holdfast ends', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.removalErrors = busy(1);
  await rig.clock.advance(10_000);
  t.same(rig.runtime.removed, []);
  await rig.store.removeHeld();
  t.same(rig.runtime.removed, ['c1']);
  t.equal(rig.clock.pending, 0);
});

t.test(
  '5: a list that was asked for before a container was removed leaves it out, one asked for later needs no look',
  async (t) => {
    const rig = setUp();
    await held(rig);
    const view = rig.store.hiddenView();
    await rig.clock.advance(10_000);
    t.same(rig.runtime.removed, ['c1']);
    t.ok(view(item('c1')));
    t.notOk(rig.store.hiddenView()(item('c1')));
  },
);

t.test('8: its id used while it is looked at, it is not removed', async (t) => {
  const rig = setUp();
  await held(rig);
  let end = () => {};
  rig.runtime.checkGate = new Promise<void>((resolve) => {
    end = resolve;
  });
  await rig.clock.advance(10_000);
  rig.store.used('container', 'c1');
  end();
  await settle();
  t.same(rig.runtime.checked, ['c1']);
  t.same(rig.runtime.removed, []);
});

t.test(
  '8: a pod sandbox in which a container has run is left alone where another attempt takes its place',
  async (t) => {
    for (const isInhabited of [true, false]) {
      const { runtime, store } = setUp();
      const leave = new AbortController();
      store.request(podSandbox(0), leave.signal).catch(() => {});
      await settle();
      leave.abort();
      runtime.call(0).end('s0');
      await settle();
      if (isInhabited) runtime.inhabited.add('s0');
      const next = store.request(podSandbox(1), never);
      await settle();
      t.same(runtime.removed, isInhabited ? [] : ['s0']);
      runtime.call(1).end('s1');
      t.equal((await next).made.id, 's1');
    }
  },
);

t.test('8: whoever wants it removed is told whether it was, was used, or is given up', async (t) => {
  const subject = { kind: 'container', id: 'c1', podSandboxId: 's', origin: 'test' } as const;
  const reap = async (prepare: (runtime: TestRuntime) => void, isWanted = true) => {
    const runtime = new TestRuntime();
    prepare(runtime);
    const clock = new ManualClock();
    const reaper = new Reaper(runtime, clock);
    const reaped = reaper.reap(
      subject,
      () => isWanted,
      () => {},
    );
    await clock.advance(15_000);
    return [await reaped, runtime.removed];
  };
  t.same(await reap(() => {}), ['removed', ['c1']]);
  t.same(await reap(({ conditions }) => conditions.set('c1', 'in use')), ['in use', []]);
  const inhabit = (runtime: TestRuntime, condition: Condition) => {
    runtime.inhabited.add('c1');
    runtime.conditions.set('c1', condition);
  };
  t.same(await reap((runtime) => inhabit(runtime, 'as made')), ['in use', []]);
  t.same(await reap((runtime) => inhabit(runtime, 'unusable')), ['removed', ['c1']], 'what is unusable was never used');
  const fail = (runtime: TestRuntime) => {
    runtime.removalErrors = busy(5);
  };
  t.same(await reap(fail), ['given up', []]);
  t.same(await reap(() => {}, false), ['given up', []], 'nobody wants it removed any more');
});
