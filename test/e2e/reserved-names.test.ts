/**
 * Names that a real containerd has reserved for what this Holdfast did not make: it was killed in the middle, or somebody went round
 * it. A kubelet that goes on asking gets what it asks for, and is never told of it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import type { CriClient } from '../support/cri-client.js';
import { images, type RealContainerd, skipReason as skip, startContainerd } from './support/containerd.js';
import { type Holdfast, startHoldfast } from './support/holdfast.js';
import { until } from './support/until.js';

/** In ms. A kubelet's are longer: it asks after 10 s, and has minutes. */
const deadlineMs = 5_000;
const pauseMs = 250;
const patienceMs = 60_000;

async function setUp(t: Test): Promise<{ containerd: RealContainerd; holdfast: Holdfast }> {
  const containerd = await startContainerd(t);
  const listen = `${containerd.directory}/h.sock`;
  const holdfast = await startHoldfast(t, { runtime: containerd.socket, listen });
  return { containerd, holdfast };
}

/**
 * Asks for the same again and again, as a kubelet does, until it is answered.
 *
 * @returns The answer, and what was said before it.
 * @throws {Error} It is told of a reserved name, or asks for too long.
 */
async function insist<M extends 'RunPodSandbox' | 'CreateContainer'>(
  t: Test,
  client: CriClient,
  method: M,
  request: () => object,
) {
  const told: string[] = [];
  const end = performance.now() + patienceMs;
  for (;;) {
    try {
      const answer = await client.call(method, request(), { deadlineMs });
      t.comment(`told before: ${told.join('; ') || 'nothing'}`);
      return answer;
    } catch (error) {
      const { code, details } = error as { code: number; details: string };
      told.push(`${status[code]}: ${details}`);
      const inVain = performance.now() > end;
      if (inVain || details.includes('is reserved')) throw new Error(`it is told:\n${told.join('\n')}`);
    }
    await delay(pauseMs);
  }
}

/** Resolves once containerd has refused a name. */
function refused(containerd: RealContainerd): Promise<unknown> {
  return until('containerd refuses the name', () => containerd.log().includes('is reserved for'));
}

const podSandboxes = async ({ client }: RealContainerd) =>
  (await client.call('ListPodSandbox')).items.map(({ id, state, metadata }) => ({
    id,
    state,
    attempt: metadata.attempt,
  }));
const containers = async ({ client }: { readonly client: CriClient }) =>
  (await client.call('ListContainers')).containers.map(({ id, state, metadata }) => ({
    ...{ id, state, attempt: metadata.attempt },
  }));

t.test('Holdfast is killed in a CNI ADD and started again: the pod sandbox is made, and runs', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const pod = containerd.pod();
  const request = () => pod.runPodSandboxRequest();
  containerd.setCniDelay(600);
  containerd.setCniDelDelay(600);
  const lost = client.call('RunPodSandbox', request());
  lost.catch(() => {});
  await until('the CNI ADD has begun', () => containerd.cniAdds() === 1);
  await holdfast.kill();
  await t.rejects(lost, { code: status.UNAVAILABLE });
  await until('it is being undone', () => containerd.cniDels() > 0);
  await holdfast.start();

  const asked = insist(t, client, 'RunPodSandbox', request);
  asked.catch(() => {});
  await refused(containerd);
  containerd.setCniDelay(0);
  containerd.setCniDelDelay(0);
  const { pod_sandbox_id: id } = await asked;
  t.strictSame(await podSandboxes(containerd), [{ id, state: 'SANDBOX_READY', attempt: 0 }]);
  const created = await client.call('CreateContainer', pod.createContainerRequest(id, { image: images.busybox }));
  await client.call('StartContainer', created);
  t.strictSame(await containers(containerd), [{ id: created.container_id, state: 'CONTAINER_RUNNING', attempt: 0 }]);
  t.equal(containerd.cniAdds(), 2);
});

t.test(
  'Holdfast is killed in a CreateContainer and started again: the container is used, once',
  { skip },
  async (t) => {
    const { containerd, holdfast } = await setUp(t);
    const { client } = holdfast;
    const pod = containerd.pod();
    const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
    const request = () => pod.createContainerRequest(pod_sandbox_id, { image: images.volume });
    const gate = await containerd.blockCreates();
    const lost = client.call('CreateContainer', request());
    lost.catch(() => {});
    await gate.reached();
    await holdfast.kill();
    await t.rejects(lost, { code: status.UNAVAILABLE });
    await holdfast.start();

    const asked = insist(t, client, 'CreateContainer', request);
    asked.catch(() => {});
    await refused(containerd);
    await gate.open();
    const answer = await asked;
    const id = answer.container_id;
    t.strictSame(await containers(containerd), [{ id, state: 'CONTAINER_CREATED', attempt: 0 }]);
    await client.call('StartContainer', answer);
    t.strictSame(await containers(holdfast), [{ id, state: 'CONTAINER_RUNNING', attempt: 0 }]);
  },
);

t.test('what a killed Holdfast began is hidden from whoever has stopped waiting for it', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const request = () => pod.createContainerRequest(pod_sandbox_id, { image: images.volume });
  const gate = await containerd.blockCreates();
  client.call('CreateContainer', request()).catch(() => {});
  await gate.reached();
  await holdfast.kill();
  await holdfast.start();

  const left = client.call('CreateContainer', request(), { deadlineMs: 2_000 });
  await t.rejects(left, { code: status.DEADLINE_EXCEEDED });
  await gate.open();
  const [made] = await until('the container is made', async () => {
    const found = await containers(containerd);
    return found.length > 0 && found;
  });
  t.strictSame(await containers(holdfast), [], 'a kubelet would take the next attempt');
  const answer = await insist(t, client, 'CreateContainer', request);
  t.equal(answer.container_id, made?.id);
  t.strictSame(await containers(holdfast), await containers(containerd));
});

t.test('what was made while Holdfast was away is the answer to who asks for the same', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const pod = containerd.pod();
  const direct = await containerd.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const podSandbox = await insist(t, client, 'RunPodSandbox', () => pod.runPodSandboxRequest());
  t.same(podSandbox, direct);
  // A kubelet asks by the image's id.
  const listed = (await client.call('ListImages')).images;
  const image = listed.find(({ repo_tags }) => repo_tags.includes(images.busybox))?.id ?? '';
  t.match(image, /^sha256:/);
  const request = () => pod.createContainerRequest(direct.pod_sandbox_id, { image });
  const made = await containerd.client.call('CreateContainer', request());
  t.same(await insist(t, client, 'CreateContainer', request), made);
  await client.call('StartContainer', made);
  t.strictSame(await containers(containerd), [{ id: made.container_id, state: 'CONTAINER_RUNNING', attempt: 0 }]);
});

t.test('a pod sandbox that a crash of containerd left unfinished gives way to a new one', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const pod = containerd.pod();
  containerd.setCniDelay(600);
  const lost = containerd.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  lost.catch(() => {});
  await until('the CNI ADD has begun', () => containerd.cniAdds() === 1);
  await containerd.kill();
  containerd.setCniDelay(0);
  await containerd.start();
  const [left] = await podSandboxes(containerd);
  t.equal(left?.state, 'SANDBOX_NOTREADY');

  const answer = await insist(t, holdfast.client, 'RunPodSandbox', () => pod.runPodSandboxRequest());
  t.not(answer.pod_sandbox_id, left?.id);
  const ready = (await podSandboxes(containerd)).filter(({ state }) => state === 'SANDBOX_READY');
  t.strictSame(ready, [{ id: answer.pod_sandbox_id, state: 'SANDBOX_READY', attempt: 0 }]);
});

t.test('a container never started gives way where its pod has another pod sandbox now', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const pod = containerd.pod();
  const first = await containerd.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const options = { image: images.busybox };
  const old = pod.createContainerRequest(first.pod_sandbox_id, options);
  const left = await containerd.client.call('CreateContainer', old);
  await containerd.client.call('StopPodSandbox', first);

  const next = pod.withAttempt(1);
  const second = await holdfast.client.call('RunPodSandbox', next.runPodSandboxRequest());
  const request = () => next.createContainerRequest(second.pod_sandbox_id, options);
  const answer = await insist(t, holdfast.client, 'CreateContainer', request);
  t.not(answer.container_id, left.container_id);
  t.strictSame(await containers(containerd), [{ id: answer.container_id, state: 'CONTAINER_CREATED', attempt: 0 }]);
});

t.test('a container that runs keeps its name', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const pod = containerd.pod();
  const { pod_sandbox_id } = await containerd.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const request = () => pod.createContainerRequest(pod_sandbox_id, { image: images.busybox });
  const made = await containerd.client.call('CreateContainer', request());
  await containerd.client.call('StartContainer', made);
  const asked = holdfast.client.call('CreateContainer', request(), { deadlineMs });
  await t.rejects(asked, 'there is nothing to give');
  t.strictSame(await containers(containerd), [{ id: made.container_id, state: 'CONTAINER_RUNNING', attempt: 0 }]);
});
