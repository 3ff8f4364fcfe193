/** What a run came to, stream by stream, and whether it is what its plan allows. */
import type { Endpoint, Received } from './endpoint.js';
import type { Taken } from './handler.js';
import type { Field } from './hpack.js';
import { answerOf, messageBytes, type Plan, pathOf, requestBody, requestFields, type StreamPlan } from './plan.js';

/** One side's view of a stream. */
export interface View {
  readonly received: Received;
  /** Code of the RST_STREAM it sent. */
  readonly resetSent: number | undefined;
}

export interface Outcome {
  /** By the index of their plans. */
  readonly client: readonly (View | undefined)[];
  readonly backend: ReadonlyMap<number, View>;
  /** Only where a router ran. */
  readonly taken: ReadonlyMap<number, Taken> | undefined;
  readonly observed: ReadonlyMap<number, readonly Buffer[]> | undefined;
}

/** How strictly a view is looked at: nghttp2 may drop what it has read when a reset follows, and hides some of what it reads. */
export interface Sight {
  readonly client: 'frames' | 'nghttp2';
  readonly backend: 'frames' | 'nghttp2';
}

export const frames: Sight = { client: 'frames', backend: 'frames' };

function shown(fields: readonly Field[] | undefined, sight: Sight['client']): string | undefined {
  return fields
    ?.map(
      ({ name, value, never = false }) => `${name}: ${value}${never && sight === 'frames' ? ' (never indexed)' : ''}`,
    )
    .join('\n');
}

interface Expected {
  readonly headers: readonly Field[];
  readonly body: Buffer;
  readonly trailers: readonly Field[] | undefined;
  readonly unknown: readonly string[];
}

/**
 * @param whole Nothing may be missing; else any beginning will do.
 * @returns What is wrong; empty: nothing.
 */
function compare(received: Received, expected: Expected, whole: boolean, sight: Sight['client']): string {
  const data = Buffer.concat(received.data);
  const headers = shown(received.headers, sight);
  if (headers === undefined ? whole : headers !== shown(expected.headers, sight)) return `headers ${headers}`;
  if (!data.equals(expected.body.subarray(0, data.length))) return `content of ${data.length} bytes`;
  if ((whole || received.ended) && data.length !== expected.body.length) {
    return `${data.length} of ${expected.body.length} bytes`;
  }
  if (whole && !received.ended) return 'no end';
  const trailers = shown(received.trailers, sight);
  if ((whole || received.ended) && trailers !== shown(expected.trailers, sight)) return `trailers ${trailers}`;
  if (sight === 'nghttp2') return '';
  if (received.unknown.some((payload) => !expected.unknown.includes(payload))) return 'an unknown frame';
  return whole && received.unknown.length !== expected.unknown.length ? 'unknown frames lost' : '';
}

/** @returns What is wrong; empty: nothing. */
function judgeStream(outcome: Outcome, plan: StreamPlan, index: number, sight: Sight): string {
  const client = outcome.client[index];
  if (client === undefined) return 'never opened';
  const isOurs = outcome.taken !== undefined && plan.kind === 'take';
  const backend = outcome.backend.get(index);
  const cancelled = client.resetSent !== undefined;
  if (isOurs && backend !== undefined) return 'the backend saw it';
  if (!isOurs && backend === undefined) return 'the backend never saw it';

  const response = judgeResponse(client.received, plan, index, cancelled, sight);
  if (response !== '') return `response: ${response}`;
  const request = backend === undefined ? '' : judgeRequest(backend, client, plan, index, sight);
  if (request !== '') return `request: ${request}`;
  const taken = isOurs ? judgeTaken(outcome.taken?.get(index), plan, index, cancelled, sight) : '';
  if (taken !== '') return `taken call: ${taken}`;
  return outcome.observed === undefined || backend === undefined
    ? ''
    : judgeObserved(outcome.observed.get(index) ?? [], plan, index, backend.received.ended);
}

function judgeResponse(received: Received, plan: StreamPlan, index: number, cancelled: boolean, sight: Sight): string {
  const { headers, body, trailers } = answerOf(plan, index);
  const { reset, stop, unknown } = plan.response;
  const bodiless = body.length === 0 && trailers === undefined && reset === undefined;
  const expected = {
    headers,
    body: reset === undefined ? body : body.subarray(0, reset.after),
    trailers: reset === undefined ? trailers : undefined,
    unknown:
      unknown && !bodiless && plan.kind !== 'take' && sight.backend === 'frames' ? [`from backend ${index}`] : [],
  };
  if (plan.kind === 'take') expected.unknown.push(...received.unknown);
  // nghttp2 may end a stream that node:http2 then resets.
  if (reset !== undefined && received.ended && sight.backend === 'frames') return 'an end where a reset was due';
  const early = stop && (received.ended || cancelled) ? 0 : undefined;
  if (received.reset !== undefined && received.reset !== (reset?.code ?? early)) return `reset ${received.reset}`;
  if (reset === undefined) return compare(received, expected, !cancelled, sight.client);
  const whole = !cancelled && sight.client === 'frames' && sight.backend === 'frames';
  if (whole && received.reset === undefined) return 'no reset';
  return compare({ ...received, ended: whole }, expected, whole, sight.client);
}

function judgeRequest(backend: View, client: View, plan: StreamPlan, index: number, sight: Sight): string {
  const { received, resetSent } = backend;
  const { request } = plan;
  const body = requestBody(plan, index);
  const atOnce = request.end === 'headers' && body.length === 0;
  const expected = {
    headers: requestFields(plan, index),
    body,
    trailers: request.end === 'trailers' ? request.trailers : undefined,
    unknown: request.unknown && !atOnce && sight.client === 'frames' ? [`from client ${index}`] : [],
  };
  const whole = client.resetSent === undefined && resetSent === undefined && client.received.reset === undefined;
  const wrong = compare(received, expected, whole, sight.backend);
  if (wrong !== '') return wrong;
  if (received.reset === undefined) return whole || received.ended || resetSent !== undefined ? '' : 'no reset';
  // node:http2 resets some streams with a code of its own choice.
  if (sight.client === 'nghttp2' && received.reset === 0) return '';
  return received.reset === client.resetSent ? '' : `reset ${received.reset}, the client sent ${client.resetSent}`;
}

function judgeTaken(
  taken: Taken | undefined,
  plan: StreamPlan,
  index: number,
  cancelled: boolean,
  sight: Sight,
): string {
  if (taken === undefined) return cancelled ? '' : 'none';
  const { call, delivered, settled } = taken;
  const [size = 0] = plan.request.messages;
  const custom = plan.request.fields.map(({ name, value }) => `${name}: ${value}`).join('\n');
  if (!call.request.equals(messageBytes(index, size))) return `request of ${call.request.length} bytes`;
  if (call.path !== pathOf(plan, index)) return `path ${call.path}`;
  if (call.metadata.map(([name, value]) => `${name}: ${value}`).join('\n') !== custom) return 'metadata';
  if (!settled) return 'send or end never resolved';
  const over: readonly unknown[] = cancelled ? ['ended', 'cancelled'] : ['ended'];
  if (!over.includes(call.signal.reason)) return `over: ${call.signal.reason}`;
  // nghttp2 may have acknowledged what its user then gives up.
  if (cancelled && sight.client === 'nghttp2') return '';
  const expected = !cancelled && plan.response.status === 0;
  return delivered === expected ? '' : `delivered ${delivered}`;
}

/** A request whose response has ended before it need not be read. */
function judgeObserved(messages: readonly Buffer[], plan: StreamPlan, index: number, complete: boolean): string {
  const expected = plan.kind === 'observe' ? plan.request.messages.map((size) => messageBytes(index, size)) : [];
  const due = complete && plan.response.at === 'end';
  if (due ? messages.length !== expected.length : messages.length > expected.length) {
    return `observed ${messages.length} messages`;
  }
  return messages.every((message, at) => message.equals(expected[at] ?? message)) ? '' : 'observed another message';
}

/** @throws {Error} The outcome is not one the plan allows. */
export function judge(outcome: Outcome, plans: readonly StreamPlan[], sight: Sight = frames): void {
  const wrong = plans.map((plan, index) => [index, judgeStream(outcome, plan, index, sight)] as const);
  const all = wrong.filter(([, what]) => what !== '').map(([index, what]) => `stream ${index}: ${what}`);
  if (all.length > 0) throw new Error(all.join('\n'));
}

/** @throws {Error} Something that nothing left to chance differs between the two. */
export function judgeSame(direct: Outcome, routed: Outcome, plans: readonly StreamPlan[]): void {
  for (const [index] of plans.entries()) {
    const views = [direct, routed].map(({ client, backend }) => [client[index], backend.get(index)] as const);
    const racy = views.some(([client, backend]) =>
      [client?.resetSent, client?.received.reset, backend?.resetSent].some((code) => code !== undefined),
    );
    if (racy) continue;
    const [one, other] = views.map(([client]) => shownView(client));
    if (one !== other) throw new Error(`stream ${index} at the client: ${one}\nthrough the router: ${other}`);
    const [seen, seenThrough] = views.map(([, backend]) => backend && shownView(backend));
    if (seenThrough !== undefined && seen !== seenThrough) {
      throw new Error(`stream ${index} at the backend: ${seen}\nthrough the router: ${seenThrough}`);
    }
  }
}

function shownView(view: View | undefined): string {
  if (view === undefined) return 'nothing';
  const { headers, data, trailers, ended } = view.received;
  const content = Buffer.concat(data).toString('base64');
  return [shown(headers, 'nghttp2'), content, shown(trailers, 'nghttp2'), ended].join('\n');
}

/** @throws {Error} The unknown frames of one side did not reach the other in order. */
export function judgeUnknown(plan: Plan, client: Endpoint, backend: Endpoint): void {
  const sent = (timed: Plan['client']['unknown']): string =>
    [...timed]
      .sort((a, b) => a.at - b.at)
      .map(({ what }) => what)
      .join();
  if (backend.unknown.join() !== sent(plan.client.unknown)) throw new Error(`unknown frames ${backend.unknown}`);
  if (client.unknown.join() !== sent(plan.backend.unknown)) throw new Error(`unknown frames ${client.unknown}`);
}
