/**
 * Tells from a runtime's error whether the name of what was to be made is taken. Knows the words of containerd and CRI-O, and not
 * what has the name.
 *
 * The text decides, not the code: containerd says UNKNOWN, since 2.1.7, 2.2.2 and 2.3.0 FAILED_PRECONDITION; CRI-O says UNKNOWN, or
 * what became of the request's context. ALREADY_EXISTS alone says nothing of a name: containerd gives it for a snapshot too.
 *
 * Each text is matched at its first word and at its last. A runtime's errors quote what a pod's owner has written (paths, images,
 * annotations), never at their beginning; within containerd's text the names are quoted, with quotes in them escaped.
 */
import { GrpcCode } from './grpc-code.js';
import type { Status } from './taken-call.js';

export interface Reservation {
  /** The id the name is reserved for, as containerd says it; CRI-O says only which id is refused. */
  readonly holderId: string | undefined;
}

/**
 * containerd: sandbox_run.go, container_create.go and registrar.go, below pkg in 1.x and internal in 2.x. Since the change of code
 * there is a hint behind a container's name.
 */
const containerd =
  /^failed to reserve (?:sandbox|container) name ("(?:[^"\\]|\\.)*")(?:; [^"]*)?: name \1 is reserved for "([\w.-]+)"$/;

/** CRI-O, by version and by what became of the one that has the name. */
const crioBeginnings: readonly RegExp[] = [
  // getResourceOrWait of server/utils.go, and server/container_restore.go; up to 1.23 with a capital and without a stage.
  /^[Kk]ubelet may be retrying requests that are timing out in CRI-O due to system load[.:] /,
  /^error attempting to watch for (?:sandbox|container) /,
  // internal/lib/container_server.go; without one of the above up to 1.19.
  /^(?:reserving (?:pod sandbox|container) name: )?error reserving (?:pod|ctr) name /,
  // Since 1.22: the name was given back between its two looks.
  /^[Ff]ailed to get ID of (?:pod|container) with reserved name \(/,
];
const crioEnd = /: name is (?:not )?reserved$/;

/** @returns undefined where the status says anything else. Takes a time that grows with the text's length, no more. */
export function reservation({ code, message }: Pick<Status, 'code' | 'message'>): Reservation | undefined {
  if (code === GrpcCode.ok) return undefined;
  const match = containerd.exec(message);
  if (match !== null) return { holderId: match[2] };
  const isReserved = crioEnd.test(message) && crioBeginnings.some((beginning) => beginning.test(message));
  return isReserved ? { holderId: undefined } : undefined;
}
