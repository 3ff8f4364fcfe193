/** Admission as the kubelet and the operator see it: through the socket, in the metrics and in the log. */
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import type { HoldfastConfig } from '../../src/config/config.js';
import { settle } from '../support/manual-clock.js';
import { Rig } from '../support/rig.js';

const gauge = async (rig: Rig, name: string) => {
  const found = (await rig.metrics.registry.metrics()).split('\n').filter((line) => line.startsWith(name));
  return Object.fromEntries(found.map((line) => line.slice(name.length).split(' ')));
};

t.test('static pods go first, then critical namespaces, starts, containers, and pod sandboxes last', async (t) => {
  const rig = await Rig.start(t, {
    config: { admission: 'fixed', maxCreations: 1, ownPlaces: 0, criticalNamespaces: ['infra'] },
  });
  const user = rig.pod({ uid: 'user' });
  const sandbox = await rig.podSandbox(user);
  const create = (name: string) =>
    rig.client.call('CreateContainer', user.createContainerRequest(sandbox, { image: 'app', name }));
  const { container_id } = await create('first');

  const hold = rig.runtime.hold('runPodSandbox', (name) => name.includes('blocker'));
  const asked = [rig.podSandbox(rig.pod({ uid: 'blocker' }))];
  await hold.arrived();
  const queued = async (call: Promise<unknown>) => {
    asked.push(call as Promise<string>);
    await rig.logged(({ step }) => step === 'queued', 2 + asked.length);
    await settle();
  };
  await queued(rig.podSandbox(rig.pod({ uid: 'plain' })));
  await queued(create('second'));
  await queued(rig.client.call('StartContainer', { container_id }));
  await queued(rig.podSandbox(rig.pod({ uid: 'critical', namespace: 'infra' })));
  const source = { 'kubernetes.io/config.source': 'file' };
  await queued(rig.podSandbox(rig.pod({ uid: 'static', annotations: source })));
  t.same(await gauge(rig, 'holdfast_queued'), {
    '{class="static"}': '1',
    '{class="critical"}': '1',
    '{class="start"}': '1',
    '{class="container"}': '1',
    '{class="podSandbox"}': '1',
  });
  hold.release();
  await Promise.all(asked);
  const begun = rig.lines
    .filter(({ step }) => step === 'started')
    .map(({ uid, container, kind }) => container ?? uid ?? kind);
  t.same(begun, ['user', 'first', 'blocker', 'static', 'critical', 'start', 'second', 'plain']);
});

t.test('a start of a critical pod’s container is critical', async (t) => {
  const rig = await Rig.start(t, { config: { admission: 'fixed', maxCreations: 1 } });
  const started = async (uid: string, namespace: string) => {
    const pod = rig.pod({ uid, namespace });
    const id = await rig.podSandbox(pod);
    const request = pod.createContainerRequest(id, { image: 'app' });
    const { container_id } = await rig.client.call('CreateContainer', request);
    return { container_id };
  };
  const plain = await started('plain', 'default');
  const critical = await started('critical', 'kube-system');
  const hold = rig.runtime.hold('runPodSandbox');
  const blocker = rig.podSandbox(rig.pod({ uid: 'blocker' }));
  await hold.arrived();
  const first = rig.client.call('StartContainer', plain);
  await rig.step('queued', 'start');
  const second = rig.client.call('StartContainer', critical);
  await rig.step('queued', 'start', 2);
  hold.release();
  await Promise.all([blocker, first, second]);
  const begun = rig.lines.filter(({ step, kind }) => step === 'started' && kind === 'start').map(({ id }) => id);
  t.same(begun, [critical.container_id, plain.container_id]);
});

t.test('with 100 creations queued, a replay and a join are answered, and a critical pod does not wait', async (t) => {
  const rig = await Rig.start(t, { config: { admission: 'fixed', maxCreations: 1 } });
  const there = await rig.podSandbox(rig.pod({ uid: 'there' }));
  const hold = rig.runtime.hold('runPodSandbox', (name) => name.includes('running'));
  const running = rig.podSandbox(rig.pod({ uid: 'running' }));
  await hold.arrived();
  const all = Array.from({ length: 100 }, (_, n) => rig.podSandbox(rig.pod({ uid: `queued-${n}` })));
  await rig.step('queued', 'podSandbox', 102);
  t.equal(await rig.podSandbox(rig.pod({ uid: 'there' })), there);
  const critical = rig.podSandbox(rig.pod({ uid: 'critical', namespace: 'kube-system' }));
  const joined = rig.podSandbox(rig.pod({ uid: 'running' }));
  await rig.step('waiter joined', 'podSandbox');
  hold.release();
  t.equal(await joined, await running);
  await Promise.all([critical, ...all]);
  const begun = rig.lines.filter(({ step }) => step === 'started').map(({ uid }) => uid);
  t.same(begun.slice(0, 3), ['there', 'running', 'critical']);
  t.equal(begun.length, 103);
});

t.test('a runtime handler with a limit has no more pod sandboxes made at once, and others pass it by', async (t) => {
  const rig = await Rig.start(t, { config: { handlerLimits: [{ handler: 'kata', limit: 2 }] } });
  const hold = rig.runtime.hold('runPodSandbox');
  const run = (uid: string, handler: string) =>
    rig.client.call('RunPodSandbox', rig.pod({ uid }).runPodSandboxRequest(handler));
  const asked = ['kata-0', 'kata-1', 'kata-2', 'kata-3'].map((uid) => run(uid, 'kata'));
  await rig.step('queued', 'podSandbox', 4);
  await settle();
  asked.push(run('plain', ''));
  await hold.arrived(3);
  t.equal(rig.runtime.calls('RunPodSandbox').length, 3);
  hold.release();
  await Promise.all(asked);
  t.equal(rig.runtime.sandboxes.length, 5);
});

t.test('with admission off everything is carried out at once', async (t) => {
  const rig = await Rig.start(t, { config: { admission: 'off', maxCreations: 1 } });
  const hold = rig.runtime.hold('runPodSandbox');
  const asked = Array.from({ length: 50 }, (_, n) => rig.podSandbox(rig.pod({ uid: `${n}` })));
  await hold.arrived(50);
  t.same(await gauge(rig, 'holdfast_admission_limit'), { '': '+Inf' });
  hold.release();
  await Promise.all(asked);
});

t.test('the limit goes down when a creation was late, and metrics and log say so', async (t) => {
  const rig = await Rig.start(t, {
    config: { startCreations: 4, maxCreations: 4, maxHung: 0 },
    readPressure: () => ({ avg10: 12.5, stalledMs: Number.POSITIVE_INFINITY }),
  });
  t.same(await gauge(rig, 'holdfast_admission_limit'), { '': '4' });
  const hold = rig.runtime.hold('runPodSandbox');
  const requests = [1, 2, 3, 4, 5].map((n) => rig.pod({ uid: `${n}` }).runPodSandboxRequest());
  const asked = requests.map((request) => rig.client.call('RunPodSandbox', request, { deadlineMs: 60_000 }));
  await hold.arrived(4);
  await rig.clock.advance(40_000);
  t.same(await gauge(rig, 'holdfast_admitted'), { '': '4' });
  t.match(await gauge(rig, 'holdfast_pressure_percent'), { '{resource="cpu"}': '12.5' });
  hold.release();
  await Promise.all(asked);
  t.same(await gauge(rig, 'holdfast_admission_limit'), { '': '2' });
  t.match(
    rig.lines.find(({ msg }) => msg === 'admission limit moved'),
    { level: 30, from: 4, to: 2, reason: 'work is late', kind: 'podSandbox' },
  );
  const waited = await gauge(rig, 'holdfast_admission_wait_seconds');
  t.match(waited, {
    '_count{class="podSandbox"}': '5',
    '_bucket{le="0.01",class="podSandbox"}': '4',
    '_bucket{le="60",class="podSandbox"}': '5',
  });
});

t.test('pressure that cannot be read is said once and moves nothing', async (t) => {
  const rig = await Rig.start(t, {
    readPressure: () => {
      throw new Error('no such file');
    },
  });
  for (const uid of ['1', '2', '3']) {
    await rig.podSandbox(rig.pod({ uid }));
    await rig.clock.advance(2_000);
  }
  const said = rig.lines.filter(({ msg }) => String(msg).startsWith('pressure cannot be read'));
  t.same(
    said.map(({ resource }) => resource),
    ['cpu', 'io', 'memory'],
  );
  t.same(await gauge(rig, 'holdfast_pressure_percent'), {});
});

t.test('what keeps failing is held back, and its caller’s deadline is kept', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const run = (options = {}) => rig.client.call('RunPodSandbox', pod.runPodSandboxRequest(), options);
  for (let n = 0; n < 3; n += 1) {
    rig.runtime.failNext('runPodSandbox', { code: status.UNKNOWN, details: 'no network' });
    await t.rejects(run(), { code: status.UNKNOWN, details: 'no network' });
  }
  const impatient = run({ deadlineMs: 500 });
  await rig.step('backing off', 'podSandbox');
  t.same(await gauge(rig, 'holdfast_backing_off'), { '': '1' });
  await t.rejects(impatient, { code: status.DEADLINE_EXCEEDED });
  t.equal(rig.runtime.calls('RunPodSandbox').length, 3);
  const patient = run();
  await rig.step('waiter joined', 'podSandbox');
  await rig.clock.advance(2_000);
  t.equal((await patient).pod_sandbox_id, rig.runtime.sandboxes[0]?.id);
  t.equal(rig.runtime.calls('RunPodSandbox').length, 4);
});

/** How long the deadline of a kubelet's RunPodSandbox is by default, in ms. */
const kubeletMs = 240_000;

/** 16 pod sandboxes are asked for that never get done. */
async function hangingPods(t: Test, config: Partial<HoldfastConfig>, handler = '') {
  const rig = await Rig.start(t, { config });
  const hold = rig.runtime.hold('runPodSandbox', (name) => name.includes('hanging'));
  t.teardown(() => hold.release());
  const run = (uid: string, more: { namespace?: string; annotations?: Record<string, string> } = {}) =>
    rig.client.call('RunPodSandbox', rig.pod({ uid, ...more }).runPodSandboxRequest(handler), {
      deadlineMs: kubeletMs,
    });
  for (let n = 0; n < 16; n++) run(`hanging-${n}`).catch(() => {});
  await rig.step('queued', 'podSandbox', 16);
  await settle();
  return { rig, run };
}

const cases: Readonly<Record<string, readonly [Partial<HoldfastConfig>, string?]>> = {
  'all defaults and no pressure to be read': [{ pressureCpu: 'off', pressureIo: 'off', pressureMemory: 'off' }],
  'a fixed limit': [{ admission: 'fixed', maxCreations: 8 }],
  'a limit of their runtime handler': [{ handlerLimits: [{ handler: 'kata', limit: 8 }] }, 'kata'],
};

for (const [name, [config, handler]] of Object.entries(cases)) {
  t.test(
    `rule 15: 16 pods that hang keep static and critical ones back not at all, others for seconds: ${name}`,
    async (t) => {
      const { rig, run } = await hangingPods(t, config, handler);
      await run('proxy', { annotations: { 'kubernetes.io/config.source': 'file' } });
      await run('dns', { namespace: 'kube-system' });
      const healthy = run('healthy');
      await rig.step('queued', 'podSandbox', 19);
      await rig.clock.advance(9_000);
      t.match(await healthy, { pod_sandbox_id: /./ });
      t.same(await gauge(rig, 'holdfast_hung'), { '': '16' });
      t.match(
        rig.lines.find(({ step, uid }) => step === 'hangs' && uid === 'hanging-0'),
        { level: 30, kind: 'podSandbox', tookMs: /^[24]000$/ },
      );
    },
  );
}

t.test('rule 15: with no more than so much that hangs, the rest waits for as much to end', async (t) => {
  const { rig, run } = await hangingPods(t, { admission: 'fixed', maxCreations: 8, maxHung: 10 });
  const healthy = run('healthy');
  await rig.step('queued', 'podSandbox', 17);
  await rig.clock.advance(9_000);
  t.equal(rig.runtime.calls('RunPodSandbox').length, 17, '10 that hang and 7 that would');
  t.match(await healthy, { pod_sandbox_id: /./ });
});

t.test(
  'rule 15: a queued creation that nobody waits for any more goes after those that somebody waits for',
  async (t) => {
    const rig = await Rig.start(t, { config: { admission: 'fixed', maxCreations: 1, maxHung: 0 } });
    const hold = rig.runtime.hold('runPodSandbox', (name) => name.includes('blocker'));
    const asked = [rig.podSandbox(rig.pod({ uid: 'blocker' }))];
    await hold.arrived();
    const left = new AbortController();
    for (const uid of ['deleted-0', 'deleted-1']) {
      const request = rig.pod({ uid }).runPodSandboxRequest();
      rig.client.call('RunPodSandbox', request, { signal: left.signal }).catch(() => {});
    }
    await rig.step('queued', 'podSandbox', 3);
    for (const uid of ['alive-0', 'alive-1']) asked.push(rig.podSandbox(rig.pod({ uid })));
    await rig.step('queued', 'podSandbox', 5);
    left.abort();
    await rig.step('waiter left', 'podSandbox', 2);
    hold.release();
    await Promise.all(asked);
    await rig.step('started', 'podSandbox', 5);
    const begun = rig.lines.filter(({ step }) => step === 'started').map(({ uid }) => uid);
    t.same(begun, ['blocker', 'alive-0', 'alive-1', 'deleted-0', 'deleted-1']);
  },
);

t.test(
  'a creation that takes far longer than others is cancelled and made anew, and whoever waits waits on',
  async (t) => {
    const rig = await Rig.start(t, { config: { giveUpAfterMs: 60_000 } });
    const hold = rig.runtime.hold('runPodSandbox', (name) => name.includes('hanging'));
    const hanging = rig.podSandbox(rig.pod({ uid: 'hanging' }));
    await hold.arrived();
    await rig.podSandbox(rig.pod({ uid: 'other' }));
    await rig.clock.advance(59_999);
    t.equal(rig.runtime.calls('RunPodSandbox').length, 2);
    await rig.clock.advance(1);
    await rig.step('given up', 'podSandbox');
    hold.release();
    t.equal(await hanging, rig.runtime.sandboxes.at(-1)?.id);
    t.equal(rig.runtime.sandboxes.length, 2);
    t.match(
      rig.lines.find(({ step }) => step === 'given up'),
      { level: 40, uid: 'hanging', tookMs: 60_000, usualMs: 0, times: 1 },
    );
    t.same(await gauge(rig, 'holdfast_given_up_total'), { '{kind="podSandbox"}': '1' });
  },
);

t.test('what no request gets any more is not made anew when it is given up', async (t) => {
  const rig = await Rig.start(t, { config: { giveUpAfterMs: 60_000 } });
  const hold = rig.runtime.hold('runPodSandbox', (name) => name.includes('hanging'));
  const pod = rig.pod({ uid: 'hanging' });
  const hanging = t.rejects(rig.podSandbox(pod));
  await hold.arrived();
  await rig.podSandbox(rig.pod({ uid: 'other' }));
  const next = rig.podSandbox(pod.withAttempt(1));
  await rig.step('superseded', 'podSandbox');
  await rig.clock.advance(60_000);
  await hanging;
  await rig.step('started', 'podSandbox', 3);
  hold.release();
  await next;
  const attempts = rig.lines
    .filter(({ step, uid }) => step === 'started' && uid === 'hanging')
    .map(({ attempt }) => attempt);
  t.same(attempts, [0, 1]);
});
