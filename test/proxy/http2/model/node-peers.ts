/**
 * The peers of a plan once more, by node:http2: nghttp2 is strict with its own peer, and another hand wrote it. What a plan says
 * of frames (padding, cuts of header blocks, grants) is nghttp2's affair here.
 */
import http2 from 'node:http2';
import type net from 'node:net';
import { Setting } from '../../../../src/proxy/http2/frames.js';
import type { Received } from './endpoint.js';
import { BdpEstimator, bdpPayload } from './grpc-go.js';
import type { Field } from './hpack.js';
import type { View } from './outcome.js';
import {
  answerOf,
  type BodyShape,
  type Entries,
  indexOf,
  type PeerPlan,
  type Plan,
  requestBody,
  requestFields,
  type StreamPlan,
} from './plan.js';

class NodeView implements View {
  readonly received: Received = {
    headers: undefined,
    data: [],
    bytes: 0,
    trailers: undefined,
    ended: false,
    reset: undefined,
    unknown: [],
  };
  resetSent: number | undefined;
  isOver = false;

  constructor(stream: http2.Http2Stream, changed: () => void) {
    const { received } = this;
    stream.on('data', (bytes: Buffer) => {
      received.data.push(bytes);
      received.bytes += bytes.length;
      changed();
    });
    stream.on('trailers', (_headers: unknown, _flags: unknown, raw: string[]) => {
      received.trailers = pairs(raw);
    });
    stream.on('end', () => {
      received.ended = (stream.rstCode ?? 0) === 0 && !stream.aborted;
      changed();
    });
    // 'close' follows.
    stream.on('error', () => {});
    stream.on('close', () => {
      const code = stream.rstCode ?? 0;
      if (code !== 0 && this.resetSent === undefined) received.reset = code;
      if (code !== 0) received.ended = false;
      this.isOver = true;
    });
  }

  cancel(stream: http2.Http2Stream, code: number): void {
    if (this.isOver || stream.closed) return;
    this.resetSent = code;
    stream.close(code);
  }
}

function pairs(raw: readonly string[]): Field[] {
  return Array.from({ length: raw.length / 2 }, (_, at) => ({ name: raw[2 * at] ?? '', value: raw[2 * at + 1] ?? '' }));
}

function headersOf(fields: readonly Field[]): http2.OutgoingHttpHeaders {
  return Object.fromEntries(fields.map(({ name, value }) => [name, value]));
}

function settingsOf(entries: Entries): http2.Settings {
  const settings: http2.Settings = {};
  for (const [id, value] of entries) {
    if (id === Setting.headerTableSize) settings.headerTableSize = value;
    if (id === Setting.maxFrameSize) settings.maxFrameSize = value;
    if (id === Setting.initialWindowSize) settings.initialWindowSize = Math.max(leastWindow, value);
  }
  return settings;
}

/** nghttp2 opens no window by itself that is 0, and one of a few octets very slowly. */
const leastWindow = 1000;

function writeBody(stream: http2.Http2Stream, body: Buffer, { cuts }: BodyShape): void {
  let at = 0;
  for (let part = 0; at < body.length; part += 1) {
    const cut = (cuts[part % cuts.length] ?? 0) * (part > 100 ? 4096 : 1);
    if (cut > 0) stream.write(body.subarray(at, at + cut));
    at += cut;
  }
}

function sendTrailers(stream: http2.Http2Stream, trailers: readonly Field[]): void {
  stream.on('wantTrailers', () => {
    if (!stream.closed) stream.sendTrailers(headersOf(trailers));
  });
}

/** What node:http2 can do of a plan: field names only once, no code that looks like a good end, no empty trailers. */
export function forNode(plan: Plan): Plan {
  const once = (fields: readonly Field[]): Field[] => [
    ...new Map(fields.map(({ name, value }) => [name, { name, value }])).values(),
  ];
  return {
    ...plan,
    streams: plan.streams.map((stream) => {
      const { request, response, cancel } = stream;
      const bare = request.end === 'trailers' && request.trailers.length === 0;
      return {
        ...stream,
        request: {
          ...request,
          fields: once(request.fields),
          trailers: once(request.trailers),
          end: bare ? 'data' : request.end,
        },
        response: {
          ...response,
          fields: once(response.fields),
          trailers: once(response.trailers),
          reset: response.reset && { ...response.reset, code: response.reset.code || 2 },
        },
        cancel: cancel && { ...cancel, code: 8 },
      };
    }),
  };
}

export class NodeClient {
  readonly #session: http2.ClientHttp2Session;
  readonly #plan: PeerPlan;
  readonly #views: NodeView[] = [];
  readonly #failed: (error: Error) => void;
  readonly #bandwidth = new BdpEstimator();
  #pingsOut = 0;

  constructor(plan: PeerPlan, socket: net.Socket, failed: (error: Error) => void) {
    this.#plan = plan;
    this.#failed = failed;
    this.#session = http2.connect('http://localhost', {
      createConnection: () => socket,
      settings: { enablePush: false, ...settingsOf(plan.settings) },
    });
    this.#session.on('error', failed);
    this.#session.on('goaway', (code) => failed(new Error(`GOAWAY ${code} to the client`)));
    this.#session.on('connect', () => {
      for (const { what } of plan.laterSettings) this.#session.settings(settingsOf(what));
      for (const { what } of plan.pings) this.#ping(Buffer.from(what));
    });
  }

  #ping(payload: Buffer): void {
    this.#pingsOut += 1;
    this.#session.ping(payload, (error, _durationMs, answer) => {
      this.#pingsOut -= 1;
      if (error === null) this.#bandwidth.acknowledged(answer);
    });
  }

  get views(): readonly View[] {
    return this.#views;
  }

  get isIdle(): boolean {
    const over = this.#views.every(({ isOver }) => isOver);
    return over && this.#pingsOut === 0 && !this.#session.pendingSettingsAck;
  }

  open(plan: StreamPlan, index: number): void {
    const { request, cancel } = plan;
    const body = requestBody(plan, index);
    const endStream = request.end === 'headers' && body.length === 0;
    const waitForTrailers = request.end === 'trailers';
    const stream = this.#session.request(headersOf(requestFields(plan, index)), { endStream, waitForTrailers });
    let events = 0;
    const view: NodeView = new NodeView(stream, () => {
      events += 1;
      if (cancel !== undefined && events > cancel.after) view.cancel(stream, cancel.code);
    });
    this.#views.push(view);
    if (this.#plan.measures) {
      stream.on('data', () => {
        if (this.#bandwidth.received()) this.#ping(bdpPayload);
      });
    }
    stream.on('response', (_headers, _flags, raw?: string[]) => {
      if (raw === undefined) this.#failed(new Error('no raw headers'));
      else view.received.headers = pairs(raw);
    });
    if (waitForTrailers) sendTrailers(stream, request.trailers);
    if (cancel?.after === 0) stream.on('ready', () => view.cancel(stream, cancel.code));
    if (endStream) return;
    writeBody(stream, body, request.body);
    stream.end();
  }

  close(): void {
    this.#session.destroy();
  }

  describe(): string {
    return `${this.#views.filter(({ isOver }) => !isOver).length} streams, ${this.#pingsOut} PINGs without ACK`;
  }
}

export class NodeBackend {
  readonly #server: http2.Http2Server;
  readonly #plans: readonly StreamPlan[];
  readonly #views = new Map<number, NodeView>();
  readonly #sessions: http2.Http2Session[] = [];

  /** @param routed Holdfast is in between: no PING and no use of a header table must come. */
  constructor(plan: PeerPlan, plans: readonly StreamPlan[], routed: boolean, failed: (error: Error) => void) {
    this.#plans = plans;
    this.#server = http2.createServer({ settings: settingsOf(plan.settings) });
    this.#server.on('sessionError', failed);
    this.#server.on('session', (session: http2.ServerHttp2Session) => {
      this.#sessions.push(session);
      session.on('goaway', (code) => failed(new Error(`GOAWAY ${code} to the backend`)));
      if (routed) {
        session.on('ping', (payload: Buffer) => failed(new Error(`PING ${payload.toString('hex')} to the backend`)));
        session.on('remoteSettings', ({ headerTableSize }: http2.Settings) => {
          if (headerTableSize !== 0) failed(new Error(`header table of ${headerTableSize} bytes`));
        });
      }
      for (const { what } of plan.laterSettings) session.settings(settingsOf(what));
      for (const { what } of plan.pings) session.ping(Buffer.from(what), () => {});
    });
    this.#server.on('stream', (stream, headers, _flags, raw?: string[]) => {
      const index = indexOf(headers[':path'] ?? '');
      if (raw === undefined || this.#plans[index] === undefined) failed(new Error(`no stream ${index}`));
      else this.#serve(stream, this.#plans[index], index, raw);
    });
  }

  get views(): ReadonlyMap<number, View> {
    return this.#views;
  }

  get isIdle(): boolean {
    return [...this.#views.values()].every(({ isOver }) => isOver);
  }

  /** What each connection accepted is to be given to. */
  accept(socket: net.Socket): void {
    this.#server.emit('connection', socket);
  }

  #serve(stream: http2.ServerHttp2Stream, plan: StreamPlan, index: number, raw: string[]): void {
    const { at } = plan.response;
    let answered = false;
    const look = (): void => {
      const { ended, bytes } = view.received;
      const due = { headers: true, half: ended || bytes * 2 >= requestBody(plan, index).length, end: ended };
      if (answered || stream.closed || stream.destroyed || !due[at]) return;
      answered = true;
      answer(stream, view, plan, index);
    };
    const view: NodeView = new NodeView(stream, look);
    view.received.headers = pairs(raw);
    this.#views.set(index, view);
    look();
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }

  describe(): string {
    return `${[...this.#views.values()].filter(({ isOver }) => !isOver).length} streams`;
  }
}

function answer(stream: http2.ServerHttp2Stream, view: NodeView, plan: StreamPlan, index: number): void {
  const { headers, body, trailers } = answerOf(plan, index);
  const { reset } = plan.response;
  const endStream = body.length === 0 && trailers === undefined && reset === undefined;
  // Known to node:http2, though not to its types.
  const options = { endStream, waitForTrailers: trailers !== undefined && reset === undefined, sendDate: false };
  stream.respond(headersOf(headers), options);
  if (endStream) return;
  if (reset !== undefined) {
    stream.write(body.subarray(0, reset.after), () => view.cancel(stream, reset.code));
    return;
  }
  if (trailers !== undefined) sendTrailers(stream, trailers);
  writeBody(stream, body, plan.response.body);
  stream.end();
}
