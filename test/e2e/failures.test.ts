/** What becomes of creations when containerd or Holdfast dies in the middle of them. */
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import type { CriClient, KubeletPod, PodSandbox } from '../support/cri-client.js';
import { type RealContainerd, skipReason as skip, startContainerd } from './support/containerd.js';
import { holdContainer } from './support/held-container.js';
import { type Holdfast, startHoldfast } from './support/holdfast.js';
import { until } from './support/until.js';

async function setUp(t: Test): Promise<{ containerd: RealContainerd; holdfast: Holdfast }> {
  const containerd = await startContainerd(t);
  const listen = `${containerd.directory}/h.sock`;
  return { containerd, holdfast: await startHoldfast(t, { runtime: containerd.socket, listen }) };
}

/**
 * Asks for the sandbox of a pod as a kubelet does, until it has one: what is NOTREADY is stopped and followed by the next
 * attempt, what is READY is adopted.
 */
function bringUp(client: CriClient, pod: KubeletPod): Promise<string> {
  return until('the pod has a sandbox', async () => {
    try {
      const items = (await client.call('ListPodSandbox')).items.filter(({ metadata }) => metadata.uid === pod.uid);
      const ready = items.find(({ state }) => state === 'SANDBOX_READY');
      if (ready !== undefined) return ready.id;
      const last = Math.max(-1, ...items.map(({ metadata }: PodSandbox) => metadata.attempt));
      for (const { id } of items) await client.call('StopPodSandbox', { pod_sandbox_id: id });
      return (await client.call('RunPodSandbox', pod.withAttempt(last + 1).runPodSandboxRequest())).pod_sandbox_id;
    } catch {
      return undefined;
    }
  });
}

t.test('containerd is killed in the middle of a creation: the pod comes up after its return', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const pod = containerd.pod();
  containerd.setCniDelay(600);
  const cut = t.rejects(holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest()), {
    code: status.UNAVAILABLE,
  });
  await until('CNI has begun', () => containerd.cniAdds() === 1);
  await containerd.kill();
  await cut;
  containerd.setCniDelay(0);
  await containerd.start();
  const id = await bringUp(holdfast.client, pod);
  const ready = (await containerd.client.call('ListPodSandbox')).items.filter(({ state }) => state === 'SANDBOX_READY');
  t.same(
    ready.map((item) => item.id),
    [id],
  );
});

t.test('containerd is killed while a container is held: the retry gets it after its return', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const { request } = await holdContainer(t, containerd, holdfast);
  await containerd.kill();
  await containerd.start();
  const containers = () => client.call('ListContainers').catch(() => undefined);
  t.strictSame(await until('containerd is reached again', containers), { containers: [] }, 'it is still hidden');
  const [real] = (await containerd.client.call('ListContainers')).containers;
  const { container_id } = await client.call('CreateContainer', request());
  t.equal(container_id, real?.id);
  await client.call('StartContainer', { container_id });
  t.match(await client.call('ListContainers'), { containers: [{ id: container_id, state: 'CONTAINER_RUNNING' }] });
});

t.test(
  'Holdfast is killed with -9 in the middle of a creation: the pod comes up, nothing is left',
  { skip },
  async (t) => {
    const { containerd, holdfast } = await setUp(t);
    const pod = containerd.pod();
    containerd.setCniDelay(600);
    const cut = t.rejects(holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest()), {
      code: status.UNAVAILABLE,
    });
    await until('CNI has begun', () => containerd.cniAdds() === 1);
    await holdfast.kill();
    await cut;
    containerd.setCniDelay(0);
    await holdfast.start();
    const id = await bringUp(holdfast.client, pod);
    t.match(await containerd.client.call('ListPodSandbox'), { items: [{ id, state: 'SANDBOX_READY' }] });
    t.equal((await containerd.client.call('ListPodSandbox')).items.length, 1);
    t.equal(containerd.cniAdds() - containerd.cniDels(), 1, 'one address in use');
  },
);

t.test('SIGTERM lets a creation in flight end and removes the socket', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const pod = containerd.pod();
  containerd.setCniDelay(600);
  const asked = holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  await until('CNI has begun', () => containerd.cniAdds() === 1);
  const stopped = holdfast.stop();
  containerd.setCniDelay(0);
  t.type((await asked).pod_sandbox_id, 'string');
  t.equal(await stopped, 0);
});

t.test('Holdfast started before containerd serves the first call once it is there', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  await containerd.kill();
  const listen = `${containerd.directory}/h.sock`;
  const holdfast = await startHoldfast(t, { runtime: containerd.socket, listen });
  const version = holdfast.client.call('Version');
  await containerd.start();
  t.match(await version, { runtime_name: 'containerd' });
});
