/** What the registry has, and what it promises to whoever keeps it. */
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';

async function lines(metrics: Metrics, name: string): Promise<string[]> {
  return (await metrics.registry.metrics()).split('\n').filter((line) => line.startsWith(name));
}

t.test('every counter has its series from the start, so that the first event is not missed', async (t) => {
  const metrics = new Metrics();
  const all = (await metrics.registry.metrics()).split('\n');
  for (const name of all.flatMap((line) => /^# TYPE (\S+)/.exec(line)?.[1] ?? [])) {
    t.ok(
      all.some((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `) || line.startsWith(`${name}_`)),
      name,
    );
  }
  const creations = await lines(metrics, 'holdfast_creations_total');
  t.ok(creations.includes('holdfast_creations_total{kind="podSandbox",outcome="shown"} 0'));
  t.ok(creations.includes('holdfast_creations_total{kind="container",outcome="held"} 0'));
  t.ok(creations.includes('holdfast_creations_total{kind="start",outcome="timed out"} 0'));
  t.equal(creations.length, 15);
  t.equal((await lines(metrics, 'holdfast_waiters_told_total')).length, 4 + 7 + 8);
  t.strictSame(await lines(metrics, 'holdfast_drift_total'), [
    'holdfast_drift_total{kind="podSandbox"} 0',
    'holdfast_drift_total{kind="container"} 0',
  ]);
  t.equal((await lines(metrics, 'holdfast_joins_total')).length, 3);
  t.equal((await lines(metrics, 'holdfast_admission_wait_seconds_count')).length, 5);
  t.strictSame(await lines(metrics, 'holdfast_given_up_total'), ['holdfast_given_up_total{kind="podSandbox"} 0']);
  t.equal((await lines(metrics, 'holdfast_refused_streams_total')).length, 4);
  t.equal((await lines(metrics, 'holdfast_stalled_connections_total')).length, 2);
});

t.test('what the program is can be read', async (t) => {
  const metrics = new Metrics();
  metrics.observeProcess('1.2.3');
  t.strictSame(await lines(metrics, 'holdfast_build_info'), [
    `holdfast_build_info{version="1.2.3",node_version="${process.versions.node}"} 1`,
  ]);
  t.equal((await lines(metrics, 'process_cpu_seconds_total')).length, 1);
});

t.test('connections and the runtime are read when they are asked for', async (t) => {
  const metrics = new Metrics();
  let now = { isPresent: true, downstream: 3, upstream: 2 };
  metrics.observeConnections(() => now);
  t.strictSame(await lines(metrics, 'holdfast_upstream_up'), ['holdfast_upstream_up 1']);
  now = { isPresent: false, downstream: 1, upstream: 0 };
  t.strictSame(await lines(metrics, 'holdfast_upstream_up'), ['holdfast_upstream_up 0']);
  t.strictSame(await lines(metrics, 'holdfast_connections'), [
    'holdfast_connections{peer="downstream"} 1',
    'holdfast_connections{peer="upstream"} 0',
  ]);
});

t.test('the oldest of each stage is told in seconds, and 0 where there is none', async (t) => {
  const metrics = new Metrics();
  let ages = {};
  metrics.observeOldest(() => ({ podSandbox: {}, container: ages, start: { running: 500 } }));
  ages = { queued: 1500, held: 61_000 };
  t.strictSame(await lines(metrics, 'holdfast_oldest_creation_age_seconds'), [
    'holdfast_oldest_creation_age_seconds{kind="podSandbox",stage="queued"} 0',
    'holdfast_oldest_creation_age_seconds{kind="podSandbox",stage="waiting"} 0',
    'holdfast_oldest_creation_age_seconds{kind="podSandbox",stage="running"} 0',
    'holdfast_oldest_creation_age_seconds{kind="container",stage="queued"} 1.5',
    'holdfast_oldest_creation_age_seconds{kind="container",stage="waiting"} 0',
    'holdfast_oldest_creation_age_seconds{kind="container",stage="running"} 0',
    'holdfast_oldest_creation_age_seconds{kind="container",stage="held"} 61',
    'holdfast_oldest_creation_age_seconds{kind="start",stage="queued"} 0',
    'holdfast_oldest_creation_age_seconds{kind="start",stage="running"} 0.5',
  ]);
  ages = {};
  const held = 'holdfast_oldest_creation_age_seconds{kind="container",stage="held"} 0';
  t.ok((await lines(metrics, 'holdfast_oldest')).includes(held));
});

t.test('pressure is a ratio, and for one release a percentage too', async (t) => {
  const metrics = new Metrics();
  const pressure = new Map([['cpu', 12.5]]);
  metrics.observeAdmission(() => ({ limit: 1, inFlight: 0, hung: 0, queued: {}, pressure }));
  t.strictSame(await lines(metrics, 'holdfast_pressure'), [
    'holdfast_pressure_ratio{resource="cpu"} 0.125',
    'holdfast_pressure_percent{resource="cpu"} 12.5',
  ]);
  t.match(await metrics.registry.metrics(), '# HELP holdfast_pressure_percent Deprecated: use holdfast_pressure_ratio');
  pressure.clear();
  t.strictSame(await lines(metrics, 'holdfast_pressure'), []);
});
