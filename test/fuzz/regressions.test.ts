/** What once broke the router, and enough new cases to see that the fuzzer works. */
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { newCase, replay, runCase } from './case.js';
import { leaveNothingToChance } from './determinism.js';
import { readRegressions } from './regression.js';

leaveNothingToChance();

for (const [file, { broke, steps, ...setting }] of readRegressions()) {
  t.test(`${file} (${broke})`, async (t) => {
    const { breach } = await replay(setting, steps);
    t.equal(breach, undefined);
  });
}

t.test('a case is the same each time, and its steps say all of it', async (t) => {
  for (const seed of [3, 4, 5, 6, 7]) {
    const once = await runCase(newCase(seed));
    const again = await runCase(newCase(seed));
    t.ok(isDeepStrictEqual(once, again), `seed ${seed}`);
    const replayed = await replay(once.setting, once.steps);
    t.ok(isDeepStrictEqual(once, replayed), `seed ${seed}, replayed`);
  }
});
