/**
 * HTTP/2 frames as bytes (RFC 9113 sections 4 and 6): the constants, and writers for the frames Holdfast makes itself.
 * It knows no connection and keeps no state.
 */

/** What a client sends first (RFC 9113 section 3.4). */
export const connectionPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export const frameHeaderBytes = 9;

export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const Flag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const ErrorCode = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  enhanceYourCalm: 11,
} as const;

export const Setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
} as const;

/** Values in force until SETTINGS say otherwise (RFC 9113 sections 6.5.2 and 6.9.2). */
export const initialSettings = { headerTableSize: 4096, windowSize: 65_535, maxFrameSize: 16_384 } as const;

/** The largest window and stream id (31 bits). */
export const max31 = 0x7fffffff;

/**
 * Payloads of the frames Holdfast writes stay within the smallest SETTINGS_MAX_FRAME_SIZE there is, so it need not ask.
 */
export const ownFramePayloadBytes = initialSettings.maxFrameSize;

/** One octet that is there: without the checks of `readUInt8`, which cost more than the rest of a frame header. */
export function octet(bytes: Buffer, at: number): number {
  return bytes[at] as number;
}

/** 31 bits behind a reserved one, as of stream ids and window increments. */
export function readUInt31(bytes: Buffer, at: number): number {
  return (
    ((octet(bytes, at) & 0x7f) << 24) |
    (octet(bytes, at + 1) << 16) |
    (octet(bytes, at + 2) << 8) |
    octet(bytes, at + 3)
  );
}

export function isClientStream(streamId: number): boolean {
  return (streamId & 1) === 1;
}

export function writeFrameHeader(target: Buffer, length: number, type: number, flags: number, streamId: number): void {
  target[0] = length >>> 16;
  target[1] = length >>> 8;
  target[2] = length;
  target[3] = type;
  target[4] = flags;
  target[5] = streamId >>> 24;
  target[6] = streamId >>> 16;
  target[7] = streamId >>> 8;
  target[8] = streamId;
}

/** One whole frame; the payload is copied. */
export function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
  writeFrameHeader(bytes, payload.length, type, flags, streamId);
  payload.copy(bytes, frameHeaderBytes);
  return bytes;
}

export function windowUpdateFrame(streamId: number, increment: number): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + 4);
  writeFrameHeader(bytes, 4, FrameType.windowUpdate, 0, streamId);
  bytes.writeUInt32BE(increment, frameHeaderBytes);
  return bytes;
}

export function rstStreamFrame(streamId: number, code: number): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + 4);
  writeFrameHeader(bytes, 4, FrameType.rstStream, 0, streamId);
  bytes.writeUInt32BE(code, frameHeaderBytes);
  return bytes;
}

/** @param reason Goes into the debug data, for the peer's log. */
export function goAwayFrame(lastStreamId: number, code: number, reason = ''): Buffer {
  const payload = Buffer.concat([Buffer.allocUnsafe(8), Buffer.from(reason)]);
  payload.writeUInt32BE(lastStreamId, 0);
  payload.writeUInt32BE(code, 4);
  return frame(FrameType.goAway, 0, 0, payload);
}

/**
 * A header block as HEADERS and as many CONTINUATION frames as it takes.
 *
 * @param priority The 5 octets of RFC 9113 section 6.2 (exclusive bit, dependency, weight) to carry along.
 */
export function headersFrames(streamId: number, block: Buffer, endStream: boolean, priority?: Buffer): Buffer {
  const first = priority === undefined ? block : Buffer.concat([priority, block]);
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < first.length; at += ownFramePayloadBytes) {
    const payload = first.subarray(at, at + ownFramePayloadBytes);
    let flags = at + ownFramePayloadBytes >= first.length ? Flag.endHeaders : 0;
    if (at === 0) flags |= (endStream ? Flag.endStream : 0) | (priority === undefined ? 0 : Flag.priority);
    frames.push(frame(at === 0 ? FrameType.headers : FrameType.continuation, flags, streamId, payload));
  }
  return frames.length === 1 && frames[0] !== undefined ? frames[0] : Buffer.concat(frames);
}

/** Calls `visit` for each entry of a SETTINGS payload, whose length is a multiple of 6. */
export function forEachSetting(payload: Buffer, visit: (id: number, value: number, at: number) => void): void {
  for (let at = 0; at + 6 <= payload.length; at += 6) visit(payload.readUInt16BE(at), payload.readUInt32BE(at + 2), at);
}

/**
 * DATA and HEADERS payloads without padding (RFC 9113 section 6.1); undefined where the padding is longer than the
 * frame.
 */
export function withoutPadding(flags: number, payload: Buffer): Buffer | undefined {
  if ((flags & Flag.padded) === 0) return payload;
  const padding = payload[0];
  if (padding === undefined || padding >= payload.length) return undefined;
  return payload.subarray(1, payload.length - padding);
}
