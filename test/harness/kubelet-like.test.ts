import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { KubeletLike, type KubeletLikeOptions } from '../../src/harness/kubelet/kubelet-like.js';
import type { PodPlan } from '../../src/harness/kubelet/pod.js';
import { isRunning } from '../../src/harness/kubelet/pod-history.js';
import { decodeMessage } from '../support/cri-client.js';
import { type Bench, bench } from './support.js';

/** Requests end long before this, unless something holds them. */
const patientMs = 60_000;

interface Sent {
  config: { envs: { key: string }[]; mounts: { host_path: string }[]; log_path: string };
}

function kubelet({ directory, runtime }: Bench, options: Partial<KubeletLikeOptions> = {}): KubeletLike {
  return new KubeletLike({
    socketPath: runtime.socketPath,
    podLogsDirectory: path.join(directory, 'logs'),
    pods: plans('web'),
    requestTimeoutMs: patientMs,
    backoffMs: [1, 2],
    relistMs: 1,
    ...options,
  });
}

function plans(...names: string[]) {
  return names.map((name) => ({ name, namespace: 'default', arriveMs: 0 }));
}

/** It keeps a run from ending. */
const later = { name: 'later', namespace: 'default', arriveMs: 1e9 };

const never = new AbortController().signal;

t.test('pods are brought up with one sandbox and one container each when nothing is slow', async (t) => {
  const it = await bench(t);
  const pods = await kubelet(it, { pods: plans('a', 'b', 'c') }).run(never);
  t.same(pods.map(isRunning), [true, true, true]);
  for (const made of [it.runtime.made.sandboxes, it.runtime.made.containers, it.runtime.made.starts]) {
    t.match(made, Array(3).fill({ attempt: 0, outcome: 'finished' }));
    t.equal(made.length, 3);
  }
  t.same(
    pods[0]?.events.map(({ text }) => text),
    ['RunPodSandbox, attempt 0', 'CreateContainer, attempt 0', 'StartContainer', 'running'],
  );
});

t.test('a run does not wait for a pod that never runs, and tries to bring it up all the same', async (t) => {
  const it = await bench(t);
  const held = it.runtime.hold('runPodSandbox', (name) => name.startsWith('hung'));
  const all = [...plans('web'), ...plans('hung').map((plan) => ({ ...plan, neverRuns: true }))];
  const release = it.runtime.hold('startContainer');
  const run = kubelet(it, { pods: all }).run(never);
  await held.arrived();
  release.release();
  t.same((await run).map(isRunning), [true, false]);
});

t.test(
  'sandboxes slower than the deadline are begun with attempt 0 again and again, and nothing ever runs',
  async (t) => {
    const it = await bench(t);
    const held = it.runtime.hold('runPodSandbox');
    const ended = new AbortController();
    const run = kubelet(it, { requestTimeoutMs: 25 }).run(ended.signal);
    await held.arrived(3);
    ended.abort();
    const [pod] = await run;
    t.notOk(pod !== undefined && isRunning(pod));
    t.ok(it.runtime.made.sandboxes.every(({ attempt }) => attempt === 0));
    t.same(it.runtime.containers, []);
    t.ok(pod?.events.some(({ error }) => error));
  },
);

t.test('a READY sandbox that comes to be seen is adopted without another try', async (t) => {
  const it = await bench(t);
  it.runtime.hold('runPodSandboxAnswer');
  const [pod] = await kubelet(it, { requestTimeoutMs: 1_000 }).run(never);
  t.ok(pod?.events.some(({ text }) => text === 'sees sandbox 0, adopts it'));
  t.equal(it.runtime.made.sandboxes.length, 1);
  t.match(it.runtime.containers, [{ state: 'CONTAINER_RUNNING' }]);
});

t.test('a sandbox that is not READY is stopped and followed by the next attempt', async (t) => {
  const it = await bench(t);
  const { runtime } = it;
  const creating = runtime.hold('createContainer');
  const run = kubelet(it).run(never);
  await creating.arrived();
  runtime.stopBehindTheBack(runtime.sandboxes[0]?.id ?? '');
  creating.release();
  await run;
  t.match(runtime.made.sandboxes, [{ attempt: 0 }, { attempt: 1 }]);
  t.equal(runtime.calls('StopPodSandbox').length, 1);
});

t.test('a container seen CREATED is not used: the next attempt is made', async (t) => {
  const it = await bench(t);
  const { runtime } = it;
  runtime.hold('createContainerAnswer', (name) => name.endsWith('_0'));
  await kubelet(it, { requestTimeoutMs: 1_000 }).run(never);
  t.match(runtime.made.containers, [
    { attempt: 0, outcome: 'finished', callerLeft: false },
    { attempt: 1, outcome: 'finished' },
  ]);
});

t.test('a log file of attempt n makes the first try attempt n + 1, with its log path', async (t) => {
  const it = await bench(t);
  const { directory, runtime } = it;
  const sandboxes = runtime.hold('runPodSandbox');
  const run = kubelet(it).run(never);
  await sandboxes.arrived();
  const logs = path.join(directory, 'logs', `default_web_${runtime.made.sandboxes[0]?.podUid}`, 'app');
  mkdirSync(logs, { recursive: true });
  for (const file of ['0.log', '2.log', 'other']) writeFileSync(path.join(logs, file), '');
  sandboxes.release();
  await run;
  t.match(runtime.made.containers, [{ attempt: 3 }]);
  const sent = decodeMessage('CreateContainerRequest', runtime.made.containers[0]?.request ?? Buffer.alloc(0)) as Sent;
  t.equal(sent.config.log_path, 'app/3.log');
});

t.test('two tries of one attempt differ in the order of the environment and the termination log', async (t) => {
  const it = await bench(t);
  const { runtime } = it;
  let seed = 1;
  const random = () => {
    seed = (seed * 16_807) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  runtime.failNext('createContainer', { code: 2, details: 'no' });
  await kubelet(it, { random }).run(never);
  const [first, second] = runtime.made.containers.map(
    ({ request }) => (decodeMessage('CreateContainerRequest', request) as Sent).config,
  );
  const keys = (sent: Sent['config'] | undefined) => sent?.envs.map(({ key }) => key);
  t.equal(runtime.made.containers.length, 2);
  t.notSame(keys(first), keys(second));
  t.same(keys(first)?.sort(), keys(second)?.sort());
  t.not(first?.mounts[0]?.host_path, second?.mounts[0]?.host_path);
});

t.test('what was asked for beside the pods is in each sandbox and container', async (t) => {
  const it = await bench(t);
  await kubelet(it, {
    pods: [{ name: 'etcd', namespace: 'kube-system', arriveMs: 0, containers: ['a', 'b'], isStatic: true }],
    imageName: 'registry.example/app:2',
    podDefaults: { cgroupParent: '/bench', labels: { 'example.com/run': '7' } },
  }).run(never);
  const config = {
    metadata: { namespace: 'kube-system' },
    labels: { 'example.com/run': '7', 'io.kubernetes.pod.namespace': 'kube-system' },
    annotations: { 'kubernetes.io/config.source': 'file' },
    linux: { cgroup_parent: '/bench' },
  };
  const [sandbox] = it.runtime.made.sandboxes;
  t.match(decodeMessage('RunPodSandboxRequest', sandbox?.request ?? Buffer.alloc(0)), { config });
  t.match(
    it.runtime.made.containers.map(({ request }) => decodeMessage('CreateContainerRequest', request)),
    ['a', 'b'].map((name) => ({
      config: {
        metadata: { name },
        image: { image: 'registry.example/app:2' },
        labels: { 'example.com/run': '7', 'io.kubernetes.container.name': name },
      },
      sandbox_config: config,
    })),
  );
});

t.test('pods come when their plan says so, and a deleted one is not waited for', async (t) => {
  const it = await bench(t);
  it.runtime.hold('runPodSandbox', (name) => name.startsWith('gone'));
  const pods = await kubelet(it, {
    requestTimeoutMs: 500,
    pods: [
      { name: 'late', namespace: 'default', arriveMs: 120 },
      { name: 'gone', namespace: 'default', arriveMs: 0, deleteMs: 60 },
    ],
  }).run(never);
  t.ok((pods[0]?.events[0]?.atMs ?? 0) >= 119);
  t.same(pods.map(isRunning), [true, false]);
  t.ok(pods[1]?.events.some(({ text }) => text === 'deleted'));
});

t.test('removing all leaves nothing, whatever was under way', async (t) => {
  const it = await bench(t);
  const { runtime } = it;
  const starting = runtime.hold('startContainer', (name) => name.includes('_halfway_'));
  const client = kubelet(it, { pods: plans('up', 'halfway'), requestTimeoutMs: 1_000 });
  const ended = new AbortController();
  const run = client.run(ended.signal);
  await starting.arrived();
  ended.abort();
  const pods = await run;
  t.equal(runtime.sandboxes.length, 2);
  await client.removeAll(never);
  t.same([runtime.sandboxes, runtime.containers], [[], []]);
  t.notOk(
    pods.some(({ events }) => events.some(({ phase }) => phase === 'deleted')),
    'what run returned stays as it was',
  );
});

t.test('it removes only what is its own', async (t) => {
  const it = await bench(t);
  const { runtime } = it;
  await kubelet(it).run(never);
  const other = kubelet(it);
  await other.run(never);
  await other.removeAll(never);
  t.match(runtime.containers, [{ state: 'CONTAINER_RUNNING' }]);
  t.equal(runtime.sandboxes.length, 1);
});

t.test(
  'with events over a socket a pod comes up, and a crash during its start is followed by the next attempt',
  async (t) => {
    const it = await bench(t);
    const { runtime } = it;
    const started = runtime.hold('startContainerAnswer');
    const ended = new AbortController();
    const run = kubelet(it, { events: true, relistMs: 50, pods: [...plans('web'), later] }).run(ended.signal);
    await runtime.subscribed();
    await started.arrived();
    runtime.stopBehindTheBack(runtime.containers[0]?.id ?? '');
    started.release();
    const second = runtime.hold('startContainer');
    await second.arrived();
    ended.abort();
    await run;
    t.match(runtime.made.containers, [{ attempt: 0 }, { attempt: 1 }]);
    t.equal(runtime.calls('GetContainerEvents')[0]?.timeoutMs, undefined);
  },
);

t.test('a job over a socket runs its containers in order, once each, and is over', async (t) => {
  const it = await bench(t);
  const { runtime } = it;
  const exits = { init: { afterMs: 5, code: 0 }, app: { afterMs: 5, code: 0 } };
  const [succeeded, failed] = await kubelet(it, {
    pods: [
      { ...plans('job')[0], initContainers: ['init'], restartPolicy: 'OnFailure', exits },
      { ...plans('bad')[0], restartPolicy: 'Never', exits: { app: { afterMs: 5, code: 1 } } },
    ] as PodPlan[],
    pullMs: 1,
  }).run(never);
  t.strictSame(
    succeeded?.events.map(({ text }) => text).filter((text) => text !== 'running' && text !== 'seen running'),
    [
      'RunPodSandbox, attempt 0',
      ...['init', 'app'].flatMap((name) => [
        `pulls the image of ${name}`,
        `CreateContainer ${name}, attempt 0`,
        `StartContainer ${name}`,
      ]),
      'succeeded',
    ],
  );
  t.match(failed?.events.at(-1), { phase: 'failed', error: true });
  for (const { uid } of [succeeded, failed].flatMap((pod) => pod ?? [])) t.equal(runtime.runs(uid, 'app'), 1);
  t.same(new Set(runtime.sandboxes.map(({ state }) => state)), new Set(['SANDBOX_NOTREADY']));
});

t.test(
  'a job whose start ends late, after the look and before the next attempt is made, does its work twice',
  async (t) => {
    const it = await bench(t, { profile: 'crio-store' });
    const { runtime } = it;
    const late = runtime.hold('startContainer', (name) => name.endsWith('_0'));
    const second = runtime.hold('createContainer', (name) => name.endsWith('_1'));
    const job = { ...plans('job')[0], restartPolicy: 'OnFailure', exits: { app: { afterMs: 0, code: 0 } } } as PodPlan;
    const run = kubelet(it, { pods: [job], pullMs: 1, requestTimeoutMs: 1_000 }).run(never);
    await second.arrived();
    late.release();
    second.release();
    const [pod] = await run;
    t.match(runtime.made.starts, [
      { attempt: 0, outcome: 'finished', callerLeft: true },
      { attempt: 1, outcome: 'finished' },
    ]);
    t.equal(runtime.runs(pod?.uid ?? '', 'app'), 2);
    t.equal(pod?.events.at(-1)?.phase, 'succeeded');
  },
);

t.test('how long lists took is kept', async (t) => {
  const it = await bench(t);
  const client = kubelet(it);
  await client.run(never);
  t.ok(client.listTimesMs.length >= 2);
  t.ok(client.listTimesMs.every((tookMs) => tookMs > 0));
});
