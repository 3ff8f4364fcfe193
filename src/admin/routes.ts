/** What the admin endpoint and the metrics endpoint answer. */
import { pipeline } from 'node:stream/promises';
import type { Registry } from 'prom-client';
import type { Clock } from '../clock.js';
import { count, duration } from '../config/kinds.js';
import type { ReportedForget } from '../proxy/creation-report.js';
import type { CreationsReport, LoadReport, Wanted } from '../proxy/inspection.js';
import { HttpError, idleMs, type Routes, sendJson, sendText } from './http.js';
import { type LogLevel, type LogLevelState, logLevels } from './log-level.js';
import { Profiles } from './profiles.js';

/** What is served of. */
export interface Served {
  readonly inspection: {
    creations(withDelivered: boolean): CreationsReport;
    summary(): LoadReport;
    forget(wanted: Wanted): readonly ReportedForget[];
  };
  readonly connections: number;
  runtimeHealth(): Promise<{ readonly answers: true } | { readonly answers: false; readonly why: string }>;
}

/** What does not change while the program runs. */
export interface Facts {
  readonly version: string;
  readonly node: string;
  readonly pid: number;
  readonly listen: string;
  readonly runtime: string;
}

/** The answer to GET /debug/summary, and a part of that to GET /debug/creations. Durations in ms. */
export interface Summary extends LoadReport, Facts {
  /** ISO 8601, by the node's clock as it is now. */
  readonly startedAt: string;
  readonly uptimeMs: number;
  readonly connections: number;
  readonly runtimeAnswers: boolean;
  /** null: it does. */
  readonly runtimeSilence: string | null;
}

/** The answer to GET /debug/creations. */
export interface CreationsAnswer extends CreationsReport {
  readonly summary: Summary;
}

/** The answer to POST /debug/creations/forget. */
export interface ForgetAnswer {
  readonly results: readonly ReportedForget[];
}

export interface Source {
  readonly registry: Pick<Registry, 'metrics' | 'contentType'>;
  readonly served: Served;
}

const profileSeconds = { kind: count(1, 60), default: 10 } as const;
const levelFor = { kind: duration('1s', '24h'), defaultMs: 15 * 60_000 } as const;

export function publicRoutes({ registry, served }: Source): Routes {
  return {
    '/metrics': {
      async GET({ response }) {
        const text = await registry.metrics();
        response.writeHead(200, { 'content-type': registry.contentType }).end(text);
      },
    },
    '/healthz': { GET: ({ response }) => sendText(response, 200, 'ok') },
    '/readyz': {
      async GET({ response }) {
        const health = await served.runtimeHealth();
        sendText(response, health.answers ? 200 : 503, health.answers ? 'ok' : health.why);
      },
    },
  };
}

/** @param clock Uptime is by this: a node's clock is set hours ahead or back, most often right after it has booted. */
export function debugRoutes(
  source: Source,
  facts: Facts,
  logLevel: LogLevel,
  clock: Pick<Clock, 'now'>,
  date: () => number = Date.now,
): Routes {
  const startedMs = clock.now();
  const profiles = new Profiles();
  const { inspection } = source.served;
  const summary = async (): Promise<Summary> => {
    const uptimeMs = clock.now() - startedMs;
    const health = await source.served.runtimeHealth();
    return {
      ...facts,
      startedAt: new Date(date() - uptimeMs).toISOString(),
      uptimeMs: Math.round(uptimeMs),
      connections: source.served.connections,
      runtimeAnswers: health.answers,
      runtimeSilence: health.answers ? null : health.why,
      ...inspection.summary(),
    };
  };
  return {
    ...publicRoutes(source),
    '/debug/summary': { GET: async ({ response }) => sendJson(response, await summary()) },
    '/debug/creations': {
      async GET({ response, query }) {
        const told = await summary();
        const answer: CreationsAnswer = { summary: told, ...inspection.creations(query.has('delivered')) };
        sendJson(response, answer);
      },
    },
    '/debug/creations/forget': {
      async POST({ response, body }) {
        const wanted = wantedOf(await body());
        const answer: ForgetAnswer = { results: inspection.forget(wanted) };
        sendJson(response, answer);
      },
    },
    '/debug/pprof/profile': {
      async GET({ response, query, signal, idleFor }) {
        const asked = query.get('seconds');
        const seconds = asked === null ? profileSeconds.default : profileSeconds.kind.parse(asked);
        if (seconds === undefined) throw new HttpError(400, `seconds: give ${profileSeconds.kind.allowed}`);
        idleFor(seconds * 1000 + idleMs);
        const profile = await profiles.cpu(seconds, signal);
        idleFor(idleMs);
        response.writeHead(200, attachment('cpuprofile')).end(profile);
      },
    },
    '/debug/pprof/heap': {
      GET: ({ response }) =>
        profiles.heap(async (snapshot) => {
          response.writeHead(200, attachment('heapsnapshot'));
          await pipeline(snapshot, response);
        }),
    },
    '/debug/log-level': {
      GET: ({ response }) => sendLevel(response, logLevel.state),
      PUT: (call) => changeLevel(call, logLevel),
      POST: (call) => changeLevel(call, logLevel),
    },
  };
}

type Call = Parameters<NonNullable<Routes[string]['PUT']>>[0];

/** The level in the body, or as ?level=; ?for= says how long. */
async function changeLevel({ query, body, response }: Call, logLevel: LogLevel): Promise<void> {
  const asked = query.get('level') ?? (await body()).trim();
  const level = logLevels.find((name) => name === asked);
  if (level === undefined)
    throw new HttpError(400, `"${asked.slice(0, 50)}" is no level; give one of ${logLevels.join(', ')}`);
  const given = query.get('for');
  const forMs = given === null ? levelFor.defaultMs : levelFor.kind.parse(given);
  if (forMs === undefined) throw new HttpError(400, `for: give ${levelFor.kind.allowed}`);
  logLevel.set(level, forMs);
  sendLevel(response, logLevel.state);
}

function sendLevel(response: Call['response'], state: LogLevelState): void {
  sendJson(response, state);
}

const wantedNames: ReadonlySet<string> = new Set(['namespace', 'pod', 'uid', 'container']);

/** @throws {HttpError} Nothing is named, or something that is not known. */
function wantedOf(body: string): Wanted {
  const hint = 'give a JSON object with "uid", or "namespace" and "pod", and if need be "container"';
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    throw new HttpError(400, `the body is not JSON: ${hint}`);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw new HttpError(400, hint);
  for (const [name, value] of Object.entries(parsed)) {
    if (!wantedNames.has(name) || typeof value !== 'string' || value === '') {
      throw new HttpError(400, `"${name.slice(0, 50)}" is not understood: ${hint}`);
    }
  }
  const wanted: Wanted = parsed;
  if (wanted.uid === undefined && (wanted.namespace === undefined || wanted.pod === undefined))
    throw new HttpError(400, hint);
  return wanted;
}

function attachment(extension: string) {
  return {
    'content-type': 'application/json',
    'content-disposition': `attachment; filename="holdfast.${extension}"`,
  };
}
