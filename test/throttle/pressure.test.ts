import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { Pressure, pressureFiles, type Resource } from '../../src/throttle/pressure.js';

const cgroup = mkdtempSync(path.join(tmpdir(), 'hf-pressure-'));
t.teardown(() => rmSync(cgroup, { recursive: true }));

// As the kernel writes them.
const some = (avg10: string) =>
  `some avg10=${avg10} avg60=7.38 avg300=18.59 total=4631834030\nfull avg10=99.99 avg60=0.00 avg300=0.00 total=0\n`;

t.test('a cgroup’s own pressure is read where one is named', async (t) => {
  writeFileSync(path.join(cgroup, 'cpu.pressure'), some('1.72'));
  writeFileSync(path.join(cgroup, 'io.pressure'), some('100.00'));
  const read = pressureFiles(cgroup);
  t.same(read('cpu'), { avg10: 1.72, stalledMs: 4_631_834.03 });
  t.same(read('io'), { avg10: 100, stalledMs: 4_631_834.03 });
  t.throws(() => read('memory'), { code: 'ENOENT' });
});

t.test('a file that is no pressure file is named', async (t) => {
  mkdirSync(path.join(cgroup, 'other'));
  writeFileSync(path.join(cgroup, 'other', 'cpu.pressure'), 'nothing\n');
  t.throws(() => pressureFiles(path.join(cgroup, 'other'))('cpu'), { message: /other\/cpu\.pressure holds no line/ });
});

t.test('without a cgroup it is the pressure of the whole machine', (t) => {
  try {
    t.type(pressureFiles(undefined)('cpu').avg10, 'number');
  } catch (error) {
    // A kernel without it, or one where it is off.
    t.equal((error as NodeJS.ErrnoException).path, '/proc/pressure/cpu');
  }
  t.end();
});

t.test('only a whole line of the kernel counts', (t) => {
  const of = (line: string) => {
    writeFileSync(path.join(cgroup, 'memory.pressure'), `${line}\n`);
    return pressureFiles(cgroup)('memory');
  };
  t.same(of('some avg10=3 avg60=0.00 avg300=0.00 total=5000'), { avg10: 3, stalledMs: 5 });
  for (const line of [
    'awesome avg10=3.00 avg60=0.00 avg300=0.00 total=5000',
    'full avg10=3.00 avg60=0.00 avg300=0.00 total=5000',
    'some avg10=3.00 avg60=0.00 avg300=0.00 total=5000us',
    'some avg10= avg60=0.00 avg300=0.00 total=5000',
    'some avg10=3.00 avg60=0.00 avg300=0.00 total=',
  ]) {
    t.throws(() => of(line), { message: /holds no line/ }, line);
  }
  t.end();
});

function stage(thresholds: Partial<Record<Resource, number>>) {
  const percent = new Map<Resource, number>();
  const told: Resource[] = [];
  const asked: Resource[] = [];
  let [nowMs, stalledMs] = [0, 0];
  const pressure = new Pressure({
    read(resource) {
      asked.push(resource);
      const found = percent.get(resource);
      if (found === undefined) throw new Error(`no ${resource}`);
      return { avg10: found, stalledMs };
    },
    thresholds,
    unavailable: (resource) => told.push(resource),
  });
  /** A second later, for a share of which something was short. */
  const sample = (workBegins = false, share = 0) => {
    nowMs += 1_000;
    stalledMs += share * 1_000;
    pressure.sample(nowMs, workBegins);
  };
  return { pressure, percent, told, asked, sample };
}

t.test('what is over its threshold is told with its pressure; at the threshold is not over it', async (t) => {
  const { pressure, sample, percent } = stage({ cpu: 60, memory: 20 });
  percent.set('cpu', 60).set('memory', 0);
  sample(false);
  t.equal(pressure.over, undefined);
  percent.set('memory', 20.5);
  sample(false);
  t.same(pressure.over, { resource: 'memory', percent: 20.5 });
  t.same(
    [...pressure.latest],
    [
      ['cpu', 60],
      ['memory', 20.5],
    ],
  );
});

t.test('a resource without a threshold is not read', async (t) => {
  const { sample, asked } = stage({ io: 50 });
  sample(false);
  t.same(asked, ['io']);
});

t.test('pressure that was there before work began does not count until it has been gone once', async (t) => {
  const { pressure, sample, percent } = stage({ cpu: 60, io: 60 });
  percent.set('cpu', 90).set('io', 0);
  sample(true);
  sample(false);
  t.equal(pressure.over, undefined);
  percent.set('io', 61);
  sample(false);
  t.match(pressure.over, { resource: 'io' });
  percent.set('cpu', 59).set('io', 0);
  sample(false);
  percent.set('cpu', 61);
  sample(false);
  t.match(pressure.over, { resource: 'cpu' });
});

t.test('idle is a node on which everything that is read was short for less than a tenth of the time', async (t) => {
  const { pressure, sample, percent } = stage({ cpu: 60, io: 80, memory: 20 });
  percent.set('cpu', 90).set('io', 0).set('memory', 0);
  sample();
  t.notOk(pressure.isIdle, 'one reading tells nothing');
  sample(false, 0.09);
  t.ok(pressure.isIdle, 'whatever the average still shows');
  sample(false, 0.11);
  t.notOk(pressure.isIdle);
  sample(true, 0);
  t.notOk(pressure.isIdle, 'nor does one from before work began');
  percent.delete('io');
  sample(false, 0);
  t.notOk(pressure.isIdle, 'nor where one is not known');
});

t.test('what cannot be read is said once, does not count, and is used when it comes', async (t) => {
  const { pressure, sample, percent, told } = stage({ cpu: 60 });
  sample(false);
  sample(false);
  t.same(told, ['cpu']);
  t.equal(pressure.over, undefined);
  percent.set('cpu', 90);
  sample(false);
  t.match(pressure.over, { resource: 'cpu' });
  percent.clear();
  sample(false);
  t.equal(pressure.over, undefined);
  t.same(told, ['cpu']);
});

t.test('a node on which a single resource is short is not idle, nor is one that is short for just a tenth', (t) => {
  const stalledMs: Record<Resource, number> = { cpu: 0, io: 0, memory: 0 };
  const pressure = new Pressure({
    read: (resource) => ({ avg10: 0, stalledMs: stalledMs[resource] }),
    thresholds: { cpu: 60, io: 60, memory: 60 },
    unavailable: () => {},
  });
  pressure.sample(1_000, false);
  pressure.sample(2_000, false);
  t.equal(pressure.isIdle, true);
  stalledMs.io += 500;
  pressure.sample(3_000, false);
  t.equal(pressure.isIdle, false);
  for (const resource of ['cpu', 'io', 'memory'] as const) stalledMs[resource] += 100;
  pressure.sample(4_000, false);
  t.equal(pressure.isIdle, false);
  t.end();
});

t.test(
  'short is a node on which something was over its threshold since the last reading, for the sake of work',
  async (t) => {
    const { pressure, sample, percent } = stage({ cpu: 60, io: 80 });
    percent.set('cpu', 0).set('io', 0).set('memory', 0);
    sample(false, 1);
    t.notOk(pressure.isShort, 'one reading tells nothing');
    sample(false, 0.61);
    t.ok(pressure.isShort, 'whatever the average shows as yet');
    sample(false, 0.6);
    t.notOk(pressure.isShort);
    percent.set('cpu', 90);
    sample(true, 0.9);
    t.notOk(pressure.isShort, 'what was short before work began');
    sample(false, 0.7);
    t.notOk(pressure.isShort, 'and still is');
    percent.set('cpu', 10);
    sample(false, 0.7);
    t.ok(pressure.isShort, 'until it has been gone once');
    percent.clear();
    sample(false, 1);
    t.notOk(pressure.isShort, 'nor where nothing is known');
  },
);
