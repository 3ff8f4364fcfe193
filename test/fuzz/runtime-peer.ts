/**
 * The runtime of a case: answers the streams it sees, in every shape a gRPC server's answer has, and polices PINGs as
 * grpc-go's servers do.
 */

import type { Random } from '../../src/harness/random.js';
import { ErrorCode, Flag, FrameType, frame, goAwayFrame, max31, Setting } from '../../src/proxy/http2/frames.js';
import type { HeaderField } from '../../src/proxy/http2/hpack.js';
import { PingPolice } from '../proxy/http2/model/grpc-go.js';
import { type Frame, fields, message } from '../proxy/http2/wire.js';
import { Peer, type PeerStream, type Settings } from './peer.js';

export class RuntimePeer extends Peer {
  #highestId = 0;
  #goAway = max31;
  readonly #police = new PingPolice();
  /** It has cut its client off: what is written goes out, nothing more is. */
  isClosing = false;

  settings(random: Random): Settings {
    const values: [number, number][] = [];
    if (random.chance(0.5)) values.push([Setting.initialWindowSize, random.pick([0, 10, 1000, 65_535, 100_000])]);
    if (random.chance(0.3)) values.push([Setting.headerTableSize, random.pick([0, 100, 4096, 8192])]);
    if (random.chance(0.3)) values.push([Setting.maxFrameSize, random.pick([16_384, 16_384, 30_000])]);
    if (random.chance(0.2)) values.push([3, 100]);
    return values;
  }

  protected override gotHeaders({ streamId }: Frame): void {
    if (streamId <= this.#highestId || streamId > this.#goAway) return;
    this.#highestId = streamId;
    this.streams.set(streamId, {
      id: streamId,
      path: '',
      window: this.initialWindow,
      granted: this.ownInitialWindow,
      ended: false,
      otherEnded: false,
      over: false,
      body: Buffer.alloc(0),
      headersSent: false,
    });
  }

  override write(bytes: Buffer, random: Random): void {
    if (!this.isClosing) super.write(bytes, random);
  }

  override sendHeaders(stream: PeerStream, fields: readonly HeaderField[], endStream: boolean, random: Random): void {
    super.sendHeaders(stream, fields, endStream, random);
    this.#police.sent();
  }

  override sendData(stream: PeerStream, endBehind: boolean, random: Random): boolean {
    const sent = super.sendData(stream, endBehind, random);
    if (sent) this.#police.sent();
    return sent;
  }

  protected override gotPing(random: Random): void {
    if (!this.#police.received()) return;
    this.write(goAwayFrame(this.#highestId, ErrorCode.enhanceYourCalm, 'too_many_pings'), random);
    this.isClosing = true;
  }

  /** The next part of an answer, whose messages are of up to `maxBytes`. */
  respond(stream: PeerStream, maxBytes: number, random: Random): void {
    const status = { 'grpc-status': `${random.pick([0, 0, 5])}`, 'x-trail': `t${random.below(3)}` };
    if (!stream.headersSent) {
      const head = { ':status': '200', 'content-type': 'application/grpc', 'x-head': `h${random.below(3)}` };
      const only = random.chance(0.2);
      this.sendHeaders(stream, fields(only ? { ...head, ...status } : head), only, random);
      return;
    }
    if (stream.body.length === 0 && random.chance(0.6)) {
      stream.body = message(Buffer.alloc(random.size(maxBytes), random.bytes(7)));
    }
    if (stream.body.length > 0) {
      this.sendData(stream, random.chance(0.05), random);
    } else if (random.chance(0.6)) {
      this.sendHeaders(stream, fields(status), true, random);
    }
  }

  sendGoAway(random: Random): void {
    const last = random.chance(0.4) ? max31 : this.#highestId;
    this.#goAway = Math.min(this.#goAway, last);
    this.write(goAwayFrame(this.#goAway, random.pick([0, 0, 2]), random.chance(0.3) ? 'bye' : ''), random);
  }

  oddity(random: Random): void {
    const { id } = random.pick([...this.streams.values(), { id: 0 }]);
    if (id !== 0 && random.chance(0.3)) this.write(frame(FrameType.priority, 0, id, Buffer.alloc(5)), random);
    else this.write(frame(random.between(0x20, 0xff), random.below(256), id, random.bytes(random.size(300))), random);
  }

  /** Only where this peer is a broken one: pushes, and answers on streams it was not shown. */
  misbehave(random: Random): void {
    const id = random.between(0, 60);
    const block = this.encoder.encode(fields({ ':status': '200', 'x-odd': `o${random.below(3)}` }), random);
    const kind = random.below(4);
    if (kind === 0) {
      const promised = Buffer.concat([Buffer.from([0, 0, 0, 2]), block]);
      this.write(frame(FrameType.pushPromise, random.pick([0, Flag.endHeaders]), id, promised), random);
    } else if (kind === 1) {
      this.write(frame(FrameType.headers, random.pick([0, 1, 4, 5]), id, block), random);
    } else if (kind === 2) {
      this.write(frame(FrameType.data, random.pick([0, 1, 8, 9]), id, random.bytes(random.size(2000))), random);
    } else {
      this.write(frame(FrameType.rstStream, 0, id, Buffer.alloc(4)), random);
    }
  }
}
