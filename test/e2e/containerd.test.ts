/**
 * What containerd does by itself, with no proxy: the facts that Holdfast is built on and that the simulated runtime imitates.
 */
import { readFile } from 'node:fs/promises';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type Containerd, type HeldWork, playScenes, type Work } from '../support/containerd-scenes.js';
import { isSince } from '../support/containerd-version.js';
import { CriClient } from '../support/cri-client.js';
import {
  containerdVersion,
  images,
  type RealContainerd,
  skipReason as skip,
  startContainerd,
} from './support/containerd.js';
import { execStream } from './support/exec-stream.js';
import { until } from './support/until.js';

const version = containerdVersion();

async function hold(containerd: RealContainerd, work: Work): Promise<HeldWork> {
  if (work === 'container') {
    const gate = await containerd.blockCreates();
    return { reached: gate.reached, release: gate.open };
  }
  const { slow, count } = {
    podSandbox: { slow: containerd.setCniDelay, count: containerd.cniAdds },
    undoing: { slow: containerd.setCniDelDelay, count: containerd.cniDels },
    start: { slow: containerd.setStartDelay, count: containerd.ociCreates },
  }[work];
  const before = count.call(containerd);
  slow.call(containerd, 600);
  return {
    reached: () => until(`${work} has begun`, () => count.call(containerd) > before),
    release: () => slow.call(containerd, 0),
  };
}

async function scene(t: Test): Promise<Containerd> {
  const containerd = await startContainerd(t);
  return {
    client: containerd.client,
    pod: () => containerd.pod(),
    hold: (work) => hold(containerd, work),
    kill: () => containerd.kill(),
    start: () => containerd.start(),
  };
}

playScenes(t, version, scene, { skip });

t.test('a pod starts, lists its container as CREATED before the start, and runs commands', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  t.match(await client.call('ListPodSandbox'), { items: [{ id: pod_sandbox_id, state: 'SANDBOX_READY' }] });
  const { container_id } = await client.call(
    'CreateContainer',
    pod.createContainerRequest(pod_sandbox_id, { image: images.busybox }),
  );
  t.match(await client.call('ListContainers'), { containers: [{ id: container_id, state: 'CONTAINER_CREATED' }] });
  t.equal(containerd.ociCreates(), 0, 'CreateContainer does not run the OCI runtime');
  await client.call('StartContainer', { container_id });
  t.match(await client.call('ContainerStatus', { container_id }), { status: { state: 'CONTAINER_RUNNING' } });
  t.equal(containerd.cniAdds(), 1);
  t.equal(containerd.ociCreates(), 1);

  const ran = await client.call('ExecSync', { container_id, cmd: ['sh', '-c', 'echo out; echo err >&2; exit 3'] });
  t.strictSame([String(ran.stdout), String(ran.stderr), ran.exit_code], ['out\n', 'err\n', 3]);
  const { url } = await client.call('Exec', { container_id, cmd: ['echo', 'streamed'], stdout: true });
  const streamed = await execStream(url);
  t.equal(streamed.stdout, 'streamed\n');
  t.match(streamed.status, '"status":"Success"');

  const older = new CriClient(containerd.socket, 'v1alpha2');
  t.teardown(() => older.close());
  const listed = older.call('ListContainers');
  if (isSince(version, 2, 0)) await t.rejects(listed, { code: status.UNIMPLEMENTED });
  else t.match(await listed, { containers: [{ id: container_id }] });
});

t.test('a sandbox slower than its deadline is never made, however often it is asked for', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const pod = containerd.pod();
  containerd.setCniDelay(600);
  for (const attempt of [1, 2, 3]) {
    await until('a try gets as far as its deadline', async () => {
      const failure = await client
        .call('RunPodSandbox', pod.runPodSandboxRequest(), { deadlineMs: 500 })
        .catch((e) => e);
      return /deadline exceeded/i.test(failure.details);
    });
    await until('CNI has been undone', () => containerd.cniDels() >= attempt);
    t.strictSame(await client.call('ListPodSandbox'), { items: [] });
  }
});

t.test('a start slower than its deadline runs nothing and spends its container', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const { container_id } = await client.call(
    'CreateContainer',
    pod.createContainerRequest(pod_sandbox_id, { image: images.busybox, command: ['echo', 'it ran'] }),
  );
  containerd.setStartDelay(600);
  // From 1.7 on the end of the deadline and the cancel that it causes race, on the wire and in containerd.
  const [answered, said] = isSince(version, 1, 7)
    ? [/deadline exceeded|cancelled/i, /context deadline exceeded|context canceled/]
    : [/deadline exceeded/i, /context deadline exceeded/];
  await t.rejects(client.call('StartContainer', { container_id }, { deadlineMs: 500 }), { message: answered });
  const ended = await until('it has exited', async () => {
    const answer = await client.call('ContainerStatus', { container_id });
    return answer.status.state === 'CONTAINER_EXITED' && answer.status;
  });
  t.match(ended, { exit_code: 128, reason: 'StartError', started_at: '0', message: said });
  t.equal(await readFile(ended.log_path, 'utf8'), '');
});

const eventSkip = skip || (isSince(version, 1, 7) ? false : 'GetContainerEvents has come with 1.7');
t.test('events tell of a pod sandbox and a container in their order', { skip: eventSkip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const seen: { container_id: string; container_event_type: string }[] = [];
  const events = client.stream('GetContainerEvents');
  events.on('data', (event) => seen.push(event));
  // It ends by the cancel, or with containerd.
  events.on('error', () => {});
  t.teardown(() => events.cancel());
  const told = (type: string, id: string) =>
    until(`${type} comes`, () =>
      seen.some((event) => event.container_id === id && event.container_event_type === `CONTAINER_${type}_EVENT`),
    );

  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  await told('STARTED', pod_sandbox_id);
  const { container_id } = await client.call(
    'CreateContainer',
    pod.createContainerRequest(pod_sandbox_id, { image: images.busybox }),
  );
  await client.call('StartContainer', { container_id });
  await client.call('StopContainer', { container_id });
  await told('STOPPED', container_id);
  await client.call('StopPodSandbox', { pod_sandbox_id });
  await client.call('RemovePodSandbox', { pod_sandbox_id });
  await told('DELETED', pod_sandbox_id);
  const typesOf = (id: string) =>
    seen.flatMap((event) => (event.container_id === id ? [event.container_event_type.split('_')[1]] : []));
  const life = ['CREATED', 'STARTED', 'STOPPED', 'DELETED'];
  t.strictSame(typesOf(container_id), life, 'of the container');
  t.strictSame(typesOf(pod_sandbox_id), life, 'of the pod sandbox');
});
