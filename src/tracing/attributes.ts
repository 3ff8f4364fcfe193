/**
 * What spans say of pods, containers and errors, under the names of OpenTelemetry's semantic conventions where these have one. Names and
 * ids only, and what Holdfast's log says as well: never values of a request, which hold secrets.
 */
import { type Attributes, type AttributeValue, type Span, SpanStatusCode } from '@opentelemetry/api';
import type { Kind } from '../admin/metrics.js';
import type { Identity } from '../cache/fingerprint.js';
import { statusOf } from '../proxy/rescue.js';

/** Error texts of a runtime may be long. */
const maxTextLength = 512;

/** @param identity Undefined: only the kind is known. */
export function identityAttributes(kind: Kind, identity: Identity | undefined): Attributes {
  if (identity === undefined) return { 'holdfast.kind': kind };
  return {
    'holdfast.kind': kind,
    'holdfast.attempt': identity.attempt,
    'k8s.namespace.name': identity.namespace,
    'k8s.pod.name': identity.name,
    'k8s.pod.uid': identity.uid,
    ...(identity.kind === 'container' && { 'k8s.container.name': identity.container }),
  };
}

/** @param id Undefined or '': it is not known. */
export function idAttributes(kind: 'podSandbox' | 'container', id: string | undefined): Attributes {
  if (id === undefined || id === '') return {};
  return { [kind === 'podSandbox' ? 'holdfast.pod_sandbox.id' : 'container.id']: id };
}

/** @param detail Of a step, as it is logged. */
export function eventAttributes({ error, ...detail }: Readonly<Record<string, unknown>>): Attributes {
  const attributes: Record<string, AttributeValue> = {};
  for (const [name, value] of Object.entries(detail)) {
    if (typeof value === 'number') attributes[name] = name.endsWith('Ms') ? Math.round(value) : value;
    else if (typeof value === 'string' || typeof value === 'boolean') attributes[name] = value;
    else if (Array.isArray(value)) attributes[name] = value.map(String);
  }
  if (error === undefined) return attributes;
  const { code, message } = statusOf(error);
  return { ...attributes, code, error: message.slice(0, maxTextLength) };
}

export function setFailed(span: Span, error: unknown): void {
  const { code, message } = statusOf(error);
  span.setAttribute('rpc.grpc.status_code', code);
  span.setStatus({ code: SpanStatusCode.ERROR, message: message.slice(0, maxTextLength) });
}
