/**
 * A protobuf message as a tree, and that tree as bytes that are the same for every encoding of the same message and differ for
 * any two messages that differ. Guided by a schema, unknown fields included; knows nothing of what the fields mean.
 */
import type { FieldSchema, MessageSchema } from '../cri/schema.js';
import { FieldCursor, readVarint, WireError, wireTypes } from '../cri/wire.js';

type Scalar = bigint | Buffer;

type NormalField =
  | { readonly kind: 'scalar'; value: Scalar }
  | { readonly kind: 'scalars'; readonly values: Scalar[] }
  | { readonly kind: 'message'; readonly value: NormalMessage }
  | { readonly kind: 'messages'; values: NormalMessage[] }
  | { readonly kind: 'map'; readonly entries: Map<string, NormalMessage> };

/** Wire type and bytes of a field that the schema does not have, or not with this wire type. */
interface UnknownField {
  readonly number: number;
  readonly wireType: number;
  readonly value: Buffer;
}

/** Bounds the memory that one request can take here; real ones have a few hundred fields. */
const maxFields = 65_536;

/** The message may be well-formed, but is not to be had as a tree. */
export class TooLargeError extends Error {
  override readonly name = 'TooLargeError';
}

const wireTypeOf = new Map<string, number>([
  ['message', wireTypes.bytes],
  ['string', wireTypes.bytes],
  ['bytes', wireTypes.bytes],
  ['double', wireTypes.fixed64],
  ['fixed64', wireTypes.fixed64],
  ['sfixed64', wireTypes.fixed64],
  ['float', wireTypes.fixed32],
  ['fixed32', wireTypes.fixed32],
  ['sfixed32', wireTypes.fixed32],
]);

/** One message. Absent fields read as '' and empty lists, as in proto3. */
export class NormalMessage {
  readonly schema: MessageSchema;
  readonly fields = new Map<number, NormalField>();
  readonly unknown: UnknownField[] = [];

  constructor(schema: MessageSchema) {
    this.schema = schema;
  }

  /** The bytes of a string or bytes field; empty where it is absent. */
  bytes(number: number): Buffer {
    const field = this.fields.get(number);
    return field?.kind === 'scalar' && typeof field.value !== 'bigint' ? field.value : Buffer.alloc(0);
  }

  /** A varint field as 64 unsigned bits; 0 where it is absent. */
  varint(number: number): bigint {
    const field = this.fields.get(number);
    return field?.kind === 'scalar' && typeof field.value === 'bigint' ? field.value : 0n;
  }

  message(number: number): NormalMessage | undefined {
    const field = this.fields.get(number);
    return field?.kind === 'message' ? field.value : undefined;
  }

  messages(number: number): readonly NormalMessage[] {
    const field = this.fields.get(number);
    return field?.kind === 'messages' ? field.values : [];
  }

  /** The value of a map<string, string>'s key; undefined where the map does not have it. */
  entry(number: number, key: string): Buffer | undefined {
    const field = this.fields.get(number);
    return field?.kind === 'map' ? field.entries.get(mapKey(key))?.bytes(2) : undefined;
  }

  drop(number: number): void {
    this.fields.delete(number);
  }

  dropEntry(number: number, key: string): void {
    const field = this.fields.get(number);
    if (field?.kind !== 'map') return;
    field.entries.delete(mapKey(key));
    if (field.entries.size === 0) this.fields.delete(number);
  }

  /** Sorts a list of messages by the bytes of one of their fields; equal ones keep their order. */
  sortMessages(number: number, by: number): void {
    const field = this.fields.get(number);
    if (field?.kind === 'messages') {
      field.values = field.values
        .map((message) => ({ message, key: message.bytes(by) }))
        .sort((a, b) => Buffer.compare(a.key, b.key))
        .map(({ message }) => message);
    }
  }
}

/**
 * Reads as protobuf does: fields in any order, the last value of a singular field and of a map key counts, occurrences of a
 * singular message merge, scalars with their default value are as good as absent, numbers are cut to the width of their type.
 *
 * @throws {WireError} Malformed.
 * @throws {TooLargeError} More than 65,536 fields.
 */
export function parseMessage(schema: MessageSchema, bytes: Buffer): NormalMessage {
  return parse(schema, bytes, { fields: 0 });
}

function parse(schema: MessageSchema, bytes: Buffer, budget: { fields: number }): NormalMessage {
  const message = new NormalMessage(schema);
  // Most messages are entries of a list or a map and have none below them.
  let partsOfMessages: Map<number, { readonly schema: MessageSchema; readonly parts: Buffer[] }> | undefined;
  const cursor = new FieldCursor(bytes);
  while (cursor.next()) {
    spend(budget);
    const { number, wireType, value } = cursor;
    const field = schema.fields.get(number);
    const expected = field === undefined ? undefined : (wireTypeOf.get(field.type) ?? wireTypes.varint);
    const packed = field?.repeated === true && wireType === wireTypes.bytes && expected !== wireTypes.bytes;
    if (field === undefined || (expected !== wireType && !packed)) {
      message.unknown.push({ number, wireType, value });
    } else if (field.message === undefined) {
      if (field.repeated)
        appendScalars(message, field, packed ? unpack(field.type, value, budget) : [scalar(field.type, value)]);
      else setScalar(message, field, scalar(field.type, value));
    } else if (field.map) {
      setEntry(message, field, parse(field.message, value, budget));
    } else if (field.repeated) {
      appendMessage(message, field, parse(field.message, value, budget));
    } else {
      partsOfMessages ??= new Map();
      const known = partsOfMessages.get(number);
      if (known === undefined) partsOfMessages.set(number, { schema: field.message, parts: [value] });
      else known.parts.push(value);
    }
  }
  for (const [number, { schema, parts }] of partsOfMessages ?? []) {
    const [first] = parts;
    const whole = parts.length === 1 && first !== undefined ? first : Buffer.concat(parts);
    message.fields.set(number, { kind: 'message', value: parse(schema, whole, budget) });
  }
  return message;
}

function spend(budget: { fields: number }): void {
  if (++budget.fields > maxFields) throw new TooLargeError(`more than ${maxFields} fields`);
}

function setScalar(message: NormalMessage, field: FieldSchema, value: Scalar): void {
  if (isDefault(field.type, value)) message.fields.delete(field.number);
  else message.fields.set(field.number, { kind: 'scalar', value });
}

function appendScalars(message: NormalMessage, field: FieldSchema, values: Scalar[]): void {
  const list = message.fields.get(field.number);
  if (list?.kind === 'scalars') for (const value of values) list.values.push(value);
  else if (values.length > 0) message.fields.set(field.number, { kind: 'scalars', values });
}

function appendMessage(message: NormalMessage, field: FieldSchema, value: NormalMessage): void {
  const list = message.fields.get(field.number);
  if (list?.kind === 'messages') list.values.push(value);
  else message.fields.set(field.number, { kind: 'messages', values: [value] });
}

function setEntry(message: NormalMessage, field: FieldSchema, entry: NormalMessage): void {
  const key = entry.fields.get(1);
  const name =
    key?.kind === 'scalar' ? (typeof key.value === 'bigint' ? `${key.value}` : key.value.toString('latin1')) : '';
  const map = message.fields.get(field.number);
  if (map?.kind === 'map') map.entries.set(name, entry);
  else message.fields.set(field.number, { kind: 'map', entries: new Map([[name, entry]]) });
}

/** Keys are kept one character a byte, so that any bytes are told apart and sort as bytes. */
function mapKey(key: string): string {
  return Buffer.from(key).toString('latin1');
}

function scalar(type: string, value: Buffer): Scalar {
  return wireTypeOf.has(type) ? value : normalVarint(type, readVarint(value, 0).value);
}

function unpack(type: string, packed: Buffer, budget: { fields: number }): Scalar[] {
  const values: Scalar[] = [];
  const wireType = wireTypeOf.get(type);
  for (let position = 0; position < packed.length; ) {
    spend(budget);
    if (wireType === undefined) {
      const { value, end } = readVarint(packed, position);
      values.push(normalVarint(type, value));
      position = end;
    } else {
      const end = position + (wireType === wireTypes.fixed64 ? 8 : 4);
      if (end > packed.length) throw new WireError(`cut short at byte ${packed.length}`);
      values.push(packed.subarray(position, end));
      position = end;
    }
  }
  return values;
}

function normalVarint(type: string, value: bigint): bigint {
  if (type === 'int32') return BigInt.asUintN(64, BigInt.asIntN(32, value));
  if (type === 'uint32' || type === 'sint32') return BigInt.asUintN(32, value);
  if (type === 'bool') return value === 0n ? 0n : 1n;
  return value;
}

function isDefault(type: string, value: Scalar): boolean {
  if (typeof value === 'bigint') return value === 0n;
  if (type === 'string' || type === 'bytes') return value.length === 0;
  return value.every((byte) => byte === 0);
}

/**
 * Told of every field at the root and in the singular messages below it, in order: its path of field numbers, the key of a map
 * entry or list element that has one, and where its bytes are.
 */
export type FieldVisitor = (path: string, key: Buffer | undefined, start: number, end: number) => void;

/** Of elements of a list of such messages, the number of the field that names one; undefined: none does. */
export type KeyField = (element: MessageSchema) => number | undefined;

/** Of what is inside an element of a list or a map nobody is told. */
const untold: FieldVisitor = () => {};

/** What records are; no two kinds of field share one. */
const recordKinds = { number: 0, bytes: 1, numbers: 2, message: 3, unknown: 4 } as const;

/**
 * @returns Records of (field number, kind, length, content), in order of field number, unknown fields last. Overwritten by the
 * next call.
 */
export function normalBytes(
  message: NormalMessage,
  keyField: KeyField = () => undefined,
  visit: FieldVisitor = untold,
): Buffer {
  const writer = new RecordWriter();
  writeFields(writer, message, '', keyField, visit);
  return writer.written;
}

function writeFields(
  writer: RecordWriter,
  message: NormalMessage,
  prefix: string,
  keyField: KeyField,
  visit: FieldVisitor,
): void {
  const fields = [...message.fields].sort(([a], [b]) => a - b);
  for (const [number, field] of fields) {
    const path = `${prefix}${number}`;
    const element = (value: NormalMessage, key: Buffer | undefined) => {
      const start = writer.begin();
      writeFields(writer, value, path, keyField, untold);
      writer.end(start, number, recordKinds.message);
      visit(path, key, start, writer.length);
    };
    if (field.kind === 'message') {
      const start = writer.begin();
      writeFields(writer, field.value, `${path}.`, keyField, visit);
      writer.end(start, number, recordKinds.message);
      const empty = field.value.fields.size === 0 && field.value.unknown.length === 0;
      if (empty) visit(path, undefined, start, writer.length);
    } else if (field.kind === 'messages') {
      for (const value of field.values) {
        const by = keyField(value.schema);
        element(value, by === undefined ? undefined : value.bytes(by));
      }
    } else if (field.kind === 'map') {
      const entries = [...field.entries].sort(([a], [b]) => (a < b ? -1 : 1));
      for (const [name, entry] of entries) element(entry, Buffer.from(name, 'latin1'));
    } else {
      const start = writer.length;
      if (field.kind === 'scalar') writer.scalar(number, field.value);
      else {
        writer.begin();
        for (const value of field.values) writer.scalar(0, value);
        writer.end(start, number, recordKinds.numbers);
      }
      visit(path, undefined, start, writer.length);
    }
  }
  const unknown = [...message.unknown].sort((a, b) => a.number - b.number);
  for (const { number, wireType, value } of unknown) {
    const start = writer.begin();
    writer.append(value);
    writer.end(start, number, recordKinds.unknown + wireType);
    visit(`${prefix}${number}`, undefined, start, writer.length);
  }
}

/** Where records are written; only larger requests get a buffer of their own. */
const scratch: Buffer = Buffer.alloc(16_384);

class RecordWriter {
  #buffer = scratch;
  length = 0;

  get written(): Buffer {
    return this.#buffer.subarray(0, this.length);
  }

  /** What is written until `end` is the content of a record. @returns Where it starts. */
  begin(): number {
    const start = this.length;
    this.#reserve(9);
    this.length += 9;
    return start;
  }

  end(start: number, number: number, kind: number): void {
    this.#buffer.writeUInt32LE(number, start);
    this.#buffer.writeUInt8(kind, start + 4);
    this.#buffer.writeUInt32LE(this.length - start - 9, start + 5);
  }

  scalar(number: number, value: Scalar): void {
    const start = this.begin();
    if (typeof value !== 'bigint') {
      this.append(value);
      this.end(start, number, recordKinds.bytes);
      return;
    }
    this.#reserve(8);
    this.length = this.#buffer.writeBigUInt64LE(value, this.length);
    this.end(start, number, recordKinds.number);
  }

  append(bytes: Buffer): void {
    this.#reserve(bytes.length);
    this.length += bytes.copy(this.#buffer, this.length);
  }

  #reserve(bytes: number): void {
    if (this.length + bytes <= this.#buffer.length) return;
    // Powers of two, so that a large message is not copied for each of its fields.
    const larger = Buffer.allocUnsafe(2 ** Math.ceil(Math.log2(this.length + bytes)));
    this.written.copy(larger);
    this.#buffer = larger;
  }
}
