import { pino } from 'pino';
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import { Creation } from '../../src/cache/creation.js';
import type { Made } from '../../src/cache/creation-runtime.js';
import { DetachedCall } from '../../src/cache/detached-call.js';
import { LifeLog } from '../../src/proxy/life-log.js';
import { container } from '../cache/store-rig.js';
import { ManualClock } from '../support/manual-clock.js';

const unheard = { waiterLeft: () => {}, succeeded: () => {}, failed: () => {} };

function setUp() {
  const lines: Record<string, unknown>[] = [];
  const metrics = new Metrics();
  const log = new LifeLog(pino({ level: 'trace' }, { write: (line: string) => lines.push(JSON.parse(line)) }), metrics);
  const creation = () =>
    new Creation<string, string>(container(), new DetachedCall<Made<string>>(new ManualClock(), unheard));
  return { lines, metrics, log, creation };
}

t.test('an outcome is counted once, however often a container is held', async (t) => {
  const { log, metrics, creation } = setUp();
  const one = creation();
  for (const step of ['held', 'replayed', 'held', 'answered'] as const) log.creation(step, one, {});
  log.creation('held', creation(), {});
  const text = await metrics.registry.metrics();
  t.match(text, /holdfast_creations_total\{kind="container",outcome="held"\} 2\n/);
  t.notMatch(text, /outcome="answered"/);
  t.match(text, /holdfast_replays_total\{kind="container"\} 1\n/);
});

t.test('a wedge is counted once and says what to do each time', async (t) => {
  const { log, lines, metrics, creation } = setUp();
  const one = creation();
  log.creation('wedged', one, { holderId: 'x', first: true });
  log.creation('wedged', one, { holderId: 'x', first: false });
  t.match(await metrics.registry.metrics(), /holdfast_wedges_total\{kind="container"\} 1\n/);
  t.same(
    lines.map(({ remedy, level }) => [remedy, level]),
    Array.from({ length: 2 }, () => ['try "crictl rm --force x", else restart the runtime', 40]),
  );
});

t.test('what goes wrong is a warning, with the status and never a value of the request', (t) => {
  const { log, lines, creation } = setUp();
  log.creation('failed', creation(), { error: new Error('disk full'), ageMs: 12.6 });
  log.creation('queued', creation(), {});
  t.match(lines[0], { level: 40, step: 'failed', code: 13, error: 'disk full', ageMs: 13, namespace: 'n', name: 'p' });
  t.equal(lines[1]?.level, 30);
  t.end();
});
