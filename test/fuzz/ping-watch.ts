/**
 * The PINGs of both peers. Each is answered on its own hop, once and in order, and what a peer says of PINGs reaches no
 * other: neither its PINGs nor its ACKs.
 */
import { Flag, FrameType } from '../../src/proxy/http2/frames.js';
import type { Frame } from '../proxy/http2/wire.js';
import { proofPrefix } from './watched.js';

const pingBytes = 8;

function isPing({ type }: Frame): boolean {
  return type === FrameType.ping;
}

function isAck({ flags }: Frame): boolean {
  return (flags & Flag.ack) !== 0;
}

type Expect = (holds: boolean, rule: string, detail: () => string) => void;

export class PingWatch {
  readonly #expect: Expect;
  /** PINGs not answered yet, oldest first. */
  readonly #ofClient: string[] = [];
  readonly #ofRuntime: string[] = [];

  constructor(expect: Expect) {
    this.#expect = expect;
  }

  fromClient(frame: Frame): void {
    asked(this.#ofClient, frame);
  }

  fromRuntime(frame: Frame): void {
    asked(this.#ofRuntime, frame);
  }

  toRuntime(frame: Frame): void {
    if (!isPing(frame)) return;
    if (isAck(frame)) this.#answered('runtime', this.#ofRuntime, frame);
    else this.#expect(false, 'no PING reaches the runtime', () => frame.payload.toString('hex'));
  }

  toClient(frame: Frame): void {
    if (!isPing(frame)) return;
    const payload = frame.payload.toString('hex');
    if (isAck(frame)) this.#answered('client', this.#ofClient, frame);
    else this.#expect(payload.startsWith(proofPrefix), 'no PING of the runtime reaches the client', () => payload);
  }

  #answered(peer: string, due: string[], { payload }: Frame): void {
    const got = payload.toString('hex');
    const next = due.shift();
    this.#expect(got === next, `a PING of the ${peer} is answered once and in order`, () => {
      return `ACK ${got}, due is ${next ?? 'none'}`;
    });
  }

  /** Those that wait for a frame boundary, or a socket, take memory. */
  allKept(limit: number): void {
    const most = Math.max(this.#ofClient.length, this.#ofRuntime.length);
    this.#expect(most <= limit, 'no more PINGs are kept than the limit says', () => `${most} of ${limit}`);
  }

  /** Frames for that peer could be written: there is none on its way. */
  allAnswered(peer: 'client' | 'runtime'): void {
    const due = peer === 'client' ? this.#ofClient : this.#ofRuntime;
    this.#expect(due.length === 0, `a PING of the ${peer} is answered at the next frame boundary`, () => due.join());
  }
}

/** Others than these are no PINGs (RFC 9113 section 6.7). */
function asked(due: string[], frame: Frame): void {
  const { streamId, payload } = frame;
  if (!isPing(frame) || isAck(frame) || streamId !== 0 || payload.length !== pingBytes) return;
  due.push(payload.toString('hex'));
}
