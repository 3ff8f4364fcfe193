/** Whether the runtime answers: one small call, made when somebody wants to know. */
import { untilAborted, WaiterLeftError } from '../cache/detached-call.js';
import type { Clock } from '../clock.js';
import { GrpcCode } from './grpc-code.js';
import { type Upstream, UpstreamStatusError } from './upstream.js';

/** `why` is one line for people. */
export type RuntimeHealth = { readonly answers: true } | { readonly answers: false; readonly why: string };

const versionPath = '/runtime.v1.RuntimeService/Version';
/** A runtime says its version without any work: one that takes longer does not answer, in ms. */
const timeoutMs = 5_000;

/** Codes that say that nobody answered. With any other the runtime has: one that knows v1alpha2 only says UNIMPLEMENTED. */
const unanswered: ReadonlySet<number> = new Set([GrpcCode.unavailable, GrpcCode.deadlineExceeded, GrpcCode.cancelled]);

export class RuntimeProbe {
  readonly #upstream: Pick<Upstream, 'unary'>;
  readonly #clock: Clock;
  readonly #absentForMs: () => number | undefined;
  #asking: Promise<RuntimeHealth> | undefined;

  /** @param absentForMs How long nobody has accepted connections at the runtime's socket, in ms; undefined: somebody does, as far as is known. */
  constructor(upstream: Pick<Upstream, 'unary'>, clock: Clock, absentForMs: () => number | undefined) {
    this.#upstream = upstream;
    this.#clock = clock;
    this.#absentForMs = absentForMs;
  }

  /** Settles within some seconds, and never rejects. Whoever asks meanwhile gets the same answer. */
  ask(): Promise<RuntimeHealth> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask(): Promise<RuntimeHealth> {
    if (this.#absentForMs() !== undefined) return this.#silent();
    const abort = new AbortController();
    const { signal } = abort;
    const cancelTimer = this.#clock.after(timeoutMs, () => abort.abort());
    try {
      await untilAborted(this.#upstream.unary(versionPath, Buffer.alloc(0), { signal, lane: 'looks' }), signal);
      return { answers: true };
    } catch (error) {
      if (error instanceof UpstreamStatusError && !unanswered.has(error.status.code)) return { answers: true };
      return error instanceof WaiterLeftError
        ? this.#silent()
        : { answers: false, why: `the runtime does not answer: ${error}` };
    } finally {
      cancelTimer();
    }
  }

  #silent(): RuntimeHealth {
    const absentMs = this.#absentForMs();
    const why =
      absentMs === undefined
        ? `the runtime accepts connections, and has not said its version for ${timeoutMs / 1000} s`
        : `the runtime is not there: nobody has accepted connections at its socket for ${Math.round(absentMs / 1000)} s`;
    return { answers: false, why };
  }
}
