/** What a counter has counted: series that are there from the start, at 0, are none. */
import type { MetricObjectWithValues, MetricValue } from 'prom-client';

interface Counted {
  get(): Promise<MetricObjectWithValues<MetricValue<string>>>;
}

export async function counted(counter: Counted): Promise<readonly MetricValue<string>[]> {
  return (await counter.get()).values.filter(({ value }) => value > 0);
}
