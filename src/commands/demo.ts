/**
 * `holdfast demo`: the same few pods on a slow simulated containerd, straight and through Holdfast, side by side. Needs neither
 * root nor a container runtime, and leaves nothing behind.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import type { CommandModule } from 'yargs';
import { systemClock } from '../clock.js';
import { defaults } from '../config/defaults.js';
import { demoTable, type Side } from '../harness/demo-table.js';
import { KubeletLike } from '../harness/kubelet/kubelet-like.js';
import { isRunning } from '../harness/kubelet/pod-history.js';
import type { Making } from '../harness/runtime/work.js';
import { SimulatedRuntime } from '../harness/simulated-runtime.js';
import { startHoldfast } from '../proxy/holdfast.js';

const pods = ['web-0', 'web-1', 'web-2', 'db-0', 'db-1', 'cache-0'];

/** A tenth of `runtimeRequestTimeout: 4s` and of what a kubelet's times are; everything made takes half as long again as that. */
const kubeletTimes = { requestTimeoutMs: 400, backoffMs: [1_000, 1_500], relistMs: 100 } as const;
const runtimeTimes = { runPodSandboxMs: 1_200, createContainerMs: 600, startContainerMs: 600, rollbackMs: 100 };

export interface DemoOptions {
  /** Ends the demo early; everything is still cleaned up. */
  readonly signal: AbortSignal;
  /** How long each side is watched at most, in ms; default 5 s straight, which always takes all of it, and 12 s proxied. */
  readonly straightMs?: number;
  readonly proxiedMs?: number;
}

interface Outcome extends Side {
  readonly runtime: SimulatedRuntime;
}

const signals = ['SIGINT', 'SIGTERM'] as const;

export const demoCommand: CommandModule = {
  async handler() {
    const interrupted = new AbortController();
    const interrupt = () => interrupted.abort();
    for (const name of signals) process.once(name, interrupt);
    const converged = await runDemo((text) => process.stdout.write(text), { signal: interrupted.signal });
    for (const name of signals) process.off(name, interrupt);
    if (!converged) process.exitCode = 1;
  },
};

/** @returns Whether every pod behind Holdfast came to run. */
export async function runDemo(write: (text: string) => unknown, options: DemoOptions): Promise<boolean> {
  const { signal, straightMs = 5_000, proxiedMs = 12_000 } = options;
  write(
    `${pods.length} pods on a slow node: a sandbox takes 1.2 s and the kubelet waits for 0.8 s,\n` +
      'a container and its start take 0.6 s each and it waits for 0.4 s (everything at ten times the speed).\n\n',
  );
  const directory = mkdtempSync(path.join(tmpdir(), 'holdfast-'));
  try {
    const straight = await watch('straight to containerd', path.join(directory, 'a'), straightMs, false, signal);
    const proxied = await watch('through Holdfast', path.join(directory, 'b'), proxiedMs, true, signal);
    write(`${demoTable(straight, proxied)}\n\n${summary(straight)}\n${summary(proxied)}\n`);
    return proxied.pods.every(isRunning);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Lets a kubelet bring the pods up on a fresh runtime, until they run or the time is up. */
async function watch(
  title: string,
  prefix: string,
  longestMs: number,
  throughHoldfast: boolean,
  signal: AbortSignal,
): Promise<Outcome> {
  const runtimeSocket = `${prefix}-runtime.sock`;
  const holdfastSocket = `${prefix}-holdfast.sock`;
  const runtime = new SimulatedRuntime({ socketPath: runtimeSocket, ...runtimeTimes });
  await runtime.listen();
  try {
    const config = { ...defaults, listen: holdfastSocket, runtime: runtimeSocket, drainTimeoutMs: 0 };
    const holdfast = throughHoldfast
      ? await startHoldfast(config, { log: pino({ enabled: false }), clock: systemClock })
      : undefined;
    try {
      const kubelet = new KubeletLike({
        socketPath: throughHoldfast ? holdfastSocket : runtimeSocket,
        podLogsDirectory: `${prefix}-pods`,
        pods: pods.map((name) => ({ name, namespace: 'default', arriveMs: 0 })),
        ...kubeletTimes,
      });
      const began = systemClock.now();
      const timeIsUp = new AbortController();
      const cancel = systemClock.after(longestMs, () => timeIsUp.abort());
      const timelines = await kubelet.run(AbortSignal.any([signal, timeIsUp.signal]));
      cancel();
      return { title, pods: timelines, durationMs: systemClock.now() - began, runtime };
    } finally {
      await holdfast?.close();
    }
  } finally {
    await runtime.close();
  }
}

function summary({ title, pods: timelines, durationMs, runtime }: Outcome): string {
  const errors = timelines.flatMap(({ events }) => events).filter(({ error }) => error).length;
  const running = timelines.filter(isRunning).length;
  const made = Object.entries(runtime.made).map(([what, makings]) => {
    const finished = makings.filter(({ outcome }: Making) => outcome === 'finished').length;
    return `${finished} of ${makings.length} ${what}`;
  });
  return (
    `${`${title}:`.padEnd(23)} ${running} of ${timelines.length} pods running after ${(durationMs / 1000).toFixed(1)} s; ` +
    `made of begun: ${made.join(', ')}; ${errors} errors seen`
  );
}
