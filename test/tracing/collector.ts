/** A collector of the tests' own: takes OTLP/HTTP in JSON, and answers as a test wants it to. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';

interface Value {
  readonly stringValue?: string;
  readonly intValue?: number | string;
  readonly boolValue?: boolean;
  readonly arrayValue?: { readonly values: readonly Value[] };
}

type KeyValues = readonly { readonly key: string; readonly value: Value }[];

interface WireSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly traceState?: string;
  readonly name: string;
  readonly kind: number;
  readonly attributes: KeyValues;
  readonly events: readonly { readonly name: string; readonly attributes: KeyValues }[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly status: { readonly code: number; readonly message?: string };
}

export interface CollectedSpan extends Omit<WireSpan, 'attributes' | 'events' | 'links'> {
  readonly attributes: Readonly<Record<string, unknown>>;
  /** Of the resource. */
  readonly resource: Readonly<Record<string, unknown>>;
  readonly events: readonly string[];
  readonly eventAttributes: readonly Readonly<Record<string, unknown>>[];
  /** `trace-span` each. */
  readonly links: readonly string[];
}

export type Answer = (response: ServerResponse, request: IncomingMessage) => void;

export const accept: Answer = (response) => void response.setHeader('content-type', 'application/json').end('{}');

export class Collector {
  readonly spans: CollectedSpan[] = [];
  /** Posts that came whole. */
  posts = 0;
  /** Open connections. */
  connections = 0;
  answer: Answer = accept;
  readonly #server = createServer((request, response) => void this.#take(request, response));
  readonly #watchers = new Set<() => void>();

  static async start(t: Test): Promise<Collector> {
    const collector = new Collector();
    const server = collector.#server;
    server.on('connection', (socket) => {
      collector.connections += 1;
      socket.on('error', () => {});
      socket.on('close', () => {
        collector.connections -= 1;
        collector.#changed();
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => collector.close());
    return collector;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/traces`;
  }

  /** Resolves once this holds; looked at whenever spans come or a connection ends. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => this.#watchers.add(resolve));
  }

  /** The spans of this name, once there are so many. */
  async named(name: string, count = 1): Promise<CollectedSpan[]> {
    const found = () => this.spans.filter((span) => span.name === name);
    await this.until(() => found().length >= count);
    return found();
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    request.on('error', () => {});
    for await (const chunk of request) chunks.push(chunk);
    this.posts += 1;
    const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString());
    for (const { resource, scopeSpans } of resourceSpans) {
      for (const { spans } of scopeSpans) {
        for (const span of spans) this.spans.push(read(span, valuesOf(resource.attributes)));
      }
    }
    this.answer(response, request);
    this.#changed();
  }

  #changed(): void {
    for (const wake of this.#watchers) wake();
    this.#watchers.clear();
  }
}

function read({ attributes, events, links, ...span }: WireSpan, resource: CollectedSpan['resource']): CollectedSpan {
  return {
    ...span,
    attributes: valuesOf(attributes),
    resource,
    events: events.map(({ name }) => name),
    eventAttributes: events.map((event) => valuesOf(event.attributes)),
    links: links.map(({ traceId, spanId }) => `${traceId}-${spanId}`),
  };
}

function valuesOf(attributes: KeyValues): Readonly<Record<string, unknown>> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, plainValue(value)]));
}

function plainValue({ stringValue, intValue, boolValue, arrayValue }: Value): unknown {
  if (arrayValue !== undefined) return arrayValue.values.map(plainValue);
  return stringValue ?? boolValue ?? Number(intValue);
}
