/**
 * A grpc-js server with methods in no proto, one of each shape, and as much of a runtime as a pod sandbox needs. What the
 * request metadata asks for decides about the answer; the servers in `test/e2e/interop` do the same in other languages.
 *
 * - Initial metadata: `x-asked` and `x-asked-bin` come back as `x-seen` and `x-seen-bin`; `x-agent` and `x-timeout-ms` tell
 *   what the server knows of the client and its deadline.
 * - Trailers: `x-long` asks for long ones. `x-fail` ends the call with DATA_LOSS, one with a single answer before anything is
 *   answered; with `x-long` there are 13 KB of status details.
 * - `hang` sends its initial metadata and waits until its client has left; `left` is answered when the call that hangs with
 *   the same `x-key` has been left. All others answer with what they got, `serverStream` twice.
 */
import { EventEmitter, once } from 'node:events';
import * as grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { sha256 } from './any-client.js';

const identity = (bytes: Buffer): Buffer => bytes;

function definition(path: string, requestStream: boolean, responseStream: boolean) {
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}

export const anyService = '/nowhere.v7.Unheard';
const runtimeService = '/runtime.v1.RuntimeService';

const service = {
  unary: definition(`${anyService}/unary`, false, false),
  clientStream: definition(`${anyService}/clientStream`, true, false),
  serverStream: definition(`${anyService}/serverStream`, false, true),
  bidi: definition(`${anyService}/bidi`, true, true),
  hang: definition(`${anyService}/hang`, false, true),
  left: definition(`${anyService}/left`, false, false),
  Version: definition(`${runtimeService}/Version`, false, false),
  RunPodSandbox: definition(`${runtimeService}/RunPodSandbox`, false, false),
  PodSandboxStatus: definition(`${runtimeService}/PodSandboxStatus`, false, false),
};

type AnyServerCall = grpc.ServerUnaryCall<Buffer, Buffer> | grpc.ServerReadableStream<Buffer, Buffer>;
type StreamingCall = grpc.ServerWritableStream<Buffer, Buffer> | grpc.ServerDuplexStream<Buffer, Buffer>;

function begin(call: AnyServerCall | StreamingCall): void {
  const asked = call.metadata;
  const metadata = new grpc.Metadata();
  const answers = { 'x-asked': 'x-seen', 'x-asked-bin': 'x-seen-bin', 'user-agent': 'x-agent' };
  for (const [name, answer] of Object.entries(answers)) {
    for (const value of asked.get(name)) metadata.add(answer, value);
  }
  const remainingMs = Number(call.getDeadline()) - Date.now();
  if (Number.isFinite(remainingMs)) metadata.set('x-timeout-ms', String(remainingMs));
  call.sendMetadata(metadata);
}

function trailers({ metadata: asked }: AnyServerCall | StreamingCall): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('x-last', 'trailer');
  if (asked.get('x-long').length > 0) {
    metadata.set('x-last-bin', Buffer.alloc(6_000, 0xfa));
  }
  return metadata;
}

const loss = { code: grpc.status.DATA_LOSS, details: 'lost: ü%\n'.repeat(100) };

/** google.rpc.Status with a google.protobuf.Any in it. */
function statusDetails(): Buffer {
  const { code, details } = loss;
  const writer = protobuf.Writer.create().uint32(8).int32(code).uint32(18).string(details);
  writer.uint32(26).fork().uint32(10).string('nowhere/v7.Detail').uint32(18).bytes(Buffer.alloc(13_000, 5)).ldelim();
  return Buffer.from(writer.finish());
}

function failure(call: AnyServerCall | StreamingCall): grpc.StatusObject | undefined {
  if (call.metadata.get('x-fail').length === 0) return undefined;
  const metadata = trailers(call);
  if (call.metadata.get('x-long').length > 0) metadata.set('grpc-status-details-bin', statusDetails());
  return { ...loss, metadata };
}

function reply(call: AnyServerCall, callback: grpc.sendUnaryData<Buffer>, message: Buffer): void {
  const failed = failure(call);
  if (failed !== undefined) {
    callback(failed);
    return;
  }
  begin(call);
  callback(null, message, trailers(call));
}

function finish(call: StreamingCall): void {
  const failed = failure(call);
  if (failed === undefined) call.end(trailers(call));
  else call.emit('error', failed);
}

function unary(answer: (request: Buffer) => Buffer): grpc.handleUnaryCall<Buffer, Buffer> {
  return (call, callback) => reply(call, callback, answer(call.request));
}

/** @param socketPath Absolute. */
export async function startBackend(socketPath: string): Promise<grpc.Server> {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 });
  /** Keys of the hanging calls that have been left; each is also an event. */
  const left = new Set<string>();
  const departures = new EventEmitter();
  server.addService(service, {
    unary: unary(identity),
    clientStream(call: grpc.ServerReadableStream<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) {
      const messages: Buffer[] = [];
      call.on('data', (message: Buffer) => messages.push(message));
      call.on('end', () => reply(call, callback, Buffer.concat(messages)));
    },
    serverStream(call: grpc.ServerWritableStream<Buffer, Buffer>) {
      begin(call);
      call.write(call.request);
      call.write(call.request);
      finish(call);
    },
    bidi(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
      begin(call);
      call.on('data', (message: Buffer) => call.write(message));
      call.on('end', () => finish(call));
    },
    hang(call: grpc.ServerWritableStream<Buffer, Buffer>) {
      const key = String(call.metadata.get('x-key'));
      call.on('cancelled', () => {
        left.add(key);
        departures.emit(key);
      });
      begin(call);
    },
    async left(call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) {
      const key = String(call.metadata.get('x-key'));
      if (!left.has(key)) await once(departures, key);
      reply(call, callback, call.request);
    },
    Version: unary(identity),
    RunPodSandbox: unary((request) => Buffer.from(`\n@${sha256(request)}`)),
    PodSandboxStatus: unary(() => Buffer.from([(1 << 3) | 2, 0])),
  });
  await new Promise<void>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync(`unix:${socketPath}`, credentials, (error) => (error ? reject(error) : resolve()));
  });
  return server;
}
