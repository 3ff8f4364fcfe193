import { EventEmitter } from 'node:events';
import { createServer } from 'node:net';
import { Registry } from 'prom-client';
import t from 'tap';
import type { Served } from '../../src/admin/routes.js';
import { createLog, type ServeDependencies, serve } from '../../src/commands/serve.js';
import type { HoldfastConfig } from '../../src/config/config.js';
import { defaults } from '../../src/config/defaults.js';
import { settle } from '../support/manual-clock.js';

const config: HoldfastConfig = { ...defaults, listen: '/run/a.sock', runtime: '/run/b.sock' };

/** What nobody asks for here. */
const served = {
  inspection: { creations: () => t.fail(), summary: () => t.fail(), forget: () => t.fail() },
  connections: 0,
  runtimeHealth: async () => ({ answers: true }),
} as unknown as Served;

/** A process that records its exit codes, a proxy that is closed by hand, and the log lines so far. */
function stage() {
  const host = Object.assign(new EventEmitter(), {
    codes: [] as number[],
    exit: (code: number) => void host.codes.push(code),
  });
  const lines: Record<string, unknown>[] = [];
  const log = createLog('info', { write: (line) => void lines.push(JSON.parse(line)) });
  let finishDrain = () => {};
  let closing = false;
  const close = () => {
    closing = true;
    return new Promise<void>((resolve) => {
      finishDrain = resolve;
    });
  };
  const dependencies: ServeDependencies = {
    log,
    registry: new Registry(),
    host,
    start: async () => ({ close, served }),
  };
  return { host, lines, dependencies, finishDrain: () => finishDrain(), isClosing: () => closing };
}

for (const signal of ['SIGTERM', 'SIGINT']) {
  t.test(`${signal} drains before it ends, and leaves no listener behind`, async (t) => {
    const { host, dependencies, finishDrain, isClosing } = stage();
    let ended = false;
    const running = serve(config, dependencies).then(() => {
      ended = true;
    });
    await settle();
    t.notOk(isClosing());
    host.emit(signal, signal);
    await settle();
    t.ok(isClosing());
    t.notOk(ended);
    finishDrain();
    await running;
    t.same(host.codes, []);
    t.same(host.eventNames(), []);
  });
}

t.test('a second signal exits at once', async (t) => {
  const { host, dependencies, finishDrain } = stage();
  const running = serve(config, dependencies);
  await settle();
  host.emit('SIGTERM', 'SIGTERM');
  await settle();
  t.same(host.codes, []);
  host.emit('SIGINT', 'SIGINT');
  t.same(host.codes, [1]);
  finishDrain();
  await running;
});

t.test('a signal during start-up is not lost', async (t) => {
  const { host, dependencies, finishDrain, isClosing } = stage();
  const running = serve(config, dependencies);
  host.emit('SIGTERM', 'SIGTERM');
  await settle();
  t.ok(isClosing());
  finishDrain();
  await running;
});

for (const event of ['uncaughtException', 'unhandledRejection']) {
  t.test(`${event} is logged as fatal and exits with 1`, async (t) => {
    const { host, lines, dependencies, finishDrain } = stage();
    const running = serve(config, dependencies);
    await settle();
    host.emit(event, new Error('a bug'));
    t.same(host.codes, [1]);
    t.match(lines.at(-1), { level: 'fatal', err: { message: 'a bug' } });
    host.emit('SIGTERM', 'SIGTERM');
    await settle();
    finishDrain();
    await running;
  });
}

t.test('the first line says version and effective configuration, with ISO time', async (t) => {
  const { host, lines, dependencies, finishDrain } = stage();
  const running = serve(config, dependencies);
  await settle();
  t.match(lines[0], { level: 'info', version: /^\d+\.\d+\.\d+/, config: { holdTtlMs: 900_000 }, msg: 'serving' });
  t.match(lines[0]?.time, /^\d{4}-\d\d-\d\dT.*Z$/);
  host.emit('SIGTERM', 'SIGTERM');
  await settle();
  finishDrain();
  await running;
});

t.test('a proxy that cannot start fails the command and frees the metrics port', async (t) => {
  const { host, dependencies } = stage();
  const port = await freePort();
  const metrics = { host: '127.0.0.1', port };
  const start = () => Promise.reject(new Error('no socket'));
  await t.rejects(serve({ ...config, metrics }, { ...dependencies, start }), { message: 'no socket' });
  await t.rejects(serve({ ...config, metrics }, { ...dependencies, start }), { message: 'no socket' });
  t.same(host.eventNames(), []);
});

t.test('metrics are served while it drains and not after', async (t) => {
  const { host, dependencies, finishDrain, isClosing } = stage();
  const port = await freePort();
  const running = serve({ ...config, metrics: { host: '127.0.0.1', port } }, dependencies);
  const isServed = () =>
    fetch(`http://127.0.0.1:${port}/metrics`).then(
      ({ ok }) => ok,
      () => false,
    );
  while (!(await isServed())) await settle();
  host.emit('SIGTERM', 'SIGTERM');
  await settle();
  t.ok(isClosing());
  t.equal((await fetch(`http://127.0.0.1:${port}/metrics`)).status, 200);
  finishDrain();
  await running;
  await t.rejects(fetch(`http://127.0.0.1:${port}/metrics`));
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}
