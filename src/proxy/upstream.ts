/** Holdfast's own calls to the runtime: message bytes in, message bytes and a status out. How they get there is in http2/. */
import type { Metadata, Status } from './taken-call.js';

/** The runtime's status of a failed call, or for a lost connection and a passed deadline the client's own. */
export class UpstreamStatusError extends Error {
  override readonly name = 'UpstreamStatusError';
  readonly status: Status;
  /** What the runtime sent ahead of it; undefined where it sent its status alone (Trailers-Only). */
  readonly initialMetadata: Metadata | undefined;
  constructor(status: Status, initialMetadata?: Metadata) {
    super(status.message);
    this.status = status;
    this.initialMetadata = initialMetadata;
  }
}

export interface UpstreamAnswer {
  readonly message: Buffer;
  readonly initialMetadata: Metadata;
  /** OK, in the words and with the trailers of the runtime. */
  readonly status: Status;
}

/** A server stream. It is read as fast as it is iterated: what is not taken waits at the runtime, but for a few messages. */
export interface UpstreamStream extends AsyncIterable<Buffer> {
  /** Resolves when response headers come, or with undefined where the status comes without; never rejects. */
  readonly initialMetadata: Promise<Metadata | undefined>;
  /** How it ended, OK or not; never rejects. */
  readonly status: Promise<Status>;
}

export interface UpstreamCallOptions {
  readonly metadata?: Metadata;
  /** Sent as grpc-timeout; undefined: no deadline. */
  readonly timeoutMs?: number | undefined;
  /** Ends the call as CANCELLED, at the runtime too. */
  readonly signal?: AbortSignal | undefined;
  /** Told of bytes of the answer that are kept until they can be had, and (negative) that they are no more. */
  readonly keep?: ((bytes: number) => void) | undefined;
  /** `work`: what makes or starts something; on a connection of its own, since a runtime may limit the streams of one. */
  readonly lane?: 'work' | 'looks';
}

/** A way to the runtime. A runtime that is not there is waited for, within the call's deadline. */
export interface Upstream {
  /** @throws {UpstreamStatusError} For any status but OK. */
  unary(path: string, request: Buffer, options?: UpstreamCallOptions): Promise<UpstreamAnswer>;
  /** Begins at once, whether or not it is iterated. */
  serverStream(path: string, request: Buffer, options?: UpstreamCallOptions): UpstreamStream;
  close(): void;
}
