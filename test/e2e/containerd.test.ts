/**
 * What containerd does by itself, with no proxy: the facts that Holdfast is built on and that the simulated runtime imitates.
 */
import { readFile } from 'node:fs/promises';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import { CriClient, type CriMethod } from '../support/cri-client.js';
import { images, skipReason as skip, startContainerd } from './support/containerd.js';
import { execStream } from './support/exec-stream.js';
import { until } from './support/until.js';

const reserved = { code: status.UNKNOWN, details: /: name ".*" is reserved for "[0-9a-f]{64}"$/ };

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
  t.match(await older.call('ListContainers'), { containers: [{ id: container_id }] });
});

t.test(
  'a sandbox is unlisted while it is made, rolled back when its caller leaves, then made again',
  { skip },
  async (t) => {
    const containerd = await startContainerd(t);
    const { client } = containerd;
    const pod = containerd.pod();
    containerd.setCniDelay(600);
    const caller = new AbortController();
    const first = t.rejects(client.call('RunPodSandbox', pod.runPodSandboxRequest(), { signal: caller.signal }), {
      code: status.CANCELLED,
    });
    await until('CNI has begun', () => containerd.cniAdds() === 1);
    t.strictSame(await client.call('ListPodSandbox'), { items: [] });
    await t.rejects(client.call('RunPodSandbox', pod.runPodSandboxRequest()), reserved, 'a second call meanwhile');
    caller.abort();
    await first;
    await until('CNI has been undone', () => containerd.cniDels() === 1);

    containerd.setCniDelay(0);
    const { pod_sandbox_id } = await until('the name is free', () =>
      client.call('RunPodSandbox', pod.runPodSandboxRequest()).catch((error) => {
        if (!reserved.details.test(error.details)) throw error;
        return undefined;
      }),
    );
    t.match(await client.call('ListPodSandbox'), { items: [{ id: pod_sandbox_id, state: 'SANDBOX_READY' }] });
    t.equal(containerd.cniAdds(), 2);
    await t.rejects(client.call('RunPodSandbox', pod.runPodSandboxRequest()), reserved, 'a second call afterwards');
  },
);

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

t.test('a container whose caller left is finished, listed, and refused to the retry', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const request = () => pod.createContainerRequest(pod_sandbox_id, { image: images.volume });
  const gate = await containerd.blockCreates();
  const caller = new AbortController();
  const first = t.rejects(client.call('CreateContainer', request(), { signal: caller.signal }), {
    code: status.CANCELLED,
  });
  await gate.reached();
  t.strictSame(await client.call('ListContainers'), { containers: [] });
  await t.rejects(client.call('CreateContainer', request()), reserved, 'a second call meanwhile');
  caller.abort();
  await first;
  await t.rejects(client.call('CreateContainer', request()), reserved, 'a retry while it is still made');
  await gate.open();
  const { containers } = await until('it is listed', async () => {
    const listed = await client.call('ListContainers');
    return listed.containers.length > 0 && listed;
  });
  t.match(containers, [{ metadata: { name: 'app', attempt: 0 }, state: 'CONTAINER_CREATED' }]);
  await t.rejects(client.call('CreateContainer', request()), reserved, 'a retry afterwards');
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
  await t.rejects(client.call('StartContainer', { container_id }, { deadlineMs: 500 }), {
    message: /deadline exceeded/i,
  });
  const ended = await until('it has exited', async () => {
    const answer = await client.call('ContainerStatus', { container_id });
    return answer.status.state === 'CONTAINER_EXITED' && answer.status;
  });
  t.match(ended, { exit_code: 128, reason: 'StartError', started_at: '0', message: /context deadline exceeded/ });
  t.equal(await readFile(ended.log_path, 'utf8'), '');
});

t.test('a start whose caller cancelled goes on for five seconds and comes to nothing', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const { container_id } = await client.call(
    'CreateContainer',
    pod.createContainerRequest(pod_sandbox_id, { image: images.busybox }),
  );
  containerd.setStartDelay(600);
  const caller = new AbortController();
  const first = t.rejects(client.call('StartContainer', { container_id }, { signal: caller.signal }), {
    code: status.CANCELLED,
  });
  await until('the OCI runtime has begun', () => containerd.ociCreates() === 1);
  t.match(await client.call('ContainerStatus', { container_id }), { status: { state: 'CONTAINER_CREATED' } });
  await t.rejects(client.call('StartContainer', { container_id }), {
    code: status.UNKNOWN,
    details: /container is already in starting state$/,
  });
  await t.rejects(client.call('RemoveContainer', { container_id }), {
    code: status.UNKNOWN,
    details: /container is in starting state, can't be removed$/,
  });
  await t.resolves(client.call('StopContainer', { container_id }), 'a stop is answered without doing anything');
  caller.abort();
  await first;
  containerd.setStartDelay(0);
  const ended = await until('it has exited', async () => {
    const answer = await client.call('ContainerStatus', { container_id });
    return answer.status.state === 'CONTAINER_EXITED' && answer.status;
  });
  t.match(ended, { exit_code: 128, reason: 'StartError', started_at: '0', message: /context canceled/ });
  await t.rejects(client.call('StartContainer', { container_id }), {
    code: status.UNKNOWN,
    details: /container is in CONTAINER_EXITED state$/,
  });
  t.equal(containerd.ociCreates(), 1);
});

t.test('a pod removed in the middle of a CreateContainer leaves the container behind', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const pod = containerd.pod();
  const sandbox = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const gate = await containerd.blockCreates();
  const creation = client.call(
    'CreateContainer',
    pod.createContainerRequest(sandbox.pod_sandbox_id, { image: images.volume }),
  );
  await gate.reached();
  await client.call('StopPodSandbox', sandbox);
  await client.call('RemovePodSandbox', sandbox);
  t.strictSame(await client.call('ListPodSandbox'), { items: [] });
  await gate.open();
  const { container_id } = await creation;
  t.match(await client.call('ListContainers'), {
    containers: [{ id: container_id, state: 'CONTAINER_CREATED', ...sandbox }],
  });
  await client.call('RemoveContainer', { container_id });
});

t.test('a pod stopped in the middle of a StartContainer waits for the start', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const pod = containerd.pod();
  const sandbox = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const container = await client.call(
    'CreateContainer',
    pod.createContainerRequest(sandbox.pod_sandbox_id, { image: images.busybox }),
  );
  containerd.setStartDelay(600);
  const start = client.call('StartContainer', container);
  await until('the OCI runtime has begun', () => containerd.ociCreates() === 1);
  // The runtime knows the deadline, too: either side may be the first to say that it has passed.
  await t.rejects(client.call('StopPodSandbox', sandbox, { deadlineMs: 500 }), { message: /deadline exceeded/i });
  t.match(await client.call('ListPodSandbox'), { items: [{ state: 'SANDBOX_READY' }] });
  containerd.setStartDelay(0);
  await start;
  await client.call('StopPodSandbox', sandbox);
  t.match(await client.call('ListPodSandbox'), { items: [{ state: 'SANDBOX_NOTREADY' }] });
  t.match(await client.call('ListContainers'), { containers: [{ state: 'CONTAINER_EXITED' }] });
  await t.rejects(
    client.call(
      'CreateContainer',
      pod.createContainerRequest(sandbox.pod_sandbox_id, { image: images.busybox, name: 'b' }),
    ),
    { code: status.NOT_FOUND, details: /^failed to get sandbox container task: no running task found/ },
  );
});

t.test('an unknown id is NOT_FOUND to all but the two removals', { skip }, async (t) => {
  const { client } = await startContainerd(t);
  const outcome = (method: CriMethod, request: object) =>
    client.call(method, request).then(
      () => 'OK',
      (error) => `${status[error.code]}: ${error.details}`,
    );
  const sandbox = { pod_sandbox_id: 'feed' };
  const container = { container_id: 'feed' };
  const noSandbox = 'NOT_FOUND: an error occurred when try to find sandbox';
  const noContainer = 'NOT_FOUND: an error occurred when try to find container "feed": not found';
  t.equal(await outcome('StopPodSandbox', sandbox), `${noSandbox} "feed": not found`);
  t.equal(await outcome('PodSandboxStatus', sandbox), `${noSandbox}: not found`);
  t.equal(await outcome('RemovePodSandbox', sandbox), 'OK');
  t.equal(await outcome('StopContainer', container), noContainer);
  t.equal(await outcome('ContainerStatus', container), noContainer);
  t.equal(await outcome('StartContainer', container), noContainer);
  t.equal(await outcome('RemoveContainer', container), 'OK');
  t.equal(await outcome('RunPodSandbox', {}), 'UNKNOWN: sandbox config must include metadata');
  t.equal(await outcome('CreateContainer', sandbox), 'NOT_FOUND: failed to find sandbox id "feed": not found');
});

t.test('killed in the middle of everything and restarted, it keeps what was finished', { skip }, async (t) => {
  const containerd = await startContainerd(t);
  const { client } = containerd;
  const pod = containerd.pod();
  const sandbox = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const request = (name: string, image: string = images.busybox) =>
    pod.createContainerRequest(sandbox.pod_sandbox_id, { image, name });
  const created = await client.call('CreateContainer', request('created'));
  const running = await client.call('CreateContainer', request('running'));
  const starting = await client.call('CreateContainer', request('starting'));
  await client.call('StartContainer', running);
  const gate = await containerd.blockCreates();
  const lost = { code: status.UNAVAILABLE };
  const creation = t.rejects(client.call('CreateContainer', request('creating', images.volume)), lost);
  await gate.reached();
  containerd.setStartDelay(600);
  const start = t.rejects(client.call('StartContainer', starting), lost);
  await until('the OCI runtime has begun', () => containerd.ociCreates() === 2);
  containerd.setCniDelay(600);
  const half = containerd.pod();
  const sandboxCreation = t.rejects(client.call('RunPodSandbox', half.runPodSandboxRequest()), lost);
  await until('CNI has begun', () => containerd.cniAdds() === 2);

  await containerd.kill();
  await Promise.all([creation, start, sandboxCreation]);
  containerd.setCniDelay(0);
  containerd.setStartDelay(0);
  await gate.open();
  await containerd.start();

  const { items } = await client.call('ListPodSandbox');
  t.strictSame(
    new Map(items.map((item) => [item.metadata.uid, item.state])),
    new Map([
      [pod.uid, 'SANDBOX_READY'],
      [half.uid, 'SANDBOX_NOTREADY'],
    ]),
    'a half-made sandbox is there, not ready',
  );
  const { containers } = await client.call('ListContainers');
  t.strictSame(
    new Map(containers.map((container) => [container.metadata.name, container.state])),
    new Map([
      ['created', 'CONTAINER_CREATED'],
      ['running', 'CONTAINER_RUNNING'],
      ['starting', 'CONTAINER_CREATED'],
    ]),
    'a half-made container is gone',
  );
  await t.rejects(client.call('RunPodSandbox', half.runPodSandboxRequest()), reserved);
  const halfMade = { pod_sandbox_id: items.find((item) => item.metadata.uid === half.uid)?.id };
  await client.call('StopPodSandbox', halfMade);
  await client.call('RemovePodSandbox', halfMade);
  await t.resolves(client.call('RunPodSandbox', half.runPodSandboxRequest()), 'once removed, its name is free');
  await t.resolves(client.call('CreateContainer', request('creating', images.volume)));
  await t.resolves(client.call('StartContainer', created));
  await t.rejects(client.call('StartContainer', starting), {
    code: status.ALREADY_EXISTS,
    details: /^failed to create containerd task: task [0-9a-f]{64}: already exists$/,
  });
  t.match(await client.call('ContainerStatus', starting), { status: { state: 'CONTAINER_EXITED' } });
});
