/** Facts of src/harness/kubelet/facts.ts up to 33, each shown by the calls of a kubelet on a scripted node. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Random } from '../../src/harness/random.js';
import { eachIsShown, fact } from './fact.js';
import { begin, type Call, failure, neverComes, plan, type ScriptedNode } from './scripted-node.js';

const makers = new Set(['RunPodSandbox', 'CreateContainer', 'StartContainer']);
const makings = (node: ScriptedNode) => node.calls.filter(({ method }) => makers.has(method));
const attempts = (calls: readonly Call[]) => calls.map(({ request }) => request.config.metadata.attempt);
const isRelist = ({ request }: Call) => request.filter === undefined;
/** Not on the second, where relists are. */
const tick = 500;

fact(1, async (t) => {
  const node = await begin(t, { requestTimeoutMs: 4_500 }, (node) => node.hang('RunPodSandbox'));
  t.equal(node.of('RunPodSandbox')[0]?.timeoutMs, 9_000);
});

fact(2, async (t) => {
  const node = await begin(t, { pods: [plan('web', { deleteMs: 3_000 }), neverComes] });
  await node.clock.advance(5_000);
  const timeouts = new Map(node.calls.map(({ method, timeoutMs }) => [method, timeoutMs]));
  const others = ['ListPodSandbox', 'ListContainers', 'PodSandboxStatus', 'ContainerStatus', 'Status'];
  for (const method of [...others, 'CreateContainer', 'StartContainer', 'StopPodSandbox']) {
    t.equal(timeouts.get(method), 4_500, method);
  }
  t.equal(timeouts.get('StopContainer'), 5_500);
});

fact(3, async (t) => {
  const containers = ['first', 'second'];
  const pods = [plan('a', { containers }), plan('b', { containers })];
  const node = await begin(t, { pods }, (node) => {
    node.on('RunPodSandbox', ({ config }) =>
      config.metadata.name === 'a' ? node.after(2_000, () => ({})) : undefined,
    );
    node.on('CreateContainer', () => node.after(1_000, () => ({ container_id: 'c' })));
  });
  await node.clock.advance(3_000);
  t.match(makings(node), [
    { method: 'RunPodSandbox', request: { config: { metadata: { name: 'a' } } }, atMs: 0 },
    { method: 'RunPodSandbox', request: { config: { metadata: { name: 'b' } } }, atMs: 0 },
    { method: 'CreateContainer', request: { config: { metadata: { name: 'first' } } }, atMs: 0 },
    { method: 'StartContainer', atMs: 1_000 },
    { method: 'CreateContainer', request: { config: { metadata: { name: 'second' } } }, atMs: 1_000 },
    { method: 'StartContainer', atMs: 2_000 },
  ]);
});

fact(4, async (t) => {
  for (const [random, retryMs] of [
    [0, 10_000],
    [0.9999, 15_000],
  ] as const) {
    const node = await begin(t, { random: () => random }, (node) => node.fail('RunPodSandbox', 2, 'no'));
    await node.clock.advance(16_000);
    t.same(node.times('RunPodSandbox'), [0, retryMs]);
  }
});

fact(5, async (t) => {
  for (const [random, retriesMs] of [
    [0, [0, 1_000, 2_000]],
    [0.9999, [0, 2_000]],
  ] as const) {
    const node = await begin(t, { random: () => random }, (node) =>
      node.fail('RunPodSandbox', 2, 'network is not ready: no plugin'),
    );
    await node.clock.advance(2_000 + tick);
    t.same(node.times('RunPodSandbox'), retriesMs);
  }
});

fact(6, async (t) => {
  const node = await begin(t, { random: () => 0.5 }, (node) => node.fail('RunPodSandbox', 2, 'no'));
  await node.clock.advance(13_000);
  t.same(node.times('RunPodSandbox'), [0, 13_000], 'due after 12.5 s');
});

fact(7, async (t) => {
  const node = await begin(t, {}, (node) => {
    node.on('RunPodSandbox', () =>
      node.after(1_200, () => undefined).then(() => Promise.reject(failure(2, 'network is not ready'))),
    );
  });
  node.on('ListContainers', (request) =>
    request.filter === undefined && node.nowMs === 1_000 ? node.after(2_500, () => ({ containers: [] })) : undefined,
  );
  await node.clock.advance(4_500);
  // It is due at 3 s; the relist that ends at 3.5 s began before the failure at 1.2 s.
  t.same(node.times('RunPodSandbox'), [0, 4_500]);
});

fact(8, async (t) => {
  const node = await begin(t, {}, (node) =>
    node.on('ListContainers', (request) =>
      request.filter === undefined ? node.after(300, () => ({ containers: [] })) : undefined,
    ),
  );
  node.hang('RunPodSandbox');
  await node.clock.advance(3_000);
  const relists = node.calls.filter(({ method, request }) => method.startsWith('List') && request.filter === undefined);
  const garbage = ['ListPodSandbox', 'ListContainers'];
  t.same(
    relists.filter(({ atMs }) => atMs > 300).map(({ method, atMs }) => [method, atMs]),
    [1_300, 2_600].flatMap((atMs) => garbage.map((method) => [method, atMs])),
  );
});

fact(9, async (t) => {
  const node = await begin(t);
  await node.clock.advance(2_000 + tick);
  const before = makings(node).length;
  node.on('ListContainers', ({ filter }) => (filter === undefined ? Promise.reject(failure(14, 'gone')) : undefined));
  node.sandboxes.clear();
  await node.clock.advance(3_000);
  t.equal(makings(node).length, before, 'what the first list shows counts for nothing');
  node.off('ListContainers');
  await node.clock.advance(1_000);
  t.equal(makings(node).length, before + 3);
});

fact(10, async (t) => {
  const node = await begin(t, {}, (node) => node.hang('RunPodSandbox'));
  await node.clock.advance(tick);
  node.sandbox('there', 0);
  node.sandbox('gone', 1);
  node.container('old', 'app', 0, 'EXITED', 'there');
  node.on('PodSandboxStatus', ({ pod_sandbox_id: id }) =>
    id === 'gone' ? Promise.reject(failure(5, 'not found')) : undefined,
  );
  await node.clock.advance(1_000);
  const asked = node.calls.slice(node.calls.findIndex(({ request }) => request.filter?.label_selector !== undefined));
  t.match(asked.slice(0, 5), [
    { method: 'ListPodSandbox', request: { filter: { label_selector: { 'io.kubernetes.pod.uid': node.uid } } } },
    { method: 'PodSandboxStatus', request: { pod_sandbox_id: 'there' } },
    { method: 'PodSandboxStatus', request: { pod_sandbox_id: 'gone' } },
    { method: 'ListContainers', request: { filter: { label_selector: { 'io.kubernetes.pod.uid': node.uid } } } },
    { method: 'ContainerStatus', request: { container_id: 'old' } },
  ]);
  await node.clock.advance(9_000);
  t.match(node.of('CreateContainer'), [{ request: { pod_sandbox_id: 'there' } }], 'what was not found is not there');
});

fact(11, async (t) => {
  const node = await begin(t, {}, (node) => node.hang('RunPodSandbox'));
  await node.clock.advance(9_000 + tick);
  t.equal(node.of('CreateContainer').length, 0);
  node.sandbox('late', 0);
  await node.clock.advance(tick);
  t.same(node.times('CreateContainer'), [10_000], 'a sandbox has come to run');
  for (const container of node.containers.values()) container.state = 'CONTAINER_EXITED';
  await node.clock.advance(1_000);
  t.same(node.times('CreateContainer'), [10_000, 11_000], 'a container has ended');
});

fact(12, async (t) => {
  const node = await begin(t, {}, (node) => node.hang('CreateContainer'));
  // The sandbox that came during the first try makes the second follow at once; nothing comes during that.
  await node.clock.advance(9_600);
  t.same(node.times('CreateContainer'), [0, 5_000]);
  const [sandboxId = ''] = node.sandboxes.keys();
  node.container('late', 'app', 0, 'CREATED', sandboxId);
  await node.clock.advance(10_400);
  t.same(node.times('CreateContainer'), [0, 5_000, 20_000]);
  t.same(attempts(node.of('CreateContainer')), [0, 0, 1], 'yet it is known');
});

fact(13, async (t) => {
  const logDirectory = ({ request: { sandbox_config: pod, config } }: Call) =>
    path.join(pod.log_directory, config.metadata.name);
  const late: Record<string, (node: ScriptedNode, call: Call) => void> = {
    'a container was seen CREATED': (node, { request }) =>
      node.container('late', 'app', 0, 'CREATED', request.pod_sandbox_id),
    'a log file is there': (_node, call) => writeFileSync(path.join(logDirectory(call), '0.log'), ''),
  };
  for (const [what, happens] of Object.entries(late)) {
    const node = await begin(t, {}, (node) => node.hang('CreateContainer'));
    await node.clock.advance(2_000 + tick);
    const [first] = node.of('CreateContainer');
    if (first !== undefined) happens(node, first);
    await node.clock.advance(3_000);
    t.same(node.times('CreateContainer'), [0, 5_000], what);
    t.same(attempts(node.of('CreateContainer')), [0, 1], what);
  }
});

fact(14, async (t) => {
  const node = await begin(t, {}, (node) => node.fail('RunPodSandbox', 4, 'late'));
  await node.clock.advance(20_000);
  t.same(attempts(node.of('RunPodSandbox')), [0, 0, 0]);
});

fact(15, async (t) => {
  const node = await begin(t, {}, (node) => node.hang('RunPodSandbox'));
  await node.clock.advance(9_000 + tick);
  node.sandbox('late', 0);
  await node.clock.advance(20_000);
  t.equal(node.of('RunPodSandbox').length, 1);
  t.match(node.of('CreateContainer'), [
    { request: { pod_sandbox_id: 'late', sandbox_config: { metadata: { attempt: 0 } } } },
  ]);
});

fact(16, async (t) => {
  const visible: Record<string, (node: ScriptedNode) => void> = {
    'not READY': (node) => node.sandbox('b', 6, 'NOTREADY'),
    'several READY': (node) => node.sandbox('b', 6),
    'no IP': (node) => node.sandbox('b', 6, 'READY', ''),
  };
  for (const [what, show] of Object.entries(visible)) {
    const node = await begin(t, {}, (node) => node.hang('RunPodSandbox'));
    await node.clock.advance(9_000 + tick);
    node.sandbox('a', 5, what === 'several READY' ? 'READY' : 'NOTREADY');
    show(node);
    node.on('StopPodSandbox', ({ pod_sandbox_id: id }) =>
      id === 'b' ? Promise.reject(failure(5, 'not found')) : undefined,
    );
    await node.clock.advance(tick);
    t.match(
      node.of('StopPodSandbox').map(({ request }) => request.pod_sandbox_id),
      ['b', 'a'],
      what,
    );
    t.same(attempts(node.of('RunPodSandbox')), [0, 7], what);
  }
});

fact(17, async (t) => {
  for (const state of ['CREATED', 'EXITED', 'UNKNOWN']) {
    const node = await begin(t, {}, (node) => node.hang('RunPodSandbox'));
    await node.clock.advance(9_000 + tick);
    node.sandbox('late', 1);
    node.container('older', 'app', 6, 'EXITED', 'late');
    node.container('newest', 'app', 4, state, 'late');
    await node.clock.advance(tick);
    t.same(attempts(node.of('CreateContainer')), [5], state);
    t.match(
      node.of('StopContainer').map(({ request }) => request.container_id),
      state === 'UNKNOWN' ? ['newest'] : [],
      state,
    );
  }
});

fact(18, async (t) => {
  for (const [files, count] of [
    [[], 0],
    [['0.log', '10.log', '2.log.20260101', 'other'], 11],
    [['0.log', '11.log'], 12],
  ] as const) {
    const node = await begin(t, {}, (node) =>
      node.on('RunPodSandbox', () => node.after(1_000, () => undefined as never)),
    );
    const directory = path.join(node.of('RunPodSandbox')[0]?.request.config.log_directory ?? '', 'app');
    mkdirSync(path.join(directory, '99.log'), { recursive: true });
    for (const file of files) {
      if (file === '11.log') symlinkSync('0.log', path.join(directory, file));
      else writeFileSync(path.join(directory, file), '');
    }
    await node.clock.advance(1_000);
    t.same(attempts(node.of('CreateContainer')), [count]);
  }
});

fact(19, async (t) => {
  const node = await begin(t, {}, (node) => node.hang('RunPodSandbox'));
  await node.clock.advance(9_000 + tick);
  node.sandbox('late', 0);
  node.container('old', 'app', 2, 'CREATED', 'late');
  await node.clock.advance(tick);
  t.match(node.of('CreateContainer')[0]?.request.config, {
    metadata: { attempt: 3 },
    log_path: 'app/3.log',
    annotations: { 'io.kubernetes.container.restartCount': '3' },
  });
});

fact(20, async (t) => {
  const node = await begin(t, {}, (node) => node.fail('RunPodSandbox', 2, 'no'));
  await node.clock.advance(10_000);
  t.same(
    makings(node).map(({ method }) => method),
    ['RunPodSandbox', 'RunPodSandbox'],
  );
});

fact(21, async (t) => {
  for (const method of ['CreateContainer', 'StartContainer']) {
    const node = await begin(t, { pods: [plan('web', { containers: ['first', 'second'] })] }, (node) =>
      node.on(method, ({ config, container_id: id }) => {
        const name = config?.metadata.name ?? node.containers.get(id)?.metadata.name;
        return name === 'first' ? Promise.reject(failure(2, 'no')) : undefined;
      }),
    );
    const states = [...node.containers.values()].map(({ metadata, state }) => `${metadata.name} ${state}`);
    const first = method === 'CreateContainer' ? [] : ['first CONTAINER_CREATED'];
    t.same(states, [...first, 'second CONTAINER_RUNNING'], method);
  }
});

fact(22, async (t) => {
  const random = new Random(1);
  const node = await begin(t, { random: () => random.uint32() / 2 ** 32 }, (node) =>
    node.fail('CreateContainer', 2, 'no'),
  );
  await node.clock.advance(16_000);
  const [first, second] = node.of('CreateContainer').map(({ request }) => request.config);
  const keys = (config: Call['request']['config'] | undefined) => config?.envs.map(({ key }) => key);
  t.notSame(keys(first), keys(second));
  t.same(keys(first)?.sort(), keys(second)?.sort());
  for (const config of [first, second]) {
    t.match(config?.mounts, [{ container_path: '/dev/termination-log', host_path: /\/[0-9a-f]{8}$/ }]);
  }
  t.not(first?.mounts[0]?.host_path, second?.mounts[0]?.host_path);
});

fact(23, async (t) => {
  const node = await begin(t, {}, (node) => node.fail('RunPodSandbox', 2, 'no'));
  await node.clock.advance(20_000);
  node.off('RunPodSandbox');
  await node.clock.advance(10_000);
  const configs = makings(node).flatMap(({ method, request }) =>
    method === 'RunPodSandbox' ? [request.config] : method === 'CreateContainer' ? [request.sandbox_config] : [],
  );
  const seen = configs.map(({ annotations }) => annotations['kubernetes.io/config.seen']);
  t.equal(seen.length, 5);
  t.match(seen[0], /^\d{4}-/);
  t.equal(new Set(seen).size, 1);
});

fact(24, async (t) => {
  const node = await begin(t, {}, (node) =>
    node.on('StartContainer', ({ container_id: id }) => {
      const container = node.containers.get(id);
      void node.after(tick, () => {
        if (container !== undefined) container.state = 'CONTAINER_EXITED';
      });
      return undefined;
    }),
  );
  await node.clock.advance(1_000_000);
  const times = node.times('CreateContainer');
  const waits = times.slice(1).map((atMs, n) => (atMs - (times[n] ?? 0) - 1_000) / 1_000);
  t.same(waits, [0, 10, 20, 40, 80, 160, 300, 300].slice(0, waits.length));
  t.ok(waits.length >= 7);
});

fact(25, async (t) => {
  const node = await begin(t);
  const at = node.calls.findIndex(({ method }) => method === 'RunPodSandbox');
  const [sandboxId = ''] = node.sandboxes.keys();
  const next = node.calls.slice(at + 1).filter(({ method }) => !method.startsWith('List') && method !== 'Status');
  t.match(next.slice(0, 2), [
    { method: 'PodSandboxStatus', request: { pod_sandbox_id: sandboxId } },
    { method: 'CreateContainer', request: { pod_sandbox_id: sandboxId } },
  ]);
});

fact(26, async (t) => {
  const pods = [plan('web', { deleteMs: 2_000 }), neverComes];
  const node = await begin(t, { pods }, (node) =>
    node.on('RunPodSandbox', () => node.after(5_000 + tick, () => undefined as never)),
  );
  await node.clock.advance(5_000);
  t.notOk(node.of('RunPodSandbox')[0]?.signal.aborted);
  t.equal(node.of('StopPodSandbox').length, 0);
  await node.clock.advance(1_000);
  const [[sandboxId], [containerId]] = [[...node.sandboxes.keys()], [...node.containers.keys()]];
  t.match(node.of('StopContainer'), [{ request: { container_id: containerId }, atMs: 6_000 }]);
  t.match(node.of('StopPodSandbox'), [{ request: { pod_sandbox_id: sandboxId }, atMs: 6_000 }]);
  await node.clock.advance(20_000);
  t.equal(node.of('RunPodSandbox').length, 1);
});

fact(27, async (t) => {
  const pods = [plan('web', { deleteMs: 2_000 }), neverComes];
  const node = await begin(t, { pods }, (node) => node.hang('RunPodSandbox'));
  await node.clock.advance(12_000 + tick);
  t.equal(node.of('StopPodSandbox').length, 0, 'nothing was seen');
  node.sandbox('late', 0);
  node.sandbox('other', 0, 'READY', '10.0.0.2', 'of somebody else');
  await node.clock.advance(2_000);
  t.match(node.of('StopPodSandbox'), [{ request: { pod_sandbox_id: 'late' }, atMs: 14_000 }]);
  t.equal(node.of('StopPodSandbox').length, 1);
  await node.clock.advance(46_000);
  t.match(node.of('RemovePodSandbox'), [{ request: { pod_sandbox_id: 'late' }, atMs: 60_000 }]);
  t.same([...node.sandboxes.keys()], ['other']);
});

fact(28, async (t) => {
  for (const deleteMs of [undefined, 50_000]) {
    const pods = [plan('web', deleteMs === undefined ? {} : { deleteMs }), neverComes];
    const node = await begin(t, { pods }, (node) =>
      node.on('RunPodSandbox', () => node.after(1_000, () => undefined as never)),
    );
    for (const [id, state] of [
      ['a', 'EXITED'],
      ['b', 'CREATED'],
      ['c', 'EXITED'],
    ] as const) {
      node.container(id, 'app', 0, state, 'old');
    }
    await node.clock.advance(59_000);
    t.equal(node.of('RemoveContainer').length, 0);
    await node.clock.advance(1_000);
    const removed = node.of('RemoveContainer').map(({ request }) => request.container_id);
    const [alive] = [...node.containers.values()].filter(({ state }) => state === 'CONTAINER_RUNNING');
    t.same(removed.slice(-2), ['b', 'a']);
    t.equal(removed.length, deleteMs === undefined ? 2 : 4);
    t.equal(alive !== undefined, deleteMs === undefined);
  }
});

fact(29, async (t) => {
  for (const deleteMs of [undefined, 50_000]) {
    const pods = [plan('web', deleteMs === undefined ? {} : { deleteMs }), neverComes];
    const node = await begin(t, { pods }, (node) =>
      node.on('RunPodSandbox', () => node.after(1_000, () => undefined as never)),
    );
    node.sandbox('empty', 0, 'NOTREADY');
    node.sandbox('in-use', 0, 'NOTREADY');
    node.container('side', 'side', 0, 'EXITED', 'in-use');
    await node.clock.advance(60_000);
    const removed = node.of('RemovePodSandbox').map(({ request }) => request.pod_sandbox_id);
    if (deleteMs === undefined) t.same(removed, ['empty']);
    else t.equal(node.sandboxes.size, 0);
    t.equal(node.containers.has('side'), deleteMs === undefined);
  }
});

fact(30, async (t) => {
  const node = await begin(t);
  await node.clock.advance(15_000);
  t.same(node.times('Status'), [0, 5_000, 10_000, 15_000]);
});

fact(31, async (t) => {
  const node = await begin(t, { events: true }, (node) => node.hang('RunPodSandbox'));
  await node.clock.advance(9_000 + tick);
  node.sandbox('late', 0);
  const event = (container_event_type: string, containers: readonly string[] = []) =>
    node.emit({
      container_event_type,
      pod_sandbox_status: node.sandboxes.get('late'),
      containers_statuses: containers.map((id) => ({ ...node.containers.get(id) })),
    });
  node.emit({ container_event_type: 'CONTAINER_STARTED_EVENT', pod_sandbox_status: null, containers_statuses: [] });
  event('CONTAINER_CREATED_EVENT');
  await node.clock.advance(tick);
  t.equal(node.of('CreateContainer').length, 0);
  node.hang('CreateContainer');
  event('CONTAINER_STARTED_EVENT');
  await node.clock.advance(0);
  t.same(node.times('CreateContainer'), [10_000]);
  node.container('c', 'app', 0, 'CREATED', 'late');
  event('CONTAINER_CREATED_EVENT', ['c']);
  await node.clock.advance(4_600);
  event('CONTAINER_STOPPED_EVENT', ['c']);
  await node.clock.advance(0);
  t.same(attempts(node.of('CreateContainer')), [0, 1]);
  t.equal(node.of('RunPodSandbox').length, 1);
});

fact(32, async (t) => {
  const node = await begin(t, { events: true, pods: [neverComes] });
  await node.clock.advance(600_000 + tick);
  t.equal(node.streams.length, 1);
  t.notOk(node.streams[0]?.signal.aborted);
  // Garbage collection has the same lists, every minute.
  t.same(node.of('ListPodSandbox').filter(isRelist).length, 3 + 2 * 11);
});

fact(33, async (t) => {
  const node = await begin(t, { events: true, pods: [neverComes] }, (node) => {
    node.streamFails = true;
  });
  t.equal(node.streams.length, 5);
  const atOnce = node.of('ListPodSandbox').filter(isRelist).length;
  await node.clock.advance(10_000);
  t.equal(node.streams.length, 5);
  t.ok(atOnce >= 5);
  t.equal(node.of('ListPodSandbox').filter(isRelist).length, atOnce + 10);
});

eachIsShown(1, 33);
