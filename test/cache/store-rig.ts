/** A creation store over a runtime whose calls end when the test says so. */
import { Creation, type CreationRequest } from '../../src/cache/creation.js';
import type { Condition, CreationRuntime, Made, NameHolder, Subject } from '../../src/cache/creation-runtime.js';
import { CreationStore, type CreationStoreOptions } from '../../src/cache/creation-store.js';
import { DetachedCall, WaiterLeftError } from '../../src/cache/detached-call.js';
import {
  type ContainerFingerprint,
  type Fingerprint,
  fingerprintContainer,
  fingerprintPodSandbox,
} from '../../src/cache/fingerprint.js';
import type { CreationGuard } from '../../src/cache/preparation.js';
import type { Progress } from '../../src/cache/progress.js';
import type { ContainerItem } from '../../src/cri/container-items.js';
import { NamespaceMode } from '../../src/cri/enums.js';
import { messageType } from '../../src/cri/schema.js';
import type { AdmissionOptions } from '../../src/throttle/admission.js';
import { ManualClock, settle } from '../support/manual-clock.js';
import { plainAdmission } from '../support/plain-admission.js';

const podSandboxRequest = messageType('RunPodSandboxRequest');
const containerRequest = messageType('CreateContainerRequest');
const none = { volatileAnnotations: new Set<string>() };

function bytesOf(type: ReturnType<typeof messageType>, message: object): Buffer {
  return Buffer.from(type.encode(message).finish());
}

export function podSandbox(
  attempt = 0,
  hostname = 'h',
  uid = 'u',
  { handler = '', onHostNetwork = false } = {},
): CreationRequest<string> {
  const metadata = { name: 'p', namespace: 'n', uid, attempt };
  const linux = { security_context: { namespace_options: { network: NamespaceMode.node } } };
  const config = { metadata, hostname, ...(onHostNetwork && { linux }) };
  const bytes = bytesOf(podSandboxRequest, { config, runtime_handler: handler });
  return { bytes, fingerprint: known(fingerprintPodSandbox(bytes, none)), origin: 'test' };
}

export interface ContainerFields {
  readonly attempt?: number;
  readonly image?: string;
  readonly hash?: string;
  readonly podSandboxId?: string;
  readonly name?: string;
  readonly memory?: number;
}

export function container(fields: ContainerFields = {}): CreationRequest<string> {
  const { attempt = 0, image = 'i', hash = '1', podSandboxId = 's', name = 'c', memory = 0 } = fields;
  const bytes = bytesOf(containerRequest, {
    pod_sandbox_id: podSandboxId,
    config: {
      metadata: { name, attempt },
      image: { image },
      log_path: `${name}/${attempt}.log`,
      annotations: { 'io.kubernetes.container.hash': hash, 'io.kubernetes.container.restartCount': String(attempt) },
      ...(memory > 0 && { linux: { resources: { memory_limit_in_bytes: memory } } }),
    },
    sandbox_config: { metadata: { name: 'p', namespace: 'n', uid: 'u' }, log_directory: '/l' },
  });
  return { bytes, fingerprint: known(fingerprintContainer(bytes, none)), origin: 'test' };
}

function known(fingerprint: Fingerprint | undefined): Fingerprint {
  if (fingerprint === undefined) throw new Error('not a creation');
  return fingerprint;
}

/** An upstream call under way. */
export interface UpstreamCall {
  readonly bytes: Buffer;
  readonly fingerprint: Fingerprint;
  readonly signal: AbortSignal;
  end(id: string): void;
  fail(error: Error): void;
}

export class TestRuntime<Answer = string> implements CreationRuntime<string, Answer> {
  readonly calls: UpstreamCall[] = [];
  readonly removed: string[] = [];
  readonly checked: string[] = [];
  readonly updated: string[] = [];
  /** How things are found that are not as made. */
  readonly conditions = new Map<string, Condition>();
  /** Pod sandboxes in which a container has run. */
  readonly inhabited = new Set<string>();
  /** What the next looks end with. */
  checkErrors: Error[] = [];
  removalErrors: Error[] = [];
  updateErrors: Error[] = [];
  /** What has the name, one after the other; then nothing is to be seen of it. */
  holders: (NameHolder | Error)[] = [];
  checkGate: Promise<void> = Promise.resolve();

  create(bytes: Buffer, fingerprint: Fingerprint, _: string, signal: AbortSignal): Promise<Made<Answer>> {
    return new Promise((resolve, reject) => {
      const end = (id: string) => resolve(this.answerFor(id));
      this.calls.push({ bytes, fingerprint, signal, end, fail: reject });
    });
  }

  async conditionOf({ id }: Subject<string>): Promise<Condition> {
    await this.checkGate;
    this.checked.push(id);
    const error = this.checkErrors.shift();
    if (error !== undefined) throw error;
    return this.conditions.get(id) ?? 'as made';
  }

  async isInhabited({ id }: Subject<string>): Promise<boolean> {
    return this.inhabited.has(id);
  }

  async holderOf(): Promise<NameHolder> {
    const holder = this.holders.shift() ?? { condition: 'unseen', id: undefined };
    if (holder instanceof Error) throw holder;
    return holder;
  }

  answerFor(id: string): Made<Answer> {
    return { id, answer: `answer ${id}` as Answer };
  }

  async remove({ id }: Subject<string>): Promise<void> {
    const error = this.removalErrors.shift();
    if (error !== undefined) throw error;
    this.removed.push(id);
  }

  async updateResources({ id }: Subject<string>): Promise<void> {
    const error = this.updateErrors.shift();
    if (error !== undefined) throw error;
    this.updated.push(id);
  }

  call(index: number): UpstreamCall {
    const call = this.calls.at(index);
    if (call === undefined) throw new Error(`no upstream call ${index}`);
    return call;
  }
}

/** Lets everything pass until the test puts something in the way. */
export class TestGuard implements CreationGuard {
  start: ReturnType<CreationGuard['inTheWay']>;
  passes: Promise<void> = Promise.resolve();

  inTheWay(_: ContainerFingerprint): ReturnType<CreationGuard['inTheWay']> {
    return this.start;
  }

  async pass(_fingerprint: ContainerFingerprint, _signal: AbortSignal): Promise<void> {
    await this.passes;
    this.start = undefined;
  }
}

export type StoreRig = ReturnType<typeof setUp>;

export function setUp(
  options: Partial<CreationStoreOptions & { limit: number; admission: Partial<AdmissionOptions> }> = {},
) {
  const runtime = new TestRuntime();
  const guard = new TestGuard();
  const clock = new ManualClock();
  const steps: string[] = [];
  const details: Record<string, unknown>[] = [];
  const seen: string[] = [];
  /** Of the store itself. */
  const faults: unknown[] = [];
  const states = new Map<Creation<string, string>, string>();
  const store = new CreationStore<string, string>(
    runtime,
    guard,
    plainAdmission(options.limit ?? 100, clock, options.admission),
    clock,
    {
      step: (step, creation, detail) => {
        steps.push(step);
        details.push({ step, ...detail });
        states.set(creation, creation.state);
      },
      revealed: ({ made }) => seen.push(`revealed ${made?.id}`),
      vanished: ({ made }) => seen.push(`vanished ${made?.id}`),
      faulted: (_, error) => faults.push(error),
    },
    {
      creationTimeoutMs: 60_000,
      holdTtlMs: 10_000,
      replayTtlMs: 30_000,
      wedgeAfterMs: 120_000,
      maxEntries: 100,
      onDrift: 'keep',
      onAttemptBump: 'join',
      ...options,
    },
  );
  /** Every creation that was ever spoken of, in the order in which they began. */
  const creations = () => [...states.keys()];
  return { runtime, guard, clock, store, steps, details, seen, faults, creations };
}

export const never = new AbortController().signal;

/** Lets looks wait until it is called. */
export function holdLooks({ runtime }: StoreRig): () => Promise<void> {
  let go = () => {};
  runtime.checkGate = new Promise((resolve) => {
    go = resolve;
  });
  return () => {
    runtime.checkGate = Promise.resolve();
    go();
    return settle();
  };
}

/** Lets a creation fail again and again. */
export async function failed(rig: StoreRig, times: number, request = podSandbox()): Promise<void> {
  for (let n = 0; n < times; n += 1) {
    rig.store.request(request, never).catch(() => {});
    await settle();
    rig.runtime.call(-1).fail(new Error('no network'));
    await settle();
  }
}

/** Makes what somebody is known to have. */
export async function delivered(rig: StoreRig, request = podSandbox(), id = 's1'): Promise<void> {
  const asked = rig.store.request(request, never);
  await settle();
  rig.runtime.call(-1).end(id);
  (await asked).settle(true);
}

/** Asks, waits, and leaves. @returns What it is told that it waited for. */
export async function askAndLeave(
  { store }: StoreRig,
  request: CreationRequest<string>,
  wait: () => Promise<void> = settle,
): Promise<Progress | undefined> {
  const leave = new AbortController();
  const asked = store.request(request, leave.signal);
  const end = asked.catch((error: unknown) => error);
  await wait();
  leave.abort();
  const error = await end;
  if (!(error instanceof WaiterLeftError)) throw new Error('it had its answer', { cause: error });
  return error.progress;
}

/** Makes a container that nobody waited for. */
export async function held({ runtime, store }: StoreRig, fields: ContainerFields = {}, id = 'c1'): Promise<void> {
  const leave = new AbortController();
  const asked = store.request(container(fields), leave.signal);
  asked.catch(() => {});
  await settle();
  leave.abort();
  runtime.calls.at(-1)?.end(id);
  await settle();
}

/** A creation that no store knows of, queued. */
export function lone(asked: CreationRequest<string>, clock = new ManualClock()): Creation<string, string> {
  const untold = { waiterLeft() {}, succeeded() {}, failed() {} };
  return new Creation(asked, new DetachedCall(clock, untold));
}

/** What a runtime reports of a container. */
export function item(id: string, fields: ContainerFields & { readonly state?: number } = {}): ContainerItem {
  const { name = 'c', attempt = 0, podSandboxId = 's', state } = fields;
  return { id, podSandboxId, name, attempt, state, labels: new Map<string, string>() };
}
