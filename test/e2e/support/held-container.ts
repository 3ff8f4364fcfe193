import { status } from '@grpc/grpc-js';
import type { Test } from 'tap';
import { images, type RealContainerd } from './containerd.js';
import type { Holdfast } from './holdfast.js';

/** Makes a container that is done after its caller's deadline, so that Holdfast holds it. */
export async function holdContainer(t: Test, containerd: RealContainerd, holdfast: Holdfast) {
  const { client } = holdfast;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const request = () => pod.createContainerRequest(pod_sandbox_id, { image: images.volume });
  const gate = await containerd.blockCreates();
  const asked = client.call('CreateContainer', request(), { deadlineMs: 1_000 });
  await t.rejects(asked, { code: status.DEADLINE_EXCEEDED });
  await gate.reached();
  await gate.open();
  await holdfast.logged('it is held', (line) => line.step === 'held');
  return { pod, pod_sandbox_id, request };
}
