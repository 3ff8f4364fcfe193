/** What a core tells of itself, and forgets. */
import t from 'tap';
import { GrpcCode } from '../../src/proxy/grpc-code.js';
import { UpstreamStatusError } from '../../src/proxy/upstream.js';
import { encodeMessage } from '../support/cri-client.js';
import {
  containerMade,
  createContainer,
  heldContainer,
  passed,
  podSandboxMade,
  runPodSandbox,
  setUp,
  withId,
} from './core-rig.js';

const ready = encodeMessage('PodSandboxStatusResponse', { status: { id: 's1', state: 'SANDBOX_READY' } });
const created = encodeMessage('ContainerStatusResponse', { status: { id: 'c1', state: 'CONTAINER_CREATED' } });

t.test('creations and starts are told, what somebody has only where it is asked for', async (t) => {
  const rig = setUp();
  const { inspection, take, last } = rig;
  t.same(inspection.creations(true), { creations: [], deliveredLeftOut: 0 });
  const made = take('RunPodSandbox', runPodSandbox('uid'));
  await passed();
  await last('RunPodSandbox').answer(podSandboxMade('s1'));
  await made.done;
  take('CreateContainer', createContainer());
  take('StartContainer', withId('c0'));
  await passed();
  t.match(inspection.creations(false).creations, [
    { kind: 'container', pod: 'web', container: 'app', state: 'running', waiters: 1 },
    { kind: 'start', id: 'c0', state: 'queued' },
  ]);
  const other = take('RunPodSandbox', runPodSandbox('other'));
  await passed();
  await last('RunPodSandbox').answer(podSandboxMade('s2'));
  await other.done;
  t.equal(inspection.creations(false).deliveredLeftOut, 1);
  t.match(
    inspection
      .creations(true)
      .creations.map(({ state }) => state)
      .sort(),
    ['delivered', 'queued', 'running'],
  );
  t.equal(inspection.summary().creations.remembered, 2, 'one of them is answered');
});

t.test('the summary says what the admission, the stores and the kubelet are at', async (t) => {
  const { inspection, take, handlers, clock } = setUp({ admission: 'fixed', maxCreations: 1 });
  for (const uid of ['a', 'b']) take('RunPodSandbox', runPodSandbox(uid));
  await passed();
  for (const method of ['Status', 'ListContainers']) handlers.decide(`/runtime.v1.RuntimeService/${method}`);
  await clock.advance(500);
  t.same(inspection.summary(), {
    admission: {
      limit: 1,
      inFlight: 1,
      hung: 0,
      queued: { static: 0, critical: 0, start: 0, container: 0, podSandbox: 1 },
      pressurePercent: {},
    },
    creations: { remembered: 2, hidden: 0, backingOff: 0, wedged: 0 },
    kubelet: { status: { calls: 1, lastAgoMs: 500 }, lists: { calls: 1, lastAgoMs: 500 } },
  });
  t.equal(setUp({ admission: 'off' }).inspection.summary().admission.limit, null);
});

t.test('what is to be forgotten is chosen by all that is named, and written to the log', async (t) => {
  const rig = setUp();
  const { inspection, lines, take } = rig;
  await heldContainer(rig);
  for (const wanted of [
    { uid: 'other' },
    { namespace: 'x', pod: 'web' },
    { uid: 'uid', container: 'b' },
    { pod: 'w' },
  ]) {
    t.same(inspection.forget(wanted), [], JSON.stringify(wanted));
  }
  t.match(inspection.forget({ namespace: 'default', pod: 'web', uid: 'uid', container: 'app' }), [
    { container: 'app', state: 'held', outcome: 'done' },
  ]);
  t.match(lines.at(-1), { level: 40, container: 'app', outcome: 'done', msg: 'an operator asked to forget' });
  take('StartContainer', withId('c9'));
  await passed();
  t.same(inspection.forget({ uid: 'other' }), [], 'nor what a start is of, which nobody knows yet');
  const labels = {
    'io.kubernetes.pod.name': 'web',
    'io.kubernetes.pod.namespace': 'default',
    'io.kubernetes.pod.uid': 'uid',
  };
  const container = { id: 'c9', pod_sandbox_id: 's1', metadata: { name: 'app', attempt: 0 }, labels };
  await rig.last('ListContainers').answer(encodeMessage('ListContainersResponse', { containers: [container] }));
  await passed();
  t.match(inspection.forget({ uid: 'uid', container: 'app' }).at(-1), {
    kind: 'start',
    state: 'running',
    outcome: 'refused',
  });
  t.same(inspection.forget({ uid: 'uid', container: 'other' }), []);
});

t.test('what failed is told once, with its creation or without', async (t) => {
  const rig = setUp();
  const { inspection, take, last } = rig;
  const asked = take('RunPodSandbox', runPodSandbox());
  await passed();
  // A runtime that does not say what it has made.
  await last('RunPodSandbox').answer(podSandboxMade(''));
  await asked.done;
  t.match(inspection.creations(false).creations, [{ state: 'failing', failures: { count: 1 }, lastError: /empty id/ }]);
  take('RunPodSandbox', runPodSandbox());
  await passed();
  t.match(inspection.creations(false).creations, [{ state: 'running', failures: { count: 1 } }]);
  take('CreateContainer', createContainer());
  await passed();
  await last('CreateContainer').answer(containerMade(''));
  await passed();
  t.same(
    inspection.creations(false).creations.map(({ kind, state }) => `${kind} ${state}`),
    ['podSandbox running', 'container failing'],
  );
});

t.test('what could not be removed is told until it is forgotten', async (t) => {
  const rig = setUp();
  const { inspection, clock, last } = rig;
  await heldContainer(rig);
  inspection.forget({ uid: 'uid' });
  const refusal = new UpstreamStatusError({ code: GrpcCode.unknown, message: 'device busy', trailers: [] });
  for (const pauseMs of [1_000, 2_000, 4_000, 8_000, 0]) {
    await passed();
    await last('PodSandboxStatus').answer(ready);
    await last('ContainerStatus').answer(created);
    await last('RemoveContainer').fail(refusal);
    await clock.advance(pauseMs);
  }
  t.match(inspection.creations(false).creations, [
    { kind: 'container', container: 'app', id: 'c1', state: 'removal given up', lastError: 'device busy' },
  ]);
  inspection.forget({ uid: 'uid' });
  t.same(inspection.creations(false).creations, []);
});
