/**
 * Downstream calls, counted when they begin and when they end: plain numbers until somebody asks, since a call is carried in less time
 * than prom-client takes to find a counter. Whatever a client asks for, there are no more series than methods and codes.
 */
import { Counter, type Registry } from 'prom-client';
import { callNames, methodOfName } from '../cri/methods.js';
import { Durations } from './durations.js';

/** By number (grpc/doc/statuscodes.md), in the words of grpc-go and of its Prometheus interceptors. */
export const codeNames = [
  'OK',
  'Canceled',
  'Unknown',
  'InvalidArgument',
  'DeadlineExceeded',
  'NotFound',
  'AlreadyExists',
  'PermissionDenied',
  'ResourceExhausted',
  'FailedPrecondition',
  'Aborted',
  'OutOfRange',
  'Unimplemented',
  'Internal',
  'Unavailable',
  'DataLoss',
  'Unauthenticated',
] as const;

/** Of a call whose end was not one that gRPC has, or could not be read. */
const unread = 'unread';
const unreadIndex = codeNames.length;

/** There from the start: with all codes of all methods a node would have seven hundred series, most of which no node ever needs. */
const usualCodes: ReadonlySet<string> = new Set([
  'OK',
  'Canceled',
  'Unknown',
  'DeadlineExceeded',
  'NotFound',
  'Unavailable',
]);

/** A list over a unix socket takes some ms; kubelets call their relist unhealthy after minutes. */
const listSeconds = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1, 2.5, 10];
/** A kubelet's default deadline is 240 s for RunPodSandbox and 120 s for the others. */
const workSeconds = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240, 600];

export type Handling = 'passed' | 'taken';

interface Counts {
  passed: number;
  taken: number;
  /** By code, and behind them those that were not read. */
  readonly ended: number[];
  readonly durations: Durations | undefined;
}

export class CallCounts {
  readonly #byName = new Map<string, Counts>();
  readonly #others = newCounts(undefined);

  constructor(registry: Registry) {
    const byName = this.#byName;
    const listDurations = new Durations(
      {
        name: 'holdfast_list_call_duration_seconds',
        help: 'How long lists took from their request to the beginning of their end, by CRI method.',
        buckets: listSeconds,
        methods: callNames.filter(isList),
      },
      registry,
    );
    const workDurations = new Durations(
      {
        name: 'holdfast_taken_call_duration_seconds',
        help: 'How long clients waited for what makes or starts something, by CRI method, whatever the answer.',
        buckets: workSeconds,
        methods: callNames.filter(isWork),
      },
      registry,
    );
    for (const name of callNames) {
      byName.set(name, newCounts(isList(name) ? listDurations : isWork(name) ? workDurations : undefined));
    }
    byName.set('other', this.#others);

    new Counter({
      name: 'holdfast_calls_total',
      help: 'Downstream calls that have begun, by CRI method (others: "other") and by how they were handled.',
      labelNames: ['method', 'handling'] as const,
      registers: [registry],
      collect() {
        this.reset();
        for (const [method, counts] of byName) {
          for (const handling of handlingsOf(method)) this.inc({ method, handling }, counts[handling]);
        }
      },
    });
    new Counter({
      name: 'holdfast_calls_ended_total',
      help: 'Downstream calls that have ended, by CRI method and gRPC code ("unread": how the runtime ended it could not be read).',
      labelNames: ['method', 'code'] as const,
      registers: [registry],
      collect() {
        this.reset();
        for (const [method, { ended }] of byName) {
          for (const [at, count] of ended.entries()) {
            const code = codeNames[at] ?? unread;
            if (count > 0 || usualCodes.has(code)) this.inc({ method, code }, count);
          }
        }
      },
    });
  }

  /** @param name See `callName`. */
  begun(name: string, handling: Handling): void {
    (this.#byName.get(name) ?? this.#others)[handling] += 1;
  }

  /** @param code A gRPC status code; undefined: it could not be read. */
  ended(name: string, code: number | undefined, tookMs: number): void {
    const { ended, durations } = this.#byName.get(name) ?? this.#others;
    const at = code === undefined || codeNames[code] === undefined ? unreadIndex : code;
    ended[at] = (ended[at] ?? 0) + 1;
    durations?.observe(name, tookMs);
  }
}

function newCounts(durations: Durations | undefined): Counts {
  return { passed: 0, taken: 0, ended: new Array<number>(codeNames.length + 1).fill(0), durations };
}

/** Lists and their streaming forms. Subscriptions end when their client leaves, and say nothing of the runtime. */
function isList(name: string): boolean {
  return /^(?:List|Stream)/.test(name) && name !== 'ListMetricDescriptors';
}

/** What is made or started. */
function isWork(name: string): boolean {
  const method = methodOfName(name);
  return method?.creates !== undefined || method?.startsContainer === true;
}

function handlingsOf(name: string): readonly Handling[] {
  const method = methodOfName(name);
  if (method?.events || isWork(name)) return ['taken'];
  return method?.reportsContainers ? ['passed', 'taken'] : ['passed'];
}
