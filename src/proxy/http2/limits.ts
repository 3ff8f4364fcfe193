/** What one downstream connection may cost; beyond it the connection or the stream ends, or its peer is read no further. */
export interface Limits {
  /** One header block, HEADERS and CONTINUATION frames together. */
  readonly headerBlockBytes: number;
  /** One decoded header list, each field counted as name + value + 32 (RFC 9113 section 6.5.2). */
  readonly headerListBytes: number;
  readonly continuationFrames: number;
  /** Streams open at the runtime. */
  readonly passedStreams: number;
  /** Taken streams that are open or wait for their proof of delivery. */
  readonly takenStreams: number;
  readonly takenResetsPerSecond: number;
  readonly settingsPerSecond: number;
  readonly pingsPerSecond: number;
  /** SETTINGS of the client that the runtime has not acknowledged. */
  readonly unacknowledgedSettings: number;
  /** One request message of a taken stream, before and after decompression. */
  readonly requestBytes: number;
  /** Answers of taken streams that the client's windows have not let go. */
  readonly unsentAnswerBytes: number;
  /** Request message of an observed stream; a larger one is forwarded unread. */
  readonly observedRequestBytes: number;
  /** Response frames of the runtime held back for flow control before it is read no further. */
  readonly heldBytes: number;
  /** Output waiting for a downstream that does not read, before it is read no further. */
  readonly unreadOutputBytes: number;
  /** What either peer may send before the other is connected, before it is read no further. */
  readonly earlyBytes: number;
  /** How long a peer may take nothing of what waits for it before that is reported. */
  readonly stallMs: number;
  /** How long a connection that is over may take to get its last bytes out. */
  readonly lingerMs: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;

export const defaultLimits: Limits = {
  // The metadata of a CRI call is under 1 KiB; 16 full frames of the default size leave room for anything sane.
  headerBlockBytes: 256 * KiB,
  // One octet of a block can stand for a table entry of 4 KiB.
  headerListBytes: MiB,
  continuationFrames: 64,
  // A runtime may set no limit. Of a kubelet there are some hundred.
  passedStreams: 100_000,
  // A node runs hundreds of pods; each has one creation or start in flight.
  takenStreams: 4096,
  // Above what the deadlines of a whole node's pods, all falling into one second, can cause.
  takenResetsPerSecond: 2000,
  // A client sends one at first and one for each doubling of its windows.
  settingsPerSecond: 100,
  // grpc-go's bandwidth estimator sends one per round trip, which takes some 100 µs on a unix socket.
  pingsPerSecond: 50_000,
  unacknowledgedSettings: 100,
  // The largest message a runtime takes by default (CRI-O's grpc_max_recv_msg_size; containerd's is 16 MiB).
  requestBytes: 80 * MiB,
  // Four of the largest lists that a kubelet takes.
  unsentAnswerBytes: 64 * MiB,
  observedRequestBytes: MiB,
  heldBytes: MiB,
  unreadOutputBytes: MiB,
  earlyBytes: 64 * KiB,
  stallMs: 30_000,
  lingerMs: 5000,
};

/** Bytes that may be in memory at once. */
export class ByteBudget {
  readonly #max: number;
  #spent = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get isSpent(): boolean {
    return this.#spent >= this.#max;
  }

  /** @returns false, and nothing is spent, where there are not as many left of this part of the budget. */
  take(bytes: number, part = 1): boolean {
    if (this.#spent + bytes > this.#max * part) return false;
    this.#spent += bytes;
    return true;
  }

  /** Spends them whether or not there are as many left. */
  spend(bytes: number): void {
    this.#spent += bytes;
  }

  giveBack(bytes: number): void {
    this.#spent -= bytes;
  }
}

/** What one connection holds of a budget. The last quarter is for those that hold little: one greedy client costs the others nothing. */
export class BudgetShare {
  readonly #budget: ByteBudget;
  #held = 0;

  constructor(budget: ByteBudget) {
    this.#budget = budget;
  }

  /** @returns false, and nothing is taken, where there are not as many left for this connection. */
  take(bytes: number): boolean {
    const isGreedy = this.#held + bytes > modestBytes;
    if (!this.#budget.take(bytes, isGreedy ? 0.75 : 1)) return false;
    this.#held += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#held -= bytes;
    this.#budget.giveBack(bytes);
  }
}

/** More than the requests of a kubelet ever take at once. */
const modestBytes = MiB;

/** What all connections together may keep in memory. */
export interface Budgets {
  /** Requests of taken calls, from their first byte to their stream's end, and of observed ones while they are read. */
  readonly requests: ByteBudget;
  /** Answers of taken calls that wait for the windows of their clients. */
  readonly answers: ByteBudget;
}

export function newBudgets(): Budgets {
  return { requests: new ByteBudget(256 * MiB), answers: new ByteBudget(256 * MiB) };
}

/** Whether something happens more than `perSecond` times in a second of the given clock (fixed windows). */
export class RateLimit {
  readonly #perSecond: number;
  #sinceMs = Number.NEGATIVE_INFINITY;
  #count = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** @returns Whether this one is still within the limit. */
  admit(nowMs: number): boolean {
    if (nowMs - this.#sinceMs >= 1000) {
      this.#sinceMs = nowMs;
      this.#count = 0;
    }
    this.#count += 1;
    return this.#count <= this.#perSecond;
  }
}
