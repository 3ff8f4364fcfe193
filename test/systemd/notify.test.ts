import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { systemdNotify, takeNotifySettings } from '../../src/systemd/notify.js';

t.test('what systemd has set is taken out of the environment', async (t) => {
  const env = { NOTIFY_SOCKET: '/run/n', WATCHDOG_USEC: '20000000', WATCHDOG_PID: '7', PATH: '/bin' };
  t.same(takeNotifySettings(env, 7), { socket: '/run/n', watchdogMs: 20_000 });
  t.same(env, { PATH: '/bin' });
});

t.test('a watchdog counts that is meant for this process and has a time', async (t) => {
  const watchdogMs = (rest: object) => takeNotifySettings({ NOTIFY_SOCKET: '@n', ...rest }, 7)?.watchdogMs;
  t.equal(watchdogMs({ WATCHDOG_USEC: '500000' }), 500);
  for (const rest of [{}, { WATCHDOG_USEC: '1', WATCHDOG_PID: '8' }, { WATCHDOG_USEC: '0' }, { WATCHDOG_USEC: 'x' }]) {
    t.equal(watchdogMs(rest), undefined, JSON.stringify(rest));
  }
});

t.test('without its socket nobody is told', async (t) => {
  t.equal(takeNotifySettings({ WATCHDOG_USEC: '1' }, 7), undefined);
  t.equal(takeNotifySettings({ NOTIFY_SOCKET: '' }, 7), undefined);
});

/** A program in the place of systemd-notify, and what it was told. */
function scene(t: Test, script: string) {
  const folder = mkdtempSync(join(tmpdir(), 'hf-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const program = join(folder, 'notify');
  writeFileSync(program, `#!/bin/sh\n${script}\n`);
  chmodSync(program, 0o755);
  const logged: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => logged.push(JSON.parse(line)) });
  const notify = systemdNotify(join(folder, 'told'), log, program);
  return { program, notify, logged, told: () => readFileSync(join(folder, 'told'), 'utf8') };
}

t.test('one message goes after the other, with nothing of the environment but the socket', async (t) => {
  process.env.HOLDFAST_TEST_SECRET = 'x';
  t.teardown(() => delete process.env.HOLDFAST_TEST_SECRET);
  const { notify, told, logged } = scene(
    t,
    '[ "$1" != READY=1 ] || sleep 0.1; echo "$HOLDFAST_TEST_SECRET$*" >>"$NOTIFY_SOCKET"',
  );
  await Promise.all([notify('READY=1', 'STATUS=a b'), notify('WATCHDOG=1')]);
  t.equal(told(), 'READY=1 STATUS=a b\nWATCHDOG=1\n');
  t.same(logged, []);
});

t.test('what cannot be told is said once, and again after it could', async (t) => {
  const { notify, logged } = scene(t, '[ "$1" = WATCHDOG=1 ]');
  for (const message of ['A=1', 'B=1', 'WATCHDOG=1', 'C=1']) await notify(message);
  t.match(logged, [
    { level: 50, msg: 'systemd cannot be told', assignments: ['A=1'], error: /Command failed/ },
    { assignments: ['C=1'] },
  ]);
  t.equal(logged.length, 2);
});
