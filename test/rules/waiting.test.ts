/** The contract, rules 8, 10, 11, 18 and 20: what is in a creation's way, and what who waits is told. */
import { existsSync, lstatSync, mkdirSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import type { KubeletPod } from '../support/cri-client.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;

/** What the caller of a pod sandbox, who has 8 s, is told when its time is up. */
async function toldOf(rig: Rig, pod: KubeletPod): Promise<{ code?: number; details?: string }> {
  const asks = ({ step }: { step?: string }) => step === 'queued' || step === 'waiter joined';
  const before = rig.lines.filter(asks).length;
  const asked = rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 8_000 });
  const told = asked.then(
    () => ({}),
    (error: grpc.ServiceError) => ({ code: error.code, details: error.details }),
  );
  await rig.logged(asks, before + 1);
  // The time of the call is that of the clock; 800 ms of it are kept for the answer.
  await rig.clock.advance(7_300);
  return told;
}

t.test('rule 18: who waits for work that runs is told so before its deadline, and the work goes on', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const hold = rig.runtime.hold('runPodSandbox');
  const told = await toldOf(rig, pod);
  t.equal(told.code, status.DEADLINE_EXCEEDED);
  t.match(told.details, /^holdfast: the runtime is still making this pod sandbox after \d s; it goes on, ask again$/);
  t.ok(rig.lines.some(({ msg, told: text }) => msg === 'waiter told' && text === told.details));
  hold.release();
  await rig.step('shown', 'podSandbox');
  t.equal(await rig.podSandbox(pod), rig.runtime.sandboxes[0]?.id);
  const metrics = await rig.metrics.registry.metrics();
  t.match(metrics, /holdfast_waiters_told_total\{kind="podSandbox",waits_for="running"\} 1/);
});

t.test('rule 18: who waits in the queue is told behind how many, and the limit', async (t) => {
  const rig = await Rig.start(t, { config: { admission: 'fixed', maxCreations: 1, maxHung: 0 } });
  const hold = rig.runtime.hold('runPodSandbox');
  rig.podSandbox(rig.pod({ uid: 'first' })).catch(() => {});
  await hold.arrived();
  const { details } = await toldOf(rig, rig.pod({ uid: 'second' }));
  const queued =
    /^holdfast: this pod sandbox has been queued for \d s behind 0 \(limit 1\); it keeps its place, ask again$/;
  t.match(details, queued);
  hold.release();
});

t.test('rule 18: who waits for a pause is told how often it has failed, and when the next try is', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  for (let n = 0; n < 6; n += 1) {
    rig.runtime.failNext('runPodSandbox', { code: status.UNKNOWN, details: 'no network' });
    const asked = rig.podSandbox(pod).catch(() => {});
    await rig.step('queued', 'podSandbox', n + 1);
    if (n >= 3) {
      await rig.step('backing off', 'podSandbox', n - 2);
      await rig.clock.advance(2_000 * 2 ** (n - 3));
    }
    await asked;
  }
  const { details } = await toldOf(rig, pod);
  t.match(
    details,
    /^holdfast: making this pod sandbox has failed 6 times in a row; the next try is in \d+ s; ask again$/,
  );
});

t.test('rule 18: a call without a deadline is told nothing, and waits', async (t) => {
  const rig = await Rig.start(t);
  const hold = rig.runtime.hold('runPodSandbox');
  const asked = rig.podSandbox(rig.pod());
  await hold.arrived();
  await rig.clock.advance(600_000);
  hold.release();
  t.equal(await asked, rig.runtime.sandboxes[0]?.id);
});

t.test('rule 18: who waits for a start is told that it goes on', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const { container_id } = await rig.client.call('CreateContainer', request);
  const hold = rig.runtime.hold('startContainer');
  const asked = rig.client.call('StartContainer', { container_id }, { deadlineMs: 4_000 });
  const told = t.rejects(asked, {
    code: status.DEADLINE_EXCEEDED,
    message: /holdfast: the runtime is still starting this container after \d s; it goes on$/,
  });
  await hold.arrived();
  await rig.clock.advance(3_900);
  await told;
  hold.release();
});

t.test('rules 8, 18: a container that cannot be removed is told, shown, counted, and in nobody’s way', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const heldId = await rig.heldContainer(pod, podSandboxId);
  const busy = { code: status.INTERNAL, details: 'device or resource busy' };
  for (let n = 0; n < 9; n += 1) rig.runtime.failNext('removeContainer', busy);
  const changed = pod.createContainerRequest(podSandboxId, { image: 'app', hash: 'another' });
  const asked = rig.client.call('CreateContainer', changed, { deadlineMs: 8_000 });
  const told = t.rejects(asked, {
    message: /the container before it \(\w+\) cannot be removed: device or resource busy/,
  });
  for (let n = 1; n <= 4; n += 1) {
    await rig.step('removal failed', 'container', n);
    if (n === 3) t.same(await rig.listed(), [], 'hidden until it is given up');
    await rig.clock.advance(1_000 * 2 ** (n - 1));
  }
  await told;
  await rig.step('removal given up', 'container');
  await rig.step('name reserved', 'container');
  t.same(await rig.listed(), [heldId]);
  t.match(await rig.metrics.registry.metrics(), /holdfast_removals_given_up_total\{kind="container"\} 1/);
});

t.test('rule 8: a held container that is started past Holdfast is seen in the next list, and stays', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const heldId = await rig.heldContainer(pod, await rig.podSandbox(pod));
  await rig.direct.call('StartContainer', { container_id: heldId });
  t.same(await rig.listed(), [heldId]);
  await rig.clock.advance(rig.config.holdTtlMs);
  t.same(await rig.listed(), [heldId]);
});

t.test('rule 8: a held container that is started by its id through Holdfast is never removed', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const heldId = await rig.heldContainer(pod, await rig.podSandbox(pod));
  await rig.client.call('StartContainer', { container_id: heldId });
  t.same(await rig.listed(), [heldId]);
  await rig.clock.advance(rig.config.holdTtlMs);
  t.same(await rig.listed(), [heldId]);
});

t.test('rule 8: what Holdfast would remove and was used before it looks is shown', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const heldId = await rig.heldContainer(pod, await rig.podSandbox(pod));
  await rig.direct.call('StartContainer', { container_id: heldId });
  await rig.clock.advance(rig.config.holdTtlMs);
  await rig.step('in use', 'container');
  t.same(await rig.listed(), [heldId]);
});

t.test('rule 10: a container that came too late is given the resources that are asked for last', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  const heldId = await rig.heldContainer(pod, podSandboxId);
  const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
  const linux = { resources: { memory_limit_in_bytes: 256 * 1024 * 1024 } };
  const resized = { ...request, config: { ...request.config, linux } };
  t.equal((await rig.client.call('CreateContainer', resized)).container_id, heldId);
  t.equal(rig.runtime.calls('UpdateContainerResources').length, 1, 'before it is handed over');
});

/** A held container that was given to who asked for the next attempt. */
async function givenForNext(t: Test, linkLogs: boolean) {
  const rig = await Rig.start(t, { config: { linkLogs } });
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  await rig.heldContainer(pod, podSandboxId);
  const next = pod.createContainerRequest(podSandboxId, { image: 'app', attempt: 1 });
  const log = path.join(next.sandbox_config.log_directory, next.config.log_path);
  const { container_id } = await rig.client.call('CreateContainer', next);
  return { rig, container_id, next, log };
}

t.test('rule 11: the log a kubelet expects is a link until that attempt has a log of its own', async (t) => {
  const { rig, container_id, next, log } = await givenForNext(t, true);
  t.equal(readlinkSync(log), '0.log');
  await rig.client.call('StartContainer', { container_id });
  await rig.client.call('CreateContainer', next);
  t.notOk(existsSync(log) && lstatSync(log).isSymbolicLink());
});

t.test('rule 11: without --link-logs nothing is linked, and nothing removed', async (t) => {
  const { rig, container_id, next, log } = await givenForNext(t, false);
  t.notOk(existsSync(log));
  mkdirSync(path.dirname(log), { recursive: true });
  writeFileSync(log, '');
  await rig.client.call('StartContainer', { container_id });
  await rig.client.call('CreateContainer', next);
  t.ok(existsSync(log));
});

t.test('rule 20: a pod sandbox that was made past Holdfast is the answer to who asks for the same', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const { pod_sandbox_id } = await rig.direct.call('RunPodSandbox', pod.runPodSandboxRequest());
  t.equal(await rig.podSandbox(pod), pod_sandbox_id);
});

/** A pod sandbox that somebody else has under way, so that its name is taken and nothing is to be seen of it. */
async function madeByAnother(rig: Rig, pod: KubeletPod) {
  const hold = rig.runtime.hold('runPodSandbox');
  const made = rig.direct.call('RunPodSandbox', pod.runPodSandboxRequest());
  made.catch(() => {});
  await hold.arrived();
  return { made, release: () => hold.release() };
}

t.test('rule 20: a name of which nothing is to be seen is waited for, and its waiter is told', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const { made, release } = await madeByAnother(rig, pod);
  const asked = rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 8_000 });
  const told = t.rejects(asked, {
    message:
      /the runtime has had the name of this pod sandbox reserved for \w+ for \d s, of which nothing is to be seen/,
  });
  await rig.step('name reserved', 'podSandbox');
  const isTold = () => rig.lines.some(({ msg }) => msg === 'waiter told');
  // Step by step, so that the runtime has time for its answers.
  while (!isTold()) {
    await rig.clock.advance(100);
    await rig.listed();
  }
  await told;
  release();
  const retry = rig.podSandbox(pod);
  await rig.step('waiter joined', 'podSandbox');
  await made;
  await rig.clock.advance(10_000);
  t.equal(await retry, rig.runtime.sandboxes[0]?.id);
});

t.test('rule 20: what stays reserved is a wedge: said each minute with what to do, and counted', async (t) => {
  const rig = await Rig.start(t, { config: { wedgeAfterMs: 10_000 } });
  const pod = rig.pod();
  const { made, release } = await madeByAnother(rig, pod);
  const asked = rig.podSandbox(pod);
  await rig.step('name reserved', 'podSandbox');
  const wedged = () => rig.lines.filter(({ step }) => step === 'wedged');
  const beganMs = rig.clock.now();
  while (wedged().length < 3 && rig.clock.now() - beganMs < 300_000) {
    await rig.clock.advance(5_000);
    await rig.listed();
  }
  t.match(wedged()[0], { level: 40, kind: 'podSandbox', holderId: /^\w+$/, remedy: /crictl rmp --force/ });
  t.equal(wedged().length, 3);
  const metrics = await rig.metrics.registry.metrics();
  t.match(metrics, /holdfast_wedged 1\n/);
  t.match(metrics, /holdfast_wedges_total\{kind="podSandbox"\} 1/);
  release();
  await made;
  await rig.clock.advance(10_000);
  t.equal(await asked, rig.runtime.sandboxes[0]?.id);
  t.match(await rig.metrics.registry.metrics(), /holdfast_wedged 0\n/, 'and no more');
});
