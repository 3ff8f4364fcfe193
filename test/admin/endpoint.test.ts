/** The admin socket of the running program: health, profiles, the log level, and what is not understood. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { askAdmin, askAdminJson } from '../../src/admin/client.js';
import { Sidecar } from '../../src/admin/sidecar.js';
import { systemClock } from '../../src/clock.js';
import { executable, node } from './node.js';

// They wait more than they work.
t.jobs = 2;

/** A heap snapshot takes seconds of CPU. */
const patientMs = 100_000;

t.test('a runtime that is away is not ready, and status says so', async (t) => {
  const { admin, runtime, status } = await node(t);
  t.match(await askAdmin(admin, '/readyz'), { status: 200, text: 'ok\n' });
  await runtime.kill();
  const answer = await askAdmin(admin, '/readyz');
  t.match(answer, { status: 503, text: /^the runtime (is not there|does not answer|accepts connections)/ });
  t.match(await askAdmin(admin, '/healthz'), { status: 200 });
  t.match(await status(), { code: 4, stdout: /RUNTIME: the runtime / });
});

t.test('profiles are what DevTools reads, one at a time, and the log level goes back', async (t) => {
  const { admin } = await node(t);
  const asked = askAdmin(admin, '/debug/pprof/profile?seconds=1', undefined, patientMs);
  t.match(await askAdmin(admin, '/debug/pprof/profile?seconds=100'), { status: 400, text: /1 to 60/ });
  const profile = JSON.parse((await asked).text);
  const ids = new Set(profile.nodes.map(({ id }: { id: number }) => id));
  t.ok(profile.endTime > profile.startTime);
  t.equal(profile.samples.length, profile.timeDeltas.length);
  t.ok(profile.samples.length > 0 && profile.samples.every((id: number) => ids.has(id)));
  t.ok(profile.nodes.every(({ children = [] }: { children?: number[] }) => children.every((id) => ids.has(id))));

  const both = await Promise.all(
    [1, 1].map((seconds) => askAdmin(admin, `/debug/pprof/profile?seconds=${seconds}`, undefined, patientMs)),
  );
  t.same(both.map(({ status }) => status).sort(), [200, 409]);

  const { text } = await askAdmin(admin, '/debug/pprof/heap', undefined, patientMs);
  const { snapshot, nodes, edges, strings } = JSON.parse(text);
  t.equal(nodes.length, snapshot.node_count * snapshot.meta.node_fields.length);
  t.equal(edges.length, snapshot.edge_count * snapshot.meta.edge_fields.length);
  t.ok(strings.length > 100);

  const level = async (body?: string, query = '') =>
    JSON.parse((await askAdmin(admin, `/debug/log-level${query}`, body)).text);
  t.same(await level(), { level: 'info', configured: 'info', backInMs: null });
  t.match(await level('debug', '?for=10m'), { level: 'debug', configured: 'info' });
  t.match(await askAdmin(admin, '/debug/log-level', 'loud'), { status: 400, text: /"loud" is no level/ });
  t.match(await askAdmin(admin, '/debug/log-level?for=1y', 'debug'), { status: 400, text: /for: give a duration/ });
  t.same(await level('info'), { level: 'info', configured: 'info', backInMs: null });
  for (const [body, said] of [
    ['x', /not JSON/],
    ['[]', /JSON object/],
    ['{"pod":"a"}', /JSON object with "uid"/],
    ['{"uid":""}', /"uid" is not understood/],
    ['{"uid":"a","kind":"b"}', /"kind" is not understood/],
  ] as const) {
    t.match(await askAdmin(admin, '/debug/creations/forget', body), { status: 400, text: said });
  }
  t.same(await askAdminJson(admin, '/debug/creations/forget', '{"uid":"a"}'), { results: [] });
});

t.test(
  "the socket is root's alone and gone at the end, and one that cannot be opened keeps nothing from going on",
  async (t) => {
    const { admin, process: running } = await node(t);
    t.equal(lstatSync(admin).mode & 0o777, 0o600);
    const exit = once(running, 'exit');
    running.kill('SIGTERM');
    t.same(await exit, [0, null]);
    t.throws(() => lstatSync(admin), { code: 'ENOENT' });
  },
);

t.test('an admin socket that cannot be opened keeps nothing from going on', async (t) => {
  const { directory, runtime } = await node(t);
  const file = path.join(directory, 'file');
  writeFileSync(file, 'mine');
  const listen = path.join(directory, 'h2.sock');
  const args = ['serve', '--listen', listen, '--runtime', runtime.socketPath, '--admin', file];
  const other = spawn(process.execPath, [executable, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => other.kill('SIGKILL'));
  let text = '';
  await new Promise<void>((resolve) => {
    other.stdout.on('data', (chunk) => {
      text += chunk;
      if (text.includes('an endpoint cannot be opened')) resolve();
    });
  });
  t.match(text, /"level":"error".*--admin: cannot serve the admin endpoint on .*not a socket/);
  const exit = once(other, 'exit');
  other.kill('SIGTERM');
  t.same(await exit, [0, null]);
});

t.test('a sidecar serves what Holdfast has, and goes on without it', async (t) => {
  const { admin, directory, client, kill } = await node(t);
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  const options = { admin, metrics: { host: '127.0.0.1', port: 0 }, kubeletCheckMs: 600_000 };
  const sidecar = new Sidecar(options, systemClock, log);
  const port = await sidecar.start();
  t.teardown(() => sidecar.close());
  const ask = async (what: string) => {
    const response = await fetch(`http://127.0.0.1:${port}/${what}`);
    return { status: response.status, text: await response.text() };
  };
  const gauges = async () =>
    (await ask('metrics')).text.split('\n').filter((line) => /^holdfast_(up|bypassed|in_path) /.test(line));
  t.same(
    await gauges(),
    ['holdfast_up 1', 'holdfast_bypassed 0', 'holdfast_in_path NaN'],
    'it has not been long enough to know',
  );
  t.match(await ask('readyz'), { status: 503, text: 'no kubelet has both listed and asked for the status yet' });
  await client.call('ListContainers');
  await client.call('Status');
  t.same(await gauges(), ['holdfast_up 1', 'holdfast_bypassed 0', 'holdfast_in_path 1']);
  t.match((await ask('metrics')).text, /^holdfast_calls_total\{method="Status"/m);
  t.match(await ask('readyz'), { status: 200 });
  writeFileSync(path.join(directory, 'bypassed'), '2026-11-28T05:00:00Z it failed');
  t.match(await ask('readyz'), { status: 503, text: 'bypassed since 2026-11-28T05:00:00Z: it failed' });
  rmSync(path.join(directory, 'bypassed'));
  await kill();
  t.same(await gauges(), ['holdfast_up 0', 'holdfast_bypassed 0', 'holdfast_in_path NaN']);
  t.match(await ask('readyz'), { status: 503, text: /Holdfast is not running/ });
  writeFileSync(path.join(directory, 'bypassed'), '2026-11-28T05:00:00Z it failed');
  t.same(await gauges(), ['holdfast_up 0', 'holdfast_bypassed 1', 'holdfast_in_path 0']);
  t.match(await ask('readyz'), { status: 503, text: 'bypassed since 2026-11-28T05:00:00Z: it failed' });
  t.match(await ask('healthz'), { status: 200 });
});
