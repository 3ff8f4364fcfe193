import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import {
  encodeVarint,
  FieldCursor,
  lastBytes,
  lastVarint,
  mergedMessage,
  readVarint,
  WireError,
} from '../../src/cri/wire.js';

interface Field {
  number: number;
  wireType: number;
  value: string;
}

const tag = (number: number, wireType: number) => encodeVarint(number * 8 + wireType);

function encode({ number, wireType, value }: Field): Buffer {
  const bytes = Buffer.from(value, 'hex');
  const length = wireType === 2 ? encodeVarint(bytes.length) : Buffer.alloc(0);
  const end = wireType === 3 ? tag(number, 4) : Buffer.alloc(0);
  return Buffer.concat([tag(number, wireType), length, bytes, end]);
}

function readAll(message: Buffer): Field[] {
  const fields: Field[] = [];
  const cursor = new FieldCursor(message);
  while (cursor.next()) {
    fields.push({ number: cursor.number, wireType: cursor.wireType, value: cursor.value.toString('hex') });
  }
  return fields;
}

const hex = (constraints: fc.IntArrayConstraints) =>
  fc.uint8Array(constraints).map((bytes) => Buffer.from(bytes).toString('hex'));
const number = fc.integer({ min: 1, max: 2 ** 29 - 1 });
const plainField: fc.Arbitrary<Field> = fc.oneof(
  fc.record({ number, wireType: fc.constant(0), value: fc.nat().map((value) => encodeVarint(value).toString('hex')) }),
  fc.record({ number, wireType: fc.constant(1), value: hex({ minLength: 8, maxLength: 8 }) }),
  fc.record({ number, wireType: fc.constant(2), value: hex({ maxLength: 300 }) }),
  fc.record({ number, wireType: fc.constant(5), value: hex({ minLength: 4, maxLength: 4 }) }),
);
const group: fc.Arbitrary<Field> = fc.record({
  number,
  wireType: fc.constant(3),
  value: fc.array(plainField, { maxLength: 4 }).map((fields) => Buffer.concat(fields.map(encode)).toString('hex')),
});
const nested: fc.Arbitrary<Field> = fc.record({
  number,
  wireType: fc.constant(3),
  value: group.map((inner) => encode(inner).toString('hex')),
});
const message = fc.array(fc.oneof(plainField, group, nested), { maxLength: 12 });

t.test('every field of a message is found, groups as one field each', async () => {
  fc.assert(
    fc.property(message, (fields) => {
      const expected = fields.map(({ number, wireType, value }) => ({ number, wireType, value }));
      return isDeepStrictEqual(readAll(Buffer.concat(fields.map(encode))), expected);
    }),
    { numRuns: 200 },
  );
});

t.test('the ranges of the fields cover the message without gap or overlap', async () => {
  fc.assert(
    fc.property(message, (fields) => {
      const bytes = Buffer.concat(fields.map(encode));
      const cursor = new FieldCursor(bytes);
      let reached = 0;
      while (cursor.next()) {
        if (cursor.start !== reached || cursor.tagEnd <= cursor.start || cursor.valueStart < cursor.tagEnd)
          return false;
        if (cursor.valueEnd < cursor.valueStart || cursor.end < cursor.valueEnd) return false;
        reached = cursor.end;
      }
      return reached === bytes.length;
    }),
  );
});

t.test('a message cut inside a field is refused', async (t) => {
  for (const field of ['089601', '0a03616263', '0d01020304', '090102030405060708', '0b08010c']) {
    const bytes = Buffer.from(field, 'hex');
    for (let length = 1; length < bytes.length; length++) {
      t.throws(() => readAll(bytes.subarray(0, length)), WireError, `${field} cut to ${length}`);
    }
    t.equal(readAll(bytes).length, 1);
  }
});

t.test('what no encoder writes is refused', async (t) => {
  t.throws(() => readAll(Buffer.from('00', 'hex')), WireError, 'field number 0');
  t.throws(() => readAll(Buffer.from('808080801000', 'hex')), WireError, 'field number beyond 2^29 - 1');
  t.throws(() => readAll(Buffer.from('0e', 'hex')), WireError, 'wire type 6');
  t.throws(() => readAll(Buffer.from('0c', 'hex')), WireError, 'end of a group that never began');
  t.throws(() => readAll(Buffer.from('0b14', 'hex')), WireError, 'end of another group');
  t.throws(() => readAll(Buffer.from(`08${'ff'.repeat(9)}02`, 'hex')), WireError, 'varint of 65 bits');
  t.throws(() => readAll(Buffer.from(`0a${'ff'.repeat(9)}01`, 'hex')), WireError, 'length of 64 bits');
  t.throws(() => readAll(Buffer.alloc(101, 0x0b)), WireError, 'groups 101 deep');
});

t.test('random bytes are read or refused, nothing else', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        readAll(Buffer.from(bytes));
      } catch (error) {
        return error instanceof WireError;
      }
      return true;
    }),
    { numRuns: 1000 },
  );
});

t.test('varints of up to 64 bits keep their value', async (t) => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      const bytes = encodeVarint(value);
      const read = readVarint(bytes, 0);
      return read.value === BigInt(value) && read.end === bytes.length;
    }),
  );
  t.equal(readVarint(Buffer.from(`${'ff'.repeat(9)}01`, 'hex'), 0).value, 2n ** 64n - 1n);
  t.throws(() => readVarint(Buffer.from('ff', 'hex'), 0), WireError);
});

t.test('of a field that comes twice the last value counts, and messages merge', async (t) => {
  const twice = Buffer.from('0a0161' + '1001' + '0a0162' + '1002', 'hex');
  t.equal(lastBytes(twice, 1).toString(), 'b');
  t.equal(lastVarint(twice, 2), 2n);
  t.equal(mergedMessage(twice, 1)?.toString(), 'ab');
  t.equal(mergedMessage(twice, 3), undefined);
  t.equal(lastBytes(twice, 2).length, 0, 'a field of another wire type is not read');
});
