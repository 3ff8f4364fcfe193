/** Holdfast in process between clients and a runtime that is played by the test in frames. */
import type { Test } from 'tap';
import {
  connectionPreface,
  Flag,
  FrameType,
  forEachSetting,
  initialSettings,
  Setting,
} from '../../src/proxy/http2/frames.js';
import { type RawConnection, type RawRequest, RawRuntime } from '../proxy/http2/raw-runtime.js';
import {
  data,
  decodeBlock,
  type Frame,
  message,
  ping,
  request,
  reset,
  settings,
  windowUpdate,
} from '../proxy/http2/wire.js';
import { FramePeer } from './frame-peer.js';
import { settle } from './manual-clock.js';
import { Rig, type RigOptions } from './rig.js';

const service = '/runtime.v1.RuntimeService';
const lookMs = 500;

export const pathOf = (method: string): string => `${service}/${method}`;

/** @param greeting What the runtime sends on each new connection. */
export async function rawRig(
  t: Test,
  { greeting, ...options }: RigOptions & { readonly greeting?: readonly Buffer[] } = {},
): Promise<{ rig: Rig; runtime: RawRuntime }> {
  const rig = await Rig.start(t, { ...options, runtimeUp: false });
  const runtime = new RawRuntime(rig.config.runtime);
  if (greeting !== undefined) runtime.greeting = greeting;
  t.teardown(() => runtime.stop());
  await rig.logged(({ msg }) => msg === 'the runtime is not there: calls wait for it');
  await runtime.listen();
  while (runtime.connections.length === 0) await rig.clock.advance(lookMs);
  return { rig, runtime };
}

/** The request of a method that came `nth`, whole; over whichever connection. */
export async function arrival(
  runtime: RawRuntime,
  method: string,
  nth = 1,
): Promise<{ connection: RawConnection; request: RawRequest }> {
  for (;;) {
    const found = runtime.connections.flatMap((connection) =>
      connection.requests
        .filter(({ path, isWhole }) => path === pathOf(method) && isWhole)
        .map((one) => ({ connection, request: one })),
    )[nth - 1];
    if (found !== undefined) return found;
    await settle();
  }
}

/** Resolves once Holdfast has handled all that was sent on this connection before. */
export async function handled(connection: RawConnection): Promise<void> {
  const acks = () =>
    connection.frames.filter(({ type, flags }) => type === FrameType.ping && (flags & Flag.ack) !== 0).length;
  const before = acks();
  connection.write(ping('handled?'));
  while (acks() === before) await settle();
}

/** Bytes of DATA by stream, and (0) on the connection. */
const sentOn = new WeakMap<RawConnection, Map<number, number>>();

/**
 * Sends what the windows of Holdfast allow as DATA of a stream, for as long as it grants more.
 *
 * @returns How many bytes that were.
 */
export async function pour(connection: RawConnection, streamId: number, bytes: Buffer): Promise<number> {
  const sent = sentOn.get(connection) ?? new Map<number, number>();
  sentOn.set(connection, sent);
  const room = (id: number, window: number) => window + connection.granted(id) - (sent.get(id) ?? 0);
  let at = 0;
  for (let patience = 3; patience > 0 && at < bytes.length && !connection.peer.isOver; patience--) {
    const end =
      at + Math.min(room(streamId, initialWindow(connection)), room(0, initialSettings.windowSize), bytes.length - at);
    while (at < end) {
      const part = bytes.subarray(at, Math.min(end, at + initialSettings.maxFrameSize));
      connection.write(data(streamId, part));
      for (const id of [0, streamId]) sent.set(id, (sent.get(id) ?? 0) + part.length);
      at += part.length;
      patience = 3;
    }
    await handled(connection);
  }
  return at;
}

function initialWindow({ frames }: RawConnection): number {
  let window: number = initialSettings.windowSize;
  for (const { type, flags, payload } of frames) {
    if (type !== FrameType.settings || flags !== 0) continue;
    forEachSetting(payload, (id, value) => {
      if (id === Setting.initialWindowSize) window = value;
    });
  }
  return window;
}

export interface RawAnswer {
  /** Of headers and trailers. */
  readonly fields: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Code of RST_STREAM, where it ended so. */
  readonly reset: number | undefined;
}

/** A client that speaks frames, and acknowledges nothing. */
export class RawCaller {
  readonly peer: FramePeer;
  readonly #streams = new Map<number, Frame[]>();
  readonly #ended = new Map<number, (frames: readonly Frame[]) => void>();
  readonly #watchers = new Set<() => void>();
  #lastId = -1;

  private constructor(peer: FramePeer) {
    this.peer = peer;
    peer.onFrame = (frame) => {
      const frames = this.frames(frame.streamId);
      frames.push({ ...frame, payload: Buffer.from(frame.payload) });
      this.#streams.set(frame.streamId, frames);
      for (const changed of this.#watchers) changed();
      if (isEnded(frames)) this.#ended.get(frame.streamId)?.(frames);
    };
  }

  /** @param entries Its SETTINGS. */
  static async connect(t: Test, rig: Rig, ...entries: [id: number, value: number][]): Promise<RawCaller> {
    const peer = await FramePeer.connect(rig.config.listen);
    t.teardown(() => peer.destroy());
    peer.write(connectionPreface, settings(...entries));
    return new RawCaller(peer);
  }

  /** @returns The id of its stream. */
  call(method: string, body: Buffer = Buffer.alloc(0), extra: Readonly<Record<string, string>> = {}): number {
    return this.#send(method, message(body), extra);
  }

  /** @param body In gzip. */
  callCompressed(method: string, body: Buffer): number {
    return this.#send(method, message(body, true), { 'grpc-encoding': 'gzip' });
  }

  #send(method: string, body: Buffer, extra: Readonly<Record<string, string>>): number {
    this.#lastId += 2;
    this.peer.write(request(this.#lastId, pathOf(method), extra), data(this.#lastId, body, true));
    return this.#lastId;
  }

  /** What has come on a stream, or (0) on the connection. */
  frames(streamId: number): Frame[] {
    return this.#streams.get(streamId) ?? [];
  }

  /** Resolves once what came on the connection itself is as asked for. */
  until(matches: (frames: readonly Frame[]) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!matches(this.frames(0))) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** The next stream is this one. */
  skipTo(streamId: number): void {
    this.#lastId = streamId - 2;
  }

  reset(streamId: number): void {
    this.peer.write(reset(streamId));
  }

  grant(streamId: number, bytes: number): void {
    this.peer.write(windowUpdate(streamId, bytes));
  }

  /** Resolves at the end of the stream. */
  async answer(streamId: number): Promise<RawAnswer> {
    const now = this.frames(streamId);
    const frames = isEnded(now)
      ? now
      : await new Promise<readonly Frame[]>((resolve) => this.#ended.set(streamId, resolve));
    const blocks: Buffer[][] = [];
    for (const { type, payload } of frames) {
      if (type === FrameType.headers) blocks.push([payload]);
      if (type === FrameType.continuation) blocks.at(-1)?.push(payload);
    }
    const fields = Object.assign({}, ...blocks.map((block) => decodeBlock(Buffer.concat(block)).values));
    const body = Buffer.concat(frames.filter(({ type }) => type === FrameType.data).map(({ payload }) => payload));
    return { fields, body, reset: frames.find(({ type }) => type === FrameType.rstStream)?.payload.readUInt32BE(0) };
  }
}

function isEnded(frames: readonly Frame[]): boolean {
  const isLast = ({ type, flags }: Frame) =>
    type === FrameType.rstStream || (type === FrameType.headers && (flags & Flag.endStream) !== 0);
  const last = frames.findLast(({ type }) => type === FrameType.headers || type === FrameType.continuation);
  return frames.some(isLast) && (last === undefined || (last.flags & Flag.endHeaders) !== 0);
}
