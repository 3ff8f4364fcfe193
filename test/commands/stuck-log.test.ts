import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import { CriClient, KubeletPod } from '../support/cri-client.js';

const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));
/** Each logs over 1 KB, and a pipe holds 64 KiB. */
const creations = 200;

t.test('a log nobody reads stops neither the calls nor the end', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hf-'));
  const listen = path.join(directory, 'holdfast.sock');
  const runtime = new SimulatedRuntime({ socketPath: path.join(directory, 'runtime.sock') });
  const client = new CriClient(listen);
  t.teardown(async () => {
    client.close();
    await runtime.close();
    rmSync(directory, { recursive: true, force: true });
  });
  await runtime.listen();
  const holdfast = spawn(process.execPath, [executable, 'serve', '--listen', listen, '--runtime', runtime.socketPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => holdfast.kill('SIGKILL'));
  await client.waitForReady(20_000);
  for (let n = 0; n < creations; n++) {
    const pod = new KubeletPod({ directory, uid: `uid-${n}` });
    await client.call('RunPodSandbox', pod.runPodSandboxRequest());
  }
  t.equal(runtime.sandboxes.length, creations);
  client.close();
  const exit = once(holdfast, 'exit');
  holdfast.kill('SIGTERM');
  t.same(await exit, [0, null]);
});
