/**
 * A case of Holdfast's own gRPC client: calls of all sorts against runtimes that keep the protocol or do not, cut into any
 * chunks, with connections that come, stall and go. Every call has to end once, as the runtime said, and nothing may be thrown.
 */
import { Random } from '../../src/harness/random.js';
import { Flag, FrameType, frame, goAwayFrame } from '../../src/proxy/http2/frames.js';
import { openGrpcClient } from '../../src/proxy/http2/grpc-client.js';
import { type Upstream, UpstreamStatusError, type UpstreamStream } from '../../src/proxy/upstream.js';
import { message } from '../proxy/http2/wire.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import type { PeerStream } from './peer.js';
import { HeldDialer, UpstreamWire, windowBytes } from './upstream-wire.js';
import type { Breach } from './watched.js';
import { strayErrors } from './world.js';

const mostMessageBytes = 200_000;
/** Of a message that is not whole nothing counts as long as nobody is slow: it may be longer than the window. */
const mostKept = windowBytes.stream + mostMessageBytes;

interface Call {
  readonly path: string;
  readonly isStreaming: boolean;
  readonly abort: AbortController;
  readonly timeoutMs: number | undefined;
  readonly stream: UpstreamStream | undefined;
  readonly iterator: AsyncIterator<Buffer> | undefined;
  /** Messages taken, and what they took of windows. */
  readonly messages: Buffer[];
  takenBytes: number;
  ends: number;
  code: number | undefined;
  /** Its reader has had enough. */
  isLeft: boolean;
}

export interface UpstreamOutcome {
  readonly breach: Breach | undefined;
  readonly events: ReadonlyMap<string, number>;
}

export async function runUpstreamCase(seed: number): Promise<UpstreamOutcome> {
  return new UpstreamCase(new Random(seed)).run();
}

class UpstreamCase {
  readonly #random: Random;
  readonly #clock = new ManualClock();
  readonly #dialer: HeldDialer;
  readonly #client: Upstream;
  readonly #calls: Call[] = [];
  readonly #events = new Map<string, number>();
  readonly #isRight: boolean;
  readonly #operations: number;
  /** Requests and answers are large, sockets full for long, and nobody reads before the end. */
  readonly #isBulky: boolean;
  readonly #mostCalls: number;
  #breach: Breach | undefined;

  constructor(random: Random) {
    this.#random = random;
    this.#isRight = random.chance(0.5);
    this.#isBulky = random.chance(0.15);
    this.#operations = this.#isBulky ? 600 : random.pick([30, 100, 300]);
    this.#mostCalls = this.#isBulky ? 12 : Number.POSITIVE_INFINITY;
    const damage = this.#isRight ? 0 : random.pick([0.004, 0.02, 0.1]);
    this.#dialer = new HeldDialer(this.#clock, (events) => {
      const wire = new UpstreamWire(events, (rule, detail) => this.#broken(rule, detail), this.#isRight);
      wire.runtime.damage = damage;
      wire.runtime.measures = random.chance(0.5);
      // One that accepts may say nothing, for a while.
      if (random.chance(0.9)) this.#settings(wire);
      this.#count('connections');
      return wire;
    });
    this.#client = openGrpcClient(this.#dialer, this.#clock, random.chance(0.5) ? 'fuzz' : undefined);
  }

  #broken(rule: string, detail: string): void {
    this.#breach ??= { rule, detail };
  }

  #count(event: string): void {
    this.#events.set(event, (this.#events.get(event) ?? 0) + 1);
  }

  async run(): Promise<UpstreamOutcome> {
    for (let left = this.#operations; left > 0 && this.#breach === undefined; left--) {
      await this.#guarded(() => this.#operation());
    }
    if (this.#isRight && this.#breach === undefined) await this.#quiet();
    await this.#guarded(() => this.#client.close());
    await this.#guarded(() => {});
    for (const { path, ends } of this.#calls) {
      if (ends !== 1) this.#broken('every call ends once', `${path} ended ${ends} times`);
    }
    if (this.#clock.pending > 0) this.#broken('no timer is left', `${this.#clock.pending}`);
    this.#count(this.#isRight ? 'runtimes right' : 'runtimes damaged');
    for (const { code } of this.#calls) this.#count(`code ${code}`);
    return { breach: this.#breach, events: this.#events };
  }

  async #guarded(action: () => void): Promise<void> {
    try {
      action();
      await settle();
    } catch (error) {
      strayErrors.push(error);
    }
    for (const error of strayErrors.splice(0)) {
      this.#broken('nothing is thrown', String(error instanceof Error ? error.stack : error));
    }
    this.#checkKept();
  }

  #operation(): void {
    const random = this.#random;
    const choice = random.below(100);
    const wire = this.#anyWire();
    if (choice < 9 && this.#calls.length < this.#mostCalls) this.#call();
    else if (choice < 16) this.#dialer.accept();
    else if (choice < 20 && !this.#isBulky) this.#ended(random.pick([...this.#calls, undefined]));
    else if (choice < 28 && !this.#isBulky) this.#read(random.pick([...this.#calls, undefined]), random.pick([1, 3]));
    else if (choice < 31) void this.#clock.advance(random.pick([1, 100, 1000, 200_000]));
    else if (wire === undefined) this.#dialer.accept();
    else this.#onWire(wire, choice);
  }

  #anyWire(): UpstreamWire | undefined {
    const open = this.#dialer.wires.filter(({ isOver }) => !isOver);
    return open.length === 0 ? undefined : this.#random.pick(open);
  }

  #onWire(wire: UpstreamWire, choice: number): void {
    const random = this.#random;
    const { runtime } = wire;
    const open: (PeerStream | undefined)[] = [...runtime.streams.values()].filter(({ ended }) => !ended);
    const stream = random.pick([...open, undefined]);
    if (choice < 48) wire.deliver(random);
    else if (choice < 60) runtime.read(random.pick([1, 5, 100]), random);
    else if (choice < 82 && stream !== undefined) this.#respond(wire, stream);
    else if (choice < 84 && stream !== undefined && !this.#isBulky)
      runtime.sendReset(stream, random.pick([0, 2, 7, 7, 8, 11]), random);
    else if (choice < 86)
      runtime.grantConnection(random.pick([1, 1000, 65_535, 1 << (this.#isBulky ? 24 : 20)]), random);
    else if (choice < 88 && stream !== undefined) runtime.grantStream(stream, random.pick([1, 1000, 1 << 20]), random);
    else if (choice < 90) this.#settings(wire);
    else if (choice < 92) runtime.write(frame(FrameType.ping, 0, 0, random.bytes(8)), random);
    else if (choice < 93) runtime.write(frame(FrameType.ping, Flag.ack, 0, random.bytes(8)), random);
    else if (choice < 95) runtime.oddity(random);
    else if (choice < 97) this.#leave(wire);
    else if (choice < 99) this.#fill(wire);
    else if (!this.#isRight) runtime.misbehave(random);
    else this.#leave(wire);
  }

  #leave(wire: UpstreamWire): void {
    const random = this.#random;
    const choice = random.below(this.#isBulky ? 100 : 10);
    if (choice < 2) wire.runtime.sendGoAway(random);
    // One that goes on with what it says it has not looked at is broken.
    else if (choice < 3 && !this.#isRight) wire.runtime.write(goAwayFrame(0, 0), random);
    else if (choice < 4) wire.hangUp(random.chance(0.5) ? new Error('ECONNRESET') : undefined);
  }

  #respond({ runtime }: UpstreamWire, stream: PeerStream): void {
    const random = this.#random;
    if (!this.#isBulky || !stream.headersSent) {
      runtime.respond(stream, random.pick([3000, 3000, mostMessageBytes]), random);
      return;
    }
    // As much of a message as the windows let go.
    if (stream.body.length === 0)
      stream.body = message(Buffer.alloc(random.between(1, mostMessageBytes), random.bytes(7)));
    for (let left = 50; left > 0 && stream.body.length > 0; left--) runtime.sendData(stream, false, random);
  }

  #settings({ runtime }: UpstreamWire): void {
    const random = this.#random;
    const limit = random.chance(0.4) ? [[3, random.pick([0, 1, 2, 100])] as const] : [];
    runtime.sendSettings([...runtime.settings(random), ...limit], random);
  }

  #fill(wire: UpstreamWire): void {
    if (!wire.isFull) wire.isFull = true;
    else if (!this.#isBulky || this.#random.chance(0.4)) wire.drain();
  }

  #call(): void {
    const random = this.#random;
    const path = `/s/${this.#calls.length}`;
    const request = random.bytes(
      this.#isBulky ? random.between(1, 1_000_000) : random.size(random.pick([1000, 1000, 200_000])),
    );
    const abort = new AbortController();
    const timeoutMs = random.chance(0.3) && !this.#isBulky ? random.pick([0.5, 100, 5000, 3_600_000]) : undefined;
    const lane = random.pick(['work', 'looks', undefined] as const);
    const options = { signal: abort.signal, timeoutMs, ...(lane === undefined ? {} : { lane }) };
    const isStreaming = random.chance(0.4) || this.#isBulky;
    const stream = isStreaming ? this.#client.serverStream(path, request, options) : undefined;
    const iterator = stream?.[Symbol.asyncIterator]();
    const state = { messages: [], takenBytes: 0, ends: 0, code: undefined, isLeft: false };
    const call: Call = { path, isStreaming, abort, timeoutMs, stream, iterator, ...state };
    this.#calls.push(call);
    const ended = (code: number): void => {
      call.ends += 1;
      call.code = code;
    };
    if (stream !== undefined) {
      void stream.status.then(({ code }) => ended(code));
      return;
    }
    this.#client.unary(path, request, options).then(
      ({ message, status }) => {
        call.messages.push(message);
        ended(status.code);
      },
      (error: unknown) => {
        if (error instanceof UpstreamStatusError) ended(error.status.code);
        else this.#broken('a call fails with a status', String(error));
      },
    );
  }

  /** Somebody ends a call from here. */
  #ended(call: Call | undefined): void {
    if (call === undefined) return;
    call.isLeft = true;
    if (call.iterator?.return !== undefined && this.#random.chance(0.5)) void call.iterator.return();
    else call.abort.abort();
  }

  #read(call: Call | undefined, count: number): void {
    for (let left = count; left > 0; left--) {
      void call?.iterator?.next().then(({ done, value }) => {
        if (done === true) return;
        call.messages.push(value);
        call.takenBytes += value.length;
      });
    }
  }

  /** What was sent on a stream and nobody has taken is within its window. */
  #checkKept(): void {
    if (!this.#isRight) return;
    for (const { call, wire, streamId } of this.#served()) {
      if (call.isLeft || call.ends > 0 || !call.isStreaming) continue;
      const kept = wire.fromRuntime.stream(streamId).dataBytes - call.takenBytes - 5 * call.messages.length;
      if (kept > mostKept) this.#broken('what nobody reads is bounded', `${call.path}: ${kept} bytes`);
    }
  }

  /** Calls by their last stream. */
  #served(): { call: Call; wire: UpstreamWire; streamId: number }[] {
    const found = new Map<Call, { call: Call; wire: UpstreamWire; streamId: number }>();
    for (const wire of this.#dialer.wires) {
      for (const [streamId, { items }] of wire.toRuntime.streams) {
        const [block] = items;
        const text = block !== undefined && 'text' in block ? block.text : '';
        const path = /":path","value":"\/s\/(\d+)"/.exec(text)?.[1];
        const call = path === undefined ? undefined : this.#calls[Number(path)];
        if (call !== undefined) found.set(call, { call, wire, streamId });
      }
    }
    return [...found.values()];
  }

  /** Lets all arrive, and be read: what the runtime has ended has come to its end here. */
  async #quiet(): Promise<void> {
    const random = this.#random;
    for (let rounds = 0; rounds < 40 && this.#breach === undefined; rounds++) {
      await this.#guarded(() => {
        while (this.#dialer.accept());
        for (const wire of this.#dialer.wires) {
          if (wire.isOver) continue;
          wire.drain();
          wire.runtime.read(Number.POSITIVE_INFINITY, random);
          wire.runtime.grantAll(random);
          for (const stream of [...wire.runtime.streams.values()]) {
            if (!stream.ended) this.#respond(wire, stream);
          }
          wire.deliver(random);
        }
        for (const call of this.#calls) this.#read(call, 20);
      });
    }
    for (const wire of this.#dialer.wires) if (!wire.isOver && wire.runtime.pendingBytes === 0) wire.checkWindows();
    for (const { call, wire, streamId } of this.#served()) this.#checkEnd(call, wire, streamId);
  }

  #checkEnd(call: Call, { fromRuntime }: UpstreamWire, streamId: number): void {
    const { items, ends, data, reset } = fromRuntime.stream(streamId);
    const last = items.findLast(({ kind }) => kind === 'block');
    const code =
      last !== undefined && 'text' in last ? /"grpc-status","value":"(\d+)"/.exec(last.text)?.[1] : undefined;
    if (ends === 0 || reset || code === undefined || call.isLeft || call.timeoutMs !== undefined) return;
    const messages = messagesOf(data);
    const isWhole = messages !== undefined && (call.isStreaming || Number(code) !== 0 || messages.length === 1);
    const due = isWhole || Number(code) !== 0 ? Number(code) : 13;
    this.#count('ends compared');
    // An end with DATA, without trailers, or more than one message may come first.
    if (call.code !== due && call.code !== 13)
      this.#broken('a call ends as the runtime said', `${call.path}: ${call.code}, not ${due}`);
    if (call.code !== 0 || messages === undefined) return;
    const got = Buffer.concat(call.messages);
    const sent = Buffer.concat(messages);
    if (!got.equals(sent)) {
      this.#broken('messages arrive as they were sent', `${call.path}: ${got.length} of ${sent.length} bytes`);
    }
  }
}

/** @returns undefined where the last one is not whole. */
function messagesOf(data: Buffer): Buffer[] | undefined {
  const messages: Buffer[] = [];
  let at = 0;
  while (at < data.length) {
    if (at + 5 > data.length) return undefined;
    const end = at + 5 + data.readUInt32BE(at + 1);
    if (end > data.length) return undefined;
    messages.push(data.subarray(at + 5, end));
    at = end;
  }
  return messages;
}
