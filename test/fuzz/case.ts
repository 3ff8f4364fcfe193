/**
 * A case: a conversation of two peers through a router. It is generated while it runs, because what a peer may say
 * depends on what it was told; each operation draws on a seed of its own, so that a case with some left out is a
 * conversation too. What the router was given is recorded as steps, which run again without the peers.
 */

import { Random } from '../../src/harness/random.js';
import { Flag, FrameType, frame, goAwayFrame, Setting as Parameter } from '../../src/proxy/http2/frames.js';
import { message, requestFields } from '../proxy/http2/wire.js';
import { ClientPeer } from './client-peer.js';
import type { Peer, PeerStream } from './peer.js';
import { RuntimePeer } from './runtime-peer.js';
import type { Breach, CallRecord } from './watched.js';
import { budgetBytes, roomyLimits, type Setting, type Step, statuses, World } from './world.js';

export interface Case {
  readonly seed: number;
  /** One seed each. */
  readonly operations: readonly number[];
}

export interface Outcome {
  readonly breach: Breach | undefined;
  readonly setting: Setting;
  readonly steps: readonly Step[];
  /** What it came to, for counting. */
  readonly events: ReadonlyMap<string, number>;
}

const lingerMs = 10_000;
const proof = Buffer.alloc(4, 0xa7);

export function newCase(seed: number): Case {
  const random = new Random(seed ^ 0x5eed);
  const count = random.pick([20, 60, 150, 300]);
  return { seed, operations: Array.from({ length: count }, () => random.uint32()) };
}

export async function runCase(what: Case): Promise<Outcome> {
  return new Conversation(new Random(what.seed)).run(what.operations);
}

/** Runs recorded steps. */
export async function replay(setting: Setting, steps: readonly Step[]): Promise<Outcome> {
  const world = new World(setting, { client: () => {}, runtime: () => {} });
  for (const step of steps) {
    if ((await world.run(step)) !== undefined) break;
  }
  return outcomeOf(world, setting);
}

function outcomeOf(world: World, setting: Setting): Outcome {
  const { oracle, calls, steps } = world;
  const events = new Map<string, number>();
  const count = (event: string, times = 1): void => {
    if (times > 0) events.set(event, (events.get(event) ?? 0) + times);
  };
  count(setting.valid.client && setting.valid.runtime ? 'both peers right' : 'a peer damaged');
  count('steps', steps.length);
  count('frames of the client', oracle.fromClient.frames);
  count('frames of the runtime', oracle.fromRuntime.frames);
  for (const decision of ['pass', 'observe', 'report', 'take'] as const) {
    count(`streams ${decision}`, oracle.count(decision));
  }
  count('reports taken late', [...oracle.requests.values()].filter(({ takenLate }) => takenLate).length);
  for (const succeeded of [true, false]) {
    const ended = [...oracle.requests.values()].filter(({ ends }) => ends[0] === succeeded).length;
    count(`calls observed to ${succeeded ? 'succeed' : 'fail'}`, ended);
  }
  for (const reason of world.refusals) count(`refused: ${reason}`);
  if (world.orphanSeen) count('runtime gone, streams served');
  count('own SETTINGS', oracle.settings.ownSettings);
  count('calls taken', calls.length);
  count('calls ended', calls.filter(({ status }) => status !== undefined).length);
  count('calls delivered', calls.filter(({ delivered }) => delivered === true).length);
  for (const reason of ['cancelled', 'deadline', 'connection lost']) {
    count(`calls left: ${reason}`, calls.filter(({ call }) => call.signal.reason === reason).length);
  }
  if (world.heldSeen) count('DATA held back');
  count('drained', oracle.drained);
  for (const violation of oracle.violations) count(`violation: ${violation.replaceAll(/\d+/g, 'N').slice(0, 90)}`);
  return { breach: oracle.breach, setting, steps, events };
}

class Conversation {
  readonly #client = new ClientPeer();
  readonly #runtime = new RuntimePeer();
  readonly #setting: Setting;
  readonly #world: World;
  /** Whether the connection may be drained, lost or abandoned in between. */
  readonly #upsets: boolean;
  /** Answers are large, windows for responses scarce. */
  readonly #bulk: boolean;
  /** The runtime has closed the connection. */
  #closed = false;
  /** The runtime has said nothing yet, and does nothing until its SETTINGS go out. */
  #silent: boolean;
  readonly #ahead: readonly Step[];

  constructor(random: Random) {
    const damaged = random.below(10);
    const valid = { client: damaged < 4 || damaged > 6, runtime: damaged < 7 };
    if (damaged === 9) valid.client = false;
    const bothValid = valid.client && valid.runtime;
    this.#setting = { valid, tight: !bothValid && random.chance(0.6) };
    const damage = random.pick([0.004, 0.02, 0.1]);
    if (!valid.client) this.#client.damage = damage;
    if (!valid.runtime) this.#runtime.damage = damage;
    this.#client.measures = random.chance(0.5);
    this.#runtime.measures = random.chance(0.5);
    this.#upsets = random.chance(0.3);
    this.#bulk = random.chance(0.3);
    this.#world = new World(this.#setting, {
      client: (bytes) => this.#client.receive(bytes),
      runtime: (bytes) => this.#runtime.receive(bytes),
    });
    const wide = this.#bulk ? [[Parameter.initialWindowSize, 1 << 20] as const] : [];
    this.#client.sendSettings([...this.#client.settings(random), ...wide], random);
    const ahead: Step[] = random.chance(0.2) ? [['greet']] : [];
    if (random.chance(0.4)) ahead.push(['hide', true]);
    this.#ahead = ahead;
    this.#silent = random.chance(0.2);
    if (!this.#silent) this.#runtime.sendSettings(this.#runtime.settings(random), random);
  }

  get #goesOn(): boolean {
    return this.#world.oracle.breach === undefined && !this.#world.isOver;
  }

  async run(operations: readonly number[]): Promise<Outcome> {
    for (const step of this.#ahead) await this.#step(step);
    for (const seed of operations) {
      if (!this.#goesOn) break;
      await this.#operation(new Random(seed));
    }
    await this.#end(new Random(operations.length));
    return outcomeOf(this.#world, this.#setting);
  }

  async #step(step: Step): Promise<void> {
    if (step[0] === 'runtime' && this.#closed) return;
    if (step[0] === 'lost') this.#closed = true;
    if (this.#world.oracle.breach === undefined) await this.#world.run(step);
  }

  async #deliver(side: 'client' | 'runtime', random: Random): Promise<void> {
    const peer = side === 'client' ? this.#client : this.#runtime;
    for (let chunks = random.chance(0.3) ? random.between(1, 8) : 1; chunks > 0; chunks--) {
      const { pendingBytes } = peer;
      if (pendingBytes === 0) return;
      const count = random.chance(0.6)
        ? pendingBytes
        : random.between(1, Math.min(pendingBytes, random.pick([3, 30, 30_000])));
      await this.#step([side, peer.takePending(count)]);
      await this.#loseClosed();
    }
  }

  /** A runtime that has cut its client off closes the connection. */
  async #loseClosed(): Promise<void> {
    if (!this.#runtime.isClosing || this.#runtime.pendingBytes > 0 || this.#closed) return;
    await this.#step(['lost']);
  }

  async #operation(random: Random): Promise<void> {
    const choice = random.below(100);
    if (this.#silent && random.chance(0.05)) this.#speak(random);
    if (choice < 12) this.#client.read(random.pick([1, 5, 100]), random);
    else if (choice < 24) this.#runtimeReads(random.pick([1, 5, 100]), random);
    else if (choice < 36) await this.#deliver('client', random);
    else if (choice < 48) await this.#deliver('runtime', random);
    else if (choice < 68) this.#clientWrites(random);
    else if (choice < 86) this.#runtimeWrites(random);
    else if (choice < 95) await this.#handlerActs(random);
    else await this.#surroundings(random);
  }

  #clientWrites(random: Random): void {
    const client = this.#client;
    const stream = anyOf(client, random);
    const cancelled = random.pick([...client.streams.values(), undefined]);
    const choice = random.below(100);
    if (choice < 35 && client.mayOpen) client.request(random);
    else if (choice < 60 && stream !== undefined) continueRequest(client, stream, random);
    else if (choice < 66 && cancelled !== undefined) client.sendReset(cancelled, random.pick([8, 8, 0, 2]), random);
    else if (choice < 78) grant(client, stream, this.#bulk ? [1, 100, 9000] : [1, 1000, 65_535, 1 << 20], random);
    else if (choice < 82) client.sendSettings(client.settings(random), random);
    else if (choice < 88) client.write(pingFrame(random), random);
    else if (choice < 90) client.write(pingFrame(random, Flag.ack), random);
    else if (choice < 96) client.oddity(random);
    else if (choice < 97) client.write(goAwayFrame(0, random.pick([0, 2])), random);
    else if (choice < 99) client.grantAll(random);
    else if (client.damage > 0) flood(client, random);
  }

  #speak(random: Random): void {
    if (this.#silent) this.#runtime.sendSettings(this.#runtime.settings(random), random);
    this.#silent = false;
  }

  #runtimeReads(count: number, random: Random): void {
    if (!this.#silent && !this.#closed) this.#runtime.read(count, random);
  }

  #runtimeWrites(random: Random): void {
    if (this.#silent || this.#closed) return;
    const runtime = this.#runtime;
    const stream = anyOf(runtime, random);
    const choice = random.below(100);
    if (choice < 65 && stream !== undefined) runtime.respond(stream, this.#bulk ? 120_000 : 3000, random);
    else if (choice < 68 && stream !== undefined) runtime.sendReset(stream, random.pick([0, 2, 7, 11]), random);
    else if (choice < 80) grant(runtime, stream, [1, 1000, 65_535, 1 << 20], random);
    else if (choice < 83) runtime.sendSettings(runtime.settings(random), random);
    else if (choice < 88) runtime.write(pingFrame(random), random);
    else if (choice < 89) runtime.write(pingFrame(random, Flag.ack), random);
    else if (choice < 95) runtime.oddity(random);
    else if (choice < 96 && this.#upsets) runtime.sendGoAway(random);
    else if (runtime.damage > 0 && random.chance(0.2)) flood(runtime, random);
    else if (runtime.damage > 0) runtime.misbehave(random);
  }

  async #handlerActs(random: Random): Promise<void> {
    const { calls } = this.#world;
    const open = calls.filter(({ status }) => status === undefined);
    const record: CallRecord | undefined = open.length > 0 && random.chance(0.97) ? random.pick(open) : calls.at(-1);
    if (record === undefined) return;
    const index = calls.indexOf(record);
    const choice = random.below(10);
    if (choice < 1) await this.#step(['metadata', index]);
    else if (choice < 6) await this.#step(['send', index, random.size(this.#bulk ? 150_000 : 2000)]);
    else await this.#step(['end', index, random.pick([0, 0, 0, 1, 2, 3]) % statuses.length]);
  }

  async #surroundings(random: Random): Promise<void> {
    const choice = random.below(100);
    if (choice < 40) await this.#step(['advance', random.pick([1, 49, 100, 1000])]);
    else if (choice < 75) await this.#step(['ready', random.chance(0.6)]);
    else if (choice < 83) await this.#step(['hide', random.chance(0.6)]);
    else if (choice < 85) await this.#step(['greet']);
    else if (!this.#upsets) return;
    else if (choice < 91) await this.#step(['drain']);
    else if (choice < 98) await this.#step(['lost']);
    else await this.#step(['abandon']);
  }

  /** Lets everything under way arrive. @returns Whether there was anything. */
  async #flush(random: Random): Promise<boolean> {
    const { oracle } = this.#world;
    const before =
      oracle.fromClient.frames + oracle.fromRuntime.frames + oracle.toClient.frames + oracle.toRuntime.frames;
    for (const [side, peer] of [
      ['client', this.#client],
      ['runtime', this.#runtime],
    ] as const) {
      if (peer === this.#runtime && (this.#silent || this.#closed)) continue;
      peer.read(Number.POSITIVE_INFINITY, random);
      peer.grantAll(random);
      if (peer.pendingBytes > 0) await this.#step([side, peer.takePending(peer.pendingBytes)]);
    }
    await this.#loseClosed();
    const after =
      oracle.fromClient.frames + oracle.fromRuntime.frames + oracle.toClient.frames + oracle.toRuntime.frames;
    return after > before || this.#client.hasMail || (this.#runtime.hasMail && !this.#closed);
  }

  async #settle(random: Random): Promise<void> {
    for (let rounds = 0; rounds < 200 && this.#goesOn; rounds++) {
      if (!(await this.#flush(random))) return;
    }
  }

  async #end(random: Random): Promise<void> {
    if (this.#goesOn) {
      await this.#step(['ready', true]);
      if (this.#closed) await this.#step(['greet']);
      else this.#speak(random);
      await this.#settle(random);
      const { client, runtime } = this.#setting.valid;
      if (client && runtime && this.#goesOn) await this.#quiet(random);
    }
    await this.#step(['advance', lingerMs]);
    await this.#step(['advance', lingerMs]);
    if (!this.#world.isOver) await this.#step(['abandon']);
    await this.#step(['abandon']);
    await this.#step(['finish']);
  }

  /** Lets all be said, and granted: what Holdfast has spent of the window is kept from the last grant. */
  async #hush(random: Random): Promise<void> {
    await this.#settle(random);
    this.#client.grantConnection(1 << 24, random);
    await this.#settle(random);
    await this.#step(['quiet']);
  }

  /** Has some calls observed and answered to their ends: few get that far in between. */
  async #observe(random: Random): Promise<void> {
    const [client, runtime] = [this.#client, this.#runtime];
    for (let count = random.below(4); count > 0 && client.mayOpen; count--) {
      const stream = client.open(random, '/observe');
      stream.body = message(random.bytes(random.size(100)));
      client.sendHeaders(stream, requestFields(`/observe/${stream.id}`), false, random);
      client.sendData(stream, true, random);
    }
    await this.#settle(random);
    for (const stream of [...runtime.streams.values()]) {
      const isAnswered = random.chance(0.8);
      for (let parts = 8; isAnswered && parts > 0 && !stream.ended; parts--) runtime.respond(stream, 300, random);
    }
    while (!this.#closed && runtime.pendingBytes > 0 && this.#goesOn) await this.#deliver('runtime', random);
  }

  async #quiet(random: Random): Promise<void> {
    if (!this.#closed) await this.#observe(random);
    await this.#hush(random);
    for (const stream of [...this.#client.streams.values()]) this.#client.sendReset(stream, 8, random);
    await this.#settle(random);
    await this.#step(['idle']);
    if (this.#client.mayOpen) await this.#probe(random);
  }

  /** Takes as many bytes of incomplete requests as the limit allows: none of those before may still count. */
  async #probe(random: Random): Promise<void> {
    const { requestBytes } = roomyLimits;
    const streams: PeerStream[] = [];
    const taken = this.#world.calls.length;
    for (let left = budgetBytes.roomy; left > 0; left -= requestBytes) {
      const stream = this.#client.open(random, '/take');
      streams.push(stream);
      const body = Buffer.alloc(requestBytes);
      body.writeUInt32BE(requestBytes - 5, 1);
      stream.body = body;
      this.#client.sendHeaders(stream, requestFields(`/take/${stream.id}`), false, random);
    }
    for (let rounds = 0; rounds < 2000 && streams.some(({ body }) => body.length > 0) && this.#goesOn; rounds++) {
      for (const stream of streams) if (stream.body.length > 0) this.#client.sendData(stream, false, random);
      await this.#settle(random);
    }
    for (const stream of streams) {
      if (!stream.over) this.#client.write(frame(FrameType.data, Flag.endStream, stream.id, Buffer.alloc(0)), random);
    }
    await this.#settle(random);
    for (let index = taken; index < this.#world.calls.length; index++) {
      await this.#step(['send', index, 10]);
      await this.#step(['end', index, 0]);
    }
    await this.#hush(random);
    await this.#step(['idle']);
  }
}

function anyOf(peer: Peer, random: Random): PeerStream | undefined {
  const open = [...peer.streams.values()].filter(({ ended }) => !ended);
  return open.length === 0 ? undefined : random.pick(open);
}

function continueRequest(client: ClientPeer, stream: PeerStream, random: Random): void {
  if (stream.body.length === 0 && random.chance(0.15)) client.trailers(stream, random);
  else client.sendData(stream, true, random);
}

function grant(peer: Peer, stream: PeerStream | undefined, amounts: readonly number[], random: Random): void {
  const bytes = random.pick(amounts);
  if (stream === undefined || random.chance(0.6)) peer.grantConnection(bytes, random);
  else peer.grantStream(stream, bytes, random);
}

/** More than may wait, where limits are tight. */
function flood(peer: Peer, random: Random): void {
  for (let left = 30; left > 0; left--) peer.write(pingFrame(random), random);
}

/** Never like a proof of delivery. */
function pingFrame(random: Random, flags = 0): Buffer {
  const payload = random.bytes(8);
  if (payload.subarray(0, 4).equals(proof)) payload[0] = 0;
  return frame(FrameType.ping, flags, 0, payload);
}
