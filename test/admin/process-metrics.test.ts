import { closeSync, openSync } from 'node:fs';
import { Registry } from 'prom-client';
import t from 'tap';
import { observeProcess } from '../../src/admin/process-metrics.js';

function setUp() {
  const registry = new Registry();
  observeProcess(registry);
  return async (name: string): Promise<number> => {
    const line = (await registry.metrics()).split('\n').find((each) => each.startsWith(`${name} `));
    return Number(line?.split(' ')[1]);
  };
}

t.test('CPU time is in seconds, and the sum of its parts', async (t) => {
  const read = setUp();
  const end = performance.now() + 60;
  while (performance.now() < end);
  const before = process.cpuUsage();
  const user = await read('process_cpu_user_seconds_total');
  const total = await read('process_cpu_seconds_total');
  const after = process.cpuUsage();
  t.ok(user >= before.user / 1e6 && user <= after.user / 1e6);
  t.ok(total >= (before.user + before.system) / 1e6 && total <= (after.user + after.system) / 1e6);
  t.ok((await read('process_cpu_system_seconds_total')) >= before.system / 1e6);
  t.ok((await read('process_cpu_system_seconds_total')) < 1000);
});

t.test('it has started when it has', async (t) => {
  const read = setUp();
  const expected = Date.now() / 1000 - process.uptime();
  t.ok(Math.abs((await read('process_start_time_seconds')) - expected) < 2);
  t.equal(await read('process_start_time_seconds'), await read('process_start_time_seconds'), 'it stays so');
});

t.test('memory is in bytes', async (t) => {
  const read = setUp();
  const { heapTotal, rss } = process.memoryUsage();
  t.ok(Math.abs((await read('process_resident_memory_bytes')) / rss - 1) < 0.5);
  t.ok(Math.abs((await read('nodejs_heap_size_total_bytes')) / heapTotal - 1) < 0.5);
  t.ok((await read('nodejs_heap_size_used_bytes')) <= (await read('nodejs_heap_size_total_bytes')));
  t.ok((await read('nodejs_external_memory_bytes')) > 0);
});

t.test('open files are counted', { skip: process.platform === 'linux' ? false : 'needs /proc' }, async (t) => {
  const read = setUp();
  const before = await read('process_open_fds');
  const file = openSync('/dev/null', 'r');
  t.equal(await read('process_open_fds'), before + 1);
  closeSync(file);
  t.ok((await read('process_max_fds')) > before);
});

t.test('the time the event loop had work grows with the work', async (t) => {
  const read = setUp();
  const before = await read('nodejs_eventloop_active_seconds_total');
  await new Promise((resolve) => setImmediate(resolve));
  const end = performance.now() + 50;
  while (performance.now() < end);
  await new Promise((resolve) => setImmediate(resolve));
  const grown = (await read('nodejs_eventloop_active_seconds_total')) - before;
  t.ok(grown >= 0.04 && grown < 100, `${grown} s`);
});
