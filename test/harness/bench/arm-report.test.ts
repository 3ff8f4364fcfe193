import t from 'tap';
import { armReport, percentile, perDifferent, type RunResult } from '../../../src/harness/bench/arm-report.js';

const run: RunResult = {
  neverRun: 0,
  converged: true,
  runningMs: { p50: 100, p95: 200, all: 300 },
  staticPods: null,
  criticalPods: null,
  creationsPerPod: 1,
  deadlineErrors: 2,
  reservedErrors: 0,
  otherErrors: 1,
  restarts: 0,
  highestAttempt: 0,
  work: null,
  duplicatesAlive: 0,
  leftOvers: 0,
  listMs: { p50: 1, p99: 2 },
  holdfast: null,
  durationMs: 400,
  timelines: [],
};

t.test('figures are medians, and only what converged each time has converged', async (t) => {
  const timelines = [{ pod: 'a', calls: [], work: [], marks: [] }];
  const report = armReport('direct', 'straight', [
    { ...run, timelines, deadlineErrors: 9, holdfast: { cpuMs: 50, rssBytes: 10 } },
    { ...run, converged: false, runningMs: { p50: 500, p95: null, all: null }, holdfast: { cpuMs: 70, rssBytes: 30 } },
    { ...run, runningMs: { p50: 300, p95: null, all: 900 }, holdfast: { cpuMs: 40, rssBytes: 20 } },
  ]);
  t.strictSame(report, {
    ...run,
    name: 'direct',
    title: 'straight',
    converged: false,
    runningMs: { p50: 300, p95: null, all: 900 },
    holdfast: { cpuMs: 50, rssBytes: 20 },
    timelines,
  });
});

t.test('the median of two is between them, and never where one has none', async (t) => {
  const others = { deadlineErrors: 5, runningMs: { p50: 200, p95: null, all: null } };
  const report = armReport('a', 'b', [run, { ...run, ...others }]);
  t.equal(report.deadlineErrors, 3.5);
  t.strictSame(report.runningMs, { p50: 150, p95: null, all: null });
});

t.test('work is a median, and unknown where one run does not tell', async (t) => {
  const worked = (once: number, more: number) => ({ ...run, work: { pods: 9, once, more } });
  t.strictSame(armReport('a', 'b', [worked(9, 0), worked(4, 5), worked(6, 3)]).work, { pods: 9, once: 6, more: 3 });
  t.equal(armReport('a', 'b', [worked(9, 0), run]).work, null);
  t.equal(armReport('a', 'b', [{ ...run, highestAttempt: 4 }]).highestAttempt, 4);
});

t.test('the node’s own pods ran when they did in the median, and never where they mostly did not', async (t) => {
  const own = (allMs: number | null, pods = 4) => ({ ...run, staticPods: { pods, allMs } });
  t.strictSame(armReport('a', 'b', [own(9), own(null), own(5)]).staticPods, { pods: 4, allMs: 9 });
  t.strictSame(armReport('a', 'b', [own(null), own(7)]).staticPods, { pods: 4, allMs: null });
  const critical = armReport('a', 'b', [{ ...run, neverRun: 3, criticalPods: { pods: 2, allMs: 8 } }]);
  t.match(critical, { neverRun: 3, staticPods: null, criticalPods: { pods: 2, allMs: 8 } });
});

t.test('a percentile counts also those that have no value', async (t) => {
  const values = [30, 10, 20];
  t.equal(percentile(values, 0.5), 20);
  t.equal(percentile(values, 1), 30);
  t.equal(percentile(values, 0.5, 4), 20);
  t.equal(percentile(values, 1, 4), null);
  t.equal(percentile([], 0.5), null);
});

t.test('what was made more than once counts more than once', async (t) => {
  t.equal(perDifferent(['a', 'b', 'a', 'a']), 2);
  t.equal(perDifferent([]), 0);
});
