/** What is told of creations to whoever asks, and what becomes of those that are to be forgotten. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import type { Identity } from '../../src/cache/fingerprint.js';
import { ContainerState } from '../../src/cri/enums.js';
import { settle } from '../support/manual-clock.js';
import { askAndLeave, container, held, item, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

function ask({ store }: StoreRig, request = container()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
}

async function failed(rig: StoreRig, times: number, request = podSandbox()): Promise<void> {
  for (let n = 0; n < times; n += 1) {
    ask(rig, request);
    await settle();
    rig.runtime.call(-1).fail(new Error('no network'));
    await settle();
  }
}

async function delivered(rig: StoreRig, request = podSandbox(), id = 's1'): Promise<void> {
  const asked = ask(rig, request);
  await settle();
  rig.runtime.call(-1).end(id);
  (await asked).settle(true);
}

const reserved = (id?: string) => new NameReservedError(new Error('reserved'), id);
const any = () => true;
const named = (name: string) => (identity: Identity) => identity.kind === 'container' && identity.container === name;

t.test('what is queued and what runs is told with place, waiters and since when', async (t) => {
  const rig = setUp({ limit: 1, admission: { hung: { deadlineShare: 1, most: 5, giveUp: undefined } } });
  t.same(rig.store.views(), []);
  ask(rig, podSandbox());
  await rig.clock.advance(500);
  ask(rig);
  ask(rig);
  await settle();
  const none = {
    id: undefined,
    isHidden: false,
    place: undefined,
    hungSinceMs: undefined,
    timesGivenUp: 0,
    failures: undefined,
    reservation: undefined,
    removalError: undefined,
    heldUntilMs: undefined,
  };
  t.same(rig.store.views(), [
    {
      ...none,
      identity: podSandbox().fingerprint.identity,
      state: 'running',
      begunMs: 1_000,
      stateSinceMs: 1_000,
      lastAskedMs: 1_000,
      waiters: 1,
      podSandboxId: '',
      progress: { at: 'running', sinceMs: 1_000 },
    },
    {
      ...none,
      identity: container().fingerprint.identity,
      state: 'queued',
      begunMs: 1_500,
      stateSinceMs: 1_500,
      lastAskedMs: 1_500,
      waiters: 2,
      podSandboxId: 's',
      progress: { at: 'queued', sinceMs: 1_500, behind: 0 },
      place: { before: 0, class: 'container', sinceMs: 1_500 },
    },
  ]);
  await rig.clock.advance(3_500);
  t.match(rig.store.views()[0], { state: 'running', hungSinceMs: 5_000 });
  t.match(rig.store.views()[1], { state: 'running', stateSinceMs: 5_000, place: undefined });
});

t.test('what is held is told with until when, what is doomed with why it is still there', async (t) => {
  const rig = setUp();
  await held(rig);
  await rig.clock.advance(3_000);
  t.match(rig.store.views(), [
    {
      state: 'held',
      id: 'c1',
      isHidden: true,
      stateSinceMs: 1_000,
      heldUntilMs: 11_000,
      progress: undefined,
      waiters: 0,
    },
  ]);
  rig.runtime.removalErrors = Array.from({ length: 5 }, () => new Error('busy'));
  ask(rig, container({ hash: '2' }));
  await settle();
  const [waiting, doomed] = rig.store.views();
  t.match(waiting, {
    state: 'queued',
    progress: { at: 'waiting', for: { what: 'removal', id: 'c1' } },
    place: undefined,
  });
  t.match(doomed, { state: 'doomed', id: 'c1', heldUntilMs: undefined, removalError: new Error('busy') });
  t.same(rig.store.givenUpRemovals, []);
  await rig.clock.advance(15_000);
  t.match(rig.store.givenUpRemovals, [{ id: 'c1', sinceMs: 19_000, error: new Error('busy') }]);
  rig.store.ended('container', 'c1');
  t.same(rig.store.givenUpRemovals, [], 'the kubelet has removed it');
});

t.test('the id under which a container is seen before the runtime has answered is told', async (t) => {
  const rig = setUp();
  const leave = new AbortController();
  rig.store.request(container(), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  rig.store.hiddenOwner(item('c7', { state: ContainerState.created }));
  t.match(rig.store.views(), [{ state: 'running', id: 'c7', isHidden: true }]);
});

t.test('what failed is told while it pauses, and while nobody asks for it', async (t) => {
  const rig = setUp();
  await failed(rig, 3);
  const failures = {
    identity: podSandbox().fingerprint.identity,
    count: 3,
    lastMs: 1_000,
    nextMs: 3_000,
    error: 'no network',
  };
  t.same(rig.store.failing, [failures]);
  t.same(rig.store.views(), []);
  ask(rig, podSandbox());
  await settle();
  t.match(rig.store.views(), [{ state: 'queued', failures, progress: { for: { what: 'pause', untilMs: 3_000 } } }]);
});

t.test('a name that is taken is told with whose it is, how often it was tried, and when it is a wedge', async (t) => {
  const rig = setUp({ wedgeAfterMs: 200 });
  ask(rig);
  await settle();
  rig.runtime.holders = [new Error('cannot be seen')];
  rig.runtime.call(0).fail(reserved('x'));
  await settle();
  const reservation = { holderId: 'x', sinceMs: 1_000, tries: 1, isWedged: false, error: new Error('cannot be seen') };
  t.same(rig.store.views()[0]?.reservation, reservation);
  await rig.clock.advance(250);
  rig.runtime.call(1).fail(reserved('x'));
  await settle();
  t.same(rig.store.views()[0]?.reservation, { ...reservation, tries: 2, isWedged: true, error: undefined });
});

t.test('how often a pod sandbox was given up is told until it is made', async (t) => {
  const rig = setUp({
    creationTimeoutMs: 900_000,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30_000 } } },
  });
  ask(rig, podSandbox());
  await rig.clock.advance(30_000);
  t.match(rig.store.views(), [{ state: 'running', timesGivenUp: 1 }]);
});

t.test('a held container that is forgotten is removed after a look, and the next request makes one', async (t) => {
  const rig = setUp();
  await held(rig);
  t.same(rig.store.forget(any), [{ identity: container().fingerprint.identity, state: 'held', did: 'removal begun' }]);
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
  rig.store.forget(any);
  await settle();
  t.same(rig.runtime.removed, []);
  t.same(rig.store.views(), []);
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
  t.match(rig.store.forget(any), [
    { state: 'shown', did: 'memory dropped' },
    { state: 'delivered', did: 'memory dropped' },
  ]);
  t.same(rig.store.views(), []);
  t.same(rig.runtime.removed, []);
  t.same(rig.store.forget(any), []);
});

t.test('what runs, is being given to somebody or is being removed is not forgotten', async (t) => {
  const rig = setUp();
  ask(rig, podSandbox());
  await settle();
  t.match(rig.store.forget(any), [{ state: 'running', refused: 'running' }]);
  rig.runtime.call(0).end('s1');
  await settle();
  t.match(rig.store.forget(any), [{ state: 'answered', refused: 'being answered' }]);
  await held(rig);
  rig.runtime.checkGate = new Promise(() => {});
  ask(rig);
  await settle();
  t.match(rig.store.forget(named('c')), [{ state: 'held', refused: 'being answered' }]);
  await held(rig, { name: 'd' }, 'd1');
  ask(rig, container({ name: 'd', hash: '2' }));
  await settle();
  t.match(rig.store.forget(named('d')), [
    { state: 'queued', refused: 'removal in the way' },
    { state: 'doomed', refused: 'being removed' },
  ]);
  t.equal(rig.store.views().length, 4);
});

t.test('what is queued and waited for keeps its place, and its wait for a start', async (t) => {
  const rig = setUp({ limit: 1 });
  ask(rig, podSandbox());
  await settle();
  ask(rig, container({ name: 'a' }));
  ask(rig, container({ name: 'b' }));
  await settle();
  t.match(rig.store.forget(named('a')), [{ state: 'queued', refused: 'waited for' }]);
  t.match(rig.store.views()[1], { place: { before: 0 }, waiters: 1 });
  rig.guard.start = { containerId: 'c0', attempt: 0, sinceMs: 900 };
  rig.guard.passes = new Promise(() => {});
  ask(rig, container({ name: 'd', attempt: 1 }));
  await settle();
  t.match(rig.store.forget(named('d')), [{ state: 'queued', refused: 'start in the way' }]);
});

t.test('what is queued and nobody waits for is dropped, whatever it waits for', async (t) => {
  const rig = setUp({ limit: 1 });
  ask(rig, podSandbox());
  await settle();
  await askAndLeave(rig, container());
  t.match(rig.store.forget(named('c')), [{ state: 'queued', did: 'dropped' }]);
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
  t.same(rig.store.forget(any), [{ identity: podSandbox().fingerprint.identity, state: 'queued', did: 'tried now' }]);
  await settle();
  t.equal(rig.runtime.calls.length, 4);
  t.same(rig.store.failing, []);
  rig.runtime.call(3).end('s1');
  t.equal((await asked).made.id, 's1');
  t.equal(rig.store.sizes.backingOff, 0);
});

t.test('what waits for its name is tried at once where it is forgotten, and its wedge with it', async (t) => {
  const rig = setUp({ wedgeAfterMs: 0 });
  ask(rig);
  await settle();
  rig.runtime.call(0).fail(reserved('x'));
  await settle();
  t.equal(rig.store.sizes.wedged, 1);
  t.match(rig.store.forget(any), [{ state: 'queued', did: 'tried now' }]);
  await settle();
  t.equal(rig.runtime.calls.length, 2);
  t.match(rig.store.views(), [{ state: 'running', reservation: undefined, progress: { at: 'running' } }]);
  t.equal(rig.store.sizes.wedged, 0);
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
  t.match(rig.store.forget(named('c')), [{ state: 'queued', did: 'tried now' }]);
  await settle();
  t.match(rig.store.views()[0], { identity: { container: 'c' }, place: { before: 0 }, reservation: undefined });
});

t.test('failures of what is not asked for now are forgotten, with those that could not be removed', async (t) => {
  const rig = setUp();
  await failed(rig, 3);
  await failed(rig, 1, container());
  t.match(rig.store.forget(named('c')), [{ state: 'failing', did: 'memory dropped' }]);
  t.equal(rig.store.failing.length, 1);
  await held(rig);
  rig.runtime.removalErrors = Array.from({ length: 5 }, () => new Error('busy'));
  await rig.clock.advance(25_000);
  t.equal(rig.store.givenUpRemovals.length, 1);
  rig.store.forget(any);
  t.same([rig.store.givenUpRemovals, rig.store.failing], [[], []]);
});

t.test('a pod sandbox and a container that failed are told apart, and each is told once', async (t) => {
  const rig = setUp();
  await failed(rig, 1);
  await failed(rig, 1, container());
  ask(rig, podSandbox(1));
  await settle();
  t.match(rig.store.forget(any), [
    { identity: { kind: 'podSandbox' }, refused: 'running' },
    { identity: { kind: 'container' }, state: 'failing' },
  ]);
  t.same(rig.store.failing, []);
});

t.test('how often it was given up is forgotten with what is not under way', async (t) => {
  const rig = setUp({
    creationTimeoutMs: 900_000,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30_000 } } },
  });
  ask(rig, podSandbox());
  await rig.clock.advance(30_000);
  t.match(rig.store.forget(any), [{ refused: 'running' }]);
  t.equal(rig.store.views()[0]?.timesGivenUp, 1);
  rig.runtime.call(1).fail(reserved('x'));
  await settle();
  t.match(rig.store.forget(any), [{ did: 'tried now' }]);
  t.equal(rig.store.views()[0]?.timesGivenUp, 0);
});
