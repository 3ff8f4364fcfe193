/** Frames as bytes, held against RFC 9113 written out by hand. */
import t from 'tap';
import {
  connectionPreface,
  ErrorCode,
  Flag,
  FrameType,
  forEachSetting,
  frame,
  goAwayFrame,
  headersFrames,
  isClientStream,
  ownFramePayloadBytes,
  readUInt31,
  rstStreamFrame,
  windowUpdateFrame,
  withoutPadding,
} from '../../../src/proxy/http2/frames.js';

const hex = (bytes: Buffer | undefined): string | undefined => bytes?.toString('hex');
const bytes = (...values: number[]): Buffer => Buffer.from(values);

t.test('the preface of a client', async (t) => {
  t.equal(hex(connectionPreface), '505249202a20485454502f322e300d0a0d0a534d0d0a0d0a', 'RFC 9113 section 3.4');
});

t.test('frames are a length of 24 bits, a type, flags, a stream and their payload', async (t) => {
  t.equal(hex(frame(FrameType.data, Flag.endStream, 0x01020304, bytes(7, 8))), '00000200010102030407' + '08');
  t.equal(hex(frame(FrameType.data, 0, 1, Buffer.alloc(0x010203)).subarray(0, 9)), '010203000000000001');
  t.equal(hex(windowUpdateFrame(3, 0x01020304)), '00000408000000000301020304');
  t.equal(hex(rstStreamFrame(5, ErrorCode.cancel)), '00000403000000000500000008');
});

t.test('GOAWAY says the last stream, a code, and the reason as text', async (t) => {
  t.equal(hex(goAwayFrame(7, ErrorCode.enhanceYourCalm)), '0000080700000000000000000700' + '00000b');
  t.equal(hex(goAwayFrame(7, ErrorCode.noError, 'no')), '00000a0700000000000000000700000000' + '6e6f');
});

t.test('streams have 31 bits, and those of a client are odd', async (t) => {
  t.equal(readUInt31(bytes(0xff, 0xff, 0xff, 0xff), 0), 0x7fffffff);
  t.equal(readUInt31(bytes(9, 0x80, 1, 2, 3), 1), 0x010203);
  t.strictSame([0, 1, 2, 3].map(isClientStream), [false, true, false, true]);
});

/** Type, flags, stream and length of each frame, and all payloads in one. */
function taken(all: Buffer): { frames: number[][]; block: Buffer } {
  const frames: number[][] = [];
  const payloads: Buffer[] = [];
  for (let at = 0; at < all.length; ) {
    const length = all.readUIntBE(at, 3);
    frames.push([all.readUInt8(at + 3), all.readUInt8(at + 4), all.readUInt32BE(at + 5), length]);
    payloads.push(all.subarray(at + 9, at + 9 + length));
    at += 9 + length;
  }
  return { frames, block: Buffer.concat(payloads) };
}

t.test('a header block is HEADERS and as many CONTINUATIONs as it takes, of which the last ends it', async (t) => {
  const most = ownFramePayloadBytes;
  const lengthsOf = (length: number): number[][] => {
    const block = Buffer.alloc(length, 'abcdefghijk');
    const got = taken(headersFrames(3, block, true));
    t.ok(got.block.equals(block), `${length} bytes`);
    return got.frames;
  };
  t.strictSame(lengthsOf(0), [[1, 0x5, 3, 0]]);
  t.strictSame(lengthsOf(1), [[1, 0x5, 3, 1]]);
  t.strictSame(lengthsOf(most), [[1, 0x5, 3, most]]);
  t.strictSame(lengthsOf(most + 1), [
    [1, 0x1, 3, most],
    [9, 0x4, 3, 1],
  ]);
  t.strictSame(lengthsOf(2 * most), [
    [1, 0x1, 3, most],
    [9, 0x4, 3, most],
  ]);
  t.strictSame(lengthsOf(2 * most + 7), [
    [1, 0x1, 3, most],
    [9, 0x0, 3, most],
    [9, 0x4, 3, 7],
  ]);
});

t.test('a priority comes first, and says so', async (t) => {
  const priority = bytes(0x80, 0, 0, 1, 16);
  t.equal(hex(headersFrames(5, bytes(0x82), false, priority)), '000006012400000005' + '8000000110' + '82');
  const long = taken(headersFrames(5, Buffer.alloc(ownFramePayloadBytes), false, priority));
  t.strictSame(long.frames, [
    [1, 0x20, 5, ownFramePayloadBytes],
    [9, 0x4, 5, 5],
  ]);
});

t.test('each SETTINGS entry is visited, with where it is', async (t) => {
  const seen: number[][] = [];
  forEachSetting(bytes(0, 1, 0, 0, 16, 0, 1, 2, 255, 255, 255, 255), (...entry) => seen.push(entry));
  t.strictSame(seen, [
    [1, 4096, 0],
    [0x0102, 0xffffffff, 6],
  ]);
  forEachSetting(bytes(0, 1, 0, 0, 16), () => t.fail('none that is whole'));
  forEachSetting(bytes(), () => t.fail('none at all'));
});

t.test('padding is taken off, and may be no longer than the frame', async (t) => {
  const payload = bytes(2, 10, 11, 0, 0);
  t.equal(withoutPadding(Flag.endStream, payload), payload, 'without the flag there is none');
  t.equal(hex(withoutPadding(Flag.padded, payload)), '0a0b');
  t.equal(hex(withoutPadding(Flag.padded | Flag.endStream, bytes(0, 10))), '0a');
  t.equal(hex(withoutPadding(Flag.padded, bytes(2, 0, 0))), '', 'nothing else');
  t.equal(withoutPadding(Flag.padded, bytes(3, 0, 0)), undefined);
  t.equal(withoutPadding(Flag.padded, bytes(4, 0, 0)), undefined);
  t.equal(withoutPadding(Flag.padded, bytes()), undefined, 'without its length');
});
