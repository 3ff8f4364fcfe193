/** The one place where what went wrong becomes a gRPC status. */
import { status } from '@grpc/grpc-js';
import { CallTimeoutError, DroppedError, ShutDownError } from '../cache/detached-call.js';
import { StartedMeanwhileError } from '../cache/start-store.js';
import type { Status } from './taken-call.js';
import { UpstreamStatusError } from './upstream.js';

/** The runtime answered a creation without saying what it made, so there is nothing to hold or to give. */
export class EmptyIdError extends Error {
  override readonly name = 'EmptyIdError';
  constructor(method: string) {
    super(`the runtime answered ${method} with an empty id`);
  }
}

/** Where a runtime would say that it does not know the container. */
export function containerNotFound(id: string): Status {
  const message = `an error occurred when try to find container ${JSON.stringify(id)}: not found`;
  return { code: status.NOT_FOUND, message, trailers: [] };
}

/** @returns The runtime's own status where it gave one. */
export function statusOf(error: unknown): Status {
  if (error instanceof UpstreamStatusError) return error.status;
  return { code: codeOf(error), message: error instanceof Error ? error.message : String(error), trailers: [] };
}

function codeOf(error: unknown): status {
  if (error instanceof CallTimeoutError || error instanceof DroppedError) return status.DEADLINE_EXCEEDED;
  if (error instanceof StartedMeanwhileError) return status.ABORTED;
  if (error instanceof ShutDownError) return status.UNAVAILABLE;
  return status.INTERNAL;
}
