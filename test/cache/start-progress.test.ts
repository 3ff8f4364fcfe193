import t from 'tap';
import { DetachedCall } from '../../src/cache/detached-call.js';
import { progressOfStart } from '../../src/cache/start-progress.js';
import { ManualClock } from '../support/manual-clock.js';

t.test('a start is queued, runs, and is checked since it was last asked for once it has ended', async (t) => {
  const clock = new ManualClock();
  const call = new DetachedCall<string>(clock, { waiterLeft() {}, succeeded() {}, failed() {} });
  const told = (queued = 3) => progressOfStart({ call }, { queued });
  t.same(told(), { at: 'queued', sinceMs: 1_000, behind: 2 });
  t.same(told(0), { at: 'queued', sinceMs: 1_000, behind: 0 }, 'also before it is in the queue');
  await clock.advance(100);
  const running = call.run(60_000, async () => 'started');
  t.same(told(), { at: 'running', sinceMs: 1_100 });
  await running;
  await clock.advance(100);
  call.lastAskedMs = clock.now();
  t.same(told(), { at: 'checked', sinceMs: 1_200 });
});
