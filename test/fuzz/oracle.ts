/**
 * Watches a router from outside, on its four wires and at its handlers, and says what must not be. What it demands of a
 * direction depends on whether the peer that sends there keeps the protocol.
 */
import { gunzipSync, inflateSync } from 'node:zlib';
import { Flag, FrameType, forEachSetting, initialSettings, max31, Setting } from '../../src/proxy/http2/frames.js';
import type { DecodedBlock } from '../../src/proxy/http2/hpack.js';
import { type Frame, message } from '../proxy/http2/wire.js';
import { Completeness, type Seen } from './completeness.js';
import { comparePrefix, FrameLog } from './frame-log.js';
import { SettingsWatch } from './settings-watch.js';
import {
  type Breach,
  type CallRecord,
  type Decision,
  decisionOf,
  proofPrefix,
  type Request,
  type Validity,
  type Watched,
} from './watched.js';

export class Oracle implements Seen {
  breach: Breach | undefined;
  readonly violations: string[] = [];
  closed = false;
  drains = 0;
  drained = 0;

  readonly fromClient: FrameLog;
  readonly toRuntime: FrameLog;
  readonly fromRuntime: FrameLog;
  readonly toClient: FrameLog;
  readonly #valid: Validity;
  readonly world: Watched;
  readonly settings = new SettingsWatch();
  readonly requests = new Map<number, Request>();
  /** Taken streams the router knew before the present step. */
  #takenBefore = new Set<number>();
  readonly #takenSince: number[] = [];
  #highestId = 0;
  lastServedId = max31;
  #lastGoAway = max31;
  lostId = 0;
  idleId = max31;
  /** Nothing may be written any more. */
  #over = false;

  /** The runtime has answered a stream it was not shown. */
  #misdirected = false;
  /** Taken streams on which a frame of the runtime had begun before they were there. */
  readonly #answeredBefore = new Set<number>();

  readonly #proofAcks = new Set<number>();

  constructor(valid: Validity, world: Watched) {
    this.#valid = valid;
    this.world = world;
    this.fromClient = new FrameLog({
      frame: (frame) => this.#clientSent(frame),
      block: (streamId, decoded) => this.#clientOpens(streamId, decoded),
    });
    this.toRuntime = new FrameLog(
      {
        frame: (frame) => this.#runtimeGot(frame),
        block: (streamId, decoded, sizes) => this.#runtimeGotBlock(streamId, decoded, sizes),
        illegal: (reason) => this.broken('frames to the runtime are legal', reason),
      },
      initialSettings.headerTableSize,
    );
    this.fromRuntime = new FrameLog({ frame: (frame) => this.#runtimeSent(frame) });
    this.toClient = new FrameLog({
      frame: (frame) => this.#clientGot(frame),
      block: (streamId, _decoded, sizes) =>
        this.settings.clientTable.block(sizes) || this.#tableUnannounced('client', streamId),
      // Padding and compression of the runtime's frames are its own affair, and it may go astray behind its client.
      illegal: (reason) => {
        if (this.#bothValid || reason.startsWith('frame type')) this.broken('frames to the client are legal', reason);
      },
    });
  }

  broken(rule: string, detail: string): void {
    this.breach ??= { rule, detail };
  }

  expect(holds: boolean, rule: string, detail: () => string): void {
    if (!holds) this.broken(rule, detail());
  }

  get #bothValid(): boolean {
    return this.#valid.client && this.#valid.runtime;
  }

  /** Request headers seen, by decision. */
  count(decision: Decision): number {
    let count = 0;
    for (const request of this.requests.values()) if (request.decision === decision) count += 1;
    return count;
  }

  beginStep(): void {
    for (const id of this.#takenSince.splice(0)) this.#takenBefore.add(id);
    this.settings.beginStep();
  }

  /** No byte may be written from now on. */
  end(): void {
    this.#over = true;
  }

  // The four wires.

  #clientSent(frame: Frame): void {
    const { type, flags, streamId, payload } = frame;
    this.settings.fromClient(frame);
    const ack = (flags & Flag.ack) !== 0;
    const request = this.requests.get(streamId);
    if (request !== undefined && this.fromClient.stream(streamId).ends === 0) {
      const answered = this.toClient.stream(streamId).ends > 0 || this.fromRuntime.streamInArrival === streamId;
      request.answeredEarly ||= answered;
    }
    if (type === FrameType.ping && ack && payload.toString('hex', 0, 4) === proofPrefix && payload.length === 8) {
      const acked = payload.readUInt32BE(4);
      if (!this.fromClient.stream(acked).reset) this.#proofAcks.add(acked);
    }
  }

  #clientOpens(streamId: number, decoded: DecodedBlock): void {
    if (streamId % 2 === 0 || streamId <= this.#highestId) return;
    this.#highestId = streamId;
    // The first of a name counts.
    const headers = new Map(decoded.fields.toReversed().map(({ name, value }) => [name, value]));
    const decision = decisionOf(headers.get(':path') ?? '');
    this.requests.set(streamId, { decision, headers, observed: false, answeredEarly: false });
    if (decision === 'take') this.#takenSince.push(streamId);
  }

  #isTaken(streamId: number): boolean {
    return this.#valid.client ? this.requests.get(streamId)?.decision === 'take' : this.#takenBefore.has(streamId);
  }

  #runtimeGot(frame: Frame): void {
    const { type, flags, streamId } = frame;
    this.settings.toRuntime(frame);
    const what = () => `type ${type} flags ${flags} on stream ${streamId}`;
    this.expect(!this.#over, 'nothing is written after the end', what);
    // Those on a stream are wrong wherever they come from.
    const ofConnection = type === FrameType.settings || type === FrameType.ping || type === FrameType.goAway;
    this.expect(ofConnection || !this.#isTaken(streamId), 'the runtime sees no frame of a taken stream', what);
    if (this.#valid.client && this.toRuntime.frames === 0) {
      const first = type === FrameType.settings || (type === FrameType.goAway && this.violations.length > 0);
      this.expect(first, 'SETTINGS come first', what);
    }
  }

  #tableUnannounced(side: string, streamId: number): void {
    if (this.#bothValid) this.broken(`the ${side} gets the table size update it waits for`, `stream ${streamId}`);
  }

  #runtimeGotBlock(streamId: number, decoded: DecodedBlock, sizes: readonly number[]): void {
    this.expect(decoded.selfContained, 'header blocks for the runtime need no table', () => `stream ${streamId}`);
    const path = decoded.fields.find(({ name }) => name === ':path')?.value;
    const taken = path !== undefined && decisionOf(path) === 'take' && this.#valid.client;
    this.expect(!taken, 'the runtime sees no frame of a taken stream', () => `HEADERS for ${path}`);
    if (!this.settings.runtimeTable.block(sizes)) this.#tableUnannounced('runtime', streamId);
  }

  #runtimeSent(frame: Frame): void {
    const { type, streamId } = frame;
    this.settings.fromRuntime(frame);
    const answers = type === FrameType.data || type === FrameType.headers || type === FrameType.rstStream;
    if (answers && this.#isOpenTaken(streamId)) this.#misdirected = true;
  }

  /** A taken stream that its handler has not ended, nor anybody else. */
  #isOpenTaken(streamId: number): boolean {
    if (!this.#valid.client || streamId <= this.lostId || this.#answeredBefore.has(streamId)) return false;
    const record = this.world.calls.find((one) => one.streamId === streamId);
    return record !== undefined && record.status === undefined && !record.call.signal.aborted;
  }

  #clientGot(frame: Frame): void {
    const { type, flags, streamId, payload } = frame;
    const what = () => `type ${type} flags ${flags} on stream ${streamId}`;
    this.expect(!this.#over, 'nothing is written after the end', what);
    const ack = (flags & Flag.ack) !== 0;
    if (this.toClient.frames === 0 && this.#valid.runtime) {
      this.expect(type === FrameType.settings && !ack, 'SETTINGS come first', what);
    }
    this.settings.toClient(frame);
    if (type === FrameType.settings && !ack) this.#settingsOfRuntime(payload);
    if (type === FrameType.goAway) this.#goAway(payload);
    if (type === FrameType.ping && !ack && payload.toString('hex', 0, 4) === proofPrefix) {
      this.#proof(payload.readUInt32BE(4));
    }
    if (type === FrameType.data) this.#dataWithinWindows(frame);
    if (this.#bothValid && this.#isTaken(streamId)) this.#takenFrame(frame);
    if (this.#bothValid && type !== FrameType.continuation) {
      const ends = this.toClient.stream(streamId).ends;
      const again = (type === FrameType.data || type === FrameType.headers) && ends > 0;
      this.expect(!again, 'a stream ends once', what);
    }
  }

  #settingsOfRuntime(payload: Buffer): void {
    const sizes: number[] = [];
    forEachSetting(payload, (id, value) => {
      if (id === Setting.headerTableSize) sizes.push(value);
    });
    const first = this.toClient.frames === 0;
    const right = sizes.every((size) => size === 0) && (sizes.length > 0 || !first);
    this.expect(right, 'the client is told to use no header table', () => payload.toString('hex'));
  }

  #goAway(payload: Buffer): void {
    const last = payload.readUInt32BE(0) & max31;
    this.expect(last <= this.#lastGoAway, 'GOAWAY names no higher stream than before', () => {
      return `${last} after ${this.#lastGoAway}`;
    });
    this.#lastGoAway = Math.min(last, this.#lastGoAway);
    this.lastServedId = Math.min(last, this.lastServedId);
  }

  /** The upstream is gone: no taken stream is answered. */
  lose(): void {
    this.lostId = this.#highestId;
  }

  drain(): void {
    this.lastServedId = Math.min(this.lastServedId, this.#highestId);
  }

  #proof(streamId: number): void {
    const { ends, reset } = this.toClient.stream(streamId);
    this.expect(ends === 1 || !this.#valid.runtime, 'a proof stands behind its answer', () => {
      return `stream ${streamId}, ended ${ends} times, reset ${reset}`;
    });
  }

  #dataWithinWindows({ streamId, payload }: Frame): void {
    if (!this.#bothValid) return;
    const left = initialSettings.windowSize + this.fromClient.granted - this.toClient.spent - payload.length;
    this.expect(left >= 0 || payload.length === 0, 'DATA keeps within the connection window', () => {
      return `${-left} bytes too many on stream ${streamId}`;
    });
    if (!this.#isTaken(streamId)) return;
    const { granted } = this.fromClient.stream(streamId);
    const room = this.settings.clientWindow + granted - this.toClient.stream(streamId).spent - payload.length;
    this.expect(room >= 0, 'own DATA keeps within the stream window', () => `${-room} bytes on stream ${streamId}`);
  }

  #takenFrame({ type, flags, streamId, payload }: Frame): void {
    const { ends, reset } = this.toClient.stream(streamId);
    const noError = type === FrameType.rstStream && payload.readUInt32BE(0) === 0;
    const late = reset || (ends > 0 && !noError);
    this.expect(!late, 'no frame of a taken stream follows its end', () => `type ${type} on stream ${streamId}`);
    const known =
      type === FrameType.data ||
      type === FrameType.headers ||
      type === FrameType.continuation ||
      type === FrameType.rstStream ||
      type === FrameType.windowUpdate;
    this.expect(known, 'a taken stream has frames of Holdfast only', () => `type ${type} flags ${flags}`);
  }

  // The handlers.

  violation(peer: string, reason: string): void {
    this.violations.push(`${peer}: ${reason}`);
    this.expect(!reason.startsWith('internal error'), 'nothing fails inside', () => reason);
    this.expect(this.violations.length === 1, 'a connection ends once', () => this.violations.join('; '));
    const valid = peer === 'downstream' ? this.#valid.client : this.#valid.runtime;
    // Limits are within reach of a peer that has to answer a broken one.
    const limit = !this.#bothValid && /too many|more than/.test(reason);
    this.expect(!valid || limit, 'a peer that keeps the protocol is not blamed', () => `${peer}: ${reason}`);
  }

  took({ call, streamId }: CallRecord): void {
    const twice = this.world.calls.filter((record) => record.streamId === streamId).length > 1;
    if (!this.#valid.client) return;
    if (this.fromRuntime.streamInArrival === streamId) this.#answeredBefore.add(streamId);
    this.expect(!twice, 'a call is taken once', () => call.path);
    const expected = this.message(streamId);
    this.expect(expected?.equals(call.request) === true, 'a taken call has the request that was sent', () => call.path);
    const request = this.requests.get(streamId);
    const wanted = [...(request?.headers ?? [])].filter(([name]) => name.startsWith('x-')).reverse();
    this.expect(JSON.stringify(call.metadata) === JSON.stringify(wanted), 'a taken call has its metadata', () => {
      return `${JSON.stringify(call.metadata)} instead of ${JSON.stringify(wanted)}`;
    });
  }

  observed(path: string, body: Buffer): void {
    if (!this.#valid.client) return;
    const streamId = Number(path.split('/').at(-1));
    const request = this.requests.get(streamId);
    this.expect(request?.observed === false, 'a request is observed once', () => path);
    if (request === undefined) return;
    request.observed = true;
    const expected = this.message(streamId);
    const right = expected === undefined || expected.equals(body);
    this.expect(right, 'an observed request is the one sent', () => path);
    const forwarded = this.toRuntime.stream(streamId).data.length;
    const inTime = expected === undefined || forwarded < this.fromClient.stream(streamId).data.length;
    this.expect(inTime, 'a request is observed in time', () => path);
  }

  message(streamId: number): Buffer | undefined {
    const { data } = this.fromClient.stream(streamId);
    if (data.length < 5 || data.length !== 5 + data.readUInt32BE(1)) return undefined;
    const body = data.subarray(5);
    if (data[0] === 0) return body;
    if (data[0] !== 1) return undefined;
    const encoding = this.requests.get(streamId)?.headers.get('grpc-encoding');
    try {
      return encoding === 'gzip' ? gunzipSync(body) : encoding === 'deflate' ? inflateSync(body) : undefined;
    } catch {
      return undefined;
    }
  }

  endStep(): void {
    const unnoticed = this.#misdirected && this.violations.length === 0 && this.world.heldBytes === 0 && !this.#over;
    this.expect(!unnoticed, 'a runtime that answers a taken stream is at fault', () => '');
    for (const { call, status, aborts, delivered, streamId } of this.world.calls) {
      const { deadlineMs, signal } = call;
      const late = deadlineMs !== undefined && deadlineMs <= this.world.nowMs;
      this.expect(!late || status !== undefined || signal.aborted, 'a deadline is kept', () => call.path);
      this.expect(aborts === 0 || status === undefined, 'no signal fires after the end', () => call.path);
      const proven = this.#proofAcks.has(streamId) && status?.code === 0;
      this.expect(delivered !== true || proven || !this.#valid.client, 'delivered is proven', () => call.path);
    }
  }

  /** Nothing is under way, windows were granted, and both peers keep the protocol. */
  quiet(): void {
    new Completeness(this).check();
  }

  /** No stream is left. */
  idle(): void {
    this.idleId = this.#highestId;
    const { activeStreams } = this.world;
    this.expect(activeStreams === 0, 'no stream is left behind', () => `${activeStreams} streams`);
    this.expect(this.drained === this.drains, 'a drain comes to its end', () => `${this.drained} of ${this.drains}`);
  }

  /** After everything; both sockets are gone. */
  finish(): void {
    for (const { call, pendingSends, status, delivered } of this.world.calls) {
      this.expect(pendingSends === 0, 'every send settles', () => call.path);
      this.expect(status === undefined || delivered !== undefined, 'every end settles', () => call.path);
    }
    const { pendingTimers } = this.world;
    this.expect(pendingTimers === 0, 'no timer is left', () => `${pendingTimers} timers`);
    if (this.#valid.client) this.#prefixes(this.toRuntime, this.fromClient, 'requests');
    if (this.#valid.runtime) this.#prefixes(this.toClient, this.fromRuntime, 'responses');
    if (this.#bothValid) for (const record of this.world.calls) this.#answerPrefix(record);
  }

  #prefixes(received: FrameLog, sent: FrameLog, what: string): void {
    for (const [streamId, got] of received.streams) {
      if (this.requests.get(streamId)?.decision === 'take') continue;
      const { wrong } = comparePrefix(got, sent.stream(streamId));
      this.expect(wrong === undefined, `passed ${what} arrive as they were sent`, () => `stream ${streamId}: ${wrong}`);
    }
  }

  #answerPrefix({ call, streamId, sent }: CallRecord): void {
    const { data } = this.toClient.stream(streamId);
    const all = Buffer.concat(sent.map((body) => message(body)));
    const right = data.equals(all.subarray(0, data.length));
    this.expect(right, 'a taken stream carries what its handler sent', () => call.path);
  }

  /** Time for last bytes has passed. */
  lingered(): void {
    const [violation] = this.violations;
    if (violation === undefined) return;
    this.expect(this.#over, 'a violation ends the connection', () => violation);
    const log = violation.startsWith('downstream') ? this.toClient : this.toRuntime;
    const greeted = this.toClient.control.some(({ type, ack }) => type === FrameType.settings && !ack);
    const could = log.atBoundary && (greeted || log === this.toRuntime);
    const told = log.control.some(({ type, payload }) => type === FrameType.goAway && !/^.{8}0{8}/.test(payload));
    this.expect(told || !could, 'a peer at fault is told so', () => violation);
  }
}
