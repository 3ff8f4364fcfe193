/** What the configuration makes of the admission. What an admission does is in test/throttle. */
import { availableParallelism } from 'node:os';
import { pino } from 'pino';
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import type { HoldfastConfig } from '../../src/config/config.js';
import { defaults } from '../../src/config/defaults.js';
import { newAdmission } from '../../src/proxy/new-admission.js';
import type { ReadPressure, Resource } from '../../src/throttle/pressure.js';
import type { Work } from '../../src/throttle/work-queue.js';
import { ManualClock, settle } from '../support/manual-clock.js';

const second = 1_000;
const readable: ReadPressure = () => ({ avg10: 0, stalledMs: Number.POSITIVE_INFINITY });

function stage(config: Partial<HoldfastConfig> = {}, readPressure: ReadPressure = readable) {
  const clock = new ManualClock();
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  const metrics = new Metrics();
  const whole = { ...defaults, listen: '', runtime: '', ...config };
  const { admission, load } = newAdmission(whole, { clock, log, metrics, readPressure });
  const running: ((succeeded: boolean) => void)[] = [];
  /** Asks for so much; what may go waits in `running` for its end. */
  const ask = async (count: number, what: Partial<Work> = {}) => {
    const run = () => new Promise<boolean>((resolve) => running.push(resolve));
    for (let n = 0; n < count; n += 1) void admission.admit({ kind: 'podSandbox', run, ...what });
    for (let turn = 0; turn < count + 1; turn += 1) await settle();
  };
  /** Ends all that runs, after some time. */
  const end = async (afterMs: number) => {
    await clock.advance(afterMs);
    for (const resolve of running.splice(0)) resolve(true);
    await settle();
  };
  return { admission, load, clock, lines, metrics, running, ask, end };
}

const limitOf = (config: Partial<HoldfastConfig>) => stage(config).admission.limit;

t.test('where the limit begins follows the node’s cores within its bounds, unless it is configured', (t) => {
  const usual = Math.max(8, 4 * availableParallelism());
  t.equal(limitOf({ maxCreations: 10_000 }), usual);
  t.equal(limitOf({ maxCreations: 5 }), 5);
  t.equal(limitOf({ maxCreations: 10_000, minCreations: usual + 1 }), usual + 1);
  t.equal(limitOf({ maxCreations: 100, startCreations: 3 }), 3);
  t.end();
});

t.test('fixed is the most, and off is no limit', (t) => {
  t.equal(limitOf({ admission: 'fixed', maxCreations: 7 }), 7);
  t.equal(limitOf({ admission: 'off', maxCreations: 7 }), Number.POSITIVE_INFINITY);
  t.end();
});

t.test('a fixed limit stays where it is, however late work is', async (t) => {
  const { admission, ask, end } = stage({ admission: 'fixed', maxCreations: 7 });
  await ask(1, { deadlineMs: 10 * second });
  await end(9 * second);
  t.equal(admission.limit, 7);
});

t.test('a runtime handler is held to its own limit, and others are not', async (t) => {
  const { ask, running } = stage({ admission: 'off', handlerLimits: [{ handler: 'kata', limit: 2 }] });
  await ask(3, { handler: 'kata' });
  t.equal(running.length, 2);
  await ask(3, { handler: 'runc' });
  t.equal(running.length, 5);
});

t.test('the limit goes down by the configured part, no further than to two by default', async (t) => {
  const { admission, ask, end, lines } = stage({ maxCreations: 10, startCreations: 10, decreaseTo: 30, lateAfter: 40 });
  await ask(1, { deadlineMs: 10 * second });
  await end(4 * second);
  t.equal(admission.limit, 10, 'not later than 40 %');
  await ask(1, { deadlineMs: 100 * second });
  await end(41 * second);
  t.equal(admission.limit, 3);
  await ask(1, { deadlineMs: 1_000 * second });
  await end(900 * second);
  t.equal(admission.limit, 2);
  t.match(
    lines.map(({ msg, from, to, reason, tookMs }) => ({ msg, from, to, reason, tookMs })),
    [
      { msg: 'admission limit moved', from: 10, to: 3, reason: 'work is late', tookMs: 41 * second },
      { from: 3, to: 2 },
    ],
  );
});

t.test('the least is the most where that is less than two, and what is configured otherwise', async (t) => {
  for (const [config, least] of [
    [{ maxCreations: 1 }, 1],
    [{ maxCreations: 20, minCreations: 6, startCreations: 7 }, 6],
  ] as const) {
    const { admission, ask, end } = stage(config);
    for (let n = 1; n < 4; n += 1) {
      await ask(1, { deadlineMs: 10 ** n * second });
      await end(0.9 * 10 ** n * second);
    }
    t.equal(admission.limit, least);
  }
});

t.test('a rate lets as many begin at once as it has in a second, or the configured burst', async (t) => {
  for (const [config, burst] of [
    [{ creationRate: 2.5 }, 3],
    [{ creationRate: 0.5 }, 1],
    [{ creationRate: 2, creationBurst: 5 }, 5],
    [{}, 9],
  ] as const) {
    const { ask, running, clock } = stage({ admission: 'off', ...config });
    await ask(9);
    t.equal(running.length, burst, JSON.stringify(config));
    await clock.advance(2 * second);
    const later = 'creationRate' in config ? Math.floor(2 * config.creationRate) : 0;
    t.equal(running.length, burst + later, JSON.stringify(config));
  }
});

t.test('so much that hangs keeps nobody else back', async (t) => {
  const { ask, running, clock, metrics } = stage({ admission: 'fixed', maxCreations: 1, maxHung: 2 });
  await ask(9);
  await clock.advance(60_000);
  t.equal(running.length, 3);
  t.match(await metrics.registry.metrics(), /^holdfast_hung 2$/m);
});

t.test('before anything is known work hangs after late-after percent of its deadline', async (t) => {
  const { ask, running, clock } = stage({ admission: 'fixed', maxCreations: 1, lateAfter: 30 });
  await ask(2, { deadlineMs: 10 * second });
  await clock.advance(3 * second - 1);
  t.equal(running.length, 1);
  await clock.advance(1);
  t.equal(running.length, 2);
});

t.test('static and critical work has places of its own', async (t) => {
  const { ask, running } = stage({ admission: 'fixed', maxCreations: 1, ownPlaces: 2, maxHung: 0 });
  await ask(3);
  await ask(2, { importance: 'static' });
  await ask(2, { importance: 'critical' });
  t.equal(running.length, 3);
});

t.test('work is given up as it is configured', async (t) => {
  const givenUpMs = async (config: Partial<HoldfastConfig>) => {
    const { ask, end, clock } = stage({ admission: 'off', ...config });
    let atMs: number | undefined;
    await ask(1, {
      run: () => new Promise(() => {}),
      giveUp: ({ tookMs }) => (atMs = tookMs),
      deadlineMs: 20 * second,
    });
    await ask(1);
    await end(9 * second);
    await clock.advance(800 * second);
    return atMs;
  };
  t.equal(await givenUpMs({}), 90 * second, '10 times as long as the other');
  t.equal(await givenUpMs({ giveUpTimes: 3 }), 40 * second, 'twice its deadline');
  t.equal(await givenUpMs({ giveUpTimes: 3, giveUpAfterMs: 50 * second }), 50 * second);
  t.equal(await givenUpMs({ giveUpTimes: 'off', giveUpAfterMs: 50 * second }), undefined);
});

t.test('where nothing is to be given up, nothing is given up for room either', async (t) => {
  const givenUpFor = async (giveUpTimes: HoldfastConfig['giveUpTimes']) => {
    const { admission, ask, end, clock } = stage({ admission: 'off', maxHung: 1, giveUpTimes });
    let givenUp = 0;
    await ask(2, { run: () => new Promise(() => {}), isForgotten: true, giveUp: () => (givenUp += 1) });
    await ask(1);
    await end(second);
    await clock.advance(10 * second);
    t.equal(admission.hung, 1);
    return givenUp;
  };
  t.not(await givenUpFor(10_000), 0);
  t.equal(await givenUpFor('off'), 0);
});

t.test('what the node is at has the limit, what hangs and the pressure', async (t) => {
  const { ask, load, clock } = stage({ maxCreations: 3, startCreations: 3 }, () => ({ avg10: 7, stalledMs: 0 }));
  await ask(1, { run: () => new Promise(() => {}) });
  await clock.advance(20 * second);
  t.strictSame(
    { ...load(), pressure: [...load().pressure] },
    {
      limit: 3,
      hung: 1,
      pressure: [
        ['cpu', 7],
        ['io', 7],
        ['memory', 7],
      ],
    },
  );
});

t.test('a move of the limit is said with how much hangs', async (t) => {
  const { ask, end, clock, lines } = stage({ maxCreations: 10, startCreations: 10 });
  await ask(1, { run: () => new Promise(() => {}) });
  await clock.advance(20 * second);
  await ask(1, { deadlineMs: 10 * second });
  await end(9 * second);
  t.match(lines, [{ msg: 'admission limit moved', hung: 1 }]);
});

t.test('a resource whose threshold is off is not read, and each other is held to its own', async (t) => {
  const pressed = async (config: Partial<HoldfastConfig>, short: Resource, avg10: number) => {
    const read: Resource[] = [];
    const { admission, ask, end } = stage(
      { maxCreations: 8, startCreations: 8, decreaseTo: 50, ...config },
      (resource) => {
        read.push(resource);
        return { avg10: read.length > 3 && resource === short ? avg10 : 0, stalledMs: Number.POSITIVE_INFINITY };
      },
    );
    for (let n = 0; n < 4; n += 1) {
      await ask(8);
      await end(second);
    }
    return { limit: admission.limit, read: [...new Set(read)].sort() };
  };
  const all = { pressureCpu: 90, pressureIo: 80, pressureMemory: 20 } as const;
  t.same(await pressed(all, 'cpu', 91), { limit: 4, read: ['cpu', 'io', 'memory'] });
  t.same((await pressed(all, 'cpu', 89)).limit, 8);
  t.same((await pressed(all, 'io', 81)).limit, 4);
  t.same((await pressed(all, 'io', 79)).limit, 8);
  t.same((await pressed(all, 'memory', 21)).limit, 4);
  t.same((await pressed(all, 'memory', 19)).limit, 8);
  const cpuOff = { ...all, pressureCpu: 'off' } as const;
  t.same((await pressed(cpuOff, 'cpu', 100)).read, ['io', 'memory']);
});

t.test('pressure that cannot be read is said, with what the system said', async (t) => {
  const { ask, lines } = stage({}, (resource) => {
    throw new Error(`no ${resource}`);
  });
  await ask(1);
  t.match(lines[0], {
    level: 40,
    resource: 'cpu',
    error: 'Error: no cpu',
    msg: 'pressure cannot be read: it does not move the limit',
  });
});

t.test('the metrics say what waits, what runs and how long it waited', async (t) => {
  const { ask, metrics, end } = stage({ admission: 'fixed', maxCreations: 1, ownPlaces: 0, maxHung: 0 });
  await ask(1, { kind: 'start' });
  await ask(1, { kind: 'container' });
  await ask(1, { importance: 'static' });
  await end(3 * second);
  const text = await metrics.registry.metrics();
  for (const line of [
    'holdfast_admission_limit 1',
    'holdfast_admitted 1',
    'holdfast_queued{class="container"} 1',
    'holdfast_queued{class="static"} 0',
    'holdfast_admission_wait_seconds_sum{class="start"} 0',
    'holdfast_admission_wait_seconds_sum{class="static"} 3',
  ]) {
    t.match(text, `${line}\n`);
  }
});
