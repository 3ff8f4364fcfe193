/** Every counter and gauge Holdfast keeps, in prom-client's registry; the only module that knows their names. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { OldestMs, Stage } from '../cache/oldest.js';
import { callNames } from '../cri/methods.js';
import { CallCounts } from './call-counts.js';
import { observeProcess } from './process-metrics.js';

export type Kind = 'podSandbox' | 'container' | 'start';

const kinds: readonly Kind[] = ['podSandbox', 'container', 'start'];
const classes = ['static', 'critical', 'start', 'container', 'podSandbox'] as const;
const peers = ['downstream', 'upstream'] as const;
/** Those of http2/taken-stream.ts. */
const refusals = ['header list too large', 'too many taken streams', 'too many request bytes', 'request not whole'];

function stagesOf(kind: Kind): readonly Stage[] {
  if (kind === 'start') return ['queued', 'running'];
  return kind === 'container' ? ['queued', 'waiting', 'running', 'held'] : ['queued', 'waiting', 'running'];
}

function outcomesOf(kind: Kind): readonly string[] {
  const unasked = kind === 'podSandbox' ? 'shown' : 'held';
  return ['answered', unasked, 'failed', 'timed out', 'dropped'];
}

/** See cache/progress.ts. Only a container waits for a start. */
function waitsFor(kind: Kind): readonly string[] {
  const all = ['queued', 'running', 'checked', 'unknown'];
  if (kind === 'start') return all;
  return [...all, 'removal', 'pause', 'name', ...(kind === 'container' ? ['start'] : [])];
}

export class Metrics {
  readonly registry = new Registry();

  readonly creations = new Counter({
    name: 'holdfast_creations_total',
    help: 'Creations and starts by how their upstream call ended (answered, shown, held, failed, timed out, dropped).',
    labelNames: ['kind', 'outcome'] as const,
    registers: [this.registry],
  });

  readonly waiters = new Gauge({
    name: 'holdfast_waiters',
    help: 'Downstream calls that wait for a creation or a start now.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly joins = new Counter({
    name: 'holdfast_joins_total',
    help: 'Requests that joined a queued or running creation or start.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly replays = new Counter({
    name: 'holdfast_replays_total',
    help: 'Requests answered with what had been made before.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly reaped = new Counter({
    name: 'holdfast_reaped_total',
    help: 'Resources removed because nobody asked for them or another request took their place.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly drift = new Counter({
    name: 'holdfast_drift_total',
    help: 'Requests that differed from the creation they were given.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly removalsGivenUp = new Counter({
    name: 'holdfast_removals_given_up_total',
    help: 'Resources that nobody had and that could not be removed, so that they were left to the kubelet.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly wedges = new Counter({
    name: 'holdfast_wedges_total',
    help: 'Creations whose name the runtime had reserved for longer than --wedge-after.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly told = new Counter({
    name: 'holdfast_waiters_told_total',
    help: 'Calls answered DEADLINE_EXCEEDED before their deadline with what they waited for.',
    labelNames: ['kind', 'waits_for'] as const,
    registers: [this.registry],
  });

  readonly tooLarge = new Counter({
    name: 'holdfast_requests_too_large_total',
    help: 'Creations whose request is too large to be compared with the one before it.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly guarded = new Counter({
    name: 'holdfast_second_copies_prevented_total',
    help: 'CreateContainer calls answered ABORTED because a lower attempt was started meanwhile.',
    registers: [this.registry],
  });

  readonly hiddenItems = new Counter({
    name: 'holdfast_hidden_items_total',
    help: 'Containers left out of responses and events because nobody had been given them.',
    registers: [this.registry],
  });

  readonly admissionWait = new Histogram({
    name: 'holdfast_admission_wait_seconds',
    help: 'How long creations and starts waited for admission, by class (static, critical, start, container, podSandbox).',
    labelNames: ['class'] as const,
    buckets: [0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300],
    registers: [this.registry],
  });

  readonly violations = new Counter({
    name: 'holdfast_protocol_violations_total',
    help: 'Connections ended because a peer broke HTTP/2 or a limit.',
    labelNames: ['peer'] as const,
    registers: [this.registry],
  });

  readonly givenUp = new Counter({
    name: 'holdfast_given_up_total',
    help: 'Creations cancelled and made anew since others took far less time.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
  });

  readonly refusedStreams = new Counter({
    name: 'holdfast_refused_streams_total',
    help: 'Streams of clients refused because of a limit.',
    labelNames: ['reason'] as const,
    registers: [this.registry],
  });

  readonly stalls = new Counter({
    name: 'holdfast_stalled_connections_total',
    help: 'Connections whose peer took nothing for 30 s though something waited for it.',
    labelNames: ['peer'] as const,
    registers: [this.registry],
  });

  readonly evictions = new Counter({
    name: 'holdfast_evicted_connections_total',
    help: 'Downstream connections closed because too many were open.',
    registers: [this.registry],
  });

  readonly refusedConnections = new Counter({
    name: 'holdfast_refused_connections_total',
    help: 'Downstream connections closed at once because too many were open, all of them at work.',
    registers: [this.registry],
  });

  readonly faults = new Counter({
    name: 'holdfast_interception_faults_total',
    help: 'Faults of Holdfast itself while it had a call in hand, by CRI method (others: "other").',
    labelNames: ['method'] as const,
    registers: [this.registry],
  });

  readonly calls = new CallCounts(this.registry);

  constructor() {
    const { waiters, joins, replays, reaped, drift, removalsGivenUp, wedges, tooLarge, givenUp } = this;
    for (const kind of kinds) {
      waiters.set({ kind }, 0);
      for (const counter of [joins, replays]) counter.inc({ kind }, 0);
      for (const outcome of outcomesOf(kind)) this.creations.inc({ kind, outcome }, 0);
      for (const waits_for of waitsFor(kind)) this.told.inc({ kind, waits_for }, 0);
      if (kind === 'start') continue;
      for (const counter of [reaped, drift, removalsGivenUp, wedges, tooLarge]) counter.inc({ kind }, 0);
    }
    givenUp.inc({ kind: 'podSandbox' }, 0);
    for (const method of [...callNames, 'other']) this.faults.inc({ method }, 0);
    for (const name of classes) this.admissionWait.zero({ class: name });
    for (const peer of peers) {
      this.violations.inc({ peer }, 0);
      this.stalls.inc({ peer }, 0);
    }
    for (const reason of refusals) this.refusedStreams.inc({ reason }, 0);
  }

  /** What the process is, and what it takes. @param version Of Holdfast. */
  observeProcess(version: string): void {
    const info = new Gauge({
      name: 'holdfast_build_info',
      help: 'Always 1: which Holdfast this is, and on which Node it runs.',
      labelNames: ['version', 'node_version'] as const,
      registers: [this.registry],
    });
    info.set({ version, node_version: process.versions.node }, 1);
    observeProcess(this.registry);
  }

  /** @param read Connections that are open now, and whether the runtime accepted the last one that was tried. */
  observeConnections(read: () => { isPresent: boolean; downstream: number; upstream: number }): void {
    this.#gauge(
      'holdfast_upstream_up',
      'Whether the runtime accepted the connection that was last tried (1), which is also so before the first; 0: it is looked for.',
      () => Number(read().isPresent),
    );
    new Gauge({
      name: 'holdfast_connections',
      help: 'Connections open now, of clients and to the runtime.',
      labelNames: ['peer'] as const,
      registers: [this.registry],
      collect() {
        const { downstream, upstream } = read();
        this.set({ peer: 'downstream' }, downstream);
        this.set({ peer: 'upstream' }, upstream);
      },
    });
  }

  /** @param read For each kind and stage the age of what is in it for longest, in ms; none where nothing is. */
  observeOldest(read: () => Readonly<Record<Kind, OldestMs>>): void {
    new Gauge({
      name: 'holdfast_oldest_creation_age_seconds',
      help: 'For how long the oldest creation or start has been in a stage (queued, waiting, running, held); 0: nothing is.',
      labelNames: ['kind', 'stage'] as const,
      registers: [this.registry],
      collect() {
        const oldest = read();
        for (const kind of kinds) {
          for (const stage of stagesOf(kind)) this.set({ kind, stage }, (oldest[kind][stage] ?? 0) / 1000);
        }
      },
    });
  }

  /** Gauges that are read when they are asked for. */
  observeStore(
    read: () => { live: number; answered: number; hidden: number; backingOff: number; wedged: number },
  ): void {
    this.#gauge('holdfast_hidden_containers', 'Containers kept out of sight now.', () => read().hidden);
    this.#gauge(
      'holdfast_entries',
      'Creations remembered now, in flight included.',
      () => read().live + read().answered,
    );
    this.#gauge(
      'holdfast_wedged',
      'Creations whose name has been taken for longer than --wedge-after.',
      () => read().wedged,
    );
    this.#gauge('holdfast_backing_off', 'Creations that failed too often and pause now.', () => read().backingOff);
  }

  observeSubscriptions(read: () => number): void {
    this.#gauge('holdfast_event_subscriptions', 'GetContainerEvents subscriptions open now.', read);
  }

  /** The same for the admission. */
  observeAdmission(
    read: () => {
      limit: number;
      inFlight: number;
      hung: number;
      queued: Readonly<Record<string, number>>;
      pressure: ReadonlyMap<string, number>;
    },
  ): void {
    this.#gauge(
      'holdfast_admission_limit',
      'Creations and starts that may be carried out at once.',
      () => read().limit,
    );
    this.#gauge('holdfast_admitted', 'Creations and starts that have a place now.', () => read().inFlight);
    this.#gauge(
      'holdfast_hung',
      'Creations and starts that take so long now that they do not count against a limit.',
      () => read().hung,
    );
    new Gauge({
      name: 'holdfast_queued',
      help: 'Creations and starts waiting for admission now, by class.',
      labelNames: ['class'] as const,
      registers: [this.registry],
      collect() {
        for (const [name, queued] of Object.entries(read().queued)) this.set({ class: name }, queued);
      },
    });
    const observePressure = (name: string, help: string, ofPercent: number) =>
      new Gauge({
        name,
        help,
        labelNames: ['resource'] as const,
        registers: [this.registry],
        collect() {
          this.reset();
          for (const [resource, percent] of read().pressure) this.set({ resource }, percent * ofPercent);
        },
      });
    observePressure(
      'holdfast_pressure_ratio',
      'Share of time in which something waited for the resource (PSI, some avg10) when it was last read, which is only while creations ' +
        'or starts are carried out.',
      0.01,
    );
    observePressure(
      'holdfast_pressure_percent',
      'Deprecated: use holdfast_pressure_ratio. It is gone in the next release.',
      1,
    );
  }

  #gauge(name: string, help: string, value: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(value());
      },
    });
  }
}
