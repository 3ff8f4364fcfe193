/** What becomes of creations that are to be forgotten, where somebody who runs the node asks for it. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import type { Identity } from '../../src/cache/fingerprint.js';
import { settle } from '../support/manual-clock.js';
import {
  askAndLeave,
  container,
  delivered,
  failed,
  held,
  never,
  podSandbox,
  type StoreRig,
  setUp,
} from './store-rig.js';

function ask({ store }: StoreRig, request = container()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
}

const reserved = (id?: string) => new NameReservedError(new Error('reserved'), id);
const any = () => true;
const named = (name: string) => (identity: Identity) => identity.kind === 'container' && identity.container === name;

t.test('a held container that is forgotten is removed after a look, and the next request makes one', async (t) => {
  const rig = setUp();
  await held(rig);
  t.same(rig.store.forgetByHand(any), [
    { identity: container().fingerprint.identity, state: 'held', did: 'removal begun' },
  ]);
  ask(rig);
  await settle();
  t.same(rig.runtime.removed, ['c1']);
  t.same(rig.runtime.checked, ['c1']);
  t.equal(rig.runtime.calls.length, 2);
});

t.test('a held container that has run behind its back is not removed where it is forgotten', async (t) => {
  const rig = setUp();
  await held(rig);
  rig.runtime.conditions.set('c1', 'in use');
  rig.store.forgetByHand(any);
  await settle();
  t.same(rig.runtime.removed, []);
  t.same(rig.store.census.views(), []);
});

t.test('what somebody has, or could find, is forgotten without a change at the runtime', async (t) => {
  const rig = setUp();
  await delivered(rig);
  const leave = new AbortController();
  rig.store.request(podSandbox(0, 'h', 'v'), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  rig.runtime.call(-1).end('s2');
  await settle();
  t.match(rig.store.forgetByHand(any), [
    { state: 'shown', did: 'memory dropped' },
    { state: 'delivered', did: 'memory dropped' },
  ]);
  t.same(rig.store.census.views(), []);
  t.same(rig.runtime.removed, []);
  t.same(rig.store.forgetByHand(any), []);
});

t.test('what runs, is being given to somebody or is being removed is not forgotten', async (t) => {
  const rig = setUp();
  ask(rig, podSandbox());
  await settle();
  t.match(rig.store.forgetByHand(any), [{ state: 'running', refused: 'running' }]);
  rig.runtime.call(0).end('s1');
  await settle();
  t.match(rig.store.forgetByHand(any), [{ state: 'answered', refused: 'being answered' }]);
  await held(rig);
  rig.runtime.checkGate = new Promise(() => {});
  ask(rig);
  await settle();
  t.match(rig.store.forgetByHand(named('c')), [{ state: 'held', refused: 'being answered' }]);
  await held(rig, { name: 'd' }, 'd1');
  ask(rig, container({ name: 'd', hash: '2' }));
  await settle();
  t.match(rig.store.forgetByHand(named('d')), [
    { state: 'queued', refused: 'removal in the way' },
    { state: 'doomed', refused: 'being removed' },
  ]);
  t.equal(rig.store.census.views().length, 4);
});

t.test('what is queued and waited for keeps its place, and its wait for a start', async (t) => {
  const rig = setUp({ limit: 1 });
  ask(rig, podSandbox());
  await settle();
  ask(rig, container({ name: 'a' }));
  ask(rig, container({ name: 'b' }));
  await settle();
  t.match(rig.store.forgetByHand(named('a')), [{ state: 'queued', refused: 'waited for' }]);
  t.match(rig.store.census.views()[1], { place: { before: 0 }, waiters: 1 });
  rig.guard.start = { containerId: 'c0', attempt: 0, sinceMs: 900 };
  rig.guard.passes = new Promise(() => {});
  ask(rig, container({ name: 'd', attempt: 1 }));
  await settle();
  t.match(rig.store.forgetByHand(named('d')), [{ state: 'queued', refused: 'start in the way' }]);
});

t.test('what is queued and nobody waits for is dropped, whatever it waits for', async (t) => {
  const rig = setUp({ limit: 1 });
  ask(rig, podSandbox());
  await settle();
  await askAndLeave(rig, container());
  t.match(rig.store.forgetByHand(named('c')), [{ state: 'queued', did: 'dropped' }]);
  t.match(rig.details.at(-1), { step: 'dropped', error: { message: /^an operator had it forgotten/ } });
  rig.runtime.call(0).end('s1');
  await settle();
  t.equal(rig.runtime.calls.length, 1);
});

t.test('what pauses after failures is tried at once where it is forgotten, for who waits', async (t) => {
  const rig = setUp();
  await failed(rig, 3);
  const asked = ask(rig, podSandbox());
  await settle();
  t.same(rig.store.forgetByHand(any), [
    { identity: podSandbox().fingerprint.identity, state: 'queued', did: 'tried now' },
  ]);
  await settle();
  t.equal(rig.runtime.calls.length, 4);
  t.same(rig.store.census.failing, []);
  rig.runtime.call(3).end('s1');
  t.equal((await asked).made.id, 's1');
  t.equal(rig.store.census.sizes.backingOff, 0);
});

t.test('what waits for its name is tried at once where it is forgotten, and its wedge with it', async (t) => {
  const rig = setUp({ wedgeAfterMs: 0 });
  ask(rig);
  await settle();
  rig.runtime.call(0).fail(reserved('x'));
  await settle();
  t.equal(rig.store.census.sizes.wedged, 1);
  t.match(rig.store.forgetByHand(any), [{ state: 'queued', did: 'tried now' }]);
  await settle();
  t.equal(rig.runtime.calls.length, 2);
  t.match(rig.store.census.views(), [{ state: 'running', reservation: undefined, progress: { at: 'running' } }]);
  t.equal(rig.store.census.sizes.wedged, 0);
});

t.test('what is in the queue for another try of a taken name keeps its place where it is forgotten', async (t) => {
  const rig = setUp({ limit: 1 });
  ask(rig);
  await settle();
  rig.runtime.call(0).fail(reserved('x'));
  await settle();
  ask(rig, podSandbox());
  await rig.clock.advance(250);
  ask(rig, container({ name: 'later' }));
  await settle();
  t.match(rig.store.forgetByHand(named('c')), [{ state: 'queued', did: 'tried now' }]);
  await settle();
  t.match(rig.store.census.views()[0], { identity: { container: 'c' }, place: { before: 0 }, reservation: undefined });
});

t.test('failures of what is not asked for now are forgotten, with those that could not be removed', async (t) => {
  const rig = setUp();
  await failed(rig, 3);
  await failed(rig, 1, container());
  t.match(rig.store.forgetByHand(named('c')), [{ state: 'failing', did: 'memory dropped' }]);
  t.equal(rig.store.census.failing.length, 1);
  await held(rig);
  rig.runtime.removalErrors = Array.from({ length: 5 }, () => new Error('busy'));
  await rig.clock.advance(25_000);
  t.equal(rig.store.census.givenUpRemovals.length, 1);
  rig.store.forgetByHand(any);
  t.same([rig.store.census.givenUpRemovals, rig.store.census.failing], [[], []]);
});

t.test('a pod sandbox and a container that failed are told apart, and each is told once', async (t) => {
  const rig = setUp();
  await failed(rig, 1);
  await failed(rig, 1, container());
  ask(rig, podSandbox(1));
  await settle();
  t.match(rig.store.forgetByHand(any), [
    { identity: { kind: 'podSandbox' }, refused: 'running' },
    { identity: { kind: 'container' }, state: 'failing' },
  ]);
  t.same(rig.store.census.failing, []);
});

t.test('how often it was given up is forgotten with what is not under way', async (t) => {
  const rig = setUp({
    creationTimeoutMs: 900_000,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30_000 } } },
  });
  ask(rig, podSandbox());
  await rig.clock.advance(30_000);
  t.match(rig.store.forgetByHand(any), [{ refused: 'running' }]);
  t.equal(rig.store.census.views()[0]?.timesGivenUp, 1);
  rig.runtime.call(1).fail(reserved('x'));
  await settle();
  t.match(rig.store.forgetByHand(any), [{ did: 'tried now' }]);
  t.equal(rig.store.census.views()[0]?.timesGivenUp, 0);
});
