/** When spans end that no step ends. */
import {
  AlwaysOnSampler,
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import t from 'tap';
import { Creation } from '../../src/cache/creation.js';
import type { Made } from '../../src/cache/creation-runtime.js';
import { DetachedCall } from '../../src/cache/detached-call.js';
import { fingerprintPodSandbox } from '../../src/cache/fingerprint.js';
import { Start } from '../../src/cache/start.js';
import type { Origin } from '../../src/proxy/own-calls.js';
import type { UpstreamAnswer } from '../../src/proxy/upstream.js';
import { CallSpans } from '../../src/tracing/call-spans.js';
import { runPodSandbox } from '../proxy/core-rig.js';
import { ManualClock } from '../support/manual-clock.js';

const unheard = { waiterLeft: () => {}, succeeded: () => {}, failed: () => {} };

function setUp(maxOpen = 10) {
  const clock = new ManualClock();
  const exporter = new InMemorySpanExporter();
  const spanProcessors = [new SimpleSpanProcessor(exporter)];
  const tracer = new BasicTracerProvider({ sampler: new AlwaysOnSampler(), spanProcessors }).getTracer('test');
  const spans = new CallSpans(tracer, clock, { replayTtlMs: 60_000, maxOpen });
  const asker = (method: string): Origin => ({
    path: `/runtime.v1.RuntimeService/${method}`,
    metadata: [['traceparent', `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`]],
  });
  return {
    clock,
    spans,
    /** Names, outcomes and last events of the spans that have ended, but for those of waiters. */
    ended: () =>
      exporter
        .getFinishedSpans()
        .filter(({ name }) => !name.startsWith('holdfast.wait'))
        .map(({ name, attributes, events }) => [name, attributes['holdfast.outcome'], events.at(-1)?.name]),
    start(id: string) {
      const origin = asker('StartContainer');
      const call = new DetachedCall<UpstreamAnswer>(clock, unheard);
      const start = new Start<Origin, UpstreamAnswer>(id, origin, call, false);
      spans.waiter({ kind: 'start', origin, identity: undefined, containerId: id }).attached(start);
      spans.start('queued', start, {});
      return start;
    },
    creation(uid: string) {
      const origin = asker('RunPodSandbox');
      const fingerprint = fingerprintPodSandbox(runPodSandbox(uid), { volatileAnnotations: new Set() });
      if (fingerprint === undefined) throw new Error('no fingerprint');
      const call = new DetachedCall<Made<UpstreamAnswer>>(clock, unheard);
      const creation = new Creation<Origin, UpstreamAnswer>({ fingerprint, origin }, call);
      spans.waiter({ kind: 'podSandbox', origin, identity: fingerprint.identity }).attached(creation);
      spans.creation('queued', creation, {});
      return { creation, origin };
    },
  };
}

for (const step of ['answered', 'held'] as const) {
  t.test(`a start that was ${step}, and of which nobody is known to have heard, ends when it is too old`, async (t) => {
    const { clock, spans, start, ended } = setUp();
    spans.start(step, start('c1'), {});
    await clock.advance(59_999);
    t.strictSame(ended(), []);
    await clock.advance(1);
    t.strictSame(ended(), [['holdfast.StartContainer', 'forgotten', 'forgotten']]);
  });
}

t.test('a start that was delivered leaves no timer', async (t) => {
  const { clock, spans, start, ended } = setUp();
  const one = start('c1');
  spans.start('answered', one, {});
  spans.start('delivered', one, {});
  t.strictSame(ended(), [['holdfast.StartContainer', 'delivered', 'delivered']]);
  t.equal(clock.pending, 0);
});

t.test('a creation that the runtime has no more ends, and one that is not usable goes on to its removal', (t) => {
  const { spans, creation, ended } = setUp();
  const [absent, unusable] = [creation('a').creation, creation('b').creation];
  spans.creation('changed', absent, { condition: 'absent' });
  spans.creation('changed', unusable, { condition: 'unusable' });
  t.strictSame(ended(), [['holdfast.RunPodSandbox', 'changed', 'changed']]);
  spans.creation('reaped', unusable, {});
  t.strictSame(ended()[1], ['holdfast.RunPodSandbox', 'reaped', 'reaped']);
  t.end();
});

t.test('beyond so many the span in which nothing has happened for longest ends, and its context stays', (t) => {
  const { spans, creation, ended } = setUp(2);
  const [first, second] = [creation('1'), creation('2')];
  spans.creation('started', first.creation, {});
  const context = spans.metadataOf(second.origin);
  creation('3');
  t.strictSame(ended(), [['holdfast.RunPodSandbox', 'not followed to the end', 'queued']]);
  spans.creation('delivered', second.creation, {});
  t.equal(ended().length, 1);
  t.strictSame(spans.metadataOf(second.origin), context);
  t.notSame(context, second.origin.metadata);
  spans.creation('delivered', first.creation, {});
  t.strictSame(ended()[1], ['holdfast.RunPodSandbox', 'delivered', 'delivered']);
  t.end();
});

t.test('at the end all that is open ends', async (t) => {
  const { clock, spans, creation, start, ended } = setUp();
  creation('1');
  spans.start('held', start('c1'), {});
  spans.close();
  t.strictSame(
    ended().map(([, outcome]) => outcome),
    ['Holdfast ended', 'Holdfast ended'],
  );
  t.equal(clock.pending, 0);
});
