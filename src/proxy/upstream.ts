/** Holdfast's own calls to the runtime, on a connection of their own: message bytes in, message bytes or a status out. */
import * as grpc from '@grpc/grpc-js';
import type { Metadata, Status } from './taken-call.js';

/** The runtime's (or, for a lost connection, the client library's) status of a failed call. */
export class UpstreamStatusError extends Error {
  override readonly name = 'UpstreamStatusError';
  readonly status: Status;
  constructor(status: Status) {
    super(status.message);
    this.status = status;
  }
}

export interface UpstreamAnswer {
  readonly message: Buffer;
  readonly initialMetadata: Metadata;
  /** OK, in the words and with the trailers of the runtime. */
  readonly status: Status;
}

export interface UpstreamCallOptions {
  readonly metadata?: Metadata;
  /** Sent as grpc-timeout; undefined: no deadline. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal;
}

export interface StreamReceiver {
  initialMetadata(metadata: Metadata): void;
  message(message: Buffer): void;
}

/** A way to the runtime. */
export interface Upstream {
  /** @throws {UpstreamStatusError} for any status but OK. */
  unary(path: string, request: Buffer, options?: UpstreamCallOptions): Promise<UpstreamAnswer>;
  /** Reads a server stream to its end. @returns its status, OK or not. */
  serverStream(path: string, request: Buffer, options: UpstreamCallOptions, receiver: StreamReceiver): Promise<Status>;
  close(): void;
}

const channelOptions: grpc.ChannelOptions = {
  // No limit of Holdfast's own: the runtime has one.
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  // grpc-js would grow the pause to two minutes; the runtime's return must be noticed within a second, its jitter of 20 % included.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 800,
  // A creation is carried out once: only what never reached the runtime may be sent again.
  'grpc.enable_retries': 0,
  // grpc-go servers end a connection that pings more than every 5 minutes (keepalive.EnforcementPolicy.MinTime).
  'grpc.keepalive_time_ms': 330_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.keepalive_permit_without_calls': 0,
  'grpc.use_local_subchannel_pool': 1,
};

const identity = (bytes: Buffer): Buffer => bytes;

/** @param runtimePath Absolute path of the runtime's unix socket. */
export function connectUpstream(runtimePath: string): Upstream {
  return new GrpcUpstream(runtimePath);
}

class GrpcUpstream implements Upstream {
  readonly #client: grpc.Client;

  constructor(runtimePath: string) {
    this.#client = new grpc.Client(`unix:${runtimePath}`, grpc.credentials.createInsecure(), channelOptions);
  }

  unary(path: string, request: Buffer, options: UpstreamCallOptions = {}): Promise<UpstreamAnswer> {
    return new Promise((resolve, reject) => {
      let initialMetadata: Metadata = [];
      let message: Buffer | undefined;
      const call = this.#client.makeUnaryRequest(
        path,
        identity,
        identity,
        request,
        toGrpcMetadata(options.metadata),
        callOptions(options),
        (error, answer) => {
          if (error !== null) reject(new UpstreamStatusError(toStatus(error)));
          else message = answer;
        },
      );
      const stopListening = cancelOnAbort(call, options.signal);
      call.on('metadata', (metadata: grpc.Metadata) => {
        initialMetadata = toMetadata(metadata);
      });
      call.on('status', (status: grpc.StatusObject) => {
        stopListening();
        if (message !== undefined) resolve({ message, initialMetadata, status: toStatus(status) });
      });
    });
  }

  serverStream(path: string, request: Buffer, options: UpstreamCallOptions, receiver: StreamReceiver): Promise<Status> {
    return new Promise((resolve) => {
      const call = this.#client.makeServerStreamRequest(
        path,
        identity,
        identity,
        request,
        toGrpcMetadata(options.metadata),
        callOptions(options),
      );
      const stopListening = cancelOnAbort(call, options.signal);
      call.on('metadata', (metadata: grpc.Metadata) => receiver.initialMetadata(toMetadata(metadata)));
      call.on('data', (message: Buffer) => receiver.message(message));
      // The status event says the same and always comes.
      call.on('error', () => {});
      call.on('status', (status: grpc.StatusObject) => {
        stopListening();
        resolve(toStatus(status));
      });
    });
  }

  close(): void {
    this.#client.close();
  }
}

function callOptions({ timeoutMs }: UpstreamCallOptions): grpc.CallOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

function cancelOnAbort(call: { cancel(): void }, signal: AbortSignal | undefined): () => void {
  const cancel = () => call.cancel();
  if (signal?.aborted) cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  return () => signal?.removeEventListener('abort', cancel);
}

function toStatus(status: { code: grpc.status; details: string; metadata: grpc.Metadata }): Status {
  return { code: status.code, message: status.details, trailers: toMetadata(status.metadata) };
}

function toMetadata(metadata: grpc.Metadata): Metadata {
  const fields: [string, string][] = [];
  for (const [name, values] of Object.entries(metadata.toHttp2Headers())) {
    if (name.startsWith(':') || reserved.has(name)) continue;
    for (const value of Array.isArray(values) ? values : [values]) fields.push([name, String(value)]);
  }
  return fields;
}

const reserved = new Set([
  'content-type',
  'date',
  'grpc-encoding',
  'grpc-accept-encoding',
  'grpc-status',
  'grpc-message',
]);

function toGrpcMetadata(fields: Metadata = []): grpc.Metadata {
  // A runtime that is just coming back is waited for, within the deadline.
  const metadata = new grpc.Metadata({ waitForReady: true });
  for (const [name, value] of fields) {
    try {
      if (!name.endsWith('-bin')) metadata.add(name, value);
      else for (const part of value.split(',')) metadata.add(name, Buffer.from(part, 'base64'));
    } catch {
      // Not legal gRPC metadata: no gRPC server would have accepted it either.
    }
  }
  return metadata;
}
