/** What a registry has, and which metrics a query in PromQL names. */
import type { Registry } from 'prom-client';

export interface Family {
  readonly name: string;
  readonly type: string;
  /** Sorted; without `le`. */
  readonly labels: readonly string[];
}

/** @param text In Prometheus's text format. */
export function familiesOf(text: string): Family[] {
  const lines = text.split('\n');
  return lines.flatMap((line) => {
    const [, name = '', type = ''] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (name === '') return [];
    const series = lines.filter((each) => new RegExp(`^${name}(?:_bucket|_sum|_count)?[{ ]`).test(each));
    const labels = new Set(series.flatMap((each) => [...each.matchAll(/([a-z_]+)="/g)].map(([, label = '']) => label)));
    labels.delete('le');
    return [{ name, type, labels: [...labels].sort() }];
  });
}

/** Every name under which a registry has series. */
export async function seriesNames(registry: Registry): Promise<Set<string>> {
  const families = familiesOf(await registry.metrics());
  return new Set(
    families.flatMap(({ name, type }) =>
      type === 'histogram' ? ['_bucket', '_sum', '_count'].map((suffix) => name + suffix) : [name],
    ),
  );
}

/** The names of metrics in a query. Functions, labels, durations, keywords and variables of Grafana are none. */
export function metricsIn(query: string): string[] {
  const bare = query
    .replace(/"[^"]*"/g, '')
    .replace(/\{[^}]*\}/g, '')
    .replace(/\[[^\]]*\]/g, '')
    .replace(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  const names = [...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])/g)].map(([name]) => name);
  return [...new Set(names)].filter((name) => !/^(?:and|or|unless|bool|offset|inf|nan)$/i.test(name));
}
