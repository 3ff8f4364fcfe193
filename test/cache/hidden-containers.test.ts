/** How containers that nobody has been given are told from others. */
import t from 'tap';
import { NameReservedError } from '../../src/cache/creation-runtime.js';
import { ContainerState } from '../../src/cri/enums.js';
import { settle } from '../support/manual-clock.js';
import { type ContainerFields, container, item, setUp } from './store-rig.js';

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
