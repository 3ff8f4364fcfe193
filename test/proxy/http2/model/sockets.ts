/** Runs a plan over unix sockets, with a link in between or without, and with peers of either make. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { systemClock } from '../../../../src/clock.js';
import { Dialer } from '../../../../src/proxy/http2/dialer.js';
import { type Link, openLink } from '../../../../src/proxy/http2/link.js';
import { Backend } from './backend.js';
import { Client } from './client.js';
import type { Endpoint } from './endpoint.js';
import { Handler } from './handler.js';
import { NodeBackend, NodeClient } from './node-peers.js';
import { judge, judgeSame, judgeUnknown, type Outcome, type Sight } from './outcome.js';
import type { Plan } from './plan.js';

/** A run that takes longer is stuck. */
const mostMs = 20_000;
/** From so many turns on, everything goes in larger pieces. */
const patience = 500;

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A peer on raw frames and its socket: it does what it can, one thing a turn, unless the socket is full. */
class Driver {
  readonly peer: Endpoint;
  readonly #socket: net.Socket;
  readonly #plan: Plan;
  readonly #pauses: Plan['pauses'];
  readonly #failed: (error: Error) => void;
  #turns = 0;

  constructor(
    peer: Endpoint,
    socket: net.Socket,
    plan: Plan,
    who: 'client' | 'backend',
    failed: (error: Error) => void,
  ) {
    this.peer = peer;
    this.#socket = socket;
    this.#plan = plan;
    this.#pauses = plan.pauses.filter((pause) => pause.who === who);
    this.#failed = failed;
    socket.on('data', (bytes: Buffer) => this.#guard(() => peer.receive(bytes)));
    socket.on('error', failed);
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failed(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Some turns of the plan. */
  step(): void {
    this.#turns += 1;
    this.peer.hurries ||= this.#turns > patience;
    const paused = this.#pauses.some(({ at, steps }) => at <= this.#turns && this.#turns < at + steps);
    if (paused !== this.#socket.isPaused()) {
      if (paused) this.#socket.pause();
      else this.#socket.resume();
    }
    if (paused || this.#socket.writableNeedDrain) return;
    this.#guard(() => {
      const now = this.peer.actions();
      const actions = now.length > 0 ? now : this.peer.lateActions();
      const { schedule } = this.#plan;
      const pick = (schedule[this.#turns % schedule.length] ?? 0) + this.#turns;
      const action = actions[pick % actions.length];
      if (action !== undefined) this.peer.act(action);
    });
  }
}

class SocketRun {
  readonly #plan: Plan;
  readonly #sight: Sight;
  readonly #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'model-'));
  readonly #runtimePath = path.join(this.#folder, 'r.sock');
  readonly #listenPath = path.join(this.#folder, 'l.sock');
  readonly #servers: net.Server[] = [];
  readonly #sockets: net.Socket[] = [];
  readonly #drivers: Driver[] = [];
  readonly #handler: Handler | undefined;
  #link: Link | undefined;
  #error: Error | undefined;
  #client: Client | NodeClient | undefined;
  #backend: Backend | NodeBackend | undefined;

  constructor(plan: Plan, sight: Sight, linked: boolean) {
    this.#plan = plan;
    this.#sight = sight;
    if (linked) this.#handler = new Handler(plan.streams);
  }

  readonly #failed = (error: Error): void => {
    this.#error ??= error;
  };

  async #listen(at: string, accept: (socket: net.Socket) => void): Promise<void> {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      this.#sockets.push(socket);
      accept(socket);
    });
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(at, resolve));
  }

  #acceptBackend(socket: net.Socket): void {
    const { backend, streams } = this.#plan;
    const routed = this.#handler !== undefined;
    if (this.#sight.backend === 'nghttp2') {
      const peer = new NodeBackend(backend, streams, routed, this.#failed);
      this.#backend = peer;
      peer.accept(socket);
      return;
    }
    const peer = new Backend(backend, streams, routed, (bytes) => socket.write(bytes));
    this.#backend = peer;
    this.#drivers.push(new Driver(peer, socket, this.#plan, 'backend', this.#failed));
  }

  #connectClient(socket: net.Socket): void {
    const { client, streams } = this.#plan;
    if (this.#sight.client === 'nghttp2') {
      const peer = new NodeClient(client, socket, this.#failed);
      this.#client = peer;
      for (const [index, plan] of streams.entries()) peer.open(plan, index);
      return;
    }
    const peer = new Client(client, streams, this.#handler !== undefined, (bytes) => socket.write(bytes));
    this.#client = peer;
    this.#drivers.push(new Driver(peer, socket, this.#plan, 'client', this.#failed));
  }

  async outcome(): Promise<Outcome> {
    try {
      return await this.#run();
    } finally {
      if (this.#client instanceof NodeClient) this.#client.close();
      if (this.#backend instanceof NodeBackend) this.#backend.close();
      this.#link?.destroy();
      for (const socket of this.#sockets) socket.destroy();
      for (const server of this.#servers) server.close();
      await this.#link?.closed;
      fs.rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  async #run(): Promise<Outcome> {
    await this.#listen(this.#runtimePath, (socket) => this.#acceptBackend(socket));
    const handlers = this.#handler;
    if (handlers !== undefined) {
      await this.#listen(this.#listenPath, (socket) => {
        const dialer = new Dialer(this.#runtimePath, systemClock);
        this.#link = openLink(socket, { dialer, handlers, clock: systemClock });
      });
    }
    const socket = net.connect({ path: handlers === undefined ? this.#runtimePath : this.#listenPath });
    this.#sockets.push(socket);
    this.#connectClient(socket);
    await this.#until('the plan', () => this.#isOver());
    const [client, backend] = [this.#client, this.#backend];
    if (client instanceof Client && backend instanceof Backend) {
      for (const { peer } of this.#drivers) peer.restore();
      await this.#until('what is on its way', () => {
        const unknown = client.unknown.length + backend.unknown.length;
        const sent = this.#plan.client.unknown.length + this.#plan.backend.unknown.length;
        return agree(client, backend) && agree(backend, client) && unknown === sent;
      });
      judgeUnknown(this.#plan, client, backend);
    }
    const outcome = {
      client: client instanceof NodeClient ? client.views : (client?.opening ?? []),
      backend: backend instanceof NodeBackend ? backend.views : (backend?.served ?? new Map()),
      taken: handlers?.taken,
      observed: handlers?.observed,
    };
    judge(outcome, this.#plan.streams, this.#sight);
    return outcome;
  }

  #isOver(): boolean {
    const settled = [...(this.#handler?.taken.values() ?? [])].every(({ settled }) => settled);
    const idle = this.#client?.isIdle === true && this.#backend?.isIdle === true;
    return idle && settled && (this.#link?.activeStreams ?? 0) === 0;
  }

  async #until(what: string, reached: () => boolean): Promise<void> {
    const deadline = performance.now() + mostMs;
    while (!reached()) {
      for (const driver of this.#drivers) driver.step();
      for (const answer of this.#handler?.actions().slice(0, 1) ?? []) answer();
      await turn();
      const violations = this.#handler?.violations ?? [];
      if (violations.length > 0) throw new Error(violations.join('\n'));
      if (this.#error !== undefined) throw this.#error;
      if (performance.now() > deadline) {
        const open = this.#link?.activeStreams ?? 0;
        throw new Error(
          `${what}: stuck: ${this.#client?.describe()}; ${this.#backend?.describe()}; ${open} in the link`,
        );
      }
    }
  }
}

function agree(receiver: Endpoint, sender: Endpoint): boolean {
  return receiver.receiveWindow === receiver.fullWindow && sender.sendWindow === receiver.fullWindow;
}

/** @throws {Error} What is wrong. */
export async function checkOverSockets(plan: Plan, sight: Sight): Promise<void> {
  const outcomes: Outcome[] = [];
  for (const linked of [false, true]) {
    try {
      outcomes.push(await new SocketRun(plan, sight, linked).outcome());
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`${linked ? 'through the link' : 'directly'}: ${reason}`, { cause: error });
    }
  }
  const [direct, linked] = outcomes;
  if (direct !== undefined && linked !== undefined) judgeSame(direct, linked, plan.streams);
}
