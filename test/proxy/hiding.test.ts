/** What is left out of what the runtime reports, over a real store of creations. */
import { pino } from 'pino';
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import { CreationStore } from '../../src/cache/creation-store.js';
import { methodOf } from '../../src/cri/methods.js';
import type { Origin } from '../../src/proxy/cri-runtime.js';
import { Faults } from '../../src/proxy/faults.js';
import { Hiding } from '../../src/proxy/hiding.js';
import { Relay } from '../../src/proxy/relay.js';
import type { Metadata, Status, TakenCall } from '../../src/proxy/taken-call.js';
import {
  type Upstream,
  type UpstreamAnswer,
  type UpstreamCallOptions,
  UpstreamStatusError,
  type UpstreamStream,
} from '../../src/proxy/upstream.js';
import { container, held, setUp } from '../cache/store-rig.js';
import { breakMethod } from '../support/break-method.js';
import { decodeMessage, encodeMessage } from '../support/cri-client.js';
import { settle } from '../support/manual-clock.js';

const service = '/runtime.v1.RuntimeService';
const ok: Status = { code: 0, message: '', trailers: [] };
const headers: Metadata = [['x-runtime', 'yes']];

/** As store-rig.ts makes them. */
const listed = (id: string, name = 'c') => ({ id, pod_sandbox_id: 's', metadata: { name, attempt: 0 } });
const list = (...ids: string[]) => encodeMessage('ListContainersResponse', { containers: ids.map((id) => listed(id)) });
const metricsOf = (...ids: string[]) => {
  const container_metrics = ids.map((container_id) => ({ container_id }));
  return encodeMessage('ListPodSandboxMetricsResponse', { pod_metrics: [{ pod_sandbox_id: 's', container_metrics }] });
};

/** A runtime that answers when the test says so. */
function stage() {
  const rig = setUp();
  const asked: {
    readonly path: string;
    readonly request: Buffer;
    readonly options: UpstreamCallOptions | undefined;
    answer(...messages: Buffer[]): Promise<void>;
    fail(error: Error): Promise<void>;
  }[] = [];
  const upstream: Upstream = {
    unary: (path, request, options) =>
      new Promise<UpstreamAnswer>((resolve, reject) => {
        asked.push({
          ...{ path, request, options },
          answer(message = Buffer.alloc(0)) {
            resolve({ message, initialMetadata: headers, status: ok });
            return settle();
          },
          fail(error) {
            reject(error);
            return settle();
          },
        });
      }),
    serverStream(path, request, options): UpstreamStream {
      let go = (_: readonly Buffer[]) => {};
      const messages = new Promise<readonly Buffer[]>((resolve) => {
        go = resolve;
      });
      asked.push({
        ...{ path, request, options },
        answer(...given) {
          go(given);
          return settle();
        },
        fail: async () => {},
      });
      return {
        initialMetadata: Promise.resolve(headers),
        status: Promise.resolve(ok),
        async *[Symbol.asyncIterator]() {
          yield* await messages;
        },
      };
    },
    close() {},
  };
  const metrics = new Metrics();
  /** Faults in hiding. */
  const noted: unknown[] = [];
  const faults = new Faults(metrics, pino({ level: 'silent' }), rig.clock);
  const note = faults.note.bind(faults);
  faults.note = (method, error) => {
    noted.push(error);
    note(method, error);
  };
  const store = rig.store as unknown as CreationStore<Origin, UpstreamAnswer>;
  const hiding = new Hiding(store, upstream, new Relay(upstream, rig.clock), metrics, faults);
  /** @returns What the call sends, in order. */
  const report = (name: string, request: Buffer = Buffer.alloc(0)) => {
    const path = `${service}/${name}`;
    const method = methodOf(path);
    if (method === undefined) throw new Error(`no method ${name}`);
    const sent: unknown[] = [];
    const call: TakenCall = {
      path,
      metadata: [['x-client', 'kubelet']],
      deadlineMs: rig.clock.now() + 5_000,
      request,
      signal: new AbortController().signal,
      keep() {},
      sendInitialMetadata: (metadata) => sent.push({ metadata }),
      async send(message) {
        sent.push(message);
      },
      async end(status) {
        sent.push(status);
        return true;
      },
    };
    return { call, sent, done: hiding.report(call, method) };
  };
  /** Begins a container that nobody waits for any more: the runtime may list it, and has not said its id. */
  const unanswered = async () => {
    const leave = new AbortController();
    rig.store.request(container(), leave.signal).catch(() => {});
    await settle();
    leave.abort();
    await settle();
  };
  const counted = async () => (await metrics.hiddenItems.get()).values[0]?.value ?? 0;
  return { ...rig, faults: noted, asked, report, unanswered, counted };
}

t.test('a hidden container is left out and counted, all else stays as it came', async (t) => {
  const rig = stage();
  await held(rig);
  const { asked, report, counted } = rig;
  const { sent, done } = report('ListContainers', Buffer.from('request'));
  t.match(asked, [{ path: `${service}/ListContainers`, request: Buffer.from('request') }]);
  await asked[0]?.answer(list('c0', 'c1', 'c2'));
  await done;
  t.same(sent, [{ metadata: headers }, list('c0', 'c2'), ok]);
  t.equal(await counted(), 1);
});

t.test('where nothing is hidden an answer goes on as it came', async (t) => {
  const { asked, report, counted } = stage();
  const { sent, done } = report('ListContainers');
  const answer = list('c1');
  await asked[0]?.answer(answer);
  await done;
  t.equal(sent[1], answer);
  t.equal(await counted(), 0);
});

t.test('a report about a hidden container alone does not find it, in a runtime’s words', async (t) => {
  const rig = stage();
  await held(rig);
  const { asked, report, counted } = rig;
  const { sent, done } = report('ContainerStatus', encodeMessage('ContainerStatusRequest', { container_id: 'c1' }));
  await asked[0]?.answer(encodeMessage('ContainerStatusResponse', { status: listed('c1') }));
  await done;
  const message = 'an error occurred when try to find container "c1": not found';
  t.same(sent, [{ code: 5, message, trailers: [] }]);
  t.equal(await counted(), 1);
  const other = report('ContainerStatus', encodeMessage('ContainerStatusRequest', { container_id: 'c2' }));
  const found = encodeMessage('ContainerStatusResponse', { status: listed('c2') });
  await asked[1]?.answer(found);
  await other.done;
  t.same(other.sent, [{ metadata: headers }, found, ok]);
});

t.test('what becomes hidden while a report is under way is left out, what is delivered meanwhile is not', async (t) => {
  const rig = stage();
  const { asked, report, store } = rig;
  const early = report('ListContainers');
  await held(rig);
  await asked[0]?.answer(list('c1'));
  await early.done;
  t.same(early.sent[1], list());
  const late = report('ListContainers');
  (await store.request(container(), new AbortController().signal)).settle(true);
  await asked[1]?.answer(list('c1'));
  await late.done;
  t.same(late.sent[1], list('c1'));
});

t.test('what is removed while a report is under way is left out of it, also where it was the last', async (t) => {
  const rig = stage();
  await held(rig);
  const { asked, report, clock, runtime, store } = rig;
  const { sent, done } = report('ListContainers');
  await clock.advance(10_000);
  t.same(runtime.removed, ['c1']);
  t.notOk(store.hiding);
  await asked[0]?.answer(list('c0', 'c1'));
  await done;
  t.same(sent[1], list('c0'));
});

t.test('each message of a stream is looked at when it comes', async (t) => {
  const rig = stage();
  await held(rig);
  const { asked, report, counted } = rig;
  const { sent, done } = report('StreamContainers');
  await asked[0]?.answer(list('c1'), list('c2', 'c1'));
  await done;
  t.same(sent, [{ metadata: headers }, list(), list('c2'), ok]);
  t.equal(await counted(), 2);
});

for (const name of ['ListPodSandboxMetrics', 'StreamPodSandboxMetrics']) {
  t.test(`${name} says ids only, so those of containers that are being made are looked up first`, async (t) => {
    const { asked, report, unanswered } = stage();
    await unanswered();
    const { call, sent, done } = report(name);
    await asked[0]?.answer(metricsOf('c0', 'c1'));
    t.match(asked[1], { path: `${service}/ListContainers`, request: Buffer.alloc(0) });
    const { metadata, signal, timeoutMs } = asked[1]?.options ?? {};
    t.same({ metadata, timeoutMs }, { metadata: call.metadata, timeoutMs: 5_000 });
    t.equal(signal, call.signal);
    const containers = [listed('c0', 'other'), listed('c1')];
    await asked[1]?.answer(encodeMessage('ListContainersResponse', { containers }));
    await done;
    t.same(sent, [{ metadata: headers }, metricsOf('c0'), ok]);

    const again = report(name);
    await asked[2]?.answer(metricsOf('c1'));
    await again.done;
    t.same(again.sent[1], metricsOf(), 'it is known from then on');
    t.equal(asked.length, 3);
  });
}

t.test('nothing is looked up where a report says more than ids, or all ids are known', async (t) => {
  const rig = stage();
  await rig.unanswered();
  const { asked, report } = rig;
  const named = report('ListContainers');
  await asked[0]?.answer(list('c1'));
  await named.done;
  t.same(named.sent[1], list());
  const byId = report('ListPodSandboxMetrics');
  await asked[1]?.answer(metricsOf('c1'));
  await byId.done;
  t.same(decodeMessage('ListPodSandboxMetricsResponse', byId.sent[1] as Buffer), {
    pod_metrics: [{ pod_sandbox_id: 's', metrics: [], container_metrics: [] }],
  });
  t.equal(asked.length, 2);
});

t.test('where the ids cannot be looked up, the report ends with the reason', async (t) => {
  const { asked, report, unanswered } = stage();
  await unanswered();
  const { sent, done } = report('ListPodSandboxMetrics');
  await asked[0]?.answer(metricsOf('c1'));
  const status: Status = { code: 14, message: 'connection refused', trailers: [] };
  await asked[1]?.fail(new UpstreamStatusError(status));
  await done;
  t.same(sent, [status]);
});

t.test('a report that cannot be looked at goes on as it came, hidden containers and all', async (t) => {
  const rig = stage();
  await held(rig);
  const { asked, report } = rig;
  const view = breakMethod(CreationStore.prototype, 'hiddenView');
  const unseen = report('ListContainers');
  view.mend();
  const owner = report('StreamContainers');
  const unknown = report('ListPodSandboxMetrics');
  const broken = breakMethod(CreationStore.prototype, 'hidesUnknownIds');
  const messages = [list('c0', 'c1'), list('c1'), Buffer.from([0x0a, 0xff])];
  for (const [n, message] of messages.entries()) await asked[n]?.answer(message);
  await Promise.all([unseen.done, owner.done, unknown.done]);
  broken.mend();
  t.same(unseen.sent, [{ metadata: headers }, messages[0], ok]);
  t.same(unknown.sent, [{ metadata: headers }, messages[2], ok]);
  t.match(rig.faults.map(String), [/hiddenView is broken/, /hidesUnknownIds is broken/]);
});
