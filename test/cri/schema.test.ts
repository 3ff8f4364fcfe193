import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import t from 'tap';
import { type FieldSchema, type MessageSchema, messageSchema, messageType } from '../../src/cri/schema.js';

const file = (name: string) => readFileSync(new URL(`../../proto/${name}`, import.meta.url), 'utf8');
const { root } = protobuf.parse(file('cri.proto'), { keepCase: true });
const messages = root.lookup('runtime.v1');
const names =
  messages instanceof protobuf.Namespace
    ? messages.nestedArray.filter((one) => one instanceof protobuf.Type).map((one) => one.name)
    : [];

t.test('cri.json says what cri.proto says; npm run proto makes it so', async (t) => {
  t.strictSame(JSON.parse(file('cri.json')), JSON.parse(JSON.stringify(root)));
});

t.test('every field of every message is described as its type says', async (t) => {
  t.ok(names.length > 100, `${names.length} messages`);
  const seen = new Set<string>();
  /** As protobufjs resolves it. */
  const same = (schema: MessageSchema, type: protobuf.Type): void => {
    t.equal(schema.name, type.name);
    if (seen.has(type.fullName)) return;
    seen.add(type.fullName);
    t.strictSame(
      [...schema.fields.keys()],
      type.fieldsArray.map(({ id }) => id),
      type.name,
    );
    for (const field of type.fieldsArray) {
      const { id: number, name, repeated } = field;
      const described = schema.fields.get(number);
      const map = field instanceof protobuf.MapField;
      t.match(described, { number, name, map, repeated: repeated && !map }, `${type.name}.${name}`);
      const value = map ? described?.message?.fields.get(2) : described;
      if (map) t.match(described?.message?.fields.get(1), { name: 'key', type: field.keyType, message: undefined });
      valueIs(value, field.resolvedType, field.type);
    }
  };
  const valueIs = (value: FieldSchema | undefined, resolved: unknown, scalar: string): void => {
    const message = resolved instanceof protobuf.Type ? resolved : undefined;
    t.equal(value?.type, message ? 'message' : resolved instanceof protobuf.Enum ? 'int32' : scalar);
    if (message === undefined) t.equal(value?.message, undefined);
    else if (value?.message === undefined) t.fail(`${message.name} is not described`);
    else same(value.message, message);
  };
  for (const name of names) same(messageSchema(name), messageType(name));
});

t.test('a message that CRI does not have is refused by name, and an enum is none', async (t) => {
  t.throws(() => messageSchema('Pod'), { message: 'no message Pod in runtime.v1' });
  t.throws(() => messageSchema('NamespaceMode'), { message: 'no message NamespaceMode in runtime.v1' });
  t.throws(() => messageType('Pod'));
});
