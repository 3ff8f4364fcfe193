import t from 'tap';
import { Oldest } from '../../src/cache/oldest.js';
import { settle } from '../support/manual-clock.js';
import * as starts from './start-rig.js';
import { container, held, never, podSandbox, type StoreRig, setUp } from './store-rig.js';

t.test('of each stage what is in it for longest counts', (t) => {
  const oldest = new Oldest(100);
  t.strictSame(oldest.ages, {});
  for (const sinceMs of [60, 10, 90]) oldest.add('held', sinceMs);
  oldest.addProgress({ at: 'running', sinceMs: 40 });
  oldest.addProgress({ at: 'queued', sinceMs: 70, behind: 3 });
  oldest.addProgress({ at: 'checked', sinceMs: 0 });
  t.strictSame(oldest.ages, { held: 90, running: 60, queued: 30 });
  t.end();
});

function ask({ store }: StoreRig, request = container()) {
  store.request(request, never).catch(() => {});
  return settle();
}

t.test('creations are told by kind and by what they are at', async (t) => {
  const rig = setUp({ limit: 1 });
  t.strictSame(rig.store.oldest, { podSandbox: {}, container: {} });
  await ask(rig, podSandbox());
  await rig.clock.advance(400);
  await ask(rig, container({ name: 'a' }));
  await rig.clock.advance(300);
  await ask(rig, container({ name: 'b' }));
  t.strictSame(rig.store.oldest, { podSandbox: { running: 700 }, container: { queued: 300 } });
});

t.test('what is made and nobody was given is held since it was made, and what somebody has is not told', async (t) => {
  const rig = setUp();
  await held(rig);
  await rig.clock.advance(5_000);
  t.strictSame(rig.store.oldest, { podSandbox: {}, container: { held: 5_000 } });
  const grant = await rig.store.request(container(), never);
  grant.settle(true);
  t.strictSame(rig.store.oldest, { podSandbox: {}, container: {} });
});

t.test('a start in flight is told, one that is over is not', async (t) => {
  const rig = starts.setUp();
  t.strictSame(rig.store.oldest, {});
  rig.ask('c1').catch(() => {});
  await settle();
  await rig.clock.advance(2_000);
  t.strictSame(rig.store.oldest, { running: 2_000 });
  rig.runtime.calls[0]?.end();
  await settle();
  t.strictSame(rig.store.oldest, {});
});
