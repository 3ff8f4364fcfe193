/**
 * One end of an HTTP/2 connection on raw frames, strict: what its peer does against RFC 9113 or RFC 7541 throws. It keeps its own
 * books of windows, settings, stream states and header tables, and does one thing at a time, as its caller picks.
 */
import { Flag, FrameType, frame, frameHeaderBytes, Setting } from '../../../../src/proxy/http2/frames.js';
import { ping, readFrames, reset, settings, settingsAck, show, windowUpdate } from '../wire.js';
import { BdpEstimator, bdpPayload } from './grpc-go.js';
import { Decoder, Encoder, type Field } from './hpack.js';
import {
  type BlockShape,
  type BodyShape,
  type Entries,
  maxConcurrentStreams,
  type PeerPlan,
  type Timed,
} from './plan.js';

export class Violation extends Error {}

/** What came in on one stream. */
export interface Received {
  headers: readonly Field[] | undefined;
  readonly data: Buffer[];
  bytes: number;
  trailers: readonly Field[] | undefined;
  ended: boolean;
  /** Code of the RST_STREAM. */
  reset: number | undefined;
  /** Payloads of frames of an unknown type. */
  readonly unknown: string[];
}

type Item =
  | { readonly kind: 'headers'; readonly fields: readonly Field[]; readonly shape: BlockShape; readonly end: boolean }
  | { readonly kind: 'data'; rest: Buffer; readonly shape: BodyShape; readonly end: boolean }
  | { readonly kind: 'reset'; readonly code: number }
  | { readonly kind: 'frame'; readonly bytes: Buffer };

export class Stream {
  readonly id: number;
  /** Position of its plan. */
  readonly index: number;
  readonly received: Received = {
    headers: undefined,
    data: [],
    bytes: 0,
    trailers: undefined,
    ended: false,
    reset: undefined,
    unknown: [],
  };
  readonly outgoing: Item[] = [];
  sendWindow: number;
  receiveWindow: number;
  ended = false;
  resetSent: number | undefined;
  /** Whether the peer has ended it; `received` says so only where it still mattered. */
  peerEnded = false;
  /** HEADERS and DATA frames of both directions. */
  frames = 0;
  dataFrames = 0;

  constructor(id: number, index: number, sendWindow: number, receiveWindow: number) {
    this.id = id;
    this.index = index;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  get isClosed(): boolean {
    const { ended, reset } = this.received;
    return (ended && this.ended) || reset !== undefined || this.resetSent !== undefined;
  }
}

export type Action = () => void;

export const unknownType = 0xbe;
const defaultFrameBytes = 16_384;
const defaultWindow = 65_535;
const max31 = 2 ** 31 - 1;

function value(entries: Entries, id: number): number | undefined {
  return entries.findLast(([entry]) => entry === id)?.[1];
}

export abstract class Endpoint {
  readonly streams = new Map<number, Stream>();
  /** Unknown frames on stream 0. */
  readonly unknown: string[] = [];
  protected readonly plan: PeerPlan;
  /** Whether Holdfast is in between. */
  protected readonly routed: boolean;
  /** The peer has said how large its header table is. */
  protected peerTableNamed = false;
  protected peerMaxConcurrent = Number.POSITIVE_INFINITY;
  /** What it allows its peer, since the peer's ACK. */
  protected ownMaxConcurrent = Number.POSITIVE_INFINITY;
  readonly #write: (bytes: Buffer) => void;
  #unread: Buffer[] = [];
  #unreadBytes = 0;
  /** Of the next frame, as far as is known. */
  #neededBytes = frameHeaderBytes;
  #steps = 0;
  #representation = 0;

  sendWindow = defaultWindow;
  receiveWindow = defaultWindow;
  /** No WINDOW_UPDATE for the connection. */
  withholds = false;
  /** What was to go in small pieces goes in large ones: a run shall end some time. */
  hurries = false;
  /** All of the connection window is given back. */
  #restores = false;
  readonly fullWindow: number;
  readonly #encoder: Encoder;
  readonly #decoder = new Decoder();
  #peerWindow = defaultWindow;
  #peerFrameBytes = defaultFrameBytes;
  #settingsSeen = false;
  /** In force for what the peer sends, since its ACK. */
  #ownWindow = defaultWindow;
  #ownFrameBytes = defaultFrameBytes;
  readonly #unacknowledged: Entries[] = [];
  #started = false;
  readonly #laterSettings: Timed<Entries>[];
  readonly #pings: Timed<string>[];
  readonly #unknownToSend: Timed<string>[];
  readonly #pingsOut: string[] = [];
  readonly #bandwidth = new BdpEstimator();
  #block: { stream: Stream; fragments: Buffer[]; end: boolean } | undefined;

  constructor(plan: PeerPlan, routed: boolean, write: (bytes: Buffer) => void) {
    this.plan = plan;
    this.routed = routed;
    this.#write = write;
    this.fullWindow = defaultWindow + plan.extraWindow;
    this.#encoder = new Encoder(plan.tableBytes);
    this.#laterSettings = byTime(plan.laterSettings);
    this.#pings = byTime(plan.pings);
    this.#unknownToSend = byTime(plan.unknown);
  }

  /** A frame that opens a stream or belongs to none that is known. */
  protected abstract unknownStream(id: number, type: number): Stream | undefined;
  protected abstract receivedOn(stream: Stream): void;
  /** A PING without ACK; it is answered afterwards. */
  protected abstract receivedPing(payload: Buffer): void;

  /** Size of the header table that it decodes with. */
  protected get tableBytes(): number {
    return this.#decoder.tableBytes;
  }

  protected fail(what: string): never {
    throw new Violation(`${this.constructor.name}: ${what}`);
  }

  protected write(bytes: Buffer): void {
    this.#write(bytes);
  }

  /** Whether all streams are closed, everything else has been sent, and SETTINGS and PINGs are acknowledged. */
  get isIdle(): boolean {
    return (
      this.#started &&
      this.#unreadBytes === 0 &&
      this.#unacknowledged.length === 0 &&
      this.#pingsOut.length === 0 &&
      this.#timed(() => true).length === 0 &&
      [...this.streams.values()].every(({ isClosed }) => isClosed)
    );
  }

  /** What is not over, for a failure's text. */
  describe(): string {
    const open = [...this.streams.values()].filter(({ isClosed }) => !isClosed);
    const streams = open.map(
      ({ id, sendWindow, receiveWindow, ended, received, outgoing }) =>
        `stream ${id} (windows ${sendWindow} ${receiveWindow}, ended ${ended} ${received.ended}, ${outgoing.length} to send)`,
    );
    const waiting = `${this.#unacknowledged.length} SETTINGS and ${this.#pingsOut.length} PINGs without ACK`;
    return [`windows ${this.sendWindow} ${this.receiveWindow}`, waiting, ...streams].join(', ');
  }

  /** Gives back all of the connection window from now on. */
  restore(): void {
    this.#restores = true;
  }

  // What it does of its own accord.

  act(action: Action): void {
    this.#steps += 1;
    action();
  }

  /** What it can do now. */
  actions(): Action[] {
    if (!this.#started) return [() => this.#start()];
    const actions = [...this.#timed((at) => at <= this.#steps), ...this.openings()];
    for (const stream of this.streams.values()) {
      const action = this.sending(stream);
      if (action !== undefined) actions.push(action);
    }
    if (!this.plan.lazyGrants || this.hurries) actions.push(...this.#granting());
    return actions;
  }

  /** What it does when nobody can do anything else. */
  lateActions(): Action[] {
    const granting = this.plan.lazyGrants ? this.#granting() : [];
    return granting.length > 0 ? granting : this.#timed(() => true);
  }

  protected openings(): Action[] {
    return [];
  }

  protected preface(): void {}

  /** HEADERS or DATA have been written. */
  protected sentContent(): void {}

  #start(): void {
    this.#started = true;
    this.preface();
    this.#sendSettings(this.plan.settings);
    const half = Math.floor(this.plan.extraWindow / 2);
    for (const part of [half, this.plan.extraWindow - half]) if (part > 0) this.#grantConnection(part);
  }

  #sendSettings(entries: Entries): void {
    this.#unacknowledged.push(this.#withinWindows(entries));
    this.write(settings(...(this.#unacknowledged.at(-1) ?? []).map(([id, n]): [number, number] => [id, n])));
  }

  /** No window may come to exceed 2^31-1 (RFC 9113 section 6.9.2). */
  #withinWindows(entries: Entries): Entries {
    const before = this.#unacknowledged.reduce(
      (window, settings) => value(settings, Setting.initialWindowSize) ?? window,
      this.#ownWindow,
    );
    const pending = before - this.#ownWindow;
    let most = max31;
    for (const { isClosed, receiveWindow } of this.streams.values()) {
      if (!isClosed) most = Math.min(most, max31 - (receiveWindow + pending - before));
    }
    return entries.map(([id, n]) => [id, id === Setting.initialWindowSize ? Math.min(n, most) : n] as const);
  }

  #timed(due: (at: number) => boolean): Action[] {
    const actions: Action[] = [];
    const offer = <T>(queue: Timed<T>[], send: (what: T) => void): void => {
      const [first] = queue;
      if (first === undefined || !due(first.at)) return;
      actions.push(() => {
        queue.shift();
        send(first.what);
      });
    };
    offer(this.#laterSettings, (entries) => this.#sendSettings(entries));
    offer(this.#pings, (payload) => this.#sendPing(Buffer.from(payload)));
    offer(this.#unknownToSend, (payload) => this.write(frame(unknownType, 0x5, 0, Buffer.from(payload))));
    return actions;
  }

  #sendPing(payload: Buffer): void {
    this.#pingsOut.push(payload.toString('hex'));
    this.write(ping(payload));
  }

  #granting(): Action[] {
    const actions: Action[] = [];
    const { grantBytes, connectionTarget, streamTarget } = this.plan;
    const most = this.#restores ? max31 : grantBytes * (this.hurries ? 4096 : 1);
    const target = (bytes: number): number => (this.hurries ? Math.max(bytes, defaultWindow) : bytes);
    const missing = this.fullWindow - this.receiveWindow;
    if (missing > 0 && !this.withholds && (this.#restores || this.receiveWindow < target(connectionTarget))) {
      actions.push(() => this.#grantConnection(Math.min(missing, most)));
    }
    for (const stream of this.streams.values()) {
      const lacking = target(streamTarget) - stream.receiveWindow;
      if (lacking <= 0 || stream.isClosed || stream.received.ended) continue;
      const room = max31 - this.#windowToCome(stream);
      const grant = Math.min(lacking, most, room);
      if (grant > 0) {
        actions.push(() => {
          stream.receiveWindow += grant;
          this.write(windowUpdate(stream.id, grant));
        });
      }
    }
    return actions;
  }

  /** The largest the stream's window can be before the peer has read all SETTINGS. */
  #windowToCome(stream: Stream): number {
    const sizes = this.#unacknowledged.map((entries) => value(entries, Setting.initialWindowSize) ?? 0);
    return stream.receiveWindow + Math.max(0, ...sizes.map((size) => size - this.#ownWindow));
  }

  #grantConnection(bytes: number): void {
    this.receiveWindow += bytes;
    this.write(windowUpdate(0, bytes));
  }

  protected sending(stream: Stream): Action | undefined {
    const [item] = stream.outgoing;
    if (item === undefined || stream.isClosed) return undefined;
    if (item.kind === 'data') {
      const blocked = item.rest.length > 0 && Math.min(this.sendWindow, stream.sendWindow) <= 0;
      return blocked ? undefined : () => this.#sendData(stream, item);
    }
    return () => {
      stream.outgoing.shift();
      if (item.kind === 'headers') this.#sendHeaders(stream, item);
      else if (item.kind === 'frame') this.write(item.bytes);
      else this.resetStream(stream, item.code);
    };
  }

  protected resetStream(stream: Stream, code: number): void {
    stream.resetSent = code;
    stream.outgoing.length = 0;
    this.write(reset(stream.id, code));
  }

  #sendHeaders(stream: Stream, { fields, shape, end }: Extract<Item, { kind: 'headers' }>): void {
    const { representations } = this.plan;
    const block = this.#encoder.encode(fields, () => {
      this.#representation += 1;
      return representations[this.#representation % representations.length] ?? 0;
    });
    const { padding } = shape;
    const prefix = shape.priority ? Buffer.from([0, 0, 0, 0, 15]) : Buffer.alloc(0);
    const overhead = prefix.length + (padding === undefined ? 0 : 1 + padding);
    const fragments: Buffer[] = [];
    let at = 0;
    while (at < block.length || fragments.length === 0) {
      const room = this.#peerFrameBytes - (fragments.length === 0 ? overhead : 0);
      const fragment = block.subarray(at, at + Math.min(room, shape.cuts[fragments.length] ?? room));
      fragments.push(fragment);
      at += fragment.length;
    }
    const frames = fragments.map((fragment, n) => {
      const last = n === fragments.length - 1 ? Flag.endHeaders : 0;
      if (n > 0) return frame(FrameType.continuation, last, stream.id, fragment);
      const flags = last | (end ? Flag.endStream : 0) | (shape.priority ? Flag.priority : 0);
      const parts = [prefix, fragment];
      if (padding === undefined) return frame(FrameType.headers, flags, stream.id, Buffer.concat(parts));
      const padded = Buffer.concat([Buffer.from([padding]), ...parts, Buffer.alloc(padding)]);
      return frame(FrameType.headers, flags | Flag.padded, stream.id, padded);
    });
    stream.frames += 1;
    stream.ended ||= end;
    this.write(Buffer.concat(frames));
    this.sentContent();
  }

  #sendData(stream: Stream, item: Extract<Item, { kind: 'data' }>): void {
    const { cuts, padding } = item.shape;
    const cut = (cuts[stream.dataFrames % cuts.length] ?? 0) * (this.hurries ? 4096 : 1);
    stream.dataFrames += 1;
    const room = Math.max(0, Math.min(this.sendWindow, stream.sendWindow, this.#peerFrameBytes));
    const part = item.rest.subarray(0, Math.min(room, cut));
    const padded = padding !== undefined && part.length + padding + 1 <= room;
    item.rest = item.rest.subarray(part.length);
    const last = item.rest.length === 0;
    if (last) stream.outgoing.shift();
    const end = last && item.end;
    const payload = padded ? Buffer.concat([Buffer.from([padding]), part, Buffer.alloc(padding)]) : part;
    stream.sendWindow -= payload.length;
    this.sendWindow -= payload.length;
    stream.frames += 1;
    stream.ended ||= end;
    this.write(frame(FrameType.data, (end ? Flag.endStream : 0) | (padded ? Flag.padded : 0), stream.id, payload));
    this.sentContent();
  }

  // What its peer does.

  receive(bytes: Buffer): void {
    if (!this.#started) this.#start();
    this.#unread.push(bytes);
    this.#unreadBytes += bytes.length;
    if (this.#unreadBytes < this.#neededBytes) return;
    const all = Buffer.concat(this.#unread);
    const { frames, length } = readFrames(all);
    const rest = all.subarray(length);
    this.#unread = [rest];
    this.#unreadBytes = rest.length;
    this.#neededBytes = frameHeaderBytes + (rest.length < frameHeaderBytes ? 0 : rest.readUIntBE(0, 3));
    for (const { type, flags, streamId, payload } of frames) {
      try {
        this.#receiveFrame(type, flags, streamId, payload);
      } catch (error) {
        if (error instanceof Violation) throw error;
        const reason = error instanceof Error ? error.message : String(error);
        this.fail(`${show({ type, flags, streamId, payload })}: ${reason}`);
      }
    }
  }

  #receiveFrame(type: number, flags: number, id: number, payload: Buffer): void {
    const allowed = Math.max(
      this.#ownFrameBytes,
      ...this.#unacknowledged.map((entries) => value(entries, Setting.maxFrameSize) ?? 0),
    );
    if (payload.length > allowed) this.fail(`frame of ${payload.length} bytes, allowed are ${allowed}`);
    if (!this.#settingsSeen && (type !== FrameType.settings || (flags & Flag.ack) !== 0)) {
      this.fail(`frame type ${type} before SETTINGS`);
    }
    if (this.#block !== undefined && (type !== FrameType.continuation || id !== this.#block.stream.id)) {
      this.fail(`frame type ${type} on stream ${id} inside a header block`);
    }
    switch (type) {
      case FrameType.settings:
        this.#receiveSettings(flags, id, payload);
        break;
      case FrameType.ping:
        this.#receivePing(flags, id, payload);
        break;
      case FrameType.windowUpdate:
        this.#receiveWindowUpdate(id, payload);
        break;
      case FrameType.data:
        this.#receiveData(flags, id, payload);
        break;
      case FrameType.headers:
        this.#receiveHeaders(flags, id, payload);
        break;
      case FrameType.continuation:
        this.#receiveContinuation(flags, payload);
        break;
      case FrameType.rstStream:
        this.#receiveReset(id, payload);
        break;
      case FrameType.priority:
        if (payload.length !== 5) this.fail('PRIORITY of a wrong length');
        break;
      case unknownType:
        if (flags !== 0x5) this.fail('flags of an unknown frame');
        if (id === 0) this.unknown.push(payload.toString());
        else this.#stream(id, type)?.received.unknown.push(payload.toString());
        break;
      default:
        this.fail(`frame type ${type} on stream ${id}: ${payload.toString('latin1')}`);
    }
  }

  #receiveSettings(flags: number, id: number, payload: Buffer): void {
    if (id !== 0 || payload.length % 6 !== 0) this.fail('malformed SETTINGS');
    if ((flags & Flag.ack) !== 0) {
      const acknowledged = this.#unacknowledged.shift();
      if (acknowledged === undefined || payload.length > 0) this.fail('SETTINGS ACK nobody asked for');
      this.#applyOwn(acknowledged);
      return;
    }
    this.#settingsSeen = true;
    const tables: number[] = [];
    for (let at = 0; at < payload.length; at += 6) {
      if (payload.readUInt16BE(at) === Setting.headerTableSize) tables.push(payload.readUInt32BE(at + 2));
      this.#applyPeers(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    }
    if (this.routed && tables.some((bytes) => bytes > 0)) this.fail('Holdfast lets it use a header table');
    this.peerTableNamed ||= tables.length > 0;
    this.write(settingsAck);
  }

  #applyOwn(entries: Entries): void {
    for (const [id, n] of entries) {
      if (id === Setting.headerTableSize) this.#decoder.setLimit(n);
      if (id === Setting.maxFrameSize) this.#ownFrameBytes = n;
      if (id === maxConcurrentStreams) this.ownMaxConcurrent = n;
      if (id !== Setting.initialWindowSize) continue;
      for (const stream of this.streams.values()) stream.receiveWindow += n - this.#ownWindow;
      this.#ownWindow = n;
    }
  }

  #applyPeers(id: number, n: number): void {
    if (id === Setting.headerTableSize) this.#encoder.setLimit(n);
    if (id === maxConcurrentStreams) this.peerMaxConcurrent = n;
    if (id === Setting.maxFrameSize) {
      if (n < defaultFrameBytes || n >= 2 ** 24) this.fail(`SETTINGS_MAX_FRAME_SIZE ${n}`);
      this.#peerFrameBytes = n;
    }
    if (id !== Setting.initialWindowSize) return;
    if (n > max31) this.fail(`SETTINGS_INITIAL_WINDOW_SIZE ${n}`);
    for (const stream of this.streams.values()) {
      stream.sendWindow += n - this.#peerWindow;
      if (stream.sendWindow > max31 && !stream.isClosed && !stream.ended) {
        this.fail(`SETTINGS_INITIAL_WINDOW_SIZE ${n} makes the window of stream ${stream.id} ${stream.sendWindow}`);
      }
    }
    this.#peerWindow = n;
  }

  #receivePing(flags: number, id: number, payload: Buffer): void {
    if (id !== 0 || payload.length !== 8) this.fail('malformed PING');
    if ((flags & Flag.ack) === 0) {
      this.receivedPing(payload);
      this.write(ping(payload, true));
      return;
    }
    const expected = this.#pingsOut.shift();
    const got = payload.toString('hex');
    if (expected !== got) this.fail(`PING ACK ${got}, expected ${expected}`);
    this.#bandwidth.acknowledged(payload);
  }

  #receiveWindowUpdate(id: number, payload: Buffer): void {
    if (payload.length !== 4) this.fail('WINDOW_UPDATE of a wrong length');
    const increment = payload.readUInt32BE(0);
    if (increment === 0 || increment > max31) this.fail(`WINDOW_UPDATE of ${increment}`);
    const target = id === 0 ? this : this.#stream(id, FrameType.windowUpdate);
    if (target === undefined) return;
    target.sendWindow += increment;
    if (target.sendWindow > max31) this.fail(`window of ${target.sendWindow} on stream ${id}`);
  }

  /** The stream of a frame that neither opens one nor comes behind its reset. */
  #stream(id: number, type: number): Stream | undefined {
    const stream = this.streams.get(id) ?? this.unknownStream(id, type);
    if (stream?.received.reset !== undefined) this.fail(`frame type ${type} on stream ${id} behind its reset`);
    return stream;
  }

  /** The stream of a frame with content. */
  #openStream(id: number, type: number): Stream {
    const stream = this.#stream(id, type);
    if (stream === undefined) this.fail(`frame type ${type} on idle stream ${id}`);
    if (stream.peerEnded) this.fail(`frame type ${type} on stream ${id} behind its end`);
    stream.frames += 1;
    return stream;
  }

  #receiveData(flags: number, id: number, payload: Buffer): void {
    const stream = this.#openStream(id, FrameType.data);
    const { length } = payload;
    if (length > 0 && length > this.receiveWindow) {
      this.fail(`DATA of ${length} bytes, window of the connection ${this.receiveWindow}`);
    }
    if (length > 0 && length > stream.receiveWindow) {
      this.fail(`DATA of ${length} bytes, window of stream ${id} ${stream.receiveWindow}`);
    }
    this.receiveWindow -= length;
    stream.receiveWindow -= length;
    if (this.plan.measures && this.#bandwidth.received()) this.#sendPing(bdpPayload);
    const content = this.#content(flags, payload);
    stream.peerEnded = (flags & Flag.endStream) !== 0;
    if (stream.resetSent !== undefined) return;
    const { received } = stream;
    if (received.headers === undefined) this.fail(`DATA before HEADERS on stream ${id}`);
    received.ended = stream.peerEnded;
    received.data.push(content);
    received.bytes += content.length;
    this.receivedOn(stream);
  }

  #content(flags: number, payload: Buffer): Buffer {
    if ((flags & Flag.padded) === 0) return payload;
    const padding = payload[0] ?? payload.length;
    if (padding >= payload.length) this.fail('padding exceeds the frame');
    return payload.subarray(1, payload.length - padding);
  }

  #receiveHeaders(flags: number, id: number, payload: Buffer): void {
    const stream = this.#openStream(id, FrameType.headers);
    const content = this.#content(flags, payload).subarray((flags & Flag.priority) === 0 ? 0 : 5);
    this.#block = { stream, fragments: [content], end: (flags & Flag.endStream) !== 0 };
    if ((flags & Flag.endHeaders) !== 0) this.#endBlock();
  }

  #receiveContinuation(flags: number, payload: Buffer): void {
    if (this.#block === undefined) this.fail('CONTINUATION without HEADERS');
    this.#block.fragments.push(payload);
    if ((flags & Flag.endHeaders) !== 0) this.#endBlock();
  }

  #endBlock(): void {
    if (this.#block === undefined) return;
    const { stream, fragments, end } = this.#block;
    this.#block = undefined;
    const fields = this.#decoder.decode(Buffer.concat(fragments));
    stream.peerEnded = end;
    if (stream.resetSent !== undefined) return;
    const { received } = stream;
    received.ended = end;
    if (received.headers === undefined) received.headers = fields;
    else if (end) received.trailers = fields;
    else this.fail(`HEADERS without END_STREAM behind others on stream ${stream.id}`);
    this.receivedOn(stream);
  }

  #receiveReset(id: number, payload: Buffer): void {
    if (payload.length !== 4) this.fail('RST_STREAM of a wrong length');
    const stream = this.#stream(id, FrameType.rstStream);
    if (stream === undefined) this.fail(`RST_STREAM on idle stream ${id}`);
    stream.received.reset = payload.readUInt32BE(0);
    stream.outgoing.length = 0;
  }

  protected opened(id: number, index: number): Stream {
    const stream = new Stream(id, index, this.#peerWindow, this.#ownWindow);
    this.streams.set(id, stream);
    return stream;
  }
}

function byTime<T>(list: readonly Timed<T>[]): Timed<T>[] {
  return [...list].sort((a, b) => a.at - b.at);
}
