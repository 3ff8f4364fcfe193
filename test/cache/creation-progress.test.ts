/** What a creation is at, as whoever leaves is told it. */
import t from 'tap';
import { CreationProgress } from '../../src/cache/creation-progress.js';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { CallTimeoutError } from '../../src/cache/detached-call.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { askAndLeave, container, held, lone, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

function ask({ store }: StoreRig, request = container()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
}

const reserved = (id?: string) => new NameReservedError(new Error('reserved'), id);

t.test('who waits for its turn is told since when, and how many are before it', async (t) => {
  const rig = setUp({ limit: 1 });
  ask(rig, podSandbox());
  await settle();
  for (const name of ['a', 'b']) ask(rig, container({ name }));
  await settle();
  t.same(await askAndLeave(rig, container()), { at: 'queued', sinceMs: 1_000, behind: 2 });
  await rig.clock.advance(700);
  t.same(await askAndLeave(rig, container()), { at: 'queued', sinceMs: 1_000, behind: 2 }, 'it goes on since then');
});

t.test('who leaves before its creation is in the queue has none before it', async (t) => {
  const rig = setUp();
  const progress = await askAndLeave(rig, container(), async () => {});
  t.same(progress, { at: 'queued', sinceMs: 1_000, behind: 0 });
});

t.test('who waits for the runtime is told since when that is at it', async (t) => {
  const rig = setUp({ limit: 1 });
  ask(rig, podSandbox());
  await settle();
  ask(rig, container());
  await rig.clock.advance(500);
  rig.runtime.call(0).end('s1');
  await rig.clock.advance(2_000);
  t.same(await askAndLeave(rig, container()), { at: 'running', sinceMs: 1_500 });
});

t.test('who waits for a removal is told what is to be removed', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.removalErrors = [new Error('busy')];
  await rig.clock.advance(10_000);
  ask(rig);
  await rig.clock.advance(500);
  t.match(await askAndLeave(rig, container()), {
    at: 'waiting',
    sinceMs: 11_000,
    for: { what: 'removal', id: 'c1', sinceMs: 11_000 },
  });
});

t.test('who waits for a start is told of which container', async (t) => {
  const rig = setUp();
  rig.guard.start = { containerId: 'c0', attempt: 0, sinceMs: 900 };
  rig.guard.passes = new Promise(() => {});
  t.same(await askAndLeave(rig, container({ attempt: 1 })), {
    at: 'waiting',
    sinceMs: 1_000,
    for: { what: 'start', containerId: 'c0', attempt: 0, sinceMs: 900 },
  });
});

t.test('who waits for a pause after failures is told when it is over', async (t) => {
  const rig = setUp();
  for (let n = 0; n < 3; n += 1) {
    ask(rig, podSandbox());
    await settle();
    rig.runtime.call(-1).fail(new Error('no network'));
    await settle();
  }
  t.same(await askAndLeave(rig, podSandbox()), {
    at: 'waiting',
    sinceMs: 1_000,
    for: { what: 'pause', failures: 3, untilMs: 3_000 },
  });
});

t.test('who waits for a name is told so between two tries, in the queue, and at the begin of each try', async (t) => {
  const rig = setUp({ limit: 1 });
  const { runtime, clock } = rig;
  ask(rig);
  await clock.advance(100);
  runtime.holders = [new Error('cannot be seen')];
  runtime.call(0).fail(reserved('x'));
  await settle();
  const name = {
    at: 'waiting',
    sinceMs: 1_000,
    for: { what: 'name', id: 'x', sinceMs: 1_100, error: new Error('cannot be seen') },
  };
  t.same(await askAndLeave(rig, container()), name, 'between two tries');
  ask(rig, podSandbox());
  await settle();
  await clock.advance(250);
  t.equal(runtime.calls.length, 2, 'something else has the only place');
  t.same(await askAndLeave(rig, container()), name, 'in the queue');
  runtime.call(1).end('s1');
  await clock.advance(999);
  t.equal(runtime.calls.length, 3);
  t.same(await askAndLeave(rig, container()), name, 'a runtime says at once that a name is taken');
  await clock.advance(1);
  t.same(await askAndLeave(rig, container()), { at: 'running', sinceMs: 1_350 }, 'so it is at work by now');
});

t.test('who waits for a look is told since when the runtime is asked', async (t) => {
  const rig = setUp();
  await held(rig);
  await rig.clock.advance(4_000);
  rig.runtime.checkGate = new Promise(() => {});
  const progress = await askAndLeave(rig, container(), () => rig.clock.advance(2_000));
  t.same(progress, { at: 'checked', sinceMs: 5_000 });
});

t.test('who waits for resources to be given is told the same', async (t) => {
  const rig = setUp();
  await held(rig);
  await rig.clock.advance(4_000);
  rig.runtime.updateResources = () => new Promise(() => {});
  t.same(await askAndLeave(rig, container({ memory: 5 })), { at: 'checked', sinceMs: 5_000 });
});

t.test('what is in flight is told as it is, what is not as being checked since whenever that began', async (t) => {
  const clock = new ManualClock();
  const progress = new CreationProgress(clock, { queued: 3 });
  const creation = lone(container(), clock);
  const told = () => progress.of(creation, 500);
  t.same(told(), { at: 'queued', sinceMs: 1_000, behind: 2 }, 'it is one of those in the queue');
  creation.obstacle = { what: 'pause', failures: 3, untilMs: 9_000 };
  t.same(told(), { at: 'waiting', sinceMs: 1_000, for: creation.obstacle });
  await clock.advance(100);
  void creation.call.run(60_000, () => new Promise(() => {}));
  t.same(told(), { at: 'running', sinceMs: 1_100 });
  creation.call.fail(new Error('away'));
  t.same(told(), { at: 'checked', sinceMs: 500 });
});

t.test('nothing is before what is not in the queue yet', (t) => {
  const progress = new CreationProgress(new ManualClock(), { queued: 0 });
  t.match(progress.of(lone(container()), 0), { at: 'queued', behind: 0 });
  t.end();
});

t.test('what goes wrong is told as it is, not as waiting', async (t) => {
  const rig = setUp();
  const asked = ask(rig);
  await rig.clock.advance(60_000);
  await t.rejects(asked, CallTimeoutError);
  await held(rig);
  const error = new Error('cannot look');
  rig.runtime.checkErrors = [error];
  t.equal(await ask(rig).catch((thrown: unknown) => thrown), error);
});
