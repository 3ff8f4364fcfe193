import { existsSync } from 'node:fs';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import { ManualClock } from '../../support/manual-clock.js';
import { bench, create, failure, leavable, runPod } from '../support.js';

t.test('a repeat of something finished is answered with its id', async (t) => {
  const it = await bench(t, { profile: 'crio-store' });
  const web = it.pod();
  const sandboxId = await runPod(it, web);
  t.equal(await runPod(it, web), sandboxId);
  t.equal(await create(it, web, sandboxId), await create(it, web, sandboxId));
  t.equal(it.runtime.made.sandboxes.length, 1);
  t.equal(it.runtime.made.containers.length, 1);
});

t.test('a creation goes on when its caller leaves, and stays hidden until the retry', async (t) => {
  const it = await bench(t, { profile: 'crio-store' });
  const { runtime, client, pod } = it;
  const web = pod({ uid: 'u1' });
  const working = runtime.hold('runPodSandbox');
  const { leave } = leavable((signal) => client.call('RunPodSandbox', web.runPodSandboxRequest(), { signal }));
  await working.arrived();
  await leave();
  await client.call('Version');
  working.release();
  t.same(await client.call('ListPodSandbox'), { items: [] });
  const id = runtime.made.sandboxes[0]?.id ?? '';
  t.match(runtime.made.sandboxes, [{ name: 'k8s_web-0_default_u1_0', outcome: 'finished', callerLeft: true }]);
  t.match(await failure(client.call('PodSandboxStatus', { pod_sandbox_id: id })), { code: status.NOT_FOUND });
  t.equal(await runPod(it, web), id);
  t.match((await client.call('ListPodSandbox')).items, [{ id, state: 'SANDBOX_READY' }]);
});

t.test('a retry of a running creation stalls, even past its end, until its own deadline', async (t) => {
  const it = await bench(t, { profile: 'crio-store' });
  const { runtime, client, pod } = it;
  const web = pod();
  const working = runtime.hold('runPodSandbox');
  const first = runPod(it, web);
  await working.arrived();
  const retry = failure(client.call('RunPodSandbox', web.runPodSandboxRequest(), { deadlineMs: 50 }));
  await client.call('Version');
  working.release();
  const id = await first;
  t.match(await retry, { code: status.DEADLINE_EXCEEDED });
  t.equal(await runPod(it, web), id);
  t.equal(runtime.made.sandboxes.length, 1);
});

t.test('a retry without a deadline stalls for four minutes', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { profile: 'crio-store', clock });
  const { runtime, client, pod } = it;
  const web = pod();
  const working = runtime.hold('runPodSandbox');
  const first = runPod(it, web);
  await working.arrived();
  let over = false;
  const retry = failure(runPod(it, web)).finally(() => {
    over = true;
  });
  await client.call('Version');
  await clock.advance(4 * 60_000 - 1);
  await client.call('Version');
  t.notOk(over);
  await clock.advance(1);
  t.match(await retry, { details: /kubelet may be retrying requests .*: name is reserved/ });
  working.release();
  await first;
});

t.test('what nobody comes back for is dropped by the second tick of a minute, and its name is free', async (t) => {
  const clock = new ManualClock();
  const it = await bench(t, { profile: 'crio-store', clock });
  const { runtime, client, pod } = it;
  const web = pod();
  await clock.advance(10_000);
  const working = runtime.hold('runPodSandbox');
  const { leave } = leavable((signal) => client.call('RunPodSandbox', web.runPodSandboxRequest(), { signal }));
  await working.arrived();
  await leave();
  await client.call('Version');
  working.release();
  await client.call('Version');
  await clock.advance(109_999);
  t.equal(runtime.sandboxes.length, 1);
  await clock.advance(1);
  t.same(runtime.sandboxes, []);
  t.same(runtime.reservedNames, []);
});

t.test('the log file is there right from the start of CreateContainer, and gone if it fails', async (t) => {
  const it = await bench(t, { profile: 'crio-store' });
  const { runtime, pod } = it;
  const web = pod();
  const sandboxId = await runPod(it, web);
  const working = runtime.hold('createContainer');
  runtime.failNext('createContainer', { code: status.UNKNOWN, details: 'no' });
  const failing = failure(create(it, web, sandboxId));
  await working.arrived();
  const logFile = path.join(web.logDirectory, 'app', '0.log');
  t.ok(existsSync(logFile));
  working.release();
  t.same(await failing, { code: status.UNKNOWN, details: 'no' });
  t.notOk(existsSync(logFile));
  await create(it, web, sandboxId);
  t.ok(existsSync(logFile));
});

t.test('StopPodSandbox of an unknown sandbox succeeds', async (t) => {
  const { client } = await bench(t, { profile: 'crio-store' });
  t.same(await client.call('StopPodSandbox', { pod_sandbox_id: 'abc' }), {});
});

t.test('a start goes on when its caller leaves', async (t) => {
  const it = await bench(t, { profile: 'crio-store' });
  const { runtime, client, pod } = it;
  const web = pod();
  const id = await create(it, web, await runPod(it, web));
  const starting = runtime.hold('startContainer');
  const { leave } = leavable((signal) => client.call('StartContainer', { container_id: id }, { signal }));
  await starting.arrived();
  await leave();
  await client.call('Version');
  starting.release();
  t.match(await client.call('ContainerStatus', { container_id: id }), { status: { state: 'CONTAINER_RUNNING' } });
});

t.test('before the resource store, what is late is removed once it is done, and refused until then', async (t) => {
  const it = await bench(t, { profile: 'crio-remove' });
  const { runtime, client, pod } = it;
  const web = pod({ uid: 'u1' });
  const sandboxId = await runPod(it, web);
  const request = web.createContainerRequest(sandboxId, { image: 'i' });
  const retry = () => failure(client.call('CreateContainer', request));
  const refused = {
    code: status.UNKNOWN,
    details: /^error reserving ctr name k8s_app_web-0_default_u1_0 for id [0-9a-f]{64}: name is reserved$/,
  };
  const working = runtime.hold('createContainer');
  const removing = runtime.hold('rollback');
  const { leave } = leavable((signal) => client.call('CreateContainer', request, { signal }));
  await working.arrived();
  await leave();
  t.match(await retry(), refused, 'while it is made');
  t.match(runtime.made.containers, [{ outcome: 'under way', callerLeft: true }]);
  t.ok(existsSync(path.join(web.logDirectory, 'app', '0.log')));
  working.release();
  await removing.arrived();
  t.match(await retry(), refused, 'while it is removed');
  t.same(await client.call('ListContainers'), { containers: [] });
  removing.release();
  await client.call('Version');
  t.match(runtime.made.containers, [{ outcome: 'rolled back' }]);
  t.notOk(existsSync(path.join(web.logDirectory, 'app', '0.log')));
  t.type(await create(it, web, sandboxId), 'string');
});

t.test('before the resource store, a repeat of something finished is refused, too', async (t) => {
  const it = await bench(t, { profile: 'crio-remove' });
  const web = it.pod({ uid: 'u1' });
  await runPod(it, web);
  t.match(await failure(runPod(it, web)), { details: /^error reserving pod name k8s_web-0_default_u1_0 for id / });
});
