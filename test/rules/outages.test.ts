/** The contract, rules 16 and 17: Holdfast and the runtime come and go. */

import { createServer } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { goAway } from '../proxy/http2/wire.js';
import { codeOf } from '../support/code-of.js';
import { settle } from '../support/manual-clock.js';
import { arrival, rawRig } from '../support/raw-rig.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;

const isThere = 'the runtime is there';
const isAbsent = 'the runtime is not there: calls wait for it';
const absent = (error: string) => ({ msg: isAbsent, error });
const stillAbsent = (absentMs: number) => ({ msg: 'the runtime is still not there: calls wait for it', absentMs });

/** What the log has said of the runtime's presence. */
function told({ lines, config }: Rig): unknown[] {
  const own = new Set(['level', 'time', 'pid', 'hostname', 'runtime']);
  return lines
    .filter(({ msg, runtime }) => String(msg).startsWith('the runtime is') && runtime === config.runtime)
    .map((line) => Object.fromEntries(Object.entries(line).filter(([name]) => !own.has(name))));
}

/** Lets a second pass, within which the runtime is found for the `nth` time. */
async function found(rig: Rig, nth: number): Promise<void> {
  const times = () => rig.lines.filter(({ msg }) => msg === isThere).length;
  await rig.clock.advance(1_000);
  while (times() < nth) await settle();
}

t.test('rule 16: a Holdfast without any memory of them serves the same pods', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  const podSandboxId = await rig.podSandbox(pod);
  await rig.heldContainer(pod, podSandboxId);
  // As if it had not been asked to end.
  rig.runtime.failNext('removeContainer', { code: status.UNAVAILABLE, details: 'busy' });
  await rig.holdfast?.close();
  await rig.startHoldfast();
  t.equal((await rig.listed()).length, 1, 'what was hidden is seen, as without Holdfast');
  const next = pod.createContainerRequest(podSandboxId, { image: 'app', attempt: 1 });
  const { container_id } = await rig.client.call('CreateContainer', next);
  t.equal(await codeOf(rig.client.call('StartContainer', { container_id })), status.OK);
});

t.test(
  'rule 17: while the runtime is absent clients are connected, their calls wait, and the log says so',
  async (t) => {
    const rig = await Rig.start(t, { runtimeUp: false });
    await rig.client.waitForReady(10_000);
    const version = rig.client.call('Version');
    const made = rig.podSandbox(rig.pod());
    await rig.step('queued', 'podSandbox');
    t.strictSame(told(rig), [absent('ENOENT')], 'at once');
    await rig.clock.advance(29_999);
    t.equal(told(rig).length, 1);
    await rig.clock.advance(30_001);
    t.strictSame(told(rig).slice(1), [stillAbsent(30_000), stillAbsent(60_000)], 'every half minute');
    await rig.runtime.listen();
    await found(rig, 1);
    t.equal((await version).version, '0.1.0');
    t.equal(await made, rig.runtime.sandboxes[0]?.id);
    await rig.clock.advance(120_000);
    t.equal(told(rig).length, 4, 'and no more once it is there');
  },
);

t.test('rule 17: a runtime that goes and comes back is noticed where nobody asks for anything', async (t) => {
  const rig = await Rig.start(t);
  await rig.logged(({ msg }) => msg === isThere);
  await rig.runtime.kill();
  await rig.logged(({ msg }) => msg === isAbsent);
  t.strictSame(told(rig).slice(1), [absent('ENOENT')]);
  await rig.clock.advance(30_000);
  await rig.runtime.listen();
  await found(rig, 2);
  t.match(told(rig).slice(2), [stillAbsent(30_000), { msg: isThere }]);
  t.equal(rig.lines.filter(({ msg }) => msg === 'connection opened').length, 0);
});

t.test('rule 17: a client of HTTP/1 that has said its last waits for the runtime too', async (t) => {
  const rig = await Rig.start(t, { runtimeUp: false });
  await rig.logged(({ msg }) => msg === isAbsent);
  const socket = connect({ path: rig.config.listen, allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  socket.end('GET /info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  await rig.logged(({ msg }) => msg === 'connection opened');
  await rig.clock.advance(10_000);
  const server = createServer((_asked, answer) => answer.end('{"storage_driver":"overlay"}'));
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(rig.config.runtime, resolve));
  await found(rig, 1);
  t.match(await text(socket), /^HTTP\/1.1 200 OK(.|\r|\n)*\{"storage_driver":"overlay"\}/);
});

t.test('rule 17: a runtime that stops gracefully answers who waits, and then the next one is found', async (t) => {
  const { rig, runtime } = await rawRig(t);
  const pod = rig.pod();
  const waiting = [
    rig.client.call('RunPodSandbox', pod.runPodSandboxRequest()),
    rig.client.call('CreateContainer', pod.createContainerRequest('sandbox', { image: 'app' })),
  ];
  const methods = ['RunPodSandbox', 'CreateContainer'];
  const arrived = await Promise.all(methods.map((method) => arrival(runtime, method)));
  // grpc-go's GracefulStop: two GOAWAYs, and connections without a stream are closed at once.
  for (const { peer, requests } of runtime.connections) {
    peer.write(goAway(0x7fffffff), goAway(requests.at(-1)?.streamId ?? 0));
    if (requests.length === 0) peer.end();
  }
  await Promise.all(runtime.connections.filter(({ requests }) => requests.length === 0).map(({ peer }) => peer.closed));
  for (const { connection, request } of arrived) connection.answer(request.streamId, '\n\x04made');
  t.match(await Promise.all(waiting), [{ pod_sandbox_id: 'made' }, { container_id: 'made' }]);
  await runtime.stop();
  await rig.runtime.listen();
  await found(rig, 2);
  t.equal((await rig.client.call('Version')).version, '0.1.0');
  t.equal(await rig.podSandbox(rig.pod({ uid: 'uid-2' })), rig.runtime.sandboxes[0]?.id);
});

t.test(
  'rule 17: calls in flight end UNAVAILABLE when the runtime dies, and it is found again within a second',
  async (t) => {
    const rig = await Rig.start(t);
    const pod = rig.pod();
    const hold = rig.runtime.hold('runPodSandbox');
    const creation = codeOf(rig.podSandbox(pod));
    const status1 = rig.runtime.hold('status');
    const passed = codeOf(rig.client.call('Status'));
    await Promise.all([hold.arrived(), status1.arrived()]);
    await rig.runtime.kill();
    t.same(await Promise.all([creation, passed]), [status.UNAVAILABLE, status.UNAVAILABLE]);
    hold.release();
    status1.release();
    await rig.runtime.listen();
    let again: string | undefined;
    // As a kubelet does: what containerd has left half-made and NOTREADY is followed by the next attempt, and what was still sent on
    // the connection that is going down is asked again.
    for (let tries = 0; again === undefined && tries < 10; tries++) {
      const asked = rig.podSandbox(pod.withAttempt(1)).catch(() => undefined);
      await rig.clock.advance(1_000);
      again = await asked;
    }
    t.match(rig.runtime.sandboxes, [{ state: 'SANDBOX_NOTREADY' }, { id: again, state: 'SANDBOX_READY' }]);
  },
);
