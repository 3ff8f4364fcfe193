/** One set of stores over one runtime, and the handlers of the calls that come to them. */
import type { Logger } from 'pino';
import type { Metrics } from '../admin/metrics.js';
import { CreationStore } from '../cache/creation-store.js';
import { SecondCopyGuard } from '../cache/second-copy-guard.js';
import { StartStore } from '../cache/start-store.js';
import type { Clock } from '../clock.js';
import type { HoldfastConfig } from '../config/config.js';
import type { Admission } from '../throttle/admission.js';
import type { ReadPressure } from '../throttle/pressure.js';
import { callPath } from './call-path.js';
import { CreationCalls } from './creation-calls.js';
import { CriRuntime, type Origin } from './cri-runtime.js';
import { Events } from './events.js';
import { Hiding } from './hiding.js';
import type { RouterHandlers } from './http2/link.js';
import { LifeLog } from './life-log.js';
import { newAdmission } from './new-admission.js';
import { podLogLinks } from './pod-log-links.js';
import { Relay } from './relay.js';
import { Turns } from './turns.js';
import type { Upstream, UpstreamAnswer } from './upstream.js';

export interface CoreDeps {
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly upstream: Upstream;
  /** Default: the kernel's files. */
  readonly readPressure?: ReadPressure | undefined;
}

export interface Core {
  readonly handlers: RouterHandlers;
  readonly admission: Admission;
  /** Removes what is held, which a kubelet would take for containers of its own; resolves when nothing is left that can be removed. */
  removeHeld(): Promise<void>;
  /** Cuts short what runs upstream; the upstream itself stays open. */
  close(): void;
}

export function newCore(config: HoldfastConfig, deps: CoreDeps): Core {
  const { log, clock, metrics, upstream } = deps;
  const { admission, load } = newAdmission(config, deps);
  const lifeLog = new LifeLog(log, metrics);
  const turns = new Turns();
  const logs = podLogLinks(config.linkLogs, log);
  const runtime = new CriRuntime(upstream, clock, turns, {
    ...config,
    beforeContainer: logs.beforeContainer,
    isBeingStarted: (id) => starts.progressOf(id) !== undefined,
  });
  const guard = new SecondCopyGuard(clock);
  const starts: StartStore<Origin, UpstreamAnswer> = new StartStore(
    runtime,
    guard,
    admission,
    clock,
    (step, start, detail) => lifeLog.start(step, start, detail),
    config,
  );
  const store: CreationStore<Origin, UpstreamAnswer> = new CreationStore(
    runtime,
    guard,
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
  const creations = new CreationCalls({ store, starts, logs, load, clock, metrics, log }, config);
  const hiding = new Hiding(store, upstream, relay, metrics);
  const handlers = callPath({ store, starts, creations, hiding, events, relay, turns, metrics, log });
  metrics.observeStore(() => store.sizes);
  metrics.observeOldest(() => ({ ...store.oldest, start: starts.oldest }));
  metrics.observeSubscriptions(() => events.subscriptions);
  return {
    handlers,
    admission,
    removeHeld: () => store.removeHeld(),
    close() {
      store.close();
      starts.close();
      admission.close();
    },
  };
}
