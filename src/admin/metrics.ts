/** Every counter and gauge Holdfast keeps, in prom-client's registry; the only module that knows their names. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export type Kind = 'podSandbox' | 'container' | 'start';

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

  /** Plain numbers until somebody asks: prom-client takes longer to find a counter than the router to carry a call. */
  readonly #calls = new Map<string, { passed: number; taken: number }>();

  constructor() {
    const calls = this.#calls;
    new Counter({
      name: 'holdfast_calls_total',
      help: 'Downstream calls by CRI method (others: "other") and by how they were handled.',
      labelNames: ['method', 'handling'] as const,
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [method, { passed, taken }] of calls) {
          if (passed > 0) this.inc({ method, handling: 'passed' }, passed);
          if (taken > 0) this.inc({ method, handling: 'taken' }, taken);
        }
      },
    });
  }

  /** @param method A name of the CRI; `other` for anything else. */
  countCall(method: string, handling: 'passed' | 'taken'): void {
    const counted = this.#calls.get(method);
    if (counted !== undefined) counted[handling] += 1;
    else this.#calls.set(method, { passed: 0, taken: 0, [handling]: 1 });
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
    new Gauge({
      name: 'holdfast_pressure_percent',
      help: 'Pressure (some avg10) when it was last read, which is only while creations or starts are carried out.',
      labelNames: ['resource'] as const,
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [resource, percent] of read().pressure) this.set({ resource }, percent);
      },
    });
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
