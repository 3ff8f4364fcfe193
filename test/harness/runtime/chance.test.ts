import { status } from '@grpc/grpc-js';
import t from 'tap';
import { Random } from '../../../src/harness/random.js';
import { logNormal, stalling } from '../../../src/harness/runtime/capacity.js';
import { draws } from '../../../src/harness/runtime/draws.js';
import { failing, restartAt } from '../../../src/harness/runtime/failures.js';
import type { Duration } from '../../../src/harness/runtime/work.js';
import { ManualClock } from '../../support/manual-clock.js';
import { bench, create, failure, runPod } from '../support.js';

const names = [...Array(2000).keys()].map((n) => `web-${n}_default_uid-${n}_0`);
const seeded = (seed: number): (() => number) => {
  const random = new Random(seed);
  return () => random.uint32() / 2 ** 32;
};
const take = (duration: Duration, name: string): number => (typeof duration === 'number' ? duration : duration(name));

t.test('a try of a name is drawn for alike in any order, under any pod uid and by any runtime', async (t) => {
  const one = draws(seeded(7));
  const other = draws(seeded(7));
  const first = ['a_ns_u1_0', 'b_ns_u2_0', 'b_ns_u2_0'].map(one);
  const second = ['k8s_b_ns_u4_0', 'k8s_b_ns_u4_0', 'k8s_a_ns_u3_0'].map(other);
  t.same(second, [first[1], first[2], first[0]]);
  t.equal(new Set(first).size, 3, 'names and tries differ');
  t.not(draws(seeded(8))('a_ns_u1_0'), first[0], 'another seed');
  const random = seeded(7);
  t.not(draws(random)('a_ns_u1_0'), draws(random)('a_ns_u1_0'), 'another use of the same generator');
});

t.test('log-normal times have the median and the spread asked for', async (t) => {
  const duration = logNormal(seeded(1), { medianMs: 1000, sigma: 0.5 });
  const sorted = names.map((name) => take(duration, name)).sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor(share * sorted.length)] ?? 0;
  t.ok(Math.abs(at(0.5) / 1000 - 1) < 0.05, `median ${at(0.5)}`);
  t.ok(Math.abs(at(0.8413) / (1000 * Math.exp(0.5)) - 1) < 0.07, `one sigma above: ${at(0.8413)}`);
  t.ok(Math.abs(at(0.1587) / (1000 * Math.exp(-0.5)) - 1) < 0.07, `one sigma below: ${at(0.1587)}`);
});

t.test('a share of the calls stalls, on top of what they take', async (t) => {
  const baseMs = (name: string): number => (name.startsWith('web-1') ? 10 : 20);
  const duration = stalling(seeded(1), { baseMs, stallMs: 5000, share: 0.1 });
  const stalls = names.map((name) => take(duration, name) - baseMs(name));
  t.same([...new Set(stalls)].sort(), [0, 5000]);
  const share = stalls.filter((ms) => ms > 0).length / names.length;
  t.ok(Math.abs(share - 0.1) < 0.02, `share ${share}`);
});

t.test('a share of the calls fails, another hangs', async (t) => {
  const fate = failing(seeded(1), { fail: 0.2, hang: 0.1 });
  const fates = names.map((name) => fate(name));
  const share = (matches: (at: (typeof fates)[number]) => boolean): number =>
    fates.filter(matches).length / names.length;
  t.ok(Math.abs(share((at) => at?.code === status.UNKNOWN) - 0.2) < 0.03);
  t.ok(Math.abs(share((at) => at?.hang === true) - 0.1) < 0.02);
});

t.test('a runtime with failures fails those tries, and what is told to fail next before them', async (t) => {
  const it = await bench(t, { failures: { createContainer: failing(seeded(1), { fail: 1 }) } });
  const web = it.pod();
  const sandboxId = await runPod(it, web);
  t.same(await failure(create(it, web, sandboxId)), { code: status.UNKNOWN, details: 'simulated failure' });
  it.runtime.failNext('createContainer', { code: status.INTERNAL, details: 'no' });
  t.same(await failure(create(it, web, sandboxId)), { code: status.INTERNAL, details: 'no' });
  t.same(it.runtime.containers, []);
});

t.test('restarts come at their times, and the runtime is up again when they are ended', async (t) => {
  const clock = new ManualClock();
  const log: string[] = [];
  const note = (what: string) => async () => {
    log.push(`${what} ${clock.now() - 1000}`);
  };
  const stop = new AbortController();
  const restarts = [
    { atMs: 5000, downMs: 1000 },
    { atMs: 8000, downMs: 1000 },
    { atMs: 20_000, downMs: 1000 },
  ];
  const over = restartAt({ kill: note('kill'), listen: note('listen') }, restarts, clock, stop.signal);
  await clock.advance(8500);
  stop.abort();
  await over;
  t.same(log, ['kill 5000', 'listen 6000', 'kill 8000', 'listen 8500']);
  t.equal(clock.pending, 0);
});
