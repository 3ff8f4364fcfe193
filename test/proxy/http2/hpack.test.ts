import assert from 'node:assert/strict';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import {
  encodeLiteralBlock,
  type HeaderField,
  HeaderListTooLargeError,
  HpackDecoder,
  HpackError,
} from '../../../src/proxy/http2/hpack.js';
import { endOfString, huffmanCodes, staticTable } from '../../../src/proxy/http2/hpack-tables.js';
import { longText } from './wire.js';

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
}

function newDecoder(options: { maxTableBytes?: number; maxHeaderListBytes?: number } = {}): HpackDecoder {
  return new HpackDecoder({ maxTableBytes: 4096, maxHeaderListBytes: 2 ** 20, ...options });
}

function toFields(...pairs: ReadonlyArray<readonly [string, string]>): HeaderField[] {
  return pairs.map(([name, value]) => ({ name, value }));
}

function listBytes(fields: readonly HeaderField[]): number {
  return fields.reduce((sum, { name, value }) => sum + name.length + value.length + 32, 0);
}

const firstDynamicIndex = 62;

/** What the dynamic table's newest `count` entries are, asked for by index. */
function newestEntries(decoder: HpackDecoder, count: number): readonly HeaderField[] {
  const indexes = Array.from({ length: count }, (_, age) => 0x80 | (firstDynamicIndex + age));
  return decoder.decode(Buffer.from(indexes)).fields;
}

t.test('RFC 7541 C.1: integers', async (t) => {
  const updates: Array<[section: string, size: number, bytes: string]> = [
    ['C.1.1', 10, '2a'],
    ['C.1.2', 1337, '3f9a0a'],
  ];
  for (const [section, size, bytes] of updates) {
    t.equal(encodeLiteralBlock([], [size]).toString('hex'), bytes, `${section}: ${size} is written as in the RFC`);
    t.ok(newDecoder({ maxTableBytes: size }).decode(hex(bytes)).sizeUpdate, `${section}: ${size} is read as no more`);
    t.throws(
      () => newDecoder({ maxTableBytes: size - 1 }).decode(hex(bytes)),
      HpackError,
      `${section}: ${size} is read as no less`,
    );
  }
  // C.1.3 has 42 in a prefix of 8 bits, which no field has; a string length comes closest.
  // X has a code of 8 bits, so that nothing is gained by it.
  const value = 'X'.repeat(42);
  const block = Buffer.concat([hex('04 2a'), Buffer.from(value)]);
  t.strictSame(newDecoder().decode(block).fields, toFields([':path', value]), '42 fits a prefix and is read so');
  t.strictSame(encodeLiteralBlock(toFields([':path', value])), block, '42 fits a prefix and is written so');
});

interface Example {
  readonly section: string;
  readonly block: string;
  readonly fields: readonly HeaderField[];
  /** Newest first. */
  readonly table: readonly HeaderField[];
  readonly tableBytes: number;
}

function checkExamples(t: Test, maxTableBytes: number, examples: readonly Example[]): void {
  const decoder = newDecoder({ maxTableBytes });
  for (const { section, block, fields, table, tableBytes } of examples) {
    t.strictSame(decoder.decode(hex(block)).fields, fields, `${section}: fields`);
    t.equal(decoder.tableBytes, tableBytes, `${section}: table size`);
    t.strictSame(newestEntries(decoder, table.length), table, `${section}: table contents`);
  }
}

t.test('RFC 7541 C.2: header field representations', async (t) => {
  const customHeader = toFields(['custom-key', 'custom-header']);
  checkExamples(t, 4096, [
    {
      section: 'C.2.1',
      block: '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572',
      fields: customHeader,
      table: customHeader,
      tableBytes: 55,
    },
  ]);
  checkExamples(t, 4096, [
    {
      section: 'C.2.2',
      block: '040c 2f73 616d 706c 652f 7061 7468',
      fields: toFields([':path', '/sample/path']),
      table: [],
      tableBytes: 0,
    },
    {
      section: 'C.2.3',
      block: '1008 7061 7373 776f 7264 0673 6563 7265 74',
      fields: [{ name: 'password', value: 'secret', neverIndexed: true }],
      table: [],
      tableBytes: 0,
    },
    { section: 'C.2.4', block: '82', fields: toFields([':method', 'GET']), table: [], tableBytes: 0 },
  ]);
});

function requestExamples(section: string, blocks: readonly [string, string, string]): Example[] {
  const authority = [':authority', 'www.example.com'] as const;
  const cacheControl = ['cache-control', 'no-cache'] as const;
  const custom = ['custom-key', 'custom-value'] as const;
  const index = [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
  ] as const;
  return [
    {
      section: `${section}.1`,
      block: blocks[0],
      fields: toFields(...index, authority),
      table: toFields(authority),
      tableBytes: 57,
    },
    {
      section: `${section}.2`,
      block: blocks[1],
      fields: toFields(...index, authority, cacheControl),
      table: toFields(cacheControl, authority),
      tableBytes: 110,
    },
    {
      section: `${section}.3`,
      block: blocks[2],
      fields: toFields([':method', 'GET'], [':scheme', 'https'], [':path', '/index.html'], authority, custom),
      table: toFields(custom, cacheControl, authority),
      tableBytes: 164,
    },
  ];
}

t.test('RFC 7541 C.3: requests without Huffman coding', async (t) => {
  const blocks = [
    '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
    '8286 84be 5808 6e6f 2d63 6163 6865',
    '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
  ] as const;
  checkExamples(t, 4096, requestExamples('C.3', blocks));
});

t.test('RFC 7541 C.4: requests with Huffman coding', async (t) => {
  const blocks = [
    '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
    '8286 84be 5886 a8eb 1064 9cbf',
    '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
  ] as const;
  checkExamples(t, 4096, requestExamples('C.4', blocks));
});

function responseExamples(section: string, blocks: readonly [string, string, string]): Example[] {
  const found = [':status', '302'] as const;
  const redirect = [':status', '307'] as const;
  const cacheControl = ['cache-control', 'private'] as const;
  const date = ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'] as const;
  const laterDate = ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'] as const;
  const location = ['location', 'https://www.example.com'] as const;
  const encoding = ['content-encoding', 'gzip'] as const;
  const cookie = ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'] as const;
  return [
    {
      section: `${section}.1`,
      block: blocks[0],
      fields: toFields(found, cacheControl, date, location),
      table: toFields(location, date, cacheControl, found),
      tableBytes: 222,
    },
    {
      section: `${section}.2`,
      block: blocks[1],
      fields: toFields(redirect, cacheControl, date, location),
      table: toFields(redirect, location, date, cacheControl),
      tableBytes: 222,
    },
    {
      section: `${section}.3`,
      block: blocks[2],
      fields: toFields([':status', '200'], cacheControl, laterDate, location, encoding, cookie),
      table: toFields(cookie, encoding, laterDate),
      tableBytes: 215,
    },
  ];
}

t.test('RFC 7541 C.5: responses without Huffman coding, a table of 256 bytes', async (t) => {
  const blocks = [
    `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d
     546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
    '4803 3330 37c1 c0bf',
    `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
     6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
     2076 6572 7369 6f6e 3d31`,
  ] as const;
  checkExamples(t, 256, responseExamples('C.5', blocks));
});

t.test('RFC 7541 C.6: responses with Huffman coding, a table of 256 bytes', async (t) => {
  const blocks = [
    `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7
     8f0b 97c8 e9ae 82ae 43d3`,
    '4883 640e ffc1 c0bf',
    `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
     dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
  ] as const;
  checkExamples(t, 256, responseExamples('C.6', blocks));
});

t.test('RFC 7541 appendix B: the Huffman code', async (t) => {
  t.equal(huffmanCodes.length, 257, 'every octet and EOS have a code');
  t.equal(
    huffmanCodes.reduce((sum, { bits }) => sum + 2 ** -bits, 0),
    1,
    'the code leaves no sequence of bits without a meaning',
  );
  // Other octets are checked against what node:http2 sends (hpack-node.test.ts); it cannot send these.
  const controls = `1ff8/13 7fffd8/23 fffffe2/28 fffffe3/28 fffffe4/28 fffffe5/28 fffffe6/28 fffffe7/28 fffffe8/28
    ffffea/24 3ffffffc/30 fffffe9/28 fffffea/28 3ffffffd/30 fffffeb/28 fffffec/28 fffffed/28 fffffee/28 fffffef/28
    ffffff0/28 ffffff1/28 ffffff2/28 3ffffffe/30 ffffff3/28 ffffff4/28 ffffff5/28 ffffff6/28 ffffff7/28 ffffff8/28
    ffffff9/28 ffffffa/28 ffffffb/28`;
  const written = (octet: number) => {
    const { code, bits } = huffmanCodes[octet] ?? { code: 0, bits: 0 };
    return `${code.toString(16)}/${bits}`;
  };
  t.strictSame(
    Array.from({ length: 32 }, (_, octet) => written(octet)),
    controls.split(/\s+/),
    'control characters have the codes of the RFC',
  );
  t.equal(written(127), 'ffffffc/28', 'DEL has the code of the RFC');
  t.equal(written(endOfString), '3fffffff/30', 'EOS has the code of the RFC');
});

t.test('a malformed block is an HpackError', async (t) => {
  const malformed: Array<[what: string, block: string]> = [
    ['a size update behind a field', '82 20'],
    ['a size update above the table allowed (4097)', '3f e2 1f'],
    ['index 0', '80'],
    ['an index just behind the static table, the dynamic one being empty', 'be'],
    ['such an index as the name of a field to be indexed', '7e 00'],
    ['such an index as the name of a field not indexed', '0f 2f 00'],
    ['such an index as the name of a field never indexed', '1f 2f 00'],
    ['the largest index that can be said', 'ff 80 ff ff ff 07'],
    ['an index that overflows', 'ff 81 ff ff ff 07'],
    ['a string length that overflows', '04 7f ff ff ff ff 0f'],
    ['a string length far behind the end of the block', '04 7f 80 ff ff ff 07'],
    ['an integer with more octets than 31 bits can need', '3f 80 80 80 80 80 00'],
    ['an integer that never ends', `3f ${'80'.repeat(64)}`],
    ['Huffman padding of 8 bits', '04 81 ff'],
    ['Huffman padding of 11 bits', '04 82 1f ff'],
    ['Huffman padding of zeros', '04 81 18'],
    ['Huffman padding with a zero among ones', '04 81 1d'],
    ['a symbol cut off', '04 81 fe'],
    ['EOS alone in a string', '04 84 ff ff ff ff'],
    ['EOS and more in a string', '04 86 1f ff ff ff fe 3f'],
    ['a name whose Huffman coding is wrong', '00 81 ff 00'],
    ['a block that ends within an index', 'ff'],
    ['a block that ends within the octets of an index', 'ff 80'],
    ['a block that ends within a size update', '3f'],
    ['a block that ends before a name', '40'],
    ['a block that ends within a name', '40 0a 63 75'],
    ['a block that ends before a value', '40 01 61'],
    ['a block that ends within the length of a value', '40 01 61 7f'],
    ['a block that ends within a value', '40 01 61 02 62'],
  ];
  for (const [what, block] of malformed) t.throws(() => newDecoder().decode(hex(block)), HpackError, what);
});

t.test('what is just within the rules is taken', async (t) => {
  const empty = { fields: [], selfContained: true };
  t.strictSame(newDecoder().decode(hex('')), { ...empty, sizeUpdate: false }, 'an empty block');
  t.strictSame(newDecoder().decode(hex('3f e1 1f')), { ...empty, sizeUpdate: true }, 'a size update to all allowed');
  t.strictSame(newDecoder().decode(hex('20 3f e1 1f')), { ...empty, sizeUpdate: true }, 'two size updates');
  t.strictSame(newDecoder().decode(hex('3f 80 80 80 80 00')), { ...empty, sizeUpdate: true }, 'superfluous zeros');
  t.strictSame(newDecoder().decode(hex('04 80')).fields, toFields([':path', '']), 'an empty Huffman string');
  t.strictSame(newDecoder().decode(hex('04 81 1f')).fields, toFields([':path', 'a']), 'Huffman padding of 3 bits');
  t.strictSame(newDecoder().decode(hex('00 00 00')).fields, toFields(['', '']), 'an empty name and value');
  const large = newDecoder({ maxTableBytes: 2 ** 32 });
  t.ok(large.decode(encodeLiteralBlock([], [2 ** 31 - 1])).sizeUpdate, 'the largest integer');
  t.throws(() => large.decode(encodeLiteralBlock([], [2 ** 31])), HpackError, 'the next integer is refused');
});

t.test('Huffman padding may have up to seven bits, no more, after any symbol', async (t) => {
  const wrong: string[] = [];
  for (let octet = 0; octet < 256; octet++) {
    for (let more = 0; more <= 8; more++) {
      const text = String.fromCharCode(octet).repeat(more);
      const coded = huffmanEncode(text);
      const padded = Buffer.concat([coded, hex('ff')]);
      if (readHuffman(coded) !== text) wrong.push(`${more} of octet ${octet}`);
      if (readHuffman(padded) !== undefined) wrong.push(`${more} of octet ${octet} with an octet of padding too much`);
    }
  }
  t.strictSame(wrong, []);
});

/** @returns undefined where the decoder refuses. */
function readHuffman(coded: Buffer): string | undefined {
  try {
    return newDecoder().decode(Buffer.concat([hex('04'), integerBytes(0x80, 7, coded.length), coded])).fields[0]?.value;
  } catch (error) {
    assert.ok(error instanceof HpackError);
    return undefined;
  }
}

t.test('Huffman strings of any length are read whole', async (t) => {
  const wrong: number[] = [];
  // 10,240 octets of the shortest code, five bits, make 16 KiB of text.
  for (const length of [16_383, 16_384, 16_385, 100_000]) {
    const text = '0'.repeat(length - 1).concat('1');
    if (readHuffman(huffmanEncode(text)) !== text) wrong.push(length);
  }
  t.strictSame(wrong, []);
});

t.test('an entry larger than the table empties it and is not kept', async (t) => {
  const decoder = newDecoder({ maxTableBytes: 64 });
  decoder.decode(hex('40 01 61 01 62'));
  t.equal(decoder.tableBytes, 34);
  const large = 'v'.repeat(32);
  const block = Buffer.concat([hex('40 01 61 20'), Buffer.from(large)]);
  t.strictSame(decoder.decode(block).fields, toFields(['a', large]), 'the field itself is read');
  t.equal(decoder.tableBytes, 0);
  t.throws(() => decoder.decode(hex('be')), HpackError, 'there is no entry');
});

t.test('an entry as large as the table takes all of it', async (t) => {
  const decoder = newDecoder({ maxTableBytes: 64 });
  decoder.decode(hex('40 01 61 01 62'));
  const value = 'v'.repeat(31);
  decoder.decode(Buffer.concat([hex('40 01 61 1f'), Buffer.from(value)]));
  t.equal(decoder.tableBytes, 64);
  t.strictSame(newestEntries(decoder, 1), toFields(['a', value]));
});

t.test('a field may be named by the entry that its own insertion evicts', async (t) => {
  const decoder = newDecoder({ maxTableBytes: 64 });
  decoder.decode(hex('40 01 61 01 62'));
  t.strictSame(decoder.decode(hex('7e 01 63')).fields, toFields(['a', 'c']));
  t.equal(decoder.tableBytes, 34);
  t.strictSame(newestEntries(decoder, 1), toFields(['a', 'c']));
});

t.test('a size update evicts at once and holds for later blocks', async (t) => {
  const decoder = newDecoder();
  decoder.decode(hex('40 01 61 01 62 40 01 63 01 64'));
  t.equal(decoder.tableBytes, 68);
  decoder.decode(hex('3f 04'));
  t.strictSame(newestEntries(decoder, 1), toFields(['c', 'd']), 'the older one goes');
  t.equal(decoder.tableBytes, 34);
  decoder.decode(hex('40 01 65 01 66'));
  t.equal(decoder.tableBytes, 34, 'there is still room for one only');
  decoder.decode(hex('20 3f e1 1f'));
  t.equal(decoder.tableBytes, 0, 'a table made large again comes back empty');
});

t.test('a list above the limit is refused and the table stays right', async (t) => {
  const block = hex('40 01 61 01 62 40 01 63 01 64 82');
  const list = toFields(['a', 'b'], ['c', 'd'], [':method', 'GET']);
  t.strictSame(newDecoder({ maxHeaderListBytes: listBytes(list) }).decode(block).fields, list, 'the limit is included');

  const decoder = newDecoder({ maxHeaderListBytes: 68 });
  t.throws(() => decoder.decode(block), HeaderListTooLargeError);
  t.equal(decoder.tableBytes, 68);
  t.strictSame(newestEntries(decoder, 2), toFields(['c', 'd'], ['a', 'b']));
  t.throws(() => decoder.decode(Buffer.concat([block, hex('80')])), HpackError, 'a malformed end counts for more');
});

t.test('fields do not change with the buffer they were read from', async (t) => {
  const decoder = newDecoder();
  const block = hex('40 01 61 01 62 04 81 1f');
  const { fields } = decoder.decode(block);
  block.fill(0);
  t.strictSame(fields, toFields(['a', 'b'], [':path', 'a']));
  t.strictSame(newestEntries(decoder, 1), toFields(['a', 'b']));
});

t.test('encodeLiteralBlock writes static entries, literals and never-indexed literals', async (t) => {
  const encode = (field: HeaderField) => encodeLiteralBlock([field]).toString('hex');
  t.equal(encode({ name: ':status', value: '200' }), '88', 'a full static match is one octet');
  t.equal(encode({ name: ':status', value: '500' }), '8e', 'the last of several values');
  t.equal(encode({ name: ':status', value: '299' }), '0803323939', 'a static name');
  t.equal(encode({ name: ':authority', value: '' }), '81', 'a full static match without a value');
  t.equal(encode({ name: 'www-authenticate', value: 'x' }), '0f2e0178', 'the last static name');
  t.equal(encode({ name: 'te', value: 'é' }), '0002746501e9', 'a literal name, one octet a character');
  t.equal(encode({ name: 'te', value: 'x', neverIndexed: true }), '100274650178', 'never-indexed');
  t.equal(
    encode({ name: ':method', value: 'GET', neverIndexed: true }),
    '1203474554',
    'never-indexed for all its match',
  );
  t.equal(encode({ name: 'te', value: 'x', neverIndexed: false }), '000274650178', 'not never-indexed');
  t.equal(encodeLiteralBlock([], [0, 4096]).toString('hex'), '203fe11f', 'size updates in order');
  // Around 2^5 - 1 and one and two octets of 7 bits behind it.
  for (const size of [30, 31, 158, 159, 16_414, 16_415]) {
    t.strictSame(encodeLiteralBlock([], [size]), integerBytes(0x20, 5, size), `a size update to ${size}`);
  }
  t.equal(encodeLiteralBlock([]).length, 0, 'nothing');
  const oneShot = (function* () {
    yield* toFields([':status', '200'], [':status', '204']);
  })();
  t.equal(encodeLiteralBlock(oneShot).toString('hex'), '8889', 'an iterable that can be read only once');
});

/* A reference encoder, as plain as can be: what it keeps is what the decoder must keep. */

function huffmanEncode(text: string): Buffer {
  let bits = '';
  for (const octet of Buffer.from(text, 'latin1')) {
    const symbol = huffmanCodes[octet];
    assert.ok(symbol);
    bits += symbol.code.toString(2).padStart(symbol.bits, '0');
  }
  const octets = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1').match(/.{8}/g) ?? [];
  return Buffer.from(octets.map((octet) => Number.parseInt(octet, 2)));
}

function integerBytes(flags: number, prefixBits: number, value: number): Buffer {
  const prefix = 2 ** prefixBits - 1;
  if (value < prefix) return Buffer.from([flags + value]);
  const octets = [flags + prefix];
  let rest = value - prefix;
  while (rest >= 128) {
    octets.push(128 + (rest % 128));
    rest = Math.floor(rest / 128);
  }
  return Buffer.from([...octets, rest]);
}

function stringBytes(text: string, huffman: boolean): Buffer {
  const octets = huffman ? huffmanEncode(text) : Buffer.from(text, 'latin1');
  return Buffer.concat([integerBytes(huffman ? 0x80 : 0, 7, octets.length), octets]);
}

function shorterStringBytes(text: string): Buffer {
  return stringBytes(text, huffmanEncode(text).length < text.length);
}

/** A string as encodeLiteralBlock writes it. */
function written(text: string): Buffer {
  return encodeLiteralBlock([{ name: ':path', value: text, neverIndexed: true }]).subarray(1);
}

t.test('RFC 7541 C.4 and C.6: strings are written with the Huffman code of the RFC', async (t) => {
  const strings: Array<[text: string, bytes: string]> = [
    ['www.example.com', '8c f1e3 c2e5 f23a 6ba0 ab90 f4ff'],
    ['no-cache', '86 a8eb 1064 9cbf'],
    ['custom-key', '88 25a8 49e9 5ba9 7d7f'],
    ['custom-value', '89 25a8 49e9 5bb8 e8b4 bf'],
    ['302', '82 6402'],
    ['private', '85 aec3 771a 4b'],
    ['Mon, 21 Oct 2013 20:13:21 GMT', '96 d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff'],
    ['https://www.example.com', '91 9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3'],
    ['Mon, 21 Oct 2013 20:13:22 GMT', '96 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff'],
    ['gzip', '83 9bd9 ab'],
    [
      'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
      `ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50
       07`,
    ],
  ];
  for (const [text, bytes] of strings) t.strictSame(written(text), hex(bytes), text);
  t.strictSame(
    encodeLiteralBlock(toFields(['custom-key', 'custom-value'])),
    hex('00 88 25a8 49e9 5ba9 7d7f 89 25a8 49e9 5bb8 e8b4 bf'),
    'a name too',
  );
  t.strictSame(
    encodeLiteralBlock([{ name: 'custom-key', value: 'custom-value', neverIndexed: true }]),
    hex('10 88 25a8 49e9 5ba9 7d7f 89 25a8 49e9 5bb8 e8b4 bf'),
    'never-indexed stays so',
  );
  // C.6.2 has it coded, in three octets too.
  t.strictSame(written('307'), hex('03 33 30 37'), 'a string is left as it is where the code gains nothing');
});

t.test('every octet is written in its Huffman code', async (t) => {
  const zeros = '0'.repeat(12);
  const wrong = Array.from({ length: 256 }, (_, octet) => octet).filter((octet) => {
    const text = `${zeros}${String.fromCharCode(octet)}${zeros}`;
    const bytes = written(text);
    assert.ok(bytes.length < text.length);
    const decoded = newDecoder().decode(Buffer.concat([hex('04'), bytes])).fields[0]?.value;
    return decoded !== text || !bytes.equals(stringBytes(text, true));
  });
  t.strictSame(wrong, []);
  const all = Array.from({ length: 256 }, (_, octet) => String.fromCharCode(octet)).join('');
  t.strictSame(written(all), stringBytes(all, false), 'and all of them in one string as they are');
});

t.test('a string is written in the shorter form, of whatever length it is', async (t) => {
  // Characters with codes of 5, 6, 7 and 8 bits; lengths around each octet of the code and each size of the prefix.
  const lengths = [...Array.from({ length: 41 }, (_, length) => length), 126, 127, 128, 129, 158, 159, 160];
  const wrong = ['0', '3', 'B', 'X'].flatMap((character) =>
    [...lengths, 202, 203, 204, 254, 255, 256, 16_509, 16_510, 16_511]
      .map((length) => character.repeat(length))
      .filter((text) => !written(text).equals(shorterStringBytes(text)))
      .map((text) => `${text.length} times ${character}`),
  );
  t.strictSame(wrong, []);
  t.strictSame(written(''), hex('00'), 'nothing');
});

t.test('a text of 70,000 printable bytes takes less than 64 KiB', async (t) => {
  const text = longText(70_000);
  const block = encodeLiteralBlock(toFields([':status', '200'], ['grpc-status', '2'], ['grpc-message', text]));
  t.ok(block.length < 60_000, `${block.length} bytes`);
  t.equal(newDecoder().decode(block).fields[2]?.value, text);
});

/** One field to send; `pick` chooses among the entries there are. */
type Step =
  | { readonly kind: 'indexed'; readonly pick: number }
  | {
      readonly kind: 'incremental' | 'plain' | 'never';
      readonly name: { readonly pick: number } | { readonly text: string; readonly huffman: boolean };
      readonly value: string;
      readonly huffman: boolean;
    };

interface BlockPlan {
  /** As parts of the table allowed. */
  readonly sizeUpdates: readonly number[];
  readonly steps: readonly Step[];
}

interface ReferenceBlock {
  readonly updates: Buffer;
  readonly body: Buffer;
  readonly fields: readonly HeaderField[];
  readonly touchesTable: boolean;
}

class ReferenceEncoder {
  readonly #limitBytes: number;
  #maxBytes: number;
  /** Newest first. */
  table: HeaderField[] = [];

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
    this.#maxBytes = limitBytes;
  }

  encode(plan: BlockPlan): ReferenceBlock {
    const updates = plan.sizeUpdates.map((part) => {
      this.#maxBytes = Math.floor(part * this.#limitBytes);
      this.#evict();
      return integerBytes(0x20, 5, this.#maxBytes);
    });
    const body: Buffer[] = [];
    const fields: HeaderField[] = [];
    let touchesTable = false;
    const choose = (pick: number): readonly [index: number, field: HeaderField] => {
      const all = [...toFields(...staticTable), ...this.table];
      // Half of the time a dynamic entry, where there is one.
      const index = pick % 2 === 0 ? pick % all.length : all.length - 1 - (pick % Math.max(1, this.table.length));
      const field = all[index];
      assert.ok(field);
      touchesTable ||= index >= staticTable.length;
      return [index + 1, field];
    };
    for (const step of plan.steps) {
      if (step.kind === 'indexed') {
        const [index, field] = choose(step.pick);
        body.push(integerBytes(0x80, 7, index));
        fields.push(field);
        continue;
      }
      const { flags, prefixBits } = {
        incremental: { flags: 0x40, prefixBits: 6 },
        plain: { flags: 0x00, prefixBits: 4 },
        never: { flags: 0x10, prefixBits: 4 },
      }[step.kind];
      let name: string;
      if ('pick' in step.name) {
        const [index, field] = choose(step.name.pick);
        name = field.name;
        body.push(integerBytes(flags, prefixBits, index));
      } else {
        name = step.name.text;
        body.push(integerBytes(flags, prefixBits, 0), stringBytes(name, step.name.huffman));
      }
      body.push(stringBytes(step.value, step.huffman));
      const field = { name, value: step.value };
      fields.push(step.kind === 'never' ? { ...field, neverIndexed: true } : field);
      if (step.kind === 'incremental') {
        touchesTable = true;
        this.table.unshift(field);
        this.#evict();
      }
    }
    return { updates: Buffer.concat(updates), body: Buffer.concat(body), fields, touchesTable };
  }

  #evict(): void {
    while (listBytes(this.table) > this.#maxBytes) this.table.pop();
  }
}

const octets = fc.integer({ min: 0, max: 255 }).map((octet) => String.fromCharCode(octet));
const texts = fc.oneof(
  fc.constantFrom(':path', ':status', '200', 'te', 'grpc-timeout', '/runtime.v1.RuntimeService/Version'),
  fc.string({ unit: octets, maxLength: 40 }),
  fc.string({ unit: octets, minLength: 100, maxLength: 300 }),
);
const names = fc.oneof(
  fc.record({ pick: fc.nat() }, { noNullPrototype: true }),
  fc.record({ text: texts, huffman: fc.boolean() }, { noNullPrototype: true }),
);
const stepPlans: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('indexed' as const), pick: fc.nat() }),
  fc.record({
    kind: fc.constantFrom('incremental' as const, 'incremental' as const, 'plain' as const, 'never' as const),
    name: names,
    value: texts,
    huffman: fc.boolean(),
  }),
);
const blockPlans: fc.Arbitrary<BlockPlan> = fc.record({
  sizeUpdates: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 2 }) },
  ),
  steps: fc.array(stepPlans, { maxLength: 12 }),
});
const connectionPlans = fc.array(blockPlans, { minLength: 1, maxLength: 8 });
const tableSizes = fc.constantFrom(0, 100, 256, 4096);

t.test('whatever an encoder sends over a connection is decoded to the same lists and the same table', async () => {
  fc.assert(
    fc.property(tableSizes, connectionPlans, (maxTableBytes, plans) => {
      const encoder = new ReferenceEncoder(maxTableBytes);
      const decoder = newDecoder({ maxTableBytes });
      for (const plan of plans) {
        const { updates, body, fields, touchesTable } = encoder.encode(plan);
        assert.deepStrictEqual(decoder.decode(Buffer.concat([updates, body])), {
          fields,
          selfContained: !touchesTable,
          sizeUpdate: updates.length > 0,
        });
        assert.equal(decoder.tableBytes, listBytes(encoder.table));
        assert.deepStrictEqual(decoder.decode(indexedBlock(encoder.table.length)).fields, encoder.table);
      }
    }),
    { numRuns: 300 },
  );
});

/** Refers to the `count` newest entries, however many. */
function indexedBlock(count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, age) => integerBytes(0x80, 7, firstDynamicIndex + age)));
}

t.test('a block is selfContained exactly where a fresh decoder reads the same and keeps an empty table', async () => {
  fc.assert(
    fc.property(tableSizes, connectionPlans, (maxTableBytes, plans) => {
      const encoder = new ReferenceEncoder(maxTableBytes);
      const decoder = newDecoder({ maxTableBytes });
      for (const plan of plans) {
        const { updates, body, fields } = encoder.encode(plan);
        const { selfContained } = decoder.decode(Buffer.concat([updates, body]));
        // Large enough to keep whatever the block adds.
        const fresh = newDecoder({ maxTableBytes: 2 ** 20 });
        let same: boolean;
        try {
          assert.deepStrictEqual(fresh.decode(body).fields, fields);
          same = fresh.tableBytes === 0;
        } catch (error) {
          assert.ok(error instanceof HpackError || error instanceof assert.AssertionError);
          same = false;
        }
        assert.equal(selfContained, same);
      }
    }),
    { numRuns: 200 },
  );
});

t.test('lists above the limit are refused, those within it taken, and the table follows either way', async () => {
  fc.assert(
    fc.property(tableSizes, connectionPlans, fc.nat({ max: 1000 }), (maxTableBytes, plans, maxHeaderListBytes) => {
      const encoder = new ReferenceEncoder(maxTableBytes);
      const decoder = newDecoder({ maxTableBytes, maxHeaderListBytes });
      for (const plan of plans) {
        const { updates, body, fields } = encoder.encode(plan);
        const block = Buffer.concat([updates, body]);
        if (listBytes(fields) > maxHeaderListBytes) assert.throws(() => decoder.decode(block), HeaderListTooLargeError);
        else assert.deepStrictEqual(decoder.decode(block).fields, fields);
        assert.equal(decoder.tableBytes, listBytes(encoder.table));
      }
    }),
    { numRuns: 200 },
  );
});

const fieldLists = fc.array(
  fc.record(
    { name: texts, value: texts, neverIndexed: fc.constant(true) },
    { requiredKeys: ['name', 'value'], noNullPrototype: true },
  ),
  { maxLength: 20 },
);

t.test('whatever a string holds, it is written in its Huffman code exactly where that is shorter', async () => {
  let coded = 0;
  let plain = 0;
  const printable = fc.string({ unit: fc.constantFrom(...longText(300)), maxLength: 300 });
  fc.assert(
    fc.property(fc.oneof(texts, printable), (text) => {
      const bytes = written(text);
      assert.deepStrictEqual(bytes, shorterStringBytes(text));
      if ((bytes[0] as number) >= 0x80) coded += 1;
      else plain += 1;
    }),
    { numRuns: 1000 },
  );
  assert.ok(coded > 100 && plain > 100);
});

t.test('what encodeLiteralBlock writes is decoded to the same fields and touches no table', async () => {
  const sizes = fc.array(fc.nat({ max: 4096 }), { maxLength: 3 });
  fc.assert(
    fc.property(fieldLists, sizes, (fields, sizeUpdates) => {
      const decoder = newDecoder();
      const block = encodeLiteralBlock(fields, sizeUpdates);
      assert.deepStrictEqual(decoder.decode(block), {
        fields,
        selfContained: true,
        sizeUpdate: sizeUpdates.length > 0,
      });
      assert.equal(decoder.tableBytes, 0);
    }),
    { numRuns: 300 },
  );
});

/** Decodes until the first HpackError; any other error than the two documented ones is the caller's to report. */
function decodeAll(decoder: HpackDecoder, blocks: readonly Buffer[]): void {
  for (const block of blocks) {
    try {
      decoder.decode(block);
    } catch (error) {
      if (error instanceof HpackError) return;
      if (!(error instanceof HeaderListTooLargeError)) throw error;
    }
  }
}

t.test('arbitrary bytes are refused with the documented errors only, and the table keeps its bound', async () => {
  const bytes = fc.uint8Array({ maxLength: 200 }).map((block) => Buffer.from(block));
  fc.assert(
    fc.property(tableSizes, fc.array(bytes, { minLength: 1, maxLength: 5 }), (maxTableBytes, blocks) => {
      const decoder = newDecoder({ maxTableBytes, maxHeaderListBytes: 1000 });
      decodeAll(decoder, blocks);
      assert.ok(decoder.tableBytes >= 0 && decoder.tableBytes <= maxTableBytes);
    }),
    { numRuns: 1000 },
  );
});

t.test('well-formed blocks damaged or cut short are refused with the documented errors only', async () => {
  fc.assert(
    fc.property(connectionPlans, fc.nat(), fc.nat({ max: 255 }), fc.boolean(), (plans, position, octet, cut) => {
      const encoder = new ReferenceEncoder(256);
      const blocks = plans.map((plan) => {
        const { updates, body } = encoder.encode(plan);
        const block = Buffer.concat([updates, body]);
        const at = position % Math.max(1, block.length);
        if (cut) return block.subarray(0, at);
        if (block.length > 0) block[at] = octet;
        return block;
      });
      const decoder = newDecoder({ maxTableBytes: 256, maxHeaderListBytes: 1000 });
      decodeAll(decoder, blocks);
      assert.ok(decoder.tableBytes >= 0 && decoder.tableBytes <= 256);
    }),
    { numRuns: 500 },
  );
});
