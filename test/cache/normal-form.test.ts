import t from 'tap';
import { type NormalMessage, normalBytes, parseMessage, TooLargeError } from '../../src/cache/normal-form.js';
import { type FieldSchema, type MessageSchema, messageSchema } from '../../src/cri/schema.js';
import { encodeVarint, WireError } from '../../src/cri/wire.js';
import { bytesField, changed, encode, type Fields, many, original } from './requests.js';

type FieldKind = Partial<Pick<FieldSchema, 'repeated' | 'map' | 'message'>>;

function schemaOf(name: string, fields: Record<number, [type: string, kind?: FieldKind]>): MessageSchema {
  const described = Object.entries(fields).map(([number, [type, kind]]): [number, FieldSchema] => [
    Number(number),
    { number: Number(number), name: `field_${number}`, type, message: undefined, repeated: false, map: false, ...kind },
  ]);
  return { name, fields: new Map(described) };
}

const singular = (type: string) => schemaOf('Singular', { 1: [type] });
const list = (type: string) => schemaOf('List', { 1: [type, { repeated: true }] });
const inner = schemaOf('Inner', { 1: ['string'], 2: ['int64'] });
const mapOf = (keyType: string, valueType = 'string') =>
  schemaOf('Map', { 1: ['message', { map: true, message: schemaOf('entry', { 1: [keyType], 2: [valueType] }) }] });
const messages = schemaOf('Messages', { 1: ['message', { repeated: true, message: inner }] });
const nested = schemaOf('Nested', { 1: ['message', { message: inner }] });

const hex = (digits: string) => Buffer.from(digits, 'hex');
const parse = (schema: MessageSchema, digits: string) => parseMessage(schema, hex(digits));
const bytesOf = (message: NormalMessage) => normalBytes(message).toString('hex');
const normal = (schema: MessageSchema, digits: string) => bytesOf(parse(schema, digits));

/** What the normal form has for a field. */
function record(number: number, kind: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const head = Buffer.alloc(9);
  head.writeUInt32LE(number);
  head.writeUInt8(kind, 4);
  head.writeUInt32LE(content.length, 5);
  return Buffer.concat([head, content]);
}

function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

const kinds = { number: 0, bytes: 1, numbers: 2, message: 3, unknown: 4 };

const everything = schemaOf('Everything', {
  1: ['int64'],
  2: ['string'],
  3: ['uint32', { repeated: true }],
  4: ['message', { message: nested }],
  5: ['message', { repeated: true, message: inner }],
  6: ['message', { map: true, message: schemaOf('entry', { 1: ['string'], 2: ['string'] }) }],
  10: ['double'],
});

/** Every kind of field, none where its number says. */
const jumbled = Buffer.concat([
  hex('9d0601020304'), // field 99, four bytes
  hex('51000000000000f03f'), // field 10
  bytesField(6, bytesField(1, 'b')),
  bytesField(5, bytesField(1, 'y')),
  hex('980605'), // field 99, a varint
  bytesField(4, bytesField(1, bytesField(1, 'x'))),
  bytesField(6, Buffer.concat([bytesField(1, 'a'), bytesField(2, 'v')])),
  hex('1a020102'), // field 3, packed
  bytesField(98, 'u'),
  bytesField(5, hex('1007')),
  bytesField(2, 'text'),
  hex('0807'), // field 1
]);

const records: readonly [path: string, key: string | undefined, record: Buffer][] = [
  ['1', undefined, record(1, kinds.number, uint64(7n))],
  ['2', undefined, record(2, kinds.bytes, Buffer.from('text'))],
  ['3', undefined, record(3, kinds.numbers, record(0, kinds.number, uint64(1n)), record(0, kinds.number, uint64(2n)))],
  ['4.1.1', undefined, record(1, kinds.bytes, Buffer.from('x'))],
  ['5', 'y', record(5, kinds.message, record(1, kinds.bytes, Buffer.from('y')))],
  ['5', '', record(5, kinds.message, record(2, kinds.number, uint64(7n)))],
  [
    '6',
    'a',
    record(6, kinds.message, record(1, kinds.bytes, Buffer.from('a')), record(2, kinds.bytes, Buffer.from('v'))),
  ],
  ['6', 'b', record(6, kinds.message, record(1, kinds.bytes, Buffer.from('b')))],
  ['10', undefined, record(10, kinds.bytes, hex('000000000000f03f'))],
  ['98', undefined, record(98, kinds.unknown + 2, Buffer.from('u'))],
  ['99', undefined, record(99, kinds.unknown + 5, hex('01020304'))],
  ['99', undefined, record(99, kinds.unknown + 0, hex('05'))],
];

t.test('the normal form is a record for each field, in order of field number, unknown ones last', async (t) => {
  const expected = records.map(([path, , bytes]) =>
    path === '4.1.1' ? record(4, kinds.message, record(1, kinds.message, bytes)) : bytes,
  );
  t.equal(bytesOf(parseMessage(everything, jumbled)), Buffer.concat(expected).toString('hex'));
  t.equal(normal(everything, ''), '');
});

/** What a visitor is told, with the bytes of the field. */
function visits(schema: MessageSchema, bytes: Buffer, named: string) {
  const told: [path: string, key: string | undefined, start: number, end: number][] = [];
  const written = normalBytes(
    parseMessage(schema, bytes),
    ({ name }) => (name === named ? 1 : undefined),
    (path, key, start, end) => told.push([path, key?.toString('latin1'), start, end]),
  );
  return told.map(([path, key, start, end]) => [path, key, written.subarray(start, end).toString('hex')]);
}

t.test('a visitor is told of each field, its key and its bytes', async (t) => {
  const expected = records.map(([path, key, bytes]) => [path, key, bytes.toString('hex')]);
  t.strictSame(visits(everything, jumbled, 'Inner'), expected);
  const unnamed = expected.map(([path, key, bytes]) => [path, path === '5' ? undefined : key, bytes]);
  t.strictSame(visits(everything, jumbled, 'Nested'), unnamed, 'elements of other lists have no key');
});

t.test('of a singular message a visitor is told only where it is empty', async (t) => {
  const told = (content: Buffer) => visits(everything, bytesField(4, content), 'Inner').map(([path]) => path);
  t.strictSame(told(Buffer.alloc(0)), ['4']);
  t.strictSame(told(bytesField(1, '')), ['4.1']);
  t.strictSame(told(bytesField(9, 'u')), ['4.9'], 'an unknown field is content');
  t.strictSame(told(bytesField(1, bytesField(9, 'u'))), ['4.1.9']);
});

t.test('of what is inside an element of a list or a map nobody is told', async (t) => {
  const entry = schemaOf('entry', { 1: ['string'], 2: ['message', { message: nested }] });
  const deep = schemaOf('Deep', {
    1: ['message', { repeated: true, message: everything }],
    2: ['message', { map: true, message: entry }],
  });
  const bytes = Buffer.concat([
    bytesField(1, jumbled),
    bytesField(1, bytesField(4, '')),
    bytesField(2, Buffer.concat([bytesField(1, 'k'), bytesField(2, bytesField(1, bytesField(1, 'x')))])),
  ]);
  t.strictSame(
    visits(deep, bytes, 'Inner').map(([path, key]) => [path, key]),
    [
      ['1', undefined],
      ['1', undefined],
      ['2', 'k'],
    ],
  );
});

t.test('a number is cut to the width of its type', async (t) => {
  const cases: [type: string, digits: string, value: bigint][] = [
    ['int32', '08ffffffff0f', 2n ** 64n - 1n],
    ['int32', '08ffffffffffffffffff01', 2n ** 64n - 1n],
    ['int32', '088580808010', 5n],
    ['uint32', '08ffffffff0f', 2n ** 32n - 1n],
    ['uint32', '08ffffffffffffffffff01', 2n ** 32n - 1n],
    ['uint32', '088580808010', 5n],
    ['sint32', '08ffffffff0f', 2n ** 32n - 1n],
    ['sint32', '088580808010', 5n],
    ['bool', '0801', 1n],
    ['bool', '0802', 1n],
    ['bool', '088080808010', 1n],
    ['int64', '08ffffffffffffffffff01', 2n ** 64n - 1n],
    ['int64', '088580808010', 2n ** 32n + 5n],
    ['uint64', '088580808010', 2n ** 32n + 5n],
    ['sint64', '088580808010', 2n ** 32n + 5n],
  ];
  for (const [type, digits, value] of cases)
    t.equal(parse(singular(type), digits).varint(1), value, `${type} ${digits}`);
  for (const type of ['int32', 'uint32', 'sint32', 'bool']) {
    const beyond = type === 'bool' ? '02' : '8580808010';
    const within = type === 'bool' ? '01' : '05';
    t.equal(normal(list(type), `08${beyond}`), normal(list(type), `08${within}`), `a list of ${type}`);
    const packed = bytesField(1, hex(beyond)).toString('hex');
    t.equal(normal(list(type), packed), normal(list(type), `08${within}`), `a packed list of ${type}`);
  }
});

/** Two values of a type, without their tags, and the default. */
const valuesOf: Record<string, { wireType: number; one: string; other: string; zero: string }> = {
  int32: { wireType: 0, one: '01', other: '8002', zero: '00' },
  int64: { wireType: 0, one: '01', other: '8002', zero: '00' },
  uint64: { wireType: 0, one: '01', other: '8002', zero: '8000' },
  bool: { wireType: 0, one: '01', other: '01', zero: '00' },
  double: { wireType: 1, one: '000000000000f03f', other: '0100000000000000', zero: '0000000000000000' },
  fixed64: { wireType: 1, one: '0100000000000000', other: '0000000000000001', zero: '0000000000000000' },
  sfixed64: { wireType: 1, one: '0100000000000000', other: '0000000000000001', zero: '0000000000000000' },
  float: { wireType: 5, one: '0000803f', other: '01000000', zero: '00000000' },
  fixed32: { wireType: 5, one: '01000000', other: '00000001', zero: '00000000' },
  sfixed32: { wireType: 5, one: '01000000', other: '00000001', zero: '00000000' },
};

for (const [type, { wireType, one, other, zero }] of Object.entries(valuesOf)) {
  const tag = encodeVarint(8 + wireType).toString('hex');

  t.test(`${type}: the last value counts, and the default is as good as none`, async (t) => {
    t.equal(parse(singular(type), `${tag}${one}`).fields.size, 1);
    t.equal(parse(singular(type), `${tag}${other}`).fields.size, 1);
    t.equal(parse(singular(type), `${tag}${zero}`).fields.size, 0);
    t.equal(parse(singular(type), `${tag}${one}${tag}${zero}`).fields.size, 0);
    t.equal(normal(singular(type), `${tag}${one}${tag}${other}`), normal(singular(type), `${tag}${other}`));
    t.strictSame(parse(singular(type), `${tag}${one}`).unknown, []);
  });

  t.test(`${type}: a list is the same packed or not, and a default is an element of it`, async (t) => {
    const values = [one, zero, other];
    const unpacked = values.map((value) => `${tag}${value}`).join('');
    const packed = bytesField(1, hex(values.join(''))).toString('hex');
    t.equal(normal(list(type), packed), normal(list(type), unpacked));
    const inParts = Buffer.concat([bytesField(1, hex(one)), hex(`${tag}${zero}`), bytesField(1, hex(other))]);
    t.equal(normal(list(type), inParts.toString('hex')), normal(list(type), unpacked));
    t.not(normal(list(type), `${tag}${one}`), normal(list(type), unpacked));
    t.not(normal(list(type), `${tag}${zero}`), '');
    t.equal(parse(list(type), '0a00').fields.size, 0, 'an empty one is none');
    t.strictSame(parse(list(type), packed + unpacked).unknown, []);
    const cut = bytesField(1, hex(one + other).subarray(0, -1)).toString('hex');
    if (type !== 'bool') t.throws(() => parse(list(type), cut), WireError);
  });

  t.test(`${type}: with another wire type it is unknown`, async (t) => {
    const others = { 0: '0801', 1: '090000000000000001', 2: '0a0101', 5: '0d00000001' };
    for (const [wrong, field] of Object.entries(others)) {
      if (Number(wrong) === wireType) continue;
      const { fields, unknown } = parse(singular(type), field);
      t.strictSame([fields.size, unknown.map(({ number, wireType }) => [number, wireType])], [0, [[1, Number(wrong)]]]);
      if (wrong === '2') continue;
      t.strictSame(parse(list(type), field).unknown.length, 1, 'in a list, too');
    }
  });
}

t.test('a packed list that is cut short says where', async (t) => {
  t.throws(() => parse(list('fixed32'), '0a0501000000ff'), { name: 'WireError', message: 'cut short at byte 5' });
});

t.test('a text or bytes of zeros is not the default, an empty one is', async (t) => {
  for (const type of ['string', 'bytes']) {
    t.equal(parse(singular(type), '0a0100').bytes(1).toString('hex'), '00');
    t.equal(parse(singular(type), '0a01000a00').fields.size, 0);
    t.equal(parse(singular(type), '0a00').fields.size, 0);
    t.not(normal(list(type), '0a00'), '', 'an empty element is one');
    t.strictSame(parse(singular(type), '0801').unknown, [{ number: 1, wireType: 0, value: hex('01') }]);
    t.strictSame(parse(list(type), '0801').unknown.length, 1);
  }
});

t.test('a message with another wire type, and a field that the schema does not have, are unknown', async (t) => {
  for (const schema of [nested, messages, mapOf('string')]) {
    const { fields, unknown } = parse(schema, '0801' + '9a0601ff');
    t.equal(fields.size, 0);
    t.strictSame(unknown, [
      { number: 1, wireType: 0, value: hex('01') },
      { number: 99, wireType: 2, value: hex('ff') },
    ]);
  }
  t.strictSame(parse(nested, '9b06' + '0801' + '9c06').unknown, [{ number: 99, wireType: 3, value: hex('0801') }]);
});

t.test('unknown fields of one number keep their order, others have none', async (t) => {
  const [a, b] = [bytesField(99, 'a').toString('hex'), bytesField(98, 'b').toString('hex')];
  t.equal(normal(inner, a + b), normal(inner, b + a));
  const c = bytesField(99, 'c').toString('hex');
  t.not(normal(inner, a + c), normal(inner, c + a));
});

t.test('parts of a singular message merge', async (t) => {
  const part = (content: string) => bytesField(1, hex(content)).toString('hex');
  const whole = normal(nested, part('0a0161' + '1005'));
  t.equal(normal(nested, part('0a0161') + part('1005')), whole);
  t.equal(normal(nested, part('1005') + part('') + part('0a0162' + '0a0161')), whole);
  t.not(normal(nested, part('0a0161')), whole);
  t.not(normal(nested, part('')), '', 'an empty one is one');
});

t.test('the last value of a map’s key counts, in an order of its own', async (t) => {
  const entry = (key: string, value: string) =>
    bytesField(1, Buffer.concat([bytesField(1, key), bytesField(2, value)])).toString('hex');
  const map = mapOf('string');
  const both = parse(map, entry('a', '1') + entry('b', '2'));
  t.equal(both.entry(1, 'a')?.toString(), '1');
  t.equal(both.entry(1, 'b')?.toString(), '2');
  t.equal(both.entry(1, 'c'), undefined);
  t.equal(normal(map, entry('b', '2') + entry('a', '0') + entry('a', '1')), bytesOf(both));
  t.not(normal(map, entry('a', '1') + entry('b', '2') + entry('a', '0')), bytesOf(both));
  t.equal(parse(map, entry('é', '1')).entry(1, 'é')?.toString(), '1');
  t.equal(
    parse(map, bytesField(1, bytesField(2, 'v')).toString('hex'))
      .entry(1, '')
      ?.toString(),
    'v',
    'no key is ""',
  );
  const bytes = ['ff', 'fe'].map((key) => bytesField(1, bytesField(1, hex(key))).toString('hex'));
  t.equal(parse(map, bytes.join('')).fields.size, 1);
  t.not(normal(map, bytes.join('')), normal(map, bytes[0] ?? ''), 'keys that are no text are told apart');
});

t.test('keys of a map may be numbers', async (t) => {
  const map = mapOf('int32', 'int64');
  const entry = (content: string) => bytesField(1, hex(content)).toString('hex');
  const keys = (digits: string) => {
    const field = parse(map, digits).fields.get(1);
    return field?.kind === 'map' ? [...field.entries.keys()] : [];
  };
  t.strictSame(keys(entry('0805' + '1001') + entry('0807') + entry('0805' + '1002')), ['5', '7']);
  t.strictSame(keys(entry('')), ['']);
});

t.test('absent fields, and those of another kind, read as nothing', async (t) => {
  const message = parseMessage(everything, jumbled);
  const empty = Buffer.alloc(0);
  for (const number of [1, 3, 4, 5, 6, 7]) t.strictSame(message.bytes(number), empty, `bytes of ${number}`);
  for (const number of [2, 3, 4, 5, 6, 7, 10]) t.equal(message.varint(number), 0n, `number ${number}`);
  for (const number of [1, 2, 3, 5, 6, 7]) t.equal(message.message(number), undefined, `message ${number}`);
  for (const number of [1, 2, 3, 4, 6, 7]) t.strictSame(message.messages(number), [], `messages of ${number}`);
  for (const number of [1, 2, 3, 4, 5, 7]) t.equal(message.entry(number, 'a'), undefined, `entry of ${number}`);
  t.equal(message.bytes(2).toString(), 'text');
  t.equal(message.varint(1), 7n);
  t.equal(message.message(4)?.message(1)?.bytes(1).toString(), 'x');
  t.strictSame(
    message.messages(5).map((each) => each.bytes(1).toString()),
    ['y', ''],
  );
});

t.test('what is dropped is as if it had never been there', async (t) => {
  const message = parseMessage(everything, jumbled);
  for (const number of [1, 2, 3, 4, 5, 10]) message.drop(number);
  for (const number of [5, 7]) message.dropEntry(number, 'a');
  message.dropEntry(6, 'c');
  const left = records.filter(([path]) => ['6', '98', '99'].includes(path)).map(([, , bytes]) => bytes);
  t.equal(bytesOf(message), Buffer.concat(left).toString('hex'));
  message.dropEntry(6, 'a');
  t.equal(bytesOf(message), Buffer.concat(left.slice(1)).toString('hex'));
  message.dropEntry(6, 'b');
  t.equal(bytesOf(message), Buffer.concat(left.slice(2)).toString('hex'), 'the last entry, and with it the map');
});

t.test('only an entry of a map is dropped by a key', async (t) => {
  const message = parseMessage(everything, jumbled);
  const before = bytesOf(message);
  for (const number of [1, 2, 3, 4, 5, 7, 10]) message.dropEntry(number, 'a');
  t.equal(bytesOf(message), before);
});

t.test('a list of messages is sorted by the bytes of one field, equal ones keep their order', async (t) => {
  const element = (key: string, value: number) =>
    bytesField(1, Buffer.concat([bytesField(1, hex(key)), hex('10'), encodeVarint(value)]));
  const sorted = (...elements: Buffer[]) => {
    const message = parseMessage(messages, Buffer.concat(elements));
    message.sortMessages(1, 1);
    return message.messages(1).map((each) => [each.bytes(1).toString('hex'), each.varint(2)]);
  };
  t.strictSame(sorted(element('ff', 1), element('61', 2), element('61', 1), element('', 9), element('6100', 3)), [
    ['', 9n],
    ['61', 2n],
    ['61', 1n],
    ['6100', 3n],
    ['ff', 1n],
  ]);
});

t.test('what is no list of messages is not sorted', async (t) => {
  const message = parseMessage(everything, jumbled);
  const before = bytesOf(message);
  for (const number of [1, 2, 3, 4, 6, 7, 10]) message.sortMessages(number, 1);
  t.equal(bytesOf(message), before);
});

t.test('up to 65,536 fields are parsed, wherever they are', async (t) => {
  const tooMany = { name: 'TooLargeError', message: 'more than 65536 fields' };
  const fits = (schema: MessageSchema, bytes: (count: number) => Buffer, count: number) => {
    t.ok(parseMessage(schema, bytes(count)));
    t.throws(() => parseMessage(schema, bytes(count + 1)), tooMany);
    t.throws(() => parseMessage(schema, bytes(count + 1)), TooLargeError);
  };
  fits(inner, many, 65_536);
  fits(nested, (count) => bytesField(1, many(count)), 65_535);
  fits(messages, (count) => bytesField(1, many(count)), 65_535);
  fits(mapOf('string'), (count) => bytesField(1, many(count)), 65_535);
  for (const type of ['bool', 'fixed32']) {
    const bytes = type === 'bool' ? 1 : 4;
    fits(list(type), (count) => bytesField(1, Buffer.alloc(count * bytes)), 65_535);
  }
});

t.test('what is malformed, wherever it is, is no message', async (t) => {
  t.throws(() => parse(inner, '0a05'), WireError);
  for (const schema of [nested, messages, mapOf('string')]) t.throws(() => parse(schema, '0a02' + '0a05'), WireError);
  t.throws(() => parse(list('int64'), '0a0180'), WireError, 'a packed varint cut short');
});

t.test('records are whole however long the message is', async (t) => {
  const rest = Buffer.concat([
    bytesField(4, bytesField(1, hex('1005'))),
    bytesField(5, ''),
    hex('51000000000000f03f'),
    bytesField(98, ''),
    bytesField(99, 'unknown'),
  ]);
  const restNormal = Buffer.from(normalBytes(parseMessage(everything, rest)));
  const wrong: number[] = [];
  const lengths = Array.from({ length: 150 }, (_, index) => 16_384 - 150 + index);
  for (const length of [...lengths, 32_768, 32_769, 40_000, 70_001, 200_000]) {
    const text = Buffer.alloc(length, 'x');
    const written = normalBytes(parseMessage(everything, Buffer.concat([bytesField(2, text), rest])));
    const expected = Buffer.concat([record(2, kinds.bytes, text), restNormal]);
    if (!written.equals(expected)) wrong.push(length);
  }
  t.strictSame(wrong, []);
});

t.test('messages of up to 16 KiB are written to the same memory, larger ones to their own', async (t) => {
  const written = (length: number) => normalBytes(parseMessage(inner, bytesField(1, Buffer.alloc(length, 'x'))));
  const [small, full, large] = [written(1), written(16_384 - 9), written(16_384 - 8)];
  t.equal(full.length, 16_384);
  t.equal(full.buffer, small.buffer);
  t.not(large.buffer, small.buffer);
  t.equal(written(1).buffer, small.buffer, 'and after a large one again');
});

const normalOf = (bytes: Buffer) => bytesOf(parseMessage(messageSchema('CreateContainerRequest'), bytes));

t.test('bytes shifted across a field boundary change the normal form', async (t) => {
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
  const normal = (config: Fields) => normalOf(encode('CreateContainerRequest', { config }));
  for (const [what, one, other] of shifts) t.not(normal(one), normal(other), what);
});

t.test('one value that looks like the normal form of two is still one', async (t) => {
  const normal = (command: string[]) => normalOf(changed(({ config }) => Object.assign(config, { command })));
  const two = normal(['a', 'b']);
  for (const length of ['\u0000', '\u0001']) t.not(normal([`a\0\0\0\0\u0001${length}\0\0\0b`]), two);
});

t.test('encodings that mean the same have the same normal form', async (t) => {
  const normal = normalOf(original);
  const plus = (...fields: Buffer[]) => normalOf(Buffer.concat([original, ...fields]));
  t.equal(plus(bytesField(2, Buffer.from('6000', 'hex'))), normal, 'stdin: false is as good as absent');
  t.equal(plus(bytesField(2, bytesField(5, ''))), normal, 'working_dir: empty is as good as absent');
  t.equal(plus(bytesField(2, bytesField(15, ''))), normal, 'nothing merged into a message');
  t.equal(
    plus(bytesField(2, bytesField(15, bytesField(1, Buffer.from('188084808000', 'hex'))))),
    normal,
    'an overlong varint',
  );
  const stale = bytesField(
    2,
    bytesField(9, Buffer.concat([bytesField(1, 'io.kubernetes.pod.name'), bytesField(2, 'old')])),
  );
  t.equal(normalOf(Buffer.concat([stale, original])), normal, 'the last value of a map key counts');
  t.not(plus(stale), normal);
  const groups = (bytes: string) => plus(bytesField(2, bytesField(15, bytesField(2, Buffer.from(bytes, 'hex')))));
  t.equal(groups('4203010203'), groups('400140024003'), 'packed and unpacked lists');
  t.not(groups('4203010203'), groups('4203030201'));
});

t.test('a message whose last entry was dropped is empty', (t) => {
  const labels = mapOf('string');
  const outer = schemaOf('Outer', { 1: ['message', { message: labels }] });
  const entry = (key: string) => bytesField(1, bytesField(1, bytesField(1, key)));
  const told = (...dropped: string[]) => {
    const message = parseMessage(outer, Buffer.concat([entry('a'), entry('b')]));
    for (const key of dropped) message.message(1)?.dropEntry(1, key);
    const paths: string[] = [];
    normalBytes(message, undefined, (path) => paths.push(path));
    return paths;
  };
  t.strictSame(told('a'), ['1.1']);
  t.strictSame(told('a', 'b'), ['1']);
  t.end();
});

t.test('a visitor is told of the key of an entry in UTF-8', (t) => {
  const keys: (string | undefined)[] = [];
  const message = parseMessage(mapOf('string'), bytesField(1, bytesField(1, 'größe')));
  normalBytes(message, undefined, (_, key) => keys.push(key?.toString()));
  t.strictSame(keys, ['größe']);
  t.end();
});
