import { once } from 'node:events';
import { chmodSync, existsSync, lstatSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { AdminListenError, HttpError, type Routes, serveHttp } from '../../src/admin/http.js';

const local = { host: '127.0.0.1', port: 0 };

const routes: Routes = {
  '/fine': { GET: ({ response, query }) => response.end(`fine ${query.get('x')}`) },
  '/echo': { POST: async ({ response, body }) => response.end(await body()), PUT: ({ response }) => response.end() },
  '/broken': { GET: () => Promise.reject(new Error('no luck')) },
  '/refused': {
    GET: () => {
      throw new HttpError(409, 'not now');
    },
  },
};

async function served(t: Test, where: Parameters<typeof serveHttp>[0] = local) {
  const endpoint = await serveHttp(where, routes);
  t.teardown(() => endpoint.close());
  return endpoint;
}

function folder(t: Test): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hfad-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function askSocket(socketPath: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path: '/fine', agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    asked.on('error', reject);
    asked.end();
  });
}

t.test('a route is answered, with its query', async (t) => {
  const { port } = await served(t);
  const response = await fetch(`http://127.0.0.1:${port}/fine?x=1`);
  t.equal(response.status, 200);
  t.equal(await response.text(), 'fine 1');
});

t.test('other paths and methods are refused with what there is', async (t) => {
  const { port } = await served(t);
  const url = `http://127.0.0.1:${port}`;
  for (const wrong of ['/', '/fine/', '/constructor']) {
    const response = await fetch(`${url}${wrong}`);
    t.equal(response.status, 404, wrong);
    t.match(await response.text(), /there is \/fine, \/echo/);
  }
  const response = await fetch(`${url}/echo`);
  t.equal(response.status, 405);
  t.equal(response.headers.get('allow'), 'POST, PUT');
  t.match(await response.text(), '/echo takes POST, PUT, not GET');
});

t.test('what fails is answered so, and the next request is served', async (t) => {
  const { port } = await served(t);
  const url = `http://127.0.0.1:${port}`;
  const broken = await fetch(`${url}/broken`);
  t.same([broken.status, await broken.text()], [500, 'it failed: no luck\n']);
  const refused = await fetch(`${url}/refused`);
  t.same([refused.status, await refused.text()], [409, 'not now\n']);
  t.equal((await fetch(`${url}/fine`)).status, 200);
});

t.test('a body of 16 KiB is read, a longer one is refused', async (t) => {
  const { port } = await served(t);
  const post = (bytes: number) => fetch(`http://127.0.0.1:${port}/echo`, { method: 'POST', body: 'x'.repeat(bytes) });
  t.equal((await (await post(16_384)).text()).length, 16_384);
  t.equal((await post(16_385)).status, 413);
});

t.test('an address in use is an error that names it', async (t) => {
  const { port } = await served(t);
  await t.rejects(
    serveHttp({ host: '127.0.0.1', port }, routes),
    new AdminListenError(
      `--metrics: cannot serve metrics on 127.0.0.1:${port}: listen EADDRINUSE: address already in use 127.0.0.1:${port}`,
    ),
  );
});

t.test('who does not send a head makes room for others after some seconds, and not half a minute', async (t) => {
  const { port } = await served(t);
  const connection = connect(port, '127.0.0.1');
  t.teardown(() => connection.destroy());
  connection.write('GET /fine HTTP/1.1\r\n');
  connection.resume();
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    connection.destroy();
  }, 20_000);
  await once(connection, 'close');
  clearTimeout(timer);
  t.notOk(isOver);
});

t.test('what is no path is refused', async (t) => {
  const { port } = await served(t);
  const connection = connect(port, '127.0.0.1');
  connection.write('GET // HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
  let text = '';
  connection.on('data', (chunk) => {
    text += chunk;
  });
  await once(connection, 'close');
  t.match(text, /^HTTP\/1.1 400 /);
});

t.test('close ends a connection that says nothing', async (t) => {
  const endpoint = await serveHttp(local, routes);
  const socket = connect(endpoint.port, '127.0.0.1');
  await once(socket, 'connect');
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  await endpoint.close();
  await closed;
  t.ok(socket.destroyed);
});

t.test('a socket file is for its owner alone, or for one group too, and is removed at the end', async (t) => {
  const socket = path.join(folder(t), 'sub', 'admin.sock');
  const own = await serveHttp({ path: socket }, routes);
  t.equal(lstatSync(socket).mode & 0o777, 0o600);
  t.equal(await askSocket(socket), 200);
  await own.close();
  t.notOk(existsSync(socket));
  const gid = process.getegid?.() ?? 0;
  const shared = await serveHttp({ path: socket, gid }, routes);
  t.equal(lstatSync(socket).mode & 0o777, 0o660);
  t.equal(lstatSync(socket).gid, gid);
  await shared.close();
});

t.test(
  'the file of a socket that nobody answers on is replaced, one in use and what is no socket is left alone',
  async (t) => {
    const directory = folder(t);
    const stale = path.join(directory, 'stale.sock');
    const dead = createServer();
    await new Promise<void>((resolve) => dead.listen(stale, resolve));
    // Closed without its file being removed, as by SIGKILL.
    chmodSync(stale, 0o777);
    const kept = `${stale}.kept`;
    const { renameSync } = await import('node:fs');
    renameSync(stale, kept);
    await new Promise((resolve) => dead.close(resolve));
    renameSync(kept, stale);
    await served(t, { path: stale });
    t.equal(await askSocket(stale), 200);
    await t.rejects(serveHttp({ path: stale }, routes), { message: /another process is listening there/ });
    t.equal(await askSocket(stale), 200);
    const file = path.join(directory, 'file');
    writeFileSync(file, 'mine');
    await t.rejects(serveHttp({ path: file }, routes), { name: 'AdminListenError', message: /not a socket/ });
    t.ok(existsSync(file));
  },
);
