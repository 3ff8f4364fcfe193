/**
 * The client of a plan: opens its streams as the backend's limit allows, sends their requests and cancels some. Of PINGs it gets
 * Holdfast's own, which stand behind the answers of taken calls.
 */
import { connectionPreface, FrameType, frame } from '../../../../src/proxy/http2/frames.js';
import { type Action, Endpoint, type Stream, unknownType } from './endpoint.js';
import { type PeerPlan, requestBody, requestFields, type StreamPlan } from './plan.js';

/** The stream id in the payload of a PING behind an answer. */
const proofStreamAt = 4;

export class Client extends Endpoint {
  readonly #plans: readonly StreamPlan[];
  #next = 0;
  readonly #byIndex: Stream[] = [];

  /** @param plans May grow while it runs. */
  constructor(plan: PeerPlan, plans: readonly StreamPlan[], routed: boolean, write: (bytes: Buffer) => void) {
    super(plan, routed, write);
    this.#plans = plans;
  }

  /** In the order of their plans. */
  get opening(): readonly Stream[] {
    return this.#byIndex;
  }

  override get isIdle(): boolean {
    return super.isIdle && this.#next === this.#plans.length;
  }

  protected override preface(): void {
    this.write(connectionPreface);
  }

  protected override openings(): Action[] {
    const actions: Action[] = [];
    const open = [...this.streams.values()].filter(({ isClosed }) => !isClosed);
    if (this.#next < this.#plans.length && open.length < this.peerMaxConcurrent) actions.push(() => this.#open());
    for (const stream of open) {
      const cancel = this.#plans[stream.index]?.cancel;
      if (cancel === undefined || stream.frames <= cancel.after) continue;
      actions.push(() => this.resetStream(stream, cancel.code));
    }
    return actions;
  }

  #open(): void {
    const index = this.#next;
    const plan = this.#plans[index];
    if (plan === undefined) return;
    this.#next += 1;
    const stream = this.opened(2 * index + 1, index);
    this.#byIndex.push(stream);
    const { request } = plan;
    const body = requestBody(plan, index);
    const endsAtOnce = request.end === 'headers' && body.length === 0;
    const { outgoing } = stream;
    outgoing.push({ kind: 'headers', fields: requestFields(plan, index), shape: request.block, end: endsAtOnce });
    // Now: a stream with a higher id would close this one.
    this.sending(stream)?.();
    if (endsAtOnce) return;
    if (request.unknown) {
      const priority = frame(FrameType.priority, 0, stream.id, Buffer.from([0, 0, 0, 0, 7]));
      const unknown = frame(unknownType, 0x5, stream.id, Buffer.from(`from client ${index}`));
      outgoing.push({ kind: 'frame', bytes: Buffer.concat([priority, unknown]) });
    }
    const last = request.end === 'data' || request.end === 'headers';
    outgoing.push({ kind: 'data', rest: body, shape: request.body, end: last });
    if (request.end === 'empty data') {
      outgoing.push({ kind: 'data', rest: Buffer.alloc(0), shape: request.body, end: true });
    } else if (!last) {
      outgoing.push({ kind: 'headers', fields: request.trailers, shape: request.block, end: true });
    }
  }

  protected override unknownStream(id: number, type: number): Stream | undefined {
    return this.fail(`frame type ${type} on idle stream ${id}`);
  }

  protected override receivedOn(): void {
    if (this.routed && this.tableBytes > 0) this.fail(`a header table of ${this.tableBytes} bytes is in use`);
  }

  protected override receivedPing(payload: Buffer): void {
    if (!this.routed) return;
    const stream = this.streams.get(payload.readUInt32BE(proofStreamAt));
    const isProof = stream?.peerEnded === true && this.#plans[stream.index]?.kind === 'take';
    if (!isProof) this.fail(`PING ${payload.toString('hex')} of the backend`);
  }
}
