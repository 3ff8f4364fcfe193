/** Creations and starts that outlive their caller, through Holdfast to a real containerd. */
import { type ServiceError, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { isSince } from '../support/containerd-version.js';
import type { Container } from '../support/cri-client.js';
import {
  containerdVersion,
  images,
  type RealContainerd,
  skipReason as skip,
  startContainerd,
} from './support/containerd.js';
import { holdContainer } from './support/held-container.js';
import { type Holdfast, startHoldfast } from './support/holdfast.js';
import { until } from './support/until.js';

async function setUp(t: Test, flags: string[] = []): Promise<{ containerd: RealContainerd; holdfast: Holdfast }> {
  const containerd = await startContainerd(t);
  const listen = `${containerd.directory}/h.sock`;
  const holdfast = await startHoldfast(t, { runtime: containerd.socket, listen, flags });
  return { containerd, holdfast };
}

const late = { code: status.DEADLINE_EXCEEDED };

t.test('a sandbox of 4 s with a deadline of 2 s is shown when done, and the retry gets its id', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const pod = containerd.pod();
  containerd.setCniDelay(4);
  const begunMs = performance.now();
  const say = (what: string) => t.comment(`${((performance.now() - begunMs) / 1000).toFixed(2)} s  ${what}`);
  const run = () => client.call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 2_000 });
  say('RunPodSandbox, deadline 2 s');
  const told = await run().catch((error: ServiceError) => error.details);
  t.match(told, /^holdfast: the runtime is still making this pod sandbox after \d s; it goes on, ask again$/);
  say(`  DEADLINE_EXCEEDED: ${told}`);
  t.strictSame(await client.call('ListPodSandbox'), { items: [] });
  say('ListPodSandbox: none');
  const [shown] = await until('the sandbox is listed', async () => {
    const { items } = await client.call('ListPodSandbox');
    return items.length > 0 && items;
  });
  t.equal(shown?.state, 'SANDBOX_READY');
  say(`ListPodSandbox: ${shown?.id.slice(0, 13)} ${shown?.state}, attempt ${shown?.metadata.attempt}`);
  const retry = await run();
  t.equal(retry.pod_sandbox_id, shown?.id);
  say(`RunPodSandbox: ${retry.pod_sandbox_id.slice(0, 13)}`);
  t.equal(containerd.cniAdds(), 1);
  t.comment(`CNI ADDs: ${containerd.cniAdds()}`);
  const steps = holdfast.log.flatMap(({ step }) => (typeof step === 'string' ? [step] : []));
  t.comment(`Holdfast's log: ${steps.join(', ')}`);
});

t.test('a retry that joined is answered the moment the sandbox is made', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const pod = containerd.pod();
  containerd.setCniDelay(600);
  await t.rejects(holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 500 }), late);
  const retry = holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  await holdfast.logged('the retry', (line) => line.step === 'waiter joined');
  containerd.setCniDelay(0);
  const { pod_sandbox_id } = await retry;
  t.match(await holdfast.client.call('ListPodSandbox'), { items: [{ id: pod_sandbox_id }] });
  t.equal(containerd.cniAdds(), 1);
});

t.test('a late container is invisible until asked for again, and keeps its attempt', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const { pod, pod_sandbox_id, request } = await holdContainer(t, containerd, holdfast);
  const [real] = (await containerd.client.call('ListContainers')).containers;
  t.equal(real?.state, 'CONTAINER_CREATED');
  t.strictSame(await client.call('ListContainers'), { containers: [] });
  await t.rejects(client.call('ContainerStatus', { container_id: real?.id }), { code: status.NOT_FOUND });
  t.strictSame((await client.call('PodSandboxStatus', { pod_sandbox_id })).containers_statuses, []);

  // Another termination log, another order of the environment, another kubernetes.io/config.seen.
  pod.kubeletRestarted();
  const { container_id } = await client.call('CreateContainer', request());
  t.equal(container_id, real?.id);
  await client.call('StartContainer', { container_id });
  t.match(await client.call('ListContainers'), {
    containers: [{ id: container_id, state: 'CONTAINER_RUNNING', metadata: { attempt: 0 } }],
  });
  t.notOk(holdfast.log.some((line) => line.step === 'drift'));
});

t.test('a container nobody asks for again is removed after --hold-ttl', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t, ['--hold-ttl', '500ms']);
  const { client } = holdfast;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const gate = await containerd.blockCreates();
  const request = pod.createContainerRequest(pod_sandbox_id, { image: images.volume });
  await t.rejects(client.call('CreateContainer', request, { deadlineMs: 500 }), late);
  await gate.open();
  await holdfast.logged('it is reaped', (line) => line.step === 'reaped');
  t.strictSame(await containerd.client.call('ListContainers'), { containers: [] });
});

t.test('a start of 4 s with a deadline of 2 s ends in one running container, attempt 0', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const create = (attempt: number) =>
    client.call('CreateContainer', pod.createContainerRequest(pod_sandbox_id, { image: images.busybox, attempt }));
  const { container_id } = await create(0);
  containerd.setStartDelay(4);
  const begunMs = performance.now();
  await t.rejects(client.call('StartContainer', { container_id }, { deadlineMs: 2_000 }), late);
  const seen = async (): Promise<Container[]> => (await client.call('ListContainers')).containers;
  t.match(await seen(), [{ state: 'CONTAINER_CREATED', metadata: { attempt: 0 } }]);
  await t.rejects(create(1), { code: status.ABORTED, details: /was started meanwhile and is running/ });
  t.comment(`answered ABORTED ${Math.round(performance.now() - begunMs)} ms after the start`);
  t.match(await seen(), [{ id: container_id, state: 'CONTAINER_RUNNING', metadata: { attempt: 0 } }]);
  t.equal((await seen()).length, 1);
  t.equal(containerd.ociCreates(), 1);
});

t.test('a held container whose sandbox is stopped behind Holdfast’s back is not replayed', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const { pod_sandbox_id, request } = await holdContainer(t, containerd, holdfast);
  const listed = async () => (await containerd.client.call('ListContainers')).containers.map(({ id }) => id);
  const [held] = await listed();
  await containerd.client.call('StopPodSandbox', { pod_sandbox_id });
  if (isSince(containerdVersion(), 2, 0)) {
    // It makes containers in stopped pod sandboxes too, so that one is the answer.
    const { container_id } = await client.call('CreateContainer', request());
    t.not(container_id, held);
    t.strictSame(await listed(), [container_id], 'and nothing else is left over');
  } else {
    await t.rejects(client.call('CreateContainer', request()), { code: status.NOT_FOUND, details: /no running task/ });
    t.strictSame(await listed(), [], 'and nothing is left over');
  }
});

t.test('a sandbox stopped behind Holdfast’s back is not replayed', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const pod = containerd.pod();
  const first = await holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  await containerd.client.call('StopPodSandbox', first);
  await containerd.client.call('RemovePodSandbox', first);
  const second = await holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  t.not(second.pod_sandbox_id, first.pod_sandbox_id);
  t.equal(containerd.cniAdds(), 2);
});
