import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { type FrameMode, FrameScanner } from '../../../src/proxy/http2/frame-scanner.js';
import { frame, frameHeaderBytes } from '../../../src/proxy/http2/frames.js';

const modes: readonly FrameMode[] = ['forward', 'collect', 'drop', 'collect', 'stop'];
/** What a sink does at the start of a frame, or once it has collected one, by the frame's flags. */
const flag = { insertAtStart: 9, insertInstead: 8, stopAtStart: 7, stopWhenCollected: 6 } as const;
const inserted = frame(7, 0, 0, Buffer.from('inserted'));
const instead = frame(7, 0, 0, Buffer.from('instead'));

interface Scanned {
  readonly log: string[];
  readonly out: string;
  readonly atBoundary: boolean;
}

/** What a scanner does with `bytes` cut into `pieces`; the frame type says what becomes of a frame. */
function scan(pieces: readonly Buffer[]): Scanned {
  const log: string[] = [];
  const out: Buffer[] = [];
  const scanner = new FrameScanner({
    frameStart(length, type, flags, streamId) {
      log.push(`start ${length} ${type} ${flags} ${streamId}`);
      if (flags === flag.insertAtStart) scanner.insert(inserted);
      if (flags === flag.stopAtStart) scanner.stop();
      return modes[type] ?? 'stop';
    },
    frameCollected(type, flags, streamId, payload) {
      log.push(`collected ${type} ${flags} ${streamId} ${payload.toString('hex')}`);
      if (flags === flag.insertInstead) scanner.insert(instead);
      if (flags === flag.stopWhenCollected) scanner.stop();
      return type === 3;
    },
    output: (bytes) => {
      assert.notEqual(bytes.length, 0, 'nothing is put out in vain');
      out.push(bytes);
    },
  });
  for (const piece of pieces) scanner.push(piece);
  const { atBoundary } = scanner;
  scanner.stop();
  scanner.push(frame(0, 0, 1, Buffer.from('behind a stop')));
  assert.equal(scanner.atBoundary, atBoundary, 'what was begun stays unfinished');
  return { log, out: Buffer.concat(out).toString('hex'), atBoundary };
}

interface AnyFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** The same said of whole frames, of whose bytes the last `missing` never come. */
function scanned(frames: readonly AnyFrame[], missing: number): Scanned {
  const log: string[] = [];
  const out: Buffer[] = [];
  const done = (atBoundary: boolean): Scanned => ({ log, out: Buffer.concat(out).toString('hex'), atBoundary });
  let left = frames.reduce((sum, { payload }) => sum + frameHeaderBytes + payload.length, -missing);
  for (const { type, flags, streamId, payload } of frames) {
    if (left < frameHeaderBytes) return done(true);
    const bytes = frame(type, flags, streamId, payload);
    const there = Math.min(left, bytes.length);
    left -= there;
    log.push(`start ${payload.length} ${type} ${flags} ${streamId}`);
    if (flags === flag.insertAtStart) out.push(inserted);
    const mode = modes[type];
    if (mode === 'stop' || flags === flag.stopAtStart) return done(true);
    if (mode === 'forward') out.push(bytes.subarray(0, there));
    if (there < bytes.length) return done(mode !== 'forward');
    if (mode !== 'collect') continue;
    log.push(`collected ${type} ${flags} ${streamId} ${payload.toString('hex')}`);
    if (flags === flag.insertInstead) out.push(instead);
    if (flags === flag.stopWhenCollected) return done(true);
    if (type === 3) out.push(bytes);
  }
  return done(true);
}

const anyFrame: fc.Arbitrary<AnyFrame> = fc.record({
  // Stops are rare, so that much comes before one.
  type: fc.oneof({ weight: 30, arbitrary: fc.integer({ min: 0, max: 3 }) }, { weight: 1, arbitrary: fc.constant(4) }),
  flags: fc.oneof(
    { weight: 20, arbitrary: fc.constantFrom(0, 1, 4, flag.insertAtStart, flag.insertInstead) },
    { weight: 1, arbitrary: fc.constantFrom(flag.stopAtStart, flag.stopWhenCollected) },
  ),
  streamId: fc.integer({ min: 0, max: 0x7fffffff }),
  payload: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
});

t.test('however the input is cut, the same frames are seen and the same bytes let through', async () => {
  fc.assert(
    fc.property(
      fc.array(anyFrame, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 40 }),
      fc.oneof(fc.constant(0), fc.nat({ max: 60 })),
      (frames, cuts, unsent) => {
        const all = Buffer.concat(
          frames.map(({ type, flags, streamId, payload }) => frame(type, flags, streamId, payload)),
        );
        const missing = Math.min(unsent, all.length);
        const bytes = all.subarray(0, all.length - missing);
        const pieces: Buffer[] = [];
        let at = 0;
        for (const cut of cuts) {
          pieces.push(bytes.subarray(at, at + cut));
          at += cut;
        }
        pieces.push(bytes.subarray(at));
        const expected = scanned(frames, missing);
        assert.deepStrictEqual(scan(pieces), expected);
        assert.deepStrictEqual(scan([bytes]), expected);
        assert.deepStrictEqual(scan([...bytes].map((octet) => Buffer.from([octet]))), expected);
      },
    ),
    { numRuns: 500 },
  );
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

t.test('a chunk of one collected frame passes uncopied as well', (t) => {
  const out: Buffer[] = [];
  const scanner = new FrameScanner({
    frameStart: () => 'collect',
    frameCollected: () => true,
    output: (bytes) => out.push(bytes),
  });
  const chunk = frame(1, 0, 1, Buffer.from('a'));
  scanner.push(chunk);
  t.equal(out.length, 1);
  t.equal(out[0], chunk);
  t.end();
});

t.test('a payload is read along to its end, whatever becomes of its frame, and that of no other frame', (t) => {
  for (const mode of ['forward', 'collect', 'drop'] as const) {
    for (const cut of [1, 4, 100]) {
      const log: string[] = [];
      let read = '';
      const reader = {
        payload: (chunk: Buffer, from: number, to: number) => {
          read += chunk.toString('latin1', from, to);
        },
        payloadEnd: () => log.push(`read ${read}`),
      };
      const scanner: FrameScanner = new FrameScanner({
        frameStart: (_length, _type, flags) => {
          if (flags === 1) scanner.readAlong(reader);
          return mode;
        },
        frameCollected: (_type, flags) => {
          log.push(`collected ${flags}`);
          return true;
        },
        output: () => {},
      });
      const chunk = Buffer.concat([frame(0, 1, 1, Buffer.from('first')), frame(0, 2, 1, Buffer.from('second'))]);
      for (let at = 0; at < chunk.length; at += cut) scanner.push(chunk.subarray(at, at + cut));
      const expected = mode === 'collect' ? ['read first', 'collected 1', 'collected 2'] : ['read first'];
      t.strictSame([log, read], [expected, 'first'], `${mode}, in pieces of ${cut} bytes`);
    }
  }
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
