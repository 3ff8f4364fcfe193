/**
 * A gRPC server in raw frames that costs next to nothing per connection and stream, and limits nothing: what a flood comes to
 * is decided by who stands before it. It keeps to the windows of its clients and grants all there is.
 */
import net from 'node:net';
import type { Test } from 'tap';
import {
  connectionPreface,
  Flag,
  FrameType,
  forEachSetting,
  initialSettings,
  max31,
  Setting,
} from '../../../src/proxy/http2/frames.js';
import { HpackDecoder } from '../../../src/proxy/http2/hpack.js';
import { data, type Frame, headers, ping, settings, settingsAck, windowUpdate } from '../../proxy/http2/wire.js';
import { FramePeer } from '../../support/frame-peer.js';

export interface RawService {
  /** @returns The response message with its prefix; undefined: there will be none. */
  answer(path: string): Buffer | undefined;
  /** Called at the request headers. */
  opened?(path: string, peer: FramePeer): void;
}

/**
 * Serves until the test ends.
 *
 * @param socket Absolute path.
 */
export async function startRawBackend(t: Test, socket: string, service: RawService): Promise<void> {
  const peers = new Set<FramePeer>();
  const server = net.createServer((accepted) => {
    const peer = new FramePeer(accepted, connectionPreface.length);
    peers.add(peer);
    void peer.closed.then(() => peers.delete(peer));
    serve(peer, service);
  });
  t.teardown(() => {
    server.close();
    for (const peer of peers) peer.destroy();
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
}

/** A response under way. */
interface Answer {
  window: number;
  /** Left of the message with its prefix. */
  rest: Buffer;
}

const trailers = { 'grpc-status': '0' };
const unwrittenBytes = 1024 * 1024;

function serve(peer: FramePeer, service: RawService): void {
  const decoder = new HpackDecoder({ maxTableBytes: initialSettings.headerTableSize, maxHeaderListBytes: max31 });
  const paths = new Map<number, string>();
  const answers = new Map<number, Answer>();
  let window: number = initialSettings.windowSize;
  let initialWindow: number = initialSettings.windowSize;
  let block: { flags: number; fragments: Buffer[] } | undefined;

  /** @returns Whether another stream may have its turn. */
  const send = (id: number, answer: Answer): boolean => {
    while (answer.rest.length > 0) {
      if (peer.unwrittenBytes >= unwrittenBytes) return false;
      const length = Math.min(answer.rest.length, answer.window, window, initialSettings.maxFrameSize);
      if (length <= 0) return window > 0;
      peer.write(data(id, answer.rest.subarray(0, length)));
      answer.rest = answer.rest.subarray(length);
      answer.window -= length;
      window -= length;
    }
    answers.delete(id);
    peer.write(headers(id, trailers, true));
    return true;
  };
  const sendAll = () => {
    if (window <= 0) return;
    for (const [id, answer] of answers) if (answer.window > 0 && !send(id, answer)) return;
  };
  const complete = (id: number) => {
    const path = paths.get(id);
    paths.delete(id);
    const found = path === undefined ? undefined : service.answer(path);
    if (found === undefined) return;
    const answer = { window: initialWindow, rest: found };
    answers.set(id, answer);
    peer.write(headers(id, { ':status': '200', 'content-type': 'application/grpc' }));
    send(id, answer);
  };
  const blockComplete = (id: number, flags: number, fragments: readonly Buffer[]) => {
    const { fields } = decoder.decode(Buffer.concat(fragments));
    const path = fields.find(({ name }) => name === ':path')?.value ?? '';
    paths.set(id, path);
    service.opened?.(path, peer);
    if ((flags & Flag.endStream) !== 0) complete(id);
  };
  const applySettings = (payload: Buffer) => {
    forEachSetting(payload, (id, value) => {
      if (id !== Setting.initialWindowSize) return;
      for (const answer of answers.values()) answer.window += value - initialWindow;
      initialWindow = value;
    });
    peer.write(settingsAck);
    sendAll();
  };
  const replenish = (id: number, increment: number) => {
    if (id === 0) {
      window += increment;
      sendAll();
      return;
    }
    const answer = answers.get(id);
    if (answer === undefined) return;
    answer.window += increment;
    send(id, answer);
  };

  peer.onDrain = sendAll;
  peer.onFrame = ({ type, flags, streamId, payload }: Frame) => {
    switch (type) {
      case FrameType.headers:
        if ((flags & Flag.endHeaders) !== 0) blockComplete(streamId, flags, [payload]);
        else block = { flags, fragments: [payload] };
        break;
      case FrameType.continuation:
        block?.fragments.push(payload);
        if ((flags & Flag.endHeaders) !== 0 && block !== undefined) {
          blockComplete(streamId, block.flags, block.fragments);
          block = undefined;
        }
        break;
      case FrameType.data:
        if ((flags & Flag.endStream) !== 0) complete(streamId);
        break;
      case FrameType.rstStream:
        paths.delete(streamId);
        answers.delete(streamId);
        break;
      case FrameType.settings:
        if ((flags & Flag.ack) === 0) applySettings(payload);
        break;
      case FrameType.ping:
        if ((flags & Flag.ack) === 0) peer.write(ping(payload, true));
        break;
      case FrameType.windowUpdate:
        replenish(streamId, payload.readUInt32BE(0));
    }
  };
  peer.write(settings([Setting.initialWindowSize, max31]), windowUpdate(0, max31 - initialSettings.windowSize));
}
