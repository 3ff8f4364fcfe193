/**
 * Holdfast's own gRPC client against runtimes of every sort.
 *
 * HOLDFAST_FUZZ_CASES is the number of cases (for long runs, with `tap --timeout=0`), HOLDFAST_FUZZ_SEED the first one's seed.
 */
import t from 'tap';
import { runUpstreamCase } from './upstream-case.js';
import { strayErrors } from './world.js';

const { HOLDFAST_FUZZ_CASES: cases = '80', HOLDFAST_FUZZ_SEED: seed = '0' } = process.env;

t.test('every call ends once, as the runtime said, whatever the runtime is', async (t) => {
  const listener = (error: unknown) => strayErrors.push(error);
  process.on('unhandledRejection', listener);
  t.teardown(() => process.off('unhandledRejection', listener));
  const events = new Map<string, number>();
  for (let at = 0; at < Number(cases); at++) {
    const { breach, events: came } = await runUpstreamCase(Number(seed) + at);
    if (breach !== undefined) t.fail(`seed ${Number(seed) + at}: ${breach.rule}: ${breach.detail}`);
    for (const [event, count] of came) events.set(event, (events.get(event) ?? 0) + count);
  }
  t.comment([...events].map(([event, count]) => `${event}: ${count}`).join(', '));
  for (const event of ['runtimes right', 'runtimes damaged', 'ends compared', 'code 0', 'code 5', 'code 14']) {
    t.ok(events.get(event), event);
  }
});
