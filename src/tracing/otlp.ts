/**
 * Traces of calls, sent to a collector over OTLP/HTTP. With all that it imports it is loaded where `--otlp` is given and nowhere else: it
 * costs memory and time to start.
 */
import { hostname } from 'node:os';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { AlwaysOnSampler, BasicTracerProvider } from '@opentelemetry/sdk-trace-base';
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import type { CallTraces } from '../proxy/call-traces.js';
import { CallSpans } from './call-spans.js';
import { type SenderTimes, SpanSender } from './span-sender.js';

/** Creations and starts; each span is some KiB. */
const maxOpen = 4_096;
/** Of one span. */
const spanLimits = {
  eventCountLimit: 64,
  attributeCountLimit: 32,
  linkCountLimit: 8,
  attributePerEventCountLimit: 16,
  attributeValueLengthLimit: 512,
};

export interface OtlpOptions {
  /** That spans are posted to. */
  readonly url: string;
  readonly version: string;
  readonly replayTtlMs: number;
  readonly log: Logger;
  readonly clock: Clock;
  readonly times?: SenderTimes;
}

export interface Otlp {
  readonly traces: CallTraces;
  /** Ends all spans and sends them, for so long at most. Never rejects. */
  close(withinMs: number): Promise<void>;
}

export async function openOtlp({ url, version, replayTtlMs, log, clock, times }: OtlpOptions): Promise<Otlp> {
  const { Agent } = url.startsWith('https:') ? await import('node:https') : await import('node:http');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const sender = new SpanSender(url, { log, clock, agent, ...(times && { times }) });
  // All is said here: the library would read what is not from variables of the environment that are no options of Holdfast.
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({
      'service.name': 'holdfast',
      'service.version': version,
      'host.name': hostname(),
    }),
    // Whether a call is traced is decided by its caller: see call-spans.ts.
    sampler: new AlwaysOnSampler(),
    spanLimits,
    spanProcessors: [sender],
  });
  const traces = new CallSpans(provider.getTracer('holdfast', version), clock, { replayTtlMs, maxOpen });
  return {
    traces,
    close(withinMs) {
      traces.close();
      return sender.close(withinMs);
    },
  };
}
