/**
 * What must have come about once a conversation of two peers that keep the protocol has gone quiet: everything sent has
 * arrived, every taken call is answered, and no window has been lost on the way.
 */
import { FrameType } from '../../src/proxy/http2/frames.js';
import { message } from '../proxy/http2/wire.js';
import { comparePrefix, type FrameLog, type Items, type StreamLog, withoutExtensions } from './frame-log.js';
import type { PingWatch } from './ping-watch.js';
import { type SettingsWatch, withoutTableSizes } from './settings-watch.js';
import type { Request, Watched } from './watched.js';

/** What an oracle has seen so far. */
export interface Seen {
  readonly fromClient: FrameLog;
  readonly toRuntime: FrameLog;
  readonly fromRuntime: FrameLog;
  readonly toClient: FrameLog;
  readonly settings: SettingsWatch;
  readonly pings: PingWatch;
  readonly world: Watched;
  readonly requests: ReadonlyMap<number, Request>;
  /** Streams above are not served: the last GOAWAY, or a drain whose GOAWAY is still to go out. */
  readonly lastServedId: number;
  /** The runtime's connection has ended. */
  readonly isLost: boolean;
  /** The last stream the runtime serves, by its own word. */
  readonly runtimeServedId: number;
  /** Up to this one nothing is left of any. */
  readonly idleId: number;
  /** How Holdfast may end a passed stream itself. */
  ownEnd(streamId: number): OwnEnd | undefined;
  expect(holds: boolean, rule: string, detail: () => string): void;
  /** The one message of a request; undefined where it is incomplete or malformed. */
  message(streamId: number): Buffer | undefined;
}

/** In place of a runtime that has gone, or that does not serve a stream though others above it are served. */
export type OwnEnd = 'gone' | 'refused';

const ownEnds: Readonly<Record<OwnEnd, readonly RegExp[]>> = {
  gone: [/"grpc-status","value":"14".*"the connection to the runtime was closed"/, /^$/],
  refused: [/^reset 00000007$/],
};

/**
 * @param isReset Whether the runtime has reset the stream: then a reset is its own.
 * @returns What the runtime said, and whether Holdfast ended it in that way.
 */
export function withoutOwnEnd(
  log: Items,
  ownEnd: OwnEnd | undefined,
  isReset: boolean,
): { log: Items; isEnded: boolean } {
  const pattern = ownEnd === undefined ? [] : ownEnds[ownEnd];
  // Behind trailers: the rest of the request is not wanted.
  const isStopped = ownEnd === 'gone' && !isReset && isText(log.items.at(-1), /^reset 00000000$/);
  const items = isStopped ? log.items.slice(0, -1) : log.items;
  const tail = items.slice(Math.max(0, items.length - pattern.length));
  const isEnded =
    pattern.length > 0 && tail.length === pattern.length && pattern.every((text, at) => isText(tail[at], text));
  return { log: { items: isEnded ? items.slice(0, -pattern.length) : items }, isEnded };
}

function isText(item: Items['items'][number] | undefined, text: RegExp): boolean {
  return item !== undefined && 'text' in item && text.test(item.text);
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
      this.#seen.toClient.atBoundary && (this.#seen.toRuntime.atBoundary || this.#seen.isLost),
      'only whole frames are written',
      () => '',
    );
    this.#controlComplete();
    if (!this.#seen.isLost) this.#windowsConserved();
    this.checkStreams();
  }

  /** Of a connection that ended with its last stream, too. */
  checkStreams(): void {
    for (const [streamId, request] of this.#seen.requests) {
      if (request.decision === 'take' || request.takenLate) this.#takenComplete(streamId, request);
      else this.#responseComplete(streamId);
      if (request.decision !== 'take' && !this.#seen.isLost) this.#requestComplete(streamId, request);
    }
  }

  #controlComplete(): void {
    const { fromClient, toRuntime, fromRuntime, toClient, settings, pings, isLost } = this.#seen;
    const shown = (log: FrameLog, acksLeftOut: number) => {
      let acks = 0;
      return log.control
        .filter(({ type, ack }) => {
          if (type !== FrameType.settings) return type === FrameType.goAway;
          if (ack) acks += 1;
          return !ack || acks > acksLeftOut;
        })
        .map(({ type, ack, payload }) => {
          return `${type} ${ack} ${type === FrameType.settings ? withoutTableSizes(payload) : payload}`;
        })
        .join('\n');
    };
    const [sent, got] = [shown(fromClient, settings.ownSettings), shown(toRuntime, 0)];
    const isShown = isLost || sent === got;
    this.#seen.expect(isShown, 'control frames reach the runtime', () => `${got}\ninstead of\n${sent}`);
    pings.allAnswered('client');
    if (!isLost) pings.allAnswered('runtime');
    // An acknowledgement may be held back behind DATA, SETTINGS are not.
    const count = (log: FrameLog, ack: boolean) => {
      return log.control.filter((one) => one.type === FrameType.settings && one.ack === ack).length;
    };
    const due = [count(fromRuntime, false) + settings.ownSettings, count(isLost ? fromClient : fromRuntime, !isLost)];
    const came = [count(toClient, false), count(toClient, true)];
    this.#seen.expect(due.join() === came.join(), 'SETTINGS and acknowledgements reach the client', () => {
      return `${came.join()} instead of ${due.join()}`;
    });
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

  #isDisturbed(streamId: number, { takenLate }: Request): boolean {
    const { fromClient } = this.#seen;
    // The header of RST_STREAM is enough.
    const byClient = fromClient.stream(streamId).reset || fromClient.streamInArrival === streamId;
    const byRuntime = this.#seen.fromRuntime.stream(streamId).reset && !takenLate;
    return byClient || byRuntime || streamId > this.#seen.lastServedId;
  }

  #responseComplete(streamId: number): void {
    const answered = this.#seen.fromRuntime.stream(streamId);
    const ownEnd = this.#seen.ownEnd(streamId);
    const { log, isEnded } = withoutOwnEnd(this.#seen.toClient.stream(streamId), ownEnd, answered.reset);
    const response = comparePrefix(log, answered);
    const complete = response.complete || (isEnded && response.wrong === undefined);
    this.#seen.expect(complete, 'a passed response is complete', () => `stream ${streamId}: ${response.wrong}`);
    const isOver = answered.ends > 0 || answered.reset || this.#seen.fromClient.stream(streamId).reset;
    const isDue = ownEnd !== undefined && !isOver && streamId <= this.#seen.lastServedId;
    this.#seen.expect(
      isEnded || !isDue,
      'a stream that the runtime will not answer is ended',
      () => `stream ${streamId}`,
    );
  }

  #requestComplete(streamId: number, request: Request): void {
    const sent = this.#seen.fromClient.stream(streamId);
    const answered = this.#seen.fromRuntime.stream(streamId);
    if (request.takenLate && sent.reset && this.#seen.toClient.stream(streamId).ends === 0) {
      const isTold = this.#seen.toRuntime.stream(streamId).reset || answered.ends > 0 || answered.reset;
      this.#seen.expect(isTold, 'the runtime hears that its answer is not wanted', () => `stream ${streamId}`);
    }
    if (this.#isDisturbed(streamId, request) || streamId > this.#seen.runtimeServedId) return;
    const over = sent.ends > 0 && answered.ends > 0;
    const got = this.#seen.toRuntime.stream(streamId);
    const isUnwanted = over || (request.takenLate && request.answeredEarly);
    const [came, went] = request.takenLate ? [withoutExtensions(got), withoutExtensions(sent)] : [got, sent];
    // What Holdfast has answered before it was whole is reset.
    const isReset = request.takenLate && got.reset;
    const complete = isUnwanted ? got.ends > 0 || request.takenLate : isReset || comparePrefix(came, went).complete;
    this.#seen.expect(complete, 'a passed request is complete', () => `stream ${streamId}`);
    const isRead = request.decision === 'observe' || request.decision === 'report';
    const wellFormed = this.#seen.message(streamId) !== undefined && sent.ends > 0;
    const isOld = request.lastMs - request.begunMs >= this.#seen.world.halfRequestMs;
    const observed = request.observed || request.answeredEarly || !isRead || !wellFormed || isOld;
    this.#seen.expect(observed, 'an observed request is noted', () => `stream ${streamId}`);
    if (request.takenLate) this.#swallowedConserved(streamId);
    if (over || request.takenLate) return;
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

  /** What the runtime says is given back to it, and what the client grants goes on to it: it is not to wait with its end. */
  #swallowedConserved(streamId: number): void {
    const { fromClient, toRuntime, fromRuntime, toClient } = this.#seen;
    const answer = fromRuntime.stream(streamId);
    if (answer.ends > 0 || answer.reset || toClient.stream(streamId).ends > 0) return;
    const left = toRuntime.stream(streamId).granted - answer.spent;
    const { granted } = fromClient.stream(streamId);
    this.#seen.expect(left === granted, 'the window of an answer that is swallowed is conserved', () => {
      return `stream ${streamId}: ${left} instead of ${granted}`;
    });
  }

  #takenComplete(streamId: number, request: Request): void {
    const { malformed } = request;
    if (this.#isDisturbed(streamId, request)) return;
    const sent = this.#seen.fromClient.stream(streamId);
    const got = this.#seen.toClient.stream(streamId);
    if (malformed) {
      const [reset, ...more] = got.items;
      const right = reset !== undefined && 'text' in reset && reset.text === 'reset 00000001' && more.length === 0;
      this.#seen.expect(right, 'a pseudo-header field that comes twice costs the stream', () => `stream ${streamId}`);
      return;
    }
    const record = this.#seen.world.calls.find((one) => one.streamId === streamId);
    if (record === undefined) {
      this.#untakenComplete(streamId, request, sent, got);
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
    const isWhole = got.ends === 1 && named && blocks.length <= 2;
    this.#seen.expect(isWhole, 'an answer has its trailers', () => `${call.path} ${status.code}`);
    const all = Buffer.concat(record.sent.map((body) => message(body)));
    this.#seen.expect(got.data.equals(all), 'an answer is complete', () => `${call.path}: ${got.data.length} bytes`);
    this.#seen.expect(delivered === (status.code === 0), 'an answer that arrived counts as delivered', () => call.path);
  }

  #untakenComplete(streamId: number, { headers, begunMs }: Request, sent: StreamLog, got: StreamLog): void {
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
    const isYoung = this.#seen.world.nowMs - begunMs < this.#seen.world.halfRequestMs;
    this.#seen.expect(isYoung, 'a request that is not whole is given up in time', () => `stream ${streamId}`);
    const clientWindow = this.#seen.settings.runtimeWindow + got.granted - sent.spent;
    this.#seen.expect(
      clientWindow > 0,
      'a taken request can go on',
      () => `stream ${streamId}: window ${clientWindow}`,
    );
  }
}
