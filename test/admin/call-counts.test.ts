import { Registry } from 'prom-client';
import t from 'tap';
import { CallCounts, codeNames } from '../../src/admin/call-counts.js';
import { callNames } from '../../src/cri/methods.js';

function setUp() {
  const registry = new Registry();
  const calls = new CallCounts(registry);
  const lines = async () => (await registry.metrics()).split('\n').filter((line) => line.startsWith('holdfast_'));
  /** Those above 0. */
  const counted = async () => (await lines()).filter((line) => !line.endsWith(' 0'));
  return { calls, lines, counted };
}

t.test('a call is counted by its method, and by what is done with it or how it ended', async (t) => {
  const { calls, counted } = setUp();
  calls.begun('Version', 'passed');
  calls.begun('Version', 'passed');
  calls.begun('ListContainers', 'taken');
  calls.ended('Version', 0, 1);
  calls.ended('Version', 14, 1);
  calls.ended('StopContainer', undefined, 1);
  calls.ended('StopContainer', 17, 1);
  calls.ended('StopContainer', 999_999_999, 1);
  calls.ended('StopContainer', 16, 1);
  t.strictSame(await counted(), [
    'holdfast_calls_total{method="Version",handling="passed"} 2',
    'holdfast_calls_total{method="ListContainers",handling="taken"} 1',
    'holdfast_calls_ended_total{method="Version",code="OK"} 1',
    'holdfast_calls_ended_total{method="Version",code="Unavailable"} 1',
    'holdfast_calls_ended_total{method="StopContainer",code="Unauthenticated"} 1',
    'holdfast_calls_ended_total{method="StopContainer",code="unread"} 3',
  ]);
});

t.test('an answer is counted in the seconds it took, of lists and of what makes or starts something', async (t) => {
  const { calls, lines } = setUp();
  calls.ended('ListPodSandbox', 0, 30);
  calls.ended('RunPodSandbox', 4, 120_000);
  calls.ended('Version', 0, 5);
  const found = await lines();
  for (const line of [
    'holdfast_list_call_duration_seconds_bucket{method="ListPodSandbox",le="0.025"} 0',
    'holdfast_list_call_duration_seconds_bucket{method="ListPodSandbox",le="0.1"} 1',
    'holdfast_list_call_duration_seconds_sum{method="ListPodSandbox"} 0.03',
    'holdfast_taken_call_duration_seconds_bucket{method="RunPodSandbox",le="60"} 0',
    'holdfast_taken_call_duration_seconds_bucket{method="RunPodSandbox",le="120"} 1',
    'holdfast_taken_call_duration_seconds_count{method="CreateContainer"} 0',
    'holdfast_taken_call_duration_seconds_count{method="StartContainer"} 0',
    'holdfast_list_call_duration_seconds_count{method="StreamContainers"} 0',
    'holdfast_list_call_duration_seconds_count{method="ListImages"} 0',
  ]) {
    t.ok(found.includes(line), line);
  }
  t.notOk(found.some((line) => /duration.*(?:Version|GetContainerEvents|ListMetricDescriptors)/.test(line)));
});

t.test('series are there from the start: each handling that a method can get, and the usual codes', async (t) => {
  const { lines } = setUp();
  const found = await lines();
  const handlings = (method: string) =>
    found
      .filter((line) => line.startsWith(`holdfast_calls_total{method="${method}"`))
      .map((line) => line.split('"')[3]);
  for (const method of ['RunPodSandbox', 'CreateContainer', 'StartContainer', 'GetContainerEvents']) {
    t.strictSame(handlings(method), ['taken'], method);
  }
  for (const method of ['ListContainers', 'PodSandboxStatus'])
    t.strictSame(handlings(method), ['passed', 'taken'], method);
  for (const method of ['Version', 'PullImage', 'other']) t.strictSame(handlings(method), ['passed'], method);
  for (const code of ['OK', 'Canceled', 'Unknown', 'DeadlineExceeded', 'NotFound', 'Unavailable']) {
    const of = found.filter(
      (line) => line.startsWith('holdfast_calls_ended_total') && line.endsWith(`code="${code}"} 0`),
    );
    t.equal(of.length, callNames.length + 1, code);
  }
});

t.test(
  'whatever a client asks for and a runtime answers, there are no more series than methods and codes',
  async (t) => {
    const { calls, lines } = setUp();
    for (let n = 0; n < 500; n += 1) {
      calls.begun(`Method${n}`, 'passed');
      for (const code of [n, undefined]) calls.ended(`Method${n}`, code, n);
    }
    for (const name of callNames) for (let code = 0; code < 100; code += 1) calls.ended(name, code, code);
    const ended = (await lines()).filter((line) => line.startsWith('holdfast_calls_ended_total'));
    t.equal(ended.length, (callNames.length + 1) * (codeNames.length + 1));
    t.notOk(ended.some((line) => line.includes('Method1')));
    t.ok(ended.includes('holdfast_calls_ended_total{method="other",code="OK"} 1'));
  },
);
