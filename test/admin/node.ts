/** The built program before a simulated runtime, and what its admin socket says. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { askAdmin, askAdminJson } from '../../src/admin/client.js';
import type { CreationsAnswer } from '../../src/admin/routes.js';
import { runStatus } from '../../src/admin/status.js';
import { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import type { ReportedCreation } from '../../src/proxy/creation-report.js';
import { CriClient, KubeletPod } from '../support/cri-client.js';

export const executable = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function holdfast(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [executable, ...args], (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
    );
  });
}

const soon = () => new Promise((resolve) => setTimeout(resolve, 50));

/** A running Holdfast before a simulated runtime. */
export async function node(t: Test, ...flags: string[]) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hfst-'));
  const listen = path.join(directory, 'h.sock');
  const admin = path.join(directory, 'admin.sock');
  const runtime = new SimulatedRuntime({ socketPath: path.join(directory, 'r.sock') });
  const client = new CriClient(listen);
  const direct = new CriClient(runtime.socketPath);
  await runtime.listen();
  const args = ['serve', '--listen', listen, '--runtime', runtime.socketPath, '--admin', admin, ...flags];
  const process_ = spawn(process.execPath, [executable, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const kill = async () => {
    if (process_.exitCode !== null || process_.signalCode !== null) return;
    const exit = once(process_, 'exit');
    process_.kill('SIGKILL');
    await exit;
  };
  t.teardown(async () => {
    client.close();
    direct.close();
    await kill();
    await runtime.close();
    rmSync(directory, { recursive: true, force: true });
  });
  await client.waitForReady(30_000);
  while (
    !(await askAdmin(admin, '/healthz').then(
      () => true,
      () => false,
    ))
  )
    await soon();
  const leaving = new AbortController();
  /** Asks and does not wait; the answer is nobody's. */
  const ask = (...[method, request, options]: Parameters<CriClient['call']>) => {
    client.call(method, request, { signal: leaving.signal, ...options }).catch(() => {});
  };
  const pod = (name: string, attempt = 0) => new KubeletPod({ directory, name, uid: `uid-${name}`, attempt });
  /** As the program does it, which takes longer to start than to do it. */
  const status = async (pod?: string, json = false): Promise<Ended> => {
    const said = { stdout: '', stderr: '' };
    const writer = (to: keyof typeof said) => ({ write: (text: string) => (said[to] += text) });
    const io = { stdout: writer('stdout'), stderr: writer('stderr'), again: async () => false, now: () => '' };
    return { code: await runStatus({ socket: admin, pod, json, watch: false }, io), ...said };
  };
  const creations = async (): Promise<readonly ReportedCreation[]> =>
    (await askAdminJson<CreationsAnswer>(admin, '/debug/creations?delivered')).creations;
  /** Waits until one is as it should be. */
  const until = async (holds: (creation: ReportedCreation) => boolean): Promise<ReportedCreation> => {
    for (;;) {
      const found = await creations().then(
        (all) => all.find(holds),
        () => undefined,
      );
      if (found !== undefined) return found;
      await soon();
    }
  };
  const leave = () => leaving.abort();
  return {
    directory,
    admin,
    runtime,
    client,
    direct,
    ask,
    pod,
    status,
    creations,
    until,
    leave,
    kill,
    process: process_,
  };
}
