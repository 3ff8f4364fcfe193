import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { driftOf, hasDrifted, type Parts, partsOf, unknownParts } from '../../src/cache/drift.js';
import { NormalMessage, parseMessage } from '../../src/cache/normal-form.js';
import { type FieldSchema, type MessageSchema, messageSchema } from '../../src/cri/schema.js';
import { bytesField, changed, type containerRequest, many, original } from './requests.js';

const partsIn = (schema: MessageSchema, bytes: Buffer) => partsOf(parseMessage(schema, bytes));
const parts = (bytes: Buffer) => partsIn(messageSchema('CreateContainerRequest'), bytes);

/** How `bytes` differ from the original request. */
const driftTo = (bytes: Buffer) => driftOf(parts(original), parts(bytes));
const driftBy = (change: (request: ReturnType<typeof containerRequest>) => void) => driftTo(changed(change));
const driftPlus = (...fields: Buffer[]) => driftTo(Buffer.concat([original, ...fields]));

const env = (key: string) => bytesField(2, bytesField(6, bytesField(1, key)));

/** The names of what `fields` are, in their order. */
function namesOf({ nameRuns }: Parts): string[] {
  return nameRuns.flatMap((run) => run.split('\n'));
}

t.test('requests have drifted where both have a digest and the digests differ', async (t) => {
  const drifted = (previous: string, next: string) => hasDrifted({ digest: previous }, { digest: next });
  t.ok(drifted('a', 'b'));
  t.notOk(drifted('a', 'a'));
  t.notOk(drifted('', 'b'));
  t.notOk(drifted('a', ''));
  t.notOk(drifted('', ''));
});

t.test('of a request without a normal form nothing is known to differ', async (t) => {
  const unknown = unknownParts('CreateContainerRequest');
  t.strictSame(unknown, { message: 'CreateContainerRequest', digest: '', nameRuns: [], hashes: '' });
  t.strictSame(driftOf(parts(original), unknown), []);
  t.strictSame(driftOf(unknown, parts(original)), []);
});

t.test('parts are the name of the message, its digest, runs of names and four characters for each', async (t) => {
  const known = parts(original);
  t.equal(known.message, 'CreateContainerRequest');
  t.match(known.digest, /^[0-9a-f]{64}$/);
  t.strictSame(known, parts(Buffer.from(original)));
  t.not(parts(env('')).digest, known.digest);
  t.equal(known.hashes.length, 4 * namesOf(known).length);
  t.match(known.hashes, /^[\0-\xff]+$/);
  const hashes = namesOf(known).map((_, index) => known.hashes.slice(4 * index, 4 * index + 4));
  t.equal(new Set(hashes).size, hashes.length);
});

t.test('a run of names is a list or a map, or what stands between two of them', async (t) => {
  const names = (...fields: Buffer[]) => parts(Buffer.concat(fields)).nameRuns;
  const config = (...fields: Buffer[]) => bytesField(2, Buffer.concat(fields));
  const mount = bytesField(7, bytesField(1, '/a'));
  const label = bytesField(9, bytesField(1, 'l'));
  t.strictSame(names(), []);
  t.strictSame(names(bytesField(1, 'id'), config(bytesField(5, '/dir'))), ['1\n2.5']);
  t.strictSame(names(config(bytesField(3, 'c'), bytesField(11, 'l')), env('A'), env('B'), config(mount, label)), [
    '2.3',
    '2.6:A\n2.6:B',
    '2.7:/a',
    '2.9:l',
    '2.11',
  ]);
  t.strictSame(names(env('A:B'), env('')), ['2.6:A:B\n2.6:'], 'a list may be the first');
});

t.test('nothing differs between two encodings of one request', async (t) => {
  t.strictSame(driftPlus(bytesField(2, Buffer.from('6000', 'hex'))), []);
  t.strictSame(driftTo(Buffer.from(original)), []);
});

t.test('drift names everything that differs, and never a value', async (t) => {
  const drift = driftBy(({ config, sandbox_config }) => {
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

t.test('what has one name together and stays the same is not named where something else differs', async (t) => {
  const many = (image: string) =>
    parts(
      changed(({ config }) => {
        config.image = { image };
        config.envs = Array.from({ length: 3000 }, (_, index) => ({ key: `E${index}`, value: Buffer.from('v') }));
      }),
    );
  t.strictSame(driftOf(many('one'), many('other')), ['config.image.image']);
});

t.test('another order of mounts is drift by the name of order', async (t) => {
  t.strictSame(
    driftBy(({ config }) => void config.mounts.reverse()),
    ['order'],
  );
});

t.test('an empty message is not the same as none: user 0 is not the image’s own user', async (t) => {
  const without = ({ config }: ReturnType<typeof containerRequest>) => {
    config.linux = { ...config.linux, security_context: { supplemental_groups: [1, 2000] } };
  };
  t.strictSame(driftBy(without), ['config.linux.security_context.run_as_user']);
});

t.test('names in drift are short and printable', async (t) => {
  const drift = (key: string) => driftBy(({ config }) => config.envs.push({ key, value: Buffer.from('v') }));
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
    parts(
      Buffer.concat([
        changed(({ config }) => {
          config.envs = Array.from({ length: 3000 }, (_, index) => ({ key: `E${index}`, value: Buffer.from(value) }));
        }),
        ...Array.from({ length: 3000 }, (_, index) => bytesField(1000 + index, value)),
      ]),
    );
  const drift = driftOf(huge('a'), huge('b'));
  t.ok(drift.length < 300, `${drift.length} names`);
  t.ok(drift.includes('config.envs'));
  t.ok(drift.includes('#*'));
});

t.test('unknown fields are named by number, wherever they are', async (t) => {
  t.strictSame(driftPlus(bytesField(99, 'new')), ['#99']);
  t.strictSame(driftPlus(bytesField(2, bytesField(99, 'new'))), ['config.#99']);
  t.strictSame(driftPlus(Buffer.from('9b06' + '0801' + '9c06', 'hex')), ['#99'], 'a group');
  t.strictSame(driftPlus(Buffer.from('0801', 'hex')), ['pod_sandbox_id'], 'a known number with another wire type');
});

t.test('what is unknown inside an element of a list or a map has the name of the element', async (t) => {
  const extra = bytesField(99, 'new');
  const add = (field: Buffer) => driftPlus(bytesField(2, field));
  t.strictSame(add(bytesField(6, Buffer.concat([bytesField(1, 'FOO'), extra]))), ['config.envs[FOO]']);
  const label = [bytesField(1, 'io.kubernetes.pod.name'), bytesField(2, 'web'), extra];
  t.strictSame(add(bytesField(9, Buffer.concat(label))), ['config.labels[io.kubernetes.pod.name]']);
});

t.test('what is inside a message that was or gets empty is named without the message', async (t) => {
  const user = (value: number) =>
    changed(({ config }) => {
      config.linux = { ...config.linux, security_context: { supplemental_groups: [1, 2000], run_as_user: { value } } };
    });
  const name = ['config.linux.security_context.run_as_user.value'];
  t.strictSame(driftOf(parts(user(0)), parts(user(7))), name);
  t.strictSame(driftOf(parts(user(7)), parts(user(0))), name);
  t.strictSame(driftOf(parts(user(7)), parts(user(8))), name);
});

t.test('what is there in only one of two requests is named, whichever it is', async (t) => {
  const more = Buffer.concat([original, env('MORE')]);
  t.strictSame(driftOf(parts(original), parts(more)), ['config.envs[MORE]']);
  t.strictSame(driftOf(parts(more), parts(original)), ['config.envs[MORE]']);
});

t.test('elements of a list that have no name share that of the list', async (t) => {
  t.strictSame(
    driftBy(({ config }) => void Object.assign(config, { command: ['/bin/app', 'other'] })),
    ['config.command'],
  );
  const classes = ['a', 'b', 'c'].map((each) => bytesField(2, bytesField(14, bytesField(99, each))));
  t.strictSame(driftOf(parts(Buffer.concat(classes)), parts(Buffer.concat(classes.toReversed()))), ['config.tty']);
});

t.test('mounts, devices, CDI devices and huge page limits are named by their first field', async (t) => {
  const config = (field: number, content: Buffer) => driftPlus(bytesField(2, bytesField(field, content)));
  t.strictSame(config(6, bytesField(1, 'E')), ['config.envs[E]']);
  t.strictSame(config(7, bytesField(1, '/m')), ['config.mounts[/m]']);
  t.strictSame(config(8, bytesField(1, '/d')), ['config.devices[/d]']);
  t.strictSame(config(17, bytesField(1, 'gpu')), ['config.CDI_devices[gpu]']);
  t.strictSame(config(15, bytesField(1, bytesField(8, bytesField(1, '2Mi')))), [
    'config.linux.resources.hugepage_limits[2Mi]',
  ]);
  t.strictSame(config(7, bytesField(2, '/host')), ['config.mounts[]'], 'without a name of its own');
  t.strictSame(config(6, bytesField(1, 'a:b.c[d]')), ['config.envs[a:b.c[d]]']);
});

t.test('elements with one name have one name in drift', async (t) => {
  const mounts = (...hosts: string[]) =>
    parts(
      Buffer.concat(
        hosts.map((host) => bytesField(2, bytesField(7, Buffer.concat([bytesField(1, '/m'), bytesField(2, host)])))),
      ),
    );
  for (const other of [mounts('a', 'c'), mounts('c', 'b'), mounts('a'), mounts('b', 'a'), mounts('a', 'b', 'b')]) {
    t.strictSame(driftOf(mounts('a', 'b'), other), ['config.mounts[/m]']);
    t.strictSame(driftOf(other, mounts('a', 'b')), ['config.mounts[/m]']);
  }
});

t.test('names of lists and maps of more than 256 entries are bounded, each by itself', async (t) => {
  const envs = (count: number) => Buffer.concat(Array.from({ length: count }, (_, index) => env(`E${index}`)));
  const own = Array.from({ length: 256 }, (_, index) => `2.6:E${index}`);
  t.strictSame(namesOf(parts(envs(256))), own);
  t.strictSame(namesOf(parts(envs(257))), [...own, '2.6']);
  t.strictSame(namesOf(parts(envs(300))), [...own, '2.6']);
  t.strictSame(namesOf(parts(Buffer.concat([envs(256), bytesField(2, bytesField(7, bytesField(1, '/m')))]))), [
    ...own,
    '2.7:/m',
  ]);
  t.strictSame(driftOf(parts(envs(299)), parts(envs(300))), ['config.envs']);
});

t.test('names of more than 16 unknown fields of one message are bounded, each message by itself', async (t) => {
  const unknown = (from: number, count: number) =>
    Buffer.concat(Array.from({ length: count }, (_, index) => bytesField(from + index, 'x')));
  const named = (prefix: string, from: number, count: number) =>
    Array.from({ length: count }, (_, index) => `${prefix}${from + index}`);
  t.strictSame(namesOf(parts(unknown(100, 16))), named('', 100, 16));
  t.strictSame(namesOf(parts(unknown(100, 17))), [...named('', 100, 16), '*']);
  t.strictSame(namesOf(parts(unknown(100, 20))), [...named('', 100, 16), '*']);
  t.strictSame(namesOf(parts(Buffer.concat([bytesField(2, unknown(100, 17)), unknown(100, 16)]))), [
    ...named('2.', 100, 16),
    '2.*',
    ...named('', 100, 16),
  ]);
  t.strictSame(namesOf(parts(Buffer.concat([many(100), unknown(100, 15)]))), ['99', ...named('', 100, 15)]);
  const [one, other] = [unknown(100, 20), Buffer.concat([unknown(100, 19), bytesField(119, 'y')])];
  t.strictSame(driftOf(parts(one), parts(other)), ['#*']);
  t.strictSame(driftOf(parts(bytesField(2, one)), parts(bytesField(2, other))), ['config.#*']);
});

t.test('fields of the schema all have a name of their own', async (t) => {
  const numbers = Array.from({ length: 40 }, (_, index) => index + 1);
  const field = (number: number, message?: MessageSchema): FieldSchema => ({
    ...{ number, name: `f${number}`, type: message === undefined ? 'string' : 'message', message },
    ...{ repeated: false, map: false },
  });
  const wide = { name: 'Wide', fields: new Map(numbers.map((number) => [number, field(number)])) };
  const outer = { name: 'Outer', fields: new Map([[7, field(7, wide)]]) };
  const all = Buffer.concat(numbers.map((number) => bytesField(number, 'x')));
  t.strictSame(namesOf(partsIn(wide, all)), numbers.map(String));
  t.strictSame(
    namesOf(partsIn(outer, bytesField(7, Buffer.concat([all, bytesField(50, 'x')])))),
    [...numbers, 50].map((number) => `7.${number}`),
  );
});

t.test('a name of up to 128 characters is whole, a longer one ends with an ellipsis', async (t) => {
  const [fits] = driftPlus(env('x'.repeat(115)));
  t.equal(fits, `config.envs[${'x'.repeat(115)}]`);
  t.equal(fits?.length, 128);
  const [clipped] = driftPlus(env('x'.repeat(116)));
  t.equal(clipped, `config.envs[${'x'.repeat(115)}…`);
  t.equal(clipped?.length, 128);
  const [whole] = driftPlus(env(`${'x'.repeat(113)}💥${'x'.repeat(9)}`));
  t.equal(whole, `config.envs[${'x'.repeat(113)}💥…`, 'a character of two halves that fits');
  const [half] = driftPlus(env(`${'x'.repeat(114)}💥${'x'.repeat(9)}`));
  t.equal(half, `config.envs[${'x'.repeat(114)}…`, 'and one that does not');
});

t.test('long names that look the same are one', async (t) => {
  const key = 'x'.repeat(120);
  t.strictSame(driftPlus(env(`${key}1`), env(`${key}2`)), [`config.envs[${'x'.repeat(115)}…`]);
});

t.test('of a long key no more than 128 bytes are kept', async (t) => {
  t.strictSame(namesOf(parts(env('x'.repeat(5000)))), [`2.6:${'x'.repeat(128)}`]);
});

t.test('control, format and unassigned characters and separators of lines are not in a name', async (t) => {
  for (const character of ['\0', '\n', '\u007f', '\u200e', '\u{e0001}', '\u0378', '\u2028', '\u2029', '\ue000']) {
    t.strictSame(driftPlus(env(`A${character}B${character}`)), ['config.envs[AB]']);
  }
  t.strictSame(driftPlus(env('ä – 漢\u00a0💥')), ['config.envs[ä – 漢\u00a0💥]']);
});

t.test('an empty message has parts, too', async (t) => {
  const empty = partsOf(new NormalMessage(messageSchema('CreateContainerRequest')));
  t.strictSame([empty.nameRuns, empty.hashes], [[], '']);
  t.strictSame(driftOf(empty, parts(bytesField(1, 'p'))), ['pod_sandbox_id']);
});

// What is kept of many requests.

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** Bytes that `count` parts take more than the first of them. */
function bytesKept(count: number, make: (index: number) => Parts): number {
  const kept = [make(0)];
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  for (let index = 1; index < count; index++) kept.push(make(index));
  collectGarbage();
  const bytes = process.memoryUsage().heapUsed - before;
  return kept.length === count ? bytes : Number.NaN;
}

/** Names of 16 KB together. */
const manyNames = (prefix: string) =>
  Buffer.concat(Array.from({ length: 128 }, (_, index) => env(`${prefix}_${index}`.padEnd(120, 'x'))));

t.test('names that many requests have in common are kept once, also after many others', async (t) => {
  const common = manyNames('COMMON');
  for (const when of ['first', 'after others']) {
    const bytes = bytesKept(60, () => parts(common));
    t.ok(bytes < 500_000, `${when}: ${bytes} bytes instead of ${60 * 16_000}`);
    for (let index = 0; index < 70; index++) parts(manyNames(`${when} ${index}`));
  }
});

t.test('once a million characters of names are kept, others take their place', async (t) => {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  for (let index = 0; index < 150; index++) parts(manyNames(`OTHER ${index}`));
  collectGarbage();
  const bytes = process.memoryUsage().heapUsed - before;
  t.ok(bytes < 1_000_000, `${bytes} bytes instead of ${150 * 16_000}`);
});
