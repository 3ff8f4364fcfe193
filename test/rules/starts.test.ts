/** The contract, rules 11 and 12: attempts and starts, through real sockets against the simulated runtime. */
import { existsSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { codeOf } from '../support/code-of.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;

t.test(
  'rule 11: the next attempt gets the undelivered container, and its log is found under the new name',
  async (t) => {
    const rig = await Rig.start(t, { runtime: { earlyLogFile: true } });
    const pod = rig.pod();
    const podSandboxId = await rig.podSandbox(pod);
    const containerId = await rig.heldContainer(pod, podSandboxId);
    const next = pod.createContainerRequest(podSandboxId, { image: 'app', attempt: 1 });
    t.equal((await rig.client.call('CreateContainer', next)).container_id, containerId);
    t.equal(rig.runtime.made.containers.length, 1);
    const log = path.join(pod.logDirectory, 'app', '1.log');
    t.equal(readlinkSync(log), '0.log');
    t.ok(existsSync(log));
  },
);

t.test('rule 11: with onAttemptBump recreate the undelivered container is removed first', async (t) => {
  const rig = await Rig.start(t, { config: { onAttemptBump: 'recreate' } });
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const old = await rig.heldContainer(pod, podSandboxId);
  const next = pod.createContainerRequest(podSandboxId, { image: 'app', attempt: 1 });
  t.not((await rig.client.call('CreateContainer', next)).container_id, old);
  t.same(
    rig.runtime.containers.map(({ metadata }) => metadata.attempt),
    [1],
  );
});

t.test(
  'rule 11: a higher pod sandbox attempt waits for an undelivered lower one, which is stopped and removed',
  async (t) => {
    const rig = await Rig.start(t);
    const pod = rig.pod();
    const hold = rig.runtime.hold('runPodSandbox');
    const leave = new AbortController();
    rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { signal: leave.signal }).catch(() => {});
    await hold.arrived();
    leave.abort();
    await rig.step('waiter left', 'podSandbox');
    const next = rig.client.call('RunPodSandbox', pod.withAttempt(1).runPodSandboxRequest());
    await rig.step('queued', 'podSandbox', 2);
    t.equal(rig.runtime.calls('RunPodSandbox').length, 1);
    hold.release();
    const { pod_sandbox_id } = await next;
    t.same(
      rig.runtime.sandboxes.map(({ id, metadata }) => [id, metadata.attempt]),
      [[pod_sandbox_id, 1]],
    );
  },
);

t.test('rule 12: a start is finished without its caller, and the next attempt is refused once it runs', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const create = (attempt: number) =>
    rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, { image: 'app', attempt }));
  const { container_id } = await create(0);
  const hold = rig.runtime.hold('startContainer');
  const start = codeOf(rig.client.call('StartContainer', { container_id }, { deadlineMs: 60_000 }));
  await hold.arrived();
  await rig.clock.advance(60_000);
  t.equal(await start, status.DEADLINE_EXCEEDED);
  const list = await rig.client.call('ListContainers');
  t.same(
    list.containers.map(({ state }) => state),
    ['CONTAINER_CREATED'],
  );
  const next: Promise<grpc.ServiceError> = create(1).then(
    () => t.fail('a second copy'),
    (reason) => reason,
  );
  await rig.step('queued', 'container', 2);
  hold.release();
  const error = await next;
  t.equal(error.code, status.ABORTED);
  t.match(error.details, /was started meanwhile and is running/);
  t.same(
    rig.runtime.containers.map(({ state, metadata }) => [state, metadata.attempt]),
    [['CONTAINER_RUNNING', 0]],
  );
  t.equal(rig.runtime.mostCopies(pod.uid, 'app'), 1);
});

t.test('rule 12: a repeated start joins, and a finished one is answered again', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const { container_id } = await rig.client.call('CreateContainer', request);
  const hold = rig.runtime.hold('startContainer');
  const leave = new AbortController();
  rig.client.call('StartContainer', { container_id }, { signal: leave.signal }).catch(() => {});
  const joined = new AbortController();
  rig.client.call('StartContainer', { container_id }, { signal: joined.signal }).catch(() => {});
  await rig.step('waiter joined', 'start');
  leave.abort();
  joined.abort();
  await rig.step('waiter left', 'start', 2);
  hold.release();
  await rig.step('held', 'start');
  t.equal(await codeOf(rig.client.call('StartContainer', { container_id })), status.OK);
  t.equal(rig.runtime.calls('StartContainer').length, 1);
});

t.test('rule 12: the next attempt goes on if the start fails, and stops do not wait for it', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const create = (attempt: number) =>
    rig.client.call('CreateContainer', pod.createContainerRequest(podSandboxId, { image: 'app', attempt }));
  const { container_id } = await create(0);
  rig.runtime.failNext('startContainer', { code: status.UNKNOWN, details: 'no such file' });
  const hold = rig.runtime.hold('startContainer');
  const leave = new AbortController();
  rig.client.call('StartContainer', { container_id }, { signal: leave.signal }).catch(() => {});
  await hold.arrived();
  leave.abort();
  await rig.step('waiter left', 'start');
  const next = create(1);
  await rig.step('queued', 'container', 2);
  t.equal(await codeOf(rig.client.call('StopContainer', { container_id })), status.OK, 'not held up');
  hold.release();
  t.type((await next).container_id, 'string');
});
