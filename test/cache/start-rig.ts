/** A start store with its guard, over a runtime whose calls end when the test says so. */
import type { ContainerFingerprint } from '../../src/cache/fingerprint.js';
import { type ContainerNow, SecondCopyGuard } from '../../src/cache/second-copy-guard.js';
import type { Start, StartStep } from '../../src/cache/start.js';
import type { StartIdentity, StartRuntime } from '../../src/cache/start-runtime.js';
import { StartStore } from '../../src/cache/start-store.js';
import type { AdmissionOptions } from '../../src/throttle/admission.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { plainAdmission } from '../support/plain-admission.js';

/** What a runtime answers when a container does not start. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}

interface StartCall {
  /** What the request begins with; its bytes are not kept. */
  readonly text: string;
  readonly origin: string;
  readonly signal: AbortSignal;
  end(): void;
  fail(error: Error): void;
}

class TestRuntime implements StartRuntime<string, string> {
  readonly calls: StartCall[] = [];
  readonly identities = new Map<string, StartIdentity>();
  readonly states = new Map<string, ContainerNow['state'] | Error>();
  /** Identifications that wait, where they are ended by hand. */
  readonly identifying: { readonly signal: AbortSignal; end(found: StartIdentity | Error | undefined): void }[] = [];
  /** Looks that wait, where they are ended by hand. */
  readonly looking: (() => void)[] = [];
  identifiesByHand = false;
  looksByHand = false;
  looks = 0;
  /** What was asked of containers, and for whom. */
  readonly questions: string[] = [];

  start(bytes: Buffer, origin: string, signal: AbortSignal): Promise<string> {
    const text = bytes.toString('utf8', 0, 100);
    return new Promise((resolve, reject) => {
      this.calls.push({ text, origin, signal, end: () => resolve('started'), fail: reject });
    });
  }

  isRefusal(error: unknown): boolean {
    return error instanceof Refusal;
  }

  identify(containerId: string, origin: string, signal: AbortSignal): Promise<StartIdentity | undefined> {
    this.questions.push(`whose is ${containerId}? asks ${origin}`);
    if (!this.identifiesByHand) return Promise.resolve(this.identities.get(containerId));
    return new Promise((resolve, reject) => {
      const end = (found: StartIdentity | Error | undefined) =>
        found instanceof Error ? reject(found) : resolve(found);
      this.identifying.push({ signal, end });
    });
  }

  async stateOf(containerId: string, origin: string): Promise<ContainerNow> {
    this.looks += 1;
    this.questions.push(`how is ${containerId}? asks ${origin}`);
    if (this.looksByHand) await new Promise<void>((resolve) => this.looking.push(resolve));
    const state = this.states.get(containerId) ?? 'gone';
    if (state instanceof Error) throw state;
    return { state };
  }
}

interface SetUpOptions {
  readonly limit?: number;
  readonly maxEntries?: number;
  readonly admission?: Partial<AdmissionOptions>;
}

export type StartRig = ReturnType<typeof setUp>;

export function setUp({ limit = 1, maxEntries = 100, admission: more = {} }: SetUpOptions = {}) {
  const runtime = new TestRuntime();
  const clock = new ManualClock();
  const guard = new SecondCopyGuard(clock);
  const admission = plainAdmission(limit, clock, more);
  const steps: StartStep[] = [];
  const told: Record<string, unknown>[] = [];
  const options = { creationTimeoutMs: 60_000, holdTtlMs: 10_000, replayTtlMs: 30_000, maxEntries };
  const observe = (step: StartStep, { containerId }: Start<string, string>, detail: object) => {
    steps.push(step);
    told.push({ step, containerId, ...detail });
  };
  /** Of the store itself. */
  const faults: unknown[] = [];
  const faulted = (_: unknown, error: unknown) => void faults.push(error);
  const store = new StartStore<string, string>(runtime, guard, admission, clock, observe, options, faulted);
  const ask = (id: string, signal = unending(), known = identity(0)) =>
    store.request({ containerId: id, bytes: Buffer.alloc(0), origin: 'test', known }, signal);
  /** Without saying whose container it is. */
  const askUnknown = (id: string, signal = unending()) =>
    store.request({ containerId: id, bytes: Buffer.alloc(0), origin: 'test' }, signal);
  return { runtime, clock, guard, admission, store, steps, told, faults, ask, askUnknown };
}

/** The signal of a caller that waits for as long as it takes. */
export function unending(): AbortSignal {
  return new AbortController().signal;
}

export function identity(attempt: number, family = 'c', podSandboxId = 'sandbox'): StartIdentity {
  return { family, attempt, podSandboxId };
}

/** As far as a start looks at it: an attempt of the container of family `c`. */
export function attempt(number: number, family = 'c'): ContainerFingerprint {
  return { kind: 'container', family, identity: { attempt: number } } as ContainerFingerprint;
}

/** Begins a start and leaves. */
export async function abandoned({ ask }: StartRig, id = 'c0', known = identity(0)): Promise<void> {
  const leave = new AbortController();
  ask(id, leave.signal, known).catch(() => {});
  await settle();
  leave.abort();
  await settle();
}

/** A start that went through with nobody waiting. */
export async function finished(all: StartRig, id = 'c0', known = identity(0)): Promise<void> {
  const before = all.runtime.calls.length;
  await abandoned(all, id, known);
  all.runtime.states.set(id, 'running');
  all.runtime.calls[before]?.end();
  await settle();
}

/** How many starts the store keeps. */
export function keptIn({ census }: StartStore<string, string>): { readonly inFlight: number; readonly past: number } {
  const states = census.views().map(({ state }) => state);
  const inFlight = states.filter((state) => state === 'queued' || state === 'running').length;
  return { inFlight, past: states.length - inFlight };
}

/** What a promise came to, so far. */
export function outcomeOf(promise: Promise<unknown>): { now: unknown } {
  const outcome: { now: unknown } = { now: 'waits' };
  promise.then(
    (value) => {
      outcome.now = value;
    },
    (error) => {
      outcome.now = error;
    },
  );
  return outcome;
}
