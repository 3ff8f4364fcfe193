/** Answers taken calls as the backend of the plan would have, and keeps what it was told. */
import type { RouterHandlers } from '../../../../src/proxy/http2/router.js';
import type { TakenCall } from '../../../../src/proxy/taken-call.js';
import { indexOf, messageBytes, type StreamPlan } from './plan.js';

export interface Taken {
  readonly call: TakenCall;
  /** What `end` resolved to. */
  delivered: boolean | undefined;
  /** Every `send` and `end` has resolved. */
  settled: boolean;
}

export class Handler implements RouterHandlers {
  readonly #plans: readonly StreamPlan[];
  readonly #waiting: Taken[] = [];
  /** By the index of their plans. */
  readonly taken = new Map<number, Taken>();
  readonly observed = new Map<number, Buffer[]>();
  readonly violations: string[] = [];

  constructor(plans: readonly StreamPlan[]) {
    this.#plans = plans;
  }

  decide(path: string): 'pass' | 'observe' | 'take' {
    return this.#plans[indexOf(path)]?.kind ?? 'pass';
  }

  observe(path: string, request: Buffer): undefined {
    const index = indexOf(path);
    this.observed.set(index, [...(this.observed.get(index) ?? []), Buffer.from(request)]);
  }

  take(call: TakenCall): void {
    const index = indexOf(call.path);
    if (this.taken.has(index)) this.violations.push(`${call.path} was taken twice`);
    const taken = { call, delivered: undefined, settled: false };
    this.taken.set(index, taken);
    this.#waiting.push(taken);
  }

  violation(peer: string, reason: string): void {
    this.violations.push(`${peer}: ${reason}`);
  }

  /** Answers of calls that have none yet, to be begun in any order. */
  actions(): (() => void)[] {
    return this.#waiting.map((taken, at) => () => {
      this.#waiting.splice(at, 1);
      void this.#answer(taken);
    });
  }

  async #answer(taken: Taken): Promise<void> {
    const { call } = taken;
    const index = indexOf(call.path);
    const response = this.#plans[index]?.response;
    if (response === undefined) return;
    const metadata = (fields: StreamPlan['response']['fields']): [string, string][] =>
      fields.map(({ name, value }) => [name, value]);
    if (response.head) call.sendInitialMetadata(metadata(response.fields));
    const sent: Promise<void>[] = [];
    for (const size of response.messages) {
      const sending = call.send(messageBytes(index, size));
      if (response.waits) await sending;
      sent.push(sending);
    }
    const { status: code, text: message, trailers } = response;
    taken.delivered = await call.end({ code, message, trailers: metadata(trailers) });
    await Promise.all(sent);
    taken.settled = true;
  }
}
