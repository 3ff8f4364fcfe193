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
import { type CallTraces, guardedTraces, noTraces } from './call-traces.js';
import { CreationCalls } from './creation-calls.js';
import { CriRuntime, type Origin } from './cri-runtime.js';
import { Events } from './events.js';
import { Faults } from './faults.js';
import { Hiding } from './hiding.js';
import type { RouterHandlers } from './http2/link.js';
import { Inspection } from './inspection.js';
import { KubeletSigns } from './kubelet-signs.js';
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
  /** Default: nobody draws traces. */
  readonly traces?: CallTraces | undefined;
}

export interface Core {
  readonly handlers: RouterHandlers;
  readonly admission: Admission;
  readonly inspection: Inspection;
  /** Removes what is held, which a kubelet would take for containers of its own; resolves when nothing is left that can be removed. */
  removeHeld(): Promise<void>;
  /** Cuts short what runs upstream; the upstream itself stays open. */
  close(): void;
}

function methodOf({ kind }: { readonly kind: 'podSandbox' | 'container' }): string {
  return kind === 'podSandbox' ? 'RunPodSandbox' : 'CreateContainer';
}

export function newCore(config: HoldfastConfig, deps: CoreDeps): Core {
  const { log, clock, metrics, upstream } = deps;
  const { admission, load } = newAdmission(config, deps);
  const faults = new Faults(metrics, log, clock);
  const traces = deps.traces === undefined ? noTraces : guardedTraces(deps.traces, faults);
  const lifeLog = new LifeLog(log, metrics);
  const turns = new Turns();
  const logs = podLogLinks(config.linkLogs, log);
  const runtime = new CriRuntime(upstream, clock, turns, {
    ...config,
    beforeContainer: logs.beforeContainer,
    isBeingStarted: (id) => starts.isInFlight(id),
    metadataOf: traces.metadataOf,
  });
  const guard = new SecondCopyGuard(clock);
  /** Whoever only looks on cannot disturb what it looks at. */
  const watch = (method: string, look: () => void) => faults.guard(method, look, undefined);
  const starts: StartStore<Origin, UpstreamAnswer> = new StartStore(
    runtime,
    guard,
    admission,
    clock,
    (step, start, detail) => {
      watch('StartContainer', () => lifeLog.start(step, start, detail));
      traces.start(step, start, detail);
    },
    config,
    (_, error) => faults.note('StartContainer', error),
  );
  const store: CreationStore<Origin, UpstreamAnswer> = new CreationStore(
    runtime,
    guard,
    admission,
    clock,
    {
      step(step, creation, detail) {
        watch(methodOf(creation), () => lifeLog.creation(step, creation, detail));
        traces.creation(step, creation, detail);
      },
      revealed: (creation) => watch('GetContainerEvents', () => events.revealed(creation)),
      vanished: (creation) => watch('GetContainerEvents', () => events.vanished(creation)),
      faulted: (creation, error) => faults.note(methodOf(creation), error),
    },
    config,
  );
  const relay = new Relay(upstream, clock);
  const events: Events = new Events(store, upstream, relay, metrics, faults);
  const creations = new CreationCalls(
    { store, starts, relay, faults, traces, logs, load, clock, metrics, log },
    config,
  );
  const hiding = new Hiding(store, upstream, relay, metrics, faults);
  const signs = new KubeletSigns(clock);
  const handlers = callPath({ store, starts, creations, hiding, events, relay, faults, turns, signs, metrics, log });
  const inspection = new Inspection(
    {
      creations: store.census,
      starts: starts.census,
      forget: (matches) => store.forgetByHand(matches),
      admission,
      load,
      signs,
      clock,
      log,
    },
    config,
  );
  metrics.observeStore(() => store.census.sizes);
  metrics.observeOldest(() => ({ ...store.census.oldest, start: starts.census.oldest }));
  metrics.observeSubscriptions(() => events.subscriptions);
  return {
    handlers,
    admission,
    inspection,
    removeHeld: () => store.removeHeld(),
    close() {
      store.close();
      starts.close();
      admission.close();
    },
  };
}
