import { once } from 'node:events';
import { connect } from 'node:net';
import { Counter, Registry } from 'prom-client';
import t from 'tap';
import { AdminListenError, serveAdmin } from '../../src/admin/http.js';

const local = { host: '127.0.0.1', port: 0 };

t.test('GET /metrics answers with the registry in the Prometheus text format', async (t) => {
  const registry = new Registry();
  new Counter({ name: 'things_total', help: 'Things.', registers: [registry] }).inc(3);
  const admin = await serveAdmin(local, registry);
  t.teardown(() => admin.close());
  const response = await fetch(`http://127.0.0.1:${admin.port}/metrics?x=1`);
  t.equal(response.status, 200);
  t.equal(response.headers.get('content-type'), registry.contentType);
  t.match(await response.text(), /^things_total 3$/m);
});

t.test('other paths are not found and other methods not allowed', async (t) => {
  const admin = await serveAdmin(local, new Registry());
  t.teardown(() => admin.close());
  const url = `http://127.0.0.1:${admin.port}`;
  t.equal((await fetch(`${url}/`)).status, 404);
  t.equal((await fetch(`${url}/metrics/`)).status, 404);
  const posted = await fetch(`${url}/metrics`, { method: 'POST', body: 'x' });
  t.equal(posted.status, 405);
  t.equal(posted.headers.get('allow'), 'GET');
});

t.test('a registry that fails is an error 500, and the next request is served', async (t) => {
  const registry = new Registry();
  let failing = true;
  registry.metrics = () => (failing ? Promise.reject(new Error('broken')) : Promise.resolve('fine'));
  const admin = await serveAdmin(local, registry);
  t.teardown(() => admin.close());
  const url = `http://127.0.0.1:${admin.port}/metrics`;
  t.equal((await fetch(url)).status, 500);
  failing = false;
  t.equal(await (await fetch(url)).text(), 'fine');
});

t.test('an address in use is an error that names it', async (t) => {
  const admin = await serveAdmin(local, new Registry());
  t.teardown(() => admin.close());
  await t.rejects(
    serveAdmin({ host: '127.0.0.1', port: admin.port }, new Registry()),
    new AdminListenError(
      `cannot serve metrics on 127.0.0.1:${admin.port}: listen EADDRINUSE: address already in use 127.0.0.1:${admin.port}`,
    ),
  );
});

t.test('close ends a connection that says nothing', async (t) => {
  const admin = await serveAdmin(local, new Registry());
  const socket = connect(admin.port, '127.0.0.1');
  await once(socket, 'connect');
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  await admin.close();
  await closed;
  t.ok(socket.destroyed);
});
