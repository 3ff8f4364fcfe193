import { existsSync } from 'node:fs';
import path from 'node:path';
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type Containerd, playScenes } from '../../support/containerd-scenes.js';
import { decodeMessage, encodeMessage } from '../../support/cri-client.js';
import { ManualClock } from '../../support/manual-clock.js';
import { bench, create, failure, leavable, runPod } from '../support.js';

const steps = {
  podSandbox: 'runPodSandbox',
  container: 'createContainer',
  start: 'startContainer',
  undoing: 'rollback',
} as const;

async function scene(t: Test): Promise<Containerd> {
  const { runtime, client, pod } = await bench(t, { events: false });
  return {
    client,
    pod,
    hold: async (work) => {
      const held = runtime.hold(steps[work]);
      return { reached: () => held.arrived(), release: () => held.release() };
    },
    kill: () => runtime.kill(),
    start: async () => {
      await runtime.listen();
      await client.waitForReady(10_000);
    },
  };
}

playScenes(t, { major: 1, minor: 6 }, scene, {});

t.test('a caller that leaves after the work is done leaves a complete sandbox behind', async (t) => {
  const { runtime, client, pod } = await bench(t);
  const answering = runtime.hold('runPodSandboxAnswer');
  const { leave } = leavable((signal) => client.call('RunPodSandbox', pod().runPodSandboxRequest(), { signal }));
  await answering.arrived();
  await leave();
  answering.release();
  t.match((await client.call('ListPodSandbox')).items, [{ state: 'SANDBOX_READY' }]);
});

t.test('a deadline that passes at the runtime undoes the creation like a cancel', async (t) => {
  const { runtime, client, pod } = await bench(t);
  const undoing = runtime.hold('rollback');
  runtime.hold('runPodSandbox');
  // On a slow machine it may pass before the call has come in.
  while (runtime.made.sandboxes.length === 0) {
    const call = failure(client.call('RunPodSandbox', pod().runPodSandboxRequest(), { deadlineMs: 30 }));
    t.match(await call, { code: status.DEADLINE_EXCEEDED });
  }
  await undoing.arrived();
  t.match(runtime.made.sandboxes[0], { callerLeft: true });
});

t.test('a container is listed CREATED, and its event is out, before CreateContainer answers', async (t) => {
  const it = await bench(t);
  const { runtime, client, pod } = it;
  const web = pod();
  const sandboxId = await runPod(it, web);
  const events = client.stream('GetContainerEvents');
  events.on('error', () => undefined);
  await runtime.subscribed();
  const event = new Promise<unknown>((resolve) => events.once('data', resolve));
  const answering = runtime.hold('createContainerAnswer');
  const creation = create(it, web, sandboxId);
  await answering.arrived();
  const { containers } = await client.call('ListContainers');
  const id = containers[0]?.id;
  t.match(containers, [
    { pod_sandbox_id: sandboxId, state: 'CONTAINER_CREATED', metadata: { name: 'app', attempt: 0 } },
  ]);
  t.match(await event, {
    container_id: id,
    container_event_type: 'CONTAINER_CREATED_EVENT',
    pod_sandbox_status: { id: sandboxId, state: 'SANDBOX_READY' },
    containers_statuses: [{ id, state: 'CONTAINER_CREATED' }],
  });
  answering.release();
  t.equal(await creation, id);
  events.cancel();
});

t.test('the log file is made at the start, and at once with earlyLogFile', async (t) => {
  for (const earlyLogFile of [false, true]) {
    const it = await bench(t, { earlyLogFile });
    const { runtime, client, pod } = it;
    const web = pod();
    const sandboxId = await runPod(it, web);
    const working = runtime.hold('createContainer');
    const creation = create(it, web, sandboxId);
    await working.arrived();
    const logFile = path.join(web.logDirectory, 'app', '0.log');
    t.equal(existsSync(logFile), earlyLogFile, `earlyLogFile ${earlyLogFile}: while it is being created`);
    working.release();
    await client.call('StartContainer', { container_id: await creation });
    t.ok(existsSync(logFile), 'once it is started');
  }
});

t.test('a start whose caller leaves ends EXITED with 128, and is CREATED until then', async (t) => {
  const it = await bench(t);
  const { runtime, client, pod } = it;
  const web = pod();
  const id = await create(it, web, await runPod(it, web));
  const starting = runtime.hold('startContainer');
  const undoing = runtime.hold('rollback');
  const { leave } = leavable((signal) => client.call('StartContainer', { container_id: id }, { signal }));
  await starting.arrived();
  await leave();
  await undoing.arrived();
  t.match(await client.call('ContainerStatus', { container_id: id }), { status: { state: 'CONTAINER_CREATED' } });
  undoing.release();
  t.match(await client.call('ContainerStatus', { container_id: id }), {
    status: { state: 'CONTAINER_EXITED', exit_code: 128, reason: 'StartError' },
  });
  t.match(runtime.made.starts, [{ outcome: 'rolled back', callerLeft: true }]);
});

t.test('a late start that completes runs beside the next attempt, and both are counted', async (t) => {
  const it = await bench(t, { lateStart: 'completes' });
  const { runtime, client, pod } = it;
  const web = pod({ uid: 'u4' });
  const sandboxId = await runPod(it, web);
  const first = await create(it, web, sandboxId, 0);
  const second = await create(it, web, sandboxId, 1);
  const starting = runtime.hold('startContainer', (name) => name.endsWith('_0'));
  const { leave } = leavable((signal) => client.call('StartContainer', { container_id: first }, { signal }));
  await starting.arrived();
  await leave();
  await client.call('StartContainer', { container_id: second });
  starting.release();
  await client.call('Version');
  t.equal(runtime.mostCopies('u4', 'app'), 2);
});

t.test('a unique prefix stands for an id, one that fits several does not', async (t) => {
  const it = await bench(t);
  const { client, pod } = it;
  // Two of seventeen ids share their first digit.
  const ids = await Promise.all([...Array(17).keys()].map((n) => runPod(it, pod({ uid: `p${n}` }))));
  const first = ids.map((id) => id.charAt(0));
  const shared = first.find((digit, at) => first.indexOf(digit) !== at) ?? '';
  t.match(await failure(client.call('PodSandboxStatus', { pod_sandbox_id: shared })), {
    code: status.UNKNOWN,
    details: /multiple IDs found/,
  });
  const id = ids[0] ?? '';
  t.match(await client.call('PodSandboxStatus', { pod_sandbox_id: id.slice(0, 40) }), { status: { id } });
  await client.call('RemovePodSandbox', { pod_sandbox_id: id.slice(0, 40) });
  t.equal((await client.call('ListPodSandbox')).items.length, 16);
});

t.test('creations take their time on the clock, each its own', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { clock, runPodSandboxMs: (name) => (name.startsWith('slow') ? 2000 : 1000) });
  const { runtime, client, pod } = it;
  const passing = runtime.hold('runPodSandbox');
  const slow = runPod(it, pod({ name: 'slow' }));
  const fast = runPod(it, pod({ name: 'fast' }));
  await passing.arrived(2);
  passing.release();
  await client.call('Version');
  await clock.advance(1500);
  await fast;
  t.match((await client.call('ListPodSandbox')).items, [{ metadata: { name: 'fast' } }]);
  t.equal(runtime.sandboxes.length, 1);
  await clock.advance(1000);
  await slow;
  t.equal(runtime.sandboxes.length, 2);
});

t.test('an injected failure comes with its status to the last byte, and undoes the work', async (t) => {
  const { runtime, client, pod } = await bench(t);
  const trailers = new Metadata();
  trailers.set('x-long', 'y'.repeat(13_000));
  trailers.set('grpc-status-details-bin', Buffer.from([8, 5, 255]));
  const details = `CNI failed: ${'ä%\n'.repeat(500)}`;
  runtime.failNext('runPodSandbox', { code: status.INTERNAL, details, trailers });
  const error = await client.call('RunPodSandbox', pod().runPodSandboxRequest()).catch((caught) => caught);
  t.match(error, { code: status.INTERNAL, details });
  t.same(error.metadata.get('x-long'), ['y'.repeat(13_000)]);
  t.same(error.metadata.get('grpc-status-details-bin'), [Buffer.from([8, 5, 255])]);
  t.same(runtime.reservedNames, []);
  t.match(runtime.made.sandboxes, [{ outcome: 'rolled back' }]);
});

t.test('an answer without an id, and one that never comes, can be injected', async (t) => {
  const it = await bench(t);
  const { runtime, client, pod } = it;
  runtime.answerNext('runPodSandbox', { message: Buffer.alloc(0) });
  runtime.answerNext('runPodSandbox', { hang: true });
  t.equal(await runPod(it, pod()), '');
  const undoing = runtime.hold('rollback');
  const { leave } = leavable((signal) => client.call('RunPodSandbox', pod().runPodSandboxRequest(), { signal }));
  const began = runtime.hold('runPodSandbox');
  await began.arrived();
  began.release();
  await client.call('Version');
  t.equal(runtime.made.sandboxes[1]?.outcome, 'under way');
  await leave();
  await undoing.arrived();
  t.same(runtime.sandboxes, []);
});

t.test('what was made is on record with the bytes and the metadata that came in', async (t) => {
  const { runtime, client, pod } = await bench(t);
  const metadata = new Metadata();
  metadata.set('traceparent', '00-1-2-01');
  // Field 900, which no version of the message has.
  const unknownField = Buffer.from([0xa2, 0x38, 2, 104, 105]);
  const bytes = Buffer.concat([
    encodeMessage('RunPodSandboxRequest', pod({ attempt: 3 }).runPodSandboxRequest()),
    unknownField,
  ]);
  await client.callRaw('/runtime.v1.RuntimeService/RunPodSandbox', bytes, { metadata, deadlineMs: 60_000 });
  const [made] = runtime.made.sandboxes;
  t.same(made?.request, bytes);
  t.same(made?.metadata.get('traceparent'), ['00-1-2-01']);
  t.match(made, { attempt: 3, outcome: 'finished', callerLeft: false });
  const [received] = runtime.calls('RunPodSandbox');
  t.ok(received?.timeoutMs !== undefined && received.timeoutMs <= 60_000 && received.timeoutMs > 0);
  t.match(received, { version: 'v1', cancelled: false, code: 0 });
});

t.test('what was made is on record with its kind, its times and its end', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { clock, runPodSandboxMs: 1000, startContainerMs: 3_600_000, rollbackMs: 500 });
  const { runtime, client, pod } = it;
  const web = pod();
  const sandbox = runPod(it, web);
  await client.call('Version');
  await clock.advance(1000);
  const container = await create(it, web, await sandbox);
  runtime.failNext('runPodSandbox', { code: status.INTERNAL });
  const failed = failure(runPod(it, pod()));
  const start = failure(client.call('StartContainer', { container_id: container }));
  await client.call('Version');
  t.match(runtime.made.starts, [{ outcome: 'under way', endedMs: undefined }]);
  await clock.advance(2000);
  await failed;
  await runtime.kill();
  t.match(await start, { code: status.UNAVAILABLE });
  t.match(runtime.made.sandboxes, [
    { kind: 'podSandbox', beganMs: 1000, endedMs: 2000, outcome: 'finished' },
    { kind: 'podSandbox', beganMs: 2000, endedMs: 3500, outcome: 'rolled back' },
  ]);
  t.match(runtime.made.containers, [{ kind: 'container', beganMs: 2000, endedMs: 2000, outcome: 'finished' }]);
  t.match(runtime.made.starts, [{ kind: 'start', beganMs: 2000, endedMs: 4000, outcome: 'cut short' }]);
});

t.test('what ends behind the back is seen as ended', async (t) => {
  const it = await bench(t);
  const { runtime, client, pod } = it;
  const web = pod();
  const sandboxId = await runPod(it, web);
  const id = await create(it, web, sandboxId);
  runtime.stopBehindTheBack(sandboxId);
  t.match((await client.call('ListPodSandbox')).items, [{ state: 'SANDBOX_NOTREADY' }]);
  runtime.removeBehindTheBack(sandboxId);
  t.match(await failure(client.call('ContainerStatus', { container_id: id })), { code: status.NOT_FOUND });
  t.same(runtime.reservedNames, []);
});

t.test('bytes that are no message are refused, and the runtime lives on', async (t) => {
  const { client } = await bench(t);
  const wrong = Buffer.from([10, 255]);
  t.match(await failure(client.callRaw('/runtime.v1.RuntimeService/RunPodSandbox', wrong)), { code: status.INTERNAL });
  t.match(await failure(client.callRaw('/runtime.v1.RuntimeService/ListContainers', wrong)), { code: status.INTERNAL });
  t.match(
    decodeMessage(
      'VersionResponse',
      (await client.callRaw('/runtime.v1.RuntimeService/Version', Buffer.alloc(0))).message,
    ),
    {
      version: '0.1.0',
    },
  );
});
