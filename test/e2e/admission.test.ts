/** Forty pods at once, through Holdfast to a real containerd. */
import t, { type Test } from 'tap';
import { CriClient, type KubeletPod } from '../support/cri-client.js';
import { type RealContainerd, skipReason as skip, startContainerd } from './support/containerd.js';
import { type Holdfast, type LogLine, startHoldfast } from './support/holdfast.js';
import { bringUp, type ListCall, Relists } from './support/kubelet.js';
import { until } from './support/until.js';

const upMs = 60_000;

async function setUp(t: Test, flags: string[] = []): Promise<{ containerd: RealContainerd; holdfast: Holdfast }> {
  const containerd = await startContainerd(t);
  const listen = `${containerd.directory}/h.sock`;
  return { containerd, holdfast: await startHoldfast(t, { runtime: containerd.socket, listen, flags }) };
}

function podsOf(containerd: RealContainerd, count: number): KubeletPod[] {
  return Array.from({ length: count }, (_, n) => containerd.pod({ name: `web-${n}` }));
}

/** What had changed at a step of Holdfast's log: creations and starts that wait, and those being carried out. */
interface Load {
  readonly atMs: number;
  readonly queued: number;
  readonly inFlight: number;
}

const ends = new Set<unknown>(['answered', 'shown', 'held', 'failed', 'timed out', 'dropped']);

function loads(log: readonly LogLine[]): Load[] {
  let queued = 0;
  let inFlight = 0;
  return log.flatMap(({ step, time }) => {
    if (step === 'queued') queued += 1;
    else if (step === 'started') {
      queued -= 1;
      inFlight += 1;
    } else if (ends.has(step)) inFlight -= 1;
    else return [];
    return [{ atMs: Date.parse(String(time)), queued, inFlight }];
  });
}

/** Whether some work waited for its turn all the time from `beganMs` to `endedMs`, and none got one. */
function fellWithinAStandstill({ beganMs, endedMs }: ListCall, history: readonly Load[]): boolean {
  const before = history.findLast(({ atMs }) => atMs < beganMs);
  return (before?.queued ?? 0) > 0 && !history.some(({ atMs }) => atMs >= beganMs && atMs <= endedMs);
}

function percentile(calls: readonly ListCall[], share: number): number {
  const sorted = calls.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
}

async function failuresOf(calls: readonly Promise<unknown>[]): Promise<string[]> {
  const settled = await Promise.allSettled(calls);
  return settled.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : []));
}

/** Each pod has one pod sandbox and one container, both at the first try. */
async function allRun(t: Test, client: CriClient, pods: readonly KubeletPod[]): Promise<void> {
  const { items } = await client.call('ListPodSandbox');
  const sandboxes = items.map(({ id, state, metadata }) => ({ id, state, ...metadata }));
  const { containers } = await client.call('ListContainers');
  t.equal(items.length, pods.length);
  t.equal(containers.length, pods.length);
  for (const { uid } of pods) {
    const sandbox = sandboxes.find((one) => one.uid === uid);
    t.match(sandbox, { state: 'SANDBOX_READY', attempt: 0 });
    const container = containers.find((one) => one.pod_sandbox_id === sandbox?.id);
    t.match(container, { state: 'CONTAINER_RUNNING', metadata: { attempt: 0 } });
  }
}

t.test(
  '40 pods at once with a CNI ADD of 1 s: all run, nothing fails, and lists wait for none',
  { skip },
  async (t) => {
    const { containerd, holdfast } = await setUp(t);
    const pods = podsOf(containerd, 40);
    containerd.setCniDelay(1);
    const other = new CriClient(holdfast.socket);
    t.teardown(() => other.close());
    const beganMs = performance.now();
    const relists = new Relists([other, containerd.client]);
    const failures = await failuresOf(pods.map((pod) => bringUp(holdfast.client, pod)));
    const tookMs = performance.now() - beganMs;
    await relists.stop();

    t.strictSame(failures, []);
    await allRun(t, holdfast.client, pods);
    t.equal(containerd.cniAdds(), pods.length);
    t.equal(containerd.ociCreates(), pods.length);

    t.strictSame(relists.failures, []);
    const [through = [], direct = []] = relists.calls;
    const history = loads(holdfast.log);
    const meanwhile = through.filter((call) => fellWithinAStandstill(call, history));
    for (const method of ['ListPodSandbox', 'ListContainers', 'Status']) {
      t.ok(
        meanwhile.some((call) => call.method === method),
        `${method} was answered while creations waited and none could begin`,
      );
    }
    const figures = (calls: readonly ListCall[]) =>
      [0.5, 0.99, 1].map((share) => Math.round(percentile(calls, share))).join(', ');
    const most = Math.max(...history.map(({ inFlight }) => inFlight));
    t.comment(`all ran after ${(tookMs / 1000).toFixed(1)} s, at most ${most} creations and starts at once`);
    t.comment(`lists p50, p99, max in ms: ${figures(through)} through Holdfast, ${figures(direct)} directly`);
    t.comment(`${through.length} through Holdfast, ${meanwhile.length} of them while all work that was left waited`);
    // Each call passes two more processes than a direct one, which all wait for a CPU, and the p99 of so few is one of the slowest: seen
    // were up to 3.5 times. A place among the creations would have taken up to 1 s.
    t.ok(percentile(through, 0.99) < Math.max(100, 4 * percentile(direct, 0.99)), 'and as soon as without Holdfast');
  },
);

/** However long something takes and whosever it is. */
const fixed = ['--admission', 'fixed', '--max-hung', '0', '--own-places', '0', '--max-creations'];

t.test('never more creations and starts at once than --max-creations', { skip }, async (t) => {
  const limit = 4;
  const { containerd, holdfast } = await setUp(t, [...fixed, String(limit)]);
  const [early, late] = [podsOf(containerd, 2), podsOf(containerd, 10)];
  const gate = 600;
  containerd.setStartDelay(gate);
  const runs = early.map((pod) => bringUp(holdfast.client, pod));
  await until('two starts are under way', () => containerd.ociCreates() === early.length, upMs);
  containerd.setCniDelay(gate);
  runs.push(...late.map((pod) => bringUp(holdfast.client, pod)));
  await until('the places left are taken', () => containerd.cniAdds() === early.length + 2, upMs);
  await holdfast.logged('the last pod', (line) => line.step === 'queued' && line.uid === late.at(-1)?.uid, upMs);
  containerd.setCniDelay(0);
  containerd.setStartDelay(0);
  t.strictSame(await failuresOf(runs), []);
  await allRun(t, holdfast.client, [...early, ...late]);
  t.equal(containerd.mostAtOnce(), limit, 'in the runtime');
  t.equal(Math.max(...loads(holdfast.log).map(({ inFlight }) => inFlight)), limit, "by Holdfast's log");
});

t.test('a pod of kube-system begins before those that waited longer', { skip }, async (t) => {
  const limit = 4;
  const { containerd, holdfast } = await setUp(t, [...fixed, String(limit)]);
  const logged = (uid: string | undefined) =>
    holdfast.logged('that a pod is queued', (line) => line.step === 'queued' && line.uid === uid, upMs);
  const pods = podsOf(containerd, limit + 30);
  containerd.setCniDelay(600);
  const runs = pods.map((pod) => bringUp(holdfast.client, pod));
  await logged(pods.at(-1)?.uid);
  await until('all places are taken', () => containerd.cniAdds() === limit, upMs);
  const critical = containerd.pod({ name: 'dns-0', namespace: 'kube-system' });
  runs.push(bringUp(holdfast.client, critical));
  await logged(critical.uid);
  containerd.setCniDelay(0);
  t.strictSame(await failuresOf(runs), []);
  await allRun(t, holdfast.client, [...pods, critical]);

  const { log } = holdfast;
  const ofCritical = (step: string) => log.findIndex((line) => line.step === step && line.uid === critical.uid);
  const meanwhile = log.slice(ofCritical('queued') + 1, ofCritical('started'));
  const ended = meanwhile.filter(({ step }) => ends.has(step)).length;
  t.comment(`it began after ${ended} completions, with ${pods.length - limit} pods before it`);
  t.ok(ended <= 2, 'it waited for at most two completions');
  t.notOk(
    meanwhile.some(({ step }) => step === 'started'),
    'and nothing that was queued began before it',
  );
});
