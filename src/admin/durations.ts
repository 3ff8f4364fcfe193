/**
 * How long calls took, by method: plain numbers until somebody asks, since a call is carried in less time than prom-client takes to find a
 * histogram. Knows prom-client's registry as far as that it asks a metric for its values.
 */
import type { Histogram, Registry } from 'prom-client';

export interface DurationsOptions {
  readonly name: string;
  readonly help: string;
  /** Upper bounds in seconds, ascending, without the infinite one. */
  readonly buckets: readonly number[];
  /** All there will ever be. */
  readonly methods: readonly string[];
}

interface Series {
  /** By bucket, each without those below it; the last one is of what took longer than all bounds. */
  readonly counts: number[];
  sumSeconds: number;
}

/** A series, as the registry writes it. */
interface Value {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

export class Durations {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  readonly #buckets: readonly number[];
  readonly #series = new Map<string, Series>();

  constructor({ name, help, buckets, methods }: DurationsOptions, registry: Registry) {
    this.name = name;
    this.help = help;
    this.#buckets = buckets;
    for (const method of methods) {
      this.#series.set(method, { counts: new Array<number>(buckets.length + 1).fill(0), sumSeconds: 0 });
    }
    registry.registerMetric(this as unknown as Histogram);
  }

  /** Without effect for a method that is not one of its own. */
  observe(method: string, ms: number): void {
    const series = this.#series.get(method);
    if (series === undefined) return;
    const seconds = ms / 1000;
    let at = 0;
    while (seconds > (this.#buckets[at] ?? Number.POSITIVE_INFINITY)) at += 1;
    series.counts[at] = (series.counts[at] ?? 0) + 1;
    series.sumSeconds += seconds;
  }

  /** What the registry asks for. */
  async get(): Promise<
    Pick<Durations, 'name' | 'help' | 'type' | 'aggregator'> & { readonly values: readonly Value[] }
  > {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values: [...this.#values()] };
  }

  *#values(): Iterable<Value> {
    for (const [method, { counts, sumSeconds }] of this.#series) {
      let count = 0;
      for (const [at, more] of counts.entries()) {
        count += more;
        yield { metricName: `${this.name}_bucket`, labels: { method, le: this.#buckets[at] ?? '+Inf' }, value: count };
      }
      yield { metricName: `${this.name}_sum`, labels: { method }, value: sumSeconds };
      yield { metricName: `${this.name}_count`, labels: { method }, value: count };
    }
  }
}
