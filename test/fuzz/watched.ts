/** What an oracle sees of a router: calls, requests and who keeps the protocol. */
import type { Status, TakenCall } from '../../src/proxy/taken-call.js';

export type Decision = 'pass' | 'observe' | 'report' | 'take';

const decisions: readonly Decision[] = ['take', 'observe', 'report'];

/** `/take/<stream id>`, `/observe/<stream id>`, `/report/<stream id>`; the rest is passed. */
export function decisionOf(path: string): Decision {
  return decisions.find((decision) => path.startsWith(`/${decision}`)) ?? 'pass';
}

/** A taken call and what its handler did with it. */
export interface CallRecord {
  readonly call: TakenCall;
  readonly streamId: number;
  readonly sent: Buffer[];
  pendingSends: number;
  status: Status | undefined;
  /** What `end` came to. */
  delivered: boolean | undefined;
  aborts: number;
}

/** What the oracle may ask of the world. */
export interface Watched {
  readonly calls: readonly CallRecord[];
  readonly nowMs: number;
  readonly pendingTimers: number;
  readonly activeStreams: number;
  readonly heldBytes: number;
  /** Whether the downstream socket takes more. */
  readonly isReady: boolean;
  /** Whether reports are taken, now that their answers begin. */
  readonly isHiding: boolean;
  /** PINGs of a peer that may wait for their answers. */
  readonly mostPings: number;
  /** How long a request may take to come in. */
  readonly halfRequestMs: number;
}

/** Which peers keep the protocol. */
export interface Validity {
  readonly client: boolean;
  readonly runtime: boolean;
}

export interface Breach {
  readonly rule: string;
  readonly detail: string;
}

/** First octets of a proof of delivery (determinism.ts). */
export const proofPrefix = 'a7a7a7a7';

/** What a client asked for. */
export interface Request {
  readonly decision: Decision;
  readonly headers: ReadonlyMap<string, string>;
  /** A pseudo-header field comes twice: Holdfast resets the stream, and the runtime sees nothing of it. */
  readonly malformed: boolean;
  /** The client's last frame of it came then; the first: when it began. */
  readonly begunMs: number;
  lastMs: number;
  observed: boolean;
  /** A frame of the runtime was under way on its stream when it was observed: that may be the answer, which is early then. */
  observedInBetween: boolean;
  /** What was said of how the call ended. */
  readonly ends: boolean[];
  /** The response was complete before the request. */
  answeredEarly: boolean;
  /** Forwarded, and answered by Holdfast all the same. */
  takenLate: boolean;
  /** Open when the runtime's connection ended: Holdfast ends its response. */
  orphaned: boolean;
}
