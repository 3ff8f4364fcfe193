/** What is told of starts to whoever asks. */
import t from 'tap';
import { settle } from '../support/manual-clock.js';
import { identity, setUp, unending } from './start-rig.js';

t.test('what each start is at is told to whoever asks', async (t) => {
  const all = setUp({ admission: { hung: { deadlineShare: 1, most: 5, giveUp: undefined } } });
  t.same(all.store.census.views(), []);
  const leave = new AbortController();
  all.ask('c0', leave.signal).catch(() => {});
  await all.clock.advance(500);
  all.runtime.identifiesByHand = true;
  all.ask('c1', unending(), identity(2, 'd')).catch(() => {});
  all.askUnknown('c2').catch(() => {});
  await all.clock.advance(500);
  leave.abort();
  const none = { place: undefined, hungSinceMs: undefined };
  t.same(all.store.census.views(), [
    {
      ...none,
      containerId: 'c0',
      family: 'c',
      attempt: 0,
      state: 'running',
      begunMs: 1_000,
      stateSinceMs: 1_000,
      lastAskedMs: 2_000,
      waiters: 0,
      progress: { at: 'running', sinceMs: 1_000 },
    },
    {
      ...none,
      containerId: 'c1',
      family: 'd',
      attempt: 2,
      state: 'queued',
      begunMs: 1_500,
      stateSinceMs: 1_500,
      lastAskedMs: 1_500,
      waiters: 1,
      progress: { at: 'queued', sinceMs: 1_500, behind: 0 },
      place: { before: 0, class: 'start', sinceMs: 1_500 },
    },
    {
      ...none,
      containerId: 'c2',
      family: undefined,
      attempt: undefined,
      state: 'queued',
      begunMs: 1_500,
      stateSinceMs: 1_500,
      lastAskedMs: 1_500,
      waiters: 1,
      progress: { at: 'queued', sinceMs: 1_500, behind: 0 },
    },
  ]);
  await all.clock.advance(3_000);
  t.match(all.store.census.views()[0], { containerId: 'c0', hungSinceMs: 5_000 });
  t.match(all.store.census.views()[1], { containerId: 'c1', state: 'running', stateSinceMs: 5_000, place: undefined });
  all.runtime.calls[0]?.end();
  await all.clock.advance(500);
  t.match(all.store.census.views().at(-1), {
    containerId: 'c0',
    state: 'started',
    stateSinceMs: 5_000,
    progress: undefined,
  });
  all.runtime.calls[1]?.fail(new Error('away'));
  await settle();
  const second = all.store.census.views().find(({ containerId }) => containerId === 'c1');
  t.match(second, { state: 'unclear', stateSinceMs: 5_500, progress: undefined });
  await all.clock.advance(30_001);
  t.same(
    all.store.census.views().map(({ containerId }) => containerId),
    ['c2'],
    'the others are too long ago',
  );
});

t.test('a start in flight is told, one that is over is not', async (t) => {
  const rig = setUp();
  t.strictSame(rig.store.census.oldest, {});
  rig.ask('c1').catch(() => {});
  await settle();
  await rig.clock.advance(2_000);
  t.strictSame(rig.store.census.oldest, { running: 2_000 });
  rig.runtime.calls[0]?.end();
  await settle();
  t.strictSame(rig.store.census.oldest, {});
});
