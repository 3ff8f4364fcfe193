/** A simulated runtime with a client at its socket, and shorthands for what the tests of the harness do over and over. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';
import { SimulatedRuntime, type SimulatedRuntimeOptions } from '../../src/harness/simulated-runtime.js';
import { CriClient, KubeletPod } from '../support/cri-client.js';

export interface Bench {
  readonly directory: string;
  readonly runtime: SimulatedRuntime;
  readonly client: CriClient;
  pod(options?: { name?: string; uid?: string; attempt?: number; labels?: Record<string, string> }): KubeletPod;
}

export async function bench(t: Test, options: Omit<SimulatedRuntimeOptions, 'socketPath'> = {}): Promise<Bench> {
  const directory = mkdtempSync(path.join(tmpdir(), 'harness-'));
  const runtime = new SimulatedRuntime({ ...options, socketPath: path.join(directory, 'r.sock') });
  await runtime.listen();
  const client = new CriClient(runtime.socketPath);
  t.teardown(async () => {
    client.close();
    await runtime.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { directory, runtime, client, pod: (pod) => new KubeletPod({ directory, ...pod }) };
}

/** The code and text a call fails with. */
export async function failure(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  try {
    await call;
  } catch (error) {
    const { code, details } = error as grpc.ServiceError;
    return { code, details };
  }
  return { code: 0, details: '' };
}

export async function runPod({ client }: Bench, pod: KubeletPod): Promise<string> {
  return (await client.call('RunPodSandbox', pod.runPodSandboxRequest())).pod_sandbox_id;
}

export async function create({ client }: Bench, pod: KubeletPod, sandboxId: string, attempt = 0): Promise<string> {
  const request = pod.createContainerRequest(sandboxId, { image: 'simulated/image:1', attempt });
  return (await client.call('CreateContainer', request)).container_id;
}

/** A call that can be left: `leave()` cancels it and resolves once the caller's side has ended. */
export function leavable(start: (signal: AbortSignal) => Promise<unknown>): { leave(): Promise<void> } {
  const left = new AbortController();
  const ended = start(left.signal).then(
    () => undefined,
    () => undefined,
  );
  return {
    leave: () => {
      left.abort();
      return ended;
    },
  };
}
