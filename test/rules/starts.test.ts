/** The contract, rules 11 and 12: attempts and starts, through real sockets against the simulated runtime. */
import { existsSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { codeOf } from '../support/code-of.js';
import type { KubeletPod } from '../support/cri-client.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;

/** Asks for an attempt of the container `app`. */
async function create(rig: Rig, pod: KubeletPod, podSandboxId: string, attempt: number): Promise<string> {
  const request = pod.createContainerRequest(podSandboxId, { image: 'app', attempt });
  return (await rig.client.call('CreateContainer', request)).container_id;
}

/** Begins a start, and leaves once it has reached the runtime. @returns Lets the runtime go on. */
async function lateStart(rig: Rig, containerId: string): Promise<() => void> {
  const hold = rig.runtime.hold('startContainer');
  const leave = new AbortController();
  rig.client.call('StartContainer', { container_id: containerId }, { signal: leave.signal }).catch(() => {});
  await hold.arrived();
  leave.abort();
  await rig.step('waiter left', 'start');
  return () => hold.release();
}

/** What the call was refused with. */
async function errorOf(call: Promise<unknown>): Promise<grpc.ServiceError> {
  return call.then(
    () => t.fail('it was answered'),
    (error) => error,
  );
}

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

t.test(
  'rule 12: what a late start has done is not done again, also where it has ended before the next attempt',
  async (t) => {
    const rig = await Rig.start(t);
    const pod = rig.pod();
    const podSandboxId = await rig.podSandbox(pod);
    const first = await create(rig, pod, podSandboxId, 0);
    const goOn = await lateStart(rig, first);
    // The kubelet has seen CREATED, and pulls the image before it asks for the next attempt.
    goOn();
    await rig.step('held', 'start');
    rig.runtime.stopBehindTheBack(first);
    const refused = await errorOf(create(rig, pod, podSandboxId, 1));
    t.equal(refused.code, status.ABORTED);
    t.match(
      refused.details,
      /attempt 0\) was started meanwhile and has exited with code 1 after 0 s: attempt 1 is not made/,
    );
    t.equal(rig.runtime.made.containers.length, 1);
    t.not(await create(rig, pod, podSandboxId, 1), first, 'once: then the kubelet goes by its own policy');
  },
);

t.test(
  'rule 12: after a start that ended with UNAVAILABLE the container is looked at before the next is made',
  async (t) => {
    const rig = await Rig.start(t);
    const pod = rig.pod();
    const podSandboxId = await rig.podSandbox(pod);
    const first = await create(rig, pod, podSandboxId, 0);
    rig.runtime.failNext('startContainer', { code: status.UNAVAILABLE, details: 'transport is closing' });
    const goOn = await lateStart(rig, first);
    goOn();
    await rig.step('failed', 'start');
    rig.runtime.failNext('containerStatus', { code: status.UNAVAILABLE, details: 'nobody can tell' });
    t.match(await errorOf(create(rig, pod, podSandboxId, 1)), { code: status.UNAVAILABLE, details: 'nobody can tell' });
    t.equal(rig.runtime.made.containers.length, 1);
    t.not(await create(rig, pod, podSandboxId, 1), first, 'it has not run');
  },
);

t.test('rule 12: StopContainer ends the waiting for a start, and leaves it to the runtime', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const first = await create(rig, pod, podSandboxId, 0);
  const goOn = await lateStart(rig, first);
  const next = create(rig, pod, podSandboxId, 1);
  await rig.step('queued', 'container', 2);
  t.equal(await codeOf(rig.client.call('StopContainer', { container_id: first })), status.OK, 'not held up');
  t.not(await next, first);
  goOn();
  await rig.step('held', 'start');
  t.equal(rig.runtime.calls('StartContainer').length, 1);
});

t.test('rule 12: a start keeps no other container waiting', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const goOn = await lateStart(rig, await create(rig, pod, podSandboxId, 0));
  const other = pod.createContainerRequest(podSandboxId, { image: 'sidecar', name: 'sidecar', attempt: 1 });
  t.type((await rig.client.call('CreateContainer', other)).container_id, 'string');
  goOn();
});

t.test('rule 12: a Holdfast without memory asks whose container it is before it starts it', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const first = await create(rig, pod, podSandboxId, 0);
  await rig.holdfast?.close();
  await rig.startHoldfast();
  const goOn = await lateStart(rig, first);
  const next = errorOf(create(rig, pod, podSandboxId, 1));
  await rig.step('queued', 'container', 2);
  goOn();
  t.match(await next, { code: status.ABORTED, details: /was started meanwhile and is running/ });
  t.equal(rig.runtime.mostCopies(pod.uid, 'app'), 1);
});

t.test('rule 12: a start that the next attempt has overtaken while nobody knew whose it is is not made', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const first = await create(rig, pod, podSandboxId, 0);
  await rig.holdfast?.close();
  await rig.startHoldfast();
  const hold = rig.runtime.hold('listContainers');
  const start = errorOf(rig.client.call('StartContainer', { container_id: first }));
  await hold.arrived();
  t.not(await create(rig, pod, podSandboxId, 1), first, 'the creation does not wait for that');
  hold.release();
  t.match(await start, { details: /a further attempt of the container was asked for meanwhile/ });
  t.equal(rig.runtime.calls('StartContainer').length, 0);
});
