/** The handlers of calls over a runtime that answers when the test says so, without a socket between them. */
import { pino } from 'pino';
import { Metrics } from '../../src/admin/metrics.js';
import type { HoldfastConfig } from '../../src/config/config.js';
import { defaults } from '../../src/config/defaults.js';
import type { CallTraces } from '../../src/proxy/call-traces.js';
import { newCore } from '../../src/proxy/core.js';
import type { TakenCall } from '../../src/proxy/taken-call.js';
import type { Upstream, UpstreamAnswer, UpstreamCallOptions } from '../../src/proxy/upstream.js';
import { encodeMessage } from '../support/cri-client.js';
import { ManualClock, settle } from '../support/manual-clock.js';

export const service = '/runtime.v1.RuntimeService';

const ok = { code: 0, message: '', trailers: [] };

/** A call that the runtime has not answered yet, or a subscription. */
export interface AskedCall {
  /** Without the service. */
  readonly method: string;
  readonly request: Buffer;
  readonly options: UpstreamCallOptions;
  answer(message?: Buffer): Promise<void>;
  fail(error: Error): Promise<void>;
}

export type CoreRig = ReturnType<typeof setUp>;

/**
 * @param config What is otherwise than by default.
 * @param traces Default: nobody draws any.
 */
export function setUp(config: Partial<HoldfastConfig> = {}, traces?: CallTraces) {
  const clock = new ManualClock();
  const metrics = new Metrics();
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  const asked: AskedCall[] = [];
  /** Open subscriptions to events. */
  const subscriptions: { send(event: Buffer): Promise<void>; end(): Promise<void> }[] = [];
  const upstream: Upstream = {
    unary: (path, request, options = {}) =>
      new Promise<UpstreamAnswer>((resolve, reject) => {
        const method = path.slice(path.lastIndexOf('/') + 1);
        const answer = (message: Buffer = Buffer.alloc(0)) => {
          resolve({ message, initialMetadata: [], status: ok });
          return passed();
        };
        const fail = (error: Error) => {
          reject(error);
          return passed();
        };
        asked.push({ method, request, options, answer, fail });
        options.signal?.addEventListener('abort', () => reject(new Error('cut short')), { once: true });
      }),
    serverStream() {
      const events: Buffer[] = [];
      let isOver = false;
      let wake = () => {};
      subscriptions.push({
        send(event) {
          events.push(event);
          wake();
          return passed();
        },
        end() {
          isOver = true;
          wake();
          return passed();
        },
      });
      return {
        initialMetadata: Promise.resolve([]),
        status: Promise.resolve(ok),
        async *[Symbol.asyncIterator]() {
          for (;;) {
            yield* events.splice(0);
            if (isOver) return;
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
        },
      };
    },
    close() {},
  };
  const readPressure = () => ({ avg10: 0, stalledMs: 0 });
  const core = newCore(
    { ...defaults, listen: '', runtime: '', ...config },
    { log, clock, metrics, upstream, readPressure, traces },
  );
  /** @param delivered Whether the answer is known to have been got. */
  const take = (method: string, request: Buffer = Buffer.alloc(0), delivered = true) => {
    const leave = new AbortController();
    /** Messages, and the code it ends with. */
    const sent: unknown[] = [];
    let keptBytes = 0;
    const call: TakenCall = {
      path: `${service}/${method}`,
      metadata: [],
      deadlineMs: undefined,
      request,
      signal: leave.signal,
      keep(bytes) {
        keptBytes += bytes;
      },
      sendInitialMetadata() {},
      async send(message) {
        sent.push(message);
      },
      async end(status) {
        sent.push(status.code);
        return delivered;
      },
    };
    const done = core.handlers.take(call);
    return { done, sent, kept: () => keptBytes, leave: () => leave.abort('cancelled') };
  };
  /** The last call of this method that was asked of the runtime. */
  const last = (method: string): AskedCall => {
    const found = asked.findLast((call) => call.method === method);
    if (found === undefined) throw new Error(`no ${method} was asked`);
    return found;
  };
  return { ...core, clock, metrics, lines, asked, subscriptions, take, last };
}

/** Lets everything go on that waits for turns of the event loop only. */
export async function passed(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await settle();
}

export const withId = (id: string) => encodeMessage('StartContainerRequest', { container_id: id });

export const runPodSandbox = (uid = 'uid') =>
  encodeMessage('RunPodSandboxRequest', { config: { metadata: { name: 'web', uid, namespace: 'default' } } });

export const podSandboxMade = (id: string) => encodeMessage('RunPodSandboxResponse', { pod_sandbox_id: id });

/** @param logDirectory Of the pod. */
export const createContainer = (attempt = 0, logDirectory = '') =>
  encodeMessage('CreateContainerRequest', {
    pod_sandbox_id: 's1',
    config: { metadata: { name: 'app', attempt }, log_path: `app/${attempt}.log` },
    sandbox_config: {
      metadata: { name: 'web', uid: 'uid', namespace: 'default' },
      ...(logDirectory === '' ? {} : { log_directory: logDirectory }),
    },
  });

export const containerMade = (id: string) => encodeMessage('CreateContainerResponse', { container_id: id });

/** A ListContainersResponse of containers of that pod, CREATED. */
export const listOf = (...ids: string[]) => {
  const labels = Object.entries({ name: 'web', namespace: 'default', uid: 'uid' }).map(([key, value]) => [
    `io.kubernetes.pod.${key}`,
    value,
  ]);
  const metadata = { name: 'app', attempt: 0 };
  const containers = ids.map((id) => ({ id, pod_sandbox_id: 's1', metadata, labels: Object.fromEntries(labels) }));
  return encodeMessage('ListContainersResponse', { containers });
};

/** Makes a container `c1` that nobody waits for any more. */
export async function heldContainer(rig: CoreRig): Promise<void> {
  const { done, leave } = rig.take('CreateContainer', createContainer());
  await passed();
  leave();
  await done;
  await rig.last('CreateContainer').answer(containerMade('c1'));
}
