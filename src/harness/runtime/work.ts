/**
 * What making a sandbox, a container or a start shares: its time and gates, whether its caller still waits, and the record kept
 * of it. Knows no profile.
 */
import * as grpc from '@grpc/grpc-js';
import type { Clock } from '../../clock.js';
import { sleep, untilAborted } from '../sleep.js';
import type { Contention } from './contention.js';
import type { Gates, InjectedAnswer, Step } from './gates.js';
import type { RawCall, RawReply } from './raw-grpc-server.js';

/** Ends a call with a gRPC status. */
export class StatusError extends Error {
  readonly code: number;
  readonly trailers: grpc.Metadata;
  constructor(code: number, details: string, trailers = new grpc.Metadata()) {
    super(details);
    this.code = code;
    this.trailers = trailers;
  }
}

/** Something the runtime really began to make: the call was not refused, joined or answered from what was there. */
export interface Making {
  readonly kind: 'podSandbox' | 'container' | 'start';
  /** Of what was made; for a start, of its container. */
  readonly id: string;
  /** The reserved name, which holds the whole identity. */
  readonly name: string;
  readonly podUid: string;
  readonly attempt: number;
  /** Request bytes as received. */
  readonly request: Buffer;
  readonly metadata: grpc.Metadata;
  /** `cut short`: the runtime was killed meanwhile. */
  outcome: 'under way' | 'finished' | 'rolled back' | 'cut short';
  /** In ms of the runtime's clock. A rollback belongs to it, a time in CRI-O's resource store does not. */
  readonly beganMs: number;
  endedMs: number | undefined;
  /** Whether the caller left while it was under way. */
  callerLeft: boolean;
}

export interface Made {
  readonly sandboxes: Making[];
  readonly containers: Making[];
  readonly starts: Making[];
}

/** How long a step takes, in ms of the clock: a number, or by reserved name. */
export type Duration = number | ((name: string) => number);

export interface Timing {
  readonly gates: Gates;
  readonly clock: Clock;
  /** What slows labour down; undefined: nothing does. */
  readonly contention: Contention | undefined;
  durationMs(step: Step, name: string): number;
  /** What takes the place of the next answer, which is used up by it. */
  injected(step: Step, name: string): InjectedAnswer | undefined;
}

/** Goes through one step: its gate, then its duration, contended where it says so. Returns early when the signal fires. */
export async function pass(
  timing: Timing,
  step: Step,
  name: string,
  signal: AbortSignal,
  contention?: Contention,
): Promise<void> {
  await timing.gates.pass(step, name, signal);
  const durationMs = timing.durationMs(step, name);
  if (durationMs <= 0 || signal.aborted) return;
  if (contention !== undefined) return contention.carryOut(durationMs, signal);
  await sleep(timing.clock, durationMs, signal);
}

/** Lasts until the signal fires. */
export function aborted(signal: AbortSignal): Promise<void> {
  return untilAborted(new Promise(() => undefined), signal);
}

/** Says how the work ended, and when. */
export function end(making: Making, outcome: Making['outcome'], clock: Clock): void {
  making.outcome = outcome;
  making.endedMs = clock.now();
}

/**
 * The heavy part of a creation or start.
 *
 * @param giveUp When it fires the work is abandoned: this throws.
 * @throws {StatusError} Abandoned, or made to fail by an injected answer.
 */
export async function labour(
  timing: Timing,
  step: Step,
  making: Making,
  call: RawCall,
  injected: InjectedAnswer | undefined,
  giveUp: AbortSignal,
): Promise<void> {
  const noticed = (): void => {
    making.callerLeft = true;
  };
  call.signal.addEventListener('abort', noticed, { once: true });
  if (call.signal.aborted) noticed();
  try {
    await pass(timing, step, making.name, giveUp, timing.contention);
    if (injected?.hang === true) await aborted(giveUp);
    if (giveUp.aborted) throw new StatusError(grpc.status.CANCELLED, 'context canceled');
    throwInjected(injected);
  } finally {
    call.signal.removeEventListener('abort', noticed);
  }
}

/** The record of something that is begun now. */
export function newMaking(
  kind: Making['kind'],
  { request, metadata }: RawCall,
  identity: Pick<Making, 'id' | 'name' | 'podUid' | 'attempt'>,
  clock: Clock,
): Making {
  const beganMs = clock.now();
  return { kind, ...identity, request, metadata, beganMs, endedMs: undefined, outcome: 'under way', callerLeft: false };
}

/** The answer to a creation or start that is done, behind the gate of its answer. */
export async function reply(
  timing: Timing,
  step: Step,
  making: Making,
  call: RawCall,
  injected: InjectedAnswer | undefined,
  message: Buffer,
  killed: AbortSignal,
): Promise<RawReply> {
  await pass(timing, `${step}Answer`, making.name, killed);
  if (injected?.headers !== undefined) call.sendHeaders(injected.headers);
  return {
    code: grpc.status.OK,
    message,
    ...(injected?.trailers === undefined ? {} : { trailers: injected.trailers }),
  };
}

/** An injected message that takes the place of an answer. */
export class InjectedMessage extends Error {
  readonly bytes: Buffer;
  readonly trailers: grpc.Metadata;
  constructor(bytes: Buffer, trailers = new grpc.Metadata()) {
    super('injected');
    this.bytes = bytes;
    this.trailers = trailers;
  }
}

/** @throws {StatusError | InjectedMessage} Where the injected answer replaces the runtime's own. */
export function throwInjected(injected: InjectedAnswer | undefined): void {
  if (injected?.code !== undefined && injected.code !== grpc.status.OK) {
    throw new StatusError(injected.code, injected.details ?? '', injected.trailers);
  }
  if (injected?.message !== undefined) throw new InjectedMessage(injected.message, injected.trailers);
}
