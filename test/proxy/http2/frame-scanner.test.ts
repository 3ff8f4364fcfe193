import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { type FrameMode, FrameScanner } from '../../../src/proxy/http2/frame-scanner.js';
import { frame } from '../../../src/proxy/http2/frames.js';

const modes: readonly FrameMode[] = ['forward', 'collect', 'drop', 'collect'];

/** What a scanner does with `bytes` cut into `pieces`; the frame type says what becomes of a frame. */
function scan(pieces: readonly Buffer[]): { log: string[]; out: string } {
  const log: string[] = [];
  const out: Buffer[] = [];
  const scanner = new FrameScanner({
    frameStart(length, type, flags, streamId) {
      log.push(`start ${length} ${type} ${flags} ${streamId}`);
      if (flags === 9) scanner.insert(frame(7, 0, 0, Buffer.from('inserted')));
      return modes[type] ?? 'stop';
    },
    frameCollected(type, flags, streamId, payload) {
      log.push(`collected ${type} ${flags} ${streamId} ${payload.toString('hex')}`);
      if (flags === 8) scanner.insert(frame(7, 0, 0, Buffer.from('instead')));
      return type === 3;
    },
    output: (bytes) => out.push(bytes),
  });
  for (const piece of pieces) scanner.push(piece);
  return { log, out: Buffer.concat(out).toString('hex') };
}

const anyFrame = fc
  .record({
    type: fc.integer({ min: 0, max: 3 }),
    flags: fc.integer({ min: 0, max: 9 }),
    streamId: fc.integer({ min: 0, max: 0x7fffffff }),
    payload: fc.uint8Array({ maxLength: 40 }),
  })
  .map(({ type, flags, streamId, payload }) => ({
    type,
    flags,
    bytes: frame(type, flags, streamId, Buffer.from(payload)),
  }));

t.test('however the input is cut, the same frames are seen and the same bytes let through', (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(
        fc.array(anyFrame, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 40 }),
        (frames, cuts) => {
          const bytes = Buffer.concat(frames.map((one) => one.bytes));
          const pieces: Buffer[] = [];
          let at = 0;
          for (const cut of cuts) {
            pieces.push(bytes.subarray(at, at + cut));
            at += cut;
          }
          pieces.push(bytes.subarray(at));
          return isDeepStrictEqual(scan(pieces), scan([bytes]));
        },
      ),
      { numRuns: 300 },
    ),
  );
  t.end();
});

t.test('frames let through and inserted ones come out in order, dropped ones not at all', (t) => {
  const kept = frame(0, 0, 1, Buffer.from('kept'));
  const collected = frame(3, 0, 1, Buffer.from('collected'));
  const { out } = scan([
    Buffer.concat([kept, frame(2, 0, 1, Buffer.from('dropped')), frame(0, 9, 1, Buffer.from('after')), collected]),
  ]);
  const expected = [kept, frame(7, 0, 0, Buffer.from('inserted')), frame(0, 9, 1, Buffer.from('after')), collected];
  t.equal(out, Buffer.concat(expected).toString('hex'));
  t.end();
});

t.test('a chunk that passes whole is put out as it is, in one piece and uncopied', (t) => {
  const out: Buffer[] = [];
  const scanner = new FrameScanner({
    frameStart: (_length, type) => (type === 0 ? 'forward' : 'collect'),
    frameCollected: () => true,
    output: (bytes) => out.push(bytes),
  });
  const chunk = Buffer.concat([
    frame(0, 0, 1, Buffer.from('a')),
    frame(1, 0, 1, Buffer.from('b')),
    frame(0, 0, 1, Buffer.from('c')).subarray(0, 9),
  ]);
  scanner.push(chunk);
  t.equal(out.length, 1);
  t.equal(out[0], chunk);
  t.equal(scanner.atBoundary, false, 'the last frame has still its payload to come');
  scanner.push(Buffer.from('c'));
  t.equal(scanner.atBoundary, true);
  t.end();
});

t.test('nothing is read or let through after a stop', (t) => {
  const { log, out } = scan([
    Buffer.concat([
      frame(0, 0, 1, Buffer.from('a')),
      frame(9, 0, 1, Buffer.from('stop')),
      frame(0, 0, 1, Buffer.from('b')),
    ]),
  ]);
  t.strictSame(log, ['start 1 0 0 1', 'start 4 9 0 1']);
  t.equal(out, frame(0, 0, 1, Buffer.from('a')).toString('hex'));
  t.end();
});
