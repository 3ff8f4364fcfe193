/** Puts the parts together: one listening socket, one set of stores, one link per downstream connection. */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { Metrics } from '../admin/metrics.js';
import { CreationStore } from '../cache/creation-store.js';
import { StartStore } from '../cache/start-store.js';
import { type Clock, systemClock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import { isStreaming } from '../cri/methods.js';
import { fixedAdmission } from '../throttle/admission.js';
import { callPath } from './call-path.js';
import { Creations } from './creations.js';
import { CriRuntime, type Origin } from './cri-runtime.js';
import { Events } from './events.js';
import { Hiding } from './hiding.js';
import { newBudgets } from './http2/limits.js';
import { type Link, openLink } from './http2/link.js';
import { LifeLog } from './life-log.js';
import { listenOn } from './listen.js';
import { Relay } from './relay.js';
import { Upstream, type UpstreamAnswer } from './upstream.js';

/** How often owner and mode of the runtime's socket are looked for while it is not there, in ms. */
const adoptEveryMs = 1_000;

/**
 * How long a creation or start keeps its place among `maxCreations`, in ms. Without Holdfast the kubelet would have given up by then
 * (RunPodSandbox: twice `runtimeRequestTimeout`, 4 min by default), and its other pods would have gone on.
 */
const placeMs = 240_000;

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
}

export interface Holdfast {
  /** Stops accepting, lets unary calls in flight end (for `drainTimeoutMs` at most) and removes the socket. */
  close(): Promise<void>;
}

/** @throws What makes listening impossible (see listen.ts). */
export async function startHoldfast(config: HoldfastConfig, deps: HoldfastDeps): Promise<Holdfast> {
  const { log, clock = systemClock, metrics = new Metrics(), maxConnections = defaultMaxConnections } = deps;
  const upstream = new Upstream(config.runtime);
  const admission = fixedAdmission(config.maxCreations, clock, placeMs);
  const lifeLog = new LifeLog(log, metrics);
  const runtime: CriRuntime = new CriRuntime(upstream, config.creationTimeoutMs, (fingerprint) =>
    starts.beforeCreate(fingerprint),
  );
  const starts: StartStore<Origin, UpstreamAnswer> = new StartStore(
    runtime,
    admission,
    clock,
    (step, start, detail) => lifeLog.start(step, start, detail),
    config,
  );
  const store: CreationStore<Origin, UpstreamAnswer> = new CreationStore(
    runtime,
    admission,
    clock,
    {
      step: (step, creation, detail) => lifeLog.creation(step, creation, detail),
      revealed: (creation) => events.revealed(creation),
      vanished: (creation) => events.vanished(creation),
    },
    config,
  );
  const relay = new Relay(upstream, clock);
  const events: Events = new Events(store, upstream, relay, metrics);
  const creations = new Creations(store, starts, metrics, log, config);
  const hiding = new Hiding(store, upstream, relay, metrics);
  const handlers = callPath({ store, starts, creations, hiding, events, relay, metrics, log });
  metrics.observeState(() => ({ ...store.sizes, inFlight: admission.inFlight, queued: admission.queued }));

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
    const link = openLink(downstream, { runtimePath: config.runtime, handlers, clock, budgets });
    links.add(link);
    void link.closed.then(() => links.delete(link));
  };
  const listener = await listenOn(config.listen, {
    mode: config.socketMode,
    ownerFrom: config.runtime,
    onConnection: accept,
  });
  listener.on('error', (error) => log.error({ error: String(error) }, 'accept failed'));
  let stopAdopting = () => {};
  const adopt = () => {
    if (listener.adoptMode() === 'unknown') stopAdopting = clock.after(adoptEveryMs, adopt);
  };
  adopt();

  return {
    async close() {
      stopAdopting();
      listener.close();
      let stopWaiting = () => {};
      const limit = new Promise<void>((resolve) => {
        stopWaiting = clock.after(config.drainTimeoutMs, resolve);
      });
      await Promise.race([Promise.all([...links].map((link) => link.drain(isStreaming))), limit]);
      stopWaiting();
      for (const link of links) link.destroy();
      await Promise.all([...links].map((link) => link.closed));
      store.close();
      starts.close();
      upstream.close();
    },
  };
}
