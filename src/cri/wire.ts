/**
 * Reads protobuf wire format in place: fields, their exact byte ranges, and a few single values. Knows no schema.
 *
 * Source: protobuf.dev/programming-guides/encoding.
 */

/** The bytes are not a protobuf message. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

export const wireTypes = { varint: 0, fixed64: 1, bytes: 2, startGroup: 3, endGroup: 4, fixed32: 5 } as const;

const maxFieldNumber = 2 ** 29 - 1;
/** protobuf's own default for nested messages and groups. */
const maxGroupDepth = 100;
const nothing: Buffer = Buffer.alloc(0);

/**
 * A cursor over the fields of one message: `next()` moves it, the properties describe the field it stands on.
 *
 * Bytes of the field as a whole are [start, end); its tag is [start, tagEnd); its value, without a length or the end tag of
 * a group, is [valueStart, valueEnd). All are offsets into `buffer`.
 */
export class FieldCursor {
  readonly buffer: Buffer;
  number = 0;
  wireType = 0;
  start = 0;
  tagEnd = 0;
  valueStart = 0;
  valueEnd = 0;
  end = 0;
  #position = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  /**
   * @returns Whether there was a further field.
   * @throws {WireError} The message is cut short, or holds a tag, length or group that no encoder writes.
   */
  next(): boolean {
    this.start = this.end;
    if (this.start >= this.buffer.length) return false;
    this.#position = this.start;
    this.#readTag();
    this.tagEnd = this.#position;
    if (this.wireType === wireTypes.endGroup)
      throw new WireError(`end of a group that never began at byte ${this.start}`);
    if (this.wireType === wireTypes.startGroup) this.#skipGroup();
    else this.#skipValue();
    this.end = this.#position;
    return true;
  }

  /** A view of the value's bytes. */
  get value(): Buffer {
    return this.buffer.subarray(this.valueStart, this.valueEnd);
  }

  /** The value of a varint field as 64 unsigned bits. */
  get varint(): bigint {
    return readVarint(this.buffer, this.valueStart).value;
  }

  #readTag(): void {
    const tag = this.#readNumber();
    this.number = Math.floor(tag / 8);
    this.wireType = tag % 8;
    if (this.number < 1 || this.number > maxFieldNumber) throw new WireError(`field number ${this.number}`);
  }

  #skipValue(): void {
    this.valueStart = this.#position;
    if (this.wireType === wireTypes.varint) this.#readNumber();
    else if (this.wireType === wireTypes.fixed64) this.#advance(8);
    else if (this.wireType === wireTypes.fixed32) this.#advance(4);
    else if (this.wireType === wireTypes.bytes) {
      const length = this.#readNumber();
      this.valueStart = this.#position;
      this.#advance(length);
    } else throw new WireError(`wire type ${this.wireType} at byte ${this.start}`);
    this.valueEnd = this.#position;
  }

  #skipGroup(): void {
    const outer = this.number;
    const open = [outer];
    const valueStart = this.#position;
    let valueEnd = valueStart;
    while (open.length > 0) {
      valueEnd = this.#position;
      this.#readTag();
      if (this.wireType === wireTypes.endGroup) {
        if (open.pop() !== this.number) throw new WireError(`groups overlap at byte ${valueEnd}`);
      } else if (this.wireType === wireTypes.startGroup) {
        open.push(this.number);
        if (open.length > maxGroupDepth) throw new WireError(`groups nested deeper than ${maxGroupDepth}`);
      } else this.#skipValue();
    }
    this.number = outer;
    this.wireType = wireTypes.startGroup;
    this.valueStart = valueStart;
    this.valueEnd = valueEnd;
  }

  #advance(bytes: number): void {
    if (bytes > this.buffer.length - this.#position) throw new WireError(`cut short at byte ${this.buffer.length}`);
    this.#position += bytes;
  }

  /** Exact up to 2^53, which is beyond every tag and length that is accepted. */
  #readNumber(): number {
    let value = 0;
    let scale = 1;
    for (let read = 0; read < 10; read++) {
      const byte = this.buffer[this.#position];
      if (byte === undefined) throw new WireError(`cut short at byte ${this.buffer.length}`);
      if (read === 9 && byte > 1) break;
      this.#position++;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw new WireError(`varint of more than 64 bits at byte ${this.#position}`);
  }
}

/**
 * @returns The varint at `start` as 64 unsigned bits, and where it ends.
 * @throws {WireError} It is cut short or longer than 64 bits.
 */
export function readVarint(buffer: Buffer, start: number): { value: bigint; end: number } {
  let value = 0n;
  for (let read = 0; read < 10; read++) {
    const byte = buffer[start + read];
    if (byte === undefined) throw new WireError(`cut short at byte ${buffer.length}`);
    if (read === 9 && byte > 1) break;
    value |= BigInt(byte & 0x7f) << BigInt(7 * read);
    if (byte < 0x80) return { value, end: start + read + 1 };
  }
  throw new WireError(`varint of more than 64 bits at byte ${start}`);
}

/** @param value A whole number from 0 to 2^53. */
export function encodeVarint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

/**
 * A string or bytes field as a decoder sees it: the last occurrence counts.
 *
 * @returns Empty where the field is absent.
 * @throws {WireError}
 */
export function lastBytes(message: Buffer, number: number): Buffer {
  let found: Buffer = nothing;
  const field = new FieldCursor(message);
  while (field.next()) if (field.number === number && field.wireType === wireTypes.bytes) found = field.value;
  return found;
}

/** As lastBytes, for a varint field; 0 where it is absent. */
export function lastVarint(message: Buffer, number: number): bigint {
  let found = 0n;
  const field = new FieldCursor(message);
  while (field.next()) if (field.number === number && field.wireType === wireTypes.varint) found = field.varint;
  return found;
}

/**
 * A singular message field as a decoder sees it: occurrences merge, which joining their bytes amounts to.
 *
 * @returns undefined where the field is absent.
 * @throws {WireError}
 */
export function mergedMessage(message: Buffer, number: number): Buffer | undefined {
  const found: Buffer[] = [];
  const field = new FieldCursor(message);
  while (field.next()) if (field.number === number && field.wireType === wireTypes.bytes) found.push(field.value);
  return found.length > 1 ? Buffer.concat(found) : found[0];
}
