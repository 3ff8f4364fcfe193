import { deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import {
  decompress,
  encodeStatusMessage,
  framedMessage,
  GrpcRequestError,
  parseTimeout,
  SingleMessageReader,
} from '../../../src/proxy/http2/grpc-message.js';

t.test('grpc-timeout is 1 to 8 digits and a unit, and anything else is malformed', (t) => {
  const good = {
    '240000m': 240_000,
    '2H': 7_200_000,
    '3M': 180_000,
    '4S': 4000,
    '5u': 0.005,
    '1n': 0.000001,
    '0m': 0,
    '99999999H': 359_999_996_400_000,
  };
  for (const [value, ms] of Object.entries(good)) t.ok(Math.abs((parseTimeout(value) ?? -1) - ms) < 1e-9, value);
  for (const value of ['', 'm', '1', '123456789m', '1s', '-1m', '1.5S', ' 1m', '1m ', '1mm'])
    t.equal(parseTimeout(value), undefined, `"${value}"`);
  t.end();
});

t.test('a status text is percent-encoded UTF-8 and decodes to itself', (t) => {
  t.equal(encodeStatusMessage('plain text, ~!'), 'plain text, ~!');
  t.equal(encodeStatusMessage('100%\nü'), '100%25%0A%C3%BC');
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const encoded = encodeStatusMessage(text);
        return /^[ -~]*$/.test(encoded) && decodeURIComponent(encoded) === text;
      }),
      { numRuns: 50 },
    ),
  );
  t.end();
});

t.test('a message is the same however it is cut', (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 50_000 }),
        fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 12 }),
        (body, cuts) => {
          const framed = framedMessage(Buffer.from(body));
          const reader = new SingleMessageReader(100_000);
          let at = 0;
          for (const cut of cuts) {
            reader.push(framed.subarray(at, at + cut));
            at = Math.min(framed.length, at + cut);
          }
          reader.push(framed.subarray(at));
          return reader.finish().body.equals(Buffer.from(body));
        },
      ),
      { numRuns: 50 },
    ),
  );
  t.end();
});

t.test(
  'none, half a message, a second one, one too large and an unknown prefix are refused with the code grpc-go has for it',
  (t) => {
    const codeOf = (...pieces: Buffer[]): unknown => {
      const reader = new SingleMessageReader(10);
      try {
        for (const piece of pieces) reader.push(piece);
        reader.finish();
      } catch (error) {
        return error instanceof GrpcRequestError ? error.code : error;
      }
      return 'accepted';
    };
    const one = framedMessage(Buffer.from('abc'));
    t.equal(codeOf(), 13);
    t.equal(codeOf(one.subarray(0, 4)), 13);
    t.equal(codeOf(one.subarray(0, 7)), 13);
    t.equal(codeOf(one, one), 13);
    t.equal(codeOf(Buffer.concat([one, Buffer.from([0])])), 13);
    t.equal(codeOf(framedMessage(Buffer.alloc(11)).subarray(0, 5)), 8);
    t.equal(codeOf(Buffer.from([2, 0, 0, 0, 0])), 13);
    t.equal(codeOf(framedMessage(Buffer.alloc(10))), 'accepted');
    t.end();
  },
);

const noBudget = (): void => {};

t.test('gzip and deflate are undone, up to the bound', async (t) => {
  const body = Buffer.from('some text '.repeat(10));
  t.ok((await decompress('gzip', gzipSync(body), 1000, noBudget)).equals(body));
  t.ok((await decompress('deflate', deflateSync(body), 1000, noBudget)).equals(body));
  const bomb = gzipSync(Buffer.alloc(1_000_000));
  await t.rejects(decompress('gzip', bomb, 1000, noBudget), { code: 8 });
  await t.rejects(decompress('gzip', Buffer.from('no gzip'), 1000, noBudget), { code: 13 });
  await t.rejects(decompress('gzip', gzipSync(body).subarray(0, 20), 1000, noBudget), { code: 13 });
  await t.rejects(decompress('identity', body, 1000, noBudget), { code: 13 });
});

t.test(
  'each part of what comes out is reserved as it comes, and what a reservation throws ends the work',
  async (t) => {
    const body = Buffer.alloc(1_000_000, 'x');
    const parts: number[] = [];
    t.ok((await decompress('gzip', gzipSync(body), 2_000_000, (bytes) => parts.push(bytes))).equals(body));
    t.equal(
      parts.reduce((sum, bytes) => sum + bytes, 0),
      body.length,
    );
    t.ok(parts.length > 10 && Math.max(...parts) < 100_000, 'long before all of it is there');
    let reserved = 0;
    const refused = new GrpcRequestError(8, 'too much');
    const most = (bytes: number): void => {
      reserved += bytes;
      if (reserved > 100_000) throw refused;
    };
    await t.rejects(decompress('deflate', deflateSync(body), 2_000_000, most), refused);
    t.ok(reserved < 200_000);
  },
);
