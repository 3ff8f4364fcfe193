/** Frames for tests: made by hand, read back, and a router between two hands. */

import { type Budgets, newBudgets } from '../../../src/proxy/http2/budgets.js';
import { Flag, FrameType, frame, frameHeaderBytes, headersFrames } from '../../../src/proxy/http2/frames.js';
import { encodeLiteralBlock, type HeaderField, HpackDecoder } from '../../../src/proxy/http2/hpack.js';
import { defaultLimits, type Limits } from '../../../src/proxy/http2/limits.js';
import { Router, type RouterHandlers } from '../../../src/proxy/http2/router.js';
import type { TakenCall } from '../../../src/proxy/taken-call.js';
import { ManualClock, settle } from '../../support/manual-clock.js';

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** Whole frames at the front of `bytes`, and how many bytes they take. */
export function readFrames(bytes: Buffer): { frames: Frame[]; length: number } {
  const frames: Frame[] = [];
  let at = 0;
  while (bytes.length - at >= frameHeaderBytes) {
    const end = at + frameHeaderBytes + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    const [type = 0, flags = 0] = bytes.subarray(at + 3, at + 5);
    const streamId = bytes.readUInt32BE(at + 5) & 0x7fffffff;
    frames.push({ type, flags, streamId, payload: bytes.subarray(at + frameHeaderBytes, end) });
    at = end;
  }
  return { frames, length: at };
}

const typeNames = Object.entries(FrameType);

/** Short forms that read well in a comparison: `DATA 1 len=3 end`. */
export function show({ type, flags, streamId, payload }: Frame): string {
  const name = typeNames.find(([, value]) => value === type)?.[0] ?? `type${type}`;
  const ends = (type === FrameType.data || type === FrameType.headers) && (flags & Flag.endStream) !== 0;
  const acks = (type === FrameType.settings || type === FrameType.ping) && (flags & Flag.ack) !== 0;
  const number = type === FrameType.windowUpdate || type === FrameType.rstStream ? payload.readUInt32BE(0) : undefined;
  const detail =
    number !== undefined
      ? `${number}`
      : type === FrameType.goAway
        ? `last=${payload.readUInt32BE(0)} code=${payload.readUInt32BE(4)}`
        : type === FrameType.data
          ? `len=${payload.length}`
          : '';
  return [name, streamId, detail, ends ? 'end' : '', acks ? 'ack' : ''].filter((part) => part !== '').join(' ');
}

export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => {
    bytes.writeUInt32BE(value, 4 * index);
  });
  return bytes;
}

export const data = (streamId: number, payload: Buffer | number, end = false): Buffer =>
  frame(FrameType.data, end ? Flag.endStream : 0, streamId, Buffer.isBuffer(payload) ? payload : Buffer.alloc(payload));

export const windowUpdate = (streamId: number, n: number): Buffer => frame(FrameType.windowUpdate, 0, streamId, u32(n));
export const reset = (streamId: number, code = 8): Buffer => frame(FrameType.rstStream, 0, streamId, u32(code));
export const goAway = (last: number, code = 0): Buffer => frame(FrameType.goAway, 0, 0, u32(last, code));
export const settingsAck = frame(FrameType.settings, Flag.ack, 0, Buffer.alloc(0));

export function settings(...entries: [id: number, value: number][]): Buffer {
  const parts = entries.map(([id, value]) => Buffer.concat([Buffer.from([0, id]), u32(value)]));
  return frame(FrameType.settings, 0, 0, Buffer.concat(parts));
}

export const ping = (payload: string | Buffer, ack = false): Buffer =>
  frame(FrameType.ping, ack ? Flag.ack : 0, 0, Buffer.from(payload));

export function fields(list: Readonly<Record<string, string>>): HeaderField[] {
  return Object.entries(list).map(([name, value]) => ({ name, value }));
}

export function requestFields(path: string, extra: Readonly<Record<string, string>> = {}): HeaderField[] {
  return fields({
    ':method': 'POST',
    ':scheme': 'http',
    ':path': path,
    ':authority': 'localhost',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...extra,
  });
}

export function request(
  streamId: number,
  path: string,
  extra: Readonly<Record<string, string>> = {},
  end = false,
): Buffer {
  return headersFrames(streamId, encodeLiteralBlock(requestFields(path, extra)), end);
}

export function headers(streamId: number, list: Readonly<Record<string, string>>, end = false): Buffer {
  return headersFrames(streamId, encodeLiteralBlock(fields(list)), end);
}

/** What a runtime may say of a failure at length: printable, and with nothing that gRPC would escape. */
export function longText(length: number): string {
  return 'failed to create shim task: OCI runtime create failed: exec: "/pause" (exit status 127); '
    .repeat(Math.ceil(length / 80))
    .slice(0, length);
}

/** One gRPC message with its prefix. */
export function message(body: Buffer | string, compressed = false): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([Buffer.from([compressed ? 1 : 0]), u32(bytes.length), bytes]);
}

export function decodeBlock(
  block: Buffer,
  decoder = new HpackDecoder({ maxTableBytes: 4096, maxHeaderListBytes: 1 << 20 }),
) {
  const decoded = decoder.decode(block);
  return { ...decoded, values: Object.fromEntries(decoded.fields.map(({ name, value }) => [name, value])) };
}

class Wire {
  #bytes: Buffer = Buffer.alloc(0);
  all: Buffer = Buffer.alloc(0);

  push(bytes: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    this.all = Buffer.concat([this.all, bytes]);
  }

  /** Whole frames since the last call. */
  frames(): Frame[] {
    const { frames, length } = readFrames(this.#bytes);
    this.#bytes = this.#bytes.subarray(length);
    return frames;
  }

  shown(): string[] {
    return this.frames().map(show);
  }
}

const overwritten = 0xee;

const decisions = ['take', 'observe', 'report'] as const;

/** A router whose peers are played by the test: `/pass…`, `/observe…`, `/report…` and `/take…` are decided by their names. */
export class RouterBench {
  readonly clock = new ManualClock();
  readonly toClient = new Wire();
  readonly toRuntime = new Wire();
  readonly calls: TakenCall[] = [];
  readonly observed: string[] = [];
  /** How observed calls ended: `/observe/A succeeded`. */
  readonly ends: string[] = [];
  readonly violations: string[] = [];
  readonly refusals: string[] = [];
  readonly router: Router;
  ready = true;
  closed = false;
  destroyed = false;
  /** Whether reports are taken when their answers begin. */
  late = false;

  constructor(
    limits: Partial<Limits> = {},
    handlers: Partial<RouterHandlers> = {},
    budgets: (clock: ManualClock) => Partial<Budgets> = () => ({}),
  ) {
    this.router = new Router({
      clock: this.clock,
      budgets: { ...newBudgets(this.clock), ...budgets(this.clock) },
      limits: { ...defaultLimits, ...limits },
      handlers: {
        decide: (path) => decisions.find((decision) => path.startsWith(`/${decision}`)) ?? 'pass',
        takesLate: () => this.late,
        observe: (path, body) => {
          this.observed.push(`${path} ${body.toString()}`);
          return (succeeded) => this.ends.push(`${path} ${succeeded ? 'succeeded' : 'failed'}`);
        },
        take: (call) => this.calls.push(call),
        violation: (peer, reason) => this.violations.push(`${peer}: ${reason}`),
        refused: (reason, isFirst) => this.refusals.push(isFirst ? reason : `${reason} again`),
        ...handlers,
      },
      output: {
        toDownstream: (bytes) => this.toClient.push(bytes),
        toUpstream: (bytes) => this.toRuntime.push(bytes),
        downstreamReady: () => this.ready,
        flush: () => {},
        close: () => {
          this.closed = true;
        },
        destroy: () => {
          this.destroyed = true;
        },
      },
    });
  }

  /** Past the exchange of SETTINGS, with nothing left to read. */
  static async started(limits: Partial<Limits> = {}, ...client: [id: number, value: number][]): Promise<RouterBench> {
    const bench = new RouterBench(limits);
    await bench.start(...client);
    return bench;
  }

  /** Exchanges SETTINGS and leaves nothing of that to read. */
  async start(...client: [id: number, value: number][]): Promise<void> {
    await this.client(settings(...client));
    await this.runtime(settings(), settingsAck);
    await this.client(settingsAck);
    this.toClient.frames();
    this.toRuntime.frames();
  }

  /** One chunk of the client, overwritten afterwards as in a socket's read buffer. */
  fromClient(bytes: Buffer): void {
    const chunk = Buffer.from(bytes);
    this.router.fromDownstream(chunk);
    chunk.fill(overwritten);
  }

  fromRuntime(bytes: Buffer): void {
    const chunk = Buffer.from(bytes);
    this.router.fromUpstream(chunk);
    chunk.fill(overwritten);
  }

  async client(...frames: Buffer[]): Promise<void> {
    this.fromClient(Buffer.concat(frames));
    await settle();
  }

  async runtime(...frames: Buffer[]): Promise<void> {
    this.fromRuntime(Buffer.concat(frames));
    await settle();
  }

  call(index = 0): TakenCall {
    const call = this.calls[index];
    if (call === undefined) throw new Error(`no taken call ${index}`);
    return call;
  }

  /** Opens a taken stream with a complete request. */
  async take(streamId: number, extra: Readonly<Record<string, string>> = {}): Promise<TakenCall> {
    await this.client(request(streamId, '/take/Call', extra), data(streamId, message('ask'), true));
    return this.call(this.calls.length - 1);
  }
}

export const ok = { code: 0, message: '', trailers: [] };
