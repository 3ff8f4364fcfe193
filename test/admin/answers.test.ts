/** Programs of different versions meet at the admin socket: whatever is missing, new or of another type, nobody falls over it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { askAdmin } from '../../src/admin/client.js';
import { runForget } from '../../src/admin/forget.js';
import type { CreationsAnswer } from '../../src/admin/routes.js';
import { Sidecar } from '../../src/admin/sidecar.js';
import { runStatus } from '../../src/admin/status.js';
import { systemClock } from '../../src/clock.js';

const answer: CreationsAnswer = {
  summary: {
    version: '1.2.3',
    node: 'v24',
    pid: 1,
    listen: '/l',
    runtime: '/r',
    startedAt: '2026-11-28T05:00:00.000Z',
    uptimeMs: 600_000,
    connections: 2,
    runtimeAnswers: true,
    runtimeSilence: null,
    admission: { limit: 8, inFlight: 1, hung: 0, queued: { start: 2 }, pressurePercent: { cpu: 1 } },
    creations: { remembered: 1, hidden: 0, backingOff: 0, wedged: 0 },
    kubelet: { status: { calls: 1, lastAgoMs: 1 }, lists: { calls: 1, lastAgoMs: 1 } },
  },
  deliveredLeftOut: 0,
  creations: [
    {
      kind: 'container',
      namespace: 'n',
      pod: 'web',
      uid: 'u',
      container: 'c',
      attempt: 1,
      id: 'i',
      state: 'queued',
      stuck: false,
      ageMs: 1,
      stateForMs: 1,
      waiters: 1,
      hidden: false,
      queue: { before: 1, class: 'start', forMs: 1 },
      waitsFor: 'w',
      next: 'n',
      failures: { count: 1, lastAgoMs: 1, nextInMs: 1 },
      reserved: { by: 'x', forMs: 1, tries: 1, wedged: false, remedy: 'r' },
      lastError: 'e',
    },
  ],
};

type Json = null | string | number | boolean | readonly Json[] | { readonly [name: string]: Json };

/** The value without each of its parts in turn, at any depth, and with something else in its place. */
function* changed(value: Json): Generator<Json> {
  yield* [null, [], {}, 'text', 7];
  if (typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    for (const [at, item] of value.entries()) for (const other of changed(item)) yield value.with(at, other);
    return;
  }
  const object = value as Readonly<Record<string, Json>>;
  for (const [name, part] of Object.entries(object)) {
    const { [name]: _, ...without } = object;
    yield without;
    for (const other of changed(part)) yield { ...object, [name]: other };
  }
  yield { ...object, ofTheFuture: { a: [1] } };
}

/** Something that answers as a Holdfast that says `told`. */
async function speaking(t: Test) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hfad-'));
  const socket = path.join(directory, 'admin.sock');
  const holdfast = { socket, told: answer as unknown as Json };
  const server = createServer(({ url = '' }, response) => {
    const { told } = holdfast;
    const part = url.endsWith('/summary') ? (told as { summary?: Json } | null)?.summary : told;
    const results = (told as { creations?: Json } | null)?.creations;
    response.end(url.endsWith('/forget') ? JSON.stringify({ results }) : JSON.stringify(part ?? null));
  });
  await new Promise<void>((resolve) => {
    server.listen(socket, resolve);
  });
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
    rmSync(directory, { recursive: true });
  });
  return holdfast;
}

const changes = [...changed(answer as unknown as Json)];

t.test('status and forget say that they do not understand, or what they do understand', async (t) => {
  const holdfast = await speaking(t);
  const { socket } = holdfast;
  let output = '';
  const out = { write: (text: string) => (output += text) };
  const io = { stdout: out, stderr: out, now: () => '', again: async () => false };
  const codes = new Map<number, number>();
  for (holdfast.told of changes) {
    for (const pod of [undefined, 'web']) {
      output = '';
      const code = await runStatus({ socket, pod, json: false, watch: false }, io);
      codes.set(code, (codes.get(code) ?? 0) + 1);
      const what = JSON.stringify(holdfast.told);
      if (code === 1) t.match(output, /^holdfast: what (Holdfast says|answers) at .* is not /, what);
      else t.notMatch(output, /undefined|NaN|\[object/, what);
    }
    await runForget({ socket, pod: 'web', container: undefined }, io);
  }
  t.ok((codes.get(0) ?? 0) > 20 && (codes.get(1) ?? 0) > 100, 'both happened');
});

t.test('a sidecar goes on, and says of what it does not understand that it does not know', async (t) => {
  const holdfast = await speaking(t);
  const { socket } = holdfast;
  const clock = { ...systemClock, after: () => () => {} };
  for (holdfast.told of changes) {
    const options = { admin: socket, metrics: { host: '127.0.0.1', port: 0 }, kubeletCheckMs: 60_000 };
    const sidecar = new Sidecar(options, clock, pino({ enabled: false }));
    const port = await sidecar.start();
    const what = JSON.stringify(holdfast.told);
    const { status, text } = await askTcp(port, '/metrics');
    t.equal(status, 200, what);
    t.match(text, /^holdfast_in_path (NaN|0|1)$/m, what);
    t.match((await askTcp(port, '/readyz')).status, /^(200|503)$/, what);
    await sidecar.close();
  }
  t.equal((await askAdmin(socket, '/debug/summary')).status, 200);
});

async function askTcp(port: number, at: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${at}`, { headers: { connection: 'close' } });
  return { status: response.status, text: await response.text() };
}
