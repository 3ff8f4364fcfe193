/** The contract, rule 19: what one client does is not at the cost of the others, nor of the runtime. */
import { gzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { ByteBudget } from '../../src/proxy/http2/budgets.js';
import { connectionPreface, Setting } from '../../src/proxy/http2/frames.js';
import { RawPeer } from '../proxy/http2/link-bench.js';
import { okTrailers, type RawRuntime, responseHeaders } from '../proxy/http2/raw-runtime.js';
import { data, headers, message, request, settings } from '../proxy/http2/wire.js';
import { codeOf } from '../support/code-of.js';
import { encodeMessage } from '../support/cri-client.js';
import { settle } from '../support/manual-clock.js';
import { arrival, pathOf, pour, type RawAnswer, RawCaller, rawRig } from '../support/raw-rig.js';
import { Rig } from '../support/rig.js';

const { status } = grpc;
const [KiB, MiB] = [1024, 1024 * 1024];

/** A container that is never made, and whose caller has left: reports are taken. */
async function hideContainer(rig: Rig, runtime: RawRuntime): Promise<void> {
  const leave = new AbortController();
  const asked = rig.pod().createContainerRequest('sandbox', { image: 'app' });
  rig.client.call('CreateContainer', asked, { signal: leave.signal }).catch(() => {});
  await arrival(runtime, 'CreateContainer');
  leave.abort();
  await rig.step('waiter left', 'container');
}

function listOf(bytes: number): Buffer {
  const container = { id: 'shown', annotations: { text: 'x'.repeat(bytes) } };
  return message(encodeMessage('ListContainersResponse', { containers: [container] }));
}

/** @returns The codes that calls of a client end with, with which nothing is wrong. */
async function served(rig: Rig): Promise<(number | undefined)[]> {
  const pod = rig.pod({ uid: crypto.randomUUID(), annotations: { text: 'x'.repeat(64 * KiB) } });
  return [await codeOf(rig.client.call('Version')), await codeOf(rig.podSandbox(pod))];
}

t.test('rule 19: streams that are not read are not read from the runtime, and lose nothing', async (t) => {
  const { rig, runtime } = await rawRig(t);
  await hideContainer(rig, runtime);
  const client = await RawCaller.connect(t, rig, [Setting.initialWindowSize, 0]);
  const all = Buffer.concat(Array<Buffer>(32).fill(listOf(256 * KiB)));
  const streams: { id: number; streamId: number; sent: number }[] = [];
  for (const nth of [1, 2, 3, 4]) {
    const id = client.call('StreamContainers');
    const { connection, request } = await arrival(runtime, 'StreamContainers', nth);
    connection.write(headers(request.streamId, responseHeaders));
    streams.push({ id, streamId: request.streamId, sent: await pour(connection, request.streamId, all) });
  }
  for (const { sent } of streams) t.ok(sent < 2 * MiB, `the runtime has got rid of ${sent} of ${all.length} bytes`);

  const listed = rig.listed();
  const { connection, request: list } = await arrival(runtime, 'ListContainers');
  connection.answer(list.streamId, Buffer.alloc(0));
  t.strictSame(await listed, [], 'who reads is answered meanwhile');

  const [first] = streams;
  if (first === undefined) throw new Error('no stream');
  client.grant(0, 2 * all.length);
  client.grant(first.id, 2 * all.length);
  while (first.sent < all.length) first.sent += await pour(connection, first.streamId, all.subarray(first.sent));
  connection.write(headers(first.streamId, okTrailers, true));
  const { fields, body } = await client.answer(first.id);
  t.equal(fields['grpc-status'], '0');
  t.ok(body.equals(all), 'what the runtime sent, to the byte');
});

t.test('rule 19: a subscription that is given up downstream is given up at the runtime', async (t) => {
  const { rig, runtime } = await rawRig(t);
  const client = await RawCaller.connect(t, rig, [Setting.initialWindowSize, 0]);
  const id = client.call('GetContainerEvents');
  const { connection, request: subscription } = await arrival(runtime, 'GetContainerEvents');
  connection.write(headers(subscription.streamId, responseHeaders));
  const event = encodeMessage('ContainerEventResponse', { container_id: 'x'.repeat(512 * KiB) });
  const many = Buffer.concat(Array<Buffer>(4).fill(message(event)));
  let sent = 0;
  // Holdfast reads it all the while: a subscriber that does not read blocks the creations of a runtime.
  while (subscription.reset === undefined) sent += await pour(connection, subscription.streamId, many);
  t.ok(sent > 16 * MiB && sent < 20 * MiB, `${sent} bytes were kept for it`);
  client.grant(0, 2 * sent);
  client.grant(id, 2 * sent);
  t.equal((await client.answer(id)).fields['grpc-status'], `${status.RESOURCE_EXHAUSTED}`);
});

for (const method of ['GetContainerEvents', 'StreamContainers', 'ListContainers']) {
  t.test(`rule 19: ${method} ends at the runtime with its deadline, its cancel and its connection`, async (t) => {
    const { rig, runtime } = await rawRig(t);
    await hideContainer(rig, runtime);
    const ask = async (nth: number, extra: Readonly<Record<string, string>> = {}) => {
      const client = await RawCaller.connect(t, rig);
      const id = client.call(method, Buffer.alloc(0), extra);
      const { request: seen } = await arrival(runtime, method, nth);
      const ended = async () => {
        while (seen.reset === undefined) await settle();
        return seen.reset;
      };
      return { client, id, ended };
    };
    const cancel = 8;
    const late = await ask(1, { 'grpc-timeout': '60S' });
    await rig.clock.advance(60_000);
    t.equal((await late.client.answer(late.id)).fields['grpc-status'], `${status.DEADLINE_EXCEEDED}`);
    t.equal(await late.ended(), cancel);
    const cancelled = await ask(2);
    cancelled.client.reset(cancelled.id);
    t.equal(await cancelled.ended(), cancel);
    const lost = await ask(3);
    lost.client.peer.destroy();
    t.equal(await lost.ended(), cancel);
  });
}

t.test('rule 19: half requests of 300 connections cost others nothing, and end', async (t) => {
  const rig = await Rig.start(t, { maxConnections: 500, budgets: { requests: new ByteBudget(4 * MiB) } });
  const half = message(Buffer.alloc(40 * KiB)).subarray(0, 20 * KiB);
  const hoard = async () => {
    const peer = await RawPeer.connect(t, rig.config.listen);
    peer.send(connectionPreface, settings(), request(1, pathOf('RunPodSandbox')), data(1, half.subarray(0, 16 * KiB)));
    peer.send(data(1, half.subarray(16 * KiB)));
    await peer.until(/^windowUpdate 1 4096$|^headers 1 end$/);
    return peer;
  };
  const peers: RawPeer[] = [];
  for (let round = 0; round < 6; round++) {
    peers.push(...(await Promise.all(Array.from({ length: 50 }, hoard))));
    // What may have been sent in one go is left alone.
    await rig.clock.advance(1_000);
    t.strictSame(await served(rig), [status.OK, status.OK], `beside ${peers.length}`);
  }
  await rig.clock.advance(20_000);
  await Promise.all(peers.map((peer) => peer.until('rstStream 1 0')));
  t.strictSame(await served(rig), [status.OK, status.OK], 'after');
  t.equal(rig.lines.filter(({ msg }) => msg === 'connection evicted').length, 0);
});

t.test('rule 19: requests that swell are bounded by what they become, and cost others nothing', async (t) => {
  const rig = await Rig.start(t, { budgets: { requests: new ByteBudget(16 * MiB) } });
  // Lists are taken while it is hidden.
  await rig.heldContainer(rig.pod(), await rig.podSandbox(rig.pod()));
  const hold = rig.runtime.hold('listContainers');
  const filter = { label_selector: { text: 'x'.repeat(4 * MiB) } };
  const bomb = gzipSync(encodeMessage('ListContainersRequest', { filter }));
  t.ok(bomb.length < 8 * KiB);
  let refused = 0;
  const answers: Promise<void>[] = [];
  for (let n = 0; n < 3; n++) {
    const client = await RawCaller.connect(t, rig);
    for (let nth = 0; nth < 8; nth++) {
      const answer = client.answer(client.callCompressed('ListContainers', bomb));
      const note = ({ fields }: RawAnswer) => {
        if (fields['grpc-status'] === `${status.RESOURCE_EXHAUSTED}`) refused += 1;
      };
      answers.push(answer.then(note));
    }
  }
  const passed = () => rig.runtime.calls('ListContainers').length;
  const codes = new Set<number | undefined>();
  while (refused + passed() < answers.length) for (const code of await served(rig)) codes.add(code);
  t.strictSame([...codes], [status.OK]);
  t.ok(passed() > 0 && passed() * 4 <= 16, `${passed()} of 4 MiB fit into 16 MiB`);
  hold.release();
  await Promise.all(answers);
});
