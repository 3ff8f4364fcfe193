import t from 'tap';
import { statusText, timeText } from '../../src/admin/status-text.js';
import type { ReportedCreation } from '../../src/proxy/creation-report.js';

const summary = {
  version: '1.2.3',
  node: 'v24',
  pid: 1,
  listen: '/l',
  runtime: '/r',
  startedAt: '2026-01-01T00:00:00.000Z',
  uptimeMs: 7_300_000,
  connections: 2,
  runtimeAnswers: true,
  runtimeSilence: null,
  admission: { limit: null, inFlight: 1, hung: 0, queued: { start: 2, container: 0 }, pressurePercent: { cpu: 92.6 } },
  creations: { remembered: 0, hidden: 0, backingOff: 0, wedged: 0 },
  kubelet: { status: { calls: 1, lastAgoMs: 4_000 }, lists: { calls: 0, lastAgoMs: undefined } },
};
const creation: ReportedCreation = {
  kind: 'container',
  namespace: 'n'.repeat(40),
  pod: 'p'.repeat(60),
  uid: 'u',
  container: 'c',
  attempt: 12,
  state: 'running',
  stuck: true,
  ageMs: 1,
  stateForMs: 1,
  waiters: 12_345,
  hidden: false,
  next: 'it goes on',
};
const text = (...shown: ReportedCreation[]) =>
  statusText({ bypass: undefined, summary, shown, problem: undefined, exitCode: 0 });

t.test('the head says what the node is at', (t) => {
  t.same(text().split('\n'), [
    'Holdfast 1.2.3, up 2 h, 2 connections',
    'The runtime answers.',
    'A kubelet: last list never, last status 4 s ago',
    'Admission: limit none, 1 in flight, 0 hang, 2 queued (2 start)',
    'Pressure: cpu 93 %',
    '',
    'Nothing is queued, running, held or stuck.',
    '',
  ]);
  t.end();
});

t.test('whatever is long is cut or wrapped to 100 columns, and nothing moves the cursor', (t) => {
  const told = text({ ...creation, lastError: `\x1b[2Jbad\r\n${'x'.repeat(250)} ${'word '.repeat(50)}` });
  t.notOk(told.split('\n').some((line) => line.length > 100));
  t.notOk(told.split('\n').some((line) => /\p{C}/u.test(line)));
  t.match(told, /^! n{40}\/p{8}… container #12/m);
  t.end();
});

t.test('a bypass after a configuration that was not understood says how to find what of it', (t) => {
  const told = (why: string) =>
    statusText({ bypass: { since: '', why }, summary: undefined, shown: [], problem: undefined, exitCode: 3 });
  const ofFailure = told('holdfast.service failed: exit-code, exited 2').replaceAll('\n', ' ');
  t.match(ofFailure, 'holdfast serve --dry-run --config /etc/holdfast.yaml');
  for (const why of ['holdfast.service failed: exit-code, exited 1', 'started by hand']) {
    t.notMatch(told(why), 'dry-run', why);
  }
  t.end();
});

t.test('what to do is told once', (t) => {
  const remedy = 'crictl rmp --force abc';
  const reserved = { by: 'abc', forMs: 1, tries: 1, wedged: true, remedy };
  const times = (waitsFor: string) => text({ ...creation, waitsFor, reserved }).split(remedy).length - 1;
  t.equal(times(`its name is reserved: try "${remedy}"`), 1);
  t.equal(times('its name is reserved'), 1);
  t.end();
});

t.test('a start of which it is not known whose it is is told by its id', (t) => {
  const { kind: _, namespace: _n, pod: _p, uid: _u, container: _c, ...rest } = creation;
  t.match(text({ ...rest, kind: 'start', id: 'abc' }), /^! \? abc/m);
  t.end();
});

t.test('times are told in the unit that fits', (t) => {
  const cases = [
    [0, '0 s'],
    [119_400, '119 s'],
    [120_000, '2 min'],
    [7_199_000, '119 min'],
    [7_200_000, '2 h'],
    [172_799_000, '47 h'],
    [172_800_000, '2 d'],
  ] as const;
  for (const [ms, said] of cases) t.equal(timeText(ms), said);
  t.end();
});
