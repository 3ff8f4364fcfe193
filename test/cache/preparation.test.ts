import { getEventListeners } from 'node:events';
import t from 'tap';
import type { Creation } from '../../src/cache/creation.js';
import { FailureBackoff } from '../../src/cache/failure-backoff.js';
import { Preparation } from '../../src/cache/preparation.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { container, lone, podSandbox, TestGuard } from './store-rig.js';

const start = { containerId: 'c0', attempt: 0, sinceMs: 7 };

/** With what is to be removed first, and a guard that lets nothing pass by itself where there is a start in the way. */
function setUp(...doomed: readonly Creation<string, string>[]) {
  const clock = new ManualClock();
  const guard = new TestGuard();
  guard.passes = new Promise(() => {});
  const failures = new FailureBackoff(clock, 10);
  const pauses: Readonly<Record<string, unknown>>[] = [];
  const left = new Set(doomed);
  for (const each of doomed) void each.gone.then(() => left.delete(each));
  const index = { doomed: () => left };
  const preparation = new Preparation<string, string>(clock, guard, index, failures, (_, detail) => {
    pauses.push(detail);
  });
  return { clock, guard, failures, pauses, preparation };
}

/** The runtime has said that its name is taken. */
function reserve(creation: Creation<string, string>, error?: Error): void {
  creation.reservation = {
    sinceMs: 5,
    holderId: 'x',
    removedId: undefined,
    tries: 1,
    error,
    strangerId: undefined,
    reportedMs: undefined,
  };
}

t.test('a start is in the way of a container, and of no pod sandbox', async (t) => {
  const { guard, preparation } = setUp();
  guard.start = start;
  t.equal(preparation.isClear(lone(container())), false);
  t.equal(preparation.isClear(lone(podSandbox())), true);
});

t.test('a pod sandbox waits for removals, and never for a start', async (t) => {
  const before = lone(podSandbox(0));
  const { guard, preparation } = setUp(before);
  guard.start = start;
  const creation = lone(podSandbox(1));
  const prepared = preparation.prepare(creation);
  await settle();
  t.match(creation.obstacle, { what: 'removal' });
  before.markGone();
  t.equal(await prepared, true);
});

t.test('a container whose removals are over waits for no start where there is none', async (t) => {
  const before = lone(container());
  const { preparation } = setUp(before);
  const prepared = preparation.prepare(lone(container()));
  await settle();
  before.markGone();
  t.equal(await prepared, true);
});

t.test('18: a creation says what it waits for, and nothing once that is over', async (t) => {
  const before = lone(container());
  before.made = { id: 'c0', answer: '' };
  const { clock, guard, failures, pauses, preparation } = setUp(before);
  guard.start = start;
  let pass = () => {};
  guard.passes = new Promise((resolve) => {
    pass = resolve;
  });
  const creation = lone(container());
  const error = new Error('device or resource busy');
  reserve(creation, error);
  for (let n = 0; n < 3; n += 1) failures.failed(creation.fingerprint, new Error('no disk'));
  const failedMs = clock.now();
  const prepared = preparation.prepare(creation);
  t.same(creation.obstacle, { what: 'name', id: 'x', sinceMs: 5, error });
  await clock.advance(250);
  t.same(pauses, [{ failures: 3, pauseMs: 1_000 }]);
  t.same(creation.obstacle, { what: 'pause', failures: 3, untilMs: failedMs + 1_250 });
  t.equal(preparation.paused, 1);
  await clock.advance(1_000);
  t.equal(preparation.paused, 0);
  t.match(creation.obstacle, { what: 'removal', id: 'c0', sinceMs: failedMs + 1_250 });
  const { obstacle } = creation;
  before.removalError = error;
  t.equal(obstacle?.what === 'removal' && obstacle.error(), error, 'why it takes so long is asked when it is told');
  before.markGone();
  await settle();
  t.same(creation.obstacle, { what: 'start', ...start });
  pass();
  t.equal(await prepared, true);
  t.equal(creation.obstacle, undefined);
  t.equal(clock.pending, 0);
});

t.test('where it is prepared anew it waits for what it is asked for now, and the round before is over', async (t) => {
  const { clock, guard, preparation } = setUp(lone(container()), lone(container()));
  guard.start = start;
  const creation = lone(container());
  const first = preparation.prepare(creation);
  await settle();
  t.match(creation.obstacle, { what: 'removal' });
  reserve(creation);
  const second = preparation.prepare(creation);
  t.equal(await first, false);
  await settle();
  t.match(creation.obstacle, { what: 'name' }, 'the first round has left nothing');
  creation.endPreparation();
  t.equal(await second, false, 'it is the second that is ended');
  t.equal(clock.pending, 0);
});

t.test('what has been waited for listens no more to the end of the round', async (t) => {
  const before = lone(container());
  const { guard, preparation } = setUp(before);
  guard.start = start;
  let listening: number | undefined;
  guard.pass = async (_, signal) => {
    listening = getEventListeners(signal, 'abort').length;
    guard.start = undefined;
  };
  const prepared = preparation.prepare(lone(container()));
  await settle();
  before.markGone();
  t.equal(await prepared, true);
  t.equal(listening, 0);
});

t.test('what the guard refuses with is thrown, unless the round is over by then', async (t) => {
  for (const isOver of [false, true]) {
    const { guard, preparation } = setUp();
    guard.start = start;
    let refuse = (_: Error) => {};
    guard.passes = new Promise((_, reject) => {
      refuse = reject;
    });
    const creation = lone(container());
    const prepared = preparation.prepare(creation);
    await settle();
    if (isOver) creation.endPreparation();
    refuse(new Error('started meanwhile'));
    if (isOver) t.equal(await prepared, false);
    else await t.rejects(prepared, { message: 'started meanwhile' });
    t.equal(creation.obstacle, undefined);
  }
});
