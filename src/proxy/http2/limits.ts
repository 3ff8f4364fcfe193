/** What one downstream connection may cost; beyond it the connection or the stream ends, or its peer is read no further. */
export interface Limits {
  /** One header block, HEADERS and CONTINUATION frames together. */
  readonly headerBlockBytes: number;
  /** One decoded header list, each field counted as name + value + 32 (RFC 9113 section 6.5.2). */
  readonly headerListBytes: number;
  readonly continuationFrames: number;
  /** By how much the header blocks of a connection that are written anew for the runtime may be longer than they came. */
  readonly rewrittenHeaderBytes: number;
  /** Streams open at the runtime. */
  readonly passedStreams: number;
  /** Taken streams that are open or wait for their proof of delivery. */
  readonly takenStreams: number;
  readonly takenResetsPerSecond: number;
  readonly settingsPerSecond: number;
  readonly pingsPerSecond: number;
  /** PINGs of either peer whose answers could not be written yet. */
  readonly unansweredPings: number;
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
  /** What a client may send while the runtime is not there, before it is read no further. */
  readonly earlyBytes: number;
  /** How long the runtime's SETTINGS are waited for before the client gets Holdfast's own. */
  readonly settingsWaitMs: number;
  /** How long a request of a taken stream may take to come in. */
  readonly halfRequestMs: number;
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
  // Only what a client sends before it has read that no header table is to be used: one octet of it can stand for 4 KiB.
  rewrittenHeaderBytes: MiB,
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
  // As in nghttp2 (NGHTTP2_DEFAULT_MAX_OBQ_FLOOD_ITEM).
  unansweredPings: 1000,
  unacknowledgedSettings: 100,
  // The largest message a runtime takes by default (CRI-O's grpc_max_recv_msg_size; containerd's is 16 MiB).
  requestBytes: 80 * MiB,
  // Four of the largest lists that a kubelet takes.
  unsentAnswerBytes: 64 * MiB,
  observedRequestBytes: MiB,
  heldBytes: MiB,
  unreadOutputBytes: MiB,
  // As much DATA as a client may send before a runtime has granted more, and the headers of some hundred calls.
  earlyBytes: 128 * KiB,
  // grpc-go gives a connection up that has no SETTINGS after 5 s (kubelets since 1.35).
  settingsWaitMs: 1000,
  // A kubelet sends a request in one go.
  halfRequestMs: 20_000,
  stallMs: 30_000,
  lingerMs: 5000,
};

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
