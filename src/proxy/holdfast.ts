/** One listening socket, and one link per downstream connection, all over one core. */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { Metrics } from '../admin/metrics.js';
import { type Clock, systemClock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import { version } from '../config/version.js';
import type { ReadPressure } from '../throttle/pressure.js';
import type { CallTraces } from './call-traces.js';
import { Connections } from './connections.js';
import { newCore } from './core.js';
import { type Budgets, newBudgets } from './http2/budgets.js';
import { Dialer } from './http2/dialer.js';
import { openGrpcClient } from './http2/grpc-client.js';
import { openLink } from './http2/link.js';
import type { Inspection } from './inspection.js';
import { listenOn, SocketListener } from './listen.js';
import { listenOnPassed, type PassedListener, type PassedSocket } from './passed-socket.js';
import { RuntimePresence } from './runtime-presence.js';
import { type RuntimeHealth, RuntimeProbe } from './runtime-probe.js';
import { watchSocket } from './socket-watch.js';

export interface HoldfastDeps {
  readonly log: Logger;
  /** Listened on in place of a socket of its own. */
  readonly passed?: PassedSocket | undefined;
  readonly clock?: Clock;
  readonly metrics?: Metrics;
  readonly maxConnections?: number;
  /** What all connections together may keep in memory. */
  readonly budgets?: Budgets | undefined;
  /** Default: the kernel's files. */
  readonly readPressure?: ReadPressure | undefined;
  /** Default: nobody draws traces. */
  readonly traces?: CallTraces | undefined;
}

export interface Holdfast {
  readonly inspection: Inspection;
  /** Asks the runtime for its version, for whoever wants to know whether it answers. */
  runtimeHealth(): Promise<RuntimeHealth>;
  /** Downstream connections that are open. */
  readonly connections: number;
  /**
   * Stops accepting, lets unary calls in flight end and removes what is held (for `drainTimeoutMs` at most). A socket of its own is
   * removed; in one that was passed those who connect wait for its next process.
   */
  close(): Promise<void>;
}

/** @throws What makes listening impossible (see listen.ts, passed-socket.ts). */
export async function startHoldfast(config: HoldfastConfig, deps: HoldfastDeps): Promise<Holdfast> {
  const { log, clock = systemClock, metrics = new Metrics(), maxConnections, passed } = deps;
  const { budgets = newBudgets(clock) } = deps;
  const presence = new RuntimePresence(config.runtime, clock, log);
  const dialer = new Dialer(config.runtime, clock, presence);
  const upstream = openGrpcClient(dialer, clock);
  const { handlers, inspection, removeHeld, close } = newCore(config, {
    ...deps,
    clock,
    metrics,
    upstream,
  });
  const connections = new Connections({
    clock,
    metrics,
    log,
    maxConnections,
    open: (downstream) => openLink(downstream, { dialer, handlers, clock, budgets }),
  });
  metrics.observeConnections(() => ({
    isPresent: dialer.isPresent,
    downstream: connections.open,
    upstream: dialer.open,
  }));
  metrics.observeProcess(version);
  const end = () => {
    close();
    upstream.close();
    dialer.close();
    presence.close();
  };
  const onConnection = (downstream: Socket) => connections.accept(downstream);
  let listener: SocketListener | PassedListener;
  try {
    listener =
      passed === undefined
        ? await listenOn(config.listen, { mode: config.socketMode, ownerFrom: config.runtime, onConnection })
        : await listenOnPassed(passed, onConnection);
  } catch (error) {
    end();
    throw error;
  }
  listener.on('error', (error) => log.error({ error: String(error) }, 'accept failed'));
  const stopWatching = listener instanceof SocketListener ? watchSocket(listener, { clock, log }) : () => {};

  const probe = new RuntimeProbe(upstream, clock, () => presence.absentForMs);
  return {
    inspection,
    runtimeHealth: () => probe.ask(),
    get connections() {
      return connections.open;
    },
    async close() {
      stopWatching();
      listener.close();
      const drained = connections.drain(config.drainTimeoutMs);
      await Promise.all([drained, within(config.drainTimeoutMs, clock, removeHeld())]);
      end();
    },
  };
}

/** Waits for the promise, but no longer than `ms`. */
function within(ms: number, clock: Clock, promise: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(ms, resolve);
    void promise.finally(() => {
      cancel();
      resolve();
    });
  });
}
