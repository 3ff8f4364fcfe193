import fc from 'fast-check';
import t from 'tap';
import { type ContainerItem, dropContainers, hidesContainers, readEvent } from '../../src/cri/container-items.js';
import { messageType } from '../../src/cri/schema.js';
import { encodeVarint } from '../../src/cri/wire.js';

interface Container {
  id: string;
  name: string;
  attempt: number;
  labels: Record<string, string>;
}

/** A response with these containers, and what else its method makes known of each. */
interface Shape {
  method: string;
  build(containers: readonly Container[]): Buffer;
  podSandboxId: string;
  says: 'everything' | 'no state' | 'id';
}

const unknown = Buffer.from('9a06' + '03' + 'abcdef' + 'a006' + '2a', 'hex');
const unknownGroup = Buffer.from('ab06' + '082a' + 'ac06', 'hex');

function encode(type: string, fields: object): Buffer {
  const message = messageType(type);
  return Buffer.concat([message.encode(message.fromObject(fields)).finish(), unknown]);
}

function bytesField(number: number, value: Buffer): Buffer {
  return Buffer.concat([encodeVarint(number * 8 + 2), encodeVarint(value.length), value]);
}

/** Unknown fields stand before and behind the items. */
function listOf(number: number, items: readonly Buffer[]): Buffer {
  return Buffer.concat([unknown, ...items.map((item) => bytesField(number, item)), unknownGroup]);
}

const metadata = ({ name, attempt }: Container) => ({ name, attempt });
const container = (each: Container) =>
  encode('Container', { id: each.id, pod_sandbox_id: 'p1', metadata: metadata(each), labels: each.labels, state: 1 });
const status = (each: Container) =>
  encode('ContainerStatus', { id: each.id, metadata: metadata(each), labels: each.labels, state: 1, exit_code: -1 });
const attributes = (each: Container) => ({
  attributes: { id: each.id, metadata: metadata(each), labels: each.labels },
});
const stats = (each: Container) => encode('ContainerStats', { ...attributes(each), cpu: { timestamp: 7 } });
const windowsStats = (each: Container) => encode('WindowsContainerStats', attributes(each));
const metrics = (each: Container) => encode('ContainerMetrics', { container_id: each.id, metrics: [{ name: 'cpu' }] });

const sandboxStats = (containers: readonly Container[]) =>
  Buffer.concat([
    encode('PodSandboxStats', { attributes: { id: 'p1' } }),
    bytesField(
      2,
      Buffer.concat([encode('LinuxPodSandboxStats', { cpu: { timestamp: 1 } }), listOf(5, containers.map(stats))]),
    ),
    bytesField(3, listOf(5, containers.map(windowsStats))),
    unknown,
  ]);
const sandboxMetrics = (containers: readonly Container[]) =>
  Buffer.concat([encode('PodSandboxMetrics', { pod_sandbox_id: 'p1' }), listOf(3, containers.map(metrics))]);
const otherSandbox = bytesField(1, encode('PodSandboxStats', { attributes: { id: 'p2' }, linux: {} }));

const shapes: Shape[] = [
  ...['ListContainers', 'StreamContainers'].map(
    (method): Shape => ({
      method,
      build: (containers) => listOf(1, containers.map(container)),
      podSandboxId: 'p1',
      says: 'everything',
    }),
  ),
  ...['ListContainerStats', 'StreamContainerStats'].map(
    (method): Shape => ({
      method,
      build: (containers) => listOf(1, containers.map(stats)),
      podSandboxId: '',
      says: 'no state',
    }),
  ),
  {
    method: 'PodSandboxStatus',
    build: (containers) =>
      Buffer.concat([
        listOf(3, containers.map(status)),
        encode('PodSandboxStatusResponse', { status: { id: 'p1' }, info: { a: 'b' }, timestamp: 9 }),
      ]),
    podSandboxId: 'p1',
    says: 'everything',
  },
  ...['PodSandboxStats', 'ListPodSandboxStats', 'StreamPodSandboxStats'].map(
    (method): Shape => ({
      method,
      build: (containers) => Buffer.concat([otherSandbox, bytesField(1, sandboxStats(containers)), unknown]),
      podSandboxId: 'p1',
      says: 'no state',
    }),
  ),
  ...['ListPodSandboxMetrics', 'StreamPodSandboxMetrics'].map(
    (method): Shape => ({
      method,
      build: (containers) => Buffer.concat([bytesField(1, sandboxMetrics(containers)), unknown]),
      podSandboxId: 'p1',
      says: 'id',
    }),
  ),
  {
    method: 'GetContainerEvents',
    build: (containers) =>
      Buffer.concat([
        encode('ContainerEventResponse', { container_id: 'c0', container_event_type: 1, created_at: 3 }),
        listOf(5, containers.map(status)),
        bytesField(4, encode('PodSandboxStatus', { id: 'p1' })),
      ]),
    podSandboxId: 'p1',
    says: 'everything',
  },
];

const containers = fc.uniqueArray(
  fc.record({
    id: fc.string({ minLength: 1, maxLength: 8 }),
    name: fc.string({ maxLength: 200 }),
    attempt: fc.nat(),
    labels: fc.dictionary(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), {
      maxKeys: 3,
      noNullPrototype: true,
    }),
  }),
  { selector: ({ id }) => id, maxLength: 8 },
);

for (const shape of shapes) {
  t.test(`${shape.method}: what is left is byte for byte the response without the hidden containers`, async () => {
    fc.assert(
      fc.property(containers, fc.func(fc.boolean()), (all, choose) => {
        const hidden = ({ id }: { id: string }) => choose(id);
        const response = shape.build(all);
        const result = dropContainers(shape.method, response, hidden);
        const left = shape.build(all.filter((each) => !hidden(each)));
        const copies = shape.method.endsWith('SandboxStats') || shape.method === 'PodSandboxStats' ? 2 : 1;
        return (
          result.response.equals(left) &&
          result.dropped === copies * all.filter(hidden).length &&
          result.wholeHidden === false
        );
      }),
      { numRuns: 40 },
    );
  });

  t.test(`${shape.method}: where nothing is hidden the very same Buffer is returned`, async (t) => {
    const response = shape.build([{ id: 'c1', name: 'main', attempt: 0, labels: {} }]);
    t.equal(dropContainers(shape.method, response, () => false).response, response);
  });

  t.test(`${shape.method}: the judge is told what the response says of a container`, async (t) => {
    const seen: ContainerItem[] = [];
    const labels = { 'io.kubernetes.pod.uid': 'u1', empty: '' };
    const response = shape.build([{ id: 'c1', name: 'main', attempt: 3, labels }]);
    dropContainers(shape.method, response, (item) => seen.push(item) < 0);
    t.ok(seen.length > 0);
    for (const { id, podSandboxId, name, attempt, state, labels: read } of seen) {
      t.strictSame({ id, podSandboxId }, { id: 'c1', podSandboxId: shape.podSandboxId });
      t.equal(state, shape.says === 'everything' ? 1 : undefined);
      const expected =
        shape.says === 'id' ? { name: '', attempt: 0, read: {} } : { name: 'main', attempt: 3, read: labels };
      t.strictSame({ name, attempt, read: Object.fromEntries(read) }, expected);
    }
  });

  t.test(`${shape.method}: a malformed response is returned unchanged`, async (t) => {
    const response = shape.build([{ id: 'c1', name: 'main', attempt: 0, labels: { a: 'b' } }]);
    const broken = Buffer.concat([response, Buffer.from('0a7f', 'hex')]);
    const result = dropContainers(shape.method, broken, () => true);
    t.equal(result.response, broken);
    t.equal(result.dropped, 0);
    for (let length = 0; length < response.length; length++) {
      dropContainers(shape.method, response.subarray(0, length), () => true);
    }
  });
}

t.test('every shape above is one that hides containers, and only those and the single ones', async (t) => {
  const all = [...shapes.map(({ method }) => method), 'ContainerStatus', 'ContainerStats'];
  for (const method of all) t.ok(hidesContainers(method), method);
  for (const method of ['ListPodSandbox', 'StreamPodSandboxes', 'Status', 'toString', ''])
    t.notOk(hidesContainers(method));
});

t.test('a response about one hidden container is wholly hidden', async (t) => {
  const one = { id: 'c1', name: 'main', attempt: 2, labels: { a: 'b' } };
  const responses = { ContainerStatus: status(one), ContainerStats: stats(one) };
  for (const [method, item] of Object.entries(responses)) {
    const response = Buffer.concat([bytesField(1, item), unknown]);
    const isIt = ({ id, name, attempt, labels }: ContainerItem) =>
      id === 'c1' && name === 'main' && attempt === 2 && labels.get('a') === 'b';
    const result = dropContainers(method, response, isIt);
    t.strictSame(result, { response: unknown, dropped: 1, wholeHidden: true }, method);
    const kept = dropContainers(method, response, (item) => !isIt(item));
    t.equal(kept.response, response, method);
    t.equal(kept.wholeHidden, false, method);
    t.equal(dropContainers(method, unknown, () => true).wholeHidden, false, `${method} without a container`);
  }
});

t.test('a single container whose message came in two parts is judged and dropped as a whole', async (t) => {
  const parts = [encode('ContainerStatus', { id: 'c1' }), encode('ContainerStatus', { metadata: { name: 'main' } })];
  const response = Buffer.concat(parts.map((part) => bytesField(1, part)));
  const result = dropContainers('ContainerStatus', response, ({ id, name }) => id === 'c1' && name === 'main');
  t.strictSame(result, { response: Buffer.alloc(0), dropped: 1, wholeHidden: true });
});

t.test('unknown fields between two containers stay where they were', async (t) => {
  const items = ['c1', 'c2', 'c3'].map((id) => bytesField(1, container({ id, name: 'main', attempt: 0, labels: {} })));
  const [first = unknown, second = unknown, third = unknown] = items;
  const response = Buffer.concat([first, unknown, second, unknownGroup, third]);
  const { response: left } = dropContainers('ListContainers', response, ({ id }) => id === 'c2');
  t.strictSame(left, Buffer.concat([first, unknown, unknownGroup, third]));
});

t.test('a response of any other method is not looked at', async (t) => {
  const response = listOf(1, [container({ id: 'c1', name: 'main', attempt: 0, labels: {} })]);
  const judge = () => t.fail('asked about a container');
  t.equal(dropContainers('ListPodSandbox', response, judge).response, response);
});

t.test('random bytes are never thrown at the caller', async () => {
  const methods = fc.constantFrom(...shapes.map(({ method }) => method), 'ContainerStatus', 'ContainerStats');
  fc.assert(
    fc.property(methods, fc.uint8Array({ maxLength: 80 }), (method, bytes) => {
      dropContainers(method, Buffer.from(bytes), ({ labels }) => labels.size >= 0);
      readEvent(Buffer.from(bytes));
    }),
    { numRuns: 1000 },
  );
});

t.test('labels that are malformed read as none', async (t) => {
  const item = Buffer.concat([bytesField(1, Buffer.from('c1')), bytesField(8, Buffer.from('0a7f', 'hex'))]);
  const seen: ContainerItem[] = [];
  dropContainers('ListContainers', bytesField(1, item), (each) => seen.push(each) < 0);
  t.strictSame(
    seen.map(({ id, labels }) => [id, labels.size]),
    [['c1', 0]],
  );
});

t.test('a state that is not on the wire is CREATED, and one that is unknown to CRI is told as it is', async (t) => {
  const states = (method: string, item: Buffer) => {
    const seen: ContainerItem[] = [];
    dropContainers(method, bytesField(1, item), (each) => seen.push(each) < 0);
    return seen.map(({ state }) => state);
  };
  t.strictSame(states('ListContainers', encode('Container', { id: 'c1' })), [0]);
  t.strictSame(states('ListContainers', encode('Container', { id: 'c1', state: 3 })), [3]);
  t.strictSame(states('ContainerStatus', encode('ContainerStatus', { id: 'c1' })), [0]);
  t.strictSame(states('ContainerStatus', encode('ContainerStatus', { id: 'c1', state: 2 })), [2]);
  t.strictSame(states('ContainerStats', encode('ContainerStats', { attributes: { id: 'c1' } })), [undefined]);
  t.strictSame(states('ListContainers', encode('Container', { id: 'c1', state: -7 })), [-7]);
});

t.test('an event tells its container, its pod sandbox and the status that came with it', async (t) => {
  const event = encode('ContainerEventResponse', {
    container_id: 'c2',
    container_event_type: 2,
    pod_sandbox_status: { id: 'p1' },
    containers_statuses: [
      { id: 'c1', metadata: { name: 'first' } },
      { id: 'c2', metadata: { name: 'second', attempt: 4 }, state: 2, labels: { a: 'b' } },
    ],
  });
  const { containerId, type, podSandboxId, item } = readEvent(event);
  t.strictSame({ containerId, type, podSandboxId }, { containerId: 'c2', type: 2, podSandboxId: 'p1' });
  t.match(item, { id: 'c2', podSandboxId: 'p1', name: 'second', attempt: 4, state: 2 });
  t.equal(item?.labels.get('a'), 'b');
});

t.test('an event without a status of its container has no item', async (t) => {
  const { item, containerId } = readEvent(
    encode('ContainerEventResponse', { container_id: 'p1', containers_statuses: [{ id: 'c1' }] }),
  );
  t.equal(containerId, 'p1');
  t.equal(item, undefined);
});

t.test('a malformed event names nothing', async (t) => {
  const broken = Buffer.concat([encode('ContainerEventResponse', { container_id: 'c1' }), Buffer.from('2a7f', 'hex')]);
  t.strictSame(readEvent(broken), { containerId: '', type: 0, podSandboxId: '', item: undefined });
});
