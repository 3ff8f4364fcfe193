/** Everything Holdfast does not own reaches a real containerd, and comes back, as it is. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { CriClient } from '../support/cri-client.js';
import { images, type RealContainerd, skipReason as skip, startContainerd } from './support/containerd.js';
import { execStream } from './support/exec-stream.js';
import { type Holdfast, startHoldfast } from './support/holdfast.js';

const run = promisify(execFile);

async function setUp(t: Test): Promise<{ containerd: RealContainerd; holdfast: Holdfast }> {
  const containerd = await startContainerd(t);
  const listen = `${containerd.directory}/h.sock`;
  return { containerd, holdfast: await startHoldfast(t, { runtime: containerd.socket, listen }) };
}

/** A file with an empty message in gRPC's framing. */
async function emptyMessage({ directory }: RealContainerd): Promise<string> {
  await writeFile(`${directory}/empty.bin`, Buffer.alloc(5));
  return `${directory}/empty.bin`;
}

t.test('commands run, at once and through the streaming URL; v1alpha2 is served', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const { client } = holdfast;
  const pod = containerd.pod();
  const { pod_sandbox_id } = await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const request = pod.createContainerRequest(pod_sandbox_id, { image: images.busybox });
  const { container_id } = await client.call('CreateContainer', request);
  await client.call('StartContainer', { container_id });
  const ran = await client.call('ExecSync', { container_id, cmd: ['sh', '-c', 'echo out; echo err >&2; exit 3'] });
  t.strictSame([String(ran.stdout), String(ran.stderr), ran.exit_code], ['out\n', 'err\n', 3]);
  const { url } = await client.call('Exec', { container_id, cmd: ['echo', 'streamed'], stdout: true });
  t.equal((await execStream(url)).stdout, 'streamed\n');
  const older = new CriClient(holdfast.socket, 'v1alpha2');
  t.teardown(() => older.close());
  t.match(await older.call('ListContainers'), { containers: [{ id: container_id }] });
  const earlier = containerd.pod();
  const made = await older.call('RunPodSandbox', earlier.runPodSandboxRequest());
  t.equal((await older.call('RunPodSandbox', earlier.runPodSandboxRequest())).pod_sandbox_id, made.pod_sandbox_id);
});

t.test('a list of 250 containers is the runtime’s, item for item', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const pod = containerd.pod();
  const { pod_sandbox_id } = await holdfast.client.call('RunPodSandbox', pod.runPodSandboxRequest());
  const create = (name: string) => {
    const request = pod.createContainerRequest(pod_sandbox_id, { image: images.busybox, name });
    return holdfast.client.call('CreateContainer', request);
  };
  await Promise.all(Array.from({ length: 250 }, (_, n) => create(`c${n}`)));
  // containerd lists them in no particular order.
  const listed = async (client: CriClient) =>
    (await client.call('ListContainers')).containers.sort((a, b) => a.id.localeCompare(b.id));
  const through = await listed(holdfast.client);
  t.equal(through.length, 250);
  t.strictSame(through, await listed(containerd.client));
});

t.test(
  'a client that sends the bare socket path as :authority gets what it gets from containerd',
  { skip },
  async (t) => {
    const { containerd, holdfast } = await setUp(t);
    const body = await emptyMessage(containerd);
    const load = async (socket: string, streams: number) => {
      const { stdout } = await run('h2load', [
        ...['-n', '2000', '-c', '1', '-m', String(streams), '-d', body, '-B', `unix:${socket}`],
        ...['-H', ':authority: /run/x.sock', '-H', 'content-type: application/grpc', '-H', 'te: trailers'],
        'http://localhost/runtime.v1.RuntimeService/Version',
      ]);
      const [requests] = /^requests: .*$/m.exec(stdout) ?? [];
      const [, dataBytes] = /^traffic: .*\((\d+)\) data$/m.exec(stdout) ?? [];
      return { requests, dataBytes: Number(dataBytes) };
    };
    for (const streams of [1, 8, 100]) {
      const through = await load(holdfast.socket, streams);
      t.match(through.requests, /2000 succeeded, 0 failed, 0 errored/);
      t.ok(through.dataBytes > 2000 * 30, 'an answer to each');
      t.strictSame(through, await load(containerd.socket, streams), `${streams} streams`);
    }
  },
);

t.test('nghttp gets from Holdfast what it gets from containerd', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const body = await emptyMessage(containerd);
  // nghttp speaks TCP only.
  const frames = async (socket: string) => {
    const bridge = createServer((client) => {
      const runtime = connect(socket);
      client.pipe(runtime).pipe(client);
    });
    await once(bridge.listen(0, '127.0.0.1'), 'listening');
    const { port } = bridge.address() as AddressInfo;
    const { stdout } = await run('nghttp', [
      ...['-v', '--no-dep', '-d', body, '-H', 'content-type: application/grpc'],
      ...['-H', 'te: trailers', `http://127.0.0.1:${port}/runtime.v1.RuntimeService/Version`],
    ]);
    bridge.close();
    return [...stdout.matchAll(/recv (?:\(stream_id=\d+\)|DATA frame) .*/g)].map(([line]) => line);
  };
  const through = await frames(holdfast.socket);
  t.ok(through.some((line) => line.includes('grpc-status: 0')));
  t.strictSame(through, await frames(containerd.socket));
});
