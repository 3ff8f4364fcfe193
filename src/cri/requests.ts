/** Reads the few ids Holdfast needs from requests and responses, straight from the wire bytes. Never throws. */
import type { IdField, Method } from './methods.js';
import { lastBytes, WireError } from './wire.js';

/** A resource named by a request. `id` may be a unique prefix of the real one. */
export interface NamedId {
  readonly kind: IdField['kind'];
  readonly id: string;
}

/**
 * @param number A string field of the message itself.
 * @returns The last occurrence, as protobuf has it; '' where it is absent or the message is malformed.
 */
export function readStringField(message: Buffer, number: number): string {
  try {
    return lastBytes(message, number).toString();
  } catch (error) {
    if (error instanceof WireError) return '';
    throw error;
  }
}

/** The id that the request uses; undefined where the method uses none or the request does not say. */
export function usedId(method: Method, request: Buffer): NamedId | undefined {
  return namedId(method.uses, request);
}

/** The id that the request ends; undefined as in usedId. */
export function endedId(method: Method, request: Buffer): NamedId | undefined {
  return namedId(method.ends, request);
}

function namedId(field: IdField | undefined, request: Buffer): NamedId | undefined {
  if (field === undefined) return undefined;
  const id = readStringField(request, field.number);
  return id === '' ? undefined : { kind: field.kind, id };
}
