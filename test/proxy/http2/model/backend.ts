/** The backend of a plan: finds the plan of each stream by its path, answers as it says, and polices PINGs as grpc-go does. */
import { connectionPreface, FrameType, frame } from '../../../../src/proxy/http2/frames.js';
import { Endpoint, type Stream, unknownType } from './endpoint.js';
import { PingPolice } from './grpc-go.js';
import { answerOf, indexOf, type PeerPlan, requestBody, type StreamPlan } from './plan.js';

export class Backend extends Endpoint {
  readonly #plans: readonly StreamPlan[];
  readonly #police = new PingPolice();
  #preface = Buffer.alloc(0);
  #highestId = 0;
  readonly #answered = new Set<Stream>();
  readonly #indexes = new Map<Stream, number>();

  /** @param routed Holdfast is in between: streams that it takes must not come, and no PING. */
  constructor(plan: PeerPlan, plans: readonly StreamPlan[], routed: boolean, write: (bytes: Buffer) => void) {
    super(plan, routed, write);
    this.#plans = plans;
  }

  /** By the index of their plans. */
  get served(): ReadonlyMap<number, Stream> {
    return new Map([...this.#indexes].map(([stream, index]) => [index, stream]));
  }

  override receive(bytes: Buffer): void {
    const missing = connectionPreface.length - this.#preface.length;
    if (missing > 0) {
      this.#preface = Buffer.concat([this.#preface, bytes.subarray(0, missing)]);
      if (!connectionPreface.subarray(0, this.#preface.length).equals(this.#preface)) this.fail('no preface');
    }
    super.receive(bytes.subarray(missing > 0 ? missing : 0));
  }

  protected override unknownStream(id: number, type: number): Stream | undefined {
    if (type !== FrameType.headers || id % 2 === 0 || id <= this.#highestId) {
      this.fail(`frame type ${type} on stream ${id}, which is idle or was skipped`);
    }
    this.#highestId = id;
    const open = [...this.streams.values()].filter(({ isClosed }) => !isClosed).length;
    if (open >= this.ownMaxConcurrent) this.fail(`stream ${id} is one too many`);
    return this.opened(id, -1);
  }

  protected override receivedOn(stream: Stream): void {
    if (this.routed && !this.peerTableNamed) this.fail('nothing was said of the header table');
    const { received } = stream;
    let index = this.#indexes.get(stream);
    if (index === undefined) {
      index = indexOf(received.headers?.find(({ name }) => name === ':path')?.value ?? '');
      this.#indexes.set(stream, index);
    }
    const plan = this.#plans[index];
    if (plan === undefined || (this.routed && plan.kind === 'take'))
      this.fail(`stream ${stream.id} is not the backend's`);
    const due = {
      headers: true,
      half: received.ended || received.bytes * 2 >= requestBody(plan, index).length,
      end: received.ended,
    };
    if (this.#answered.has(stream) || stream.isClosed || !due[plan.response.at]) return;
    this.#answered.add(stream);
    this.#answer(stream, plan, index);
  }

  protected override sentContent(): void {
    this.#police.sent();
  }

  protected override receivedPing(payload: Buffer): void {
    if (this.routed) this.fail(`PING ${payload.toString('hex')}`);
    if (this.#police.received()) this.fail('too_many_pings');
  }

  #answer(stream: Stream, plan: StreamPlan, index: number): void {
    const { response } = plan;
    const { headers, body, trailers } = answerOf(plan, index);
    const { outgoing } = stream;
    const bodiless = body.length === 0 && trailers === undefined && response.reset === undefined;
    outgoing.push({ kind: 'headers', fields: headers, shape: response.block, end: bodiless });
    if (!bodiless) {
      if (response.unknown) {
        outgoing.push({
          kind: 'frame',
          bytes: frame(unknownType, 0x5, stream.id, Buffer.from(`from backend ${index}`)),
        });
      }
      if (response.reset !== undefined) {
        const { code, after } = response.reset;
        outgoing.push(
          { kind: 'data', rest: body.subarray(0, after), shape: response.body, end: false },
          { kind: 'reset', code },
        );
        return;
      }
      const last = response.end === 'data';
      outgoing.push({ kind: 'data', rest: body, shape: response.body, end: last });
      if (response.end === 'empty data') {
        outgoing.push({ kind: 'data', rest: Buffer.alloc(0), shape: response.body, end: true });
      } else if (trailers !== undefined) {
        outgoing.push({ kind: 'headers', fields: trailers, shape: response.block, end: true });
      }
    }
    // Has no effect where the request has ended by then.
    if (response.stop) outgoing.push({ kind: 'reset', code: 0 });
  }
}
