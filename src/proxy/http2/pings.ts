/**
 * PINGs of one downstream connection and its upstream connection: each is answered on the hop it came on and none is forwarded.
 * A runtime counts what a client sends against what it has sent itself (grpc-go closes the connection at the third PING too many:
 * internal/transport/http2_server.go handlePing), and of the answers that Holdfast gives it knows nothing. Holdfast's own PINGs
 * prove that an answer has arrived; they go to the client only. Writes no frame itself: who owns a direction fetches what is due.
 */
import { randomBytes } from 'node:crypto';
import { Flag, FrameType, frame } from './frames.js';
import { type Limits, RateLimit } from './limits.js';
import type { TurnClock } from './turn-clock.js';

const proofPrefixBytes = 4;

/** What the other end of one hop has asked and not been answered yet. */
class Hop {
  readonly #clock: TurnClock;
  readonly #limits: Limits;
  readonly #rate: RateLimit;
  #due: Buffer[] = [];

  constructor(clock: TurnClock, limits: Limits) {
    this.#clock = clock;
    this.#limits = limits;
    this.#rate = new RateLimit(limits.pingsPerSecond);
  }

  /** @returns Whether the peer is within its limits. */
  asked(payload: Buffer): boolean {
    if (this.#due.length >= this.#limits.unansweredPings || !this.#rate.admit(this.#clock.now())) return false;
    this.#due.push(frame(FrameType.ping, Flag.ack, 0, payload));
    return true;
  }

  get isDue(): boolean {
    return this.#due.length > 0;
  }

  takeDue(): readonly Buffer[] {
    const due = this.#due;
    this.#due = [];
    return due;
  }
}

export class Pings {
  /** Of the client, to be answered towards it. */
  readonly client: Hop;
  /** Of the runtime, to be answered towards it. */
  readonly runtime: Hop;
  /** Random, so that an ACK nobody asked for proves nothing; the stream id follows. */
  readonly #proofPrefix = randomBytes(proofPrefixBytes);

  constructor(clock: TurnClock, limits: Limits) {
    this.client = new Hop(clock, limits);
    this.runtime = new Hop(clock, limits);
  }

  /** The PING that goes behind the answer to a stream. */
  proof(streamId: number): Buffer {
    const payload = Buffer.alloc(proofPrefixBytes + 4);
    this.#proofPrefix.copy(payload);
    payload.writeUInt32BE(streamId, proofPrefixBytes);
    return frame(FrameType.ping, 0, 0, payload);
  }

  /** @returns The stream whose answer an ACK of the client proves to have arrived; undefined where it proves nothing. */
  proven(payload: Buffer): number | undefined {
    const isProof = payload.compare(this.#proofPrefix, 0, proofPrefixBytes, 0, proofPrefixBytes) === 0;
    return isProof ? payload.readUInt32BE(proofPrefixBytes) : undefined;
  }
}
