/**
 * W3C Trace Context in the metadata of a call. Source: https://www.w3.org/TR/trace-context/, "traceparent Header Field Values". Knows
 * nothing of spans.
 */
import { createTraceState, isSpanContextValid, type SpanContext, TraceFlags } from '@opentelemetry/api';
import type { Metadata } from '../proxy/taken-call.js';

const traceparent = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** @returns undefined where the call says nothing that can be followed, or its trace is not sampled. */
export function sampledContext(metadata: Metadata): SpanContext | undefined {
  const [text, ...more] = valuesOf(metadata, 'traceparent');
  const [, version, traceId = '', spanId = '', flags = '', rest] = traceparent.exec(text ?? '') ?? [];
  const isReadable = version !== undefined && version !== 'ff' && (version !== '00' || rest === undefined);
  const isSampled = (Number.parseInt(flags, 16) & TraceFlags.SAMPLED) !== 0;
  if (more.length > 0 || !isReadable || !isSampled) return undefined;
  const states = valuesOf(metadata, 'tracestate');
  const context: SpanContext = {
    traceId,
    spanId,
    traceFlags: TraceFlags.SAMPLED,
    isRemote: true,
    ...(states.length > 0 && { traceState: createTraceState(states.join(',')) }),
  };
  return isSpanContextValid(context) ? context : undefined;
}

/** The same metadata with another trace in it. What else travels with a call, `baggage` among it, stays. */
export function withContext(metadata: Metadata, { traceId, spanId, traceFlags, traceState }: SpanContext): Metadata {
  const others = metadata.filter(([name]) => name !== 'traceparent' && name !== 'tracestate');
  const flags = traceFlags.toString(16).padStart(2, '0');
  const state = traceState?.serialize() ?? '';
  return [
    ...others,
    ['traceparent', `00-${traceId}-${spanId}-${flags}`],
    ...(state === '' ? [] : [['tracestate', state] as const]),
  ];
}

function valuesOf(metadata: Metadata, wanted: string): string[] {
  return metadata.filter(([name]) => name === wanted).map(([, value]) => value);
}
