/** A grpc-js client for methods in no proto: makes calls as they are described and tells all it saw of them. */
import { createHash } from 'node:crypto';
import * as grpc from '@grpc/grpc-js';
import pLimit from 'p-limit';

export type Shape = 'unary' | 'clientStream' | 'serverStream' | 'bidi';

/** What to call; JSON, since the peers in other languages are told the same. */
export interface AnyCall {
  readonly path: string;
  readonly shape: Shape;
  /** A number stands for so many bytes of a pattern, a string for bytes in base64. */
  readonly messages: readonly (number | string)[];
  /** Values of `-bin` names in base64. */
  readonly metadata?: readonly (readonly [name: string, value: string])[];
  readonly timeoutMs?: number;
  /** Cancelled once the answer's initial metadata is there. */
  readonly cancel?: boolean;
}

/** Calls of one connection. */
export interface AnyCalls {
  /** `:authority`, where it is not to be the library's own choice. */
  readonly authority?: string;
  /** How many are under way at once; they are started in order. */
  readonly parallel: number;
  /** Whether request messages are compressed. */
  readonly gzip?: boolean;
  readonly calls: readonly AnyCall[];
}

/** What the client saw of one call. */
export interface Seen {
  /**
   * grpc-js: none of a call that failed, since an error status may overtake messages before it (subchannel-call.ts,
   * maybeOutputStatus).
   */
  readonly messages: readonly (readonly [bytes: number, sha256: string])[];
  /** Values of `-bin` names in base64. */
  readonly metadata: Readonly<Record<string, readonly string[]>>;
  readonly code: number;
  readonly details: string;
  readonly trailers: Readonly<Record<string, readonly string[]>>;
}

const identity = (bytes: Buffer): Buffer => bytes;
const pattern = Buffer.from(Array.from({ length: 251 }, (_, n) => n));

/** Makes the calls on one connection to a unix socket. @returns What was seen of each, in the order of the calls. */
export async function makeCalls(socketPath: string, { authority, parallel, gzip, calls }: AnyCalls): Promise<Seen[]> {
  const client = new grpc.Client(`unix:${socketPath}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    ...(authority !== undefined && { 'grpc.default_authority': authority }),
    ...(gzip && { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip }),
  });
  const limit = pLimit(parallel);
  try {
    return await Promise.all(calls.map((call) => limit(() => make(client, call))));
  } finally {
    client.close();
  }
}

async function make(
  client: grpc.Client,
  { path, shape, messages, metadata, timeoutMs, cancel }: AnyCall,
): Promise<Seen> {
  const received: Buffer[] = [];
  const note = (_: unknown, message?: Buffer) => {
    if (message !== undefined) received.push(message);
  };
  const outgoing = new grpc.Metadata();
  for (const [name, value] of metadata ?? []) {
    outgoing.add(name, name.endsWith('-bin') ? Buffer.from(value, 'base64') : value);
  }
  const options = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
  const bytes = messages.map(bytesOf);
  const [first = Buffer.alloc(0)] = bytes;
  const call = {
    unary: () => client.makeUnaryRequest(path, identity, identity, first, outgoing, options, note),
    clientStream: () =>
      written(client.makeClientStreamRequest(path, identity, identity, outgoing, options, note), bytes),
    serverStream: () => client.makeServerStreamRequest(path, identity, identity, first, outgoing, options),
    bidi: () => written(client.makeBidiStreamRequest(path, identity, identity, outgoing, options), bytes),
  }[shape]();
  let initial = new grpc.Metadata();
  call.on('metadata', (got: grpc.Metadata) => {
    initial = got;
    if (cancel) call.cancel();
  });
  call.on('data', (message: Buffer) => received.push(message));
  // The status says the same.
  call.on('error', () => {});
  const status = new Promise<grpc.StatusObject>((resolve) => call.on('status', resolve));
  // The status may come before the last messages do.
  if (shape === 'serverStream' || shape === 'bidi') await new Promise<void>((resolve) => call.on('end', resolve));
  const { code, details, metadata: trailers } = await status;
  return {
    messages: code === grpc.status.OK ? received.map((message) => [message.length, sha256(message)] as const) : [],
    metadata: printable(initial),
    code,
    details,
    trailers: printable(trailers),
  };
}

function bytesOf(message: number | string): Buffer {
  return typeof message === 'string' ? Buffer.from(message, 'base64') : Buffer.alloc(message, pattern);
}

function written<Call extends grpc.ClientWritableStream<Buffer> | grpc.ClientDuplexStream<Buffer, Buffer>>(
  call: Call,
  messages: readonly Buffer[],
): Call {
  for (const message of messages) call.write(message);
  call.end();
  return call;
}

function printable(metadata: grpc.Metadata): Record<string, string[]> {
  const entries = Object.entries(metadata.toJSON());
  return Object.fromEntries(
    entries.map(([name, values]) => [
      name,
      values.map((value) => (typeof value === 'string' ? value : value.toString('base64'))),
    ]),
  );
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
