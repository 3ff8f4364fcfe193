import fc from 'fast-check';
import t from 'tap';
import { driftOf, type Fingerprint, fingerprintContainer, fingerprintPodSandbox } from '../../src/cache/fingerprint.js';
import { type FieldSchema, type MessageSchema, messageSchema } from '../../src/cri/schema.js';
import { FieldCursor } from '../../src/cri/wire.js';
import {
  bytesField,
  containerRequest,
  encode,
  type Fields,
  options,
  original,
  podSandboxRequest,
  printed,
  tooMany,
} from './requests.js';

type RequestName = 'RunPodSandboxRequest' | 'CreateContainerRequest';

const ofContainer = (bytes: Buffer) => printed(fingerprintContainer(bytes, options));
const ofPodSandbox = (bytes: Buffer) => printed(fingerprintPodSandbox(bytes, options));
const fingerprintOf = (type: RequestName, bytes: Buffer): Fingerprint =>
  type === 'RunPodSandboxRequest' ? ofPodSandbox(bytes) : ofContainer(bytes);

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
