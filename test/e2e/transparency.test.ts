/** Everything Holdfast does not own reaches a real containerd, and comes back, as it is. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream';
import { promisify } from 'node:util';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { anyService, startBackend } from '../support/any-backend.js';
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
import { type Holdfast, startHoldfast } from './support/holdfast.js';
import { missingPrograms, skipFor } from './support/programs.js';

const run = promisify(execFile);

async function setUp(t: Test): Promise<{ containerd: RealContainerd; holdfast: Holdfast }> {
  const containerd = await startContainerd(t);
  const listen = `${containerd.directory}/h.sock`;
  return { containerd, holdfast: await startHoldfast(t, { runtime: containerd.socket, listen }) };
}

t.test('commands run, at once and through the streaming URL', { skip }, async (t) => {
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
});

t.test('v1alpha2 is served where the runtime has it', { skip }, async (t) => {
  const { containerd, holdfast } = await setUp(t);
  const older = new CriClient(holdfast.socket, 'v1alpha2');
  t.teardown(() => older.close());
  const pod = containerd.pod();
  const run = () => older.call('RunPodSandbox', pod.runPodSandboxRequest());
  if (isSince(containerdVersion(), 2, 0)) {
    await t.rejects(older.call('ListContainers'), { code: status.UNIMPLEMENTED });
    await t.rejects(run(), { code: status.UNIMPLEMENTED });
    return;
  }
  const { pod_sandbox_id } = await run();
  t.equal((await run()).pod_sandbox_id, pod_sandbox_id);
  const request = pod.createContainerRequest(pod_sandbox_id, { image: images.busybox });
  const { container_id } = await older.call('CreateContainer', request);
  t.match(await older.call('ListContainers'), { containers: [{ id: container_id }] });
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

/** A server with and without Holdfast in front, and a request to it. */
interface Target {
  readonly direct: string;
  readonly holdfast: string;
  readonly path: string;
  /** A file with a message in gRPC's framing. */
  readonly body: string;
}

/** containerd, with a small answer. */
async function smallAnswers(t: Test): Promise<Target> {
  const { containerd, holdfast } = await setUp(t);
  const body = await writeMessage(containerd.directory, 0);
  return { direct: containerd.socket, holdfast: holdfast.socket, path: '/runtime.v1.RuntimeService/Version', body };
}

/** A server that answers 100 KB with 100 KB. */
async function largeAnswers(t: Test): Promise<Target> {
  const directory = await mkdtemp(path.join(tmpdir(), 'hf-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const direct = path.join(directory, 'runtime.sock');
  const backend = await startBackend(direct);
  t.teardown(() => backend.forceShutdown());
  const holdfast = await startHoldfast(t, { runtime: direct, listen: path.join(directory, 'h.sock') });
  const body = await writeMessage(directory, 100_000);
  return { direct, holdfast: holdfast.socket, path: `${anyService}/unary`, body };
}

async function writeMessage(directory: string, bytes: number): Promise<string> {
  const file = path.join(directory, 'message.bin');
  const message = Buffer.alloc(5 + bytes, 7);
  message.writeUInt8(0);
  message.writeUInt32BE(bytes, 1);
  await writeFile(file, message);
  return file;
}

/** A target for each size of answers, and what is asked of it. */
const loads = [
  {
    answers: 'small',
    target: smallAnswers,
    skip: skip || skipFor(missingPrograms('h2load', 'nghttp')),
    requests: 2000,
    // As kubelet 1.26 has it.
    authority: '/run/x.sock',
    /** Of one answer, at least. */
    dataBytes: 30,
  },
  {
    answers: 'large',
    target: largeAnswers,
    skip: skipFor(missingPrograms('h2load', 'nghttp')),
    requests: 200,
    // grpc-js (nghttp2) refuses the path of a socket.
    authority: 'localhost',
    dataBytes: 100_000,
  },
];

/** Streams open at once, and windows of stream and connection as powers of two. */
const shapes = [1, 8, 100].flatMap((streams) => [10, 14, 16, 20, 30].map((bits) => ({ streams, bits: String(bits) })));
const grpcHeaders = ['-H', 'content-type: application/grpc', '-H', 'te: trailers'];

for (const { answers, target, skip, requests, authority, dataBytes } of loads) {
  t.test(`h2load gets ${answers} answers from Holdfast as it gets them directly`, { skip }, async (t) => {
    const { direct, holdfast, path, body } = await target(t);
    for (const { streams, bits } of shapes) {
      const load = async (socket: string) => {
        const { stdout } = await run('h2load', [
          ...['-n', String(requests), '-c', '1', '-m', String(streams), '-w', bits, '-W', bits, '-d', body],
          ...['-B', `unix:${socket}`, '-H', `:authority: ${authority}`, ...grpcHeaders, `http://localhost${path}`],
        ]);
        const [counts] = /^requests: .*$/m.exec(stdout) ?? [];
        const [statuses] = /^status codes: .*$/m.exec(stdout) ?? [];
        const [, data] = /^traffic: .*\((\d+)\) data$/m.exec(stdout) ?? [];
        return { counts, statuses, dataBytes: Number(data) };
      };
      const through = await load(holdfast);
      t.match(through.counts, new RegExp(`${requests} succeeded, 0 failed, 0 errored`));
      t.match(through.statuses, new RegExp(`${requests} 2xx`));
      t.ok(through.dataBytes > requests * dataBytes, 'an answer to each');
      t.strictSame(through, await load(direct), `${streams} streams, windows of 2^${bits}`);
    }
  });

  t.test(`nghttp gets ${answers} answers from Holdfast as it gets them directly`, { skip }, async (t) => {
    const { direct, holdfast, path, body } = await target(t);
    for (const { streams, bits } of shapes) {
      const options = ['-m', String(streams), '-w', bits, '-W', bits, '-d', body];
      const through = await nghttp(holdfast, path, options);
      t.equal(through.size, streams);
      t.ok([...through.values()].every(({ headers }) => headers.includes('grpc-status: 0')));
      t.ok([...through.values()].every((stream) => stream.dataBytes > dataBytes));
      t.strictSame(through, await nghttp(direct, path, options), `${streams} streams, windows of 2^${bits}`);
    }
  });
}

/** @returns What each stream received, by id. */
async function nghttp(socket: string, path: string, options: readonly string[]) {
  // nghttp speaks TCP only.
  const bridge = createServer((client) => {
    const runtime = connect(socket);
    // nghttp leaves when it has its answers; what else comes fails to be written.
    pipeline(client, runtime, client, () => {});
  });
  await once(bridge.listen(0, '127.0.0.1'), 'listening');
  const { port } = bridge.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}${path}`;
  const { stdout } = await run('nghttp', ['-v', '-n', '--no-dep', ...options, ...grpcHeaders, url], {
    maxBuffer: 64 * 1024 * 1024,
  });
  bridge.close();
  const streams = new Map<string, { headers: string[]; dataBytes: number }>();
  const stream = (id: string) => {
    const found = streams.get(id) ?? { headers: [], dataBytes: 0 };
    streams.set(id, found);
    return found;
  };
  for (const [, id = '', header = ''] of stdout.matchAll(/ recv \(stream_id=(\d+)\) (.*)$/gm)) {
    if (!header.startsWith('date:')) stream(id).headers.push(header);
  }
  for (const [, bytes, id = ''] of stdout.matchAll(/ recv DATA frame <length=(\d+), .*stream_id=(\d+)>$/gm)) {
    stream(id).dataBytes += Number(bytes);
  }
  return new Map([...streams].sort());
}
