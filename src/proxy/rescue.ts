/** The one place where what went wrong becomes a gRPC status, and where a fault of Holdfast itself is told from all else. */
import { NameReservedError } from '../cache/creation-runtime.js';
import {
  CallTimeoutError,
  DroppedError,
  GivenUpError,
  PodSandboxEndedError,
  ShutDownError,
  WaiterLeftError,
} from '../cache/detached-call.js';
import { StartedMeanwhileError } from '../cache/second-copy-guard.js';
import { GrpcCode } from './grpc-code.js';
import { UnreadableError } from './own-calls.js';
import type { Status, TakenCall } from './taken-call.js';
import { UpstreamStatusError } from './upstream.js';

/** The runtime answered a creation without saying what it made, so there is nothing to hold or to give. */
export class EmptyIdError extends Error {
  override readonly name = 'EmptyIdError';
  constructor(method: string) {
    super(`the runtime answered ${method} with an empty id`);
  }
}

/** What is thrown on purpose. */
const foreseen = [
  UpstreamStatusError,
  NameReservedError,
  UnreadableError,
  EmptyIdError,
  CallTimeoutError,
  DroppedError,
  GivenUpError,
  ShutDownError,
  StartedMeanwhileError,
  WaiterLeftError,
] as const;

/** Whether it is nobody's doing but Holdfast's: a broken invariant, a TypeError. */
export function isFault(error: unknown): boolean {
  return !foreseen.some((known) => error instanceof known);
}

/** What a call gets that met a fault when it was too late to leave it to the runtime. A kubelet asks again whatever the code. */
export function faultStatus(error: unknown): Status {
  const message = `holdfast: a fault inside Holdfast, ask again: ${error instanceof Error ? error.message : String(error)}`;
  return { code: GrpcCode.unavailable, message, trailers: [] };
}

/** Where a runtime would say that it does not know the container. */
export function containerNotFound(id: string): Status {
  const message = `an error occurred when try to find container ${JSON.stringify(id)}: not found`;
  return { code: GrpcCode.notFound, message, trailers: [] };
}

/** @returns The runtime's own status where it gave one. */
export function statusOf(error: unknown): Status {
  const said = saidBy(error);
  if (said !== undefined) return said.status;
  return { code: codeOf(error), message: error instanceof Error ? error.message : String(error), trailers: [] };
}

/** Ends a call with what went wrong, as the runtime said it where it did. */
export async function failCall(call: TakenCall, error: unknown): Promise<void> {
  const metadata = saidBy(error)?.initialMetadata;
  if (metadata !== undefined) call.sendInitialMetadata(metadata);
  await call.end(statusOf(error));
}

function saidBy(error: unknown): UpstreamStatusError | undefined {
  const said = error instanceof NameReservedError ? error.cause : error;
  return said instanceof UpstreamStatusError ? said : undefined;
}

function codeOf(error: unknown): number {
  if (error instanceof PodSandboxEndedError) return GrpcCode.failedPrecondition;
  if (error instanceof CallTimeoutError || error instanceof DroppedError) return GrpcCode.deadlineExceeded;
  if (error instanceof StartedMeanwhileError) return GrpcCode.aborted;
  if (error instanceof ShutDownError) return GrpcCode.unavailable;
  return GrpcCode.internal;
}
