/** Arms on small simulated nodes: what they come to, and what is left of them. Needs the built program. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { stringify } from 'yaml';
import { type BenchOptions, runBench } from '../../../src/harness/bench/bench.js';
import { podPlans } from '../../../src/harness/bench/pod-plans.js';
import { readScenario, type Scenario } from '../../../src/harness/bench/scenario.js';
import type { ArmReport, Report } from '../../../src/harness/report-data.js';
import { ownTmpdir } from '../../support/own-tmpdir.js';

const forever = new AbortController().signal;
// They wait more than they work.
t.jobs = 2;
/** For a test beside which no other may have anything in the temporary directory, and one whose times are tight. */
const alone = { buffered: false };

const directory = mkdtempSync(path.join(tmpdir(), 'hf-yaml-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const left = ownTmpdir(t);

/** A kubelet that waits for 0.2 s (0.4 s for a pod sandbox), five times as fast as a real one in all else. */
function scenario(runtime: object, rest: Record<string, unknown> = {}, kubelet: object = {}): Scenario {
  const file = path.join(directory, 'small.yaml');
  const backoff = { least: '1s', longest: '1500ms' };
  const content = {
    description: 'A test',
    pods: 3,
    watch: '60s',
    kubelet: { 'request-timeout': '200ms', backoff, relist: '100ms', ...kubelet },
    runtime: { 'create-container': '0s', 'start-container': '0s', rollback: '10ms', ...runtime },
    ...rest,
  };
  writeFileSync(file, stringify(content));
  return readScenario(file);
}

async function run(of: Scenario, options: Partial<BenchOptions> = {}): Promise<Report> {
  const bench = { scenario: of, arms: of.arms, seed: 1, repeats: 1, runtime: undefined, onProgress: () => undefined };
  return runBench({ ...bench, ...options }, forever);
}

function arm(report: Report, name: string): ArmReport {
  const found = report.arms.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no arm ${name}`);
  return found;
}

/** Longer than a kubelet waits, by far more than a busy machine delays a timer. */
const slowSandbox = { 'run-pod-sandbox': '2s' };

t.test('a sandbox that is too slow for a kubelet never comes straight from containerd', alone, async (t) => {
  const report = await run(scenario(slowSandbox, { watch: '2500ms', arms: 'direct' }));
  const direct = arm(report, 'direct');
  t.equal(direct.converged, false);
  t.strictSame(direct.runningMs, { p50: null, p95: null, all: null });
  t.ok(direct.creationsPerPod >= 2, 'each sandbox was begun twice or more');
  t.ok(direct.deadlineErrors >= 3);
  t.equal(direct.leftOvers, 0);
  t.equal(direct.holdfast, null);
  t.equal(direct.timelines.length, 3);
  for (const { calls, work, marks } of direct.timelines) {
    t.match(calls[0], { state: 'podSandbox' });
    t.match(work[0], { state: 'podSandbox', thrownAway: true });
    t.ok(marks.some(({ kind }) => kind === 'deadline passed'));
  }
});

t.test('through Holdfast it comes once, beside a runtime that keeps it for the next try', alone, async (t) => {
  const running: number[] = [];
  const report = await run(
    scenario(slowSandbox, { 'side-by-side': true, arms: 'crio-store,holdfast', description: ' Slow\n sandboxes ' }),
    { onProgress: ({ arm, running: pods }) => arm === 'holdfast' && running.push(pods) },
  );
  t.match(report, {
    scenario: 'small',
    description: 'Slow sandboxes',
    seed: 1,
    pods: 3,
    repeats: 1,
    runtime: 'simulated',
  });
  for (const { name, ...figures } of report.arms) {
    t.match(figures, { converged: true, creationsPerPod: 1, restarts: 0, duplicatesAlive: 0, leftOvers: 0 }, name);
  }
  const { holdfast, timelines, runningMs, durationMs } = arm(report, 'holdfast');
  t.ok(holdfast === null || (holdfast.rssBytes > 0 && holdfast.cpuMs >= 0));
  t.equal(holdfast === null, process.platform !== 'linux');
  t.ok(runningMs.all !== null && runningMs.all >= 2_000 && runningMs.all <= durationMs);
  for (const { calls, work, marks } of timelines) {
    t.equal(calls.at(-1)?.state, 'running');
    t.equal(calls.at(-1)?.toMs, durationMs);
    t.strictSame(
      work
        .filter(({ state }) => state !== 'queued')
        .slice(0, 1)
        .map(({ state }) => state),
      ['podSandbox'],
    );
    t.ok(
      marks.some(({ kind }) => kind === 'joined' || kind === 'adopted'),
      'it was not made again',
    );
  }
  t.equal(running[0], 0);
});

t.test('a start that is too slow runs once through Holdfast, with attempt 0', async (t) => {
  const slowStart = { 'run-pod-sandbox': '0s', 'start-container': '1s' };
  const direct = arm(await run(scenario(slowStart, { watch: '2500ms', arms: 'direct' })), 'direct');
  t.equal(direct.converged, false);
  const through = arm(await run(scenario(slowStart, { arms: 'holdfast' })), 'holdfast');
  t.match(through, { converged: true, restarts: 0, duplicatesAlive: 0, leftOvers: 0, creationsPerPod: 1 });
});

t.test('a container whose log file comes early runs once through Holdfast, with attempt 0', async (t) => {
  const slowCreate = { profile: 'crio-store', 'run-pod-sandbox': '0s', 'create-container': '1s' };
  const store = arm(await run(scenario(slowCreate, { watch: '2500ms', arms: 'crio-store' })), 'crio-store');
  t.equal(store.converged, false);
  const through = arm(await run(scenario(slowCreate, { arms: 'holdfast' })), 'holdfast');
  t.match(through, { converged: true, restarts: 0, duplicatesAlive: 0, leftOvers: 0, creationsPerPod: 1 });
});

t.test('the work of jobs is counted: done once in time, never where each start is undone', async (t) => {
  const job = { 'restart-policy': ['never', 'on-failure'], pull: '1ms', exits: { after: '10ms' } };
  const quick = { ...job, 'init-containers': { count: 1, run: '10ms' }, 'request-timeout': '30s' };
  const late = { 'run-pod-sandbox': '0s', 'start-container': '2s' };
  const [once, never] = await Promise.all([
    run(scenario({ 'run-pod-sandbox': '0s' }, { arms: 'direct', pods: 2 }, quick)),
    run(scenario(late, { arms: 'direct', pods: 2, watch: '3s' }, job)),
  ]);
  t.match(arm(once, 'direct'), { converged: true, restarts: 0, work: { pods: 2, once: 2, more: 0 }, leftOvers: 0 });
  for (const { calls } of arm(once, 'direct').timelines) t.match(calls.at(-1), { state: 'done' });
  t.match(arm(never, 'direct'), { converged: false, work: { pods: 2, once: 0, more: 0 }, leftOvers: 0 });
});

t.test(
  'containers that crash are restarted, static pods come back at attempt 0, and it is watched to the end',
  async (t) => {
    const report = await run(
      scenario(
        { 'run-pod-sandbox': '0s' },
        { pods: 2, watch: '9s', 'watch-all': true, 'side-by-side': true },
        {
          ...{ 'request-timeout': '30s', relist: '50ms' },
          exits: { after: '100ms', code: 1, times: 2 },
          static: { pods: 1, delete: '1s', return: '6500ms' },
        },
      ),
    );
    for (const { name, ...figures } of report.arms) {
      t.match(figures, { converged: true, restarts: 2, highestAttempt: 2, work: null, duplicatesAlive: 0 }, name);
      t.equal(figures.creationsPerPod, 2, `${name}: two more containers, and the static pod's two once more`);
      t.ok(figures.durationMs >= 9_000, name);
      const [last] = figures.timelines[1]?.calls.slice(-1) ?? [];
      t.ok(last?.state === 'running' && last.fromMs >= 6_500, name);
    }
  },
);

t.test('one seed gives the same arrivals, deletions and failures each time, another one others', async (t) => {
  const half = scenario(
    { failures: { share: '25%' } },
    { arms: 'direct', pods: 12 },
    { 'request-timeout': '30s', arrivals: '50/s', backoff: { least: '10ms', longest: '20ms' }, relist: '10ms' },
  );
  const planned = (seed: number) =>
    podPlans({ ...half, kubelet: { ...half.kubelet, delete: { share: 0.5, afterMs: 10 } } }, seed);
  t.strictSame(planned(7), planned(7));
  t.notSame(planned(7), planned(8));
  const failures = async (seed: number) =>
    (await run(half, { seed })).arms[0]?.timelines.map(
      ({ marks }) => marks.filter(({ text }) => text === 'simulated failure').length,
    );
  const first = await failures(7);
  t.ok(first?.some((count) => count > 0));
  t.strictSame(await failures(7), first);
  t.notSame(await failures(8), first);
});

t.test('critical pods are in kube-system and come later', async (t) => {
  const plans = podPlans(scenario({}, { pods: 5 }, { critical: { pods: 2, after: '3s' }, containers: 2 }), 1);
  t.strictSame(
    plans.map(({ namespace, arriveMs }) => [namespace, arriveMs]),
    [
      ['default', 0],
      ['default', 0],
      ['default', 0],
      ['kube-system', 3_000],
      ['kube-system', 3_000],
    ],
  );
  t.strictSame(plans[0]?.containers, ['app', 'app-1']);
  t.equal(new Set(plans.map(({ name }) => name)).size, 5);
});

t.test('a pod that is deleted does not count, and what was made for it goes', async (t) => {
  const report = await run(
    scenario(slowSandbox, { arms: 'holdfast', pods: 4 }, { delete: { share: '100%', after: '300ms' } }),
  );
  t.match(arm(report, 'holdfast'), { converged: true, leftOvers: 0 });
});

t.test('a runtime that dies on the way is waited for', async (t) => {
  const report = await run(
    scenario(
      { 'run-pod-sandbox': '3s', restarts: [{ at: '1s', down: '200ms' }] },
      { 'side-by-side': true },
      { 'request-timeout': '30s' },
    ),
  );
  for (const { name, ...figures } of report.arms) {
    t.match(figures, { converged: true, leftOvers: 0 }, name);
    t.ok(figures.otherErrors > 0, name);
  }
});

t.test('a run ends when all pods run that do not hang for ever, and has come to what was to be expected', async (t) => {
  const hung = scenario(
    { 'run-pod-sandbox': '0s', hangs: { share: '50%', lead: '100ms' } },
    { pods: 4, arms: 'direct,holdfast', 'side-by-side': true },
    { 'request-timeout': '30s', static: { pods: 2 } },
  );
  const report = await run(hung);
  for (const { name, timelines, ...figures } of report.arms) {
    t.match(figures, { neverRun: 2, converged: true, staticPods: { pods: 1 }, criticalPods: null, leftOvers: 0 }, name);
    t.ok(figures.durationMs < 30_000, name);
    const states = timelines.map(({ pod, calls }) => [pod.slice(0, 3), calls.at(-1)?.state]);
    t.strictSame(
      states.sort(),
      [
        ['pod', 'podSandbox'],
        ['pod', 'running'],
        ['sta', 'podSandbox'],
        ['sta', 'running'],
      ],
      name,
    );
  }
  t.strictSame(
    report.arms[0]?.timelines.map(({ calls }) => calls.at(-1)?.state),
    report.arms[1]?.timelines.map(({ calls }) => calls.at(-1)?.state),
    'the same pods hang in each arm',
  );
});

t.test('what hangs once comes at the next try, straight and once Holdfast has given it up', async (t) => {
  const once = scenario(
    { 'run-pod-sandbox': '0s', hangs: { share: '50%', times: 1 } },
    { pods: 2, 'side-by-side': true, holdfast: { 'creation-timeout': '2s' } },
    { 'request-timeout': '2s' },
  );
  for (const { name, ...figures } of (await run(once)).arms) {
    t.match(figures, { neverRun: 0, converged: true, creationsPerPod: 5 / 4, leftOvers: 0 }, name);
  }
});

t.test('contention shows as pressure and is the same for each arm', async (t) => {
  const report = await run(
    scenario(
      { 'run-pod-sandbox': '50ms', contention: { cores: 1, coefficient: 0.1, resource: 'io' } },
      {
        arms: 'direct,holdfast-off,holdfast-no-psi,holdfast',
        pods: 6,
        'side-by-side': true,
        holdfast: { 'max-creations': 4 },
      },
      { 'request-timeout': '20s' },
    ),
    { repeats: 2 },
  );
  t.strictSame(
    report.arms.map(({ name, converged }) => [name, converged]),
    [
      ['direct', true],
      ['holdfast-off', true],
      ['holdfast-no-psi', true],
      ['holdfast', true],
    ],
  );
  t.equal(report.repeats, 2);
});

t.test('nothing is left of those that came to their end', alone, async (t) => {
  t.strictSame(readdirSync(left), []);
});

t.test('the signal ends it, and nothing is left behind', alone, async (t) => {
  const interrupted = new AbortController();
  const of = scenario({ 'run-pod-sandbox': '60s' }, { 'side-by-side': true });
  const onProgress = () => {
    if (readdirSync(left).length > 0) setTimeout(() => interrupted.abort(new Error('enough')), 500);
  };
  const options = { scenario: of, arms: of.arms, seed: 1, repeats: 1, runtime: undefined, onProgress };
  await t.rejects(runBench(options, interrupted.signal), { message: 'enough' });
  t.strictSame(readdirSync(left), []);
});

t.test('a Holdfast that does not start ends all arms, and nothing is left behind', alone, async (t) => {
  const of = scenario(slowSandbox, { 'side-by-side': true, holdfast: { 'min-creations': 9, 'max-creations': 4 } });
  await t.rejects(run(of), { message: /^holdfast serve ended: holdfast: --min-creations 9 is more than/ });
  t.strictSame(readdirSync(left), []);
});
