/**
 * The CRI messages of proto/cri.proto: as protobufjs types for encoding and decoding, and as plain descriptions for code that
 * works on wire bytes. Field names are those of the .proto file (snake case). Serves runtime.v1 and runtime.v1alpha2 alike.
 */
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

const root = new protobuf.Root();
root.loadSync(fileURLToPath(new URL('../../proto/cri.proto', import.meta.url)), { keepCase: true });
root.resolveAll();

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

const schemas = new Map<protobuf.Type, MessageSchema>();

/**
 * @param name A message of package runtime.v1, e.g. `ContainerConfig`.
 * @throws {Error} There is no such message.
 */
export function messageType(name: string): protobuf.Type {
  return root.lookupType(`runtime.v1.${name}`);
}

/** As messageType, as a plain description. */
export function messageSchema(name: string): MessageSchema {
  return describeMessage(messageType(name));
}

/** @param name `RuntimeService` or `ImageService`. */
export function service(name: string): protobuf.Service {
  return root.lookupService(`runtime.v1.${name}`);
}

function describeMessage(type: protobuf.Type): MessageSchema {
  const known = schemas.get(type);
  if (known !== undefined) return known;
  const fields = new Map<number, FieldSchema>();
  const schema = { name: type.name, fields };
  schemas.set(type, schema);
  for (const field of type.fieldsArray) fields.set(field.id, describeField(field));
  return schema;
}

function describeField(field: protobuf.Field): FieldSchema {
  const { id: number, name, repeated } = field;
  const value = describeValue(field);
  if (!(field instanceof protobuf.MapField)) return { number, name, ...value, repeated, map: false };
  const single = { repeated: false, map: false };
  const entry: MessageSchema = {
    name: `${field.name} entry`,
    fields: new Map([
      [1, { number: 1, name: 'key', type: field.keyType, message: undefined, ...single }],
      [2, { number: 2, name: 'value', ...value, ...single }],
    ]),
  };
  return { number, name, type: 'message', message: entry, repeated: false, map: true };
}

function describeValue(field: protobuf.Field): { type: string; message: MessageSchema | undefined } {
  const { resolvedType } = field;
  if (resolvedType instanceof protobuf.Type) return { type: 'message', message: describeMessage(resolvedType) };
  return { type: resolvedType instanceof protobuf.Enum ? 'int32' : field.type, message: undefined };
}
