/** How the answers of gRPC servers are read. */
import fc from 'fast-check';
import t from 'tap';
import {
  decodeStatusMessage,
  MessageReader,
  metadataOf,
  ResponseMessageError,
  statusOf,
} from '../../../src/proxy/http2/grpc-response.js';
import { message } from './wire.js';

t.test('a status text is decoded as grpc-go decodes it: what is no escape sequence stays', async (t) => {
  const cases: [wire: string, text: string][] = [
    ['', ''],
    ['plain', 'plain'],
    ['%C3%BC%20%25', 'ü %'],
    ['%c3%bc', 'ü'],
    ['100%', '100%'],
    ['%2', '%2'],
    ['%zz%41', '%zzA'],
    ['%%41', '%A'],
    ['\u00c3\u00bc', 'ü'],
    ['%ff', '\ufffd'],
    ['a+b', 'a+b'],
  ];
  for (const [wire, text] of cases) t.equal(decodeStatusMessage(wire), text);
});

t.test('metadata is what is not the protocol’s own, in wire order, value for value', async (t) => {
  const list = [
    { name: ':status', value: '200' },
    { name: 'content-type', value: 'application/grpc' },
    { name: 'x-b', value: '1' },
    { name: 'grpc-encoding', value: 'identity' },
    { name: 'grpc-accept-encoding', value: 'gzip' },
    { name: 'x-a-bin', value: 'AA,BB==' },
    { name: 'date', value: 'today' },
    { name: 'x-b', value: '' },
    { name: 'grpc-status-details-bin', value: 'CC' },
    { name: 'grpc-status', value: '3' },
    { name: 'grpc-message', value: 'm' },
  ];
  const metadata = [
    ['x-b', '1'],
    ['x-a-bin', 'AA,BB=='],
    ['date', 'today'],
    ['x-b', ''],
    ['grpc-status-details-bin', 'CC'],
  ];
  t.strictSame(metadataOf(list), metadata);
  t.strictSame(statusOf(list), { code: 3, message: 'm', wireMessage: 'm', trailers: metadata });
});

t.test('messages come out as they went in, however their bytes are cut', async () => {
  const bodies = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 30 }),
      fc.nat(300_000).map((length) => new Uint8Array(length).fill(length)),
    ),
    { maxLength: 8 },
  );
  fc.assert(
    fc.property(
      bodies,
      fc.array(fc.oneof(fc.nat(9), fc.nat(100_000)), { maxLength: 30 }),
      fc.nat(4),
      (list, cuts, cut) => {
        const whole = Buffer.concat(list.map((body) => message(Buffer.from(body))));
        const wire = whole.subarray(0, Math.max(0, whole.length - cut));
        const reader = new MessageReader();
        const seen: Buffer[] = [];
        let at = 0;
        for (const length of [...cuts, wire.length]) {
          const piece = Buffer.from(wire.subarray(at, at + length));
          at += length;
          reader.push(piece, (body) => seen.push(body));
          piece.fill(0xee);
        }
        const expected = wire.length === whole.length ? list.length : seen.length;
        if (seen.length !== expected) return false;
        const read = seen.reduce((sum, { length }) => sum + 5 + length, 0);
        return seen.every((body, n) => body.equals(list[n] ?? nothing)) && read + reader.partialBytes === wire.length;
      },
    ),
    { numRuns: 200 },
  );
});

const nothing = new Uint8Array();

t.test('a prefix that promises 4 GiB takes no memory', async (t) => {
  const reader = new MessageReader();
  reader.push(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1]), () => {});
  t.equal(reader.partialBytes, 6);
});

t.test('a message that is compressed, or of no known form, cannot be read', async (t) => {
  for (const format of [1, 2, 255]) {
    t.throws(() => new MessageReader().push(Buffer.from([format, 0, 0, 0, 0]), () => {}), ResponseMessageError);
  }
});
