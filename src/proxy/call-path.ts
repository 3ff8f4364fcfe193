/**
 * What happens to a call, in order. Read this first: every call a downstream makes comes through `decide`, and those that
 * are not forwarded as they are come through `take`. Where any of it meets a fault of Holdfast itself (faults.ts), that call goes to the
 * runtime as it came.
 */
import type { Logger } from 'pino';
import type { Metrics } from '../admin/metrics.js';
import type { CreationStore } from '../cache/creation-store.js';
import type { StartStore } from '../cache/start-store.js';
import { callName, type Method, methodOf } from '../cri/methods.js';
import { endedId, usedId } from '../cri/requests.js';
import type { CreationCalls } from './creation-calls.js';
import type { Origin } from './cri-runtime.js';
import type { Events } from './events.js';
import type { Faults } from './faults.js';
import type { Hiding } from './hiding.js';
import type { RouterHandlers } from './http2/link.js';
import type { KubeletSigns } from './kubelet-signs.js';
import type { Relay } from './relay.js';
import type { TakenCall } from './taken-call.js';
import type { Turns } from './turns.js';
import type { UpstreamAnswer } from './upstream.js';

export interface CallPathParts {
  readonly store: CreationStore<Origin, UpstreamAnswer>;
  readonly starts: StartStore<Origin, UpstreamAnswer>;
  readonly creations: CreationCalls;
  readonly hiding: Hiding;
  readonly events: Events;
  readonly relay: Relay;
  readonly faults: Faults;
  readonly turns: Turns;
  readonly signs: KubeletSigns;
  readonly metrics: Metrics;
  readonly log: Logger;
}

export function callPath(parts: CallPathParts): RouterHandlers {
  const { store, starts, creations, hiding, events, relay, faults, turns, signs, metrics, log } = parts;

  /** An id in a request shows that the downstream has what it names. */
  const noteUse = (method: Method, request: Buffer) => {
    const used = usedId(method, request);
    // Who only looks may have found it in a list.
    if (used !== undefined && method.reportsContainers) store.lookedAt(used.id);
    else if (used !== undefined) store.used(used.kind, used.id);
  };
  const noteUseIn = (method: Method, request: Buffer) =>
    faults.guard(method.name, () => noteUse(method, request), undefined);

  /** What a request ends is over once the runtime has said so: one that it refused changes nothing. */
  const noteEnd = (method: Method, request: Buffer) => {
    const ended = endedId(method, request);
    if (ended === undefined) return undefined;
    return (succeeded: boolean) => {
      if (!succeeded) return;
      faults.guard(method.name, () => store.ended(ended.kind, ended.id), undefined);
      faults.guard(method.name, () => starts.ended(ended.kind, ended.id), undefined);
    };
  };

  const decideOn = (path: string) => {
    const method = methodOf(path);
    if (method === undefined) {
      metrics.calls.begun(callName(path), 'passed');
      return 'pass';
    }
    const taken =
      method.creates !== undefined ||
      method.startsContainer ||
      method.events ||
      (method.reportsContainers && store.mayHide);
    signs.note(method.name);
    metrics.calls.begun(method.name, taken ? 'taken' : 'passed');
    if (taken) return 'take';
    if (method.reportsContainers) return 'report';
    return method.uses === undefined && method.ends === undefined ? 'pass' : 'observe';
  };

  const carryOut = async (call: TakenCall, method: Method | undefined): Promise<void> => {
    // 1. What makes something is made once. What cannot be told from other requests is the runtime's to judge (step 4).
    if (method?.creates !== undefined || method?.startsContainer) await turns.next();
    if (method?.creates !== undefined) return creations.create(call, method.creates) ?? relay.unary(call);
    if (method?.startsContainer) return creations.start(call) ?? relay.unary(call);
    // 2. Events are always relayed here: whether a container is hidden is only known when its event comes.
    if (method?.events) return events.subscribe(call);
    // 3. Reports lose what is hidden; a status of a pod sandbox also shows that its id is known.
    if (method?.reportsContainers) {
      noteUseIn(method, call.request);
      return hiding.report(call, method);
    }
    // 4. The rest goes to the runtime as it came.
    return relay.unary(call);
  };

  return {
    decide(path) {
      try {
        return decideOn(path);
      } catch (error) {
        faults.note(methodOf(path)?.name ?? 'other', error);
        return 'pass';
      }
    },
    observe(path, request) {
      const method = methodOf(path);
      if (method === undefined) return undefined;
      noteUseIn(method, request);
      return faults.guard(method.name, () => noteEnd(method, request), undefined);
    },
    ended: (path, code, tookMs) => metrics.calls.ended(callName(path), code, tookMs),
    takesLate: () => faults.guard('other', () => store.mayHide, false),
    async take(call) {
      const method = methodOf(call.path);
      try {
        await carryOut(call, method);
      } catch (error) {
        // Nothing has been done for it yet: what comes later is caught where it is known how far it is.
        faults.note(method?.name ?? 'other', error);
        await (method?.streaming ? relay.serverStream(call) : relay.unary(call));
      }
    },
    violation(peer, reason) {
      metrics.violations.inc({ peer });
      log.warn({ peer, reason }, 'connection ended: protocol violation');
    },
    refused(reason, isFirst) {
      metrics.refusedStreams.inc({ reason });
      if (isFirst) log.warn({ reason }, 'stream refused');
    },
    stalled(peer, waiting) {
      metrics.stalls.inc({ peer });
      log.warn({ peer, ...waiting }, 'connection stalled');
    },
  };
}
