import { performance } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { warmUp } from '../../src/proxy/warm-up.js';
import { ManualClock } from '../support/manual-clock.js';

interface Line {
  readonly step: string;
  readonly kind: string;
}

/** @param busy What the process is when it is looked at for the n-th time, and so many lines are written. */
async function warmed(busy: (look: number, lines: number) => number, untilMs = Number.POSITIVE_INFINITY) {
  const clock = new ManualClock();
  const lines: Line[] = [];
  let looks = 0;
  let over = false;
  const done = warmUp(clock, {
    write: (line) => lines.push(JSON.parse(line)),
    busy: () => busy(looks++, lines.length),
  });
  void done.then(() => {
    over = true;
  });
  for (let ms = 0; !over && ms < untilMs; ms += 10) {
    await clock.advance(10);
    for (let turns = 0; turns < 30; turns++) await turn();
  }
  const count = (kind: string, step: string) => lines.filter((line) => line.kind === kind && line.step === step).length;
  return { count, clock, lines, over: () => over, looks: () => looks };
}

t.test('each made-up pod goes all the way and leaves no timer', async (t) => {
  const { count, clock } = await warmed(() => 0);
  const sandboxes = count('podSandbox', 'queued');
  t.ok(sandboxes > 0);
  t.equal(count('podSandbox', 'delivered'), sandboxes);
  t.equal(count('container', 'delivered'), sandboxes);
  t.equal(count('start', 'answered'), sandboxes);
  t.equal(clock.pending, 0);
});

t.test('none is made right after the start, nor while the process has something to do', async (t) => {
  t.strictSame((await warmed(() => 0, 40)).lines, []);
  const { lines, over } = await warmed(() => 0.2, 1_000);
  t.strictSame(lines, []);
  t.notOk(over());
});

t.test('they are made once it has nothing to do', async (t) => {
  const { count } = await warmed((look) => (look < 10 ? 1 : 0));
  t.ok(count('podSandbox', 'delivered') > 0);
});

t.test('a process that stays busy has warmed itself: no pod is made, no timer is left', async (t) => {
  const { lines, clock, over } = await warmed(() => 1, 5_000);
  t.ok(over());
  t.strictSame(lines, []);
  t.equal(clock.pending, 0);
});

t.test('what the pods themselves take does not count', async (t) => {
  let before = 0;
  const itself = await warmed((_, lines) => {
    const share = lines > before ? 1 : 0;
    before = lines;
    return share;
  });
  t.equal(itself.looks(), (await warmed(() => 0)).looks());
});

t.test('how busy the process is, is what its event loop has had to do since the last look', async (t) => {
  const measured = performance.eventLoopUtilization;
  const use = { idle: 0, active: 0, utilization: 0 };
  t.teardown(() => {
    performance.eventLoopUtilization = measured;
  });
  performance.eventLoopUtilization = (now, then) => (now === undefined ? { ...use } : measured(now, then));
  const clock = new ManualClock();
  const lines: string[] = [];
  const done = warmUp(clock, { write: (line) => lines.push(line) });
  const pass = async (totalMs: number, how: 'idle' | 'active') => {
    for (let ms = 0; ms < totalMs; ms += 10) {
      use[how] += 10;
      await clock.advance(10);
      for (let turns = 0; turns < 30; turns++) await turn();
    }
  };
  await pass(1_000, 'active');
  t.strictSame(lines, []);
  await pass(200, 'idle');
  t.not(lines.length, 0);
  await pass(5_000, 'idle');
  await done;
});
