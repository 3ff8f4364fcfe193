/** What a fault of the traces costs. */
import { pino } from 'pino';
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import type { Creation } from '../../src/cache/creation.js';
import type { Start } from '../../src/cache/start.js';
import { type CallTraces, guardedTraces, noTraces, type Waiter } from '../../src/proxy/call-traces.js';
import type { Origin } from '../../src/proxy/cri-runtime.js';
import { Faults } from '../../src/proxy/faults.js';
import type { UpstreamAnswer } from '../../src/proxy/upstream.js';
import { counted } from '../support/counted.js';
import { ManualClock } from '../support/manual-clock.js';

const origin = (method: string): Origin => ({ path: `/runtime.v1.RuntimeService/${method}`, metadata: [['a', 'b']] });
const creation = { asked: { origin: origin('CreateContainer') } } as Creation<Origin, UpstreamAnswer>;
const start = { origin: origin('StartContainer') } as Start<Origin, UpstreamAnswer>;
const waiter: Waiter = { kind: 'podSandbox', origin: origin('RunPodSandbox'), identity: undefined };

function guarded(traces: CallTraces) {
  const metrics = new Metrics();
  const faults = async () =>
    Object.fromEntries((await counted(metrics.faults)).map(({ labels, value }) => [labels.method, value]));
  return { faults, ...guardedTraces(traces, new Faults(metrics, pino({ level: 'silent' }), new ManualClock())) };
}

const throwing = () => {
  throw new Error('broken');
};

t.test('a fault of the traces is counted for the method, and goes no further', async (t) => {
  const broken: CallTraces = { waiter: throwing, creation: throwing, start: throwing, metadataOf: throwing };
  const traces = guarded(broken);
  const { attached, ended } = traces.waiter(waiter);
  attached(creation);
  ended('delivered');
  t.strictSame(await traces.faults(), { RunPodSandbox: 1 });
  traces.creation('queued', creation, {});
  t.strictSame(await traces.faults(), { RunPodSandbox: 1, CreateContainer: 1 });
  traces.start('queued', start, {});
  t.equal(traces.metadataOf(start.origin), start.origin.metadata);
  t.strictSame(await traces.faults(), { RunPodSandbox: 1, CreateContainer: 1, StartContainer: 2 });
});

t.test('so does one of a waiter’s trace', async (t) => {
  const traces = guarded({ ...noTraces, waiter: () => ({ attached: throwing, ended: throwing }) });
  const { attached, ended } = traces.waiter(waiter);
  attached(creation);
  ended('left');
  t.strictSame(await traces.faults(), { RunPodSandbox: 2 });
});

t.test('all that is told is handed on', async (t) => {
  const told: unknown[][] = [];
  const traces = guarded({
    waiter(...args) {
      told.push(['waiter', ...args]);
      return {
        attached: (...args) => void told.push(['attached', ...args]),
        ended: (...args) => void told.push(['ended', ...args]),
      };
    },
    creation: (...args) => void told.push(['creation', ...args]),
    start: (...args) => void told.push(['start', ...args]),
    metadataOf: (asked) => [['of', asked.path]],
  });
  const error = new Error('why');
  const trace = traces.waiter(waiter);
  trace.attached(start);
  trace.ended('failed', error);
  traces.creation('held', creation, { ageMs: 1 });
  traces.start('answered', start, { waiters: 2 });
  t.strictSame(told, [
    ['waiter', waiter],
    ['attached', start],
    ['ended', 'failed', error],
    ['creation', 'held', creation, { ageMs: 1 }],
    ['start', 'answered', start, { waiters: 2 }],
  ]);
  t.strictSame(traces.metadataOf(start.origin), [['of', start.origin.path]]);
  t.strictSame(await traces.faults(), {});
});

t.test('where nobody draws traces, nothing happens and metadata is what it was', (t) => {
  const { attached, ended } = noTraces.waiter(waiter);
  attached(creation);
  ended('delivered');
  noTraces.creation('queued', creation, {});
  noTraces.start('queued', start, {});
  t.equal(noTraces.metadataOf(start.origin), start.origin.metadata);
  t.end();
});
