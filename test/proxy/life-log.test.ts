import { pino } from 'pino';
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import { Creation, type CreationRequest } from '../../src/cache/creation.js';
import type { CreationStep } from '../../src/cache/creation-lives.js';
import type { Made } from '../../src/cache/creation-runtime.js';
import { DetachedCall } from '../../src/cache/detached-call.js';
import { Start, type StartStep } from '../../src/cache/start.js';
import { LifeLog } from '../../src/proxy/life-log.js';
import { UpstreamStatusError } from '../../src/proxy/upstream.js';
import { container, podSandbox } from '../cache/store-rig.js';
import { ManualClock } from '../support/manual-clock.js';

const info = 30;
const warn = 40;
const unheard = { waiterLeft: () => {}, succeeded: () => {}, failed: () => {} };

function setUp() {
  const lines: Record<string, unknown>[] = [];
  const metrics = new Metrics();
  const log = new LifeLog(pino({ level: 'trace' }, { write: (line: string) => lines.push(JSON.parse(line)) }), metrics);
  /** What has been counted, without the prefix of the names. */
  const counted = async () =>
    [...(await metrics.registry.metrics()).matchAll(/^holdfast_(.+ [1-9]\d*)$/gm)].map(([, count]) => count);
  return { lines, counted, log };
}

function creation(asked: CreationRequest<string> = container()): Creation<string, string> {
  return new Creation(asked, new DetachedCall<Made<string>>(new ManualClock(), unheard));
}

function start(containerId: string): Start<string, string> {
  return new Start(containerId, 'test', new DetachedCall<string>(new ManualClock(), unheard), false);
}

const outcome = (kind: string, name: string) => [`creations_total{kind="${kind}",outcome="${name}"} 1`];

/** How each step is logged, and what is counted at it. */
const ofCreations: Record<CreationStep, readonly [level: number, counted: readonly string[]]> = {
  queued: [info, []],
  started: [info, []],
  hangs: [info, []],
  delivered: [info, []],
  forgotten: [info, []],
  superseded: [info, []],
  'waiter left': [info, []],
  'resources updated': [info, []],
  'waiter joined': [info, ['joins_total{kind="container"} 1']],
  replayed: [info, ['replays_total{kind="container"} 1']],
  reaped: [info, ['reaped_total{kind="container"} 1']],
  answered: [info, outcome('container', 'answered')],
  shown: [info, outcome('container', 'shown')],
  held: [info, outcome('container', 'held')],
  failed: [warn, outcome('container', 'failed')],
  'timed out': [warn, outcome('container', 'timed out')],
  dropped: [warn, outcome('container', 'dropped')],
  drift: [warn, ['drift_total{kind="container"} 1']],
  'given up': [warn, ['given_up_total{kind="container"} 1']],
  'removal given up': [warn, ['removals_given_up_total{kind="container"} 1']],
  'removal failed': [warn, []],
  'backing off': [warn, []],
  changed: [warn, []],
  'cannot be told': [warn, []],
  'in use': [warn, []],
  'name reserved': [warn, []],
  wedged: [warn, []],
};

for (const [step, [level, counts]] of Object.entries(ofCreations)) {
  t.test(`${step}, of a creation: ${level === warn ? 'a warning' : 'no warning'}`, async (t) => {
    const { log, lines, counted } = setUp();
    log.creation(step as CreationStep, creation(), {});
    t.match(lines, [{ level, step, msg: step }]);
    t.same(await counted(), counts);
  });
}

const ofStarts: Record<StartStep, readonly [level: number, counted: readonly string[]]> = {
  queued: [info, []],
  started: [info, []],
  hangs: [info, []],
  delivered: [info, []],
  'waiter left': [info, []],
  'waiter joined': [info, ['joins_total{kind="start"} 1']],
  replayed: [info, ['replays_total{kind="start"} 1']],
  answered: [info, outcome('start', 'answered')],
  held: [info, outcome('start', 'held')],
  failed: [warn, outcome('start', 'failed')],
  'timed out': [warn, outcome('start', 'timed out')],
  dropped: [warn, outcome('start', 'dropped')],
  guarded: [warn, ['second_copies_prevented_total 1']],
  'let go': [warn, []],
};

for (const [step, [level, counts]] of Object.entries(ofStarts)) {
  t.test(`${step}, of a start: ${level === warn ? 'a warning' : 'no warning'}`, async (t) => {
    const { log, lines, counted } = setUp();
    log.start(step as StartStep, start('c1'), {});
    t.match(lines, [{ level, step, msg: step, kind: 'start', id: 'c1' }]);
    t.same(await counted(), counts);
  });
}

t.test('an outcome is counted once, however often a container is held', async (t) => {
  const { log, counted } = setUp();
  const one = creation();
  for (const step of ['held', 'held', 'answered'] as const) log.creation(step, one, {});
  t.same(await counted(), outcome('container', 'held'));
  log.creation('held', creation(podSandbox()), {});
  t.same(await counted(), [...outcome('container', 'held'), ...outcome('podSandbox', 'held')]);
});

t.test('a wedge is counted once and says what to do each time', async (t) => {
  const { log, lines, counted } = setUp();
  const one = creation();
  log.creation('wedged', one, { holderId: 'x', first: true });
  log.creation('wedged', one, { holderId: 'x', first: false });
  log.creation('wedged', creation(podSandbox()), { holderId: 'y', first: false });
  log.creation('wedged', creation(podSandbox()), { holderId: undefined, first: false });
  t.same(await counted(), ['wedges_total{kind="container"} 1']);
  t.same(
    lines.map(({ remedy }) => remedy),
    [
      'try "crictl rm --force x", else restart the runtime',
      'try "crictl rm --force x", else restart the runtime',
      'try "crictl rmp --force y", else restart the runtime',
      'restart the runtime',
    ],
  );
  t.match(lines[0], { holderId: 'x', first: true });
});

t.test('only a wedge is counted as one, and has a remedy', async (t) => {
  const { log, lines, counted } = setUp();
  log.creation('name reserved', creation(), { holderId: 'x', first: true });
  t.same(await counted(), []);
  t.equal(lines[0]?.remedy, undefined);
});

t.test('a line says what it is about, and nothing else of the request', async (t) => {
  const { log, lines } = setUp();
  const made = creation(container({ attempt: 2 }));
  made.made = { id: 'c1', answer: 'secret' };
  log.creation('answered', made, { ageMs: 5 });
  log.creation('queued', creation(podSandbox(1)), {});
  log.start('held', start('c1'), { tries: 2 });
  const pod = { namespace: 'n', name: 'p', uid: 'u' };
  t.strictSame(
    lines.map(({ level, time, pid, hostname, ...line }) => line),
    [
      {
        ...{ step: 'answered', kind: 'container', ...pod, container: 'c', attempt: 2 },
        ...{ id: 'c1', podSandboxId: 's', ageMs: 5, msg: 'answered' },
      },
      { step: 'queued', kind: 'podSandbox', ...pod, attempt: 1, msg: 'queued' },
      { step: 'held', kind: 'start', id: 'c1', tries: 2, msg: 'held' },
    ],
  );
});

t.test('what goes wrong is told with its status', async (t) => {
  const { log, lines } = setUp();
  log.creation('failed', creation(), { error: new Error('disk full') });
  log.start('failed', start('c1'), {
    error: new UpstreamStatusError({ code: 9, message: 'not ready', trailers: [] }),
  });
  log.creation('removal failed', creation(), { error: undefined });
  t.match(lines[0], { code: 13, error: 'disk full' });
  t.match(lines[1], { code: 9, error: 'not ready' });
  t.notOk('code' in (lines[2] ?? {}) || 'error' in (lines[2] ?? {}));
});

t.test('times are told in whole milliseconds, all else as it is', async (t) => {
  const { log, lines } = setUp();
  log.creation('queued', creation(), { ageMs: 12.6, share: 0.25, whyMs: 'late', nextTryMs: undefined });
  t.match(lines[0], { ageMs: 13, share: 0.25, whyMs: 'late' });
  t.notOk('nextTryMs' in (lines[0] ?? {}));
});
