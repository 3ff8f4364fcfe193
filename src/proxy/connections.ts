/**
 * The downstream connections: how many there may be, and which one goes when there are too many. Knows what they hold, not what is
 * said over them.
 */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { Metrics } from '../admin/metrics.js';
import type { Clock } from '../clock.js';
import { isStreaming } from '../cri/methods.js';
import { RateLimit } from './http2/limits.js';
import type { Link } from './http2/link.js';

/** A kubelet has two, and each client such as crictl one. Each costs two descriptors and, while nothing goes over it, some 16 KB. */
const defaultMaxConnections = 1_000;
/** Descriptors that other things than connections take: the runtime's, the log, metrics, what Node needs itself. */
const otherFiles = 100;
/** Who has had an answer within this time is at work, in ms. A kubelet lists each second. */
const latelyMs = 60_000;
/** Who has had all his answers for longer than this may be asked to come again, in ms, where all have had one lately. */
const idleMs = 10_000;
/** How long a connection that has to go may take to say so to its client, in ms. */
const graceMs = 1_000;
/** Who stays for so long, in ms, is told of in the log at info: a kubelet is, a health check that comes each second is not. */
const staysMs = 5_000;
/** Such lines a second, at most: a client may leak connections. */
const maxClientLines = 10;
/** Connections that are on their way out at once, as a part of those allowed. */
const leavingPart = 0.1;
const minLeaving = 10;

export interface ConnectionsOptions {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Default: what the limit of open files leaves room for, 1,000 at most. */
  readonly maxConnections?: number | undefined;
  open(downstream: Socket): Link;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #max: number;
  /** In the order they came, with the number each has in the log. */
  readonly #links = new Map<Link, number>();
  /** Those of them that have been told to go; the one told first is first. */
  readonly #leaving = new Set<Link>();
  readonly #evictions: CountedLine;
  readonly #refusals: CountedLine;
  readonly #clientLines = new RateLimit(maxClientLines);
  #accepted = 0;

  constructor(options: ConnectionsOptions) {
    const { clock, log } = options;
    this.#options = options;
    this.#evictions = new CountedLine(clock, (line) => log.warn(line, 'connection evicted'));
    this.#refusals = new CountedLine(clock, (line) => log.warn(line, 'connection refused: all others are at work'));
    this.#max = options.maxConnections ?? allowedByOpenFiles();
    if (options.maxConnections === undefined && this.#max < defaultMaxConnections) {
      log.warn({ connections: this.#max }, 'the limit of open files allows few connections');
    }
  }

  /** How many there are. */
  get open(): number {
    return this.#links.size;
  }

  accept(downstream: Socket): void {
    if (!this.#makeRoom()) {
      downstream.destroy();
      return;
    }
    const { clock, log, open } = this.#options;
    const link = open(downstream);
    this.#accepted += 1;
    const connection = this.#accepted;
    this.#links.set(link, connection);
    log.debug({ connection, connections: this.#links.size }, 'connection opened');
    const openedMs = clock.now();
    let isClient = false;
    const forget = clock.after(staysMs, () => {
      isClient = this.#clientLines.admit(clock.now());
      if (isClient) log.info({ connection, connections: this.#links.size }, 'client connected');
    });
    void link.closed.then(() => {
      forget();
      this.#links.delete(link);
      this.#leaving.delete(link);
      const ageMs = Math.round(clock.now() - openedMs);
      log.debug({ connection, ageMs, connections: this.#links.size }, 'connection closed');
      if (isClient) log.info({ connection, ageMs, connections: this.#links.size }, 'client disconnected');
    });
  }

  /** Lets calls in flight end, for `timeoutMs` at most, and closes all. */
  async drain(timeoutMs: number): Promise<void> {
    const { clock } = this.#options;
    const links = [...this.#links.keys()];
    let stopWaiting = () => {};
    const limit = new Promise<void>((resolve) => {
      stopWaiting = clock.after(timeoutMs, resolve);
    });
    await Promise.race([Promise.all(links.map((link) => link.drain(isStreaming))), limit]);
    stopWaiting();
    for (const link of links) link.destroy();
    await Promise.all(links.map((link) => link.closed));
  }

  #makeRoom(): boolean {
    const { metrics } = this.#options;
    if (this.#links.size - this.#leaving.size < this.#max) return true;
    const evicted = this.#leastMissed();
    if (evicted === undefined) {
      metrics.refusedConnections.inc();
      this.#refusals.say({ connections: this.#links.size });
      return false;
    }
    metrics.evictions.inc();
    this.#evictions.say({ connection: this.#links.get(evicted), connections: this.#links.size });
    this.#evict(evicted);
    return true;
  }

  /**
   * Whoever has had an answer lately stays. Of the others go first those that take nothing, then those that hold subscriptions or
   * requests that are not whole, then those without a call, then those with one; among equals the one that was answered least lately,
   * and then the one that has asked for nothing for longest. Where all have had one, whoever waits for nothing, for longest, is told to
   * connect anew and loses nothing by it: a client that leaks a connection with each call keeps out no kubelet that starts.
   */
  #leastMissed(): Link | undefined {
    const nowMs = this.#options.clock.now();
    let found: { readonly link: Link; readonly order: readonly number[] } | undefined;
    let idle: { readonly link: Link; readonly sinceMs: number } | undefined;
    for (const link of this.#links.keys()) {
      const { lastAnswerMs = Number.NEGATIVE_INFINITY, lastUse } = link;
      if (this.#leaving.has(link)) continue;
      if (nowMs - lastAnswerMs < latelyMs) {
        const isIdle = nowMs - lastAnswerMs >= idleMs && lastAnswerMs < (idle?.sinceMs ?? nowMs);
        if (isIdle && link.load(isStreaming) === 'none') idle = { link, sinceMs: lastAnswerMs };
        continue;
      }
      const order = [link.isStalled ? 0 : ranks[link.load(isStreaming)], lastAnswerMs, lastUse];
      if (found === undefined || isBefore(order, found.order)) found = { link, order };
    }
    return (found ?? idle)?.link;
  }

  /** Tells its client, so that an idle one loses no call, and does not wait for it: it may not be reading. */
  #evict(link: Link): void {
    this.#leaving.add(link);
    const cancel = this.#options.clock.after(graceMs, () => link.destroy());
    void link.closed.then(cancel);
    void link.drain(() => true).then(() => link.destroy());
    for (const oldest of this.#leaving) {
      if (this.#leaving.size <= Math.max(minLeaving, this.#max * leavingPart)) break;
      this.#leaving.delete(oldest);
      oldest.destroy();
    }
  }
}

/** A line of the log that is written once a second at most, with how often it would have been. */
class CountedLine {
  readonly #clock: Clock;
  readonly #write: (line: Readonly<Record<string, unknown>>) => void;
  readonly #rate = new RateLimit(1);
  #times = 0;

  constructor(clock: Clock, write: (line: Readonly<Record<string, unknown>>) => void) {
    this.#clock = clock;
    this.#write = write;
  }

  say(line: Readonly<Record<string, unknown>>): void {
    this.#times += 1;
    if (!this.#rate.admit(this.#clock.now())) return;
    this.#write({ ...line, times: this.#times });
    this.#times = 0;
  }
}

/** Equal ones differ nowhere, and there is nothing at -1. */
function isBefore(one: readonly number[], other: readonly number[]): boolean {
  const at = one.findIndex((number, index) => number !== other[index]);
  return (one[at] ?? 0) < (other[at] ?? 0);
}

const ranks = { waits: 1, none: 2, calls: 3 } as const;

/** Node has raised the soft limit to the hard one at its start. Source: proc(5), `/proc/pid/limits`. */
function allowedByOpenFiles(): number {
  let openFiles = Number.POSITIVE_INFINITY;
  try {
    const limits = String(readFileSync('/proc/self/limits'));
    for (const [, soft] of limits.matchAll(/Max open files +(\d+)/g)) openFiles = Number(soft);
  } catch {
    // No such file system: the default will do.
  }
  const allowed = Math.floor((openFiles - otherFiles) / (2 * (1 + leavingPart)));
  return Math.max(10, Math.min(defaultMaxConnections, allowed));
}
