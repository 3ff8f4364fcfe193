/**
 * The CRI messages of proto/cri.proto: as protobufjs types for encoding and decoding, and as plain descriptions for code that
 * works on wire bytes. Field names are those of the .proto file (snake case). Serves runtime.v1 and runtime.v1alpha2 alike.
 *
 * Reads proto/cri.json, which scripts/proto.ts makes of the .proto: to parse that takes a tenth of the start of `serve`, and the
 * memory of V8's optimizing compilers, which it sets to work. For the same reason the types are made when one is asked for.
 */
import protobuf from 'protobufjs/light.js';
import { shippedText } from '../shipped.js';

export interface FieldSchema {
  readonly number: number;
  readonly name: string;
  /** A protobuf scalar type such as `int64` (enums are `int32`, as on the wire), or `message`. */
  readonly type: string;
  /** Set if `type` is `message`. That of a map describes its entries: key = 1, value = 2. */
  readonly message: MessageSchema | undefined;
  readonly repeated: boolean;
  readonly map: boolean;
}

export interface MessageSchema {
  readonly name: string;
  readonly fields: ReadonlyMap<number, FieldSchema>;
}

/** What the .proto declares in a package or in a message, by name; the file has messages, enums and services. */
interface Declared {
  readonly fields?: Readonly<Record<string, DeclaredField>>;
  readonly values?: Readonly<Record<string, number>>;
  readonly nested?: Readonly<Record<string, Declared>>;
}

interface DeclaredField {
  readonly type: string;
  readonly id: number;
  readonly rule?: string;
  /** Of a map. */
  readonly keyType?: string;
}

const cri: { readonly nested: { readonly runtime: { readonly nested: { readonly v1: Declared } } } } = JSON.parse(
  shippedText('proto/cri.json'),
);
const { v1 } = cri.nested.runtime.nested;

let root: protobuf.Namespace | undefined;
const schemas = new Map<Declared, MessageSchema>();

/**
 * @param name A message of package runtime.v1, e.g. `ContainerConfig`.
 * @throws {Error} There is no such message.
 */
export function messageType(name: string): protobuf.Type {
  return types().lookupType(`runtime.v1.${name}`);
}

/** As messageType, as a plain description. */
export function messageSchema(name: string): MessageSchema {
  const declared = v1.nested?.[name];
  if (declared?.fields === undefined) throw new Error(`no message ${name} in runtime.v1`);
  return describeMessage(name, declared);
}

/** @param name `RuntimeService` or `ImageService`. */
export function service(name: string): protobuf.Service {
  return types().lookupService(`runtime.v1.${name}`);
}

function types(): protobuf.Namespace {
  root ??= protobuf.Root.fromJSON(cri).resolveAll();
  return root;
}

function describeMessage(name: string, declared: Declared): MessageSchema {
  const known = schemas.get(declared);
  if (known !== undefined) return known;
  const fields = new Map<number, FieldSchema>();
  const schema = { name, fields };
  schemas.set(declared, schema);
  for (const [fieldName, field] of Object.entries(declared.fields ?? {})) {
    fields.set(field.id, describeField(fieldName, field, declared));
  }
  return schema;
}

/** @param scope The message that has the field. */
function describeField(name: string, field: DeclaredField, scope: Declared): FieldSchema {
  const { id: number } = field;
  const value = describeValue(field.type, scope);
  if (field.keyType === undefined) return { number, name, ...value, repeated: field.rule === 'repeated', map: false };
  const single = { repeated: false, map: false };
  const entry: MessageSchema = {
    name: `${name} entry`,
    fields: new Map([
      [1, { number: 1, name: 'key', type: field.keyType, message: undefined, ...single }],
      [2, { number: 2, name: 'value', ...value, ...single }],
    ]),
  };
  return { number, name, type: 'message', message: entry, repeated: false, map: true };
}

function describeValue(type: string, scope: Declared): { type: string; message: MessageSchema | undefined } {
  const declared = scope.nested?.[type] ?? v1.nested?.[type];
  if (declared === undefined) return { type, message: undefined };
  if (declared.values !== undefined) return { type: 'int32', message: undefined };
  return { type: 'message', message: describeMessage(type, declared) };
}
