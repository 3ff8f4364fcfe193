/**
 * Whether what a running Holdfast tells is what this version understands: the program that asks may be older or newer than the one that
 * answers. Fields that it does not know are passed over; knows what is shown, not how.
 */
import { version } from '../config/version.js';
import { AdminError, askAdminJson } from './client.js';
import type { CreationsAnswer, ForgetAnswer, Summary } from './routes.js';

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === 'string';
const number: Check = (value) => typeof value === 'number';
const bool: Check = (value) => typeof value === 'boolean';
const numbers: Check = (value) => isObject(value) && Object.values(value).every(number);
const maybe =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
const fields =
  (checks: Readonly<Record<string, Check>>): Check =>
  (value) =>
    isObject(value) && Object.entries(checks).every(([name, check]) => check(value[name]));
const each =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);

const callsSeen = fields({ lastAgoMs: maybe(number) });
const identity = { kind: text, namespace: maybe(text), pod: maybe(text), uid: maybe(text), container: maybe(text) };
const summary = fields({
  version: text,
  uptimeMs: number,
  connections: number,
  runtimeAnswers: bool,
  runtimeSilence: orNull(text),
  admission: fields({
    limit: orNull(number),
    inFlight: number,
    hung: number,
    queued: numbers,
    pressurePercent: numbers,
  }),
  kubelet: fields({ status: callsSeen, lists: callsSeen }),
});
const creation = fields({
  ...identity,
  id: maybe(text),
  attempt: maybe(number),
  state: text,
  stuck: bool,
  ageMs: number,
  stateForMs: number,
  waiters: number,
  queue: maybe(fields({ before: number, class: text, forMs: number })),
  waitsFor: maybe(text),
  next: text,
  hungForMs: maybe(number),
  timesGivenUp: maybe(number),
  failures: maybe(fields({ nextInMs: number })),
  reserved: maybe(fields({ wedged: bool, remedy: maybe(text) })),
  lastError: maybe(text),
});
const creations = fields({ summary, creations: each(creation) });
const forgets = fields({ results: each(fields({ ...identity, state: text, outcome: text, text })) });

/** @throws {AdminError} As askAdminJson, and where the answer is another version's. */
export function askSummary(socket: string): Promise<Summary> {
  return ask<Summary>(socket, '/debug/summary', summary);
}

/** @param withDelivered Also what nobody needs to look at. @throws {AdminError} As askSummary. */
export function askCreations(socket: string, withDelivered: boolean): Promise<CreationsAnswer> {
  return ask<CreationsAnswer>(socket, `/debug/creations${withDelivered ? '?delivered' : ''}`, creations);
}

/** @throws {AdminError} As askSummary. */
export function askForget(
  socket: string,
  wanted: { readonly uid: string; readonly container: string | undefined },
): Promise<ForgetAnswer> {
  return ask<ForgetAnswer>(socket, '/debug/creations/forget', forgets, JSON.stringify(wanted));
}

async function ask<Answer>(socket: string, path: string, isUnderstood: Check, body?: string): Promise<Answer> {
  const answer = await askAdminJson<Answer>(socket, path, body);
  if (isUnderstood(answer)) return answer;
  throw new AdminError(
    'refused',
    `what Holdfast says at ${socket} is not understood by this version, ${version}: ask with the program that runs there, ` +
      'as /opt/holdfast/bin/holdfast',
  );
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
