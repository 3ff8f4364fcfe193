/**
 * What happens on one connection, as data: both peers' settings, every stream's request and response, who cancels, and the
 * order of it all. The arbitraries make such plans; the functions below say what goes over the wire for one.
 */
import fc from 'fast-check';
import { Setting } from '../../../../src/proxy/http2/frames.js';
import { message } from '../wire.js';
import type { Field } from './hpack.js';

export type Entries = readonly (readonly [id: number, value: number])[];

/** Something a peer does of its own accord once it has taken `at` steps, or when there is nothing else left to do. */
export interface Timed<T> {
  readonly at: number;
  readonly what: T;
}

export interface PeerPlan {
  readonly settings: Entries;
  readonly laterSettings: readonly Timed<Entries>[];
  readonly pings: readonly Timed<string>[];
  /** Whether it sends PINGs as grpc-go's bandwidth estimator does. */
  readonly measures: boolean;
  /** Payloads of frames of a type nobody knows, on stream 0. */
  readonly unknown: readonly Timed<string>[];
  /** Connection window granted at the beginning, above the 65,535 there are. */
  readonly extraWindow: number;
  /** WINDOW_UPDATEs are of at most `grantBytes`, and go out while a window is below its target. */
  readonly grantBytes: number;
  readonly connectionTarget: number;
  readonly streamTarget: number;
  /** WINDOW_UPDATEs go out only when nobody can go on without. */
  readonly lazyGrants: boolean;
  readonly tableBytes: number;
  /** How header fields are represented, in turn. */
  readonly representations: readonly number[];
}

export interface BlockShape {
  readonly padding: number | undefined;
  readonly priority: boolean;
  /** Bytes of HEADERS and the CONTINUATION frames; what is left goes in full frames. */
  readonly cuts: readonly number[];
}

export interface BodyShape {
  /** Most bytes of each frame, in turn; 0 makes an empty one. */
  readonly cuts: readonly number[];
  readonly padding: number | undefined;
}

type End = 'headers' | 'data' | 'empty data' | 'trailers';

export interface StreamPlan {
  readonly kind: 'pass' | 'observe' | 'take';
  readonly request: {
    readonly fields: readonly Field[];
    /** Bytes of each message. */
    readonly messages: readonly number[];
    readonly block: BlockShape;
    readonly body: BodyShape;
    readonly end: End;
    readonly trailers: readonly Field[];
    /** PRIORITY and a frame of an unknown type behind the headers. */
    readonly unknown: boolean;
  };
  readonly response: {
    readonly at: 'headers' | 'half' | 'end';
    /** Headers of their own, rather than trailers only. */
    readonly head: boolean;
    readonly fields: readonly Field[];
    readonly messages: readonly number[];
    readonly block: BlockShape;
    readonly body: BodyShape;
    readonly end: End;
    readonly trailers: readonly Field[];
    readonly status: number;
    readonly text: string;
    /** Instead of all that is behind so many bytes of the body: RST_STREAM. */
    readonly reset: { readonly code: number; readonly after: number } | undefined;
    /** RST_STREAM (NO_ERROR) where the response is complete before the request. */
    readonly stop: boolean;
    readonly unknown: boolean;
    /** A taken call is answered message by message, each waiting for the one before. */
    readonly waits: boolean;
  };
  /** The client resets the stream behind so many HEADERS and DATA frames of both sides. */
  readonly cancel: { readonly after: number; readonly code: number } | undefined;
}

export interface Plan {
  readonly client: PeerPlan;
  readonly backend: PeerPlan;
  readonly streams: readonly StreamPlan[];
  /** Picks among what can happen next, in turn. */
  readonly schedule: readonly number[];
  /** Bytes handed on at a time, in turn. */
  readonly chunks: readonly number[];
  /** Bytes on their way to the client from which on its socket is said to be full. */
  readonly highWater: number;
  /** From that step on, for so many, the peer reads and does nothing. */
  readonly pauses: readonly { readonly who: 'client' | 'backend'; readonly at: number; readonly steps: number }[];
}

/** SETTINGS parameters of RFC 9113 section 6.5.2 that src has no use for. */
export const maxConcurrentStreams = 0x3;
const maxHeaderListSize = 0x6;

const max31 = 2 ** 31 - 1;

/** Without objects that have no prototype: a plan is printed, and pasted back as an example. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true });
}

const tableBytes = fc.constantFrom(4096, 0, 40, 100, 1000, 8192, 65_536);
const windowBytes = fc.constantFrom(65_535, 0, 1, 7, 1000, 16_384, 70_001, 1_048_577, max31);
const frameBytes = fc.constantFrom(16_384, 16_385, 30_000, 2 ** 20, 2 ** 24 - 1);

const entry = fc.oneof(
  fc.tuple(fc.constant<number>(Setting.initialWindowSize), windowBytes),
  fc.tuple(fc.constant<number>(Setting.headerTableSize), tableBytes),
  fc.tuple(fc.constant<number>(Setting.maxFrameSize), frameBytes),
  fc.tuple(fc.constant(maxHeaderListSize), fc.constant(1_000_000)),
  fc.tuple(fc.constant(0xf0), fc.nat()),
);

function timed<T>(what: fc.Arbitrary<T>, maxLength: number): fc.Arbitrary<Timed<T>[]> {
  return fc.array(record({ at: fc.nat(120), what }), { maxLength });
}

/** One more, and a server that polices them would end the connection without Holdfast, too. */
const mostPings = 2;

const eightBytes = fc.stringMatching(/^[a-z]{8}$/);
const someText = fc.stringMatching(/^[a-z]{0,12}$/);

const peer: fc.Arbitrary<PeerPlan> = record({
  settings: fc.array(entry, { maxLength: 4 }),
  laterSettings: timed(fc.array(entry, { maxLength: 2 }), 3),
  pings: timed(eightBytes, mostPings),
  measures: fc.boolean(),
  unknown: timed(someText, 2),
  extraWindow: fc.constantFrom(0, 0, 1, 12_345, 1_000_001, max31 - 65_535),
  grantBytes: fc.constantFrom(max31, 1, 7, 999, 16_384, 65_535),
  connectionTarget: fc.constantFrom(65_535, 1, 7, 1000, 20_000),
  streamTarget: fc.constantFrom(65_535, 1, 7, 1000, 20_000, 200_000),
  lazyGrants: fc.boolean(),
  tableBytes,
  representations: fc.array(fc.nat(60), { minLength: 1, maxLength: 8 }),
});

const padding = fc.option(fc.constantFrom(0, 1, 30, 255), { nil: undefined, freq: 2 });

const block: fc.Arbitrary<BlockShape> = record({
  padding,
  priority: fc.boolean(),
  cuts: fc.array(fc.constantFrom(0, 1, 5, 40, 5000), { maxLength: 5 }),
});

const body: fc.Arbitrary<BodyShape> = record({
  cuts: fc
    .array(fc.constantFrom(2 ** 24, 0, 1, 5, 100, 5000, 16_384, 20_000), { minLength: 1, maxLength: 4 })
    .filter((cuts) => cuts.some((cut) => cut > 0)),
  padding,
});

const value = fc.oneof(
  { weight: 12, arbitrary: fc.stringMatching(/^[!-~]{0,30}$/) },
  { weight: 1, arbitrary: fc.constantFrom('l'.repeat(4100), 'm'.repeat(17_000)) },
);
const field: fc.Arbitrary<Field> = record({
  name: fc.constantFrom('x-a', 'x-b', 'x-c', 'x-long-name-of-a-field', 'x-d-bin'),
  value,
  never: fc.boolean(),
});
const someFields = fc.array(field, { maxLength: 3 });

const bytes = fc.constantFrom(0, 1, 5, 100, 1000, 16_379, 16_384, 40_000, 70_000);
const messages = fc.array(bytes, { maxLength: 3 });
const end = fc.constantFrom<End>('data', 'empty data', 'trailers', 'headers');

const anyStream: fc.Arbitrary<StreamPlan> = record({
  kind: fc.constantFrom('take', 'pass', 'observe', 'take', 'pass'),
  request: record({ fields: someFields, messages, block, body, end, trailers: someFields, unknown: fc.boolean() }),
  response: record({
    at: fc.constantFrom('end', 'headers', 'half'),
    head: fc.boolean(),
    fields: someFields,
    messages,
    block,
    body,
    end: fc.constantFrom<End>('trailers', 'trailers', 'data', 'empty data'),
    trailers: someFields,
    status: fc.constantFrom(0, 0, 0, 5, 13),
    text: fc.constantFrom('', 'not found', '100% ö'),
    reset: fc.option(record({ code: fc.constantFrom(0, 2, 7, 8, 11), after: fc.constantFrom(0, 1, 500, 30_000) }), {
      nil: undefined,
      freq: 6,
    }),
    stop: fc.boolean(),
    unknown: fc.boolean(),
    waits: fc.boolean(),
  }),
  cancel: fc.option(record({ after: fc.nat(12), code: fc.constantFrom(8, 0, 2) }), { nil: undefined, freq: 5 }),
});

/** A call Holdfast can take, or observe to the end, has one request message; and what it answers has the form of gRPC. */
function conform(plan: StreamPlan): StreamPlan {
  const { kind, request, response } = plan;
  if (kind === 'pass') return plan;
  const [first = 3] = request.messages;
  const single = { ...request, messages: [first], end: request.end === 'headers' ? ('data' as const) : request.end };
  if (kind === 'observe') return { ...plan, request: single };
  const plain = (fields: readonly Field[]): Field[] => fields.map(({ name, value }) => ({ name, value }));
  return {
    ...plan,
    request: single,
    response: {
      ...response,
      at: 'end',
      head: response.head || response.messages.length > 0,
      fields: plain(response.fields),
      end: 'trailers',
      trailers: plain(response.trailers),
      reset: undefined,
    },
  };
}

const stream = anyStream.map(conform);

const widePlan: fc.Arbitrary<Plan> = record({
  client: peer,
  backend: fc.tuple(peer, fc.constantFrom(0, 0, 0, 1, 2)).map(([plan, limit]) => ({
    ...plan,
    settings: limit === 0 ? plan.settings : [...plan.settings, [maxConcurrentStreams, limit] as const],
  })),
  streams: fc.array(stream, { minLength: 1, maxLength: 8 }),
  schedule: fc.array(fc.nat(1000), { minLength: 1, maxLength: 30 }),
  chunks: fc.array(fc.constantFrom(2 ** 20, 1, 3, 9, 10, 100, 1000, 16_393, 40_000), { minLength: 1, maxLength: 5 }),
  highWater: fc.constantFrom(2 ** 30, 1, 1000, 16_384, 65_536),
  pauses: fc.array(
    record({
      who: fc.constantFrom('client', 'backend'),
      at: fc.oneof(fc.constant(0), fc.nat(200)),
      steps: fc.nat(100),
    }),
    {
      maxLength: 2,
    },
  ),
});

/** The client's connection window is used up from the beginning and comes back in crumbs, and so do all bytes. */
const tightPlan: fc.Arbitrary<Plan> = fc
  .tuple(
    widePlan,
    fc.constantFrom(1, 7, 100, 1000),
    fc.array(fc.constantFrom(1, 3, 9, 10, 14, 40, 1000), { minLength: 1, maxLength: 5 }),
  )
  .map(([plan, crumbs, chunks]) => ({
    ...plan,
    client: { ...plan.client, settings: [], extraWindow: 0, connectionTarget: crumbs, grantBytes: crumbs },
    streams: [plainStream('take', 10, 65_535), ...plan.streams.map(withShortMessages)],
    chunks: [...chunks, 100],
  }));

function withShortMessages(plan: StreamPlan): StreamPlan {
  const short = (sizes: readonly number[]): number[] => sizes.map((size) => size % 1001);
  const { request, response } = plan;
  return {
    ...plan,
    request: { ...request, messages: short(request.messages) },
    response: { ...response, messages: short(response.messages) },
  };
}

export const anyPlan: fc.Arbitrary<Plan> = fc.oneof(widePlan, tightPlan);

const plainBlock: BlockShape = { padding: undefined, priority: false, cuts: [] };
const plainBody: BodyShape = { cuts: [2 ** 24], padding: undefined };

/** A stream without peculiarities that needs so much of both connection windows. */
export function plainStream(kind: 'pass' | 'take', requestBytes: number, responseBytes: number): StreamPlan {
  return {
    kind,
    request: {
      fields: [],
      messages: [requestBytes - messagePrefixBytes],
      block: plainBlock,
      body: plainBody,
      end: 'data',
      trailers: [],
      unknown: false,
    },
    response: {
      at: 'end',
      head: true,
      fields: [],
      messages: [responseBytes - messagePrefixBytes],
      block: plainBlock,
      body: plainBody,
      end: 'trailers',
      trailers: [],
      status: 0,
      text: '',
      reset: undefined,
      stop: false,
      unknown: false,
      waits: false,
    },
    cancel: undefined,
  };
}

const messagePrefixBytes = 5;
const pattern = Buffer.from(Array.from({ length: 251 }, (_, at) => at));

/** Content that differs from stream to stream and does not repeat with any frame size. */
export function messageBytes(index: number, size: number): Buffer {
  return Buffer.alloc(size, Buffer.concat([pattern.subarray(index), pattern.subarray(0, index)]));
}

function framed(index: number, sizes: readonly number[]): Buffer {
  return Buffer.concat(sizes.map((size) => message(messageBytes(index, size))));
}

export function pathOf({ kind }: StreamPlan, index: number): string {
  return `/${kind}/${index}`;
}

export function indexOf(path: string): number {
  return Number(path.split('/').at(-1));
}

export function requestFields(plan: StreamPlan, index: number): Field[] {
  return [
    { name: ':method', value: 'POST' },
    { name: ':scheme', value: 'http' },
    { name: ':path', value: pathOf(plan, index) },
    { name: ':authority', value: 'localhost' },
    { name: 'content-type', value: 'application/grpc' },
    { name: 'te', value: 'trailers' },
    ...plan.request.fields,
  ];
}

export function requestBody({ request }: StreamPlan, index: number): Buffer {
  return framed(index, request.messages);
}

/** The whole response in parts, without regard to a reset. */
export interface Answer {
  readonly headers: readonly Field[];
  readonly body: Buffer;
  /** undefined: the last DATA, or the headers, end the stream. */
  readonly trailers: readonly Field[] | undefined;
}

const encodedTexts: Readonly<Record<string, string>> = { '100% ö': '100%25 %C3%B6' };

export function answerOf({ response }: StreamPlan, index: number): Answer {
  const head: Field[] = [
    { name: ':status', value: '200' },
    { name: 'content-type', value: 'application/grpc' },
  ];
  const tail: Field[] = [{ name: 'grpc-status', value: String(response.status) }];
  if (response.text !== '') tail.push({ name: 'grpc-message', value: encodedTexts[response.text] ?? response.text });
  tail.push(...response.trailers);
  if (response.reset === undefined && !response.head && response.messages.length === 0) {
    return { headers: [...head, ...tail], body: Buffer.alloc(0), trailers: undefined };
  }
  return {
    headers: [...head, ...response.fields],
    body: framed(index, response.messages),
    trailers: response.end === 'trailers' ? tail : undefined,
  };
}
