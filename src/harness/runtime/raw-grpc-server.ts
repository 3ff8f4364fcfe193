/**
 * CRI served as raw bytes on a unix socket, in a way that can die as a killed process does. Knows the methods' names and which of
 * them stream, nothing of what they do.
 */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import { type CriMethod, criMethods } from './messages.js';

export type ApiVersion = 'v1' | 'v1alpha2';

export interface RawCall {
  readonly method: CriMethod;
  readonly version: ApiVersion;
  readonly request: Buffer;
  readonly metadata: grpc.Metadata;
  /** What was left of the caller's deadline on arrival, in ms; undefined: it sent none. */
  readonly timeoutMs: number | undefined;
  /** Fires when the caller has left: cancel, deadline, lost connection. Never after the answer. */
  readonly signal: AbortSignal;
  sendHeaders(metadata: grpc.Metadata): void;
  /** Sends one message of a stream. */
  write(message: Buffer): void;
}

/** How a call ends. `message` is the answer of a call that does not stream. */
export interface RawReply {
  readonly code: number;
  readonly details?: string;
  readonly message?: Buffer;
  readonly trailers?: grpc.Metadata;
}

/** Methods that runtime.v1alpha2 never had (Kubernetes 1.26, k8s.io/cri-api runtime/v1alpha2). */
const v1Only = new Set([
  'CheckpointContainer',
  'GetContainerEvents',
  'ListPodSandboxMetrics',
  'StreamContainerStats',
  'StreamContainers',
  'StreamPodSandboxMetrics',
  'StreamPodSandboxStats',
  'StreamPodSandboxes',
  'UpdatePodSandboxResources',
]);

const identity = (bytes: Buffer): Buffer => bytes;

export class RawGrpcServer {
  readonly #socketPath: string;
  readonly #handle: (call: RawCall) => Promise<RawReply>;
  readonly #server = new grpc.Server({
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
  });
  readonly #connections: grpc.ConnectionInjector;
  readonly #sockets = new Set<Socket>();
  #listener: NetServer | undefined;

  /** @param handle Answers one call; must not reject. */
  constructor(socketPath: string, handle: (call: RawCall) => Promise<RawReply>) {
    this.#socketPath = socketPath;
    this.#handle = handle;
    for (const version of ['v1', 'v1alpha2'] as const) {
      for (const method of criMethods.values()) {
        if (version === 'v1' || !v1Only.has(method.name)) this.#register(version, method);
      }
    }
    this.#connections = this.#server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  }

  /** Takes the place of a socket file that is left over. */
  async listen(): Promise<void> {
    await rm(this.#socketPath, { force: true });
    const listener = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined).once('close', () => this.#sockets.delete(socket));
      this.#connections.injectConnection(socket);
    });
    this.#listener = listener;
    listener.listen(this.#socketPath);
    await once(listener, 'listening');
  }

  /** Cuts every connection without a GOAWAY and stops listening, as the end of a process does. */
  async cut(): Promise<void> {
    const listener = this.#listener;
    this.#listener = undefined;
    const closed = listener === undefined ? undefined : once(listener, 'close');
    listener?.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async close(): Promise<void> {
    await this.cut();
    this.#connections.destroy();
    this.#server.forceShutdown();
  }

  #register(version: ApiVersion, method: CriMethod): void {
    const path = `/runtime.${version}.${method.service}/${method.name}`;
    if (method.streams)
      this.#server.register(path, this.#serveStream(version, method), identity, identity, 'serverStream');
    else this.#server.register(path, this.#serveUnary(version, method), identity, identity, 'unary');
  }

  #serveUnary(version: ApiVersion, method: CriMethod): grpc.handleUnaryCall<Buffer, Buffer> {
    return (call, callback) => {
      const { raw, ended } = describeCall(call, version, method, () => undefined);
      void this.#handle(raw).then((reply) => {
        ended();
        if (reply.code === grpc.status.OK) callback(null, reply.message ?? Buffer.alloc(0), reply.trailers);
        else callback(asStatus(reply));
      });
    };
  }

  #serveStream(version: ApiVersion, method: CriMethod): grpc.handleServerStreamingCall<Buffer, Buffer> {
    return (call) => {
      const { raw, ended } = describeCall(call, version, method, (message) => call.write(message));
      void this.#handle(raw).then((reply) => {
        ended();
        if (reply.code === grpc.status.OK) call.end(reply.trailers);
        else call.emit('error', asStatus(reply));
      });
    };
  }
}

function asStatus({ code, details = '', trailers = new grpc.Metadata() }: RawReply): grpc.StatusObject {
  return { code, details, metadata: trailers };
}

function describeCall(
  call: grpc.ServerUnaryCall<Buffer, Buffer> | grpc.ServerWritableStream<Buffer, Buffer>,
  version: ApiVersion,
  method: CriMethod,
  write: (message: Buffer) => void,
): { raw: RawCall; ended: () => void } {
  const left = new AbortController();
  let over = false;
  call.on('cancelled', () => {
    if (!over) left.abort();
  });
  const deadline = Number(call.getDeadline());
  return {
    raw: {
      method,
      version,
      request: call.request,
      metadata: call.metadata,
      timeoutMs: Number.isFinite(deadline) ? deadline - Date.now() : undefined,
      signal: left.signal,
      sendHeaders: (metadata) => call.sendMetadata(metadata),
      write,
    },
    ended: () => {
      over = true;
    },
  };
}
