/** Runs a plan in this process, between pipes and step by step: client against backend, or with a router in between. */
import { connectionPreface } from '../../../../src/proxy/http2/frames.js';
import { defaultLimits } from '../../../../src/proxy/http2/limits.js';
import { Router } from '../../../../src/proxy/http2/router.js';
import { ManualClock, settle } from '../../../support/manual-clock.js';
import { Backend } from './backend.js';
import { Client } from './client.js';
import type { Endpoint } from './endpoint.js';
import { Handler } from './handler.js';
import { judge, judgeSame, judgeUnknown, type Outcome } from './outcome.js';
import { type Plan, plainStream, type StreamPlan } from './plan.js';

class Pipe {
  readonly #chunks: Buffer[] = [];
  readonly #deliver: (bytes: Buffer) => void;
  length = 0;

  constructor(deliver: (bytes: Buffer) => void) {
    this.#deliver = deliver;
  }

  readonly write = (bytes: Buffer): void => {
    this.#chunks.push(bytes);
    this.length += bytes.length;
  };

  deliver(most: number): void {
    const parts: Buffer[] = [];
    let bytes = 0;
    while (bytes < most) {
      const chunk = this.#chunks.shift();
      if (chunk === undefined) break;
      const part = chunk.subarray(0, most - bytes);
      if (part.length < chunk.length) this.#chunks.unshift(chunk.subarray(part.length));
      parts.push(part);
      bytes += part.length;
    }
    this.length -= bytes;
    this.#deliver(Buffer.concat(parts));
  }
}

/** From so many steps on, everything goes in larger pieces. */
const patience = 1500;
const mostSteps = 50_000;
/** Of the last transfers, which show that no window is lost. */
const mostLastBytes = 70_000;

interface Line {
  readonly pipe: Pipe;
  readonly reader: 'client' | 'backend' | 'router';
  readonly open?: () => boolean;
}

class Run {
  readonly #plan: Plan;
  readonly #plans: StreamPlan[];
  readonly #client: Client;
  readonly #backend: Backend;
  readonly #handler: Handler | undefined;
  readonly #router: Router | undefined;
  readonly #lines: readonly Line[];
  #steps = 0;

  constructor(plan: Plan, routed: boolean) {
    this.#plan = plan;
    this.#plans = [...plan.streams];
    const toClient = new Pipe((bytes) => this.#client.receive(bytes));
    const toBackend = new Pipe((bytes) => this.#backend.receive(bytes));
    if (!routed) {
      this.#client = new Client(plan.client, this.#plans, routed, toBackend.write);
      this.#backend = new Backend(plan.backend, this.#plans, routed, toClient.write);
      this.#lines = [
        { pipe: toClient, reader: 'client' },
        { pipe: toBackend, reader: 'backend' },
      ];
      return;
    }
    let full = false;
    const handler = new Handler(this.#plans);
    const router = new Router({
      handlers: handler,
      clock: new ManualClock(),
      limits: { ...defaultLimits, settingsPerSecond: 10_000 },
      output: {
        toDownstream: (bytes) => {
          toClient.write(bytes);
          full ||= toClient.length >= plan.highWater;
        },
        toUpstream: toBackend.write,
        downstreamReady: () => !full,
        flush: () => {},
        close: () => handler.violations.push('closed'),
      },
    });
    const fromClient = new Pipe(withoutPreface((bytes) => router.fromDownstream(bytes)));
    const fromBackend = new Pipe((bytes) => router.fromUpstream(bytes));
    toBackend.write(connectionPreface);
    this.#handler = handler;
    this.#router = router;
    this.#client = new Client(plan.client, this.#plans, routed, fromClient.write);
    this.#backend = new Backend(plan.backend, this.#plans, routed, fromBackend.write);
    this.#lines = [
      { pipe: toClient, reader: 'client' },
      { pipe: toBackend, reader: 'backend' },
      { pipe: fromClient, reader: 'router' },
      { pipe: fromBackend, reader: 'router', open: () => !full },
    ];
    this.#afterDelivery = () => {
      if (!full || toClient.length > 0) return;
      full = false;
      router.resume();
    };
  }

  #afterDelivery = (): void => {};

  #possible(): (() => void)[] {
    const isPaused = (who: Line['reader']): boolean =>
      this.#plan.pauses.some(
        (pause) => pause.who === who && pause.at <= this.#steps && this.#steps < pause.at + pause.steps,
      );
    const actions: (() => void)[] = [];
    for (const { pipe, reader, open } of this.#lines) {
      if (pipe.length === 0 || isPaused(reader) || open?.() === false) continue;
      actions.push(() => {
        const { chunks } = this.#plan;
        const most = (chunks[this.#steps % chunks.length] ?? 1) * (this.#client.hurries ? 256 : 1);
        pipe.deliver(most);
        this.#afterDelivery();
      });
    }
    for (const [who, peer] of [
      ['client', this.#client],
      ['backend', this.#backend],
    ] as const) {
      if (isPaused(who)) continue;
      for (const action of peer.actions()) actions.push(() => peer.act(action));
    }
    actions.push(...(this.#handler?.actions() ?? []));
    return actions;
  }

  #late(): (() => void)[] {
    return [this.#client, this.#backend].flatMap((peer) => peer.lateActions().map((action) => () => peer.act(action)));
  }

  /** Until nobody can do anything. */
  async #toTheEnd(): Promise<void> {
    for (;;) {
      let actions = this.#possible();
      if (actions.length === 0) {
        await settle();
        actions = this.#possible();
      }
      if (actions.length === 0) {
        const pausedUntil = Math.max(0, ...this.#plan.pauses.map(({ at, steps }) => at + steps));
        if (this.#steps < pausedUntil) {
          this.#steps = pausedUntil;
          continue;
        }
        actions = this.#late();
        if (actions.length === 0) return;
      }
      const { schedule } = this.#plan;
      const pick = (schedule[this.#steps % schedule.length] ?? 0) + this.#steps;
      actions[pick % actions.length]?.();
      this.#steps += 1;
      if (this.#steps > patience) this.#client.hurries = this.#backend.hurries = true;
      if (this.#steps > mostSteps)
        throw new Error(`no end in sight: ${this.#client.describe()}; ${this.#backend.describe()}`);
      // Promises of the router and the handler go on.
      await undefined;
    }
  }

  async outcome(): Promise<Outcome> {
    await this.#toTheEnd();
    this.#checkAllOver('the plan');
    await this.#restore();
    judgeUnknown(this.#plan, this.#client, this.#backend);
    for (const kind of ['pass', 'take'] as const) await this.#useWholeWindows(kind);
    const { taken, observed } = this.#handler ?? {};
    const backend = [...this.#backend.served].map(([index, stream]) => [index, stream] as const);
    const outcome = { client: this.#client.opening, backend: new Map(backend), taken, observed };
    judge(outcome, this.#plans);
    return outcome;
  }

  /** No window is granted on the way, so all of it must be there. */
  async #useWholeWindows(kind: 'pass' | 'take'): Promise<void> {
    for (const peer of [this.#client, this.#backend]) peer.withholds = true;
    const [request, response] = [this.#backend, this.#client].map(({ fullWindow }) =>
      Math.min(fullWindow, mostLastBytes),
    );
    this.#plans.push(plainStream(kind, request ?? 0, response ?? 0));
    await this.#toTheEnd();
    this.#checkAllOver(`the last ${kind} stream`);
    await this.#restore();
  }

  #checkAllOver(when: string): void {
    const violations = this.#handler?.violations ?? [];
    if (violations.length > 0) throw new Error(violations.join('\n'));
    for (const peer of [this.#client, this.#backend]) {
      if (!peer.isIdle) throw new Error(`${when}: ${peer.constructor.name} is stuck: ${peer.describe()}`);
    }
    const open = this.#router?.activeStreams ?? 0;
    if (open !== 0) throw new Error(`${when}: ${open} streams are left in the router`);
  }

  /** Gives back all windows; then both peers must agree on them. */
  async #restore(): Promise<void> {
    for (const peer of [this.#client, this.#backend]) {
      peer.withholds = false;
      peer.restore();
    }
    await this.#toTheEnd();
    this.#agree(this.#client, this.#backend);
    this.#agree(this.#backend, this.#client);
  }

  #agree(receiver: Endpoint, sender: Endpoint): void {
    const { fullWindow, receiveWindow } = receiver;
    if (receiveWindow === fullWindow && sender.sendWindow === fullWindow) return;
    throw new Error(
      `connection window of ${receiver.constructor.name}: ${receiveWindow} of ${fullWindow}, ${sender.sendWindow} to its peer`,
    );
  }
}

/** The link reads the preface, the router does not. */
function withoutPreface(take: (bytes: Buffer) => void): (bytes: Buffer) => void {
  let missing = connectionPreface.length;
  return (bytes) => {
    const skipped = Math.min(missing, bytes.length);
    missing -= skipped;
    if (skipped < bytes.length) take(bytes.subarray(skipped));
  };
}

/** @throws {Error} What is wrong. */
export async function checkPlan(plan: Plan): Promise<void> {
  const direct = await within('directly', () => new Run(plan, false).outcome());
  const routed = await within('through the router', () => new Run(plan, true).outcome());
  judgeSame(direct, routed, plan.streams);
}

async function within<T>(what: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw new Error(`${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
