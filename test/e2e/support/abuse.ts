/** The built program between whoever abuses it and a client with which nothing is wrong, and what is expected of it. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { FramePeer } from '../../support/frame-peer.js';
import { Bystander } from './bystander.js';
import { accepts, type Holdfast, startHoldfast } from './holdfast.js';
import { counted, freePort, memory, openFiles } from './process-figures.js';
import { type RawService, startRawBackend } from './raw-backend.js';
import { RawClient, type RawClientOptions } from './raw-client.js';
import { until } from './until.js';

export interface Abuse {
  readonly name: string;
  /** Further flags of `serve`. */
  readonly flags?: readonly string[];
  /** Whether creations of other clients go through meanwhile; default true. */
  readonly creates?: boolean;
  readonly runtime: RawService;
  /** What Holdfast is told to hold by its limits, in bytes; default none. */
  readonly holdsBytes?: number;
  /** How often it is repeated, so that what each time left behind shows; default 3. */
  readonly times?: number;
  /** A counter that grows with each time, and the log line that says why. */
  readonly seen: Seen;
  /** Comes first, once. */
  prepare?(t: Test, scene: Scene): Promise<void>;
  once(scene: Scene): Promise<void>;
}

export interface Seen {
  readonly series: string;
  readonly line?: string;
  readonly reason?: string;
}

const MiB = 1024 * 1024;
/**
 * What Holdfast's memory may grow by beside what its limits let it hold. 4096 taken calls at once, the most of one connection, take
 * some 45 MiB with grpc-js's part of them; the rest is what the garbage collector lets lie: up to 170 MiB were seen, the more the
 * busier the machine.
 */
const workingMiB = 300;
/**
 * What the peak may grow by from the first time to the last: the heap needs a few rounds to reach its size. Up to 170 MiB were seen
 * where much is abandoned at once.
 */
const repeatMiB = 250;
/** Connections of Holdfast's own that come and go, such as that of a scrape. */
const otherFiles = 2;
const seenMs = 10_000;

export class Scene {
  readonly holdfast: Holdfast;
  readonly #metricsPort: number;
  readonly #peers: FramePeer[] = [];

  constructor(holdfast: Holdfast, metricsPort: number) {
    this.holdfast = holdfast;
    this.#metricsPort = metricsPort;
  }

  /** What Holdfast's metrics say of a series, as `counted` does. */
  counted(series: string): Promise<number> {
    return counted(this.#metricsPort, series);
  }

  /** A connection on which nothing has been said. */
  async peer(options?: { readonly allowHalfOpen: boolean }): Promise<FramePeer> {
    const peer = await FramePeer.connect(this.holdfast.socket, options);
    this.#peers.push(peer);
    return peer;
  }

  async client(options?: RawClientOptions): Promise<RawClient> {
    const client = await RawClient.open(this.holdfast.socket, options);
    this.#peers.push(client.peer);
    return client;
  }

  /** The same by several clients at once. */
  async clients(count: number, act: (client: RawClient) => Promise<void>, options?: RawClientOptions): Promise<void> {
    await Promise.all(Array.from({ length: count }, async () => act(await this.client(options))));
  }

  async disconnect(): Promise<void> {
    for (const peer of this.#peers) peer.destroy();
    await Promise.all(this.#peers.splice(0).map(({ closed }) => closed));
  }
}

/** Resolves when Holdfast has ended the connection. */
export async function ended({ peer }: RawClient): Promise<void> {
  await until('Holdfast ends the connection', () => peer.isOver, seenMs);
}

export async function endure(t: Test, abuse: Abuse): Promise<void> {
  const { flags = [], creates = true, holdsBytes = 0, times = 3, seen } = abuse;
  const directory = mkdtempSync(path.join(os.tmpdir(), 'hfab-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const runtime = `${directory}/r.sock`;
  const listen = `${directory}/h.sock`;
  await startRawBackend(t, runtime, abuse.runtime);
  const port = await freePort();
  const holdfast = await startHoldfast(t, { runtime, listen, flags: ['--metrics', `127.0.0.1:${port}`, ...flags] });
  // The kubelet's socket does not wait for them.
  await until('metrics are served', () => accepts(port));
  const bystander = new Bystander(holdfast.client, creates);
  const scene = new Scene(holdfast, port);
  await abuse.prepare?.(t, scene);
  await bystander.start();
  t.teardown(() => bystander.stop());

  const { pid } = holdfast;
  const baseMiB = memory(pid).nowMiB;
  const files = openFiles(pid);
  const peaks: number[] = [];
  for (let n = 0; n < times; n++) {
    const before = await scene.counted(seen.series);
    await abuse.once(scene);
    await until(`${seen.series} has grown`, async () => (await scene.counted(seen.series)) > before, seenMs);
    await scene.disconnect();
    await until('its connections are closed', () => openFiles(pid) <= files + otherFiles);
    peaks.push(Math.round(memory(pid).peakMiB - baseMiB));
  }
  await bystander.stop();
  t.comment(
    `memory ${Math.round(baseMiB)} MiB, at the most + ${peaks.join(', ')}; slowest of ${bystander.calls} calls ` +
      `${Math.round(bystander.slowestMs)} ms`,
  );
  t.same(bystander.failures, [], 'no call of another client failed or took long');
  const [first = 0] = peaks;
  const last = peaks.at(-1) ?? 0;
  const boundMiB = workingMiB + holdsBytes / MiB;
  t.ok(last <= boundMiB, `memory grew by ${last} MiB, at the most ${boundMiB}`);
  t.ok(last - first <= repeatMiB, 'and not with each time');
  if (seen.line === undefined) return;
  const parts = [`"msg":"${seen.line}"`, seen.reason ?? ''];
  t.ok(
    holdfast.output.some((line) => parts.every((part) => line.includes(part))),
    'the log says why',
  );
}
