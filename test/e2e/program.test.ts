/** The built program and the system it runs on: where it cannot listen, and few files that it may open. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { message } from '../proxy/http2/wire.js';
import { encodeMessage } from '../support/cri-client.js';
import { FramePeer } from '../support/frame-peer.js';
import { Bystander } from './support/bystander.js';
import { startHoldfast } from './support/holdfast.js';
import { openFiles } from './support/process-figures.js';
import { skipFor } from './support/programs.js';
import { startRawBackend } from './support/raw-backend.js';
import { until } from './support/until.js';

const skip = skipFor(process.platform === 'linux' ? undefined : 'needs the /proc of Linux');
const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));

function folder(t: Test): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'hfpr-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

t.test('a directory that cannot be made to listen in ends the program at once, with one line', { skip }, async (t) => {
  const serve = ['serve', '--log-level=fatal', '--listen=/proc/x/u.sock', `--runtime=${folder(t)}/r.sock`];
  const ended = await new Promise<{ code: unknown; killed: boolean; stderr: string }>((resolve) => {
    execFile(process.execPath, [executable, ...serve], { timeout: 20_000, killSignal: 'SIGKILL' }, (error, _, stderr) =>
      resolve({ code: error?.code, killed: error?.killed ?? false, stderr }),
    );
  });
  t.match(ended, { code: 1, killed: false, stderr: /^holdfast: [^\n]*\/proc\/x[^\n]*\n$/ });
});

t.test(
  'with 256 open files it says how many connections that allows, and one client leaves room for another',
  {
    skip,
  },
  async (t) => {
    const directory = folder(t);
    const runtime = `${directory}/r.sock`;
    let made = 0;
    await startRawBackend(t, runtime, {
      answer: () => message(encodeMessage('RunPodSandboxResponse', { pod_sandbox_id: `made-${made++}` })),
    });
    const allowed = 256;
    const holdfast = await startHoldfast(t, { runtime, listen: `${directory}/h.sock`, openFiles: allowed });
    const { connections } = await holdfast.logged(
      'how many',
      ({ msg }) => msg === 'the limit of open files allows few connections',
    );
    t.ok(Number(connections) > 10 && 2 * Number(connections) < allowed, `${connections} connections`);

    const bystander = new Bystander(holdfast.client, true);
    await bystander.start();
    t.teardown(() => bystander.stop());
    const { pid } = holdfast;
    const idle = await Promise.all(Array.from({ length: 200 }, () => FramePeer.connect(holdfast.socket)));
    t.teardown(() => {
      for (const peer of idle) peer.destroy();
    });
    await until('those beyond are closed', () => idle.filter(({ isOver }) => !isOver).length <= Number(connections));
    const before = bystander.calls;
    await until('the other client goes on', () => bystander.calls > before + 16);
    t.ok(openFiles(pid) < allowed, `${openFiles(pid)} open files`);
    await bystander.stop();
    t.strictSame(bystander.failures, []);
    t.equal(holdfast.pid, pid, 'it is still the same process');
    t.notOk(holdfast.output.some((line) => line.includes('EMFILE')));
  },
);
