/** Debian's Prometheus scrapes the built program, answers in PromQL and evaluates the alerts; promtool finds nothing to say against them. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { version } from '../../src/config/version.js';
import { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import { KubeletPod } from '../support/cri-client.js';
import { type Holdfast, startHoldfast } from './support/holdfast.js';
import { missingPrograms, searchPath, skipFor } from './support/programs.js';
import { until } from './support/until.js';

// A Prometheus looks for its targets only 5 s after it has started.
t.jobs = 2;

const skip = skipFor(missingPrograms('prometheus', 'promtool'));
const examples = fileURLToPath(new URL('../../examples/', import.meta.url));
const rules = path.join(examples, 'prometheus/alerts.yaml');
const env = { ...process.env, PATH: searchPath };

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** Rejects where promtool ends with anything but 0. */
async function promtool(args: readonly string[], input?: string): Promise<string> {
  const running = promisify(execFile)('promtool', args, { env });
  running.child.stdin?.end(input);
  const { stdout, stderr } = await running;
  return stdout + stderr;
}

interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [atSeconds: number, value: string];
}

class Prometheus {
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  /** @throws What Prometheus has against the query. */
  async ask(query: string): Promise<readonly Sample[]> {
    const url = `http://127.0.0.1:${this.#port}/api/v1/query?query=${encodeURIComponent(query)}`;
    const answer = (await (await fetch(url)).json()) as { error?: string; data?: { result: Sample[] } };
    if (answer.data === undefined) throw new Error(`${query}: ${answer.error}`);
    return answer.data.result;
  }

  /** Waits until the query has a result, and the first value of it is this one, if one is given. */
  finds(query: string, value?: number): Promise<readonly Sample[]> {
    return until(`Prometheus finds ${value ?? 'something'} for ${query}`, async () => {
      const found = await this.ask(query);
      return found.length > 0 && (value === undefined || Number(found[0]?.value[1]) === value) ? found : undefined;
    });
  }

  get isReady(): Promise<boolean> {
    return fetch(`http://127.0.0.1:${this.#port}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  }
}

interface Scene {
  readonly holdfast: Holdfast;
  readonly runtime: SimulatedRuntime;
  readonly prometheus: Prometheus;
  readonly metricsUrl: string;
  readonly pod: KubeletPod;
}

async function setUp(t: Test): Promise<Scene> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'hfprom-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const runtime = new SimulatedRuntime({ socketPath: `${directory}/r.sock` });
  await runtime.listen();
  t.teardown(() => runtime.close());
  const [metricsPort, port] = [await freePort(), await freePort()];
  const flags = ['--metrics', `127.0.0.1:${metricsPort}`];
  const holdfast = await startHoldfast(t, { runtime: `${directory}/r.sock`, listen: `${directory}/h.sock`, flags });
  const config = `
global: { scrape_interval: 200ms, evaluation_interval: 200ms }
rule_files: [${rules}]
scrape_configs:
  - job_name: holdfast
    static_configs: [{ targets: ['127.0.0.1:${metricsPort}'] }]
`;
  writeFileSync(`${directory}/prometheus.yml`, config);
  const started = spawn(
    'prometheus',
    [
      `--config.file=${directory}/prometheus.yml`,
      `--storage.tsdb.path=${directory}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=warn',
    ],
    { env, stdio: ['ignore', 'ignore', 'inherit'] },
  );
  t.teardown(async () => {
    const exit = once(started, 'exit');
    started.kill('SIGKILL');
    await exit;
  });
  const prometheus = new Prometheus(port);
  await until('Prometheus is ready', () => prometheus.isReady);
  const pod = new KubeletPod({ directory, uid: 'uid-1' });
  return { holdfast, runtime, prometheus, metricsUrl: `http://127.0.0.1:${metricsPort}/metrics`, pod };
}

/** As Grafana fills in the variables. */
function dashboardQueries(): string[] {
  const dashboard = JSON.parse(readFileSync(path.join(examples, 'grafana/holdfast.json'), 'utf8')) as {
    panels: { targets?: { expr: string }[] }[];
  };
  return dashboard.panels.flatMap(({ targets = [] }) =>
    targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '5s').replaceAll('$instance', '.*')),
  );
}

t.test('promtool finds nothing wrong with the alerts, and they fire when they should', { skip }, async (t) => {
  t.match(await promtool(['check', 'rules', rules]), 'SUCCESS');
  t.match(await promtool(['test', 'rules', path.join(examples, 'prometheus/alerts.test.yaml')]), 'SUCCESS');
});

t.test('a Prometheus scrapes what Holdfast does, and sees the runtime and Holdfast go', { skip }, async (t) => {
  const { holdfast, runtime, prometheus, metricsUrl, pod } = await setUp(t);
  const { client } = holdfast;

  await prometheus.finds('up{job="holdfast"}', 1);
  const text = await (await fetch(metricsUrl)).text();
  t.equal(await promtool(['check', 'metrics'], text), '', 'promtool has nothing to say against names, types and help');
  await prometheus.finds(`holdfast_build_info{version="${version}"}`, 1);
  const [before] = await prometheus.finds('count({__name__=~"holdfast_.*"})');

  await client.call('Version');
  await client.call('ListContainers');
  const { pod_sandbox_id: podSandboxId } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  await prometheus.finds('holdfast_calls_ended_total{method="RunPodSandbox", code="OK"}', 1);
  await prometheus.finds('holdfast_taken_call_duration_seconds_count{method="RunPodSandbox"}', 1);
  await prometheus.finds('holdfast_list_call_duration_seconds_bucket{method="ListContainers", le="+Inf"}', 1);
  await prometheus.finds('sum(holdfast_creations_total{kind="podSandbox", outcome="answered"})', 1);
  await t.rejects(client.call('StopContainer', { container_id: 'none' }));
  t.match(await prometheus.finds('sum by (code) (holdfast_calls_ended_total{method="StopContainer"}) > 0'), [
    { value: [Number, '1'] },
  ]);

  const hold = runtime.hold('createContainer');
  const leave = new AbortController();
  const left = client.call('CreateContainer', pod.createContainerRequest(podSandboxId, { image: 'app' }), {
    signal: leave.signal,
  });
  left.catch(() => {});
  await hold.arrived();
  await prometheus.finds('holdfast_oldest_creation_age_seconds{kind="container", stage="running"} > 0');
  leave.abort();
  await holdfast.logged('that it is left', ({ step }) => step === 'waiter left');
  hold.release();
  await prometheus.finds('holdfast_oldest_creation_age_seconds{kind="container", stage="held"} > 0');
  await prometheus.finds('holdfast_hidden_containers', 1);
  await prometheus.finds('holdfast_calls_ended_total{method="CreateContainer", code="Canceled"}', 1);

  for (const query of dashboardQueries()) await t.resolves(prometheus.ask(query), query);
  const answered = await Promise.all(dashboardQueries().map((query) => prometheus.ask(query)));
  t.ok(answered.filter((found) => found.length > 0).length > 20, 'most of the dashboard shows something');

  const [after] = await prometheus.finds('count({__name__=~"holdfast_.*"})');
  // FailedPrecondition and the like, and pressure by resource.
  t.ok(Number(after?.value[1]) - Number(before?.value[1]) < 12, 'work brings no series but rare codes and pressure');

  await runtime.kill();
  const waits = client.call('Version', {}, { deadlineMs: 20_000 });
  waits.catch(() => {});
  await prometheus.finds('holdfast_upstream_up', 0);
  await prometheus.finds('ALERTS{alertname="HoldfastRuntimeUnreachable", alertstate="pending"}');

  await holdfast.kill();
  await prometheus.finds('up{job="holdfast"}', 0);
  await prometheus.finds('ALERTS{alertname="HoldfastDown", alertstate="pending"}');
  await holdfast.start();
  await prometheus.finds('up{job="holdfast"}', 1);
  await prometheus.finds('changes(process_start_time_seconds[1m]) and on (instance, job) holdfast_build_info', 1);
});
