/** How faults are counted and said. */
import { pino } from 'pino';
import t from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import { Faults } from '../../src/proxy/faults.js';
import { counted } from '../support/counted.js';
import { ManualClock } from '../support/manual-clock.js';

function setUp() {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const lines: Record<string, unknown>[] = [];
  const faults = new Faults(metrics, pino({}, { write: (line: string) => lines.push(JSON.parse(line)) }), clock);
  const noted = async () =>
    Object.fromEntries((await counted(metrics.faults)).map(({ labels, value }) => [labels.method, value]));
  return { clock, faults, lines, noted };
}

/** Faults of one place in the code. */
const faultOfOnePlace = () => new TypeError('broken');

t.test('a fault is counted by method and said with its stack', async (t) => {
  const { faults, lines, noted } = setUp();
  const error = faultOfOnePlace();
  faults.note('RunPodSandbox', error);
  faults.note('other', 'thrown');
  t.strictSame(await noted(), { RunPodSandbox: 1, other: 1 });
  t.match(lines, [
    { level: 50, method: 'RunPodSandbox', stack: error.stack, msg: 'fault inside Holdfast' },
    { level: 50, method: 'other', stack: 'thrown' },
  ]);
});

t.test('one fault is counted and said once, whoever meets it', async (t) => {
  const { faults, lines, noted } = setUp();
  const error = faultOfOnePlace();
  for (const method of ['RunPodSandbox', 'CreateContainer']) faults.note(method, error);
  t.strictSame([await noted(), lines.length], [{ RunPodSandbox: 1 }, 1]);
  const bare = { code: 1 };
  for (let n = 0; n < 2; n++) faults.note('StartContainer', bare);
  for (let n = 0; n < 2; n++) faults.note('other', null);
  t.strictSame(await noted(), { RunPodSandbox: 1, StartContainer: 1, other: 2 });
});

t.test('the same stack is said once a minute, with how often it was not said', async (t) => {
  const { clock, faults, lines, noted } = setUp();
  const [first, second, third, fourth] = Array.from({ length: 4 }, faultOfOnePlace);
  faults.note('StartContainer', first);
  await clock.advance(59_999);
  faults.note('StartContainer', second);
  faults.note('StartContainer', new Error('of another place'));
  t.equal(lines.length, 2);
  await clock.advance(1);
  faults.note('StartContainer', third);
  t.match(lines[2], { stack: /broken/, unsaid: 1 });
  t.notOk('unsaid' in (lines[0] ?? {}));
  faults.note('StartContainer', fourth);
  t.equal(lines.length, 3, 'the minute begins anew');
  t.strictSame(await noted(), { StartContainer: 5 });
});

t.test('a hundred stacks are told apart, and no more are kept', (t) => {
  const { faults, lines } = setUp();
  for (let n = 0; n < 101; n++) faults.note('other', `stack ${n}`);
  faults.note('other', 'stack 1');
  t.equal(lines.length, 101);
  faults.note('other', 'stack 0');
  t.equal(lines.length, 102, 'it was let go of');
  t.end();
});

t.test('what throws gives what is given instead, and is noted', async (t) => {
  const { faults, noted } = setUp();
  t.equal(
    faults.guard('other', () => 1, 2),
    1,
  );
  t.strictSame(await noted(), {});
  const broken = () => {
    throw faultOfOnePlace();
  };
  t.equal(faults.guard('other', broken, 2), 2);
  t.strictSame(await noted(), { other: 1 });
});
