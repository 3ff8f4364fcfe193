import { Registry } from 'prom-client';
import t from 'tap';
import { Durations } from '../../src/admin/durations.js';

function setUp() {
  const registry = new Registry();
  const durations = new Durations(
    { name: 'took_seconds', help: 'Took.', buckets: [0.1, 1], methods: ['A', 'B'] },
    registry,
  );
  const lines = async () => (await registry.metrics()).split('\n').filter((line) => line !== '');
  return { durations, registry, lines };
}

t.test('every series is there from the start', async (t) => {
  const { lines } = setUp();
  const of = (method: string) => [
    `took_seconds_bucket{method="${method}",le="0.1"} 0`,
    `took_seconds_bucket{method="${method}",le="1"} 0`,
    `took_seconds_bucket{method="${method}",le="+Inf"} 0`,
    `took_seconds_sum{method="${method}"} 0`,
    `took_seconds_count{method="${method}"} 0`,
  ];
  t.strictSame(await lines(), ['# HELP took_seconds Took.', '# TYPE took_seconds histogram', ...of('A'), ...of('B')]);
});

t.test('a bucket has what took as long as its bound or less, and all below it', async (t) => {
  const { durations, lines } = setUp();
  for (const ms of [100, 101, 1000, 1001]) durations.observe('B', ms);
  t.strictSame((await lines()).slice(-5), [
    'took_seconds_bucket{method="B",le="0.1"} 1',
    'took_seconds_bucket{method="B",le="1"} 3',
    'took_seconds_bucket{method="B",le="+Inf"} 4',
    'took_seconds_sum{method="B"} 2.202',
    'took_seconds_count{method="B"} 4',
  ]);
});

t.test('a method that is not one of its own leaves no trace', async (t) => {
  const { durations, lines } = setUp();
  const before = await lines();
  durations.observe('C', 5);
  t.strictSame(await lines(), before);
});

t.test('the registry finds it by its name', async (t) => {
  const { durations, registry } = setUp();
  t.equal(registry.getSingleMetric('took_seconds'), durations as unknown);
  t.match(await durations.get(), { name: 'took_seconds', help: 'Took.', type: 'histogram', aggregator: 'sum' });
});
