/**
 * Watches a router from outside, on its four wires and at its handlers, and says what must not be. What it demands of a
 * direction depends on whether the peer that sends there keeps the protocol.
 */
import { gunzipSync, inflateSync } from 'node:zlib';
import { Flag, FrameType, initialSettings, max31 } from '../../src/proxy/http2/frames.js';
import type { DecodedBlock } from '../../src/proxy/http2/hpack.js';
import { type Frame, message } from '../proxy/http2/wire.js';
import { Completeness, type OwnEnd, type Seen, withoutOwnEnd } from './completeness.js';
import { comparePrefix, FrameLog, withoutExtensions } from './frame-log.js';
import { PingWatch } from './ping-watch.js';
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
  readonly pings = new PingWatch((holds, rule, detail) => this.expect(holds, rule, detail));
  readonly requests = new Map<number, Request>();
  /** Taken streams the router knew before the present step. */
  #takenBefore = new Set<number>();
  readonly #takenSince: number[] = [];
  #highestId = 0;
  lastServedId = max31;
  #lastGoAway = max31;
  /** The last stream the runtime serves, by its own word. */
  runtimeServedId = max31;
  isLost = false;
  /** The runtime's connection has ended, and taken streams are still served. */
  isOrphaned = false;
  #isToldOfLoss = false;
  /** Once a connection has ended with its last taken stream. */
  #isChecked = false;
  idleId = max31;
  /** Nothing may be written any more. */
  #over = false;

  /** The client has got a header block. */
  #tableEmptied = false;
  /** SETTINGS were the first the runtime got. */
  #isTableNamed = true;
  /** The runtime has answered a stream it was not shown. */
  #misdirected = false;
  /** Taken streams on which a frame of the runtime had begun before they were there. */
  readonly #answeredBefore = new Set<number>();
  /** Streams that the runtime has begun to answer, and those of them that are reports to be taken. */
  readonly #begun = new Set<number>();
  readonly #lateDue: number[] = [];
  /** Calls that the runtime has ended with OK, and those observed of which that, or its contrary, is to be said in this step. */
  readonly #succeeded = new Set<number>();
  readonly #endsDue: number[] = [];
  /** Ends that were asked for, and those that were told. */
  #asked = 0;
  #told = 0;
  /** The streams of the frames that had begun to arrive before the present step. */
  #arrivedBefore: readonly number[] = [];
  /** A peer has sent what is no PING. */
  #isPingWrong = false;

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
    this.fromRuntime = new FrameLog({
      frame: (frame) => this.#runtimeSent(frame),
      block: (streamId, decoded) => this.#runtimeSaid(streamId, decoded),
    });
    this.toClient = new FrameLog({
      frame: (frame) => this.#clientGot(frame),
      block: (streamId, decoded, sizes) => this.#clientGotBlock(streamId, decoded, sizes),
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
    this.#arrivedBefore = [this.fromClient.streamInArrival, this.fromRuntime.streamInArrival];
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
    this.pings.fromClient(frame);
    const ack = (flags & Flag.ack) !== 0;
    this.#checkPing(frame);
    const request = this.requests.get(streamId);
    if (request !== undefined && this.fromClient.stream(streamId).ends === 0) {
      request.lastMs = this.world.nowMs;
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
    const malformed = isMalformed(decoded.fields.map(({ name }) => name));
    const decision = malformed ? 'take' : decisionOf(headers.get(':path') ?? '');
    const { nowMs } = this.world;
    this.requests.set(streamId, {
      ...{ decision, headers, malformed, begunMs: nowMs, lastMs: nowMs },
      ...{ observed: false, observedInBetween: false, ends: [] },
      ...{ answeredEarly: false, takenLate: false, orphaned: false },
    });
    if (decision === 'take') this.#takenSince.push(streamId);
  }

  #isTaken(streamId: number): boolean {
    return this.#valid.client ? this.requests.get(streamId)?.decision === 'take' : this.#takenBefore.has(streamId);
  }

  /** Whether the client gets Holdfast's frames on a stream. */
  #isOurs(streamId: number): boolean {
    return this.#isTaken(streamId) || this.requests.get(streamId)?.takenLate === true;
  }

  /** A PING on a stream, or of another length, ends the connection (RFC 9113 section 6.7). */
  #checkPing({ type, streamId, payload }: Frame): void {
    if (type === FrameType.ping && (streamId !== 0 || payload.length !== 8)) this.#isPingWrong = true;
  }

  #runtimeGot(frame: Frame): void {
    const { type, flags, streamId } = frame;
    const what = () => `type ${type} flags ${flags} on stream ${streamId}`;
    this.expect(!this.#over, 'nothing is written after the end', what);
    const isSettings = type === FrameType.settings && (flags & Flag.ack) === 0 && streamId === 0;
    if (this.toRuntime.frames === 0) this.#isTableNamed = isSettings;
    this.pings.toRuntime(frame);
    if (type === FrameType.settings) this.#runtimeGotSettings(frame);
    this.settings.toRuntime(frame);
    // Those on a stream are wrong wherever they come from.
    const ofConnection = type === FrameType.settings || type === FrameType.ping || type === FrameType.goAway;
    this.expect(ofConnection || !this.#isTaken(streamId), 'the runtime sees no frame of a taken stream', what);
    if (this.#valid.client && this.toRuntime.frames === 0) {
      this.expect(type === FrameType.settings, 'SETTINGS come first', what);
    }
  }

  #runtimeGotSettings({ flags, streamId, payload }: Frame): void {
    if ((flags & Flag.ack) !== 0) {
      const due = this.settings.runtimeAwaitsAck || !this.#bothValid;
      this.expect(due, 'the runtime gets ACKs of its own SETTINGS only', () => '');
    } else if (streamId === 0) {
      const right = this.settings.bansTable('runtime', payload);
      this.expect(right, 'the runtime is told to use no header table', () => payload.toString('hex'));
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
    const { type, flags, streamId, payload } = frame;
    this.settings.fromRuntime(frame);
    this.pings.fromRuntime(frame);
    this.#checkPing(frame);
    if (type === FrameType.goAway && payload.length >= 8) {
      this.runtimeServedId = Math.min(this.runtimeServedId, payload.readUInt32BE(0) & max31);
    }
    const answers = type === FrameType.data || type === FrameType.headers || type === FrameType.rstStream;
    if (!answers) return;
    if (this.#isOpenTaken(streamId)) this.#misdirected = true;
    const isFirst = !this.#begun.has(streamId);
    this.#begun.add(streamId);
    if (isFirst && type === FrameType.headers && (flags & Flag.endStream) === 0 && this.#isReportDue(streamId)) {
      this.#lateDue.push(streamId);
    }
  }

  #runtimeSaid(streamId: number, { fields }: DecodedBlock): void {
    if (this.fromRuntime.stream(streamId).items.at(-1)?.kind !== 'end') return;
    if (fields.findLast(({ name }) => name === 'grpc-status')?.value === '0') this.#succeeded.add(streamId);
    if (this.#bothValid && this.requests.get(streamId)?.observed && !this.#mayEndUnseen(streamId)) {
      this.#endsDue.push(streamId);
    }
  }

  /** Whether an observed call may count as failed though the runtime says nothing of the kind. */
  #mayEndUnseen(streamId: number): boolean {
    const request = this.requests.get(streamId);
    const isEarly = request === undefined || request.answeredEarly || request.observedInBetween;
    // The header of RST_STREAM is enough.
    const isGivenUp = this.fromClient.stream(streamId).reset || this.fromClient.streamInArrival === streamId;
    const isRefused = streamId > Math.min(this.lastServedId, this.runtimeServedId);
    return isEarly || isGivenUp || isRefused || this.isLost || this.#over || this.violations.length > 0;
  }

  /** A report that is known and open, whose answer begins in this step while something is hidden. */
  #isReportDue(streamId: number): boolean {
    const request = this.requests.get(streamId);
    if (!this.#bothValid || request === undefined || !request.observed || request.decision !== 'report') return false;
    const inBetween = this.#arrivedBefore.includes(streamId) || this.fromClient.streamInArrival === streamId;
    const given =
      this.fromClient.stream(streamId).reset || streamId > Math.min(this.lastServedId, this.runtimeServedId);
    return this.world.isHiding && !inBetween && !given && !this.#over && this.violations.length === 0;
  }

  /** A taken stream that its handler has not ended, nor anybody else, and that the runtime has not been shown. */
  #isOpenTaken(streamId: number): boolean {
    if (!this.#valid.client || this.#answeredBefore.has(streamId)) return false;
    if (this.requests.get(streamId)?.takenLate === true) return false;
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
    this.pings.toClient(frame);
    this.settings.toClient(frame);
    if (type === FrameType.settings && !ack) {
      const right = this.settings.bansTable('client', payload);
      this.expect(right, 'the client is told to use no header table', () => payload.toString('hex'));
    }
    if (type === FrameType.goAway) this.#goAway(payload);
    if (type === FrameType.ping && !ack && payload.toString('hex', 0, 4) === proofPrefix) {
      this.#proof(payload.readUInt32BE(4));
    }
    if (type === FrameType.data) this.#dataWithinWindows(frame);
    if (this.#bothValid && this.#isOurs(streamId)) this.#takenFrame(frame);
    if (this.#bothValid && type !== FrameType.continuation) {
      const ends = this.toClient.stream(streamId).ends;
      const again = (type === FrameType.data || type === FrameType.headers) && ends > 0;
      this.expect(!again, 'a stream ends once', what);
    }
  }

  #clientGotBlock(streamId: number, decoded: DecodedBlock, sizes: readonly number[]): void {
    if (!this.settings.clientTable.block(sizes)) this.#tableUnannounced('client', streamId);
    if (!this.#bothValid) return;
    const what = () => `stream ${streamId}`;
    this.expect(
      this.#tableEmptied || sizes.at(-1) === 0,
      'the first header block empties the table of the client',
      what,
    );
    this.#tableEmptied = true;
    const literal = decoded.selfContained || !this.#isOurs(streamId);
    this.expect(literal, 'own header blocks need no table', what);
  }

  #goAway(payload: Buffer): void {
    const last = payload.readUInt32BE(0) & max31;
    this.expect(last <= this.#lastGoAway, 'GOAWAY names no higher stream than before', () => {
      return `${last} after ${this.#lastGoAway}`;
    });
    this.#lastGoAway = Math.min(last, this.#lastGoAway);
    this.lastServedId = Math.min(last, this.lastServedId);
    const isFarewell = this.isLost && payload.readUInt32BE(4) === 0 && (last <= this.#highestId || !this.#valid.client);
    if (isFarewell) this.#isToldOfLoss = true;
  }

  /** The runtime's SETTINGS have been waited for. */
  greet(): void {
    if (this.toClient.frames === 0 && this.toClient.atBoundary) this.settings.ownSettings = 1;
  }

  /** The runtime's connection ends. */
  lose(): void {
    this.isLost = true;
    for (const [streamId, request] of this.requests) {
      const isOver = this.fromClient.stream(streamId).ends > 0 && this.toClient.stream(streamId).ends > 0;
      const isReset = this.fromClient.stream(streamId).reset || this.toClient.stream(streamId).reset;
      const isPassed = request.decision !== 'take' && !request.takenLate;
      request.orphaned = isPassed && !isOver && !isReset && streamId <= this.lastServedId;
    }
  }

  /**
   * @param goesOn The router has something left to do.
   * @param isOrphaned That is to serve taken streams.
   */
  lost(goesOn: boolean, isOrphaned: boolean): void {
    const isOpen = ({ streamId, call, status }: CallRecord) => {
      return status === undefined && !call.signal.aborted && this.toClient.stream(streamId).ends === 0;
    };
    const mayGoOn = this.toClient.atBoundary && this.violations.length === 0;
    const wrongly = !isOrphaned && this.#bothValid && mayGoOn && this.world.calls.some(isOpen);
    this.expect(!wrongly, 'taken streams are served though the runtime has gone', () => `goes on: ${goesOn}`);
    this.expect(goesOn || !isOrphaned, 'taken streams are served though the runtime has gone', () => 'told to close');
    this.isOrphaned = isOrphaned;
    if (!isOrphaned) return;
    this.lastServedId = Math.min(this.lastServedId, this.#highestId);
  }

  drain(): void {
    this.lastServedId = Math.min(this.lastServedId, this.#highestId);
  }

  #proof(streamId: number): void {
    const { ends, reset } = this.toClient.stream(streamId);
    const isUnread = !this.#bothValid && this.toClient.decoderLost;
    this.expect(ends === 1 || !this.#valid.runtime || isUnread, 'a proof stands behind its answer', () => {
      return `stream ${streamId}, ended ${ends} times, reset ${reset}`;
    });
  }

  #dataWithinWindows({ streamId, payload }: Frame): void {
    if (!this.#bothValid) return;
    const left = initialSettings.windowSize + this.fromClient.granted - this.toClient.spent - payload.length;
    this.expect(left >= 0 || payload.length === 0, 'DATA keeps within the connection window', () => {
      return `${-left} bytes too many on stream ${streamId}`;
    });
    if (!this.#isOurs(streamId)) return;
    const { granted } = this.fromClient.stream(streamId);
    const room = this.settings.clientWindow + granted - this.toClient.stream(streamId).spent - payload.length;
    this.expect(room >= 0, 'own DATA keeps within the stream window', () => `${-room} bytes on stream ${streamId}`);
  }

  #takenFrame({ type, flags, streamId, payload }: Frame): void {
    const { ends, reset } = this.toClient.stream(streamId);
    const noError = type === FrameType.rstStream && payload.readUInt32BE(0) === 0;
    // Of what is no answer some was held back when it was taken, and some comes behind the end of it: nothing to a client.
    const carries = type === FrameType.data || type === FrameType.headers || type === FrameType.continuation;
    const isLoose = this.requests.get(streamId)?.takenLate === true && !carries;
    const late = (reset || (ends > 0 && !noError)) && !isLoose;
    this.expect(!late, 'no frame of a taken stream follows its end', () => `type ${type} on stream ${streamId}`);
    const known =
      isLoose ||
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
    const request = this.requests.get(streamId);
    const isLate = request?.decision === 'report';
    // Behind a message that is whole there may be another.
    const isRight = expected === undefined ? isLate : expected.equals(call.request);
    this.expect(isRight, 'a taken call has the request that was sent', () => call.path);
    if (isLate) {
      this.expect(
        this.world.isHiding && !request.takenLate,
        'a report is taken where something is hidden',
        () => call.path,
      );
      request.takenLate = true;
    }
    const wanted = [...(request?.headers ?? [])].filter(([name]) => name.startsWith('x-')).reverse();
    this.expect(JSON.stringify(call.metadata) === JSON.stringify(wanted), 'a taken call has its metadata', () => {
      return `${JSON.stringify(call.metadata)} instead of ${JSON.stringify(wanted)}`;
    });
  }

  /** @param succeeded What is said of an observed call's end. */
  callEnded(path: string, succeeded: boolean): void {
    this.#told += 1;
    const streamId = Number(path.split('/').at(-1));
    const request = this.requests.get(streamId);
    if (!this.#valid.client || request === undefined) return;
    request.ends.push(succeeded);
    this.expect(request.ends.length === 1, 'the end of a call is told once', () => path);
    const isTrue = this.#succeeded.has(streamId);
    if (succeeded) {
      this.expect(isTrue || this.fromRuntime.decoderLost, 'a call that succeeded was ended with OK', () => path);
      const isInTime = this.toClient.stream(streamId).ends === 0;
      this.expect(isInTime || !this.#bothValid, 'a success is told before the client has it', () => path);
    } else if (this.#bothValid) {
      const { ends, reset } = this.fromRuntime.stream(streamId);
      // Here too the header of a frame is enough.
      const isSaid = reset || (ends > 0 && !isTrue) || this.fromRuntime.streamInArrival === streamId;
      this.expect(isSaid || this.#mayEndUnseen(streamId), 'a call that failed did not succeed', () => path);
    }
  }

  observed(path: string, body: Buffer): void {
    if (decisionOf(path) === 'observe') this.#asked += 1;
    if (!this.#valid.client) return;
    const streamId = Number(path.split('/').at(-1));
    const request = this.requests.get(streamId);
    this.expect(request?.observed === false, 'a request is observed once', () => path);
    if (request === undefined) return;
    request.observed = true;
    request.observedInBetween = this.fromRuntime.streamInArrival === streamId;
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
    this.#pingsInTime();
    if (this.violations.length === 0 && !this.#over) this.pings.allKept(this.world.mostPings);
    const isNoted = !this.#isPingWrong || this.violations.length > 0 || this.#over;
    this.expect(isNoted, 'a PING on a stream or of a wrong length ends the connection', () => '');
    for (const streamId of this.#lateDue.splice(0)) {
      const isTaken = this.requests.get(streamId)?.takenLate === true;
      this.expect(
        isTaken,
        'a report whose answer begins while something is hidden is taken',
        () => `stream ${streamId}`,
      );
    }
    for (const streamId of this.#endsDue.splice(0)) {
      const { decision, ends } = this.requests.get(streamId) ?? {};
      const isRight = decision !== 'observe' || ends?.join() === `${this.#succeeded.has(streamId)}`;
      this.expect(isRight, 'the end of an observed call is told at once', () => `stream ${streamId}: ${ends}`);
    }
    if (this.settings.ownSettings > 0) {
      this.expect(this.toClient.frames > 0, 'own SETTINGS go out at once', () => '');
    }
    this.#farewellInTime();
    for (const { call, status, aborts, delivered, streamId } of this.world.calls) {
      const { deadlineMs, signal } = call;
      const late = deadlineMs !== undefined && deadlineMs <= this.world.nowMs;
      this.expect(!late || status !== undefined || signal.aborted, 'a deadline is kept', () => call.path);
      const isTold = aborts === (signal.aborted ? 1 : 0) && (signal.reason === 'ended') === (status !== undefined);
      this.expect(isTold, 'a signal fires once, and at the end', () => `${call.path}: ${signal.reason}`);
      const proven = this.#proofAcks.has(streamId) && status?.code === 0;
      this.expect(delivered !== true || proven || !this.#valid.client, 'delivered is proven', () => call.path);
    }
  }

  /** Between frames nothing keeps an answer back, but SETTINGS that have to come first and a full socket. */
  #pingsInTime(): void {
    if (!this.#bothValid || this.#over) return;
    const { fromClient, toRuntime, fromRuntime, toClient } = this;
    const may = (to: FrameLog, source: FrameLog) => to.frames > 0 && to.atBoundary && source.atBoundary;
    const ended = this.isOrphaned && toClient.frames > 0 && toClient.atBoundary;
    if ((may(toClient, fromRuntime) || ended) && this.world.isReady) this.pings.allAnswered('client');
    if (may(toRuntime, fromClient) && !this.isLost) this.pings.allAnswered('runtime');
  }

  /** Then the connection serves the taken streams, and ends with the last of them. */
  #farewellInTime(): void {
    if (!this.isOrphaned || this.violations.length > 0) return;
    if (!this.#over) {
      const may = isGreeted(this.toClient) && this.toClient.atBoundary;
      this.expect(this.#isToldOfLoss || !may, 'the client is told that the runtime has gone', () => '');
    } else if (this.closed && this.#bothValid && !this.#isChecked) {
      this.#isChecked = true;
      new Completeness(this).checkStreams();
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
    this.expect(this.#told === this.#asked, 'the end of every observed call is told', () => {
      return `${this.#told} of ${this.#asked}`;
    });
    this.expect(pendingTimers === 0, 'no timer is left', () => `${pendingTimers} timers`);
    if (this.#valid.client) this.#prefixes(this.toRuntime, this.fromClient, 'requests');
    if (this.#valid.runtime) this.#prefixes(this.toClient, this.fromRuntime, 'responses');
    if (this.#bothValid) for (const record of this.world.calls) this.#answerPrefix(record);
  }

  #prefixes(received: FrameLog, sent: FrameLog, what: string): void {
    // The fault of a client that kept from the runtime that it has no header table.
    if ((received.decoderLost || !this.#isTableNamed) && !this.#bothValid) return;
    for (const [streamId, got] of received.streams) {
      const request = this.requests.get(streamId);
      if (request?.decision === 'take') continue;
      // Of a broken client nobody knows which of its streams the path of a call names.
      const isOurs = request?.takenLate || (request?.decision === 'report' && !this.#valid.client);
      if (received === this.toClient && isOurs) continue;
      const was = sent.stream(streamId);
      const { log } = received === this.toClient ? withoutOwnEnd(got, this.ownEnd(streamId), was.reset) : { log: got };
      // What the client says beside its request stays here.
      const [one, other] = request?.takenLate ? [withoutExtensions(log), withoutExtensions(was)] : [log, was];
      const { wrong } = comparePrefix(one, other);
      this.expect(wrong === undefined, `passed ${what} arrive as they were sent`, () => `stream ${streamId}: ${wrong}`);
    }
  }

  ownEnd(streamId: number): OwnEnd | undefined {
    if (streamId > this.runtimeServedId) return 'refused';
    return this.requests.get(streamId)?.orphaned ? 'gone' : undefined;
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
    const could = log.atBoundary && isGreeted(log);
    const told = log.control.some(({ type, payload }) => type === FrameType.goAway && !/^.{8}0{8}/.test(payload));
    this.expect(told || !could, 'a peer at fault is told so', () => violation);
  }
}

/** SETTINGS come first; those for the runtime are the client's. */
function isGreeted({ control }: FrameLog): boolean {
  return control.some(({ type, ack, streamId }) => type === FrameType.settings && !ack && streamId === 0);
}

const pseudoFields: ReadonlySet<string> = new Set([':method', ':scheme', ':path', ':authority']);

/** Whether a pseudo-header field comes behind another field, or one of RFC 9113 section 8.3.1 comes twice. */
function isMalformed(names: readonly string[]): boolean {
  const firstOther = names.findIndex((name) => !name.startsWith(':'));
  const isBehind = firstOther >= 0 && names.slice(firstOther).some((name) => name.startsWith(':'));
  const known = names.filter((name) => pseudoFields.has(name));
  return isBehind || new Set(known).size < known.length;
}
