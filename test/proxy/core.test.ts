/** How the parts behind the handlers are put together: what each of them is told of the others. */
import { lstatSync, mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { CreationLives } from '../../src/cache/creation-lives.js';
import { WatchedStart } from '../../src/cache/second-copy-guard.js';
import { defaults } from '../../src/config/defaults.js';
import { noTraces } from '../../src/proxy/call-traces.js';
import { Events } from '../../src/proxy/events.js';
import { LifeLog } from '../../src/proxy/life-log.js';
import { breakMethod } from '../support/break-method.js';
import { counted } from '../support/counted.js';
import { encodeMessage } from '../support/cri-client.js';
import { settle } from '../support/manual-clock.js';
import {
  type CoreRig,
  containerMade,
  createContainer,
  heldContainer,
  listOf,
  passed,
  podSandboxMade,
  runPodSandbox,
  setUp,
  withId,
} from './core-rig.js';

const ready = encodeMessage('PodSandboxStatusResponse', { status: { id: 's1', state: 'SANDBOX_READY' } });
const created = encodeMessage('ContainerStatusResponse', { status: { id: 'c1', state: 'CONTAINER_CREATED' } });
const notReady = encodeMessage('PodSandboxStatusResponse', { status: { id: 's1', state: 'SANDBOX_NOTREADY' } });

t.test('each step of a creation and of a start is said, with its detail', async (t) => {
  const { take, lines, last, close } = setUp();
  take('RunPodSandbox', runPodSandbox());
  await passed();
  await last('RunPodSandbox').answer(podSandboxMade('s1'));
  take('StartContainer', withId('c1'));
  await passed();
  await last('ListContainers').answer();
  await last('StartContainer').answer();
  const said = (kind: string) => lines.filter((line) => line.kind === kind).map(({ step }) => step);
  t.same(said('podSandbox'), ['queued', 'started', 'answered', 'delivered']);
  t.same(said('start'), ['queued', 'started', 'answered', 'delivered']);
  t.match(
    lines.filter(({ step }) => step === 'queued'),
    [
      { kind: 'podSandbox', namespace: 'default', name: 'web', behind: 0 },
      { kind: 'start', id: 'c1', behind: 0 },
    ],
  );
  close();
});

t.test('the gauges show what the stores and the subscriptions have', async (t) => {
  const rig = setUp();
  const { metrics, take, subscriptions, close } = rig;
  const gauges = async () =>
    (await metrics.registry.metrics()).match(/^holdfast_(entries|hidden_containers|event_subscriptions) \d+$/gm);
  t.same(await gauges(), ['holdfast_hidden_containers 0', 'holdfast_entries 0', 'holdfast_event_subscriptions 0']);
  await heldContainer(rig);
  const { done } = take('GetContainerEvents');
  await passed();
  t.same(await gauges(), ['holdfast_hidden_containers 1', 'holdfast_entries 1', 'holdfast_event_subscriptions 1']);
  await subscriptions[0]?.end();
  await done;
  t.same(await gauges(), ['holdfast_hidden_containers 1', 'holdfast_entries 1', 'holdfast_event_subscriptions 0']);
  close();
});

t.test('the age of what is oldest is in the metrics', async (t) => {
  const { metrics, take, clock, close } = setUp();
  take('RunPodSandbox', runPodSandbox());
  take('StartContainer', withId('c1'));
  await passed();
  await clock.advance(2_000);
  const text = await metrics.registry.metrics();
  for (const labels of ['kind="podSandbox",stage="running"', 'kind="start",stage="queued"']) {
    t.match(text, `holdfast_oldest_creation_age_seconds{${labels}} 2\n`);
  }
  close();
  await passed();
});

t.test('who draws traces is told of each step, and says what goes to the runtime', async (t) => {
  const told: string[] = [];
  const { take, asked, last, close } = setUp(
    {},
    {
      ...noTraces,
      creation: (step) => told.push(`creation ${step}`),
      start: (step) => told.push(`start ${step}`),
      metadataOf: () => [['traceparent', 'ours']],
    },
  );
  take('RunPodSandbox', runPodSandbox());
  take('StartContainer', withId('c1'));
  await passed();
  await last('ListContainers').answer();
  t.same(told.sort(), ['creation queued', 'creation started', 'start queued', 'start started']);
  for (const { method, options } of asked) {
    if (method !== 'ListContainers') t.same(options.metadata, [['traceparent', 'ours']], method);
  }
  close();
  await passed();
});

/** Calls that met a fault, by method. */
async function faultsOf({ metrics }: CoreRig) {
  return Object.fromEntries((await counted(metrics.faults)).map(({ labels, value }) => [labels.method, value]));
}

t.test('a fault of the log of steps disturbs no call, and counts for its method', async (t) => {
  const rig = setUp();
  const { take, last, close } = rig;
  const broken = [breakMethod(LifeLog.prototype, 'creation', 1), breakMethod(LifeLog.prototype, 'start', 1)];
  const sandbox = take('RunPodSandbox', runPodSandbox());
  await passed();
  await last('RunPodSandbox').answer(podSandboxMade('s9'));
  await sandbox.done;
  broken.push(breakMethod(LifeLog.prototype, 'creation', 1));
  const container = take('CreateContainer', createContainer());
  take('StartContainer', withId('c0'));
  await passed();
  await last('CreateContainer').answer(containerMade('c1'));
  await container.done;
  for (const one of broken.reverse()) one.mend();
  t.same([sandbox.sent.at(-1), container.sent.at(-1)], [0, 0]);
  t.same(await faultsOf(rig), { RunPodSandbox: 1, CreateContainer: 1, StartContainer: 1 });
  close();
});

t.test('a fault at the end of what nobody waits for counts for its method', async (t) => {
  const rig = setUp();
  const { take, last, close } = rig;
  const left = [take('CreateContainer', createContainer()), take('StartContainer', withId('c1'))];
  await passed();
  await last('ListContainers').answer(listOf('c1'));
  for (const { leave, done } of left) {
    leave();
    await done;
  }
  const broken = [breakMethod(CreationLives.prototype, 'rename'), breakMethod(WatchedStart.prototype, 'succeeded')];
  await last('CreateContainer').answer(containerMade('c0'));
  await last('StartContainer').answer();
  for (const one of broken) one.mend();
  t.same(await faultsOf(rig), { CreateContainer: 1, StartContainer: 1 });
  close();
});

t.test('a fault in what subscribers are to be told disturbs no creation, and counts for the events', async (t) => {
  for (const [method, isUsed] of [
    ['revealed', true],
    ['vanished', false],
  ] as const) {
    const rig = setUp();
    const { handlers, clock, last, close } = rig;
    await heldContainer(rig);
    const broken = breakMethod(Events.prototype, method);
    if (isUsed) handlers.observe('/runtime.v1.RuntimeService/ExecSync', withId('c1'));
    else {
      await clock.advance(defaults.holdTtlMs);
      await last('PodSandboxStatus').answer(ready);
      await last('ContainerStatus').answer(created);
      await last('RemoveContainer').answer();
    }
    broken.mend();
    t.same(await faultsOf(rig), { GetContainerEvents: 1 });
    t.equal(rig.inspection.creations(true).creations.length, 0);
    close();
  }
});

t.test('events of a container come when it is given to somebody, and never where it is removed', async (t) => {
  for (const isGiven of [true, false]) {
    const rig = setUp();
    const { take, subscriptions, handlers, clock, last, close } = rig;
    const { sent, kept } = take('GetContainerEvents');
    await heldContainer(rig);
    const event = encodeMessage('ContainerEventResponse', { container_id: 'c1' });
    await subscriptions[0]?.send(event);
    t.same(sent, []);
    t.ok(kept() > 0);
    if (isGiven) handlers.observe('/runtime.v1.RuntimeService/ExecSync', withId('c1'));
    else {
      await clock.advance(defaults.holdTtlMs);
      await last('PodSandboxStatus').answer(ready);
      await last('ContainerStatus').answer(created);
      await last('RemoveContainer').answer();
    }
    await passed();
    t.same(sent, isGiven ? [event] : []);
    t.equal(kept(), 0);
    close();
  }
});

t.test('a pod sandbox in which a container is being started is in use, and is not removed', async (t) => {
  for (const isBeingStarted of [true, false]) {
    const { take, asked, last, close } = setUp();
    const left = take('RunPodSandbox', runPodSandbox());
    await passed();
    left.leave();
    await left.done;
    await last('RunPodSandbox').answer(podSandboxMade('s1'));
    take('StartContainer', withId('c1'));
    await passed();
    await last('ListContainers').answer(listOf('c1'));
    if (!isBeingStarted) await last('StartContainer').answer();

    take('RunPodSandbox', runPodSandbox());
    await passed();
    // Once for the request, and once before it is removed.
    for (let look = 0; look < 2; look++) {
      await last('PodSandboxStatus').answer(notReady);
      await last('ListContainers').answer(listOf('c1'));
    }
    const changes = asked.map(({ method }) => method).filter((method) => !/Status$|^List/.test(method));
    t.equal(changes.at(-1), isBeingStarted ? 'RunPodSandbox' : 'StopPodSandbox');
    close();
  }
});

t.test('the log of an attempt that is made is its own, where links are Holdfast’s to make', async (t) => {
  for (const linkLogs of [true, false]) {
    const directory = path.join(t.testdir(), String(linkLogs));
    const log = path.join(directory, 'app', '1.log');
    mkdirSync(path.dirname(log), { recursive: true });
    symlinkSync('0.log', log);
    const { take, asked, close } = setUp({ linkLogs });
    take('CreateContainer', createContainer(1, directory));
    while (asked.length === 0) await settle();
    t.equal(lstatSync(log, { throwIfNoEntry: false })?.isSymbolicLink() ?? false, !linkLogs);
    close();
  }
});

t.test('a container that is given to another attempt has its log linked', async (t) => {
  const directory = t.testdir({ app: {} });
  const { take, asked, last, close } = setUp({ linkLogs: true });
  const left = take('CreateContainer', createContainer(0, directory));
  while (asked.length === 0) await settle();
  left.leave();
  const { sent } = take('CreateContainer', createContainer(1, directory));
  await passed();
  await last('CreateContainer').answer(encodeMessage('CreateContainerResponse', { container_id: 'c1' }));
  while (sent.length === 0) await settle();
  t.ok(lstatSync(path.join(directory, 'app', '1.log')).isSymbolicLink());
  close();
});

t.test('work is admitted as it is configured, and has as long as it is configured', async (t) => {
  const { take, asked, admission, close } = setUp({ maxCreations: 1, creationTimeoutMs: 77_000 });
  t.equal(admission.limit, 1);
  for (const uid of ['a', 'b']) take('RunPodSandbox', runPodSandbox(uid));
  await passed();
  t.match(asked, [{ method: 'RunPodSandbox', options: { timeoutMs: 77_000 } }]);
  t.equal(asked.length, 1);
  close();
});

t.test('what is held is removed when that is asked for', async (t) => {
  const rig = setUp();
  await heldContainer(rig);
  let isRemoved = false;
  const removed = rig.removeHeld().then(() => {
    isRemoved = true;
  });
  await passed();
  await rig.last('PodSandboxStatus').answer(ready);
  await rig.last('ContainerStatus').answer(created);
  t.notOk(isRemoved);
  await rig.last('RemoveContainer').answer();
  await removed;
  t.notOk(rig.handlers.takesLate?.());
  rig.close();
});

t.test('a close cuts short what runs and leaves no timer', async (t) => {
  const rig = setUp();
  await heldContainer(rig);
  const creation = rig.take('RunPodSandbox', runPodSandbox());
  const start = rig.take('StartContainer', withId('c2'));
  await passed();
  await rig.last('ListContainers').answer();
  t.ok(rig.clock.pending > 0);
  rig.close();
  await Promise.all([creation.done, start.done]);
  t.same([creation.sent, start.sent], [[14], [14]]);
  await passed();
  t.equal(rig.clock.pending, 0);
});

t.test('a close ends the timers of admission though work is queued', async (t) => {
  const rig = setUp({ creationRate: 1, creationBurst: 1 });
  for (const uid of ['a', 'b', 'c']) rig.take('RunPodSandbox', runPodSandbox(uid));
  await passed();
  t.equal(rig.asked.length, 1);
  rig.close();
  await passed();
  t.equal(rig.clock.pending, 0);
});
