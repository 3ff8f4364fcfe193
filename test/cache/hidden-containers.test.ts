/** How containers that nobody has been given are told from others. */
import t from 'tap';
import type { Creation } from '../../src/cache/creation.js';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { HiddenContainers } from '../../src/cache/hidden-containers.js';
import { ContainerState } from '../../src/cri/enums.js';
import { settle } from '../support/manual-clock.js';
import { type ContainerFields, container, item, lone, setUp } from './store-rig.js';

const created = { state: ContainerState.created };

/** Asks for a container and leaves. */
async function left({ store }: ReturnType<typeof setUp>, fields: ContainerFields = {}): Promise<void> {
  const abort = new AbortController();
  store.request(container(fields), abort.signal).catch(() => {});
  await settle();
  abort.abort();
  await settle();
}

t.test('a container that waits for the removal of its namesake is hidden while it is made, as that is', async (t) => {
  const rig = setUp();
  const { store, runtime } = rig;
  await left(rig);
  await left(rig, { hash: '2' });
  t.ok(store.hiddenOwner(item('c1', created)), 'the first');
  runtime.call(0).end('c1');
  await settle();
  t.same(runtime.removed, ['c1']);
  t.equal(runtime.calls.length, 2);
  t.ok(store.hiddenOwner(item('c2', created)), 'the second');
});

t.test('a container is hidden while it is made when one of the same name that waited for it is dropped', async (t) => {
  const rig = setUp();
  await left(rig);
  await left(rig, { hash: '2' });
  rig.store.ended('podSandbox', 's');
  t.ok(rig.store.hiddenOwner(item('c1', created)));
});

t.test('the container that is made is hidden after another of its name that has run was seen', async (t) => {
  const rig = setUp();
  await left(rig);
  t.notOk(rig.store.hiddenOwner(item('old', { state: ContainerState.exited })));
  t.ok(rig.store.hiddenOwner(item('c1', created)));
});

t.test('the container that is made is hidden after the one that had its name was seen and removed', async (t) => {
  const rig = setUp();
  const { store, runtime } = rig;
  await left(rig);
  t.ok(store.hiddenOwner(item('old', created)));
  runtime.holders = [{ condition: 'unusable', id: 'old' }];
  runtime.call(0).fail(new NameReservedError(new Error('reserved'), 'old'));
  await settle();
  t.equal(runtime.calls.length, 2);
  t.ok(store.hiddenOwner(item('c1', created)));
});

t.test('a queued container is told by what it was last asked for as, whatever was seen before', async (t) => {
  const rig = setUp({ limit: 1 });
  const { store, runtime } = rig;
  await left(rig, { name: 'first' });
  await left(rig);
  t.ok(store.hiddenOwner(item('old', created)));
  await left(rig, { attempt: 1 });
  t.notOk(store.hiddenOwner(item('old', created)), 'attempt 0 is another container now');
  runtime.call(0).end('f');
  await settle();
  t.ok(store.hiddenOwner(item('c1', { attempt: 1, ...created })));
});

t.test('a report leaves out what is no more by the time it comes, and nothing that may be seen by then', async (t) => {
  const rig = setUp();
  const { store, runtime, clock } = rig;
  for (const name of ['a', 'b', 'c']) {
    await left(rig, { name });
    runtime.call(-1).end(`id-${name}`);
  }
  await settle();
  const isHidden = (id: string) => view(item(id, { name: 'other' })) !== undefined;
  const view = store.hiddenView();
  store.used('container', 'id-a');
  t.same(['id-a', 'id-b', 'id-c', 'id-d'].map(isHidden), [false, true, true, false]);
  await clock.advance(10_001);
  t.same(runtime.removed, ['id-b', 'id-c']);
  t.same(['id-a', 'id-b', 'id-c', 'id-d'].map(isHidden), [false, true, true, false]);
});

/** `id`: it is made. */
function creationOf(fields: ContainerFields = {}, id?: string): Creation<string, string> {
  const creation = lone(container(fields));
  if (id !== undefined) creation.made = { id, answer: '' };
  return creation;
}

/** Hides them, in this order. */
function hiding(...creations: readonly Creation<string, string>[]): HiddenContainers<string, string> {
  const hidden = new HiddenContainers<string, string>();
  for (const creation of creations) hidden.hide(creation);
  return hidden;
}

t.test('there are unknown ids as long as one is hidden that can be told by its name only', (t) => {
  const unmade = creationOf();
  const hidden = hiding(creationOf({ name: 'other' }, 'o1'));
  t.equal(hidden.includesUnknownIds, false, 'all are made');
  hidden.hide(unmade);
  t.equal(hidden.includesUnknownIds, true, 'one is not');
  t.equal(hidden.vanish(unmade), true);
  t.equal(hidden.includesUnknownIds, false, 'it is no more');
  t.equal(hidden.vanish(unmade), false, 'nor hidden');
  t.end();
});

t.test('one that is hidden anew with its id is told by that alone', (t) => {
  const creation = creationOf();
  const hidden = hiding(creation);
  creation.made = { id: 'c1', answer: '' };
  hidden.hide(creation);
  t.equal(hidden.includesUnknownIds, false);
  t.equal(hidden.recognise(item('c1')), creation);
  t.equal(hidden.recognise(item('c2', created)), undefined);
  t.end();
});

t.test('of two with one name it is the one that is being made, whichever was hidden first', (t) => {
  const [waiting, running] = [creationOf(), creationOf()];
  running.call.phase = 'running';
  for (const order of [
    [waiting, running],
    [running, waiting],
  ]) {
    t.equal(hiding(...order).recognise(item('c1', { state: ContainerState.exited })), running);
  }
  const hidden = hiding(running, waiting);
  hidden.vanish(running);
  t.equal(hidden.recognise(item('c1', created)), waiting, 'without it, the one that waits');
  t.end();
});

t.test('the id of a container that runs is not taken for that of the one that is being made', (t) => {
  const creation = creationOf();
  const hidden = hiding(creation);
  t.equal(hidden.recognise(item('old', { state: ContainerState.running })), creation, 'for whoever asks to judge');
  t.equal(hidden.recognise(item('c1', created)), creation);
  t.end();
});

t.test('an id that two were given stays that of the second when the first is no more', (t) => {
  const [first, second] = [creationOf({ name: 'a' }, 'c1'), creationOf({ name: 'b' }, 'c1')];
  const hidden = hiding(first, second);
  hidden.vanish(first);
  t.equal(hidden.recognise(item('c1')), second);
  t.end();
});

t.test(
  'a report leaves out what was seen before the runtime answered and is no more, and goes on after what was never seen',
  (t) => {
    const [seen, unseen] = [creationOf({ name: 'seen' }), creationOf({ name: 'unseen' })];
    const hidden = hiding(seen, unseen);
    hidden.recognise(item('c1', { name: 'seen', ...created }));
    const view = hidden.view();
    t.equal(view(item('c2', { name: 'other' })), undefined);
    hidden.vanish(unseen);
    hidden.vanish(seen);
    t.equal(view(item('c1', { name: 'seen', ...created })), seen);
    t.equal(view(item('c2', { name: 'other' })), undefined);
    t.end();
  },
);

t.test('an id that is told by the name is known from then on, and no other with that name', (t) => {
  const creation = creationOf();
  const hidden = hiding(creation);
  t.equal(hidden.recognise(item('c1', created)), creation);
  t.equal(hidden.recognise(item('c2', created)), undefined);
  t.equal(hidden.recognise(item('c1', { name: 'not told' })), creation);
  t.end();
});

t.test('where a report names no pod sandbox, a container is told by the namespace, name and uid of its pod', (t) => {
  const recognised = (namespace: string, name: string, uid: string, attempt = 0) => {
    const pod = Object.entries({ namespace, name, uid });
    const labels = new Map(pod.map(([field, value]) => [`io.kubernetes.pod.${field}`, value]));
    return hiding(creationOf()).recognise({ ...item('c1', { attempt, podSandboxId: '' }), labels }) !== undefined;
  };
  t.equal(recognised('n', 'p', 'u'), true);
  t.equal(recognised('other', 'p', 'u'), false);
  t.equal(recognised('n', 'other', 'u'), false);
  t.equal(recognised('n', 'p', 'other'), false);
  t.equal(recognised('n', 'p', 'u', 1), false);
  t.end();
});

t.test('what stands in the way of a creation under its name is not taken for it', (t) => {
  const reservation = {
    sinceMs: 0,
    holderId: 'x',
    removedId: undefined,
    tries: 1,
    error: undefined,
    strangerId: 'x',
    reportedMs: undefined,
  };
  const seenBefore = creationOf();
  const hidden = hiding(seenBefore);
  t.equal(hidden.recognise(item('x', created)), seenBefore, 'before it is known to');
  seenBefore.reservation = reservation;
  t.equal(hidden.recognise(item('x', created)), undefined);
  const creation = creationOf();
  creation.reservation = reservation;
  t.equal(hiding(creation).recognise(item('x', created)), undefined);
  t.equal(hiding(creation).recognise(item('c1', created)), creation);
  t.end();
});

t.test('whether a container is hidden can be told of the container itself', (t) => {
  const hidden = new HiddenContainers<string, string>();
  const creation = lone(container());
  t.equal(hidden.has(creation), false);
  hidden.hide(creation);
  t.equal(hidden.has(creation), true);
  hidden.reveal(creation);
  t.equal(hidden.has(creation), false);
  t.end();
});
