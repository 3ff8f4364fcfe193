import fc from 'fast-check';
import t from 'tap';
import {
  containerFamily,
  driftOf,
  type Fingerprint,
  fingerprintContainer,
  fingerprintPodSandbox,
  hasDrifted,
} from '../../src/cache/fingerprint.js';
import { type FieldSchema, type MessageSchema, messageSchema, messageType } from '../../src/cri/schema.js';
import { encodeVarint, FieldCursor } from '../../src/cri/wire.js';

type Fields = Record<string, unknown>;
type RequestName = 'RunPodSandboxRequest' | 'CreateContainerRequest';

const options = { volatileAnnotations: new Set(['kubernetes.io/config.seen']) };

/** What the kubelet sends, shortened; each call gives a fresh one to change. */
function containerRequest() {
  return {
    pod_sandbox_id: 'p1',
    config: {
      metadata: { name: 'main', attempt: 0 },
      image: { image: 'registry.example.com/app@sha256:1' },
      command: ['/bin/app', 'serve'],
      args: ['--port=80'],
      envs: [
        { key: 'PATH', value: Buffer.from('/bin') },
        { key: 'TOKEN', value: Buffer.from('very secret') },
        { key: 'HOME', value: Buffer.from('/root') },
      ],
      mounts: [
        { container_path: '/data', host_path: '/var/lib/kubelet/pods/u1/volumes/data' },
        { container_path: '/etc/hosts', host_path: '/var/lib/kubelet/pods/u1/etc-hosts' },
        { container_path: '/dev/termination-log', host_path: '/var/lib/kubelet/pods/u1/containers/main/0a1b2c3d' },
      ],
      labels: { 'io.kubernetes.pod.name': 'web', 'io.kubernetes.container.name': 'main' },
      annotations: {
        'io.kubernetes.container.hash': '9f8e7d6c',
        'io.kubernetes.container.restartCount': '0',
        'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
      } as Record<string, string>,
      log_path: 'main/0.log',
      linux: {
        resources: { cpu_shares: 512, cpuset_cpus: '0-3' },
        security_context: { supplemental_groups: [1, 2000], run_as_user: { value: 0 } },
      } as Fields,
    } as Fields & {
      metadata: Fields;
      annotations: Record<string, string>;
      mounts: Fields[];
      envs: Fields[];
      linux: Fields;
    },
    sandbox_config: {
      metadata: { name: 'web', uid: 'u1', namespace: 'shop', attempt: 2 },
      hostname: 'web',
      log_directory: '/var/log/pods/shop_web_u1',
      labels: { app: 'web' } as Record<string, string>,
      annotations: { 'kubernetes.io/config.seen': 'then', 'kubernetes.io/config.source': 'api' } as Record<
        string,
        string
      >,
    },
  };
}

function podSandboxRequest() {
  return { config: containerRequest().sandbox_config, runtime_handler: 'runc' };
}

function encode(type: string, fields: object): Buffer {
  const message = messageType(type);
  return Buffer.from(message.encode(message.fromObject(fields)).finish());
}

function bytesField(number: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([encodeVarint(number * 8 + 2), encodeVarint(bytes.length), bytes]);
}

function printed<Print>(print: Print | undefined): Print {
  if (print === undefined) throw new Error('the request has no fingerprint');
  return print;
}

const ofContainer = (bytes: Buffer) => printed(fingerprintContainer(bytes, options));
const ofPodSandbox = (bytes: Buffer) => printed(fingerprintPodSandbox(bytes, options));
const fingerprintOf = (type: RequestName, bytes: Buffer): Fingerprint =>
  type === 'RunPodSandboxRequest' ? ofPodSandbox(bytes) : ofContainer(bytes);

/** The container request after `change`. */
function changed(change: (request: ReturnType<typeof containerRequest>) => void): Buffer {
  const request = containerRequest();
  change(request);
  return encode('CreateContainerRequest', request);
}

const original = encode('CreateContainerRequest', containerRequest());

function containerDrift(change: (request: ReturnType<typeof containerRequest>) => void): string[] {
  return driftOf(ofContainer(original).parts, ofContainer(changed(change)).parts);
}

// Requests of any shape, derived from the schema.

function scalarOf(type: string): fc.Arbitrary<unknown> {
  if (type === 'string') return fc.string({ maxLength: 12 });
  if (type === 'bytes') return fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes));
  if (type === 'bool') return fc.boolean();
  if (type === 'int32') return fc.integer();
  return fc.nat();
}

function fieldOf(field: FieldSchema, depth: number): fc.Arbitrary<unknown> {
  if (field.map) {
    return fc.dictionary(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), {
      maxKeys: 3,
      noNullPrototype: true,
    });
  }
  const single = field.message === undefined ? scalarOf(field.type) : messageOf(field.message, depth + 1);
  return field.repeated ? fc.array(single, { maxLength: 3 }) : single;
}

function messageOf(schema: MessageSchema, depth = 0): fc.Arbitrary<Fields> {
  const fields = [...schema.fields.values()];
  const model = Object.fromEntries(fields.map((field) => [field.name, fieldOf(field, depth)]));
  return fc.record(model, { requiredKeys: [], noNullPrototype: true });
}

const withIdentity = {
  RunPodSandboxRequest: (request: Fields): Fields => ({ ...request, config: inPod(request.config) }),
  CreateContainerRequest: (request: Fields): Fields => ({
    ...request,
    pod_sandbox_id: 'p1',
    config: { ...(request.config as Fields | undefined), metadata: { name: 'main', attempt: 1 } },
    sandbox_config: inPod(request.sandbox_config),
  }),
};

function inPod(config: unknown): Fields {
  return { ...(config as Fields | undefined), metadata: { name: 'web', uid: 'u1', namespace: 'shop', attempt: 2 } };
}

const requestTypes = ['RunPodSandboxRequest', 'CreateContainerRequest'] as const;
const requestOf = (type: RequestName) => messageOf(messageSchema(type)).map(withIdentity[type]);

/** A whole number below `bound`, from a sequence that `seed` determines. */
function dice(seed: number): (bound: number) => number {
  let state = seed >>> 0;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

function shuffle<Item>(items: readonly Item[], roll: (bound: number) => number): Item[] {
  const left = [...items];
  return items.flatMap(() => left.splice(roll(left.length), 1));
}

/**
 * Another encoding of the same message: fields in any order (within a list as they were), maps in any order, singular messages
 * in two parts, and environment variables in any order where their names differ.
 */
function reencode(schema: MessageSchema, bytes: Buffer, roll: (bound: number) => number): Buffer {
  const byNumber = new Map<number, Buffer[]>();
  const cursor = new FieldCursor(bytes);
  while (cursor.next()) {
    const field = schema.fields.get(cursor.number);
    const records = byNumber.get(cursor.number) ?? [];
    byNumber.set(cursor.number, records);
    if (field?.message === undefined) {
      records.push(bytes.subarray(cursor.start, cursor.end));
      continue;
    }
    const inner = reencode(field.message, cursor.value, roll);
    const parts = field.repeated || field.map ? [inner] : halves(inner, roll);
    records.push(...parts.map((part) => bytesField(cursor.number, part)));
  }
  const lists = [...byNumber].map(([number, records]) => {
    const field = schema.fields.get(number);
    return field?.map || field?.message?.name === 'KeyValue' ? shuffle(records, roll) : records;
  });
  const order = shuffle(
    lists.flatMap((records, list) => records.map(() => list)),
    roll,
  );
  return Buffer.concat(order.flatMap((list) => lists[list]?.shift() ?? []));
}

/** Splits between two fields. */
function halves(message: Buffer, roll: (bound: number) => number): Buffer[] {
  const ends: number[] = [];
  const cursor = new FieldCursor(message);
  while (cursor.next()) ends.push(cursor.end);
  const at = ends[roll(ends.length)];
  return at === undefined || roll(2) === 0 ? [message] : [message.subarray(0, at), message.subarray(at)];
}

function hasRepeatedEnvNames(request: Fields): boolean {
  const envs = ((request.config as Fields | undefined)?.envs ?? []) as Fields[];
  return new Set(envs.map(({ key }) => key ?? '')).size < envs.length;
}

for (const type of requestTypes) {
  t.test(`${type}: no other encoding of the same request changes its fingerprint`, async () => {
    fc.assert(
      fc.property(requestOf(type), fc.nat(), (request, seed) => {
        fc.pre(!hasRepeatedEnvNames(request));
        const bytes = encode(type, request);
        const before = fingerprintOf(type, bytes);
        const after = fingerprintOf(type, reencode(messageSchema(type), bytes, dice(seed)));
        const same = before.digest === after.digest && before.key === after.key;
        return same && driftOf(before.parts, after.parts).length === 0;
      }),
      { numRuns: 200 },
    );
  });
}

// A change of any one field that is reached through singular messages.

interface Target {
  path: string[];
  field: FieldSchema;
}

function targetsIn(schema: MessageSchema, path: string[] = []): Target[] {
  return [...schema.fields.values()].flatMap((field): Target[] => {
    const at = [...path, field.name];
    return field.message !== undefined && !field.repeated && !field.map
      ? targetsIn(field.message, at)
      : [{ path: at, field }];
  });
}

const notInDigest: Record<RequestName, string[]> = {
  RunPodSandboxRequest: [
    'config.metadata.name',
    'config.metadata.uid',
    'config.metadata.namespace',
    'config.metadata.attempt',
  ],
  CreateContainerRequest: [
    'config.metadata.name',
    'config.metadata.attempt',
    'config.log_path',
    'sandbox_config.metadata.name',
    'sandbox_config.metadata.uid',
    'sandbox_config.metadata.namespace',
  ],
};

const namedByFirstField = ['KeyValue', 'Mount', 'Device', 'CDIDevice', 'HugepageLimit'];

/** Changes the request in place; returns the name that drift must give it. */
function change(request: Fields, { path, field }: Target): string {
  let parent = request;
  for (const step of path.slice(0, -1)) {
    parent[step] = { ...(parent[step] as Fields | undefined) };
    parent = parent[step] as Fields;
  }
  const name = path.join('.');
  const last = path.at(-1) ?? '';
  const before = parent[last];
  if (field.map) {
    parent[last] = { ...(before as Fields | undefined), 'a new key': 'x' };
    return `${name}[a new key]`;
  }
  if (field.repeated) {
    const named = field.message !== undefined && namedByFirstField.includes(field.message.name);
    const key = field.message?.fields.get(1)?.name ?? '';
    const element =
      field.message === undefined ? anotherScalar(field.type, undefined) : named ? { [key]: 'a new one' } : {};
    parent[last] = [...((before as unknown[] | undefined) ?? []), element];
    return named ? `${name}[a new one]` : name;
  }
  parent[last] = anotherScalar(field.type, before);
  return name;
}

function anotherScalar(type: string, before: unknown): unknown {
  if (type === 'string') return `${before ?? ''}x`;
  if (type === 'bytes') return Buffer.concat([(before as Buffer | undefined) ?? Buffer.alloc(0), Buffer.from('x')]);
  if (type === 'bool') return before !== true;
  return before === 1 ? 2 : 1;
}

for (const type of requestTypes) {
  const targets = targetsIn(messageSchema(type)).filter(({ path }) => !notInDigest[type].includes(path.join('.')));

  t.test(`${type}: a change of any one field changes the digest, and drift names that field only`, async () => {
    fc.assert(
      fc.property(requestOf(type), fc.constantFrom(...targets), (request, target) => {
        const before = fingerprintOf(type, encode(type, request));
        const other = { ...request };
        const name = change(other, target);
        const after = fingerprintOf(type, encode(type, other));
        const drift = driftOf(before.parts, after.parts);
        const back = driftOf(after.parts, before.parts);
        const exact = drift.length === 1 && drift[0] === name && back.length === 1 && back[0] === name;
        return before.key === after.key && before.digest !== after.digest && exact;
      }),
      { numRuns: 500 },
    );
  });

  t.test(`${type}: what belongs to the identity is not in the digest`, async (t) => {
    const identityTargets = targetsIn(messageSchema(type)).filter(({ path }) =>
      notInDigest[type].includes(path.join('.')),
    );
    t.equal(identityTargets.length, notInDigest[type].length);
    for (const target of identityTargets) {
      const request = type === 'RunPodSandboxRequest' ? podSandboxRequest() : containerRequest();
      const before = fingerprintOf(type, encode(type, request));
      const name = change(request, target);
      const after = fingerprintOf(type, encode(type, request));
      t.equal(after.digest, before.digest, name);
      t.strictSame(driftOf(before.parts, after.parts), [], name);
      t.equal(after.key === before.key, name === 'config.log_path', `${name} and the key`);
      t.equal(
        after.family === before.family,
        ['config.log_path', 'config.metadata.attempt'].includes(name),
        `${name} and the family`,
      );
    }
  });

  t.test(`${type}: a request cut anywhere but between two fields has no fingerprint`, async (t) => {
    const request = type === 'RunPodSandboxRequest' ? podSandboxRequest() : containerRequest();
    const bytes = encode(type, request);
    const ends = new Set<number>();
    const cursor = new FieldCursor(bytes);
    while (cursor.next()) ends.add(cursor.end);
    const read = type === 'RunPodSandboxRequest' ? fingerprintPodSandbox : fingerprintContainer;
    const wrong: number[] = [];
    for (let length = 0; length < bytes.length; length++) {
      if (!ends.has(length) && read(bytes.subarray(0, length), options) !== undefined) wrong.push(length);
    }
    t.strictSame(wrong, []);
  });
}

t.test('random bytes, and random bytes in a request, have a fingerprint or none but never throw', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(original.length), (bytes, at) => {
      const noise = Buffer.from(bytes);
      fingerprintPodSandbox(noise, options);
      fingerprintContainer(noise, options);
      const damaged = Buffer.concat([original.subarray(0, at), noise, original.subarray(at + noise.length)]);
      fingerprintPodSandbox(damaged, options);
      fingerprintContainer(damaged, options);
    }),
    { numRuns: 500 },
  );
});

t.test('a container request tells identity and details', async (t) => {
  const print = ofContainer(original);
  t.match(print, {
    kind: 'container',
    identity: { kind: 'container', namespace: 'shop', name: 'web', uid: 'u1', container: 'main', attempt: 0 },
    podSandboxId: 'p1',
    sandboxAttempt: 2,
    specHash: '9f8e7d6c',
    logPath: 'main/0.log',
    logDirectory: '/var/log/pods/shop_web_u1',
    isStatic: false,
  });
  t.match(print.digest, /^[0-9a-f]{64}$/);
  t.equal(print.family, containerFamily(print.identity));
});

t.test('a pod sandbox request tells identity and details', async (t) => {
  const request = podSandboxRequest();
  request.config.annotations['kubernetes.io/config.source'] = 'file';
  t.match(ofPodSandbox(encode('RunPodSandboxRequest', request)), {
    kind: 'podSandbox',
    identity: { kind: 'podSandbox', namespace: 'shop', name: 'web', uid: 'u1', attempt: 2 },
    runtimeHandler: 'runc',
    logDirectory: '/var/log/pods/shop_web_u1',
    isStatic: true,
  });
});

t.test('a request without its full identity has no fingerprint', async (t) => {
  const incomplete: [string, (request: ReturnType<typeof containerRequest>) => void][] = [
    ['container name', ({ config }) => delete config.metadata.name],
    ['pod name', ({ sandbox_config }) => Object.assign(sandbox_config.metadata, { name: '' })],
    ['pod namespace', ({ sandbox_config }) => Object.assign(sandbox_config.metadata, { namespace: '' })],
    ['pod uid', ({ sandbox_config }) => Object.assign(sandbox_config.metadata, { uid: '' })],
    ['pod sandbox id', (request) => Object.assign(request, { pod_sandbox_id: '' })],
  ];
  for (const [what, remove] of incomplete) {
    const bytes = changed(remove);
    t.equal(fingerprintContainer(bytes, options), undefined, `container without ${what}`);
    if (!what.startsWith('pod ') || what === 'pod sandbox id') continue;
    const request = containerRequest();
    remove(request);
    const sandbox = encode('RunPodSandboxRequest', { config: request.sandbox_config });
    t.equal(fingerprintPodSandbox(sandbox, options), undefined, `pod sandbox without ${what}`);
  }
  t.equal(fingerprintContainer(Buffer.alloc(0), options), undefined);
  t.equal(fingerprintPodSandbox(Buffer.alloc(0), options), undefined);
});

t.test('names that are not UTF-8 have no fingerprint, since they would all read the same', async (t) => {
  const metadata = (uid: string) =>
    Buffer.concat([bytesField(1, 'web'), bytesField(2, Buffer.from(uid, 'hex')), bytesField(3, 'shop')]);
  const request = (uid: string) => bytesField(1, bytesField(1, metadata(uid)));
  t.ok(fingerprintPodSandbox(request('7531'), options));
  t.equal(fingerprintPodSandbox(request('ff'), options), undefined);
});

// Requests with too many fields for a normal form.

/** A field that is not in the schema, `count` times. */
const many = (count: number) => Buffer.from('9a0600'.repeat(count), 'hex');
const tooMany = many(65_536);

t.test('a request of more than 65,536 fields is still one of its identity', async (t) => {
  t.notOk(ofContainer(Buffer.concat([original, many(60_000)])).tooLarge);
  const whole = ofContainer(original);
  t.notOk(whole.tooLarge);
  const packed = bytesField(2, bytesField(15, bytesField(2, bytesField(8, Buffer.alloc(65_536)))));
  const envs = bytesField(
    2,
    Buffer.concat(Array.from({ length: 40_000 }, (_, n) => bytesField(6, bytesField(1, `${n}`)))),
  );
  for (const [what, more] of Object.entries({ tooMany, packed, envs })) {
    const print = ofContainer(Buffer.concat([original, more]));
    t.strictSame(
      print,
      { ...whole, digest: '', parts: { ...whole.parts, digest: '', nameRuns: [], hashes: '' }, tooLarge: true },
      what,
    );
  }
});

for (const type of requestTypes) {
  t.test(`${type}: too large or not, in any encoding, all but the digest reads the same`, async () => {
    const inDigest = { digest: '', parts: undefined, tooLarge: undefined };
    fc.assert(
      fc.property(requestOf(type), fc.boolean(), fc.nat(), (request, annotated, seed) => {
        const told = annotated ? annotate(type, request) : request;
        const bytes = encode(type, told);
        const large = Buffer.concat([reencode(messageSchema(type), bytes, dice(seed)), tooMany]);
        const [small, big] = [fingerprintOf(type, bytes), fingerprintOf(type, large)];
        return big.tooLarge && JSON.stringify({ ...small, ...inDigest }) === JSON.stringify({ ...big, ...inDigest });
      }),
      { numRuns: 20 },
    );
  });
}

/** With the annotations that are read. */
function annotate(type: RequestName, request: Fields): Fields {
  const field = type === 'RunPodSandboxRequest' ? 'config' : 'sandbox_config';
  const config = { ...(request.config as Fields), annotations: { 'io.kubernetes.container.hash': 'abc' } };
  const pod = { ...(request[field] as Fields), annotations: { 'kubernetes.io/config.source': 'file' } };
  return { ...request, config, [field]: pod };
}

t.test('an attempt is cut to 32 bits, as a decoder does, too large or not', async (t) => {
  const beyond = bytesField(2, bytesField(1, Buffer.from('108380808010', 'hex')));
  const bytes = Buffer.concat([original, beyond]);
  for (const more of [Buffer.alloc(0), tooMany]) t.equal(ofContainer(Buffer.concat([bytes, more])).identity.attempt, 3);
});

t.test('a malformed or incomplete request has no fingerprint, however large', async (t) => {
  const large = Buffer.concat([original, tooMany]);
  t.ok(fingerprintContainer(large, options));
  t.equal(fingerprintContainer(Buffer.concat([large, Buffer.from('0a', 'hex')]), options), undefined, 'cut short');
  const damaged = bytesField(2, Buffer.from('0a05', 'hex'));
  t.equal(fingerprintContainer(Buffer.concat([large, damaged]), options), undefined, 'a damaged config');
  t.equal(fingerprintContainer(tooMany, options), undefined, 'no identity');
  t.equal(fingerprintPodSandbox(tooMany, options), undefined, 'no identity');
});

t.test('a request too large for a digest has drifted from none, and none from it', async (t) => {
  const [one, other] = [ofContainer(original), ofContainer(changed(({ config }) => void config.mounts.reverse()))];
  const large = ofContainer(Buffer.concat([original, tooMany]));
  t.ok(hasDrifted(one, other));
  t.notOk(hasDrifted(one, ofContainer(original)));
  for (const [from, to] of [
    [one, large],
    [large, one],
    [large, large],
  ] as const) {
    t.notOk(hasDrifted(from, to));
    t.strictSame(driftOf(from.parts, to.parts), []);
  }
});

t.test('no fingerprint is made of millions of fields, or of a message in thousands of parts', async (t) => {
  const plus = (fields: Buffer) => fingerprintContainer(Buffer.concat([original, tooMany, fields]), options);
  t.ok(plus(many(900_000)));
  t.equal(plus(many(1_000_000)), undefined);
  const parts = (count: number) => Buffer.from('12020a00'.repeat(count), 'hex');
  t.ok(plus(parts(900)));
  t.equal(plus(parts(1_000)), undefined);
});

t.test('resources are told apart by what they mean', async (t) => {
  const resources = (linux: Fields | undefined, windows?: Fields) =>
    ofContainer(
      changed(({ config }) => {
        config.linux = linux === undefined ? {} : { resources: linux };
        if (windows !== undefined) config.windows = { resources: windows };
      }),
    ).resources;
  const base = resources({ cpu_shares: 512, memory_limit_in_bytes: 64, unified: { a: '1', b: '2' } });
  t.match(base, /^[0-9a-f]{16}$/);
  t.equal(resources({ unified: { b: '2', a: '1' }, memory_limit_in_bytes: 64, cpu_shares: 512 }), base);
  t.equal(resources({ cpu_shares: 512, memory_limit_in_bytes: 64, unified: { a: '1', b: '2' }, cpu_quota: 0 }), base);
  for (const cpuset of [{ cpuset_cpus: '0-3' }, { cpuset_mems: '0' }]) {
    t.equal(resources({ cpu_shares: 512, memory_limit_in_bytes: 64, unified: { a: '1', b: '2' }, ...cpuset }), base);
  }
  const page = (page_size: string, limit: number) => ({ page_size, limit });
  t.equal(
    resources({ hugepage_limits: [page('2Mi', 1), page('1Gi', 2)] }),
    resources({ hugepage_limits: [page('1Gi', 2), page('2Mi', 1)] }),
  );
  const different = [
    base,
    resources({ cpu_shares: 512, memory_limit_in_bytes: 65, unified: { a: '1', b: '2' } }),
    resources({ cpu_shares: 513, memory_limit_in_bytes: 64, unified: { a: '1', b: '2' } }),
    resources({ cpu_shares: 512, memory_limit_in_bytes: 64, unified: { a: '1', b: '3' } }),
    resources({ hugepage_limits: [page('2Mi', 1)] }),
    resources({ hugepage_limits: [page('2Mi', 2)] }),
    resources(undefined, { memory_limit_in_bytes: 64 }),
    resources(undefined, { cpu_shares: 64 }),
    resources({ memory_limit_in_bytes: 64 }, { memory_limit_in_bytes: 64 }),
    '',
  ];
  t.equal(new Set(different).size, different.length);
  t.equal(resources(undefined), '');
  t.equal(resources({}), '');
  t.equal(resources({ cpuset_cpus: '0-3', cpuset_mems: '0' }, {}), '', 'nothing but cpusets');
});

t.test('an unknown field of the resources counts, another order of fields does not', async (t) => {
  const plus = (resources: Buffer) =>
    ofContainer(Buffer.concat([original, bytesField(2, bytesField(15, bytesField(1, resources)))])).resources;
  const base = ofContainer(original).resources;
  t.not(base, '');
  t.not(plus(bytesField(99, 'new')), base);
  t.equal(plus(Buffer.from('188004', 'hex')), base, 'the same cpu_shares again');
  const only = bytesField(2, bytesField(15, bytesField(1, bytesField(99, 'new'))));
  t.not(
    ofContainer(Buffer.concat([changed(({ config }) => Object.assign(config, { linux: {} })), only])).resources,
    '',
  );
});

t.test(
  'the resources of a request too large for a digest count too, unless they are too large themselves',
  async (t) => {
    const { resources } = ofContainer(original);
    const plus = (config: Buffer) => ofContainer(Buffer.concat([original, bytesField(2, config), tooMany])).resources;
    t.equal(plus(Buffer.alloc(0)), resources);
    const moved = bytesField(15, bytesField(1, Buffer.from('2040', 'hex')));
    t.not(plus(moved), resources);
    t.equal(plus(moved), ofContainer(Buffer.concat([original, bytesField(2, moved)])).resources);
    t.equal(plus(bytesField(15, bytesField(1, tooMany))), '');
  },
);

t.test('requests that differ only in attempt share a family and a digest, never a key', async (t) => {
  const first = ofContainer(original);
  const next = ofContainer(
    changed(({ config }) => {
      config.metadata.attempt = 1;
      config.log_path = 'main/1.log';
      config.annotations['io.kubernetes.container.restartCount'] = '1';
    }),
  );
  t.not(next.key, first.key);
  t.equal(next.family, first.family);
  t.equal(next.digest, first.digest);

  const request = podSandboxRequest();
  const sandbox = ofPodSandbox(encode('RunPodSandboxRequest', request));
  request.config.metadata.attempt = 3;
  const bumped = ofPodSandbox(encode('RunPodSandboxRequest', request));
  t.not(bumped.key, sandbox.key);
  t.equal(bumped.family, sandbox.family);
  t.equal(bumped.digest, sandbox.digest);
});

t.test('another attempt of the pod sandbox leaves the container its key and is drift', async (t) => {
  const moved = ofContainer(changed(({ sandbox_config }) => Object.assign(sandbox_config.metadata, { attempt: 3 })));
  t.equal(moved.key, ofContainer(original).key);
  t.strictSame(driftOf(ofContainer(original).parts, moved.parts), ['sandbox_config.metadata.attempt']);
});

t.test('no value of the identity can pass for another one by holding a delimiter', async () => {
  const word = fc.string({
    minLength: 1,
    maxLength: 3,
    unit: fc.constantFrom('a', '"', ',', '\\', '_', '/', '\n', '\0', ']', '#', '0'),
  });
  const pod = fc.record({ namespace: word, name: word, uid: word, attempt: fc.nat(2) });
  const containerOf = fc.record({ pod, container: word, attempt: fc.nat(2) });
  const keys = ({ pod, container, attempt }: { pod: Fields; container: string; attempt: number }) => {
    const sandbox_config = { metadata: pod };
    const request = { pod_sandbox_id: 'p1', config: { metadata: { name: container, attempt } }, sandbox_config };
    const made = ofContainer(encode('CreateContainerRequest', request));
    const sandbox = ofPodSandbox(encode('RunPodSandboxRequest', { config: sandbox_config }));
    return [made.family, made.key, sandbox.family, sandbox.key];
  };
  const values = ({ pod, container, attempt }: { pod: Fields; container: string; attempt: number }) => {
    const sandbox = [pod.namespace, pod.name, pod.uid];
    const made = [...sandbox, container];
    return [made, [...made, attempt], sandbox, [...sandbox, pod.attempt]].map((list) => JSON.stringify(list));
  };
  fc.assert(
    fc.property(containerOf, containerOf, (a, b) => {
      const [valuesOfB, keysOfA, keysOfB] = [values(b), keys(a), keys(b)];
      const agree = values(a).every(
        (value, index) => (value === valuesOfB[index]) === (keysOfA[index] === keysOfB[index]),
      );
      return agree && new Set(keysOfA).size === 4;
    }),
    { numRuns: 300 },
  );
});

t.test('bytes shifted across a field boundary change the digest', async (t) => {
  const shifts: [string, Fields, Fields][] = [
    [
      'name and value',
      { envs: [{ key: 'AB', value: Buffer.from('C') }] },
      { envs: [{ key: 'A', value: Buffer.from('BC') }] },
    ],
    ['two arguments', { command: ['ab', 'c'] }, { command: ['a', 'bc'] }],
    ['one argument and two', { command: ['ab'] }, { command: ['a', 'b'] }],
    ['an empty argument', { command: ['a', ''] }, { command: ['a'] }],
    ['command and arguments', { command: ['a', 'b'] }, { command: ['a'], args: ['b'] }],
    ['key and value of a label', { labels: { ab: 'c' } }, { labels: { a: 'bc' } }],
    ['labels and annotations', { labels: { a: 'b' } }, { annotations: { a: 'b' } }],
    [
      'two mounts',
      { mounts: [{ container_path: 'a' }, { host_path: 'b' }] },
      { mounts: [{ container_path: 'a', host_path: 'b' }] },
    ],
  ];
  const digest = (config: Fields) =>
    ofContainer(
      encode('CreateContainerRequest', {
        ...containerRequest(),
        config: { metadata: { name: 'main' }, ...config },
      }),
    ).digest;
  for (const [what, one, other] of shifts) t.not(digest(one), digest(other), what);
});

t.test('one value that looks like the normal form of two is still one', async (t) => {
  const digest = (command: string[]) => ofContainer(changed(({ config }) => Object.assign(config, { command }))).digest;
  const two = digest(['a', 'b']);
  for (const length of ['\u0000', '\u0001']) t.not(digest([`a\0\0\0\0\u0001${length}\0\0\0b`]), two);
});

t.test('the random host path of the termination log is not drift, wherever it is mounted', async (t) => {
  const retry = (
    { config }: ReturnType<typeof containerRequest>,
    hostPath: string,
    containerPath: string,
    annotation?: string,
  ) => {
    config.mounts[2] = { container_path: containerPath, host_path: hostPath };
    const name = 'io.kubernetes.container.terminationMessagePath';
    if (annotation === undefined) delete config.annotations[name];
    else config.annotations[name] = annotation;
  };
  const same = (containerPath: string, annotation?: string) => {
    const digests = ['/one', '/two'].map(
      (hostPath) => ofContainer(changed((request) => retry(request, hostPath, containerPath, annotation))).digest,
    );
    return digests[0] === digests[1];
  };
  t.ok(same('/dev/termination-log', '/dev/termination-log'));
  t.ok(same('/dev/termination-log'), 'default where no annotation says');
  t.ok(same('/tmp/end', '/tmp/end'));
  t.ok(same('/tmp/end', 'tmp//end/'), 'the kubelet cleans the path for the mount, not for the annotation');
  t.notOk(same('/dev/termination-log', '/tmp/end'), 'a volume that happens to be mounted there');
  t.notOk(same('/tmp/end'));
  t.notOk(same('', ''));
});

t.test(
  'where a volume is mounted on the termination log too, only the last mount is the one the kubelet makes up',
  async (t) => {
    const print = (volume: string, log: string, readonly = false) =>
      ofContainer(
        changed(({ config }) => {
          config.mounts = [volume, log].map((host_path) => ({
            container_path: '/dev/termination-log',
            host_path,
            readonly,
          }));
        }),
      );
    const { digest, parts } = print('/volume', '/one');
    t.equal(print('/volume', '/two').digest, digest);
    t.strictSame(driftOf(parts, print('/other', '/one').parts), ['config.mounts[/dev/termination-log]']);
    t.strictSame(driftOf(parts, print('/volume', '/one', true).parts), ['config.mounts[/dev/termination-log]']);
  },
);

t.test('volatile annotations do not count, on the pod or the container; others do', async (t) => {
  const seen = 'kubernetes.io/config.seen';
  t.strictSame(
    containerDrift(({ config, sandbox_config }) => {
      sandbox_config.annotations[seen] = 'now';
      config.annotations[seen] = 'now';
    }),
    [],
  );
  const request = podSandboxRequest();
  const before = ofPodSandbox(encode('RunPodSandboxRequest', request));
  request.config.annotations[seen] = 'now';
  t.equal(ofPodSandbox(encode('RunPodSandboxRequest', request)).digest, before.digest);

  const none = { volatileAnnotations: new Set<string>() };
  const after = changed(({ sandbox_config }) => Object.assign(sandbox_config.annotations, { [seen]: 'now' }));
  t.strictSame(
    driftOf(printed(fingerprintContainer(original, none)).parts, printed(fingerprintContainer(after, none)).parts),
    [`sandbox_config.annotations[${seen}]`],
  );
});

t.test('an annotation counts as restart count in the container only', async (t) => {
  const name = 'io.kubernetes.container.restartCount';
  t.strictSame(
    containerDrift(({ sandbox_config }) => Object.assign(sandbox_config.annotations, { [name]: '1' })),
    [`sandbox_config.annotations[${name}]`],
  );
});

t.test('environment variables of one name keep their order, since the last one counts', async (t) => {
  const twice = (first: string, second: string) =>
    changed(({ config }) => {
      config.envs = [
        { key: 'A', value: Buffer.from(first) },
        { key: 'A', value: Buffer.from(second) },
      ];
    });
  t.not(ofContainer(twice('1', '2')).digest, ofContainer(twice('2', '1')).digest);
});

t.test('drift names everything that differs, and never a value', async (t) => {
  const drift = containerDrift(({ config, sandbox_config }) => {
    config.image = { image: 'other image' };
    config.envs = [{ key: 'TOKEN', value: Buffer.from('another secret') }, ...config.envs.slice(2)];
    config.command = ['other command'];
    config.mounts.splice(1, 1);
    config.linux = { ...config.linux, resources: { cpu_shares: 512, cpuset_cpus: '4-7' } };
    sandbox_config.labels.app = 'other label';
  });
  t.strictSame(drift.sort(), [
    'config.command',
    'config.envs[PATH]',
    'config.envs[TOKEN]',
    'config.image.image',
    'config.linux.resources.cpuset_cpus',
    'config.mounts[/etc/hosts]',
    'sandbox_config.labels[app]',
  ]);
});

t.test('another order of mounts is drift by the name of order', async (t) => {
  t.strictSame(
    containerDrift(({ config }) => void config.mounts.reverse()),
    ['order'],
  );
});

t.test('unknown fields count, by number, wherever they are', async (t) => {
  const base = ofContainer(original);
  const drift = (bytes: Buffer) => driftOf(base.parts, ofContainer(bytes).parts);
  const withUnknown = (fields: Buffer) => Buffer.concat([original, fields]);
  t.strictSame(drift(withUnknown(bytesField(99, 'new'))), ['#99']);
  t.strictSame(drift(withUnknown(bytesField(2, bytesField(99, 'new')))), ['config.#99']);
  t.strictSame(drift(withUnknown(Buffer.from('9b06' + '0801' + '9c06', 'hex'))), ['#99'], 'a group');
  t.strictSame(
    drift(withUnknown(Buffer.from('0801', 'hex'))),
    ['pod_sandbox_id'],
    'a known number with another wire type',
  );

  const typed = ['9806ffffff01', '9a0604ffffff01', '9d06ffffff01'].map((field) => Buffer.from(field, 'hex'));
  t.equal(new Set(typed.map((field) => ofContainer(withUnknown(field)).digest)).size, 3, 'the wire type counts');

  const order = (...values: string[]) =>
    ofContainer(withUnknown(Buffer.concat(values.map((each) => bytesField(99, each))))).digest;
  t.not(order('a', 'b'), order('b', 'a'), 'it may be a list');
  t.not(order('a', 'b'), order('ab'));
  const moved = [
    Buffer.concat([bytesField(99, 'a'), bytesField(98, 'b')]),
    Buffer.concat([bytesField(98, 'b'), bytesField(99, 'a')]),
  ];
  const [one, other] = moved.map((fields) => ofContainer(withUnknown(fields)).digest);
  t.equal(one, other, 'fields of different numbers have no order');
});

t.test('unknown fields inside a list element or map entry count', async (t) => {
  const extra = bytesField(99, 'new');
  const add = (field: Buffer) =>
    driftOf(base.parts, ofContainer(Buffer.concat([original, bytesField(2, field)])).parts);
  const base = ofContainer(original);
  t.strictSame(add(bytesField(6, Buffer.concat([bytesField(1, 'FOO'), extra]))), ['config.envs[FOO]']);
  const label = [bytesField(1, 'io.kubernetes.pod.name'), bytesField(2, 'web'), extra];
  t.strictSame(add(bytesField(9, Buffer.concat(label))), ['config.labels[io.kubernetes.pod.name]']);
});

t.test('encodings that mean the same have the same digest', async (t) => {
  const { digest } = ofContainer(original);
  const plus = (...fields: Buffer[]) => ofContainer(Buffer.concat([original, ...fields])).digest;
  t.equal(plus(bytesField(2, Buffer.from('6000', 'hex'))), digest, 'stdin: false is as good as absent');
  t.equal(plus(bytesField(2, bytesField(5, ''))), digest, 'working_dir: empty is as good as absent');
  t.equal(plus(bytesField(2, bytesField(15, ''))), digest, 'nothing merged into a message');
  t.equal(
    plus(bytesField(2, bytesField(15, bytesField(1, Buffer.from('188084808000', 'hex'))))),
    digest,
    'an overlong varint',
  );
  const stale = bytesField(
    2,
    bytesField(9, Buffer.concat([bytesField(1, 'io.kubernetes.pod.name'), bytesField(2, 'old')])),
  );
  t.equal(ofContainer(Buffer.concat([stale, original])).digest, digest, 'the last value of a map key counts');
  t.not(plus(stale), digest);
  const groups = (bytes: string) => plus(bytesField(2, bytesField(15, bytesField(2, Buffer.from(bytes, 'hex')))));
  t.equal(groups('4203010203'), groups('400140024003'), 'packed and unpacked lists');
  t.not(groups('4203010203'), groups('4203030201'));
});

t.test('an empty message is not the same as none: user 0 is not the image’s own user', async (t) => {
  const without = ({ config }: ReturnType<typeof containerRequest>) => {
    config.linux = { ...config.linux, security_context: { supplemental_groups: [1, 2000] } };
  };
  t.strictSame(containerDrift(without), ['config.linux.security_context.run_as_user']);
});

t.test('names in drift are short and printable', async (t) => {
  const drift = (key: string) => containerDrift(({ config }) => config.envs.push({ key, value: Buffer.from('v') }));
  t.strictSame(drift('A\u001b[31m\r\nB\u202e\u2028'), ['config.envs[A[31mB]']);
  for (const key of ['x'.repeat(5000), '💥'.repeat(2000)]) {
    const [name = '', ...rest] = drift(key);
    t.ok(name.length <= 128 && name.startsWith('config.envs['), `${name.length} characters`);
    t.notMatch(name, /\p{Cs}/u, 'no half of a character');
    t.strictSame(rest, []);
  }
});

t.test('names of a huge request stay bounded in number, and every change is still seen', async (t) => {
  const huge = (value: string) =>
    ofContainer(
      Buffer.concat([
        changed(({ config }) => {
          config.envs = Array.from({ length: 3000 }, (_, index) => ({ key: `E${index}`, value: Buffer.from(value) }));
        }),
        ...Array.from({ length: 3000 }, (_, index) => bytesField(1000 + index, value)),
      ]),
    ).parts;
  const drift = driftOf(huge('a'), huge('b'));
  t.ok(drift.length < 300, `${drift.length} names`);
  t.ok(drift.includes('config.envs'));
  t.ok(drift.includes('#*'));
});
