import t from 'tap';
import { Oldest } from '../../src/cache/oldest.js';

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
