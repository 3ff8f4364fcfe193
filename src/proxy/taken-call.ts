/**
 * The seam between the stream router and what Holdfast does with a call: everything a handler may know of a gRPC call that
 * was taken out of a downstream connection. Nothing here knows HTTP/2.
 */

/** Header fields in wire order; names in lower case, values of `-bin` names still in base64, as on the wire. */
export type Metadata = ReadonlyArray<readonly [name: string, value: string]>;

/** How a call ends. `code` is a gRPC status code; `trailers` is metadata beside grpc-status and grpc-message. */
export interface Status {
  readonly code: number;
  /** For people and for logs; percent-encoded where `wireMessage` does not say how. */
  readonly message: string;
  /** grpc-message as a runtime sent it, one character for each byte: it goes on as it came. */
  readonly wireMessage?: string | undefined;
  readonly trailers: Metadata;
}

/** Why `TakenCall.signal` fired (its `reason`): who left, or that the call has been answered. */
export type OverReason = 'deadline' | 'cancelled' | 'connection lost' | 'ended';

export interface TakenCall {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Custom metadata of the request, without pseudo headers and those reserved by gRPC. */
  readonly metadata: Metadata;
  /** When the downstream stops waiting, in ms of the injected clock; undefined where it sent no grpc-timeout. */
  readonly deadlineMs: number | undefined;
  /** The one request message, decompressed. */
  readonly request: Buffer;
  /** Fires when the call is over, for whatever reason: what is done for it upstream ends with it. */
  readonly signal: AbortSignal;
  /** Bytes of its answer that are kept for it before `send`, or (negative) no more: they count like those that wait to be sent. */
  keep(bytes: number): void;
  /** Sends response headers now rather than with the first message. */
  sendInitialMetadata(metadata: Metadata): void;
  /** Queues one response message; resolves when flow control has let it go (or the call is over), so that a stream can wait. */
  send(message: Buffer): Promise<void>;
  /**
   * Ends the call; at most once, later calls are ignored.
   *
   * @returns Whether the answer is known to have been got: true once the downstream has acknowledged a PING written behind
   * it, without having reset the stream and before its deadline; false otherwise. Never rejects.
   */
  end(status: Status): Promise<boolean>;
}
