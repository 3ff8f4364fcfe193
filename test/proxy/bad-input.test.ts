/** What Holdfast does with requests and answers that are not as they should be. */
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { counted } from '../support/counted.js';
import { encodeMessage } from '../support/cri-client.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;
const runPodSandbox = '/runtime.v1.RuntimeService/RunPodSandbox';

for (const [what, bytes] of [
  ['malformed protobuf', Buffer.from([0x0a, 0xff, 0x01, 0x02])],
  ['a request without metadata', encodeMessage('RunPodSandboxRequest', { config: { hostname: 'h' } })],
  ['an empty request', Buffer.alloc(0)],
] as const) {
  t.test(`${what} in a creation is the runtime’s to judge`, async (t) => {
    const rig = await Rig.start(t);
    const ask = (client: typeof rig.client) =>
      client.callRaw(runPodSandbox, bytes).then(
        () => t.fail('accepted'),
        ({ code, details }: grpc.ServiceError) => ({ code, details }),
      );
    t.same(await ask(rig.client), await ask(rig.direct));
    t.ok(rig.runtime.calls('RunPodSandbox')[0]?.request.equals(bytes));
    t.equal((await rig.client.call('Version')).version, '0.1.0', 'and Holdfast goes on');
  });
}

t.test('an answer with an empty id is an error to the waiter, and nothing is held', async (t) => {
  const rig = await Rig.start(t);
  const pod = rig.pod();
  rig.runtime.answerNext('runPodSandbox', { message: Buffer.alloc(0) });
  await t.rejects(rig.podSandbox(pod), { code: status.INTERNAL, details: /empty id/ });
  t.equal(await rig.podSandbox(pod), rig.runtime.sandboxes[0]?.id);
});

t.test('a runtime that never answers ends at the creation timeout, told to the waiter and counted', async (t) => {
  const rig = await Rig.start(t);
  rig.runtime.answerNext('runPodSandbox', { hang: true });
  const rejected = t.rejects(rig.podSandbox(rig.pod()), {
    code: status.DEADLINE_EXCEEDED,
    details: /creation-timeout/,
  });
  await rig.step('started', 'podSandbox');
  await rig.clock.advance(rig.config.creationTimeoutMs);
  await rejected;
  const [timedOut] = await counted(rig.metrics.creations);
  t.match(timedOut, { labels: { outcome: 'timed out' }, value: 1 });
});

t.test('an error text of 20,000 bytes and its details arrive whole', async (t) => {
  const rig = await Rig.start(t);
  const details = 'ü'.repeat(10_000);
  const trailers = new grpc.Metadata();
  trailers.set('grpc-status-details-bin', Buffer.alloc(15_000, 7));
  rig.runtime.failNext('runPodSandbox', { code: status.UNKNOWN, details, trailers });
  const error: grpc.ServiceError = await rig.podSandbox(rig.pod()).then(
    () => t.fail('no error'),
    (reason) => reason,
  );
  t.equal(error.details, details);
  t.same(error.metadata.get('grpc-status-details-bin'), [Buffer.alloc(15_000, 7)]);
});
