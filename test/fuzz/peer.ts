/**
 * An HTTP/2 endpoint that keeps the protocol, as far as client and runtime have it in common: it reads what it was sent
 * when told to, keeps both sides' windows, measures its bandwidth as grpc-go does, and collects what it writes, damaged
 * where a case asks for that.
 */

import type { Random } from '../../src/harness/random.js';
import { Flag, FrameType, frame, initialSettings, max31, Setting } from '../../src/proxy/http2/frames.js';
import type { HeaderField } from '../../src/proxy/http2/hpack.js';
import { BdpEstimator, bdpPayload } from '../proxy/http2/model/grpc-go.js';
import { type Frame, ping, readFrames, reset, settings, settingsAck, windowUpdate } from '../proxy/http2/wire.js';
import { HpackEncoder } from './hpack-encoder.js';
import { mutate } from './mutate.js';

/** Named values, in any order. */
export type Settings = ReadonlyArray<readonly [id: number, value: number]>;

export interface PeerStream {
  readonly id: number;
  readonly path: string;
  /** What this peer may send. */
  window: number;
  /** What it has granted and not received. */
  granted: number;
  ended: boolean;
  otherEnded: boolean;
  /** Nothing more may be sent. */
  over: boolean;
  /** What this peer still has to send. */
  body: Buffer;
  headersSent: boolean;
}

const maxGrant = 1 << 20;
const maxConnectionGrant = 1 << 30;

export abstract class Peer {
  readonly streams = new Map<number, PeerStream>();
  /** Probability that a frame is damaged. */
  damage = 0;
  /** Whether it sends the PINGs of a bandwidth estimator. */
  measures = false;
  readonly #bandwidth = new BdpEstimator();
  protected readonly encoder = new HpackEncoder();
  #inbox: Frame[] = [];
  #rest: Buffer = Buffer.alloc(0);
  #pending: Buffer[] = [];
  readonly #earlier: Buffer[] = [];
  #window: number = initialSettings.windowSize;
  #granted: number = initialSettings.windowSize;
  #initialWindow: number = initialSettings.windowSize;
  #maxFrameSize: number = initialSettings.maxFrameSize;
  /** Initial windows of this peer that the other has not acknowledged. */
  readonly #offered: (number | undefined)[] = [];
  protected ownInitialWindow: number = initialSettings.windowSize;
  lastServedId = max31;

  get hasMail(): boolean {
    return this.#inbox.length > 0;
  }

  /** Bytes written and not yet on their way. */
  get pendingBytes(): number {
    return this.#pending.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  get initialWindow(): number {
    return this.#initialWindow;
  }

  receive(bytes: Buffer): void {
    const joined = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const { frames, length } = readFrames(joined);
    this.#rest = joined.subarray(length);
    this.#inbox.push(...frames);
  }

  /** Reads and answers up to `count` frames. */
  read(count: number, random: Random): void {
    for (const got of this.#inbox.splice(0, count)) {
      try {
        this.#handle(got, random);
      } catch (error) {
        // A frame as damaged by the other peer.
        if (!(error instanceof RangeError)) throw error;
      }
    }
  }

  /** The next `count` bytes to go out. */
  takePending(count: number): Buffer {
    const all = Buffer.concat(this.#pending);
    this.#pending = count < all.length ? [all.subarray(count)] : [];
    return all.subarray(0, count);
  }

  #handle(got: Frame, random: Random): void {
    const { type, flags, streamId, payload } = got;
    const ack = (flags & Flag.ack) !== 0;
    const stream = this.streams.get(streamId);
    switch (type) {
      case FrameType.settings:
        if (ack) this.#acknowledged();
        else this.#settings(payload, random);
        break;
      case FrameType.ping:
        this.#ping(ack, payload, random);
        break;
      case FrameType.windowUpdate:
        if (streamId === 0) this.#window += payload.readUInt32BE(0) & max31;
        else if (stream !== undefined) stream.window += payload.readUInt32BE(0) & max31;
        break;
      case FrameType.goAway:
        this.lastServedId = Math.min(this.lastServedId, payload.readUInt32BE(0) & max31);
        for (const { id } of this.streams.values()) if (id > this.lastServedId) this.end(id);
        break;
      case FrameType.rstStream:
        this.end(streamId);
        break;
      case FrameType.data:
        this.#granted -= payload.length;
        if (stream !== undefined) stream.granted -= payload.length;
        this.gotData(stream, got);
        if (this.measures && this.#bandwidth.received()) this.write(ping(bdpPayload), random);
        break;
      case FrameType.headers:
        this.gotHeaders(got);
        break;
    }
    const last = this.streams.get(streamId);
    const carriesEnd = type === FrameType.data || type === FrameType.headers;
    if (last !== undefined && carriesEnd && (flags & Flag.endStream) !== 0) {
      last.otherEnded = true;
      this.settle(last);
    }
  }

  #ping(ack: boolean, payload: Buffer, random: Random): void {
    if (ack) {
      this.#bandwidth.acknowledged(payload);
      return;
    }
    if (payload.length === bdpPayload.length) this.write(ping(payload, true), random);
    this.gotPing(random);
  }

  protected gotPing(_random: Random): void {}
  protected gotData(_stream: PeerStream | undefined, _frame: Frame): void {}
  protected gotHeaders(_frame: Frame): void {}

  protected settle(stream: PeerStream): void {
    if (stream.ended && stream.otherEnded) this.end(stream.id);
  }

  protected end(streamId: number): void {
    const stream = this.streams.get(streamId);
    if (stream !== undefined) stream.over = true;
    this.streams.delete(streamId);
  }

  #settings(payload: Buffer, random: Random): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      switch (payload.readUInt16BE(at)) {
        case Setting.headerTableSize:
          this.encoder.setLimit(value);
          break;
        case Setting.initialWindowSize:
          for (const stream of this.streams.values()) stream.window += value - this.#initialWindow;
          this.#initialWindow = value;
          break;
        case Setting.maxFrameSize:
          this.#maxFrameSize = Math.max(initialSettings.maxFrameSize, Math.min(value, 1 << 16));
          break;
      }
    }
    this.write(settingsAck, random);
  }

  #acknowledged(): void {
    const window = this.#offered.shift();
    if (window === undefined) return;
    for (const stream of this.streams.values()) stream.granted += window - this.ownInitialWindow;
    this.ownInitialWindow = window;
  }

  /** Writes whole frames, or what is left of them. */
  write(bytes: Buffer, random: Random): void {
    const written = random.chance(this.damage) ? mutate(bytes, random, this.#earlier) : bytes;
    if (this.damage > 0) {
      if (this.#earlier.length < 40) this.#earlier.push(bytes);
      else this.#earlier[random.below(40)] = bytes;
    }
    if (written.length > 0) this.#pending.push(written);
  }

  sendSettings(values: Settings, random: Random): void {
    this.#offered.push(values.findLast(([id]) => id === Setting.initialWindowSize)?.[1]);
    this.write(settings(...values.map(([id, value]): [number, number] => [id, value])), random);
  }

  sendHeaders(stream: PeerStream, fields: readonly HeaderField[], endStream: boolean, random: Random): void {
    const block = this.encoder.encode(fields, random);
    const priority = random.chance(0.1) ? random.bytes(5) : Buffer.alloc(0);
    // Never of itself (RFC 9113 section 5.3.1).
    if (priority.length > 0) priority.writeUInt32BE(0, 0);
    const padding = random.chance(0.1) ? random.between(0, 255) : undefined;
    let flags = (endStream ? Flag.endStream : 0) | (priority.length > 0 ? Flag.priority : 0);
    const parts = cut(block, random, this.#maxFrameSize - 300);
    const [first = block, ...rest] = parts;
    let payload = Buffer.concat([priority, first]);
    if (padding !== undefined) {
      payload = Buffer.concat([Buffer.from([padding]), payload, Buffer.alloc(padding)]);
      flags |= Flag.padded;
    }
    if (rest.length === 0) flags |= Flag.endHeaders;
    this.write(frame(FrameType.headers, flags, stream.id, payload), random);
    for (const [at, part] of rest.entries()) {
      this.write(frame(FrameType.continuation, at === rest.length - 1 ? Flag.endHeaders : 0, stream.id, part), random);
    }
    stream.headersSent = true;
    if (endStream) this.#ended(stream);
  }

  #ended(stream: PeerStream): void {
    stream.ended = true;
    this.settle(stream);
  }

  /** Sends what windows and the random allow of the stream's body. @returns Whether anything was sent. */
  sendData(stream: PeerStream, endBehind: boolean, random: Random): boolean {
    const room = Math.min(this.#window, stream.window, this.#maxFrameSize);
    const wanted = random.chance(0.6) ? stream.body.length : random.size(stream.body.length);
    let length = Math.min(wanted, Math.max(0, room));
    const padding = random.chance(0.15) ? random.size(255) : undefined;
    const padded = padding !== undefined && room >= length + 1 + padding;
    const all = length === stream.body.length;
    if (length === 0 && !(all && endBehind) && !padded && !random.chance(0.05)) return false;
    if (!all && random.chance(0.02)) length = 0;
    const endStream = endBehind && length === stream.body.length && random.chance(0.8);
    const data = stream.body.subarray(0, length);
    stream.body = stream.body.subarray(length);
    const payload = padded ? Buffer.concat([Buffer.from([padding]), data, Buffer.alloc(padding)]) : data;
    this.#window -= payload.length;
    stream.window -= payload.length;
    const flags = (endStream ? Flag.endStream : 0) | (padded ? Flag.padded : 0);
    this.write(frame(FrameType.data, flags, stream.id, payload), random);
    if (endStream) this.#ended(stream);
    return true;
  }

  sendReset(stream: PeerStream, code: number, random: Random): void {
    this.write(reset(stream.id, code), random);
    this.end(stream.id);
  }

  grantConnection(bytes: number, random: Random): void {
    const increment = Math.min(bytes, maxConnectionGrant - this.#granted);
    if (increment <= 0) return;
    this.#granted += increment;
    this.write(windowUpdate(0, increment), random);
  }

  grantStream(stream: PeerStream, bytes: number, random: Random): void {
    const increment = Math.min(bytes, maxGrant - stream.granted);
    if (increment <= 0) return;
    stream.granted += increment;
    this.write(windowUpdate(stream.id, increment), random);
  }

  /** Opens all windows that are nearly shut. */
  grantAll(random: Random): void {
    if (this.#granted < maxGrant / 2) this.grantConnection(maxGrant, random);
    for (const stream of this.streams.values()) {
      if (stream.granted < maxGrant / 4) this.grantStream(stream, maxGrant / 2, random);
    }
  }
}

/** Mostly one piece. */
function cut(block: Buffer, random: Random, maxBytes: number): Buffer[] {
  const parts: Buffer[] = [];
  let at = 0;
  const pieces = random.chance(0.15);
  do {
    const length = Math.min(maxBytes, pieces ? random.between(0, 60) : block.length);
    parts.push(block.subarray(at, at + length));
    at += length;
  } while (at < block.length);
  return parts;
}
