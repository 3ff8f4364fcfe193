/** Whether a process does its work: a whole Holdfast, or something in its place, before a simulated runtime. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import { lookAtHealth } from '../../src/systemd/health.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { Rig } from '../support/rig.js';

function paths(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return { listen: join(folder, 'h.sock'), runtime: join(folder, 'r.sock'), clock: new ManualClock() };
}

async function serve(t: Test, socketPath: string): Promise<void> {
  const runtime = new SimulatedRuntime({ socketPath });
  await runtime.listen();
  t.teardown(() => runtime.close());
}

/** Accepts and never says a word. */
async function mute(t: Test, path: string): Promise<void> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket.on('error', () => {})));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
}

/** Time passes until it has an answer. */
async function look(deps: ReturnType<typeof paths>) {
  let isOver = false;
  const looking = lookAtHealth(deps, 4_000).finally(() => {
    isOver = true;
  });
  for (let turn = 0; turn < 2_000 && !isOver; turn++) {
    if (turn % 20 === 19) await deps.clock.advance(100);
    await settle();
  }
  return looking;
}

t.test('a Holdfast whose runtime answers serves', async (t) => {
  const rig = await Rig.start(t);
  const { listen, runtime } = rig.config;
  t.equal(await look({ listen, runtime, clock: new ManualClock() }), 'serves');
});

t.test('what does not answer while the runtime does is stuck', async (t) => {
  const deps = paths(t);
  await mute(t, deps.listen);
  await serve(t, deps.runtime);
  t.equal(await look(deps), 'stuck');
});

t.test('what a runtime does not answer is not held against it', async (t) => {
  const absent = paths(t);
  await mute(t, absent.listen);
  t.equal(await look(absent), 'runtime silent', 'absent');
  t.ok(absent.clock.now() < 1_000 + 4_000, 'that is known at once');
  const frozen = paths(t);
  await mute(t, frozen.listen);
  await mute(t, frozen.runtime);
  t.equal(await look(frozen), 'runtime silent', 'frozen');
});

t.test('a socket that nobody listens at is not reached', async (t) => {
  const gone = paths(t);
  await serve(t, gone.runtime);
  t.equal(await look(gone), 'not reached');
});
