/**
 * Sends spans to a collector, in batches, one after the other over one connection. Whatever the collector does or does not do costs a
 * bounded queue and a log line a minute: no call waits for it, and spans that cannot be sent are lost.
 *
 * The exporter asks again for a while, reads at most 4 MB of a response, and leaves a connection on which nothing comes. One on which
 * there is always a little more would last for ever: each batch has a deadline of Holdfast's own, at which the connection ends.
 */
import type { Agent } from 'node:http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';

/** Ended spans that wait to be sent; some KiB each. */
const maxWaiting = 2_048;
const batchSize = 512;
/** Errors are said once in so long, in ms. */
const saidAgainMs = 60_000;
/** A collector's words. */
const maxErrorLength = 200;

/** All in ms. */
export interface SenderTimes {
  /** How long spans wait for others. */
  readonly batchMs: number;
  /** How long a batch is tried, and a connection may be silent. */
  readonly tryMs: number;
  /** When a batch is over in any case; longer than `tryMs`, so that it is not tried again. */
  readonly deadlineMs: number;
}

const usualTimes: SenderTimes = { batchMs: 5_000, tryMs: 10_000, deadlineMs: 11_000 };

export interface SenderDeps {
  readonly log: Logger;
  readonly clock: Clock;
  /** Used for nothing else: it is destroyed again and again. */
  readonly agent: Agent;
  readonly times?: SenderTimes;
}

type Exported = Parameters<SpanExporter['export']>[1];

export class SpanSender implements SpanProcessor {
  readonly #url: string;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #agent: Agent;
  readonly #deadlineMs: number;
  readonly #exporter: SpanExporter;
  readonly #batches: BatchSpanProcessor;
  #waiting = 0;
  /** Not said yet. */
  #lost = 0;
  #saidMs = Number.NEGATIVE_INFINITY;

  /** @param url That spans are posted to. */
  constructor(url: string, { log, clock, agent, times = usualTimes }: SenderDeps) {
    this.#url = url;
    this.#log = log;
    this.#clock = clock;
    this.#agent = agent;
    this.#deadlineMs = times.deadlineMs;
    this.#exporter = new OTLPTraceExporter({ url, timeoutMillis: times.tryMs, httpAgentOptions: async () => agent });
    this.#batches = new BatchSpanProcessor(
      {
        export: (spans, done) => this.#export(spans, done),
        shutdown: () => this.#exporter.shutdown(),
      },
      {
        maxQueueSize: maxWaiting,
        maxExportBatchSize: batchSize,
        scheduledDelayMillis: times.batchMs,
        // Never the first to end a batch: while one is under way the next one waits.
        exportTimeoutMillis: 10 * times.deadlineMs,
      },
    );
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (this.#waiting >= maxWaiting) {
      this.#lose(1, 'the collector is slower than spans are made');
      return;
    }
    this.#waiting += 1;
    this.#batches.onEnd(span);
  }

  forceFlush(): Promise<void> {
    return this.#batches.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.#batches.shutdown();
  }

  /** Sends what waits, for so long at most, and ends the connection. Never rejects. */
  async close(withinMs: number): Promise<void> {
    let cancelTimer = () => {};
    const outOfTime = new Promise<void>((resolve) => {
      cancelTimer = this.#clock.after(withinMs, resolve);
    });
    // What could not be sent has been said.
    await Promise.race([this.shutdown().catch(() => {}), outOfTime]);
    cancelTimer();
    this.#disconnect();
  }

  #export(spans: ReadableSpan[], done: Exported): void {
    this.#waiting -= spans.length;
    const cancelTimer = this.#clock.after(this.#deadlineMs, () => this.#disconnect());
    this.#exporter.export(spans, (result) => {
      cancelTimer();
      if (result.code !== 0) this.#lose(spans.length, result.error?.message ?? 'unknown error');
      done(result);
    });
  }

  #disconnect(): void {
    for (const request of Object.values(this.#agent.requests).flat()) request?.destroy();
    this.#agent.destroy();
  }

  #lose(spans: number, error: string): void {
    this.#lost += spans;
    const nowMs = this.#clock.now();
    if (nowMs - this.#saidMs < saidAgainMs) return;
    this.#log.warn(
      { collector: this.#url, spansLost: this.#lost, error: error.slice(0, maxErrorLength) },
      'spans could not be sent',
    );
    this.#saidMs = nowMs;
    this.#lost = 0;
  }
}
