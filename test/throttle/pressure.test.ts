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
  t.equal(read('cpu'), 1.72);
  t.equal(read('io'), 100);
  t.throws(() => read('memory'), { code: 'ENOENT' });
});

t.test('a file that is no pressure file is named', async (t) => {
  mkdirSync(path.join(cgroup, 'other'));
  writeFileSync(path.join(cgroup, 'other', 'cpu.pressure'), 'nothing\n');
  t.throws(() => pressureFiles(path.join(cgroup, 'other'))('cpu'), { message: /other\/cpu\.pressure holds no line/ });
});

function stage(thresholds: Partial<Record<Resource, number>>) {
  const percent = new Map<Resource, number>();
  const told: Resource[] = [];
  const asked: Resource[] = [];
  const pressure = new Pressure({
    read(resource) {
      asked.push(resource);
      const found = percent.get(resource);
      if (found === undefined) throw new Error(`no ${resource}`);
      return found;
    },
    thresholds,
    unavailable: (resource) => told.push(resource),
  });
  return { pressure, percent, told, asked };
}

t.test('what is over its threshold is told with its pressure; at the threshold is not over it', async (t) => {
  const { pressure, percent } = stage({ cpu: 60, memory: 20 });
  percent.set('cpu', 60).set('memory', 0);
  pressure.sample(false);
  t.equal(pressure.over, undefined);
  percent.set('memory', 20.5);
  pressure.sample(false);
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
  const { pressure, asked } = stage({ io: 50 });
  pressure.sample(false);
  t.same(asked, ['io']);
});

t.test('pressure that was there before work began does not count until it has been gone once', async (t) => {
  const { pressure, percent } = stage({ cpu: 60, io: 60 });
  percent.set('cpu', 90).set('io', 0);
  pressure.sample(true);
  pressure.sample(false);
  t.equal(pressure.over, undefined);
  percent.set('io', 61);
  pressure.sample(false);
  t.match(pressure.over, { resource: 'io' });
  percent.set('cpu', 59).set('io', 0);
  pressure.sample(false);
  percent.set('cpu', 61);
  pressure.sample(false);
  t.match(pressure.over, { resource: 'cpu' });
});

t.test('what cannot be read is said once, does not count, and is used when it comes', async (t) => {
  const { pressure, percent, told } = stage({ cpu: 60 });
  pressure.sample(false);
  pressure.sample(false);
  t.same(told, ['cpu']);
  t.equal(pressure.over, undefined);
  percent.set('cpu', 90);
  pressure.sample(false);
  t.match(pressure.over, { resource: 'cpu' });
  percent.clear();
  pressure.sample(false);
  t.equal(pressure.over, undefined);
  t.same(told, ['cpu']);
});
