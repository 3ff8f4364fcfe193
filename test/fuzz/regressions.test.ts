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

t.test('new cases break no rule and come to all that a case is for', async (t) => {
  const events = new Map<string, number>();
  for (let seed = 0; seed < 250; seed++) {
    const { breach, events: came } = await runCase(newCase(seed));
    if (breach !== undefined) t.fail(`seed ${seed}: ${breach.rule}: ${breach.detail}`);
    for (const [event, count] of came) events.set(event, (events.get(event) ?? 0) + count);
  }
  for (const event of [
    ...['both peers right', 'calls delivered', 'calls left: cancelled', 'DATA held back', 'drained'],
    ...['own SETTINGS', 'reports taken late', 'runtime gone, streams served', 'refused: request not whole'],
    ...['calls observed to succeed', 'calls observed to fail'],
  ]) {
    t.ok(events.get(event), event);
  }
  const violations = [...events.keys()].filter((event) => event.startsWith('violation'));
  t.ok(violations.length > 5, `damage is seen in its sorts: ${violations.join('; ')}`);
});

t.test('a case is the same each time, and its steps say all of it', async (t) => {
  for (const seed of [3, 4, 5, 6, 7]) {
    const once = await runCase(newCase(seed));
    const again = await runCase(newCase(seed));
    t.ok(isDeepStrictEqual(once, again), `seed ${seed}`);
    const replayed = await replay(once.setting, once.steps);
    t.ok(isDeepStrictEqual(once, replayed), `seed ${seed}, replayed`);
  }
});
