/**
 * Connections of Holdfast's own gRPC client without sockets, each with a runtime at its end, and what the client may not say
 * on them. It knows no calls.
 */
import type { Random } from '../../src/harness/random.js';
import { Dialer } from '../../src/proxy/http2/dialer.js';
import {
  connectionPreface,
  Flag,
  FrameType,
  forEachSetting,
  initialSettings,
  Setting,
} from '../../src/proxy/http2/frames.js';
import type { Port, PortEvents } from '../../src/proxy/http2/port.js';
import type { Frame } from '../proxy/http2/wire.js';
import type { ManualClock } from '../support/manual-clock.js';
import { FrameLog } from './frame-log.js';
import { RuntimePeer } from './runtime-peer.js';

/** As the client grants it (client-connection.ts): of a stream, and of the connection. */
export const windowBytes = { stream: 512 * 1024, connection: 8 * 1024 * 1024 } as const;
/** For a runtime that reads nothing: DATA up to its bound, a burst beyond, and answers to what it says, which in a case is little. */
const maxUnwrittenBytes = 768 * 1024;

type Broken = (rule: string, detail: string) => void;

/** One connection, from when it was accepted. */
export class UpstreamWire {
  readonly runtime = new RuntimePeer();
  readonly toRuntime: FrameLog;
  readonly fromRuntime: FrameLog;
  /** Whether what the client writes stays in its socket. */
  isFull = false;
  reading = true;
  isOver = false;
  readonly #events: PortEvents;
  readonly #broken: Broken;
  readonly #isRight: boolean;
  #prefaceLeft = connectionPreface.length;
  #unwritten: Buffer[] = [];
  /** PINGs of the runtime that are not acknowledged, oldest first. */
  readonly #pings: string[] = [];
  #settingsDue = 0;
  #initialWindow: number = initialSettings.windowSize;
  #highestId = 0;

  /** @param isRight The runtime keeps the protocol. */
  constructor(events: PortEvents, broken: Broken, isRight: boolean) {
    this.#events = events;
    this.#broken = broken;
    this.#isRight = isRight;
    this.toRuntime = new FrameLog(
      { frame: (frame) => this.#written(frame), illegal: (reason) => broken('the client writes legal frames', reason) },
      initialSettings.headerTableSize,
    );
    this.fromRuntime = new FrameLog({ frame: (frame) => this.#delivered(frame) });
  }

  /** What the client takes for its socket. */
  get port(): Port {
    const wire = this;
    const port: Pick<Port, 'reading' | 'unwrittenBytes' | 'write' | 'destroy'> = {
      get reading() {
        return wire.reading;
      },
      set reading(reading) {
        wire.reading = reading;
      },
      get unwrittenBytes() {
        return wire.#unwritten.reduce((sum, { length }) => sum + length, 0);
      },
      write: (chunks) => wire.#write(chunks),
      destroy: () => wire.#destroy(),
    };
    return port as Port;
  }

  #write(chunks: readonly Buffer[]): void {
    if (this.isOver) this.#broken('nothing is written to a connection that is over', '');
    for (const chunk of chunks) {
      const skipped = Math.min(this.#prefaceLeft, chunk.length);
      this.#prefaceLeft -= skipped;
      const written = Buffer.from(chunk.subarray(skipped));
      this.toRuntime.push(written);
      this.#unwritten.push(written);
    }
    if (!this.isFull) this.#take();
    else if (this.port.unwrittenBytes > maxUnwrittenBytes)
      this.#broken('output is bounded', `${this.port.unwrittenBytes}`);
  }

  #take(): void {
    for (const chunk of this.#unwritten.splice(0)) this.runtime.receive(chunk);
  }

  #destroy(): void {
    if (this.isOver) return;
    this.isOver = true;
    if (!this.isFull) this.#take();
    queueMicrotask(() => this.#events.closed(undefined));
  }

  /** The client's socket takes more again. */
  drain(): void {
    this.isFull = false;
    if (this.isOver || this.#unwritten.length === 0) return;
    this.#take();
    this.#events.drained();
  }

  /** The next bytes of the runtime reach the client. */
  deliver(random: Random): void {
    for (let left = random.pick([1, 1, 8]); left > 0 && this.reading && !this.isOver; left--) {
      const { pendingBytes } = this.runtime;
      if (pendingBytes === 0) break;
      const some = random.chance(0.6) ? 65_536 : random.between(1, random.pick([3, 30, 30_000]));
      const bytes = this.runtime.takePending(Math.min(pendingBytes, some));
      this.fromRuntime.push(bytes);
      const chunk = Buffer.from(bytes);
      this.#events.received(chunk);
      chunk.fill(0xee);
      this.#checkAnswers();
    }
    if (this.runtime.isClosing && this.runtime.pendingBytes === 0) this.hangUp();
  }

  /** The runtime ends the connection. @param error It was cut. */
  hangUp(error?: Error): void {
    if (this.isOver) return;
    this.isOver = true;
    if (error === undefined) this.#events.ended();
    this.#events.closed(error);
  }

  // What goes over it.

  #delivered(frame: Frame): void {
    const { type, flags, streamId, payload } = frame;
    const isAck = (flags & Flag.ack) !== 0;
    if (type === FrameType.ping && !isAck) this.#pings.push(payload.toString('hex'));
    if (type !== FrameType.settings || isAck || streamId !== 0) return;
    this.#settingsDue += 1;
    forEachSetting(payload, (id, value) => {
      if (id === Setting.initialWindowSize) this.#initialWindow = value;
    });
  }

  /** Each is acknowledged once, unless the connection has ended for something else. */
  #checkAnswers(): void {
    if (this.isOver) return;
    if (this.#pings.length > 0) this.#broken('PINGs are acknowledged', this.#pings.join());
    if (this.#settingsDue > 0) this.#broken('SETTINGS are acknowledged', `${this.#settingsDue}`);
  }

  #written(frame: Frame): void {
    const { type, flags, streamId, payload } = frame;
    const isAck = (flags & Flag.ack) !== 0;
    const what = `type ${type} flags ${flags} on stream ${streamId}`;
    if (this.toRuntime.frames === 0 && (type !== FrameType.settings || isAck))
      this.#broken('SETTINGS come first', what);
    if (type === FrameType.ping) {
      const due = this.#pings.shift();
      if (!isAck) this.#broken('the client sends no PING', what);
      else if (payload.toString('hex') !== due) this.#broken('PINGs are acknowledged once and in order', what);
    } else if (type === FrameType.settings && isAck) {
      this.#settingsDue -= 1;
      if (this.#settingsDue < 0) this.#broken('SETTINGS are acknowledged once', what);
    } else if (streamId !== 0) {
      this.#writtenOn(frame, what);
    }
  }

  #writtenOn({ type, streamId, payload }: Frame, what: string): void {
    if (type === FrameType.headers) {
      if (streamId <= this.#highestId || streamId % 2 === 0) this.#broken('stream ids rise', what);
      this.#highestId = streamId;
    }
    if (streamId > this.#highestId) this.#broken('a stream begins with HEADERS', what);
    const { ends, reset, spent } = this.toRuntime.stream(streamId);
    const carries = type === FrameType.data || type === FrameType.headers;
    if (reset || (carries && ends > 0)) this.#broken('nothing follows the end of a stream', what);
    if (type !== FrameType.data || !this.#isRight || payload.length === 0) return;
    const { granted } = this.fromRuntime.stream(streamId);
    const left = this.#initialWindow + granted - spent - payload.length;
    const leftOfAll = initialSettings.windowSize + this.fromRuntime.granted - this.toRuntime.spent - payload.length;
    if (left < 0 || leftOfAll < 0) this.#broken('DATA keeps within the windows', `${left}, ${leftOfAll}: ${what}`);
  }

  /** Everything has been read and nothing is kept: what is not granted again is less than half of each window. */
  checkWindows(): void {
    const left = initialSettings.windowSize + this.toRuntime.granted - this.fromRuntime.spent;
    if (left <= windowBytes.connection / 2 || left > windowBytes.connection) {
      this.#broken('the window of the connection is conserved', `${left}`);
    }
    for (const [streamId, { granted, ends, reset }] of this.toRuntime.streams) {
      const answer = this.fromRuntime.stream(streamId);
      if (streamId === 0 || ends === 0 || reset || answer.ends > 0 || answer.reset) continue;
      const rest = windowBytes.stream + granted - answer.spent;
      // Of a message that is not whole nothing is kept back either.
      if (rest <= windowBytes.stream / 2 || rest > windowBytes.stream) {
        this.#broken('the window of a stream is conserved', `stream ${streamId}: ${rest}`);
      }
    }
  }
}

interface Dial {
  readonly events: PortEvents;
  readonly connected: (port: Port) => void;
}

/** Connects when it is told to. */
export class HeldDialer extends Dialer {
  readonly wires: UpstreamWire[] = [];
  readonly #dials = new Set<Dial>();
  readonly #open: (events: PortEvents) => UpstreamWire;

  constructor(clock: ManualClock, open: (events: PortEvents) => UpstreamWire) {
    super('/none', clock);
    this.#open = open;
  }

  override dial(events: PortEvents, connected: (port: Port) => void): () => void {
    const dial = { events, connected };
    this.#dials.add(dial);
    return () => {
      this.#dials.delete(dial);
    };
  }

  /** @returns Whether somebody was waiting. */
  accept(): boolean {
    const [dial] = this.#dials;
    if (dial === undefined) return false;
    this.#dials.delete(dial);
    const wire = this.#open(dial.events);
    this.wires.push(wire);
    dial.connected(wire.port);
    return true;
  }
}
