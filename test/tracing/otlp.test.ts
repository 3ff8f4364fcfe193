/** What a collector sees of creations and starts, and what the runtime is told of their trace. */
import { Metadata } from '@grpc/grpc-js';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/clock.js';
import type { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import { openOtlp } from '../../src/tracing/otlp.js';
import { settle } from '../support/manual-clock.js';
import { Rig, type RigOptions } from '../support/rig.js';
import { type CollectedSpan, Collector } from './collector.js';

const second = 1_000;
const server = 2;
const client = 3;
const failed = 2;

async function setUp(t: Test, options: RigOptions = {}) {
  const collector = await Collector.start(t);
  const times = { batchMs: 5, tryMs: 5_000, deadlineMs: 6_000 };
  const { traces, close } = await openOtlp({
    ...{ url: collector.url, version: '1.2.3', replayTtlMs: 900_000, times },
    ...{ log: pino({ level: 'silent' }), clock: systemClock },
  });
  const rig = await Rig.start(t, { ...options, traces });
  t.teardown(() => close(0));
  return { collector, rig, close };
}

/** A caller's trace: the n-th. */
function caller(n: number, { sampled = true, baggage = '' } = {}) {
  const traceId = String(n).repeat(32);
  const spanId = String(n).repeat(16);
  const metadata = new Metadata();
  metadata.set('traceparent', `00-${traceId}-${spanId}-0${sampled ? 1 : 0}`);
  metadata.set('tracestate', `vendor=${n}`);
  if (baggage !== '') metadata.set('baggage', baggage);
  return { traceId, spanId, metadata, traceparent: String(metadata.get('traceparent')[0]) };
}

/** What the runtime was told with its last call of a method. */
function told(runtime: SimulatedRuntime, method: string, name: string): unknown[] {
  const call = runtime.received.findLast((received) => received.method === method);
  return call?.metadata.get(name) ?? [];
}

const contextOf = ({ traceId, spanId }: CollectedSpan) => `${traceId}-${spanId}`;

t.test('a pod: under its caller a waiter’s span, under that the creation’s, under that the runtime’s', async (t) => {
  const { collector, rig } = await setUp(t);
  const pod = rig.pod({ name: 'web', namespace: 'shop' });
  const { metadata, traceId, spanId } = caller(1, { baggage: 'k=v' });
  const { pod_sandbox_id: podSandboxId } = await rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), {
    metadata,
  });
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const { container_id: id } = await rig.client.call('CreateContainer', request, { metadata });
  await rig.client.call('StartContainer', { container_id: id }, { metadata });
  const ofPod = { 'k8s.namespace.name': 'shop', 'k8s.pod.name': 'web', 'k8s.pod.uid': 'uid-1', 'holdfast.attempt': 0 };
  const ofContainer = { ...ofPod, 'k8s.container.name': 'app', 'container.id': id };
  for (const [method, kind, attributes] of [
    ['RunPodSandbox', 'podSandbox', { ...ofPod, 'holdfast.pod_sandbox.id': podSandboxId }],
    ['CreateContainer', 'container', { ...ofContainer, 'holdfast.pod_sandbox.id': podSandboxId }],
    ['StartContainer', 'start', ofContainer],
  ] as const) {
    const [creation] = await collector.named(`holdfast.${method}`);
    const [waiter] = await collector.named(`holdfast.wait.${method}`);
    if (creation === undefined || waiter === undefined) throw new Error('not there');
    t.match(waiter, { traceId, parentSpanId: spanId, kind: server, links: [contextOf(creation)] });
    t.match(waiter.attributes, { 'holdfast.kind': kind, 'holdfast.outcome': 'delivered', 'k8s.pod.name': 'web' });
    t.match(creation, { traceId, parentSpanId: waiter.spanId, kind: client, traceState: 'vendor=1', links: [] });
    t.strictSame(creation.attributes, { 'holdfast.kind': kind, 'holdfast.outcome': 'delivered', ...attributes });
    t.strictSame(creation.events, ['queued', 'started', 'answered', 'delivered']);
    t.match(creation.eventAttributes[0], { behind: 0, ageMs: Number });
    t.match(creation.resource, { 'service.name': 'holdfast', 'service.version': '1.2.3', 'host.name': /./ });
    t.strictSame(told(rig.runtime, method, 'traceparent'), [`00-${traceId}-${creation.spanId}-01`]);
    t.strictSame(told(rig.runtime, method, 'tracestate'), ['vendor=1']);
    t.strictSame(told(rig.runtime, method, 'baggage'), ['k=v']);
  }
});

t.test('two waiters: each has a span in its own trace, linked to the one creation in the first one’s', async (t) => {
  const { collector, rig } = await setUp(t);
  const [first, other] = [caller(1), caller(2)];
  const hold = rig.runtime.hold('runPodSandbox');
  const request = rig.pod().runPodSandboxRequest();
  const one = rig.client.call('RunPodSandbox', request, first);
  await hold.arrived();
  const two = rig.client.call('RunPodSandbox', request, other);
  await rig.step('waiter joined');
  hold.release();
  await Promise.all([one, two]);
  const [creation] = await collector.named('holdfast.RunPodSandbox');
  const waiters = await collector.named('holdfast.wait.RunPodSandbox', 2);
  if (creation === undefined) throw new Error('not there');
  const inTrace = ({ traceId }: { traceId: string }) => waiters.filter((span) => span.traceId === traceId);
  t.match(inTrace(first), [{ parentSpanId: first.spanId, links: [contextOf(creation)] }]);
  t.match(inTrace(other), [{ parentSpanId: other.spanId, links: [contextOf(creation)] }]);
  t.match(creation, { traceId: first.traceId, parentSpanId: inTrace(first)[0]?.spanId });
  t.ok(creation.events.includes('waiter joined'));
  t.strictSame(told(rig.runtime, 'RunPodSandbox', 'traceparent'), [`00-${first.traceId}-${creation.spanId}-01`]);
});

t.test('a waiter that takes over a queued creation brings its metadata, and not its trace', async (t) => {
  const { collector, rig } = await setUp(t, { config: { maxCreations: 1 } });
  const [first, other] = [caller(1), caller(2, { baggage: 'of=the second' })];
  const hold = rig.runtime.hold('runPodSandbox');
  const before = rig.podSandbox(rig.pod({ uid: 'before' }));
  await hold.arrived();
  const request = rig.pod().runPodSandboxRequest();
  const leave = new AbortController();
  const one = rig.client.call('RunPodSandbox', request, { ...first, signal: leave.signal });
  await rig.step('queued', undefined, 2);
  leave.abort();
  await t.rejects(one);
  await rig.step('waiter left');
  const two = rig.client.call('RunPodSandbox', request, other);
  await rig.step('waiter joined');
  hold.release();
  await Promise.all([before, two]);
  const [creation] = await collector.named('holdfast.RunPodSandbox');
  t.match(creation, { traceId: first.traceId });
  const traceparent = `00-${first.traceId}-${creation?.spanId}-01`;
  t.strictSame(told(rig.runtime, 'RunPodSandbox', 'traceparent'), [traceparent]);
  t.strictSame(told(rig.runtime, 'RunPodSandbox', 'tracestate'), ['vendor=1']);
  t.strictSame(told(rig.runtime, 'RunPodSandbox', 'baggage'), ['of=the second']);
  t.match(await collector.named('holdfast.wait.RunPodSandbox', 2), [
    { traceId: first.traceId, attributes: { 'holdfast.outcome': 'left' } },
    { traceId: other.traceId, attributes: { 'holdfast.outcome': 'delivered' } },
  ]);
});

t.test('a container that came too late is one span, from its queue to its replay', async (t) => {
  const { collector, rig } = await setUp(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const [first, other] = [caller(1), caller(2)];
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const hold = rig.runtime.hold('createContainer');
  const leave = new AbortController();
  const one = rig.client.call('CreateContainer', request, { ...first, signal: leave.signal });
  await hold.arrived();
  leave.abort();
  await t.rejects(one);
  await rig.step('waiter left', 'container');
  hold.release();
  await rig.step('held', 'container');
  const { container_id: id } = await rig.client.call('CreateContainer', request, other);
  const [creation] = await collector.named('holdfast.CreateContainer');
  if (creation === undefined) throw new Error('not there');
  t.strictSame(creation.events, ['queued', 'started', 'waiter left', 'held', 'replayed', 'delivered']);
  t.match(creation, { traceId: first.traceId, attributes: { 'container.id': id, 'holdfast.outcome': 'delivered' } });
  t.match(await collector.named('holdfast.wait.CreateContainer', 2), [
    { traceId: first.traceId, attributes: { 'holdfast.outcome': 'left' } },
    { traceId: other.traceId, attributes: { 'holdfast.outcome': 'delivered' }, links: [contextOf(creation)] },
  ]);
});

t.test('a container that nobody came back for ends with its removal', async (t) => {
  const { collector, rig } = await setUp(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const hold = rig.runtime.hold('createContainer');
  const leave = new AbortController();
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const asked = rig.client.call('CreateContainer', request, { ...caller(1), signal: leave.signal });
  await hold.arrived();
  leave.abort();
  await t.rejects(asked);
  await rig.step('waiter left', 'container');
  hold.release();
  await rig.step('held', 'container');
  await rig.clock.advance(900 * second);
  const [creation] = await collector.named('holdfast.CreateContainer');
  t.match(creation, { attributes: { 'holdfast.outcome': 'reaped' }, status: { code: 0 } });
  t.match(creation?.events.at(-1), 'reaped');
});

t.test('a creation that fails says so, with the runtime’s words, and so does whoever waited', async (t) => {
  const { collector, rig } = await setUp(t);
  rig.runtime.answerNext('runPodSandbox', { code: 9, details: 'no such network' });
  await t.rejects(rig.client.call('RunPodSandbox', rig.pod().runPodSandboxRequest(), caller(1)));
  for (const name of ['holdfast.RunPodSandbox', 'holdfast.wait.RunPodSandbox']) {
    t.match(await collector.named(name), [
      {
        status: { code: failed, message: /no such network/ },
        attributes: { 'holdfast.outcome': 'failed', 'rpc.grpc.status_code': 9 },
      },
    ]);
  }
  const [creation] = await collector.named('holdfast.RunPodSandbox');
  t.strictSame(creation?.events, ['queued', 'started', 'failed']);
  t.match(creation?.eventAttributes[2], { code: 9, error: /no such network/, waiters: 1 });
});

t.test('a pod sandbox that is given up and made anew is one span, and the runtime gets it twice', async (t) => {
  const { collector, rig } = await setUp(t, { config: { giveUpAfterMs: 60 * second } });
  await rig.podSandbox(rig.pod({ uid: 'first' }));
  await rig.clock.advance(1_000 * second);
  const hold = rig.runtime.hold('runPodSandbox', (name) => name.includes('slow'));
  const { metadata, traceId } = caller(1);
  const asked = rig.client.call('RunPodSandbox', rig.pod({ uid: 'slow' }).runPodSandboxRequest(), { metadata });
  await hold.arrived();
  await rig.podSandbox(rig.pod({ uid: 'other' }));
  await rig.clock.advance(60 * second);
  await rig.step('given up', 'podSandbox');
  hold.release();
  let isOver = false;
  const over = asked.then(() => {
    isOver = true;
  });
  while (!isOver) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await rig.clock.advance(second);
    await settle();
  }
  await over;
  const [creation] = await collector.named('holdfast.RunPodSandbox');
  t.strictSame(
    creation?.events.filter((event) => ['queued', 'started', 'given up', 'delivered'].includes(event)),
    ['queued', 'started', 'given up', 'started', 'delivered'],
  );
  const traceparents = rig.runtime.received
    .filter(({ method, metadata }) => method === 'RunPodSandbox' && metadata.get('traceparent').length > 0)
    .map((call) => call.metadata.get('traceparent')[0]);
  t.strictSame(traceparents, Array(2).fill(`00-${traceId}-${creation?.spanId}-01`));
});

t.test('a start that nobody was told of is one span, from its queue to its replay', async (t) => {
  const { collector, rig, close } = await setUp(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const { container_id: id } = await rig.client.call('CreateContainer', request);
  const hold = rig.runtime.hold('startContainer');
  const leave = new AbortController();
  const one = rig.client.call('StartContainer', { container_id: id }, { ...caller(1), signal: leave.signal });
  await hold.arrived();
  leave.abort();
  await t.rejects(one);
  await rig.step('waiter left', 'start');
  hold.release();
  await rig.step('held', 'start');
  await rig.client.call('StartContainer', { container_id: id }, caller(2));
  const [start] = await collector.named('holdfast.StartContainer');
  t.strictSame(start?.events, ['queued', 'started', 'waiter left', 'held', 'replayed', 'delivered']);
  await close(second);
  t.equal(collector.spans.filter(({ name }) => name === 'holdfast.StartContainer').length, 1);
});

t.test('what is open when Holdfast ends is sent all the same', async (t) => {
  const { collector, rig, close } = await setUp(t);
  const leave = new AbortController();
  const hold = rig.runtime.hold('runPodSandbox');
  const request = rig.pod().runPodSandboxRequest();
  const asked = rig.client.call('RunPodSandbox', request, { ...caller(1), signal: leave.signal });
  await hold.arrived();
  leave.abort();
  await t.rejects(asked);
  await rig.step('waiter left');
  hold.release();
  await rig.step('shown');
  await close(5 * second);
  const [creation] = collector.spans.filter(({ name }) => name === 'holdfast.RunPodSandbox');
  t.match(creation, { attributes: { 'holdfast.outcome': 'Holdfast ended' } });
});

for (const [what, metadata] of [
  ['not sampled', caller(1, { sampled: false }).metadata],
  ['not in a trace', new Metadata()],
] as const) {
  t.test(`of a call that is ${what} nothing is sent, and its metadata goes as it came`, async (t) => {
    const { collector, rig, close } = await setUp(t);
    await rig.client.call('RunPodSandbox', rig.pod().runPodSandboxRequest(), { metadata });
    t.strictSame(told(rig.runtime, 'RunPodSandbox', 'traceparent'), metadata.get('traceparent'));
    t.strictSame(told(rig.runtime, 'RunPodSandbox', 'tracestate'), metadata.get('tracestate'));
    await close(5 * second);
    t.strictSame([collector.posts, collector.spans], [0, []]);
  });
}
