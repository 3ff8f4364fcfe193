/** A runtime played by the test in HTTP/2 frames, on a unix socket: what no library would send. */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Clock } from '../../../src/clock.js';
import { Dialer } from '../../../src/proxy/http2/dialer.js';
import { connectionPreface, Flag, FrameType } from '../../../src/proxy/http2/frames.js';
import { openGrpcClient } from '../../../src/proxy/http2/grpc-client.js';
import { HpackDecoder } from '../../../src/proxy/http2/hpack.js';
import type { Upstream } from '../../../src/proxy/upstream.js';
import { FramePeer } from '../../support/frame-peer.js';
import { ManualClock } from '../../support/manual-clock.js';
import { data, decodeBlock, type Frame, headers, message, settings, settingsAck, show } from './wire.js';

const pollMs = 1;

/** Waits for what needs no time but that of the machine. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(pollMs);
}

export const responseHeaders = { ':status': '200', 'content-type': 'application/grpc' };
export const okTrailers = { 'grpc-status': '0', 'grpc-message': '' };

export interface RawRequest {
  readonly streamId: number;
  readonly path: string;
  readonly fields: Readonly<Record<string, string>>;
  body: Buffer;
  isWhole: boolean;
  /** Code of its RST_STREAM. */
  reset: number | undefined;
}

export class RawConnection {
  readonly peer: FramePeer;
  readonly frames: Frame[] = [];
  /** In the order of their HEADERS. */
  readonly requests: RawRequest[] = [];
  readonly #decoder = new HpackDecoder({ maxTableBytes: 4096, maxHeaderListBytes: 1 << 20 });

  constructor(socket: net.Socket) {
    this.peer = new FramePeer(socket, connectionPreface.length);
    this.peer.onFrame = (frame) => {
      this.frames.push({ ...frame, payload: Buffer.from(frame.payload) });
      this.#note(frame);
    };
  }

  #note({ type, flags, streamId, payload }: Frame): void {
    if (type === FrameType.headers) {
      const { values } = decodeBlock(payload, this.#decoder);
      const path = values[':path'] ?? '';
      this.requests.push({ streamId, path, fields: values, body: Buffer.alloc(0), isWhole: false, reset: undefined });
    }
    const request = this.requests.find((known) => known.streamId === streamId);
    if (request === undefined) return;
    if (type === FrameType.rstStream) request.reset = payload.readUInt32BE(0);
    if (type === FrameType.data) request.body = Buffer.concat([request.body, payload]);
    if (type === FrameType.data && (flags & Flag.endStream) !== 0) request.isWhole = true;
  }

  write(...frames: Buffer[]): void {
    this.peer.write(...frames);
  }

  /** Answers with one message and OK. */
  answer(streamId: number, body: Buffer | string = 'answer'): void {
    this.write(headers(streamId, responseHeaders), data(streamId, message(body)), headers(streamId, okTrailers, true));
  }

  async request(index = 0): Promise<RawRequest> {
    await until(() => this.requests[index]?.isWhole === true);
    const request = this.requests[index];
    if (request === undefined) throw new Error(`no request ${index}`);
    return request;
  }

  shown(type: number): string[] {
    return this.frames.filter((frame) => frame.type === type).map(show);
  }

  /** Bytes granted for a stream, or (0) for the connection, beyond the first window. */
  granted(streamId: number): number {
    return this.frames
      .filter((frame) => frame.type === FrameType.windowUpdate && frame.streamId === streamId)
      .reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  }
}

export class RawRuntime {
  readonly socketPath: string;
  readonly connections: RawConnection[] = [];
  /** Sent on each new connection. */
  greeting: readonly Buffer[] = [settings(), settingsAck];
  onConnection: (connection: RawConnection) => void = () => {};
  #server: net.Server | undefined;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  async listen(): Promise<void> {
    fs.rmSync(this.socketPath, { force: true });
    const server = net.createServer((socket) => {
      const connection = new RawConnection(socket);
      this.connections.push(connection);
      connection.write(...this.greeting);
      this.onConnection(connection);
    });
    this.#server = server;
    server.listen(this.socketPath);
    await once(server, 'listening');
  }

  async connection(index = 0): Promise<RawConnection> {
    await until(() => this.connections[index] !== undefined);
    return this.connections[index] as RawConnection;
  }

  /** Where the first whole request of this path is. */
  async requested(path: string): Promise<{ connection: RawConnection; request: RawRequest }> {
    const find = () =>
      this.connections
        .filter(({ peer }) => !peer.isOver)
        .flatMap((connection) => connection.requests.map((request) => ({ connection, request })))
        .find(({ request }) => request.path === path && request.isWhole);
    await until(() => find() !== undefined);
    return find() as { connection: RawConnection; request: RawRequest };
  }

  /** Cuts everything and listens no more. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    const closed = server === undefined ? undefined : once(server, 'close');
    server?.close();
    for (const { peer } of this.connections) peer.destroy();
    await closed;
  }
}

export interface RawScene {
  readonly runtime: RawRuntime;
  readonly clock: ManualClock;
  readonly dialer: Dialer;
  readonly client: Upstream;
  /** What the dialer said. */
  readonly presence: string[];
}

export function socketPath(t: Test): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'grpc-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  return path.join(folder, 'r.sock');
}

/** A client of whatever listens there, closed at the end of the test. */
export function openClient(
  t: Test,
  at: string,
  clock: Clock,
): { client: Upstream; dialer: Dialer; presence: string[] } {
  const presence: string[] = [];
  const dialer = new Dialer(at, clock, {
    appeared: () => presence.push('appeared'),
    vanished: (cause) => presence.push(`vanished: ${cause?.code}`),
  });
  const client = openGrpcClient(dialer, clock);
  t.teardown(() => {
    client.close();
    dialer.close();
  });
  return { client, dialer, presence };
}

/** A client and its raw runtime, which listens unless told otherwise. */
export async function rawScene(
  t: Test,
  { isUp = true, greeting }: { isUp?: boolean; greeting?: readonly Buffer[] } = {},
): Promise<RawScene> {
  const runtime = new RawRuntime(socketPath(t));
  if (greeting !== undefined) runtime.greeting = greeting;
  const clock = new ManualClock();
  if (isUp) await runtime.listen();
  t.teardown(() => runtime.stop());
  return { runtime, clock, ...openClient(t, runtime.socketPath, clock) };
}
