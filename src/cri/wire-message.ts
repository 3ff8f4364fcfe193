/**
 * A message on the wire of which single fields are read, as a decoder would: for messages too large to be parsed whole. Knows
 * no schema.
 */
import { FieldCursor, WireError, wireTypes } from './wire.js';

/** Bounds the time that one look takes to some 10 ms. What a kubelet asks for is an object of 1.5 MiB at most, mostly text. */
const maxFields = 1_000_000;

/** Of one singular message. Encoders write one. */
const maxParts = 1_000;

/**
 * Each method walks the fields of this message once, and looks into none that it does not return.
 *
 * All throw {WireError} where this message is malformed, or has a million fields.
 */
export class WireMessage {
  readonly buffer: Buffer;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  /** @returns A string or bytes field; empty where it is absent. */
  bytes(number: number): Buffer {
    let start = 0;
    let end = 0;
    this.#each(number, wireTypes.bytes, (field) => {
      start = field.valueStart;
      end = field.valueEnd;
    });
    return this.buffer.subarray(start, end);
  }

  /** @returns A varint field as 64 unsigned bits; 0 where it is absent. */
  varint(number: number): bigint {
    let found = 0n;
    this.#each(number, wireTypes.varint, (field) => {
      found = field.varint;
    });
    return found;
  }

  /**
   * @returns A singular message; undefined where it is absent.
   * @throws {WireError} It comes in more than 1,000 parts.
   */
  message(number: number): WireMessage | undefined {
    const parts: Buffer[] = [];
    this.#each(number, wireTypes.bytes, (field) => {
      if (parts.length >= maxParts) throw new WireError(`field ${number} comes in more than ${maxParts} parts`);
      parts.push(field.value);
    });
    const [first] = parts;
    return first && new WireMessage(parts.length === 1 ? first : Buffer.concat(parts));
  }

  /** @returns The value of a map<string, string>'s key; undefined where the map does not have it. */
  entry(number: number, key: string): Buffer | undefined {
    const keyBytes = Buffer.from(key);
    let found: Buffer | undefined;
    this.#each(number, wireTypes.bytes, (field) => {
      // Most entries of a large map are too short to have this key and need no look.
      if (field.valueEnd - field.valueStart < keyBytes.length) return;
      const entry = new WireMessage(field.value);
      if (entry.bytes(1).equals(keyBytes)) found = entry.bytes(2);
    });
    return found;
  }

  #each(number: number, wireType: number, visit: (field: FieldCursor) => void): void {
    const field = new FieldCursor(this.buffer);
    for (let walked = 0; field.next(); walked++) {
      if (walked >= maxFields) throw new WireError(`more than ${maxFields} fields`);
      if (field.number === number && field.wireType === wireType) visit(field);
    }
  }
}
