import { pino } from 'pino';
import t from 'tap';
import { RuntimePresence } from '../../src/proxy/runtime-presence.js';
import { ManualClock } from '../support/manual-clock.js';

const there = 'the runtime is there';
const away = 'the runtime is not there: calls wait for it';
const still = 'the runtime is still not there: calls wait for it';

function stage() {
  const clock = new ManualClock();
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  const presence = new RuntimePresence('/run/runtime.sock', clock, log);
  const said = () =>
    lines.splice(0).map(({ level, msg, runtime, error, absentMs }) => ({ level, msg, runtime, error, absentMs }));
  return { clock, presence, said };
}

const line = (level: number, msg: string, more: { absentMs?: number; error?: string }) => ({
  level,
  msg,
  runtime: '/run/runtime.sock',
  error: undefined,
  absentMs: undefined,
  ...more,
});

t.test('a runtime that is there from the begin is told of once', async (t) => {
  const { clock, presence, said } = stage();
  presence.appeared();
  t.same(said(), [line(30, there, { absentMs: 0 })]);
  await clock.advance(3_600_000);
  t.same(said(), []);
});

t.test(
  'one that is away is told of at once, every half minute, and when it is back, with how long it was away',
  async (t) => {
    const { clock, presence, said } = stage();
    const refused: NodeJS.ErrnoException = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
    presence.vanished(refused);
    t.same(said(), [line(40, away, { error: 'ECONNREFUSED' })]);
    await clock.advance(29_999);
    t.same(said(), []);
    await clock.advance(1);
    t.same(said(), [line(40, still, { absentMs: 30_000 })]);
    await clock.advance(30_000);
    t.same(said(), [line(40, still, { absentMs: 60_000 })]);
    await clock.advance(1_000);
    presence.appeared();
    t.same(said(), [line(30, there, { absentMs: 61_000 })]);
    await clock.advance(3_600_000);
    t.same(said(), []);
  },
);

t.test('the time it is away counts anew each time', async (t) => {
  const { clock, presence, said } = stage();
  presence.vanished(undefined);
  await clock.advance(20_000);
  presence.appeared();
  await clock.advance(50_000);
  presence.appeared();
  presence.vanished(undefined);
  await clock.advance(5_000.4);
  presence.appeared();
  t.same(said(), [
    line(40, away, {}),
    line(30, there, { absentMs: 20_000 }),
    line(30, there, { absentMs: 0 }),
    line(40, away, {}),
    line(30, there, { absentMs: 5_000 }),
  ]);
});

t.test('how long it has been away can be asked, and is not known of one that is there', async (t) => {
  const { clock, presence } = stage();
  t.equal(presence.absentForMs, undefined, 'nothing is known');
  presence.vanished(undefined);
  await clock.advance(7_000.4);
  t.equal(presence.absentForMs, 7_000);
  presence.appeared();
  t.equal(presence.absentForMs, undefined);
  presence.close();
});

t.test('once it is closed nothing more is said', async (t) => {
  const { clock, presence, said } = stage();
  presence.vanished(undefined);
  await clock.advance(30_000);
  said();
  presence.close();
  await clock.advance(3_600_000);
  t.same(said(), []);
  t.equal(clock.pending, 0);
  new RuntimePresence('/run/runtime.sock', clock, pino({}, { write() {} })).close();
});
