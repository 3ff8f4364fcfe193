import t from 'tap';
import { LogLevel } from '../../src/admin/log-level.js';
import { ManualClock } from '../support/manual-clock.js';

t.test('a level goes back by itself, after as long as was last said', async (t) => {
  const clock = new ManualClock();
  const log = { level: 'info' };
  const level = new LogLevel(log, clock);
  t.same(level.state, { level: 'info', configured: 'info', backInMs: null });
  level.set('debug', 60_000);
  await clock.advance(50_000);
  t.same(level.state, { level: 'debug', configured: 'info', backInMs: 10_000 });
  level.set('trace', 60_000);
  await clock.advance(59_999);
  t.equal(log.level, 'trace');
  await clock.advance(1);
  t.same(level.state, { level: 'info', configured: 'info', backInMs: null });
});

t.test('to set what is configured leaves no timer, nor does to go back', (t) => {
  const clock = new ManualClock();
  const log = { level: 'warn' };
  const level = new LogLevel(log, clock);
  level.set('debug', 60_000);
  level.set('warn', 60_000);
  t.same([log.level, clock.pending], ['warn', 0]);
  level.set('debug', 60_000);
  level.reset();
  t.same([log.level, clock.pending], ['warn', 0]);
  t.end();
});
