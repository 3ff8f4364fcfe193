/** `holdfast status` and `holdfast forget`, against a running program whose creations are in every state. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { askAdmin } from '../../src/admin/client.js';
import { runForget } from '../../src/admin/forget.js';
import { lookAt } from '../../src/admin/status.js';
import { statusText } from '../../src/admin/status-text.js';
import { asNobody, isRoot } from '../support/as-nobody.js';
import type { CriClient } from '../support/cri-client.js';
import { executable, holdfast, node } from './node.js';

const image = { image: 'app' };
// They wait more than they work.
t.jobs = 3;
/** For a test in which this process is nobody for a moment. */
const alone = { buffered: false };

t.test('what runs, is queued and hangs is explained, with who waits and what comes next', async (t) => {
  const all = await node(t, '--admission=fixed', '--max-creations=1', '--own-places=0');
  const { runtime, ask, pod, until, status } = all;
  const hold = runtime.hold('runPodSandbox');
  ask('RunPodSandbox', pod('slow').runPodSandboxRequest(), { deadlineMs: 600_000 });
  await hold.arrived();
  ask('RunPodSandbox', pod('next').runPodSandboxRequest(), { deadlineMs: 600_000 });
  ask('RunPodSandbox', pod('last').runPodSandboxRequest(), { deadlineMs: 600_000 });
  await until(({ pod: name, state }) => name === 'last' && state === 'queued');
  const early = await status();
  t.match(
    early.stdout,
    /^Holdfast \d+\.\d+\.\d+, up \d+ s, 1 connection\nThe runtime answers\.\nA kubelet: last list never/,
  );
  t.match(early.stdout, /limit 1, 1 in flight, 0 hang, 2 queued \(2 podSandbox\)/);
  t.match(
    early.stdout,
    /default\/slow +pod sandbox +running +\d+ s +1\n +the runtime is still making this pod sandbox after/,
  );
  t.match(early.stdout, /when it ends whoever waits is answered; it is cancelled in [89]\d\d s at the latest/);
  t.match(
    early.stdout,
    /default\/last +pod sandbox +queued +\d+ s +1\n +this pod sandbox has been queued for \d+ s behind 1/,
  );
  t.match(early.stdout, /place: 1 before it, class podSandbox/);
  t.match(early.stdout, /next: it goes when the 1 before it have gone/);
  t.notOk(
    early.stdout.split('\n').some((line) => line.length > 100),
    'it fits 100 columns',
  );
  await until(({ pod: name, hungForMs }) => name === 'slow' && hungForMs !== undefined);
  const late = await status('slow');
  t.equal(late.code, 4);
  t.match(late.stdout, /! default\/slow +pod sandbox +running, hangs/);
  t.notMatch(late.stdout, 'default/last');
  hold.release();
});

t.test('what is held, waits for a removal, for a name, for a pause or for a start is explained', async (t) => {
  const all = await node(t, '--wedge-after=1s');
  const { runtime, ask, pod, until, status, client, direct, admin } = all;

  const web = pod('web');
  const { pod_sandbox_id: sandbox } = await client.call('RunPodSandbox', web.runPodSandboxRequest());
  const making = runtime.hold('createContainer');
  ask('CreateContainer', web.createContainerRequest(sandbox, { ...image, envs: { TOKEN: 's3cr3t-value' } }));
  await making.arrived();
  all.leave();
  await until(({ kind, waiters }) => kind === 'container' && waiters === 0);
  making.release();
  await until(({ state }) => state === 'held');
  const held = await status('default/web');
  t.equal(held.code, 0);
  t.match(held.stdout, /default\/web\/app +container +held +\d+ s +0/);
  t.match(held.stdout, /the next request gets it; without one it is removed in/);

  const removing = runtime.hold('removeContainer');
  const waits = (name: Parameters<CriClient['call']>[0], request: object) => {
    client.call(name, request).catch(() => {});
  };
  waits('CreateContainer', web.createContainerRequest(sandbox, { ...image, hash: 'other' }));
  await removing.arrived();
  const removal = await status('uid-web');
  t.match(
    removal.stdout,
    /default\/web\/app +container +waiting +\d+ s +1\n +the container before it \(.*\) is still to be removed/,
  );
  t.match(removal.stdout, /default\/web\/app +container +doomed/);
  t.match(await holdfast('forget', 'web', '--container=app', '--admin', admin), {
    code: 4,
    stdout:
      /refused: default\/web, container app, attempt 0 \(queued\): it waits for the removal of the one before it\n/,
  });
  removing.release();
  await until(({ kind, state }) => kind === 'container' && state === 'delivered');

  const taken = pod('taken');
  const elsewhere = runtime.hold('runPodSandbox', (name) => name.includes('taken'));
  direct.call('RunPodSandbox', taken.runPodSandboxRequest()).catch(() => {});
  await elsewhere.arrived();
  waits('RunPodSandbox', taken.runPodSandboxRequest());
  await until(({ reserved }) => reserved?.wedged === true);
  const reserved = await status('taken');
  t.equal(reserved.code, 4);
  t.match(reserved.stdout, /! default\/taken +pod sandbox +name reserved/);
  t.match(reserved.stdout, /the runtime has had the name of this pod sandbox reserved/);
  t.match(reserved.stdout, /restart\s+the\s+runtime/);

  const fails = async (name: string) => {
    for (let n = 0; n < 3; n += 1) {
      runtime.failNext('runPodSandbox', { code: 2, details: 'cni plugin not initialized' });
      await t.rejects(client.call('RunPodSandbox', pod(name).runPodSandboxRequest()));
    }
  };
  await fails('failing');
  const failing = await status('failing');
  t.match(failing.stdout, /default\/failing +pod sandbox +failing/);
  t.match(failing.stdout, /it has failed 3 times in a row, and nobody asks for it now/);

  /** The pause is 2 s long: where the machine stands still for as long, it is over. */
  const paused = async (n = 0): Promise<string> => {
    const name = `paused-${n}`;
    await fails(name);
    waits('RunPodSandbox', pod(name).runPodSandboxRequest());
    await until((creation) => creation.pod === name && creation.kind === 'podSandbox' && creation.state !== 'failing');
    const text = statusText(await lookAt({ socket: admin, pod: name }));
    if (!/ paused /.test(text)) return paused(n + 1);
    let told = '';
    const io = { stdout: { write: (line: string) => (told += line) }, stderr: { write: () => {} } };
    const code = await runForget({ socket: admin, pod: name, container: undefined }, io);
    if (!/its pause is over/.test(told)) return paused(n + 1);
    t.equal(code, 0);
    t.match(told, `done: default/${name}, pod sandbox, attempt 0 (queued): its pause is over`);
    await until((creation) => creation.pod === name && creation.state !== 'queued');
    return text;
  };
  const text = await paused();
  t.match(
    text,
    /! default\/paused-\d+ +pod sandbox +paused +\d+ s +1\n +making this pod sandbox has failed 3 times in a/,
  );
  t.match(text, 'last error: cni plugin not initialized');

  const job = pod('job');
  const { pod_sandbox_id: jobSandbox } = await client.call('RunPodSandbox', job.runPodSandboxRequest());
  const { container_id } = await client.call('CreateContainer', job.createContainerRequest(jobSandbox, image));
  const starting = runtime.hold('startContainer');
  const leave = new AbortController();
  client.call('StartContainer', { container_id }, { signal: leave.signal }).catch(() => {});
  await starting.arrived();
  leave.abort();
  await until(({ kind, waiters }) => kind === 'start' && waiters === 0);
  waits('CreateContainer', job.createContainerRequest(jobSandbox, { ...image, attempt: 1 }));
  await until(({ pod: name, attempt, state }) => name === 'job' && attempt === 1 && state === 'queued');
  const start = await status('job');
  t.match(start.stdout, /default\/job\/app +start +running +\d+ s +0/);
  t.match(
    start.stdout,
    /default\/job\/app +container #1 +waiting +\d+ s +1\n +attempt 0 of this container \(.*\) is still being started/,
  );

  const json = await holdfast('status', '--json', '--admin', admin);
  const parsed = JSON.parse(json.stdout);
  t.match(parsed, { holdfast: 'running', exitCode: 4, bypassed: null, summary: { runtimeAnswers: true } });
  t.notMatch((await askAdmin(admin, '/debug/creations?delivered')).text, 's3cr3t-value', 'no value of an environment');
  t.match(await status('nobody'), { code: 5, stdout: /knows nothing of a pod nobody/ });
  t.match(await holdfast('forget', 'nobody', '--admin', admin), {
    code: 5,
    stderr: /there is nothing of a pod nobody/,
  });
  for (const each of [elsewhere, starting]) each.release();
});

t.test('a pipe that is watched gets one look after the other', async (t) => {
  const { admin } = await node(t);
  const watching = spawn(process.execPath, [executable, 'status', '--watch', '--json', '--admin', admin]);
  t.teardown(() => watching.kill('SIGKILL'));
  let text = '';
  const twice = new Promise<void>((resolve) => {
    watching.stdout.on('data', (chunk) => {
      text += chunk;
      if (text.split('\n').length > 2) resolve();
    });
  });
  await twice;
  const exit = once(watching, 'exit');
  watching.kill('SIGTERM');
  t.same(await exit, [0, null]);
  for (const line of text.trim().split('\n')) t.match(JSON.parse(line), { creations: [] });
});

t.test('bypass, nobody at home, and who may not ask are told apart', alone, async (t) => {
  const { admin, directory, kill, status } = await node(t);
  const mark = path.join(directory, 'bypassed');
  t.match(await status(), { code: 0, stdout: /\n\nNothing is queued, running, held or stuck\.\n$/ });
  writeFileSync(mark, '2026-11-28T05:00:00Z it failed three times in a minute\n');
  t.match(await status(), { code: 0, stdout: /^BYPASSED since 2026-11-28T05:00:00Z says the mark/ });
  if (isRoot) {
    chmodSync(directory, 0o755);
    await asNobody(() => t.rejects(askAdmin(admin, '/healthz'), { reason: 'not permitted', message: /--admin-group/ }));
  }
  await kill();
  t.match(await holdfast('status', '--admin', admin), {
    code: 3,
    stdout: /^BYPASSED since 2026-11-28T05:00:00Z: it failed three times in a minute\. The kubelet talks/,
  });
  rmSync(mark);
  t.match(await status(), {
    code: 1,
    stdout: '',
    stderr: /^holdfast: nobody answers at .*: Holdfast is not running\n$/,
  });
  t.match(await status(undefined, true), { code: 1, stdout: /"holdfast": "unknown"/ });
  rmSync(admin);
  t.match(await status('web'), {
    code: 1,
    stderr: /^holdfast: there is no .*: Holdfast is not running, or without --admin/,
  });
  t.match(await holdfast('forget', 'web', '--admin', 'tcp://x'), {
    code: 2,
    stderr: /--admin: "tcp:\/\/x" is not allowed/,
  });
});
