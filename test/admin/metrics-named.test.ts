/** What alerts, dashboard and the operations guide say of metrics is true of those that there are. */
import { existsSync, readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import type { CreationStep } from '../../src/cache/creation-lives.js';
import { familiesOf, metricsIn, seriesNames } from '../support/metric-names.js';
import { Rig } from '../support/rig.js';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook: string };
}

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const rules = (parse(read('examples/prometheus/alerts.yaml')) as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
);
const guide = read('docs/operations.md');

/** Of `holdfast sidecar`, of Prometheus itself and of node-exporter. */
const fromElsewhere = ['holdfast_up', 'holdfast_bypassed', 'holdfast_in_path', 'up', 'node_systemd_unit_state'];

/** Of a Holdfast that has had some work, so that it has read pressure. */
async function worked(t: Test): Promise<Rig> {
  const readPressure = () => ({ avg10: 12.5, stalledMs: 0 });
  const rig = await Rig.start(t, { readPressure });
  await rig.podSandbox(rig.pod());
  return rig;
}

t.test('the names in a query are those of metrics', (t) => {
  t.strictSame(metricsIn('sum by (a, b) (rate(x_total{c="d and e", f!~"g|h"}[5m])) / y > 0.5 and on (i) z unless w'), [
    'x_total',
    'y',
    'z',
    'w',
  ]);
  t.strictSame(metricsIn('histogram_quantile(0.9, sum by (le) (rate(x_bucket[$__rate_interval]))) < +Inf'), [
    'x_bucket',
  ]);
  t.end();
});

t.test('each alert goes by metrics that there are, and has its section in the guide', async (t) => {
  const rig = await worked(t);
  const known = new Set([...(await seriesNames(rig.metrics.registry)), ...fromElsewhere]);
  t.ok(rules.length >= 8);
  for (const { alert, expr, labels, annotations } of rules) {
    t.ok(metricsIn(expr).length > 0, alert);
    t.strictSame(
      metricsIn(expr).filter((name) => !known.has(name)),
      [],
      alert,
    );
    t.match(labels.severity, /^(?:critical|warning|info)$/);
    t.ok(annotations.summary.length > 0 && annotations.description.length > 0);
    t.equal(annotations.runbook, `docs/operations.md#${alert.toLowerCase()}`);
    const section = guide.split(/^### /m).find((each) => each.startsWith(`${alert}\n`)) ?? '';
    for (const part of ['Means', 'Look', 'Do', 'Fires falsely']) t.match(section, `**${part}**`, `${alert}: ${part}`);
  }
});

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly refId: string; readonly expr: string }[];
}

const dashboard = JSON.parse(read('examples/grafana/holdfast.json')) as {
  readonly uid: string;
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
};

t.test('each query of the dashboard goes by metrics that there are', async (t) => {
  const rig = await worked(t);
  const known = new Set([...(await seriesNames(rig.metrics.registry)), ...fromElsewhere]);
  for (const { title, targets = [] } of dashboard.panels) {
    for (const { expr } of targets) {
      t.ok(metricsIn(expr).length > 0, title);
      t.strictSame(
        metricsIn(expr).filter((name) => !known.has(name)),
        [],
        title,
      );
    }
  }
  const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)).join('\n');
  t.notMatch(queries, 'holdfast_pressure_percent', 'nothing that will be gone');
});

t.test('the dashboard has its rows, and each panel a place of its own', (t) => {
  const { panels, uid, schemaVersion, templating } = dashboard;
  t.equal(uid, 'holdfast');
  t.ok(schemaVersion >= 39);
  t.strictSame(
    panels.filter(({ type }) => type === 'row').map(({ title }) => title),
    ['Is it well?', 'Storms', 'Admission', 'Latency', 'Runtime', 'Process'],
  );
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const taken = new Set<string>();
  for (const { title, gridPos, targets = [] } of panels) {
    const { x, y, w, h } = gridPos;
    t.ok(x + w <= 24, title);
    for (let at = 0; at < w * h; at += 1) {
      const cell = `${x + (at % w)} ${y + Math.floor(at / w)}`;
      t.notOk(taken.has(cell), `${title} at ${cell}`);
      taken.add(cell);
    }
    t.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length);
  }
  const variables = [...JSON.stringify(panels).matchAll(/\$\{?([a-z]+)\b/g)].map(([, name = '']) => name);
  for (const name of variables)
    t.ok(
      templating.list.some((each) => each.name === name),
      name,
    );
  t.end();
});

t.test('the guide has each metric, its type and its labels, and no other', async (t) => {
  const rig = await worked(t);
  const section = guide.split(/^## /m).find((each) => each.startsWith('Metrics\n')) ?? '';
  const [table = '', sidecar = ''] = section.split('From the sidecar:');
  const rows = [...table.matchAll(/^\| `([^`]+)` \| (\w+) \|([^|]*)\| (.+) \|$/gm)].map(
    ([, name, type, labels = '']) => ({
      name,
      type,
      labels: [...labels.matchAll(/`([^`]+)`/g)].map(([, label]) => label),
    }),
  );
  const byName = (a: { name?: string | undefined }, b: { name?: string | undefined }) =>
    String(a.name).localeCompare(String(b.name));
  t.strictSame(rows.sort(byName), familiesOf(await rig.metrics.registry.metrics()).sort(byName));
  for (const name of ['holdfast_up', 'holdfast_bypassed', 'holdfast_in_path'])
    t.match(sidecar, `| \`${name}\` | gauge |`);
});

t.test('the guide has each step that is logged, and no other', (t) => {
  // Complete, since a step that is not in it does not compile.
  const steps: Record<CreationStep | 'guarded' | 'let go', true> = {
    ...{ 'backing off': true, queued: true, started: true, 'waiter joined': true, 'waiter left': true, hangs: true },
    ...{
      'given up': true,
      'name reserved': true,
      wedged: true,
      answered: true,
      shown: true,
      held: true,
      replayed: true,
    },
    ...{ delivered: true, forgotten: true, changed: true, 'cannot be told': true, drift: true, reaped: true },
    ...{ 'resources updated': true, superseded: true, 'removal failed': true, 'removal given up': true },
    ...{ 'in use': true, dropped: true, 'timed out': true, failed: true, guarded: true, 'let go': true },
  };
  const section = guide.split(/^## /m).find((each) => each.startsWith('Log lines\n')) ?? '';
  const told = [...section.matchAll(/^\| `([^`]+)` \|/gm)].map(([, step]) => step);
  t.same(told.toSorted(), Object.keys(steps).toSorted());
  t.end();
});

t.test('links of the guide lead somewhere', (t) => {
  for (const [, link = ''] of guide.matchAll(/\]\(([^)]+)\)/g)) {
    const [file = '', section] = link.split('#');
    if (file !== '') t.ok(existsSync(new URL(`../../docs/${file}`, import.meta.url)), link);
    if (section === undefined) continue;
    const titles = [...guide.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) => title.toLowerCase().replaceAll(' ', '-'));
    t.ok(titles.includes(section), link);
  }
  t.end();
});
