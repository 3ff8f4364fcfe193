/** Damage to one frame as bytes: what a broken or hostile peer may write instead. */

import type { Random } from '../../src/harness/random.js';
import { FrameType, frameHeaderBytes } from '../../src/proxy/http2/frames.js';

const numbers = [0, 1, 2, 5, 0x3fff, 0x4000, 0x4001, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff];
const types = [...Object.values(FrameType), 10, 0xff];

type Mutation = (bytes: Buffer, random: Random, earlier: readonly Buffer[]) => Buffer;

function withNumberAt(bytes: Buffer, at: number, width: 1 | 3 | 4, value: number): Buffer {
  if (at + width > bytes.length) return bytes;
  const changed = Buffer.from(bytes);
  changed.writeUIntBE(value % 2 ** (8 * width), at, width);
  return changed;
}

function length(bytes: Buffer): number {
  return bytes.length < 3 ? 0 : bytes.readUIntBE(0, 3);
}

const mutations: readonly Mutation[] = [
  // Bits.
  (bytes, random) => {
    const changed = Buffer.from(bytes);
    for (let left = random.between(1, 4); left > 0; left--) {
      const at = random.below(changed.length);
      changed[at] = (changed[at] ?? 0) ^ (1 << random.below(8));
    }
    return changed;
  },
  // One octet behind the frame header: lengths, padding, prefixes.
  (bytes, random) =>
    withNumberAt(
      bytes,
      frameHeaderBytes + random.below(8),
      1,
      random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]),
    ),
  // Length, type, flags, stream id.
  (bytes, random) => withNumberAt(bytes, 0, 3, Math.max(0, length(bytes) + random.between(-9, 9))),
  (bytes, random) => withNumberAt(bytes, 0, 3, random.pick(numbers)),
  (bytes, random) => withNumberAt(bytes, 3, 1, random.pick(types)),
  (bytes, random) => withNumberAt(bytes, 4, 1, (bytes[4] ?? 0) ^ (1 << random.below(8))),
  (bytes, random) => withNumberAt(bytes, 5, 4, random.pick([...numbers, random.below(40)])),
  // A number of the payload: increments, codes, settings.
  (bytes, random) => withNumberAt(bytes, frameHeaderBytes + random.pick([0, 2, 4, 8]), 4, random.pick(numbers)),
  // Cut out a piece, say it twice, put one in from elsewhere.
  (bytes, random) => {
    const at = random.below(bytes.length);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.between(1, 12))]);
  },
  (bytes, random) => {
    const at = random.below(bytes.length);
    return Buffer.concat([bytes.subarray(0, at + random.between(1, 12)), bytes.subarray(at)]);
  },
  (bytes, random, earlier) => {
    const other = earlier.length === 0 ? random.bytes(20) : random.pick(earlier);
    const at = random.below(bytes.length);
    const from = random.below(other.length);
    return Buffer.concat([
      bytes.subarray(0, at),
      other.subarray(from, from + random.between(1, 40)),
      bytes.subarray(at),
    ]);
  },
  (bytes, random) => Buffer.concat([bytes, random.bytes(random.between(1, 30))]),
  // Whole frames: lost, repeated, said again later, of the right length again after damage.
  () => Buffer.alloc(0),
  (bytes, random) => Buffer.concat(Array.from({ length: random.pick([2, 3, 30, 120]) }, () => bytes)),
  (bytes, random, earlier) => (earlier.length === 0 ? bytes : Buffer.concat([bytes, random.pick(earlier)])),
  (bytes, random, earlier) => (earlier.length === 0 ? bytes : Buffer.concat([random.pick(earlier), bytes])),
  (bytes, random) => {
    const payload = random.bytes(Math.max(0, bytes.length - frameHeaderBytes));
    return Buffer.concat([bytes.subarray(0, frameHeaderBytes), payload]);
  },
  (bytes, random) => {
    const payload = random.bytes(random.size(300));
    const head = Buffer.concat([bytes.subarray(0, frameHeaderBytes), Buffer.alloc(frameHeaderBytes)]);
    return Buffer.concat([withNumberAt(head.subarray(0, frameHeaderBytes), 0, 3, payload.length), payload]);
  },
];

/** @param earlier Frames the same peer wrote before. */
export function mutate(bytes: Buffer, random: Random, earlier: readonly Buffer[]): Buffer {
  if (bytes.length === 0) return bytes;
  return random.pick(mutations)(bytes, random, earlier);
}
