import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { askAdminJson, readBypass } from '../../src/admin/client.js';

async function listening(t: Test, server: Server): Promise<string> {
  const directory = mkdtempSync(path.join(tmpdir(), 'hfad-'));
  t.teardown(() => {
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const socket = path.join(directory, 'a.sock');
  await new Promise<void>((resolve) => {
    server.listen(socket, resolve);
  });
  return socket;
}

t.test('a server that hangs up, as one with too many connections does, is told so', async (t) => {
  const socket = await listening(
    t,
    createServer((connection) => connection.destroy()),
  );
  await t.rejects(askAdminJson(socket, '/'), { reason: 'no answer', message: /^Holdfast hung up at .*too many/ });
});

t.test('an answer that is not JSON is not of Holdfast', async (t) => {
  const socket = await listening(
    t,
    createHttpServer((_, response) => response.end('<html>')),
  );
  await t.rejects(askAdminJson(socket, '/'), {
    reason: 'refused',
    message: `what answers at ${socket} is not Holdfast`,
  });
});

t.test('a place where no marker can be is not bypassed', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hfad-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(path.join(directory, 'file'), '');
  t.equal(readBypass(path.join(directory, 'file', 'a.sock')), undefined);
});
