import t from 'tap';
import { WireError } from '../../src/cri/wire.js';
import { WireMessage } from '../../src/cri/wire-message.js';

const message = (hex: string) => new WireMessage(Buffer.from(hex, 'hex'));

t.test('the last value of a singular field counts, and absent ones read as nothing', async (t) => {
  const fields = message('0a0161' + '1005' + '0a0162' + '1006');
  t.equal(fields.bytes(1).toString(), 'b');
  t.equal(fields.varint(2), 6n);
  t.equal(fields.bytes(3).length, 0);
  t.equal(fields.varint(3), 0n);
  t.equal(fields.message(3), undefined);
});

t.test('a field with another wire type is another field', async (t) => {
  const fields = message('0805' + '120161');
  t.equal(fields.bytes(1).length, 0);
  t.equal(fields.message(1), undefined);
  t.equal(fields.varint(2), 0n);
});

t.test('the parts of a singular message are one message', async (t) => {
  const fields = message('0a020801' + '0a020805' + '0a021007').message(1);
  t.equal(fields?.varint(1), 5n);
  t.equal(fields?.varint(2), 7n);
  t.equal(message('0a00').message(1)?.buffer.length, 0, 'an empty message is one');
});

t.test('of the entries of a map with one key the last counts', async (t) => {
  const entry = (key: string, value: string) => `0a06${`0a01${key}`}${`1201${value}`}`;
  const map = message(entry('61', '31') + entry('62', '32') + entry('61', '33'));
  t.equal(map.entry(1, 'a')?.toString(), '3');
  t.equal(map.entry(1, 'b')?.toString(), '2');
  t.equal(map.entry(1, 'c'), undefined);
  t.equal(map.entry(2, 'a'), undefined);
  t.equal(message('0a030a0161').entry(1, 'a')?.length, 0, 'an entry without a value has an empty one');
  t.equal(message('0a00').entry(1, '')?.length, 0, 'an entry without a key has an empty one');
});

t.test('what is malformed throws, and so does what no encoder writes', async (t) => {
  t.throws(() => message('0a05').bytes(2), WireError);
  const parts = (count: number) => message('0a00'.repeat(count));
  t.ok(parts(1_000).message(1));
  t.throws(() => parts(1_001).message(1), WireError);
  const fields = (count: number) => new WireMessage(Buffer.alloc(2 * count, Buffer.from('0801', 'hex')));
  t.equal(fields(1_000_000).varint(1), 1n);
  t.throws(() => fields(1_000_001).varint(1), WireError);
});
