/**
 * What must have come about once a conversation of two peers that keep the protocol has gone quiet: everything sent has
 * arrived, every taken call is answered, and no window has been lost on the way.
 */
import { FrameType } from '../../src/proxy/http2/frames.js';
import { message } from '../proxy/http2/wire.js';
import { comparePrefix, type FrameLog, type StreamLog } from './frame-log.js';
import type { SettingsWatch } from './settings-watch.js';
import { proofPrefix, type Request, type Watched } from './watched.js';

/** What an oracle has seen so far. */
export interface Seen {
  readonly fromClient: FrameLog;
  readonly toRuntime: FrameLog;
  readonly fromRuntime: FrameLog;
  readonly toClient: FrameLog;
  readonly settings: SettingsWatch;
  readonly world: Watched;
  readonly requests: ReadonlyMap<number, Request>;
  /** Streams above are not served: the last GOAWAY, or a drain whose GOAWAY is still to go out. */
  readonly lastServedId: number;
  /** Taken streams up to this one were lost. */
  readonly lostId: number;
  /** Up to this one nothing is left of any. */
  readonly idleId: number;
  expect(holds: boolean, rule: string, detail: () => string): void;
  /** The one message of a request; undefined where it is incomplete or malformed. */
  message(streamId: number): Buffer | undefined;
}

export class Completeness {
  readonly #seen: Seen;

  constructor(seen: Seen) {
    this.#seen = seen;
  }

  /** Everything written has been delivered and read, windows were granted, and both peers keep the protocol. */
  check(): void {
    this.#seen.expect(
      this.#seen.world.heldBytes === 0,
      'nothing is held back for ever',
      () => `${this.#seen.world.heldBytes} bytes`,
    );
    this.#seen.expect(
      this.#seen.toClient.atBoundary && this.#seen.toRuntime.atBoundary,
      'only whole frames are written',
      () => '',
    );
    this.#controlComplete();
    this.#windowsConserved();
    for (const [streamId, request] of this.#seen.requests) {
      if (request.decision === 'take') this.#takenComplete(streamId, request);
      else this.#passedComplete(streamId, request);
    }
  }

  #controlComplete(): void {
    const shown = (log: FrameLog, wanted: (type: number) => boolean) =>
      log.control
        .filter(({ type, payload }) => wanted(type) && !(type === FrameType.ping && payload.startsWith(proofPrefix)))
        .map(({ type, ack, payload }) => `${type} ${ack} ${payload}`)
        .join('\n');
    const all = () => true;
    this.#seen.expect(
      shown(this.#seen.fromClient, all) === shown(this.#seen.toRuntime, all),
      'control frames reach the runtime',
      () => {
        return `${shown(this.#seen.toRuntime, all)}\ninstead of\n${shown(this.#seen.fromClient, all)}`;
      },
    );
    const pings = (type: number) => type === FrameType.ping;
    this.#seen.expect(
      shown(this.#seen.fromRuntime, pings) === shown(this.#seen.toClient, pings),
      'PINGs reach the client',
      () => {
        return `${shown(this.#seen.toClient, pings)}\ninstead of\n${shown(this.#seen.fromRuntime, pings)}`;
      },
    );
    // An acknowledgement may be held back behind DATA, SETTINGS are not.
    const settings = (log: FrameLog) => {
      const acks = log.control.filter(({ type }) => type === FrameType.settings).map(({ ack }) => ack);
      return `${acks.length} SETTINGS, ${acks.filter((ack) => ack).length} of them acknowledgements`;
    };
    this.#seen.expect(
      settings(this.#seen.fromRuntime) === settings(this.#seen.toClient),
      'SETTINGS reach the client',
      () => {
        return `${settings(this.#seen.toClient)} instead of ${settings(this.#seen.fromRuntime)}`;
      },
    );
  }

  #windowsConserved(): void {
    const clientMaySend = this.#seen.toClient.granted - this.#seen.fromClient.spent;
    const runtimeTakes = this.#seen.fromRuntime.granted - this.#seen.toRuntime.spent;
    this.#seen.expect(clientMaySend === runtimeTakes, 'the window for requests is conserved', () => {
      return `client ${clientMaySend}, runtime ${runtimeTakes}`;
    });
    const clientTakes = this.#seen.fromClient.granted - this.#seen.toClient.spent;
    const runtimeMaySend = this.#seen.toRuntime.granted - this.#seen.fromRuntime.spent;
    this.#seen.expect(clientTakes === runtimeMaySend, 'the window for responses is conserved', () => {
      return `client ${clientTakes}, runtime ${runtimeMaySend}`;
    });
  }

  #isDisturbed(streamId: number): boolean {
    const byClient = this.#seen.fromClient.stream(streamId).reset;
    return byClient || this.#seen.fromRuntime.stream(streamId).reset || streamId > this.#seen.lastServedId;
  }

  #passedComplete(streamId: number, request: Request): void {
    const sent = this.#seen.fromClient.stream(streamId);
    const answered = this.#seen.fromRuntime.stream(streamId);
    const response = comparePrefix(this.#seen.toClient.stream(streamId), answered);
    this.#seen.expect(
      response.complete,
      'a passed response is complete',
      () => `stream ${streamId}: ${response.wrong}`,
    );
    if (this.#isDisturbed(streamId)) return;
    const over = sent.ends > 0 && answered.ends > 0;
    const got = this.#seen.toRuntime.stream(streamId);
    const complete = over ? got.ends > 0 : comparePrefix(got, sent).complete;
    this.#seen.expect(complete, 'a passed request is complete', () => `stream ${streamId}`);
    const wellFormed = this.#seen.message(streamId) !== undefined && sent.ends > 0;
    const observed = request.observed || request.answeredEarly || request.decision !== 'observe' || !wellFormed;
    this.#seen.expect(observed, 'an observed request is noted', () => `stream ${streamId}`);
    if (over) return;
    const requestWindows = this.#seen.toClient.stream(streamId).granted - sent.spent;
    const granted = answered.granted - got.spent;
    this.#seen.expect(requestWindows === granted, 'the window of a passed request is conserved', () => {
      return `stream ${streamId}: client ${requestWindows}, runtime ${granted}`;
    });
    const clientTakes = sent.granted - this.#seen.toClient.stream(streamId).spent;
    const runtimeMaySend = got.granted - answered.spent;
    this.#seen.expect(clientTakes === runtimeMaySend, 'the window of a passed response is conserved', () => {
      return `stream ${streamId}: client ${clientTakes}, runtime ${runtimeMaySend}`;
    });
  }

  #takenComplete(streamId: number, { headers }: Request): void {
    if (this.#isDisturbed(streamId) || streamId <= this.#seen.lostId) return;
    const sent = this.#seen.fromClient.stream(streamId);
    const got = this.#seen.toClient.stream(streamId);
    const record = this.#seen.world.calls.find((one) => one.streamId === streamId);
    if (record === undefined) {
      this.#untakenComplete(streamId, sent, got, headers);
      return;
    }
    const { call, status, delivered } = record;
    if (call.deadlineMs !== undefined && call.deadlineMs <= this.#seen.world.nowMs) {
      this.#seen.expect(got.ends === 1, 'a call is answered at its deadline', () => call.path);
      return;
    }
    this.#seen.expect(record.pendingSends === 0, 'messages go out as windows allow', () => call.path);
    if (status === undefined) return;
    const blocks = got.items.filter(({ kind }) => kind === 'block');
    const last = blocks.at(-1);
    const named = last !== undefined && 'text' in last && last.text.includes(`"grpc-status","value":"${status.code}"`);
    this.#seen.expect(got.ends === 1 && named, 'an answer has its trailers', () => `${call.path} ${status.code}`);
    const all = Buffer.concat(record.sent.map((body) => message(body)));
    this.#seen.expect(got.data.equals(all), 'an answer is complete', () => `${call.path}: ${got.data.length} bytes`);
    this.#seen.expect(delivered === (status.code === 0), 'an answer that arrived counts as delivered', () => call.path);
  }

  #untakenComplete(streamId: number, sent: StreamLog, got: StreamLog, headers: ReadonlyMap<string, string>): void {
    const refused =
      !/^application\/grpc(?:$|[+;])/.test(headers.get('content-type') ?? '') ||
      headers.get(':method') !== 'POST' ||
      !/^\d{1,8}[HMSmun]$/.test(headers.get('grpc-timeout') ?? '1S') ||
      !/^(identity|gzip|deflate)$/.test(headers.get('grpc-encoding') ?? 'identity');
    this.#seen.expect(
      streamId <= this.#seen.idleId,
      'a request within the limits is taken',
      () => `stream ${streamId}`,
    );
    const fit = got.items.every((item) => !('text' in item) || !item.text.includes('"grpc-status","value":"8"'));
    const timed = headers.has('grpc-timeout');
    if (got.ends === 1) {
      const wrongly = !refused && fit && !timed && sent.ends > 0 && this.#seen.message(streamId) !== undefined;
      this.#seen.expect(!wrongly, 'a well-formed request is taken', () => `stream ${streamId}`);
      return;
    }
    this.#seen.expect(
      got.reset || sent.ends === 0,
      'a complete request is taken or answered',
      () => `stream ${streamId}`,
    );
    if (got.reset || sent.ends > 0) return;
    const clientWindow = this.#seen.settings.runtimeWindow + got.granted - sent.spent;
    this.#seen.expect(
      clientWindow > 0,
      'a taken request can go on',
      () => `stream ${streamId}: window ${clientWindow}`,
    );
  }
}
