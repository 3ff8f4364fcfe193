/** A gRPC server with methods in no proto, one of each shape, and a client of it: what goes over the wire is up to the two. */
import * as grpc from '@grpc/grpc-js';

type Shape = 'unary' | 'clientStream' | 'serverStream' | 'bidi';

const identity = (bytes: Buffer): Buffer => bytes;

const first = Buffer.from('first');
const second = Buffer.from('second');

function definition(shape: Shape) {
  return {
    path: `/nowhere.v7.Unheard/${shape}`,
    requestStream: shape === 'clientStream' || shape === 'bidi',
    responseStream: shape === 'serverStream' || shape === 'bidi',
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}

const service = {
  unary: definition('unary'),
  clientStream: definition('clientStream'),
  serverStream: definition('serverStream'),
  bidi: definition('bidi'),
};

function answerMetadata(request: grpc.Metadata): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('x-seen', String(request.get('x-asked')));
  metadata.set('x-seen-bin', request.get('x-asked-bin')[0] ?? '');
  return metadata;
}

function trailers(): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set('x-last', 'trailer');
  metadata.set('grpc-status-details-bin', Buffer.alloc(13_000, 5));
  return metadata;
}

/** Streams end with DATA_LOSS, a long text and long trailers; the others with OK. */
const loss = { code: grpc.status.DATA_LOSS, details: 'lost: ü%\n'.repeat(100) };

/** @param socketPath Absolute; the server answers every message with itself. */
export async function startBackend(socketPath: string): Promise<grpc.Server> {
  const server = new grpc.Server();
  const stream = (call: grpc.ServerDuplexStream<Buffer, Buffer> | grpc.ServerWritableStream<Buffer, Buffer>) => {
    call.sendMetadata(answerMetadata(call.metadata));
    const end = () => call.emit('error', { ...loss, metadata: trailers() });
    if ('request' in call) {
      call.write(call.request);
      call.write(call.request);
      end();
      return;
    }
    call.on('data', (message: Buffer) => call.write(message));
    call.on('end', end);
  };
  server.addService(service, {
    unary(call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) {
      call.sendMetadata(answerMetadata(call.metadata));
      callback(null, call.request, trailers());
    },
    clientStream(call: grpc.ServerReadableStream<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) {
      const messages: Buffer[] = [];
      call.sendMetadata(answerMetadata(call.metadata));
      call.on('data', (message: Buffer) => messages.push(message));
      call.on('end', () => callback(null, Buffer.concat(messages), trailers()));
    },
    serverStream: stream,
    bidi: stream,
  });
  await new Promise<void>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync(`unix:${socketPath}`, credentials, (error) => (error ? reject(error) : resolve()));
  });
  return server;
}

/** One call of a shape. @returns Everything its client saw. */
export async function exchange(socketPath: string, shape: Shape) {
  const client = new grpc.Client(`unix:${socketPath}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  const request = new grpc.Metadata();
  request.set('x-asked', 'value');
  request.set('x-asked-bin', Buffer.from([0, 255, 10]));
  const path = definition(shape).path;
  const received: string[] = [];
  const note = (_: unknown, message?: Buffer) => {
    if (message !== undefined) received.push(message.toString());
  };
  const call = {
    unary: () => client.makeUnaryRequest(path, identity, identity, first, request, note),
    clientStream: () => written(client.makeClientStreamRequest(path, identity, identity, request, note)),
    serverStream: () => client.makeServerStreamRequest(path, identity, identity, first, request),
    bidi: () => written(client.makeBidiStreamRequest(path, identity, identity, request)),
  }[shape]();
  let metadata: unknown;
  call.on('metadata', (got: grpc.Metadata) => {
    metadata = got.toJSON();
  });
  call.on('data', (message: Buffer) => received.push(message.toString()));
  call.on('error', () => {});
  const status = await new Promise<grpc.StatusObject>((resolve) => call.on('status', resolve));
  client.close();
  const { code, details } = status;
  return {
    received: received.join('\n'),
    metadata: withoutDate(metadata),
    code,
    details,
    trailers: status.metadata.toJSON(),
  };
}

/** Sends two messages. */
function written<Call extends grpc.ClientWritableStream<Buffer> | grpc.ClientDuplexStream<Buffer, Buffer>>(
  call: Call,
): Call {
  call.write(first);
  call.write(second);
  call.end();
  return call;
}

function withoutDate(metadata: unknown): unknown {
  return typeof metadata === 'object' ? { ...metadata, date: undefined } : metadata;
}
