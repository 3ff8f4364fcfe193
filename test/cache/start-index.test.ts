/** How starts are found, and that nothing stays of those that are not to be found. */
import t from 'tap';
import { DetachedCall } from '../../src/cache/detached-call.js';
import { Start } from '../../src/cache/start.js';
import { StartIndex } from '../../src/cache/start-index.js';
import { ManualClock } from '../support/manual-clock.js';
import { identity } from './start-rig.js';

function setUp({ maxEntries = 10, replayTtlMs = 1_000 } = {}) {
  const clock = new ManualClock();
  const forgotten: string[] = [];
  const index = new StartIndex<string, string>(clock, {
    maxEntries,
    replayTtlMs,
    forgotten: ({ containerId }) => forgotten.push(containerId),
  });
  /** In flight, and known to be in a pod sandbox. */
  const began = (containerId: string, podSandboxId = 'sandbox') => {
    const untold = { waiterLeft() {}, succeeded() {}, failed() {} };
    const start = new Start<string, string>(containerId, 'test', new DetachedCall(clock, untold), false);
    start.identity = identity(0, containerId, podSandboxId);
    index.began(start);
    index.identified(start, podSandboxId);
    return start;
  };
  /** Ids of the containers that an id or prefix stands for. */
  const named = (kind: 'podSandbox' | 'container', id: string) =>
    [...index.named(kind, id)].map(({ containerId }) => containerId);
  const all = () => [...index.all()].map(({ containerId }) => containerId);
  return { clock, index, forgotten, began, named, all };
}

t.test('one in flight is found by its container, by a prefix of its id and by its pod sandbox', (t) => {
  const { index, began, named, all } = setUp();
  const start = began('c0');
  t.equal(index.inFlight('c0'), start);
  t.equal(index.find('c0'), start);
  t.equal(index.past('c0'), undefined);
  t.same([named('container', 'c0'), named('container', 'c'), named('container', 'd')], [['c0'], ['c0'], []]);
  t.same([named('podSandbox', 'sandbox'), named('podSandbox', 's'), named('podSandbox', 'c0')], [['c0'], ['c0'], []]);
  t.same([all(), [...index.allInFlight()]], [['c0'], [start]]);
  t.end();
});

t.test('one that has ended is past where it is kept, and nowhere to be found where it is not', (t) => {
  const { index, began, named, all, forgotten } = setUp();
  const kept = began('c0');
  index.landed(kept, true);
  index.landed(began('d0'), false);
  t.same([index.inFlight('c0'), index.past('c0'), index.find('c0')], [undefined, kept, kept]);
  t.same([index.inFlight('d0'), index.past('d0'), index.find('d0')], [undefined, undefined, undefined]);
  t.same([named('container', 'c'), named('container', 'd'), named('podSandbox', 'sandbox')], [['c0'], [], ['c0']]);
  t.same([all(), [...index.allInFlight()]], [['c0'], []]);
  t.same(forgotten, []);
  t.end();
});

t.test('those in flight are told before those that are past', (t) => {
  const { index, began, all } = setUp();
  index.landed(began('a0'), true);
  began('b0');
  t.same(all(), ['b0', 'a0']);
  t.end();
});

t.test('a newer start takes the place of one that is past, which is forgotten', (t) => {
  const { index, began, named, all, forgotten } = setUp();
  const first = began('c0', 'sandbox-1');
  index.landed(first, true);
  const second = began('c0', 'sandbox-2');
  t.same(forgotten, ['c0']);
  t.same([all(), named('podSandbox', 'sandbox-1'), named('podSandbox', 'sandbox')], [['c0'], [], ['c0']]);
  index.landed(second, true);
  t.equal(index.letGo(first), false, 'it is another one that is past');
  t.equal(index.past('c0'), second);
  index.remove(first);
  t.equal(index.past('c0'), second);
  t.end();
});

t.test('one that is let go of is forgotten with its place in the pod sandbox, once', (t) => {
  const { index, began, named, all, forgotten } = setUp();
  const start = began('c0');
  t.equal(index.letGo(start), false, 'it is in flight');
  index.landed(start, true);
  t.equal(index.letGo(start), true);
  t.equal(index.letGo(start), false);
  t.same([all(), named('podSandbox', 'sandbox'), forgotten], [[], [], ['c0']]);
  t.end();
});

t.test('what is past makes room for what ends later, and is too old after replay-ttl', async (t) => {
  const { clock, index, began, named, all, forgotten } = setUp({ maxEntries: 2 });
  index.landed(began('a0', 'a'), true);
  index.landed(began('b0', 'b'), true);
  await clock.advance(600);
  index.landed(began('c0', 'c'), true);
  t.same([all(), named('podSandbox', 'a'), forgotten], [['c0', 'b0'], [], ['a0']]);
  await clock.advance(401);
  t.equal(index.past('b0'), undefined);
  t.same([all(), named('podSandbox', 'b'), forgotten], [['c0'], [], ['a0', 'b0']]);
  await clock.advance(600);
  t.same(all(), []);
  t.same([named('podSandbox', 'c'), forgotten], [[], ['a0', 'b0', 'c0']], 'with the look at all');
});

t.test('what is removed is found no more, in flight or past, and another one of its container stays', (t) => {
  const { index, began, named, all } = setUp();
  const [flying, past] = [began('a0'), began('b0')];
  index.landed(past, true);
  for (const start of [flying, past]) index.remove(start);
  t.same([all(), named('podSandbox', 'sandbox')], [[], []]);
  const newer = began('a0');
  index.remove(flying);
  t.equal(index.inFlight('a0'), newer);
  t.end();
});

t.test('one of which nobody can say whose it is is in no pod sandbox', (t) => {
  const { clock, index, named } = setUp();
  const untold = { waiterLeft() {}, succeeded() {}, failed() {} };
  const start = new Start<string, string>('c0', 'test', new DetachedCall<string>(clock, untold), false);
  index.began(start);
  index.landed(start, true);
  t.equal(index.letGo(start), true);
  t.same([named('container', 'c0'), named('podSandbox', '')], [[], []]);
  t.end();
});
