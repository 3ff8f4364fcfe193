/** Facts of src/harness/kubelet/facts.ts from 34 on: how pods begin, end and come back, on a scripted node. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { RestartPolicy } from '../../src/harness/kubelet/pod.js';
import { eachIsShown, fact } from './fact.js';
import { begin, type Call, neverComes, plan, type ScriptedNode } from './scripted-node.js';

/** What was made, with its attempt. */
const made = (node: ScriptedNode) =>
  node.of('CreateContainer').map(({ request }) => `${request.config.metadata.name} ${request.config.metadata.attempt}`);
const attempts = (calls: readonly Call[]) => calls.map(({ request }) => request.config.metadata.attempt);
const pods = (more: Parameters<typeof plan>[1]) => [plan('web', more), neverComes];
const second = 1_000;
const policies: readonly RestartPolicy[] = ['Always', 'OnFailure', 'Never'];

fact(34, async (t) => {
  const node = await begin(t, { pods: pods({ initContainers: ['first', 'second'], containers: ['a', 'b'] }) });
  await node.clock.advance(3 * second);
  t.same(made(node), ['first 0'], 'while it runs');
  node.end(node.named('first')[0], 0);
  await node.clock.advance(3 * second);
  t.same(made(node), ['first 0', 'second 0']);
  node.end(node.named('second')[0], 0);
  await node.clock.advance(3 * second);
  t.same(made(node), ['first 0', 'second 0', 'a 0', 'b 0']);
});

fact(35, async (t) => {
  for (const restartPolicy of policies) {
    const node = await begin(t, { pods: pods({ initContainers: ['init'], restartPolicy }) });
    node.end(node.named('init')[0], 1);
    await node.clock.advance(3 * second);
    t.same(made(node), restartPolicy === 'Never' ? ['init 0'] : ['init 0', 'init 1'], restartPolicy);
    t.equal(node.of('StopPodSandbox').length, restartPolicy === 'Never' ? 1 : 0, restartPolicy);
  }
  const node = await begin(t, { pods: pods({ initContainers: ['init'], restartPolicy: 'Never' }) });
  Object.assign(node.named('init')[0] ?? {}, { state: 'CONTAINER_UNKNOWN' });
  await node.clock.advance(3 * second);
  t.same(made(node), ['init 0'], 'one of which nothing is known has failed, too');
});

fact(36, async (t) => {
  for (const restartPolicy of policies) {
    const node = await begin(t, { pods: pods({ initContainers: ['first', 'second'], restartPolicy }) }, (node) =>
      node.hang('StartContainer'),
    );
    await node.clock.advance(6 * second);
    t.same(made(node), ['first 0', 'first 1'], restartPolicy);
  }
});

fact(37, async (t) => {
  const node = await begin(t, { pods: pods({ initContainers: ['init'], containers: ['a', 'b'] }) });
  node.end(node.named('init')[0], 0);
  await node.clock.advance(2 * second);
  node.containers.delete(node.named('init')[0]?.id ?? '');
  node.end(node.named('b')[0], 1);
  await node.clock.advance(2 * second);
  t.same(made(node), ['init 0', 'a 0', 'b 0', 'b 1']);
  for (const name of ['a', 'b']) node.end(node.named(name)[0], 1);
  await node.clock.advance(2 * second);
  t.same(made(node).slice(4), ['init 0'], 'it is run again once none does');
});

fact(38, async (t) => {
  const node = await begin(t, { pods: pods({ initContainers: ['first', 'second'] }) }, (node) =>
    node.fail('CreateContainer', 2, 'no'),
  );
  await node.clock.advance(5 * second);
  t.same([...new Set(made(node))], ['first 0']);
});

fact(39, async (t) => {
  const node = await begin(t, { pods: pods({ initContainers: ['init'] }), backoffMs: [second, second] });
  const logs = path.join(node.of('RunPodSandbox')[0]?.request.config.log_directory ?? '', 'init');
  const life = async (code: number) => {
    node.end(node.named('init')[0], code);
    writeFileSync(path.join(logs, `${node.named('init')[0]?.metadata.attempt}.log`), '');
    await node.clock.advance(15 * second);
  };
  await life(1);
  await life(1);
  t.same(made(node), ['init 0', 'init 1', 'init 2']);
  const removed = () => node.of('RemoveContainer').map(({ request }) => request.container_id);
  const [id0, id1, id2] = node.of('StartContainer').map(({ request }) => request.container_id);
  t.same(removed(), [id0]);
  t.same(
    [0, 1].map((n) => existsSync(path.join(logs, `${n}.log`))),
    [false, true],
  );
  for (const sandbox of node.sandboxes.values()) sandbox.state = 'SANDBOX_NOTREADY';
  await life(0);
  t.same(removed(), [id0, id2, id1], 'for a new sandbox');
  t.equal(made(node).length, 4);
  t.same(attempts(node.of('RunPodSandbox')), [0, 1]);
});

fact(40, async (t) => {
  const followed = {
    Always: ['a 1', 'b 1', 'c 1'],
    OnFailure: ['b 1', 'c 1'],
    Never: ['c 1'],
  };
  for (const restartPolicy of policies) {
    const node = await begin(t, { pods: pods({ containers: ['a', 'b', 'c', 'd'], restartPolicy }) });
    node.end(node.named('a')[0], 0);
    node.end(node.named('b')[0], 1);
    Object.assign(node.named('c')[0] ?? {}, { state: 'CONTAINER_CREATED' });
    await node.clock.advance(2 * second);
    t.same(made(node).slice(4), followed[restartPolicy], restartPolicy);
  }
});

fact(41, async (t) => {
  for (const [restartPolicy, codes, outcome] of [
    ['Never', [0, 0], 'over'],
    ['Never', [1, 0], 'over'],
    ['OnFailure', [0, 0], 'over'],
    ['OnFailure', [1, 0], 'goes on'],
    ['OnFailure', [0, 1], 'goes on'],
    ['Always', [0, 0], 'goes on'],
  ] as const) {
    const what = `${restartPolicy} ${codes}`;
    const node = await begin(t, { pods: pods({ containers: ['a', 'b'], restartPolicy }) });
    node.end(node.named('a')[0], codes[0]);
    await node.clock.advance(second);
    t.equal(node.of('StopPodSandbox').length, 0, `${what}: one still runs`);
    node.end(node.named('b')[0], codes[1]);
    await node.clock.advance(3 * second);
    t.equal(node.of('StopPodSandbox').length, outcome === 'over' ? 1 : 0, what);
    const before = made(node).length;
    await node.clock.advance(100 * second);
    if (outcome === 'over') t.equal(made(node).length, 2, what);
    else t.ok(before > 2, what);
    t.equal(node.of('RunPodSandbox').length, 1, what);
  }
});

fact(42, async (t) => {
  for (const [restartPolicy, isVisible, sandboxes] of [
    ['Always', true, [0, 1]],
    ['Always', false, [0, 1]],
    ['Never', true, [0]],
    ['Never', false, [0, 1]],
  ] as const) {
    const node = await begin(t, { pods: pods({ restartPolicy }) });
    if (!isVisible) node.containers.clear();
    else Object.assign(node.named('app')[0] ?? {}, { state: 'CONTAINER_CREATED' });
    for (const sandbox of node.sandboxes.values()) sandbox.state = 'SANDBOX_NOTREADY';
    await node.clock.advance(30 * second);
    t.same(attempts(node.of('RunPodSandbox')), sandboxes, `${restartPolicy}, ${isVisible ? 'visible' : 'gone'}`);
  }
  const node = await begin(t, { pods: pods({ restartPolicy: 'Never' }) });
  await node.clock.advance(second);
  Object.assign(node.named('app')[0] ?? {}, { state: 'CONTAINER_CREATED' });
  node.sandboxes.clear();
  await node.clock.advance(30 * second);
  t.same(attempts(node.of('RunPodSandbox')), [0, 0], 'attempt 0 may be made again');
});

fact(43, async (t) => {
  const node = await begin(t, { pullMs: 2_500 }, (node) => node.hang('StartContainer'));
  await node.clock.advance(9 * second);
  t.same(node.times('CreateContainer'), [2_500]);
  // The start was given up at 7 s, and the container seen CREATED then.
  node.containers.clear();
  await node.clock.advance(2 * second);
  t.same(node.times('CreateContainer'), [2_500, 9_500]);
  t.same(made(node), ['app 0', 'app 1']);
  const two = await begin(t, { pods: [plan('a'), plan('b'), neverComes], pullMs: 2_500 });
  await two.clock.advance(9 * second);
  t.same(two.times('CreateContainer'), [2_500, 5_000]);
});

fact(44, async (t) => {
  const node = await begin(t, { pullMs: 2_000 });
  await node.clock.advance(second);
  const directory = path.join(node.of('RunPodSandbox')[0]?.request.config.log_directory ?? '', 'app');
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, '4.log'), '');
  await node.clock.advance(second);
  t.same(made(node), ['app 5']);
});

fact(45, async (t) => {
  const more = { deleteMs: 10 * second, returnMs: 20 * second, isStatic: true };
  for (const isVisible of [false, true]) {
    const node = await begin(t, { pods: pods(more) });
    await node.clock.advance(15 * second);
    t.equal(node.of('StopPodSandbox').length, 1);
    if (!isVisible) {
      node.sandboxes.clear();
      node.containers.clear();
    }
    await node.clock.advance(10 * second);
    t.same(attempts(node.of('RunPodSandbox')), isVisible ? [0, 1] : [0, 0]);
    t.same(made(node), isVisible ? ['app 0', 'app 1'] : ['app 0', 'app 0']);
    const [first, again] = node.of('RunPodSandbox').map(({ request }) => request.config);
    t.equal(again?.metadata.uid, first?.metadata.uid);
    t.ok((node.times('RunPodSandbox')[1] ?? 0) >= 20 * second);
  }
  const slow = await begin(t, { pods: pods({ ...more, returnMs: 12 * second }) }, (node) =>
    node.on('StopPodSandbox', () => node.after(4_400, () => undefined as never)),
  );
  await slow.clock.advance(20 * second);
  t.ok((slow.times('RunPodSandbox')[1] ?? 0) >= 14_400);
});

fact(46, async (t) => {
  const node = await begin(t, { pods: [plan('web', { deleteMs: 5 * second }), plan('other'), neverComes] });
  const [web, other] = node.of('RunPodSandbox').map(({ request }) => request.config.log_directory);
  await node.clock.advance(59 * second);
  t.same(
    [web, other].map((directory) => existsSync(directory ?? '')),
    [true, true],
  );
  await node.clock.advance(second);
  t.same(
    [web, other].map((directory) => existsSync(directory ?? '')),
    [false, true],
  );
});

eachIsShown(34);
