/** What a request meets that comes in the middle of another one's step. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { settle } from '../support/manual-clock.js';
import { container, held, never, podSandbox, setUp } from './store-rig.js';

/** A request that may fail or stay unanswered. */
function ask({ store }: ReturnType<typeof setUp>, ...[request]: [Parameters<typeof store.request>[0]]): void {
  store.request(request, never).catch(() => {});
}

t.test('one upstream call, however soon another attempt follows', async (t) => {
  for (let ticks = 0; ticks < 12; ticks += 1) {
    for (const of of [podSandbox, (attempt: number) => container({ attempt })]) {
      const rig = setUp();
      ask(rig, of(0));
      for (let tick = 0; tick < ticks; tick += 1) await Promise.resolve();
      ask(rig, of(1));
      await settle();
      t.equal(rig.runtime.calls.length, 1, `${ticks} promise callbacks later`);
    }
  }
});

t.test('what is to be removed is not tried again where its name is reserved', async (t) => {
  const rig = setUp();
  const { store, runtime, clock } = rig;
  ask(rig, container());
  await settle();
  ask(rig, container({ hash: '2' }));
  await settle();
  runtime.call(0).fail(new NameReservedError(new Error('reserved'), 'x'));
  await clock.advance(1);
  t.equal(runtime.calls.length, 2, 'the newer request has its turn');
  store.ended('podSandbox', 's');
  runtime.call(1).fail(new NameReservedError(new Error('reserved'), 'x'));
  await clock.advance(1);
  t.notOk(store.mayHide, 'what its pod sandbox has taken along has ended');
});

t.test('a container whose id the runtime gives for two names is not removed, whoever has it', async (t) => {
  for (const isFirstGiven of [false, true]) {
    const rig = setUp();
    const { store, runtime, clock } = rig;
    await held(rig, {}, 'c1');
    if (isFirstGiven) (await store.request(container(), never)).settle(true);
    const leave = new AbortController();
    const other = store.request(container({ name: 'd' }), leave.signal);
    other.catch(() => {});
    await settle();
    if (isFirstGiven) leave.abort();
    runtime.call(-1).end('c1');
    await settle();
    if (!isFirstGiven) (await other).settle(true);
    await clock.advance(20_000);
    t.same(runtime.removed, []);
    t.notOk(store.hiding);
    t.equal(clock.pending, 0);
  }
});
