/**
 * The sockets' part, without sockets: the kubelet's calls go into Holdfast's handlers and Holdfast's to the simulated runtime,
 * with deadlines and cancels on the injected clock. What is not taken goes straight to the runtime, as the router forwards it.
 */
import * as grpc from '@grpc/grpc-js';
import type { Clock } from '../../src/clock.js';
import type { Caller } from '../../src/harness/cri-caller.js';
import { criMethods, decode, encode } from '../../src/harness/runtime/messages.js';
import type { RawCall } from '../../src/harness/runtime/raw-grpc-server.js';
import type { SimulatedRuntime } from '../../src/harness/simulated-runtime.js';
import type { Core } from '../../src/proxy/core.js';
import type { Status, TakenCall } from '../../src/proxy/taken-call.js';
import { type Upstream, UpstreamStatusError } from '../../src/proxy/upstream.js';

/** Why a caller stops waiting before its answer, and what it makes of it. */
const leaving = {
  deadline: { code: grpc.status.DEADLINE_EXCEEDED, message: 'context deadline exceeded', trailers: [] },
  cancelled: { code: grpc.status.CANCELLED, message: 'context canceled', trailers: [] },
} as const satisfies Record<string, Status>;

/** A call's caller as the other side sees it. */
interface Presence {
  readonly signal: AbortSignal;
  /** The call has ended: the caller no longer leaves. @returns Whether it was still there. */
  end(): boolean;
}

/** @param left Called once, when the caller leaves before the call has ended. */
function presence(
  clock: Clock,
  timeoutMs: number | undefined,
  cancel: AbortSignal | undefined,
  left: (status: Status) => void,
): Presence {
  const gone = new AbortController();
  let here = true;
  const end = () => {
    if (!here) return false;
    here = false;
    stopTimer();
    cancel?.removeEventListener('abort', cancelled);
    return true;
  };
  const leave = (reason: keyof typeof leaving) => {
    if (!end()) return;
    left(leaving[reason]);
    gone.abort(reason);
  };
  const cancelled = () => leave('cancelled');
  const stopTimer = timeoutMs === undefined ? () => {} : clock.after(timeoutMs, () => leave('deadline'));
  cancel?.addEventListener('abort', cancelled);
  if (cancel?.aborted) cancelled();
  return { signal: gone.signal, end };
}

function rawCall(
  path: string,
  request: Buffer,
  timeoutMs: number | undefined,
  signal: AbortSignal,
  write: (message: Buffer) => void = () => {},
): RawCall {
  const method = criMethods.get(path.slice(path.lastIndexOf('/') + 1));
  if (method === undefined) throw new RangeError(`no method ${path} in cri.proto`);
  return { method, version: 'v1', request, metadata: new grpc.Metadata(), timeoutMs, signal, sendHeaders() {}, write };
}

/** Holdfast's way to a runtime in the same process. */
export function upstreamTo(runtime: SimulatedRuntime, clock: Clock): Upstream {
  const carryOut = (
    path: string,
    request: Buffer,
    timeoutMs: number | undefined,
    cancel: AbortSignal | undefined,
    write?: (message: Buffer) => void,
  ) =>
    new Promise<{ message: Buffer; status: Status }>((resolve) => {
      const none = Buffer.alloc(0);
      const caller = presence(clock, timeoutMs, cancel, (status) => resolve({ message: none, status }));
      void runtime.serve(rawCall(path, request, timeoutMs, caller.signal, write)).then((reply) => {
        const { code, details = '', message = none } = reply;
        if (caller.end()) resolve({ message, status: { code, message: details, trailers: [] } });
      });
    });
  return {
    async unary(path, request, { timeoutMs, signal } = {}) {
      const { message, status } = await carryOut(path, request, timeoutMs, signal);
      if (status.code !== grpc.status.OK) throw new UpstreamStatusError(status);
      return { message, initialMetadata: [], status };
    },
    serverStream() {
      throw new Error('no kubelet of this bench streams');
    },
    close() {},
  };
}

/** A kubelet's way through Holdfast to the runtime behind it. */
export function callerThrough(core: Core, runtime: SimulatedRuntime, clock: Clock): Caller {
  return {
    call<T>(method: string, message: object, timeoutMs: number, cancel: AbortSignal): Promise<T> {
      const found = criMethods.get(method);
      if (found === undefined) throw new RangeError(`no method ${method} in cri.proto`);
      const path = `/runtime.v1.${found.service}/${method}`;
      const request = encode(found.requestType, message);
      return new Promise((resolve, reject) => {
        const fail = ({ code, message: details }: Status) =>
          reject(Object.assign(new Error(details), { code, details, metadata: new grpc.Metadata() }));
        const deadlineMs = clock.now() + timeoutMs;
        const caller = presence(clock, timeoutMs, cancel, fail);
        let answer: Buffer = Buffer.alloc(0);
        const end = (status: Status): boolean => {
          if (!caller.end()) return false;
          if (status.code === grpc.status.OK) resolve(decode<T>(found.responseType, answer));
          else fail(status);
          return true;
        };
        if (caller.signal.aborted) return;
        const decision = core.handlers.decide(path);
        if (decision === 'take') {
          const call: TakenCall = {
            path,
            metadata: [],
            deadlineMs,
            request,
            signal: caller.signal,
            keep() {},
            sendInitialMetadata() {},
            async send(bytes) {
              answer = bytes;
            },
            async end(status) {
              return end(status);
            },
          };
          core.handlers.take(call);
          return;
        }
        const ended = decision === 'observe' ? core.handlers.observe(path, request) : undefined;
        void runtime.serve(rawCall(path, request, timeoutMs, caller.signal)).then((reply) => {
          answer = reply.message ?? answer;
          ended?.(reply.code === 0);
          end({ code: reply.code, message: reply.details ?? '', trailers: [] });
        });
      });
    },
    close() {},
  };
}
