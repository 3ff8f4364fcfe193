import t from 'tap';
import { begunBy, type LogLine, workOf } from '../../../src/harness/bench/holdfast-log.js';

const beganAt = Date.UTC(2026, 0, 1);

function line(atMs: number, step: string, rest: Partial<LogLine>): LogLine {
  return { time: new Date(beganAt + atMs).toISOString(), step, kind: 'podSandbox', uid: 'u', ...rest };
}

const sandbox = (atMs: number, step: string, rest: Partial<LogLine> = {}) => line(atMs, step, rest);
const container = (atMs: number, step: string, rest: Partial<LogLine> = {}) =>
  line(atMs, step, { kind: 'container', container: 'app', attempt: 0, ...rest });
/** A line of a start says whose it is by the container's id alone. */
function start(atMs: number, step: string): LogLine {
  const { uid: _, ...rest } = line(atMs, step, { kind: 'start', id: 'c1' });
  return rest;
}

t.test('a pod that was late at each step', async (t) => {
  const log = [
    sandbox(10, 'queued'),
    sandbox(200, 'started'),
    sandbox(400, 'waiter left'),
    sandbox(500, 'waiter joined'),
    sandbox(900, 'answered', { id: 's1' }),
    sandbox(905, 'delivered', { id: 's1' }),
    container(910, 'queued'),
    container(910, 'started'),
    container(1500, 'held', { id: 'c1' }),
    sandbox(1550, 'forgotten', { id: 's1' }),
    container(1800, 'replayed', { id: 'c1', attempt: 1 }),
    container(1801, 'delivered', { id: 'c1' }),
    start(1810, 'queued'),
    start(1820, 'started'),
    start(2500, 'held'),
    start(2600, 'replayed'),
  ];
  t.strictSame(workOf(log, beganAt, 5_000).get('u'), {
    work: [
      { fromMs: 10, toMs: 200, state: 'queued' },
      { fromMs: 200, toMs: 900, state: 'podSandbox' },
      { fromMs: 910, toMs: 1500, state: 'container' },
      { fromMs: 1500, toMs: 1800, state: 'held' },
      { fromMs: 1810, toMs: 1820, state: 'queued' },
      { fromMs: 1820, toMs: 2500, state: 'start' },
      { fromMs: 2500, toMs: 2600, state: 'held' },
    ],
    marks: [
      { atMs: 500, kind: 'joined', text: 'RunPodSandbox' },
      { atMs: 1800, kind: 'replayed', text: 'CreateContainer app' },
      { atMs: 2600, kind: 'replayed', text: 'StartContainer app' },
    ],
  });
});

t.test('a container that is held again is seen twice, and what nobody got is thrown away', async (t) => {
  const log = [
    container(0, 'started'),
    container(100, 'held', { id: 'c1' }),
    container(200, 'replayed', { id: 'c1' }),
    container(300, 'held', { id: 'c1' }),
    container(400, 'reaped', { id: 'c1' }),
    container(500, 'started'),
    container(600, 'failed'),
    container(700, 'started'),
    container(750, 'superseded', { id: 'c1' }),
  ];
  t.strictSame(workOf(log, beganAt, 800).get('u')?.work, [
    { fromMs: 0, toMs: 100, state: 'container' },
    { fromMs: 100, toMs: 200, state: 'held' },
    { fromMs: 300, toMs: 400, state: 'held', thrownAway: true },
    { fromMs: 500, toMs: 600, state: 'container', thrownAway: true },
    { fromMs: 700, toMs: 800, state: 'container' },
  ]);
});

t.test('nothing lies outside of the time it was watched', async (t) => {
  const log = [sandbox(-50, 'queued'), sandbox(-10, 'started'), container(100, 'queued'), container(900, 'started')];
  t.strictSame(workOf(log, beganAt, 500).get('u')?.work, [{ fromMs: 100, toMs: 500, state: 'queued' }]);
});

t.test('what was begun is counted by what it is, whatever the attempt', async (t) => {
  const log = [
    sandbox(0, 'started'),
    sandbox(1, 'started', { attempt: 1 }),
    container(2, 'queued'),
    container(2, 'started'),
    start(3, 'started'),
  ];
  const begun = begunBy(log);
  t.equal(begun.length, 3);
  t.equal(new Set(begun).size, 2);
});
