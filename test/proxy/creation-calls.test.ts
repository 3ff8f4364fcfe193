/** What comes of a taken creation or start: what the stores are asked for, and what the call is answered. */
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import type { Creation, CreationRequest } from '../../src/cache/creation.js';
import type { CreationStore } from '../../src/cache/creation-store.js';
import { WaiterLeftError } from '../../src/cache/detached-call.js';
import { type Fingerprint, fingerprintContainer, fingerprintPodSandbox } from '../../src/cache/fingerprint.js';
import type { Progress } from '../../src/cache/progress.js';
import type { StartRequest } from '../../src/cache/start.js';
import type { StartStore } from '../../src/cache/start-store.js';
import { noTraces, type Waiter } from '../../src/proxy/call-traces.js';
import { CreationCalls } from '../../src/proxy/creation-calls.js';
import type { Origin } from '../../src/proxy/cri-runtime.js';
import { Faults } from '../../src/proxy/faults.js';
import { Relay } from '../../src/proxy/relay.js';
import type { Metadata, Status, TakenCall } from '../../src/proxy/taken-call.js';
import {
  type Upstream,
  type UpstreamAnswer,
  type UpstreamCallOptions,
  UpstreamStatusError,
} from '../../src/proxy/upstream.js';
import { counted } from '../support/counted.js';
import { encodeMessage, KubeletPod, type PodOptions } from '../support/cri-client.js';
import { ManualClock, settle } from '../support/manual-clock.js';

const service = '/runtime.v1.RuntimeService';
const metadata: Metadata = [['x-client', 'kubelet']];
const answer: UpstreamAnswer = {
  message: Buffer.from('made'),
  initialMetadata: [['x-runtime', 'yes']],
  status: { code: 0, message: 'fine', trailers: [['cost', '3']] },
};

/** Something asked of a store. */
interface Asked<Request> {
  readonly request: Request;
  /** What whoever leaves is told it waited for. */
  progress: Progress | undefined;
  /** @param made What is given; default: what was asked for. */
  grant(made?: Fingerprint): Promise<void>;
  fail(error: Error): Promise<void>;
  /** Tells what it is about. */
  attach(entry: Entry): void;
  /** What it was settled with. */
  readonly settled: boolean[];
}

/** A creation or a start that a request is about. */
interface Entry {
  readonly call: { readonly hasBegun: boolean };
}

/** What was told of a call. */
interface Traced {
  readonly waiter: Waiter;
  readonly attached: object[];
  readonly ended: unknown[][];
}

type Given = { creation: { fingerprint: Fingerprint | undefined }; made: { answer: UpstreamAnswer } } & {
  answer: UpstreamAnswer;
  settle(delivered: boolean): void;
};

/** A store whose requests are granted when the test says so. */
function keeping<Request extends { readonly fingerprint?: Fingerprint }>(asked: Asked<Request>[]) {
  return (request: Request, signal: AbortSignal, attach: (entry: Entry) => void): Promise<Given> =>
    new Promise((resolve, reject) => {
      const one: Asked<Request> = {
        request,
        progress: undefined,
        settled: [],
        attach,
        grant(made = request.fingerprint) {
          const settled = (delivered: boolean) => one.settled.push(delivered);
          resolve({ creation: { fingerprint: made }, made: { answer }, answer, settle: settled });
          return settle();
        },
        fail(error) {
          reject(error);
          return settle();
        },
      };
      asked.push(one);
      signal.addEventListener('abort', () => reject(new WaiterLeftError(one.progress)), { once: true });
    });
}

function setUp(t: Test) {
  const clock = new ManualClock();
  const asked: Asked<CreationRequest<Origin>>[] = [];
  const startsAsked: Asked<StartRequest<Origin> & { fingerprint?: Fingerprint }>[] = [];
  /** Ids that somebody is known to have. */
  const used: string[] = [];
  /** The faults after which entries were forgotten. */
  const forgotten: unknown[] = [];
  const named = new Map<string, Partial<Creation<Origin, UpstreamAnswer>>>();
  const store = {
    request: keeping(asked),
    used: (kind: string, id: string) => used.push(`${kind} ${id}`),
    named: (kind: string, id: string) => named.get(`${kind} ${id}`),
    found: (): Entry | undefined => undefined,
    forgetAfterFault: (_: Entry, error: unknown) => void forgotten.push(error),
  };
  const starts = {
    request: keeping(startsAsked),
    found: (): Entry | undefined => undefined,
    forgetAfterFault: (_: Entry, error: unknown) => void forgotten.push(error),
  };
  const metrics = new Metrics();
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  /** What was linked, and what linking waits for. */
  const links: { given: [Fingerprint, Fingerprint][]; ready: Promise<void> } = { given: [], ready: Promise.resolve() };
  const traced: Traced[] = [];
  /** What went to the runtime past the stores. */
  const passedOn: unknown[] = [];
  const upstream = {
    async unary(path: string, request: Buffer, options: UpstreamCallOptions) {
      passedOn.push({ path, request, metadata: options.metadata });
      return { ...answer, message: Buffer.from('made by the runtime') };
    },
  } as unknown as Upstream;
  const calls = new CreationCalls(
    {
      store: store as unknown as CreationStore<Origin, UpstreamAnswer>,
      starts: starts as unknown as StartStore<Origin, UpstreamAnswer>,
      relay: new Relay(upstream, clock),
      faults: new Faults(metrics, log, clock),
      traces: {
        ...noTraces,
        waiter(waiter) {
          const trace: Traced = { waiter, attached: [], ended: [] };
          traced.push(trace);
          return {
            attached: (entry) => trace.attached.push(entry),
            ended: (...ending) => trace.ended.push(ending),
          };
        },
      },
      logs: {
        given(wanted, made) {
          links.given.push([wanted, made]);
          return links.ready;
        },
        beforeContainer: async () => {},
      },
      load: () => ({ hung: 0, limit: 8, pressure: new Map() }),
      clock,
      metrics,
      log,
    },
    { volatileAnnotations: ['example.com/seen'], criticalNamespaces: ['kube-system'], wedgeAfterMs: 120_000 },
  );
  const directory = t.testdir();
  const podRequest = (pod: Partial<PodOptions> = {}) =>
    encodeMessage('RunPodSandboxRequest', new KubeletPod({ directory, uid: 'u', ...pod }).runPodSandboxRequest());
  const containerRequest = (pod: Partial<PodOptions> = {}) => {
    const request = new KubeletPod({ directory, uid: 'u', ...pod }).createContainerRequest('s1', { image: 'app' });
    return encodeMessage('CreateContainerRequest', request);
  };
  const call = (
    request: Buffer,
    { timeoutMs, delivered = true, method = 'RunPodSandbox', fails }: CallOptions = {},
  ) => {
    /** What the downstream is sent, in order. */
    const sent: unknown[] = [];
    const over = new AbortController();
    const taken: TakenCall = {
      path: `${service}/${method}`,
      metadata,
      deadlineMs: timeoutMs === undefined ? undefined : clock.now() + timeoutMs,
      request,
      signal: over.signal,
      keep() {},
      sendInitialMetadata: (headers) => sent.push({ headers }),
      send(message) {
        if (fails !== undefined) throw fails;
        sent.push(message);
        return Promise.resolve();
      },
      async end(status) {
        sent.push(status);
        return delivered;
      },
    };
    return { taken, sent, leave: () => over.abort() };
  };
  const waiting = async (kind: string) =>
    (await metrics.waiters.get()).values.find(({ labels }) => labels.kind === kind)?.value ?? 0;
  return {
    clock,
    asked,
    startsAsked,
    used,
    forgotten,
    named,
    metrics,
    lines,
    links,
    calls,
    call,
    podRequest,
    containerRequest,
    waiting,
    passedOn,
    traced,
    stores: { store, starts },
  };
}

interface CallOptions {
  readonly timeoutMs?: number;
  /** Whether the answer is known to have been got. */
  readonly delivered?: boolean;
  readonly method?: string;
  /** What sending the message throws. */
  readonly fails?: Error;
}

const startRequest = (containerId: string) => encodeMessage('StartContainerRequest', { container_id: containerId });

t.test('a creation is asked for in its own bytes, and by what tells it from others', async (t) => {
  const { calls, call, asked, podRequest, containerRequest } = setUp(t);
  const none = { volatileAnnotations: new Set<string>() };
  for (const [kind, bytes, fingerprint] of [
    ['podSandbox', podRequest(), fingerprintPodSandbox(podRequest(), none)],
    ['container', containerRequest(), fingerprintContainer(containerRequest(), none)],
  ] as const) {
    const { taken } = call(bytes, { method: 'Creates' });
    void calls.create(taken, kind);
    const request = asked.at(-1)?.request;
    t.equal(request?.bytes, bytes);
    t.same(request?.origin, { path: `${service}/Creates`, metadata });
    t.equal(request?.fingerprint.digest, fingerprint?.digest);
    t.same(request?.fingerprint.identity, fingerprint?.identity);
  }
});

t.test('annotations that mean nothing make no difference', (t) => {
  const { calls, call, asked, podRequest, containerRequest } = setUp(t);
  for (const [kind, request] of [
    ['podSandbox', podRequest],
    ['container', containerRequest],
  ] as const) {
    for (const seen of ['1', '2']) {
      void calls.create(call(request({ annotations: { 'example.com/seen': seen } })).taken, kind);
    }
    const [one, two] = asked.splice(0);
    t.equal(one?.request.fingerprint.digest, two?.request.fingerprint.digest, kind);
  }
  t.end();
});

t.test('what cannot be told from others is left to the runtime', (t) => {
  const { calls, call, asked, startsAsked, used } = setUp(t);
  t.equal(calls.create(call(Buffer.alloc(0)).taken, 'podSandbox'), undefined);
  t.equal(calls.create(call(Buffer.from([0x0a, 0xff])).taken, 'container'), undefined);
  t.equal(calls.start(call(Buffer.alloc(0)).taken), undefined);
  t.same([...asked, ...startsAsked, ...used], []);
  t.end();
});

t.test('a creation is as urgent as the time its caller has, and as its pod', async (t) => {
  const { asked, calls, call, clock, podRequest, containerRequest } = setUp(t);
  await clock.advance(5_000);
  const staticPod = { annotations: { 'kubernetes.io/config.source': 'file' } };
  void calls.create(call(podRequest(), { timeoutMs: 8_000 }).taken, 'podSandbox');
  void calls.create(call(podRequest({ namespace: 'kube-system' })).taken, 'podSandbox');
  void calls.create(call(podRequest(staticPod)).taken, 'podSandbox');
  void calls.create(call(containerRequest({ ...staticPod, namespace: 'kube-system' })).taken, 'container');
  void calls.create(call(containerRequest({ namespace: 'kube-system' })).taken, 'container');
  t.same(
    asked.map(({ request }) => request.urgency),
    [
      { importance: undefined, deadlineMs: 8_000 },
      { importance: 'critical', deadlineMs: undefined },
      { importance: 'static', deadlineMs: undefined },
      { importance: 'static', deadlineMs: undefined },
      { importance: 'critical', deadlineMs: undefined },
    ],
  );
});

t.test('a container shows that its pod sandbox is somebody’s, a pod sandbox shows nothing', (t) => {
  const { used, calls, call, podRequest, containerRequest } = setUp(t);
  void calls.create(call(podRequest()).taken, 'podSandbox');
  t.same(used, []);
  void calls.create(call(containerRequest()).taken, 'container');
  t.same(used, ['podSandbox s1']);
  t.end();
});

t.test('a request too large to be compared is counted, by kind', async (t) => {
  const { metrics, calls, call, containerRequest } = setUp(t);
  void calls.create(call(containerRequest()).taken, 'container');
  t.equal((await counted(metrics.tooLarge)).length, 0);
  // An empty port mapping of the pod sandbox's config, as often as a request is read at the most.
  const config = encodeMessage('CreateContainerRequest', { sandbox_config: { port_mappings: Array(65_537).fill({}) } });
  void calls.create(call(Buffer.concat([containerRequest(), config])).taken, 'container');
  t.match(await counted(metrics.tooLarge), [{ labels: { kind: 'container' }, value: 1 }]);
});

for (const delivered of [true, false]) {
  t.test(`a grant goes down as the runtime gave it, and is settled: ${delivered ? '' : 'not '}delivered`, async (t) => {
    const { asked, startsAsked, clock, calls, call, podRequest, waiting } = setUp(t);
    const creation = call(podRequest(), { delivered, timeoutMs: 8_000 });
    const created = calls.create(creation.taken, 'podSandbox');
    const start = call(startRequest('c1'), { delivered, timeoutMs: 8_000 });
    const started = calls.start(start.taken);
    t.same([await waiting('podSandbox'), await waiting('start')], [1, 1]);
    t.same([...creation.sent, ...start.sent], []);
    await asked[0]?.grant();
    await startsAsked[0]?.grant();
    await Promise.all([created, started]);
    for (const { sent } of [creation, start]) {
      t.same(sent, [{ headers: answer.initialMetadata }, answer.message, answer.status]);
    }
    t.same([asked[0]?.settled, startsAsked[0]?.settled], [[delivered], [delivered]]);
    t.same([await waiting('podSandbox'), await waiting('start')], [0, 0]);
    t.equal(clock.pending, 0);
  });
}

t.test('what cannot be sent is settled as not delivered, and the call ends', async (t) => {
  const { asked, calls, call, podRequest, waiting } = setUp(t);
  const { taken, sent } = call(podRequest(), { fails: new Error('too long') });
  const done = calls.create(taken, 'podSandbox');
  asked[0]?.attach({ call: { hasBegun: true } });
  await asked[0]?.grant();
  await done;
  t.same(asked[0]?.settled, [false]);
  t.match(sent.at(-1), { code: 14, message: 'holdfast: a fault inside Holdfast, ask again: too long' });
  t.equal(await waiting('podSandbox'), 0);
});

t.test('a container is answered once its log is linked to that of the one that was made', async (t) => {
  const { asked, links, calls, call, containerRequest } = setUp(t);
  let link = () => {};
  links.ready = new Promise((resolve) => {
    link = resolve;
  });
  const { taken, sent } = call(containerRequest());
  const done = calls.create(taken, 'container');
  const made = { ...asked[0]?.request.fingerprint, key: 'another' } as Fingerprint;
  await asked[0]?.grant(made);
  t.same(sent, []);
  t.equal(links.given[0]?.[0], asked[0]?.request.fingerprint);
  t.equal(links.given[0]?.[1], made);
  link();
  await done;
  t.equal(sent.length, 3);
});

t.test('a start of a container of which nothing is known is asked for by its id', async (t) => {
  const { startsAsked, used, clock, calls, call } = setUp(t);
  await clock.advance(5_000);
  const bytes = startRequest('c1');
  void calls.start(call(bytes, { method: 'StartContainer', timeoutMs: 9_000 }).taken);
  t.same(used, ['container c1']);
  t.same(startsAsked[0]?.request, {
    containerId: 'c1',
    bytes,
    origin: { path: `${service}/StartContainer`, metadata },
    known: undefined,
    urgency: { importance: undefined, deadlineMs: 9_000 },
  });
});

t.test('a start of a container that was made here has its whole id, its identity and its importance', (t) => {
  const { startsAsked, used, named, calls, call, containerRequest } = setUp(t);
  const fingerprint = fingerprintContainer(containerRequest({ namespace: 'kube-system' }), {
    volatileAnnotations: new Set(),
  });
  if (fingerprint === undefined) throw new Error('not a creation');
  named.set('container c1', { fingerprint, podSandboxId: 's1', made: { id: 'c1-long', answer } });
  void calls.start(call(startRequest('c1')).taken);
  t.same(used, ['container c1-long']);
  const { containerId, known, urgency } = startsAsked[0]?.request ?? {};
  t.equal(containerId, 'c1-long');
  t.same(known, { family: fingerprint.family, attempt: 0, podSandboxId: 's1' });
  t.same(urgency, { importance: 'critical', deadlineMs: undefined });

  named.set('container c2', { fingerprint, podSandboxId: 's1', made: undefined });
  void calls.start(call(startRequest('c2')).taken);
  t.equal(startsAsked[1]?.request.containerId, 'c2', 'one that is not known to be made is called as it was named');
  t.end();
});

t.test('a start of a static pod’s container is as important as the pod', (t) => {
  const { startsAsked, named, calls, call, containerRequest } = setUp(t);
  const bytes = containerRequest({ annotations: { 'kubernetes.io/config.source': 'file' } });
  const fingerprint = fingerprintContainer(bytes, { volatileAnnotations: new Set() });
  if (fingerprint === undefined) throw new Error('not a creation');
  named.set('container c1', { fingerprint, podSandboxId: 's1', made: { id: 'c1', answer } });
  void calls.start(call(startRequest('c1')).taken);
  t.equal(startsAsked[0]?.request.urgency?.importance, 'static');
  t.end();
});

t.test('an error goes down as the runtime said it, and nobody waits any more', async (t) => {
  const { asked, clock, calls, call, podRequest, lines, waiting } = setUp(t);
  const { taken, sent } = call(podRequest(), { timeoutMs: 8_000 });
  const done = calls.create(taken, 'podSandbox');
  const status: Status = { code: 9, message: 'no', trailers: [['why', 'not']] };
  await asked[0]?.fail(new UpstreamStatusError(status, metadata));
  await done;
  t.same(sent, [{ headers: metadata }, status]);
  t.same(lines, []);
  t.equal(await waiting('podSandbox'), 0);
  t.equal(clock.pending, 0);
});

t.test('a waiter counts until it is told, and is told once', async (t) => {
  const { asked, calls, call, clock, podRequest, metrics, lines, waiting } = setUp(t);
  const { taken, sent } = call(podRequest(), { timeoutMs: 8_000 });
  const done = calls.create(taken, 'podSandbox');
  t.equal(await waiting('podSandbox'), 1);
  await clock.advance(7_199);
  t.same(sent, []);
  await clock.advance(1);
  await done;
  const message = 'holdfast: this pod sandbox is still waited for';
  t.same(sent, [{ code: 4, message, trailers: [] }]);
  t.equal(await waiting('podSandbox'), 0);
  t.equal(clock.pending, 0);
  t.same(asked[0]?.settled, []);
  t.match(await counted(metrics.told), [{ labels: { kind: 'podSandbox', waits_for: 'unknown' }, value: 1 }]);
  t.match(lines, [
    {
      ...{ level: 30, msg: 'waiter told', told: message, kind: 'podSandbox' },
      ...{ namespace: 'default', name: 'web-0', uid: 'u', attempt: 0 },
    },
  ]);
});

t.test('a waiter is told what it waits for, and that is counted', async (t) => {
  const { asked, startsAsked, calls, call, clock, podRequest, containerRequest, metrics, lines } = setUp(t);
  const told = async (promise: Promise<void> | undefined) => {
    await clock.advance(7_200);
    await promise;
  };
  const sinceMs = clock.now();
  const running = call(podRequest(), { timeoutMs: 8_000 });
  const ran = calls.create(running.taken, 'podSandbox');
  if (asked[0]) asked[0].progress = { at: 'running', sinceMs };
  await told(ran);
  t.match(running.sent, [{ code: 4, message: /still making this pod sandbox after 7 s/ }]);

  const queued = call(startRequest('c1'), { timeoutMs: 8_000 });
  const started = calls.start(queued.taken);
  if (startsAsked[0]) startsAsked[0].progress = { at: 'queued', sinceMs, behind: 14 };
  await told(started);
  t.match(queued.sent, [{ code: 4, message: /queued for 14 s behind 14 \(limit 8\)/ }]);

  const stuck = call(containerRequest(), { timeoutMs: 8_000 });
  const created = calls.create(stuck.taken, 'container');
  const reserved = { what: 'name', id: 'x', sinceMs: sinceMs - 120_000, error: undefined } as const;
  if (asked[1]) asked[1].progress = { at: 'waiting', sinceMs, for: reserved };
  await told(created);
  t.match(stuck.sent, [{ code: 4, message: /will not get free by itself/ }]);

  t.match(await counted(metrics.told), [
    { labels: { kind: 'podSandbox', waits_for: 'running' }, value: 1 },
    { labels: { kind: 'container', waits_for: 'name' }, value: 1 },
    { labels: { kind: 'start', waits_for: 'queued' }, value: 1 },
  ]);
  t.match(lines, [
    { kind: 'podSandbox', name: 'web-0' },
    { kind: 'start', id: 'c1' },
    { kind: 'container', container: 'app' },
  ]);
});

t.test('who has left is told nothing', async (t) => {
  const { calls, call, clock, podRequest, metrics, lines, waiting } = setUp(t);
  const { taken, sent, leave } = call(podRequest(), { timeoutMs: 8_000 });
  const done = calls.create(taken, 'podSandbox');
  leave();
  await done;
  t.same(sent, []);
  t.same(lines, []);
  t.equal((await counted(metrics.told)).length, 0);
  t.equal(await waiting('podSandbox'), 0);
  t.equal(clock.pending, 0);
});

const broken = new TypeError('broken');
const askAgain = { code: 14, message: 'holdfast: a fault inside Holdfast, ask again: broken', trailers: [] };

for (const kind of ['podSandbox', 'start'] as const) {
  const ask = ({ calls, call, podRequest }: ReturnType<typeof setUp>) => {
    const made = kind === 'start' ? call(startRequest('c1'), { method: 'StartContainer' }) : call(podRequest());
    const done = kind === 'start' ? calls.start(made.taken) : calls.create(made.taken, kind);
    return { ...made, done };
  };
  const askedOf = ({ asked, startsAsked }: ReturnType<typeof setUp>) => (kind === 'start' ? startsAsked : asked);
  const method = kind === 'start' ? 'StartContainer' : 'RunPodSandbox';
  const passedAnswer = [{ headers: answer.initialMetadata }, Buffer.from('made by the runtime'), answer.status];

  t.test(
    `a fault before anything of a ${kind} has begun leaves the call to the runtime, from one caller`,
    async (t) => {
      const rig = setUp(t);
      const [first, second] = [ask(rig), ask(rig)];
      const entry = { call: { hasBegun: false } };
      for (const each of askedOf(rig)) each.attach(entry);
      for (const each of askedOf(rig)) await each.fail(broken);
      await Promise.all([first.done, second.done]);
      t.same(first.sent, passedAnswer);
      t.same(rig.passedOn, [{ path: `${service}/${method}`, request: first.taken.request, metadata }]);
      t.same(second.sent, [askAgain]);
      t.same(rig.forgotten, [broken, broken]);
      t.match(await counted(rig.metrics.faults), [{ labels: { method }, value: 1 }]);
      t.equal(await rig.waiting(kind), 0);
    },
  );

  t.test(`a fault once a ${kind} has begun ends the call, for the client to ask again`, async (t) => {
    const rig = setUp(t);
    const { done, sent } = ask(rig);
    askedOf(rig)[0]?.attach({ call: { hasBegun: true } });
    await askedOf(rig)[0]?.fail(broken);
    await done;
    t.same([sent, rig.passedOn, rig.forgotten], [[askAgain], [], [broken]]);
  });

  t.test(`a fault before it is known which ${kind} it is about: what is found counts`, async (t) => {
    for (const [found, isPassed] of [
      [() => ({ call: { hasBegun: true } }), false],
      [() => ({ call: { hasBegun: false } }), true],
      [() => undefined, true],
      [
        () => {
          throw new TypeError('broken, too');
        },
        true,
      ],
    ] as const) {
      const rig = setUp(t);
      (kind === 'start' ? rig.stores.starts : rig.stores.store).found = found;
      const { done, sent } = ask(rig);
      await askedOf(rig)[0]?.fail(broken);
      await done;
      t.same([sent, rig.passedOn.length], isPassed ? [passedAnswer, 1] : [[askAgain], 0]);
    }
  });

  t.test(`what cannot even be forgotten of a ${kind} is answered`, async (t) => {
    const rig = setUp(t);
    (kind === 'start' ? rig.stores.starts : rig.stores.store).forgetAfterFault = () => {
      throw new TypeError('broken, too');
    };
    const { done, sent } = ask(rig);
    askedOf(rig)[0]?.attach({ call: { hasBegun: true } });
    await askedOf(rig)[0]?.fail(broken);
    await done;
    t.same(sent, [askAgain]);
    t.match(await counted(rig.metrics.faults), [{ value: 2 }]);
  });
}

t.test('a fault behind the answer is noted, and changes nothing', async (t) => {
  const rig = setUp(t);
  rig.metrics.waiters.dec = () => {
    throw broken;
  };
  const { taken, sent } = rig.call(rig.podRequest());
  const done = rig.calls.create(taken, 'podSandbox');
  await rig.asked[0]?.grant();
  await done;
  t.same(sent.slice(0, 3), [{ headers: answer.initialMetadata }, answer.message, answer.status]);
  t.match(await counted(rig.metrics.faults), [{ labels: { method: 'RunPodSandbox' }, value: 1 }]);
});

t.test('a container whose log cannot be linked for a fault is answered all the same', async (t) => {
  const { asked, links, calls, call, containerRequest, metrics } = setUp(t);
  links.ready = Promise.reject(broken);
  links.ready.catch(() => {});
  const { taken, sent } = call(containerRequest());
  const done = calls.create(taken, 'container');
  await asked[0]?.grant();
  await done;
  t.equal(sent[1], answer.message);
  t.same(asked[0]?.settled, [true]);
  t.match(await counted(metrics.faults), [{ labels: { method: 'CreateContainer' }, value: 1 }]);
});

t.test('a start is made also where it cannot be told what is started', async (t) => {
  const rig = setUp(t);
  rig.stores.store.named = () => {
    throw broken;
  };
  void rig.calls.start(rig.call(startRequest('c1')).taken);
  t.match(rig.startsAsked, [{ request: { containerId: 'c1', known: undefined } }]);
  t.match(await counted(rig.metrics.faults), [{ labels: { method: 'StartContainer' }, value: 1 }]);
});

t.test('who is to be told what it waits for is told something, whatever goes wrong', async (t) => {
  const rig = setUp(t);
  const { taken, sent } = rig.call(rig.podRequest(), { timeoutMs: 8_000 });
  const done = rig.calls.create(taken, 'podSandbox');
  const [asked] = rig.asked;
  if (asked !== undefined) asked.progress = { at: 'waiting', sinceMs: 0, for: undefined } as unknown as Progress;
  await rig.clock.advance(8_000);
  await done;
  t.match(sent, [{ code: 14, message: /^holdfast: a fault inside Holdfast, ask again: / }]);
});

t.test('a trace is told who asks for what, what it waits for, and that it was answered', async (t) => {
  const { asked, startsAsked, named, traced, calls, call, containerRequest } = setUp(t);
  const fingerprint = fingerprintContainer(containerRequest(), { volatileAnnotations: new Set() });
  if (fingerprint === undefined) throw new Error('no fingerprint');
  named.set('container c1', { fingerprint });
  const created = calls.create(call(containerRequest()).taken, 'container');
  const started = calls.start(call(startRequest('c1'), { delivered: false }).taken);
  const unknown = calls.start(call(startRequest('c2')).taken);
  t.match(traced, [
    { waiter: { kind: 'container', origin: asked[0]?.request.origin, identity: fingerprint.identity } },
    { waiter: { kind: 'start', identity: fingerprint.identity, containerId: 'c1' } },
    { waiter: { kind: 'start', identity: undefined, containerId: 'c2' } },
  ]);
  t.equal(traced[0]?.waiter.origin, asked[0]?.request.origin, 'the very object that the store gets');
  t.equal(traced[1]?.waiter.origin, startsAsked[0]?.request.origin);
  const entries = [{ call: { hasBegun: false } }, { call: { hasBegun: true } }];
  for (const entry of entries) asked[0]?.attach(entry);
  for (const one of [...asked, ...startsAsked]) await one.grant();
  await Promise.all([created, started, unknown]);
  t.strictSame(traced[0]?.attached, entries);
  t.strictSame(
    traced.map(({ ended }) => ended),
    [[['delivered']], [['not delivered']], [['delivered']]],
  );
});

t.test('a trace is told why a call was not answered', async (t) => {
  const { asked, clock, traced, calls, call, podRequest } = setUp(t);
  const begin = (options?: CallOptions) => {
    const { taken, leave } = call(podRequest(), options);
    return { done: calls.create(taken, 'podSandbox'), leave };
  };
  const all = [begin(), begin(), begin(), begin({ timeoutMs: 8_000 })];
  const refusal = new UpstreamStatusError({ code: 2, message: 'no', trailers: [] });
  const fault = new TypeError('broken');
  await asked[0]?.fail(refusal);
  await asked[1]?.fail(fault);
  all[2]?.leave();
  await clock.advance(8_000);
  await Promise.all(all.map(({ done }) => done));
  t.strictSame(
    traced.map(({ ended }) => ended.map(([outcome, error]) => [outcome, error instanceof WaiterLeftError || error])),
    [[['failed', refusal]], [['fault', fault]], [['left', true]], [['told', true]]],
  );
});
