import t from 'tap';
import { WaiterLeftError } from '../../src/cache/detached-call.js';
import { settle } from '../support/manual-clock.js';
import { container, held, never, setUp } from './store-rig.js';

t.test('10: resources that drifted are given to the container before it is handed over', async (t) => {
  const rig = setUp();
  await held(rig, { memory: 64 });
  const grant = await rig.store.request(container({ memory: 256 }), never);
  t.equal(grant.made.id, 'c1');
  t.same(rig.runtime.updated, ['c1']);
  grant.settle(false);
  (await rig.store.request(container({ memory: 256 }), never)).settle(false);
  t.same(rig.runtime.updated, ['c1'], 'once');
  await rig.store.request(container({ memory: 64 }), never);
  t.same(rig.runtime.updated, ['c1', 'c1'], 'and again when they change back');
});

t.test('10: who joins a running creation with other resources gets them too', async (t) => {
  const rig = setUp();
  const leave = new AbortController();
  rig.store.request(container({ memory: 64 }), leave.signal).catch(() => {});
  await settle();
  leave.abort();
  const asked = rig.store.request(container({ memory: 256 }), never);
  await settle();
  rig.runtime.call(0).end('c1');
  t.equal((await asked).made.id, 'c1');
  t.same(rig.runtime.updated, ['c1']);
});

t.test('10: the same resources are not given again, and none asked for are none to give', async (t) => {
  const rig = setUp();
  await held(rig, { memory: 64 });
  (await rig.store.request(container({ memory: 64, image: 'other' }), never)).settle(false);
  (await rig.store.request(container(), never)).settle(false);
  t.same(rig.runtime.updated, []);
});

t.test('10: resources that cannot be given are told, and the container stays held', async (t) => {
  const rig = setUp();
  await held(rig, { memory: 64 });
  rig.runtime.updateErrors = [new Error('no such cgroup')];
  await t.rejects(rig.store.request(container({ memory: 256 }), never), { message: 'no such cgroup' });
  t.ok(rig.store.hiding);
  t.equal((await rig.store.request(container({ memory: 256 }), never)).made.id, 'c1', 'the next try gives them');
});

t.test('10: who leaves while resources are given leaves the container held', async (t) => {
  const rig = setUp();
  await held(rig, { memory: 64 });
  rig.runtime.updateResources = () => new Promise(() => {});
  const leave = new AbortController();
  const asked = rig.store.request(container({ memory: 256 }), leave.signal);
  await settle();
  leave.abort();
  await t.rejects(asked, WaiterLeftError);
  t.ok(rig.store.hiding);
  await rig.clock.advance(10_000);
  t.same(rig.runtime.removed, ['c1'], 'and it is removed in its time');
});
