import { pino } from 'pino';
import t, { type Test } from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import type { CreationRequest } from '../../src/cache/creation.js';
import type { CreationStore } from '../../src/cache/creation-store.js';
import { WaiterLeftError } from '../../src/cache/detached-call.js';
import type { StartStore } from '../../src/cache/start-store.js';
import { CreationCalls } from '../../src/proxy/creation-calls.js';
import type { Origin } from '../../src/proxy/cri-runtime.js';
import { podLogLinks } from '../../src/proxy/pod-log-links.js';
import type { Status, TakenCall } from '../../src/proxy/taken-call.js';
import type { UpstreamAnswer } from '../../src/proxy/upstream.js';
import { encodeMessage, KubeletPod } from '../support/cri-client.js';
import { ManualClock, settle } from '../support/manual-clock.js';

/** Calls to a store that keeps every request waiting. */
function setUp(t: Test) {
  const clock = new ManualClock();
  const asked: CreationRequest<Origin>[] = [];
  const store = {
    request(request: CreationRequest<Origin>, signal: AbortSignal) {
      asked.push(request);
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(new WaiterLeftError()), { once: true });
      });
    },
    used() {},
  };
  const metrics = new Metrics();
  const log = pino({ level: 'silent' });
  const calls = new CreationCalls(
    {
      store: store as unknown as CreationStore<Origin, UpstreamAnswer>,
      starts: {} as StartStore<Origin, UpstreamAnswer>,
      logs: podLogLinks(false, log),
      load: () => ({ hung: 0, limit: 8, pressure: new Map() }),
      clock,
      metrics,
      log,
    },
    { volatileAnnotations: [], criticalNamespaces: ['kube-system'], wedgeAfterMs: 120_000 },
  );
  const ended: Status[] = [];
  const call = (namespace: string, timeoutMs: number | undefined): TakenCall => ({
    path: '/runtime.v1.RuntimeService/RunPodSandbox',
    metadata: [],
    deadlineMs: timeoutMs === undefined ? undefined : clock.now() + timeoutMs,
    request: encodeMessage(
      'RunPodSandboxRequest',
      new KubeletPod({ directory: t.testdir(), uid: 'u', namespace }).runPodSandboxRequest(),
    ),
    signal: new AbortController().signal,
    keep() {},
    sendInitialMetadata() {},
    send: async () => {},
    async end(status) {
      ended.push(status);
      return true;
    },
  });
  return { clock, asked, metrics, calls, ended, call };
}

t.test('a creation is as urgent as the time its caller has, and as the namespace of its pod', async (t) => {
  const { asked, calls, call, clock } = setUp(t);
  await clock.advance(5_000);
  void calls.create(call('default', 8_000), 'podSandbox');
  void calls.create(call('kube-system', undefined), 'podSandbox');
  await settle();
  t.match(asked[0]?.urgency, { importance: undefined, deadlineMs: 8_000 });
  t.match(asked[1]?.urgency, { importance: 'critical', deadlineMs: undefined });
});

t.test('a waiter counts until it is told, and is told once', async (t) => {
  const { calls, call, clock, ended, metrics } = setUp(t);
  const done = calls.create(call('default', 8_000), 'podSandbox');
  const waiters = async () => /holdfast_waiters\{kind="podSandbox"\} (\d)/.exec(await metrics.registry.metrics())?.[1];
  t.equal(await waiters(), '1');
  await clock.advance(7_200);
  await done;
  t.same(ended, [{ code: 4, message: 'holdfast: this pod sandbox is still waited for', trailers: [] }]);
  t.equal(await waiters(), '0');
  t.equal(clock.pending, 0);
});
