/** When systemd is told that the process lives, in virtual time. */
import { pino } from 'pino';
import t from 'tap';
import type { Health } from '../../src/systemd/health.js';
import { feedWatchdog } from '../../src/systemd/watchdog.js';
import { ManualClock } from '../support/manual-clock.js';

/** A watchdog of 20 s, and a process whose looks take 1 s and find `health`. */
function stage() {
  const clock = new ManualClock();
  const began = clock.now();
  const told: string[] = [];
  const logged: string[] = [];
  const log = pino({}, { write: (line: string) => logged.push(JSON.parse(line).msg) });
  const state = { health: 'serves' as Health, looks: [] as number[], tookMs: 1_000 };
  const stop = feedWatchdog(20_000, {
    clock,
    log,
    notify: async (...assignments) => void told.push(`${(clock.now() - began) / 1000} s: ${assignments.join(' ')}`),
    look: (limitMs) => {
      state.looks.push(limitMs);
      return new Promise((resolve) => clock.after(state.tookMs, () => resolve(state.health)));
    },
  });
  return { clock, told, logged, state, stop };
}

t.test('while it serves it says so each half of the time, however long a look takes', async (t) => {
  const { clock, told, logged, state } = stage();
  await clock.advance(32_000);
  t.same(told, ['11 s: WATCHDOG=1', '21 s: WATCHDOG=1', '31 s: WATCHDOG=1']);
  t.same(state.looks, [4_000, 4_000, 4_000], 'a look may take a fifth of it');
  t.same(logged, []);
});

t.test('looks that take longer than half of the time follow each other with a pause', async (t) => {
  const { clock, told, state } = stage();
  state.tookMs = 12_000;
  await clock.advance(36_000);
  t.same(told, ['22 s: WATCHDOG=1', '35 s: WATCHDOG=1']);
});

t.test('while it is stuck it says nothing but that, and looks again soon', async (t) => {
  const { clock, told, logged, state } = stage();
  state.health = 'stuck';
  await clock.advance(14_000);
  t.same(told, ['11 s: STATUS=does not answer its own call; the runtime does']);
  t.equal(state.looks.length, 3);
  state.health = 'serves';
  await clock.advance(2_000);
  t.same(told.slice(1), ['15 s: WATCHDOG=1 STATUS=serving']);
  t.same(logged, [
    'its own call is not answered, one to the runtime is: the watchdog will end this process',
    'its own call is answered again',
  ]);
});

t.test('a silent runtime and a socket that is not reached are said once, and are no reason to end', async (t) => {
  const { clock, told, logged, state } = stage();
  state.health = 'runtime silent';
  await clock.advance(21_000);
  state.health = 'not reached';
  await clock.advance(10_000);
  t.same(told, [
    '11 s: WATCHDOG=1 STATUS=serving; the runtime does not answer, calls wait for it',
    '21 s: WATCHDOG=1',
    '31 s: WATCHDOG=1 STATUS=serving those who are connected; nobody reaches the socket: restart holdfast.socket',
  ]);
  t.same(logged, [
    'its own call is not answered, nor is one to the runtime',
    'nobody reaches the listening socket: its file was removed or replaced',
  ]);
});

t.test('stopped, it says nothing more, nor does a look that was under way', async (t) => {
  const { clock, told, stop } = stage();
  await clock.advance(10_500);
  stop();
  await clock.advance(60_000);
  t.same(told, []);
  t.equal(clock.pending, 0);
});
