import t from 'tap';
import { reportTable } from '../../../src/harness/report/table.js';
import { arm, report, stuck } from './reports.js';

function row(table: string, name: string): string | undefined {
  return table.split('\n').find((line) => line.startsWith(name));
}

t.test('arms stand side by side, with ratios to direct', async (t) => {
  const table = reportTable(
    report([arm('direct', stuck), arm('holdfast', { holdfast: { cpuMs: 1_500, rssBytes: 60 * 2 ** 20 } })]),
  );
  t.match(table.split('\n')[0], /^slow-cni: 2 pods, seed 5, 1 repeat, runtime simulated$/);
  t.match(row(table, ' '), /^ +direct +holdfast$/);
  t.match(row(table, 'all pods ran  '), / +no +yes$/);
  t.match(row(table, '50 % of pods ran after'), / +3\.00 s +2\.00 s \(0\.67×\)$/);
  t.match(row(table, 'all pods ran after'), / +— +4\.00 s$/);
  t.match(row(table, 'list calls, p50'), / +— +2\.0 ms$/);
  t.match(row(table, 'CPU of Holdfast'), / +— +1\.50 s$/);
  t.match(row(table, 'memory of Holdfast'), / +— +60 MiB$/);
});

t.test('how often work was done is said where some has an end, and of how many pods', async (t) => {
  const worked = (once: number, more: number) => ({ work: { pods: 8, once, more } });
  const table = reportTable(report([arm('direct', worked(2, 5)), arm('holdfast', worked(8, 0)), arm('else')]));
  t.match(row(table, 'work done exactly once'), / +2 of 8 pods +8 of 8 pods \(4\.00×\) +—$/);
  t.match(row(table, 'work done more than once'), / +5 of 8 pods +0 of 8 pods \(0\.00×\) +—$/);
  t.notMatch(reportTable(report([arm('direct'), arm('holdfast')])), 'work done');
  t.match(row(reportTable(report([arm('direct', stuck)])), 'all pods ran after'), / +—$/, 'what never came is said');
});

t.test('what hangs for ever is counted first, and then all is said of the other pods', async (t) => {
  const table = reportTable(report([arm('direct', { neverRun: 12 }), arm('holdfast', { ...stuck, neverRun: 12 })]));
  const [head, hung, converged] = table.split('\n').slice(2);
  t.match(head, /direct +holdfast/);
  t.match(hung, /^pods not expected to run +12 +12$/);
  t.match(converged, /^all other pods ran +yes +no$/);
  t.match(row(table, '50 % of other pods ran after'), / 2\.00 s +3\.00 s \(1\.50×\)$/);
  t.match(row(table, 'all other pods ran after'), / 4\.00 s +—$/);
  t.notMatch(reportTable(report([arm('direct')])), /expected|other pods/);
});

t.test('how long the node’s own pods waited is said where there are some, also when they never ran', async (t) => {
  const table = reportTable(
    report([
      arm('direct', { staticPods: { pods: 4, allMs: 1_000 } }),
      arm('holdfast', { staticPods: { pods: 4, allMs: 500 }, criticalPods: { pods: 2, allMs: null } }),
    ]),
  );
  t.match(row(table, 'static pods ran after'), / 1\.00 s +0\.50 s \(0\.50×\)$/);
  t.match(row(table, 'kube-system ran after'), / — +—$/);
  t.notMatch(reportTable(report([arm('direct')])), /static|kube-system/);
});

t.test('without an arm direct there is no ratio, nor a note on it', async (t) => {
  const table = reportTable(report([arm('crio-store'), arm('holdfast')]));
  t.notMatch(table, '×');
  t.match(row(table, 'creations per pod'), / 1\.00 +1\.00$/);
});

t.test('it is at most 100 columns wide, and arms that do not fit follow below', async (t) => {
  const names = Array.from({ length: 8 }, (_, at) => `${at}-${'long-name-'.repeat(4)}`);
  const table = reportTable(report([arm('direct'), ...names.map((name) => arm(name))], { runtime: 'r'.repeat(200) }));
  for (const line of table.split('\n')) t.ok(line.length <= 100, line);
  const heads = table.split('\n').filter((line) => /^ .*long-name/.test(line));
  t.ok(heads.length > 1);
  t.equal(heads.join(' ').match(/\d-long-name-long-na…/g)?.length, 8, 'each arm once');
  t.equal(table.match(/^creations per pod /gm)?.length, heads.length, 'and labels in front of each');
});

t.test('it begins with a sentence, and what is 0 in each arm is one line', async (t) => {
  const lines = reportTable(report([arm('direct', { ...stuck, deadlineErrors: 2 }), arm('holdfast')])).split('\n');
  t.equal(lines[1], '2 of 2 pods ran through Holdfast after 4.00 s; with direct 1 of 2 did within 8.00 s.');
  t.ok(lines.some((line) => /^deadline errors +2 +0/.test(line)));
  const at = lines.findIndex((line) => line.startsWith('0 in all arms: '));
  t.equal(
    lines.slice(at, at + 2).join(' '),
    '0 in all arms: "name reserved" errors, other errors, restarts, highest attempt, duplicates, left over',
  );
  t.notOk(lines.some((line) => /^restarts /.test(line)));
  t.match(reportTable(report([arm('direct')])), /^0: deadline errors, /m);
});

t.test('names cannot move the cursor', async (t) => {
  const table = reportTable(report([arm('\x1b[2J\u202edirect\n')], { scenario: 'a\x07\nb' }));
  t.notMatch(table, /[^\P{C}\n]/u);
  t.match(table, /^a b: /);
});

t.test('medians of an even number of repeats may lie between', async (t) => {
  const table = reportTable(
    report([arm('direct', { deadlineErrors: 4.5, listMs: { p50: 0.04, p99: 1234.5 } })], { repeats: 2 }),
  );
  t.match(row(table, 'deadline errors'), / 4\.5$/);
  t.match(row(table, 'list calls, p99'), / 1235 ms$/);
  t.match(table, /medians over the repeats/);
});

t.test('no arms make no table', async (t) => {
  t.equal(reportTable(report([])).split('\n')[0], 'slow-cni: 2 pods, seed 5, 1 repeat, runtime simulated');
});
