import t from 'tap';
import { methodOf } from '../../src/cri/methods.js';
import { endedId, readStringField, usedId } from '../../src/cri/requests.js';
import { messageType } from '../../src/cri/schema.js';

function encode(type: string, fields: object): Buffer {
  const message = messageType(type);
  return Buffer.from(message.encode(message.fromObject(fields)).finish());
}

function method(name: string) {
  const found = methodOf(`/runtime.v1.RuntimeService/${name}`);
  if (found === undefined) throw new Error(`no method ${name}`);
  return found;
}

t.test('the id of what was created is read from the response', async (t) => {
  t.equal(readStringField(encode('RunPodSandboxResponse', { pod_sandbox_id: 'p1' }), 1), 'p1');
  t.equal(readStringField(encode('CreateContainerResponse', { container_id: 'c1' }), 1), 'c1');
  t.equal(readStringField(Buffer.alloc(0), 1), '');
});

t.test('a request tells which id it uses or ends', async (t) => {
  const stop = encode('StopContainerRequest', { container_id: 'c1', timeout: 30 });
  t.strictSame(endedId(method('StopContainer'), stop), { kind: 'container', id: 'c1' });
  t.equal(usedId(method('StopContainer'), stop), undefined);
  const create = encode('CreateContainerRequest', { pod_sandbox_id: 'p1', config: {} });
  t.strictSame(usedId(method('CreateContainer'), create), { kind: 'podSandbox', id: 'p1' });
  t.equal(endedId(method('CreateContainer'), create), undefined);
});

t.test('a request without its id names nothing', async (t) => {
  t.equal(usedId(method('StartContainer'), Buffer.alloc(0)), undefined);
});

t.test('a malformed message reads as empty, whatever came before the fault', async (t) => {
  t.equal(readStringField(Buffer.from('0a0161' + '0a05', 'hex'), 1), '');
  t.equal(usedId(method('StartContainer'), Buffer.from('0a0161' + 'ff', 'hex')), undefined);
});

t.test('of a field that comes twice the last counts', async (t) => {
  t.equal(readStringField(Buffer.from('0a0161' + '0a0162', 'hex'), 1), 'b');
});
