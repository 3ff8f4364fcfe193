import t from 'tap';
import { type ExitPlan, exitAnnotations } from '../../../src/harness/exit-plan.js';
import type { KubeletPod } from '../../support/cri-client.js';
import { ManualClock } from '../../support/manual-clock.js';
import { type Bench, bench, leavable, runPod } from '../support.js';

async function create(it: Bench, pod: KubeletPod, sandboxId: string, plan?: ExitPlan, attempt = 0): Promise<string> {
  const { config, ...rest } = pod.createContainerRequest(sandboxId, { image: 'simulated/image:1', attempt });
  const annotations = { ...config.annotations, ...exitAnnotations(plan) };
  return (await it.client.call('CreateContainer', { ...rest, config: { ...config, annotations } })).container_id;
}

async function start({ client }: Bench, id: string): Promise<void> {
  await client.call('StartContainer', { container_id: id });
}

async function statusOf({ client }: Bench, id: string) {
  return (await client.call('ContainerStatus', { container_id: id })).status;
}

t.test('a process ends after its time, with its code, a time of its end and an event', async (t) => {
  for (const [code, reason] of [
    [0, 'Completed'],
    [3, 'Error'],
  ] as const) {
    const clock = new ManualClock();
    const it = await bench(t, { clock });
    const pod = it.pod();
    const id = await create(it, pod, await runPod(it, pod), { afterMs: 700, code });
    const events = it.client.stream('GetContainerEvents');
    const told: unknown[] = [];
    events.on('data', (event) => told.push(event)).on('error', () => undefined);
    await it.runtime.subscribed();
    await start(it, id);
    await clock.advance(699);
    t.match(await statusOf(it, id), { state: 'CONTAINER_RUNNING', finished_at: '0' });
    await clock.advance(1);
    const ended = await statusOf(it, id);
    t.match(ended, { state: 'CONTAINER_EXITED', exit_code: code, reason });
    t.ok(BigInt(ended.finished_at) > BigInt(ended.started_at));
    t.match(told, [
      { container_event_type: 'CONTAINER_STARTED_EVENT' },
      {
        container_event_type: 'CONTAINER_STOPPED_EVENT',
        container_id: id,
        containers_statuses: [{ id, state: 'CONTAINER_EXITED', exit_code: code }],
      },
    ]);
    events.cancel();
  }
});

t.test('a process that is told nothing runs on', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { clock });
  const pod = it.pod();
  await start(it, await create(it, pod, await runPod(it, pod)));
  t.equal(clock.pending, 0);
  await clock.advance(1e9);
  t.match(it.runtime.containers, [{ state: 'CONTAINER_RUNNING' }]);
});

t.test(
  'each run counts for its pod and container, whatever its attempt; what was never started does not',
  async (t) => {
    const clock = new ManualClock();
    const it = await bench(t, { clock });
    const [one, other] = [it.pod({ uid: 'one' }), it.pod({ uid: 'other' })];
    const sandboxId = await runPod(it, one);
    for (const attempt of [0, 4]) await start(it, await create(it, one, sandboxId, { afterMs: 10, code: 0 }, attempt));
    await create(it, one, sandboxId, { afterMs: 10, code: 0 }, 5);
    await start(it, await create(it, other, await runPod(it, other)));
    await clock.advance(10);
    t.same([it.runtime.runs('one', 'app'), it.runtime.runs('other', 'app'), it.runtime.runs('one', 'side')], [2, 1, 0]);
    t.equal(it.runtime.mostCopies('one', 'app'), 2);
  },
);

t.test('a start that was undone has run nothing; one that goes on without its caller has', async (t) => {
  for (const lateStart of ['undone', 'completes'] as const) {
    const it = await bench(t, { lateStart });
    const { runtime, client } = it;
    const pod = it.pod({ uid: 'u' });
    const id = await create(it, pod, await runPod(it, pod));
    const starting = runtime.hold('startContainer');
    const { leave } = leavable((signal) => client.call('StartContainer', { container_id: id }, { signal }));
    await starting.arrived();
    await leave();
    await client.call('Version');
    starting.release();
    await client.call('Version');
    t.equal(runtime.runs('u', 'app'), lateStart === 'undone' ? 0 : 1, lateStart);
  }
});

t.test('only as many runs end by themselves as is said; the next runs on', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { clock });
  const pod = it.pod();
  const sandboxId = await runPod(it, pod);
  for (const attempt of [0, 1, 2]) {
    await start(it, await create(it, pod, sandboxId, { afterMs: 10, code: 1, times: 2 }, attempt));
    await clock.advance(1_000);
  }
  t.match(it.runtime.containers, [{ exitCode: 1 }, { exitCode: 1 }, { state: 'CONTAINER_RUNNING' }]);
});

t.test('a process that was stopped before, or is gone, does not end again', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { clock });
  const pod = it.pod();
  const sandboxId = await runPod(it, pod);
  const [stopped, gone] = [
    await create(it, pod, sandboxId, { afterMs: 10, code: 0 }),
    await create(it, pod, sandboxId, { afterMs: 10, code: 0 }, 1),
  ];
  for (const id of [stopped, gone]) await start(it, id);
  await it.client.call('StopContainer', { container_id: stopped });
  const events: unknown[] = [];
  const stream = it.client.stream('GetContainerEvents');
  stream.on('data', (event) => events.push(event)).on('error', () => undefined);
  await it.runtime.subscribed();
  it.runtime.removeBehindTheBack(gone);
  await clock.advance(10);
  t.match(await statusOf(it, stopped), { state: 'CONTAINER_EXITED', exit_code: 137 });
  t.same(events, []);
  stream.cancel();
});

t.test('a process ends while the runtime is down', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { clock });
  const pod = it.pod();
  await start(it, await create(it, pod, await runPod(it, pod), { afterMs: 10, code: 0 }));
  await it.runtime.kill();
  await clock.advance(10);
  await it.runtime.listen();
  t.match(it.runtime.containers, [{ state: 'CONTAINER_EXITED', exitCode: 0 }]);
  t.equal(clock.pending, 0);
});

t.test('nothing is to come after the end', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { clock });
  const pod = it.pod();
  await start(it, await create(it, pod, await runPod(it, pod), { afterMs: 1e9, code: 0 }));
  t.equal(clock.pending, 1);
  await it.runtime.close();
  t.equal(clock.pending, 0);
});
