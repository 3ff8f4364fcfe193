/** What an oracle sees of a router: calls, requests and who keeps the protocol. */
import type { Status, TakenCall } from '../../src/proxy/taken-call.js';

export type Decision = 'pass' | 'observe' | 'take';

/** `/take/<stream id>`, `/observe/<stream id>`; the rest is passed. */
export function decisionOf(path: string): Decision {
  return path.startsWith('/take') ? 'take' : path.startsWith('/observe') ? 'observe' : 'pass';
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
  observed: boolean;
  /** The response was complete before the request. */
  answeredEarly: boolean;
}
