/** One listening socket, and one link per downstream connection, all over one core. */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { Metrics } from '../admin/metrics.js';
import { type Clock, systemClock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import { isStreaming } from '../cri/methods.js';
import type { ReadPressure } from '../throttle/pressure.js';
import { newCore } from './core.js';
import { newBudgets } from './http2/limits.js';
import { type Link, openLink } from './http2/link.js';
import { listenOn } from './listen.js';
import { watchSocket } from './socket-watch.js';
import { connectUpstream } from './upstream.js';

/**
 * Downstream connections at once; beyond, the one that has been idle longest is closed. A kubelet has two, and each client such as
 * crictl one. Each costs two descriptors and, while nothing goes over it, some 16 KB.
 */
const defaultMaxConnections = 1_000;

export interface HoldfastDeps {
  readonly log: Logger;
  readonly clock?: Clock;
  readonly metrics?: Metrics;
  readonly maxConnections?: number;
  /** Default: the kernel's files. */
  readonly readPressure?: ReadPressure | undefined;
}

export interface Holdfast {
  /** Stops accepting, lets unary calls in flight end (for `drainTimeoutMs` at most) and removes the socket. */
  close(): Promise<void>;
}

/** @throws What makes listening impossible (see listen.ts). */
export async function startHoldfast(config: HoldfastConfig, deps: HoldfastDeps): Promise<Holdfast> {
  const {
    log,
    clock = systemClock,
    metrics = new Metrics(),
    maxConnections = defaultMaxConnections,
    readPressure,
  } = deps;
  const upstream = connectUpstream(config.runtime);
  const core = newCore(config, { log, clock, metrics, upstream, readPressure });

  const links = new Set<Link>();
  const budgets = newBudgets();
  const makeRoom = () => {
    if (links.size < maxConnections) return true;
    const idle = [...links].filter(({ activeStreams, isStalled }) => activeStreams === 0 || isStalled);
    const [longest] = idle.sort((a, b) => a.lastUse - b.lastUse);
    metrics.evictions.inc();
    log.warn({ connections: links.size, idle: idle.length }, 'connection evicted');
    if (longest === undefined) return false;
    links.delete(longest);
    void longest.drain(() => true).then(() => longest.destroy());
    return true;
  };
  const accept = (downstream: Socket) => {
    if (!makeRoom()) {
      downstream.destroy();
      return;
    }
    const link = openLink(downstream, { runtimePath: config.runtime, handlers: core.handlers, clock, budgets });
    links.add(link);
    void link.closed.then(() => links.delete(link));
  };
  const listener = await listenOn(config.listen, {
    mode: config.socketMode,
    ownerFrom: config.runtime,
    onConnection: accept,
  });
  listener.on('error', (error) => log.error({ error: String(error) }, 'accept failed'));
  const stopWatching = watchSocket(listener, { clock, log });

  return {
    async close() {
      stopWatching();
      listener.close();
      let stopWaiting = () => {};
      const limit = new Promise<void>((resolve) => {
        stopWaiting = clock.after(config.drainTimeoutMs, resolve);
      });
      await Promise.race([Promise.all([...links].map((link) => link.drain(isStreaming))), limit]);
      stopWaiting();
      for (const link of links) link.destroy();
      await Promise.all([...links].map((link) => link.closed));
      core.close();
      upstream.close();
    },
  };
}
