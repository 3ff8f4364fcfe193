/**
 * Makes a few pods that do not exist, on a runtime that does not exist, through a call path of their own: a node that has just come
 * up asks for all its pods at once, and code that runs for the first time takes ten times as long.
 *
 * Only an idle process makes them: whoever calls right after the start, as a kubelet does that was waiting, shall not wait for them, and
 * warms the same code itself.
 */
import { performance } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { Metrics } from '../admin/metrics.js';
import type { Clock } from '../clock.js';
import { defaults } from '../config/defaults.js';
import { encodeVarint, wireTypes } from '../cri/wire.js';
import { newCore } from './core.js';
import type { TakenCall } from './taken-call.js';
import type { Upstream } from './upstream.js';

/** They take some 0.2 s of CPU time in all. */
const pods = 30;
/** Between two looks at how busy the process is, and before the first pod, in ms. */
const lookMs = 50;
/** Share of the time between two looks; a kubelet's lists on an idle node take less. */
const idleBelow = 0.2;
/** After so many looks that found it busy its code is warm. */
const maxBusyLooks = 100;
const service = '/runtime.v1.RuntimeService/';
const ok = { code: 0, message: '', trailers: [] };

export interface WarmUpDeps {
  /** Gets the log lines of these pods. */
  readonly write?: (line: string) => void;
  /** Share of the time since it was last asked in which the process had something to do, 0 to 1. */
  readonly busy?: () => number;
}

/** @returns Once it is done, or not needed; between any two of its calls the event loop turns. */
export async function warmUp(clock: Clock, { write = () => {}, busy = loopUse() }: WarmUpDeps = {}): Promise<void> {
  let made = 0;
  const upstream: Upstream = {
    async unary() {
      await turn();
      return { message: message([1, `warm-up-${made++}`]), initialMetadata: [], status: ok };
    },
    serverStream() {
      throw new Error('no method of the warm-up streams');
    },
    close() {},
  };
  const log = pino({}, { write });
  const core = newCore(
    { ...defaults, listen: '', runtime: '' },
    { log, clock, metrics: new Metrics(), upstream, readPressure: () => ({ avg10: 0, stalledMs: 0 }) },
  );
  const call = async (method: string, request: Buffer): Promise<string> => {
    let id = '';
    const taken: TakenCall = {
      path: service + method,
      metadata: [],
      deadlineMs: clock.now() + 240_000,
      request,
      signal: new AbortController().signal,
      keep() {},
      sendInitialMetadata() {},
      async send(answer) {
        id = answer.toString('utf8', 2);
      },
      end: async () => true,
    };
    core.handlers.decide(taken.path);
    await core.handlers.take(taken);
    await turn();
    return id;
  };
  let busyLooks = 0;
  for (let pod = 0; pod < pods; pod++) {
    // What the pods themselves take does not count.
    busy();
    do await new Promise<void>((resolve) => void clock.after(lookMs, resolve));
    while (busy() >= idleBelow && ++busyLooks < maxBusyLooks);
    if (busyLooks >= maxBusyLooks) break;
    const sandbox = podSandboxConfig(pod);
    const podSandboxId = await call('RunPodSandbox', message([1, sandbox]));
    const id = await call('CreateContainer', message([1, podSandboxId], [2, containerConfig], [3, sandbox]));
    await call('StartContainer', message([1, id]));
  }
  core.close();
}

function loopUse(): () => number {
  let last = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, last);
    last = now;
    return utilization;
  };
}

type Value = string | Buffer | number;

/** Fields of a protobuf message, in order. */
function message(...fields: readonly (readonly [number: number, value: Value])[]): Buffer {
  return Buffer.concat(
    fields.flatMap(([number, value]) => {
      if (typeof value === 'number') return [encodeVarint(number * 8 + wireTypes.varint), encodeVarint(value)];
      const bytes = Buffer.from(value);
      return [encodeVarint(number * 8 + wireTypes.bytes), encodeVarint(bytes.length), bytes];
    }),
  );
}

function entries(number: number, count: number): [number, Buffer][] {
  return Array.from({ length: count }, (_, index) => [number, message([1, `key-${index}`], [2, `value-${index}`])]);
}

/** A PodSandboxConfig. */
function podSandboxConfig(pod: number): Buffer {
  const metadata = message([1, `pod-${pod}`], [2, `uid-${pod}`], [3, 'default']);
  const resources = message([1, 100_000], [3, 2]);
  return message([1, metadata], [2, 'pod'], [3, '/pod'], ...entries(6, 4), ...entries(7, 4), [
    8,
    message([1, '/pod'], [5, resources]),
  ]);
}

/** A ContainerConfig. */
const containerConfig = message(
  [1, message([1, 'container'])],
  [2, message([1, 'image'])],
  ...entries(6, 20),
  ...entries(7, 5),
  ...entries(9, 4),
  ...entries(10, 4),
  [11, 'container/0.log'],
  [15, message([1, message([1, 100_000], [3, 2])])],
);
