/** What is told of creations to whoever asks. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { ContainerState } from '../../src/cri/enums.js';
import { settle } from '../support/manual-clock.js';
import { container, delivered, failed, held, item, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

function ask({ store }: StoreRig, request = container()) {
  const asked = store.request(request, never);
  asked.catch(() => {});
  return asked;
}

const reserved = (id?: string) => new NameReservedError(new Error('reserved'), id);

t.test('what is queued and what runs is told with place, waiters and since when', async (t) => {
  const rig = setUp({ limit: 1, admission: { hung: { deadlineShare: 1, most: 5, giveUp: undefined } } });
  t.same(rig.store.census.views(), []);
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
  t.same(rig.store.census.views(), [
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
  t.match(rig.store.census.views()[0], { state: 'running', hungSinceMs: 5_000 });
  t.match(rig.store.census.views()[1], { state: 'running', stateSinceMs: 5_000, place: undefined });
});

t.test('what is held is told with until when, what is doomed with why it is still there', async (t) => {
  const rig = setUp();
  await held(rig);
  await rig.clock.advance(3_000);
  t.match(rig.store.census.views(), [
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
  const [waiting, doomed] = rig.store.census.views();
  t.match(waiting, {
    state: 'queued',
    progress: { at: 'waiting', for: { what: 'removal', id: 'c1' } },
    place: undefined,
  });
  t.match(doomed, { state: 'doomed', id: 'c1', heldUntilMs: undefined, removalError: new Error('busy') });
  t.same(rig.store.census.givenUpRemovals, []);
  await rig.clock.advance(15_000);
  t.match(rig.store.census.givenUpRemovals, [{ id: 'c1', sinceMs: 19_000, error: new Error('busy') }]);
  rig.store.ended('container', 'c1');
  t.same(rig.store.census.givenUpRemovals, [], 'the kubelet has removed it');
});

t.test('the id under which a container is seen before the runtime has answered is told', async (t) => {
  const rig = setUp();
  const leave = new AbortController();
  rig.store.request(container(), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  rig.store.hiddenOwner(item('c7', { state: ContainerState.created }));
  t.match(rig.store.census.views(), [{ state: 'running', id: 'c7', isHidden: true }]);
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
  t.same(rig.store.census.failing, [failures]);
  t.same(rig.store.census.views(), []);
  ask(rig, podSandbox());
  await settle();
  t.match(rig.store.census.views(), [
    { state: 'queued', failures, progress: { for: { what: 'pause', untilMs: 3_000 } } },
  ]);
});

t.test('a name that is taken is told with whose it is, how often it was tried, and when it is a wedge', async (t) => {
  const rig = setUp({ wedgeAfterMs: 200 });
  ask(rig);
  await settle();
  rig.runtime.holders = [new Error('cannot be seen')];
  rig.runtime.call(0).fail(reserved('x'));
  await settle();
  const reservation = { holderId: 'x', sinceMs: 1_000, tries: 1, isWedged: false, error: new Error('cannot be seen') };
  t.same(rig.store.census.views()[0]?.reservation, reservation);
  await rig.clock.advance(250);
  rig.runtime.call(1).fail(reserved('x'));
  await settle();
  t.same(rig.store.census.views()[0]?.reservation, { ...reservation, tries: 2, isWedged: true, error: undefined });
});

t.test('how often a pod sandbox was given up is told until it is made', async (t) => {
  const rig = setUp({
    creationTimeoutMs: 900_000,
    admission: { hung: { deadlineShare: 1, most: 0, giveUp: { times: 2, leastMs: 30_000 } } },
  });
  ask(rig, podSandbox());
  await rig.clock.advance(30_000);
  t.match(rig.store.census.views(), [{ state: 'running', timesGivenUp: 1 }]);
});

t.test('sizes are those of each sort', async (t) => {
  const rig = setUp({ limit: 3, wedgeAfterMs: 0 });
  await delivered(rig, container({ name: 'a' }), 'c1');
  await held(rig, { name: 'b' }, 'c2');
  ask(rig, container({ name: 'c' }));
  await settle();
  rig.runtime.call(-1).fail(new NameReservedError(new Error('reserved'), 'x'));
  await settle();
  for (let n = 0; n < 4; n += 1) {
    ask(rig, podSandbox());
    await settle();
    if (n < 3) rig.runtime.call(-1).fail(new Error('no network'));
    await settle();
  }
  t.same(rig.store.census.sizes, { live: 3, answered: 1, hidden: 1, backingOff: 1, wedged: 1 });
});

t.test('creations are told by kind and by what they are at', async (t) => {
  const rig = setUp({ limit: 1 });
  t.strictSame(rig.store.census.oldest, { podSandbox: {}, container: {} });
  ask(rig, podSandbox());
  await settle();
  await rig.clock.advance(400);
  ask(rig, container({ name: 'a' }));
  await settle();
  await rig.clock.advance(300);
  ask(rig, container({ name: 'b' }));
  await settle();
  t.strictSame(rig.store.census.oldest, { podSandbox: { running: 700 }, container: { queued: 300 } });
});

t.test('what is made and nobody was given is held since it was made, and what somebody has is not told', async (t) => {
  const rig = setUp();
  await held(rig);
  await rig.clock.advance(5_000);
  t.strictSame(rig.store.census.oldest, { podSandbox: {}, container: { held: 5_000 } });
  const grant = await rig.store.request(container(), never);
  grant.settle(true);
  t.strictSame(rig.store.census.oldest, { podSandbox: {}, container: {} });
});
