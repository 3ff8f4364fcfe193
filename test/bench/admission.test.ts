import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { bestFixed, compare } from '../../bench/admission/compare.js';
import { readOptions } from '../../bench/admission/options.js';
import { report } from '../../bench/admission/report.js';
import { podsOf, type StormOptions, storm } from '../../bench/admission/storm.js';

const small: StormOptions = {
  pods: 20,
  deadlineMs: 8_000,
  baseMs: 1_000,
  contention: 0.05,
  cores: 4,
  hungShare: 0,
  psi: true,
  seed: 7,
};

/** Runs the command as `npm run bench:admission` does. */
async function bench(t: Test, ...options: string[]) {
  const directory = mkdtempSync(path.join(tmpdir(), 'bench-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const json = path.join(directory, 'figures.json');
  const svg = path.join(directory, 'chart.svg');
  const args = ['--import', 'tsx', 'bench/admission.ts', '--json', json, '--svg', svg, ...options];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return { stdout, figures: JSON.parse(readFileSync(json, 'utf8')), chart: readFileSync(svg, 'utf8') };
}

t.test('one seed gives the same storm twice, another one another', async (t) => {
  const [first, second] = [await compare(small, [4], 1), await compare(small, [4], 1)];
  t.same(first, second);
  t.notSame((await storm({ ...small, seed: 8 }, 'off')).samples, first.off.samples);
});

t.test('figures are means over the repeats, each with the next seed', async (t) => {
  const both = await compare(small, [], 2);
  const storms = [await storm(small, 'adaptive'), await storm({ ...small, seed: 8 }, 'adaptive')];
  const sum = storms.reduce((total, { allRunningMs }) => total + (allRunningMs ?? 0), 0);
  t.equal(both.adaptive.allRunningMs, Math.round(sum / 2));
  t.same(both.adaptive.samples, storms[0]?.samples);
});

t.test('too low a limit leaves cores idle, too high a one wastes them on contention', async (t) => {
  const comparison = await compare({ ...small, contention: 0.5 }, [1, 4, 20], 1);
  const [one, four, twenty] = comparison.fixed.map(({ allRunningMs }) => allRunningMs ?? Infinity);
  t.equal(bestFixed(comparison)?.limit, 4);
  // 60 creations and starts of 1 s each, one after the other or four at once, in a storm that begins within 1 s.
  t.ok((one ?? 0) >= 60_000 && (one ?? 0) < 65_000, `limit 1: ${one}`);
  t.ok((four ?? 0) >= 15_000 && (four ?? 0) < 20_000, `limit 4: ${four}`);
  t.ok((twenty ?? 0) > 2 * (four ?? 0), `limit 20: ${twenty}`);
  for (const { limit, samples, creations } of comparison.fixed) {
    t.equal(Math.max(...samples.map(({ running }) => running)), limit);
    t.equal(creations, 60, 'nothing is made twice');
  }
});

t.test('calls fail where the work before them takes longer than the kubelet waits, and only there', async (t) => {
  t.equal((await storm({ ...small, pods: 4 }, { limit: 4 })).failedCalls, 0);
  t.ok((await storm(small, { limit: 1 })).failedCalls > 20);
});

t.test(
  'a share of the pods hangs: the others are waited for, and a fixed limit has a place more for each',
  async (t) => {
    const hung = { ...small, hungShare: 0.2 };
    const { fixed, adaptive } = await compare(hung, [1, 4], 1);
    for (const { limit, allRunningMs, samples, creations } of fixed) {
      // 16 pods of three times 1 s each.
      t.ok(allRunningMs !== null && allRunningMs < 48_000 / limit + 10_000, `limit ${limit}: ${allRunningMs}`);
      t.equal(Math.max(...samples.map(({ running }) => running)), limit + 4);
      t.equal(creations, 3 * 16 + 4, 'what hangs is begun once');
    }
    t.equal(adaptive.creations, 3 * 16 + 4);
    t.ok(adaptive.allRunningMs !== null);
    t.notSame(podsOf(hung).hung, podsOf({ ...hung, seed: 8 }).hung);
  },
);

t.test('without PSI no pressure is seen', async (t) => {
  const fast = { ...small, pods: 100, hungShare: 0.1 };
  const [seen, unseen] = [await storm(fast, 'adaptive'), await storm({ ...fast, psi: false }, 'adaptive')];
  t.notSame(seen.samples, unseen.samples);
  t.ok(
    unseen.samples.some(({ pressure }) => pressure > 0),
    'though there is some',
  );
});

t.test('pods that do not come to run within the hour are said not to', async (t) => {
  const slow = { ...small, pods: 1, baseMs: 1_000_000, deadlineMs: 8_000 };
  t.match(await storm(slow, { limit: 1 }), { allRunningMs: null, p95RunningMs: null });
});

t.test('the command writes a table, figures and a chart', async (t) => {
  const { stdout, figures, chart } = await bench(t, '--pods', '20', '--limits', '4,2', '--seed', '7', '--repeat', '1');
  t.same(Object.keys(figures), ['off', 'fixed', 'adaptive']);
  t.same(
    figures.fixed.map(({ limit }: { limit: number }) => limit),
    [4, 2],
  );
  for (const arm of [figures.off, figures.adaptive, ...figures.fixed]) {
    for (const key of ['allRunningMs', 'p95RunningMs', 'failedCalls', 'creations']) t.type(arm[key], 'number', key);
  }
  t.notMatch(stdout, /hang|no PSI/);
  t.match(stdout, /^adaptive ÷ best fixed \(limit 4\): \d+\.\d\d$/m);
  t.match(stdout, /^adaptive ÷ off: \d+\.\d\d$/m);
  t.match(chart, /^<svg xmlns.*best fixed limit \(4\).*<\/svg>\n$/s);
});

t.test('the command says how many pods hang, and that there is no pressure', async (t) => {
  const { storm: options } = readOptions(['--pods=20', '--hung=10', '--no-psi']);
  t.match(options, { hungShare: 0.1, psi: false });
  const text = report(options, 1, await compare({ ...options, pods: 10 }, [4], 1));
  t.match(text, /^2 of the pods hang for ever: "all" are the others, and fixed limits have 2 places more;$/m);
  t.match(text, /contention 0\.05, no PSI;/);
  t.match(text, /^creations: 56 where none is made twice$/m);
});

t.test('a bad option is refused in one line that names it', async (t) => {
  for (const [option, value] of [
    ['--pods', '0'],
    ['--deadline', '1.5'],
    ['--base', ''],
    ['--contention', '-1'],
    ['--contention', ''],
    ['--cores', 'many'],
    ['--hung', '100'],
    ['--hung', ''],
    ['--no-psi', '1'],
    ['--seed', 'x'],
    ['--repeat', '0'],
    ['--limits', '1,,2'],
    ['--no-such-option', '1'],
  ] as const) {
    const line = new RegExp(`^[^\n]*${option}[^\n]*$`);
    t.throws(() => readOptions([`${option}=${value}`]), { message: line }, `${option}=${value}`);
  }
});

t.test('the command refuses with exit code 2 and that line', async (t) => {
  await t.rejects(bench(t, '--no-such-option=1'), {
    code: 2,
    stderr: /^bench:admission: [^\n]*--no-such-option[^\n]*\n$/,
  });
});
