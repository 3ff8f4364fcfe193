/** What Holdfast asks of a runtime and makes of its answers. The runtime is a table of pod sandboxes and containers. */
import t, { type Test } from 'tap';
import { type Condition, type NameHolder, NameReservedError, type Subject } from '../../src/cache/creation-runtime.js';
import {
  containerFamily,
  type Fingerprint,
  fingerprintContainer,
  fingerprintPodSandbox,
} from '../../src/cache/fingerprint.js';
import { updateResourcesRequest } from '../../src/cri/update-resources.js';
import { CriRuntime, type CriRuntimeOptions, type Origin } from '../../src/proxy/cri-runtime.js';
import { EmptyIdError, failCall, statusOf } from '../../src/proxy/rescue.js';
import type { Metadata, Status, TakenCall } from '../../src/proxy/taken-call.js';
import { Turns } from '../../src/proxy/turns.js';
import {
  type Upstream,
  type UpstreamAnswer,
  type UpstreamCallOptions,
  UpstreamStatusError,
  type UpstreamStream,
} from '../../src/proxy/upstream.js';
import { decodeMessage, encodeMessage, KubeletPod } from '../support/cri-client.js';
import { ManualClock, settle } from '../support/manual-clock.js';

const notFound = 5;
const unavailable = 14;
const states = { CREATED: 0, RUNNING: 1, EXITED: 2, UNKNOWN: 3 } as const;

interface FakePod {
  readonly id: string;
  readonly ready?: boolean;
  readonly pod: KubeletPod;
}

interface FakeContainer {
  readonly id: string;
  readonly podSandboxId: string;
  readonly state?: keyof typeof states;
  readonly exitCode?: number;
  /** In ns; default: 0.5 s. */
  readonly startedAt?: number;
  /** Of the request it was made by. */
  readonly config: ContainerConfig;
}

interface ContainerConfig {
  readonly metadata: { readonly name: string; readonly attempt: number };
  readonly image: { readonly image: string };
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Lists, filters and statuses as containerd has them. */
class FakeRuntime implements Upstream {
  readonly pods: FakePod[] = [];
  readonly containers: FakeContainer[] = [];
  /** Path and options of each call, in order. */
  readonly calls: { path: string; request: Buffer; options: UpstreamCallOptions }[] = [];
  /** What a method answers instead. */
  readonly instead = new Map<string, Buffer | Error | Promise<Buffer>>();

  get paths(): string[] {
    return this.calls.map(({ path }) => path);
  }

  async unary(path: string, request: Buffer, options: UpstreamCallOptions = {}): Promise<UpstreamAnswer> {
    this.calls.push({ path, request, options });
    const method = path.slice(path.lastIndexOf('/') + 1);
    const answer = await (this.instead.get(method) ?? this.#answer(method, request));
    if (answer instanceof Error) throw answer;
    return { message: answer, initialMetadata: [], status: { code: 0, message: '', trailers: [] } };
  }

  serverStream(): UpstreamStream {
    throw new Error('no stream is asked for');
  }

  close(): void {}

  #answer(method: string, request: Buffer): Buffer | Error {
    if (method === 'ListPodSandbox') {
      const { filter } = decodeMessage('ListPodSandboxRequest', request) as { filter: { id: string } | null };
      const items = this.pods.filter(({ id }) => !filter?.id || id.startsWith(filter.id)).map(listedPod);
      return encodeMessage('ListPodSandboxResponse', { items });
    }
    if (method === 'ListContainers') {
      const { filter } = decodeMessage('ListContainersRequest', request) as {
        filter: { id: string; pod_sandbox_id: string } | null;
      };
      const containers = this.containers
        .filter(({ id }) => !filter?.id || id.startsWith(filter.id))
        .filter(({ podSandboxId }) => !filter?.pod_sandbox_id || podSandboxId === filter.pod_sandbox_id)
        .map(listedContainer);
      return encodeMessage('ListContainersResponse', { containers });
    }
    const { pod_sandbox_id: id } = decodeMessage('PodSandboxStatusRequest', request) as { pod_sandbox_id: string };
    const pod = this.pods.find((each) => each.id === id);
    const container = this.containers.find((each) => each.id === id);
    if (method === 'PodSandboxStatus') {
      return pod ? encodeMessage('PodSandboxStatusResponse', { status: listedPod(pod) }) : unknownId(id);
    }
    if (method === 'ContainerStatus' && container !== undefined) {
      const status = {
        id,
        state: states[container.state ?? 'CREATED'],
        exit_code: container.exitCode,
        started_at: container.startedAt ?? 500_000_000,
        finished_at: 2_000_000_000,
      };
      return encodeMessage('ContainerStatusResponse', { status });
    }
    return unknownId(id);
  }
}

const listedPod = ({ id, ready = true, pod }: FakePod) => ({
  id,
  state: ready ? 0 : 1,
  metadata: pod.sandboxConfig().metadata,
});
const listedContainer = ({ id, podSandboxId, state = 'CREATED', config }: FakeContainer) => ({
  ...config,
  id,
  pod_sandbox_id: podSandboxId,
  state: states[state],
});

function failure(code: number, message: string): UpstreamStatusError {
  return new UpstreamStatusError({ code, message, trailers: [['a', 'b']] }, [['c', 'd']]);
}

function unknownId(id: string): UpstreamStatusError {
  return failure(notFound, `an error occurred when try to find container "${id}": not found`);
}

const origin: Origin = { path: '/runtime.v1.RuntimeService/CreateContainer', metadata: [['x-caller', 'kubelet']] };
/** What is added to the metadata of creations and starts. */
const traced: Metadata = [['traceparent', 'of Holdfast']];
const never = new AbortController().signal;
const volatileAnnotations = new Set(['kubernetes.io/config.seen', 'example.com/seen']);

function setUp(t: Test, beforeContainer: CriRuntimeOptions['beforeContainer'] = async () => {}) {
  const fake = new FakeRuntime();
  const clock = new ManualClock();
  const turns = new Turns();
  const runtime = new CriRuntime(fake, clock, turns, {
    creationTimeoutMs: 900_000,
    volatileAnnotations: [...volatileAnnotations],
    beforeContainer,
    isBeingStarted: (id) => id === 'starting',
    metadataOf: ({ metadata }) => [...metadata, ...traced],
  });
  const pod = new KubeletPod({ directory: t.testdir(), uid: 'uid-1' });
  return { fake, clock, turns, runtime, pod };
}

function known<F extends Fingerprint>(fingerprint: F | undefined): F {
  if (fingerprint === undefined) throw new Error('no fingerprint');
  return fingerprint;
}

function podRequest(pod: KubeletPod) {
  const bytes = encodeMessage('RunPodSandboxRequest', pod.runPodSandboxRequest());
  return { bytes, fingerprint: known(fingerprintPodSandbox(bytes, { volatileAnnotations })) };
}

function containerRequest(pod: KubeletPod, podSandboxId: string, change: Partial<ContainerConfig> = {}) {
  const request = pod.createContainerRequest(podSandboxId, { image: 'app:1' });
  const config = { ...request.config, ...change };
  const bytes = encodeMessage('CreateContainerRequest', { ...request, config });
  return { bytes, fingerprint: known(fingerprintContainer(bytes, { volatileAnnotations })), config };
}

const subject = (kind: Subject<Origin>['kind'], id: string, podSandboxId = ''): Subject<Origin> => ({
  ...{ kind, id, podSandboxId, origin },
});

t.test('a creation goes upstream in its own bytes and metadata, in Holdfast’s trace and with its time', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { bytes, fingerprint } = containerRequest(pod, 's1');
  fake.instead.set('CreateContainer', encodeMessage('CreateContainerResponse', { container_id: 'c1' }));
  t.equal((await runtime.create(bytes, fingerprint, origin, never)).id, 'c1');
  const [call] = fake.calls;
  t.equal(call?.request, bytes);
  t.match(call, {
    path: origin.path,
    options: { metadata: [...origin.metadata, ...traced], timeoutMs: 900_000, lane: 'work' },
  });
});

t.test('a start goes upstream in its own bytes and metadata, in Holdfast’s trace and with its time', async (t) => {
  const { fake, runtime } = setUp(t);
  const bytes = Buffer.from('start');
  const asked: Origin = { path: '/runtime.v1.RuntimeService/StartContainer', metadata: [['x-caller', 'kubelet']] };
  const { signal } = new AbortController();
  fake.instead.set('StartContainer', Buffer.from('started'));
  t.same((await runtime.start(bytes, asked, signal)).message, Buffer.from('started'));
  const options = { metadata: [...asked.metadata, ...traced], timeoutMs: 900_000, signal, lane: 'work' };
  t.same(fake.calls, [{ path: asked.path, request: bytes, options }]);
  const own = failure(2, 'exec: not found');
  fake.instead.set('StartContainer', own);
  t.equal(await runtime.start(bytes, asked, signal).catch((error: unknown) => error), own);
});

t.test('a creation that takes long is asked after, a start is not', async (t) => {
  const { fake, clock, runtime, pod } = setUp(t);
  const { bytes, fingerprint } = podRequest(pod);
  for (const method of ['CreateContainer', 'StartContainer']) fake.instead.set(method, new Promise(() => {}));
  void runtime.start(bytes, { ...origin, path: '/runtime.v1.RuntimeService/StartContainer' }, never);
  await clock.advance(60_000);
  t.same(fake.paths, ['/runtime.v1.RuntimeService/StartContainer']);
  void runtime.create(bytes, fingerprint, origin, never);
  await clock.advance(5_000);
  t.same(fake.paths.slice(1), [origin.path, '/runtime.v1.RuntimeService/Version']);
});

t.test('a container is made once its log’s place is clear, and a pod sandbox at once', async (t) => {
  const cleared: Fingerprint[] = [];
  let clear = () => {};
  const { fake, runtime, pod } = setUp(t, (fingerprint) => {
    cleared.push(fingerprint);
    return new Promise((resolve) => {
      clear = resolve;
    });
  });
  fake.instead.set('CreateContainer', encodeMessage('CreateContainerResponse', { container_id: 'made' }));
  const ofPod = podRequest(pod);
  t.equal((await runtime.create(ofPod.bytes, ofPod.fingerprint, origin, never)).id, 'made');
  t.same(cleared, []);
  const ofContainer = containerRequest(pod, 's1');
  const made = runtime.create(ofContainer.bytes, ofContainer.fingerprint, origin, never);
  await settle();
  t.equal(fake.calls.length, 1);
  t.same(cleared, [ofContainer.fingerprint]);
  clear();
  t.equal((await made).id, 'made');
});

t.test('whatever a creation ends with waits for its turn: many may come in one read', async (t) => {
  for (const answer of [encodeMessage('CreateContainerResponse', { container_id: 'c1' }), failure(2, 'no')]) {
    const { fake, turns, runtime, pod } = setUp(t);
    const { bytes, fingerprint } = podRequest(pod);
    fake.instead.set('CreateContainer', answer);
    await Promise.all([turns.next(), turns.next()]);
    let isOver = false;
    const over = () => {
      isOver = true;
    };
    const ended = runtime.create(bytes, fingerprint, origin, never).then(over, over);
    for (let n = 0; n < 50; n++) await Promise.resolve();
    t.notOk(isOver);
    await ended;
  }
});

t.test('a reserved name is told apart, and shown in the runtime’s own words', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { bytes, fingerprint } = containerRequest(pod, 's1');
  const text = 'failed to reserve container name "n": name "n" is reserved for "feed"';
  const own = failure(9, text);
  fake.instead.set('CreateContainer', own);
  const error = await runtime.create(bytes, fingerprint, origin, never).catch((thrown: unknown) => thrown);
  t.ok(error instanceof NameReservedError);
  t.match(error, { holderId: 'feed', message: text, cause: own });
  t.equal(statusOf(error), own.status);

  const shown: { metadata?: Metadata; status?: Status } = {};
  const call = {
    sendInitialMetadata: (metadata: Metadata) => {
      shown.metadata = metadata;
    },
    end: (status: Status) => {
      shown.status = status;
      return Promise.resolve(true);
    },
  };
  await failCall(call as unknown as TakenCall, error);
  t.same(shown, { metadata: own.initialMetadata, status: own.status });
});

t.test('a name that CRI-O has reserved has no holder yet', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { bytes, fingerprint } = podRequest(pod);
  fake.instead.set('CreateContainer', failure(2, 'error reserving pod name n for id feed: name is reserved'));
  await t.rejects(runtime.create(bytes, fingerprint, origin, never), {
    name: 'NameReservedError',
    holderId: undefined,
  });
});

t.test('any other error of a creation is the runtime’s own, and an answer without an id is an error', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { bytes, fingerprint } = containerRequest(pod, 's1');
  const own = failure(2, 'pull access denied: name "reserved" is taken');
  fake.instead.set('CreateContainer', own);
  t.equal(await runtime.create(bytes, fingerprint, origin, never).catch((error: unknown) => error), own);
  const lost = new Error('name is reserved');
  fake.instead.set('CreateContainer', lost);
  t.equal(await runtime.create(bytes, fingerprint, origin, never).catch((error: unknown) => error), lost);
  fake.instead.set('CreateContainer', Buffer.alloc(0));
  await t.rejects(runtime.create(bytes, fingerprint, origin, never), new EmptyIdError(origin.path));
});

interface Inside {
  readonly ready?: boolean;
  readonly inside?: keyof typeof states;
}

const podConditions: readonly [Inside, Condition][] = [
  [{}, 'as made'],
  [{ inside: 'CREATED' }, 'as made'],
  [{ inside: 'RUNNING' }, 'as made'],
  [{ inside: 'EXITED' }, 'as made'],
  [{ ready: false }, 'unusable'],
  [{ ready: false, inside: 'CREATED' }, 'unusable'],
  [{ ready: false, inside: 'RUNNING' }, 'in use'],
  [{ ready: false, inside: 'EXITED' }, 'in use'],
  [{ ready: false, inside: 'UNKNOWN' }, 'in use'],
];

for (const [{ ready = true, inside }, condition] of podConditions) {
  const what = `${ready ? 'READY' : 'not READY'} with ${inside ? `a container that is ${inside}` : 'nothing'} in it`;
  t.test(`a pod sandbox that is ${what} is ${condition}`, async (t) => {
    const { fake, runtime, pod } = setUp(t);
    const { config } = containerRequest(pod, 's1');
    fake.pods.push({ id: 's1', ready, pod });
    if (inside) fake.containers.push({ id: 'c1', podSandboxId: 's1', state: inside, config });
    fake.containers.push({ id: 'c2', podSandboxId: 'another', state: 'RUNNING', config });
    t.equal(await runtime.conditionOf(subject('podSandbox', 's1')), condition);
    const isInhabited = inside !== undefined && inside !== 'CREATED';
    t.equal(await runtime.isInhabited(subject('podSandbox', 's1')), isInhabited);
    const asked = fake.calls.length;
    t.equal(await runtime.isInhabited(subject('container', 'c2')), false);
    t.equal(fake.calls.length, asked, 'nothing is in a container');
  });
}

const containerConditions: readonly [keyof typeof states, 'ready' | 'not ready' | 'gone', Condition][] = [
  ['CREATED', 'ready', 'as made'],
  ['CREATED', 'not ready', 'unusable'],
  ['CREATED', 'gone', 'unusable'],
  ['RUNNING', 'ready', 'in use'],
  ['EXITED', 'ready', 'in use'],
  ['UNKNOWN', 'ready', 'in use'],
  ['EXITED', 'gone', 'in use'],
];

for (const [state, podSandbox, condition] of containerConditions) {
  t.test(`a container that is ${state}, its pod sandbox ${podSandbox}, is ${condition}`, async (t) => {
    const { fake, runtime, pod } = setUp(t);
    if (podSandbox !== 'gone') fake.pods.push({ id: 's1', ready: podSandbox === 'ready', pod });
    fake.containers.push({ id: 'c1', podSandboxId: 's1', state, config: containerRequest(pod, 's1').config });
    t.equal(await runtime.conditionOf(subject('container', 'c1', 's1')), condition);
  });
}

t.test(
  'a container that is being started is in use, and so is its pod sandbox, though it is CREATED until then',
  async (t) => {
    const { fake, runtime, pod } = setUp(t);
    fake.pods.push({ id: 's1', pod });
    fake.containers.push({ id: 'starting', podSandboxId: 's1', config: containerRequest(pod, 's1').config });
    t.equal(await runtime.conditionOf(subject('container', 'starting', 's1')), 'in use');
    t.equal(await runtime.isInhabited(subject('podSandbox', 's1')), true);
  },
);

t.test('what the runtime does not know is absent, and what it cannot tell is its error', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  fake.pods.push({ id: 's1', pod });
  t.equal(await runtime.conditionOf(subject('podSandbox', 's2')), 'absent');
  t.equal(await runtime.conditionOf(subject('container', 'c1', 's1')), 'absent');
  const down = failure(unavailable, 'connection refused');
  for (const method of ['PodSandboxStatus', 'ContainerStatus', 'ListContainers']) fake.instead.set(method, down);
  await t.rejects(runtime.conditionOf(subject('podSandbox', 's1')), down);
  await t.rejects(runtime.conditionOf(subject('container', 'c1', 's1')), down);
  await t.rejects(runtime.holderOf(containerRequest(pod, 's1').fingerprint, Buffer.alloc(0), origin, 'c1'), down);
});

t.test('whoever asks for a look may end it', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { signal } = new AbortController();
  fake.pods.push({ id: 's1', ready: false, pod });
  await runtime.conditionOf(subject('podSandbox', 's1'), signal);
  await runtime.conditionOf(subject('container', 'c1', 's1'), signal);
  await runtime.isInhabited(subject('podSandbox', 's1'), signal);
  const { bytes, fingerprint } = containerRequest(pod, 's1');
  await runtime.holderOf(fingerprint, bytes, origin, undefined, signal);
  await runtime.identify('c1', origin, signal);
  await runtime.stateOf('c1', origin, signal);
  fake.instead.set('UpdateContainerResources', Buffer.alloc(0));
  await runtime.updateResources(subject('container', 'c1'), bytes, signal);
  const asked = ['PodSandboxStatus', 'ListContainers', 'ContainerStatus', 'PodSandboxStatus', 'ListContainers'];
  const more = ['ListContainers', 'ListContainers', 'ContainerStatus', 'UpdateContainerResources'];
  t.same(
    fake.paths.map((path) => path.slice(path.lastIndexOf('/') + 1)),
    [...asked, ...more],
  );
  for (const { path, options } of fake.calls) t.equal(options.signal, signal, path);
});

t.test('all is asked in the API version of the call it is for', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const alpha: Origin = { path: '/runtime.v1alpha2.RuntimeService/RunPodSandbox', metadata: [] };
  const { bytes, fingerprint } = podRequest(pod);
  await runtime.holderOf(fingerprint, bytes, alpha, 's1');
  await runtime.conditionOf({ ...subject('container', 'c1', 's1'), origin: alpha });
  await runtime.remove({ ...subject('podSandbox', 's1'), origin: alpha });
  t.same(fake.paths, [
    '/runtime.v1alpha2.RuntimeService/ListPodSandbox',
    '/runtime.v1alpha2.RuntimeService/ContainerStatus',
    '/runtime.v1alpha2.RuntimeService/PodSandboxStatus',
    '/runtime.v1alpha2.RuntimeService/StopPodSandbox',
    '/runtime.v1alpha2.RuntimeService/RemovePodSandbox',
  ]);
});

/** What is found for a request for `pod`'s pod sandbox, whether the error named the holder's id or not. */
async function podHolder(t: Test, holder: FakePod, inside?: keyof typeof states): Promise<NameHolder> {
  const { fake, runtime, pod } = setUp(t);
  fake.pods.push({ id: 'other', pod: pod.withAttempt(7) }, holder);
  const { config } = containerRequest(pod, holder.id);
  if (inside) fake.containers.push({ id: 'c1', podSandboxId: holder.id, state: inside, config });
  fake.containers.push({ id: 'c2', podSandboxId: 'other', state: 'RUNNING', config });
  const { bytes, fingerprint } = podRequest(pod);
  const byId = await runtime.holderOf(fingerprint, bytes, origin, holder.id);
  t.same(await runtime.holderOf(fingerprint, bytes, origin, undefined), byId, 'the same without its id');
  return byId;
}

t.test('a pod sandbox of the name that is READY is the answer', async (t) => {
  const { pod } = setUp(t);
  t.same(await podHolder(t, { id: 's1', pod }), { condition: 'fits', id: 's1' });
  t.same(await podHolder(t, { id: 's1', pod }, 'RUNNING'), { condition: 'fits', id: 's1' });
});

t.test('a pod sandbox of the name that is not READY may go, unless a container in it was ever started', async (t) => {
  const { pod } = setUp(t);
  const holder = { id: 's1', ready: false, pod };
  t.same(await podHolder(t, holder), { condition: 'unusable', id: 's1' });
  t.same(await podHolder(t, holder, 'CREATED'), { condition: 'unusable', id: 's1' });
  for (const state of ['RUNNING', 'EXITED', 'UNKNOWN'] as const) {
    t.same(await podHolder(t, holder, state), { condition: 'in use', id: 's1' }, state);
  }
});

t.test('a pod sandbox that is not listed is unseen, by the id that the runtime gave', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { bytes, fingerprint } = podRequest(pod);
  fake.pods.push({ id: 'other', pod: pod.withAttempt(1) });
  const others = [{ uid: 'uid-2' }, { uid: 'uid-1', name: 'web-1' }, { uid: 'uid-1', namespace: 'another' }];
  for (const [n, other] of others.entries()) {
    fake.pods.push({ id: `another${n}`, pod: new KubeletPod({ directory: t.testdirName, ...other }) });
  }
  t.same(await runtime.holderOf(fingerprint, bytes, origin, 's1'), { condition: 'unseen', id: 's1' });
  t.same(await runtime.holderOf(fingerprint, bytes, origin, undefined), { condition: 'unseen', id: undefined });
});

t.test('an id that stands for something else is not believed', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const other = new KubeletPod({ directory: t.testdirName, uid: 'uid-2' });
  fake.pods.push({ id: 'other', ready: false, pod: other });
  const { bytes, fingerprint } = podRequest(pod);
  t.same(await runtime.holderOf(fingerprint, bytes, origin, 'other'), { condition: 'unseen', id: 'other' });
  fake.pods.push({ id: 's1', pod });
  t.same(await runtime.holderOf(fingerprint, bytes, origin, 'other'), { condition: 'fits', id: 's1' });

  const asked = containerRequest(pod, 's1');
  const foreign = { id: 'c9', podSandboxId: 'other', config: containerRequest(other, 'other').config };
  fake.containers.push(foreign);
  t.same(await runtime.holderOf(asked.fingerprint, asked.bytes, origin, 'c9'), { condition: 'unseen', id: 'c9' });
});

/** What is found for a request for a container in pod sandbox `s1`, where `change` says what is otherwise about the holder. */
async function containerHolder(
  t: Test,
  holder: Partial<FakeContainer> & { readonly ready?: boolean },
  change: (config: ContainerConfig) => Partial<ContainerConfig> = () => ({}),
  asked: Partial<ContainerConfig> = {},
): Promise<NameHolder> {
  const { fake, runtime, pod } = setUp(t);
  fake.pods.push({ id: 's1', ready: holder.ready ?? true, pod }, { id: 's0', pod: pod.withAttempt(1) });
  const { config } = containerRequest(pod, 's1', asked);
  const bumped = { ...config, metadata: { name: 'app', attempt: 4 } };
  const made = { id: 'c1', podSandboxId: 's1', ...holder, config: { ...config, ...change(config) } };
  fake.containers.push({ id: 'c0', podSandboxId: 's1', state: 'RUNNING', config: bumped }, made);
  // As a kubelet asks again: other order, other termination log.
  const { bytes, fingerprint } = containerRequest(pod, 's1', asked);
  const byId = await runtime.holderOf(fingerprint, bytes, origin, 'c1');
  t.same(await runtime.holderOf(fingerprint, bytes, origin, undefined), byId, 'the same without its id');
  return byId;
}

const fits: NameHolder = { condition: 'fits', id: 'c1' };
const unusable: NameHolder = { condition: 'unusable', id: 'c1', podSandboxId: 's1' };

t.test('a container of the name that is CREATED as this request wants it is the answer', async (t) => {
  t.same(await containerHolder(t, {}), fits);
  const more = ({ labels, annotations }: ContainerConfig) => ({
    labels: { ...labels, 'io.cri-o/added': 'x' },
    annotations: { ...annotations, 'io.kubernetes.cri-o.TTY': 'false' },
  });
  t.same(await containerHolder(t, {}, more), fits, 'whatever the runtime has added');
  const seen = ({ annotations }: ContainerConfig) => ({ annotations: { ...annotations, 'example.com/seen': '1' } });
  const asked = { annotations: { 'example.com/seen': '2' } };
  t.same(await containerHolder(t, {}, seen, asked), fits, 'whatever means nothing');
});

t.test('a CREATED container of the name that is not what is asked for may go', async (t) => {
  const changes: Record<string, (config: ContainerConfig) => Partial<ContainerConfig>> = {
    image: () => ({ image: { image: 'app:2' } }),
    'a label': ({ labels }) => ({ labels: { ...labels, 'io.kubernetes.container.name': 'other' } }),
    'an annotation': ({ annotations }) => ({
      annotations: { ...annotations, 'io.kubernetes.container.hash': 'another' },
    }),
    'no annotations': () => ({ annotations: {} }),
  };
  for (const [what, change] of Object.entries(changes)) t.same(await containerHolder(t, {}, change), unusable, what);
  t.same(await containerHolder(t, { ready: false }), unusable, 'its pod sandbox is not READY');
  const elsewhere = await containerHolder(t, { podSandboxId: 's0' });
  t.same(elsewhere, { ...unusable, podSandboxId: 's0' }, 'it is in another pod sandbox of the pod');
});

t.test('a container of the name that was ever started is in use', async (t) => {
  for (const state of ['RUNNING', 'EXITED', 'UNKNOWN'] as const) {
    t.same(await containerHolder(t, { state }), { condition: 'in use', id: 'c1' }, state);
  }
});

t.test('a container without a pod’s labels is found in the pod sandbox that is asked for', async (t) => {
  const asked = { labels: { app: 'x' } };
  t.same(await containerHolder(t, {}, undefined, asked), fits);
});

t.test('a container of another name, attempt or pod is none of this request’s', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  fake.pods.push({ id: 's1', pod });
  const asked = containerRequest(pod, 's1');
  const podOf = (uid: string) => ({ labels: { ...asked.config.labels, 'io.kubernetes.pod.uid': uid } });
  const named = (key: string) => ({ labels: { ...asked.config.labels, [key]: 'another' } });
  const others: [string, Partial<ContainerConfig>][] = [
    ['s1', { metadata: { name: 'app', attempt: 1 } }],
    ['s1', { metadata: { name: 'other', attempt: 0 } }],
    ['s2', podOf('uid-2')],
    ['s2', named('io.kubernetes.pod.name')],
    ['s2', named('io.kubernetes.pod.namespace')],
  ];
  for (const [n, [podSandboxId, change]] of others.entries()) {
    fake.containers.push({ id: `c${n}`, podSandboxId, config: { ...asked.config, ...change } });
  }
  const found = await runtime.holderOf(asked.fingerprint, asked.bytes, origin, undefined);
  t.same(found, { condition: 'unseen', id: undefined });
});

t.test('what the runtime names by id is looked up by id: a list of all is long', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  fake.pods.push({ id: 's1', ready: false, pod });
  const ofPod = podRequest(pod);
  await runtime.holderOf(ofPod.fingerprint, ofPod.bytes, origin, 's1');
  const ofContainer = containerRequest(pod, 's1');
  fake.containers.push({ id: 'c1', podSandboxId: 's1', config: ofContainer.config });
  await runtime.holderOf(ofContainer.fingerprint, ofContainer.bytes, origin, 'c1');
  for (const { path, request } of fake.calls) t.ok(request.length > 0, path);
});

t.test('what is found is given as the runtime would have given it', async (t) => {
  const { runtime } = setUp(t);
  const pod = runtime.answerFor('s1');
  t.equal(pod.id, 's1');
  t.same(decodeMessage('RunPodSandboxResponse', pod.answer.message), { pod_sandbox_id: 's1' });
  t.same(pod.answer.status, { code: 0, message: '', trailers: [] });
  const container = runtime.answerFor('c1');
  t.same(decodeMessage('CreateContainerResponse', container.answer.message), { container_id: 'c1' });
  t.same(container.answer.initialMetadata, []);
});

t.test('a pod sandbox is stopped before it is removed, and what is gone already is no fault', async (t) => {
  const { fake, runtime } = setUp(t);
  await runtime.remove(subject('podSandbox', 's1'));
  await runtime.remove(subject('container', 'c1'));
  const service = '/runtime.v1.RuntimeService';
  t.same(fake.paths, [`${service}/StopPodSandbox`, `${service}/RemovePodSandbox`, `${service}/RemoveContainer`]);
  t.same(
    fake.calls.map(({ request }) => decodeMessage('RemoveContainerRequest', request)),
    [{ container_id: 's1' }, { container_id: 's1' }, { container_id: 'c1' }],
  );
});

t.test('a removal that the runtime refuses is its error, and nothing is removed that was not stopped', async (t) => {
  const { fake, runtime } = setUp(t);
  const busy = failure(2, 'container is in starting state, can’t be removed');
  fake.instead.set('RemoveContainer', busy);
  fake.instead.set('StopPodSandbox', busy);
  await t.rejects(runtime.remove(subject('container', 'c1')), busy);
  await t.rejects(runtime.remove(subject('podSandbox', 's1')), busy);
  t.notOk(fake.paths.some((path) => path.endsWith('RemovePodSandbox')));
});

t.test('resources are updated as a creation asks for them, and a container that is gone is an error', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { bytes } = containerRequest(pod, 's1');
  fake.instead.set('UpdateContainerResources', Buffer.alloc(0));
  await runtime.updateResources(subject('container', 'c1'), bytes, never);
  t.equal(fake.calls[0]?.path, '/runtime.v1.RuntimeService/UpdateContainerResources');
  t.ok(fake.calls[0]?.request.equals(updateResourcesRequest('c1', bytes)));
  const gone = unknownId('c1');
  fake.instead.set('UpdateContainerResources', gone);
  await t.rejects(runtime.updateResources(subject('container', 'c1'), bytes, never), gone);
});

t.test('whose container is started is told by a list, prefix of an id or not', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const config = { ...containerRequest(pod, 's1').config, metadata: { name: 'app', attempt: 2 } };
  fake.containers.push({ id: 'c1-long', podSandboxId: 's1', state: 'RUNNING', config });
  fake.containers.push({ id: 'c2', podSandboxId: 's1', config: { ...config, labels: { app: 'x' } } });
  const identity = { name: 'web-0', namespace: 'default', uid: 'uid-1', container: 'app' };
  const family = containerFamily(identity);
  for (const id of ['c1-long', 'c1']) {
    t.same(await runtime.identify(id, origin, never), { family, attempt: 2, podSandboxId: 's1' });
  }
  t.equal(await runtime.identify('c2', origin, never), undefined, 'nobody’s');
  t.equal(await runtime.identify('c3', origin, never), undefined, 'unknown');
  t.ok(fake.calls.every(({ options }) => (options.timeoutMs ?? 0) <= 120_000));
});

t.test('a container without all of a pod’s labels, or a name, is nobody’s', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { config } = containerRequest(pod, 's1');
  const all: Readonly<Record<string, string>> = config.labels;
  fake.containers.push({ id: 'whole', podSandboxId: 's1', config });
  for (const part of ['name', 'namespace', 'uid']) {
    const { [`io.kubernetes.pod.${part}`]: _, ...labels } = all;
    fake.containers.push({ id: part, podSandboxId: 's1', config: { ...config, labels } });
    t.equal(await runtime.identify(part, origin, never), undefined, part);
  }
  t.ok(await runtime.identify('whole', origin, never));
  const nameless = { id: 'nameless', pod_sandbox_id: 's1', labels: all };
  fake.instead.set('ListContainers', encodeMessage('ListContainersResponse', { containers: [nameless] }));
  t.equal(await runtime.identify('nameless', origin, never), undefined);
});

t.test('only a container with the id that was asked for is looked at, whatever else a runtime lists', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { config } = containerRequest(pod, 's1');
  const listed = (id: string, podSandboxId: string) => listedContainer({ id, podSandboxId, config });
  const containers = [listed('c2-c1', 's2'), listed('c1-long', 's1')];
  fake.instead.set('ListContainers', encodeMessage('ListContainersResponse', { containers }));
  t.match(await runtime.identify('c1', origin, never), { podSandboxId: 's1' });
  const asked = decodeMessage('ListContainersRequest', fake.calls[0]?.request ?? Buffer.alloc(0));
  t.match(asked, { filter: { id: 'c1' } }, 'a list of all is long');
  t.equal(await runtime.identify('long', origin, never), undefined);
});

t.test('a runtime that cannot say whose container it is, is not believed to know none', async (t) => {
  const { fake, runtime } = setUp(t);
  const down = failure(unavailable, 'connection refused');
  fake.instead.set('ListContainers', down);
  await t.rejects(runtime.identify('c1', origin, never), down);
});

t.test(
  'a start is refused where the runtime says so in its own way, not where it was away, late or told to stop',
  (t) => {
    const { runtime } = setUp(t);
    for (const code of [2, 5, 9, 10, 13]) t.ok(runtime.isRefusal(failure(code, 'exec: not found')), String(code));
    for (const code of [1, 4, 14]) t.notOk(runtime.isRefusal(failure(code, 'context canceled')), String(code));
    t.notOk(runtime.isRefusal(new Error('connection lost')));
    t.end();
  },
);

t.test('a container that has exited and was never running is told apart: its start failed', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { config } = containerRequest(pod, 's1');
  fake.containers.push({ id: 'c1', podSandboxId: 's1', state: 'EXITED', exitCode: 128, startedAt: 0, config });
  t.same(await runtime.stateOf('c1', origin, never), { state: 'exited', exitCode: 128, neverRan: true });
});

t.test('the state of a container is told, with the exit code of one that has exited', async (t) => {
  const { fake, runtime, pod } = setUp(t);
  const { config } = containerRequest(pod, 's1');
  for (const state of ['CREATED', 'RUNNING', 'EXITED', 'UNKNOWN'] as const) {
    fake.containers.push({ id: state, podSandboxId: 's1', state, exitCode: 3, config });
  }
  t.same(await runtime.stateOf('CREATED', origin, never), { state: 'created' });
  t.same(await runtime.stateOf('RUNNING', origin, never), { state: 'running' });
  t.same(await runtime.stateOf('EXITED', origin, never), { state: 'exited', exitCode: 3, ranMs: 1_500 });
  t.same(await runtime.stateOf('UNKNOWN', origin, never), { state: 'unknown' });
  t.same(await runtime.stateOf('nobody', origin, never), { state: 'gone' });
  const down = failure(unavailable, 'connection refused');
  fake.instead.set('ContainerStatus', down);
  await t.rejects(runtime.stateOf('RUNNING', origin, never), down);
});
