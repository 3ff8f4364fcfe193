/** Holdfast in process between a CRI client and a simulated runtime, with time in the test's hands. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import type { Test } from 'tap';
import { Metrics } from '../../src/admin/metrics.js';
import type { HoldfastConfig } from '../../src/config/config.js';
import { defaults } from '../../src/config/defaults.js';
import { SimulatedRuntime, type SimulatedRuntimeOptions } from '../../src/harness/simulated-runtime.js';
import type { CallTraces } from '../../src/proxy/call-traces.js';
import { type Holdfast, startHoldfast } from '../../src/proxy/holdfast.js';
import { type Budgets, newBudgets } from '../../src/proxy/http2/budgets.js';
import type { ReadPressure } from '../../src/throttle/pressure.js';
import { CriClient, KubeletPod, type PodOptions } from './cri-client.js';
import { ManualClock } from './manual-clock.js';

type Line = Record<string, unknown> & { step?: string };

interface Watcher {
  matches: (line: Line) => boolean;
  count: number;
  resolve: () => void;
}

export interface RigOptions {
  readonly runtime?: Partial<SimulatedRuntimeOptions>;
  readonly config?: Partial<HoldfastConfig>;
  /** Whether the runtime listens before Holdfast does; default true. */
  readonly runtimeUp?: boolean;
  /** Of Holdfast. */
  readonly maxConnections?: number;
  /** Those of Holdfast that are not the usual ones. */
  readonly budgets?: Partial<Budgets>;
  /** Default: there is none. */
  readonly readPressure?: ReadPressure;
  /** Default: nobody draws traces. */
  readonly traces?: CallTraces;
}

/** Neither short nor idle. */
const noPressure: ReadPressure = () => ({ avg10: 0, stalledMs: Number.POSITIVE_INFINITY });

export class Rig {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'hf-'));
  readonly clock = new ManualClock();
  metrics = new Metrics();
  readonly runtime: SimulatedRuntime;
  /** Straight to the runtime. */
  readonly direct: CriClient;
  /** Through Holdfast. */
  readonly client: CriClient;
  readonly lines: Line[] = [];
  readonly config: HoldfastConfig;
  holdfast: Holdfast | undefined;
  readonly #maxConnections: number | undefined;
  readonly #budgets: Partial<Budgets>;
  readonly #readPressure: ReadPressure;
  readonly #traces: CallTraces | undefined;
  readonly #watchers = new Set<Watcher>();

  private constructor(options: RigOptions) {
    const runtimePath = path.join(this.directory, 'runtime.sock');
    this.runtime = new SimulatedRuntime({ socketPath: runtimePath, ...options.runtime });
    this.config = {
      ...defaults,
      listen: path.join(this.directory, 'holdfast.sock'),
      runtime: runtimePath,
      ...options.config,
    };
    this.#maxConnections = options.maxConnections;
    this.#budgets = options.budgets ?? {};
    this.#readPressure = options.readPressure ?? noPressure;
    this.#traces = options.traces;
    this.direct = new CriClient(runtimePath);
    this.client = new CriClient(this.config.listen);
  }

  static async start(t: Test, options: RigOptions = {}): Promise<Rig> {
    const rig = new Rig(options);
    t.teardown(() => rig.close());
    if (options.runtimeUp !== false) await rig.runtime.listen();
    await rig.startHoldfast();
    return rig;
  }

  async startHoldfast(): Promise<void> {
    this.metrics = new Metrics();
    const log = pino({ level: 'trace' }, { write: (line: string) => this.#note(JSON.parse(line)) });
    const { clock, metrics } = this;
    const maxConnections = this.#maxConnections;
    this.holdfast = await startHoldfast(this.config, {
      log,
      clock,
      metrics,
      readPressure: this.#readPressure,
      traces: this.#traces,
      budgets: { ...newBudgets(clock), ...this.#budgets },
      ...(maxConnections === undefined ? {} : { maxConnections }),
    });
  }

  /** A second connection through Holdfast. */
  anotherClient(version: 'v1' | 'v1alpha2' = 'v1'): CriClient {
    return new CriClient(this.config.listen, version);
  }

  pod(options: Partial<PodOptions> = {}): KubeletPod {
    return new KubeletPod({ directory: this.directory, uid: 'uid-1', ...options });
  }

  /** Resolves once the log has `count` lines of a step (of a kind), since the start. */
  step(step: string, kind?: 'podSandbox' | 'container' | 'start', count = 1): Promise<void> {
    return this.logged((line) => line.step === step && (kind === undefined || line.kind === kind), count);
  }

  logged(matches: (line: Line) => boolean, count = 1): Promise<void> {
    if (this.lines.filter(matches).length >= count) return Promise.resolve();
    return new Promise((resolve) => this.#watchers.add({ matches, count, resolve }));
  }

  /** The steps logged for one kind, in order. */
  steps(kind: 'podSandbox' | 'container' | 'start'): (string | undefined)[] {
    return this.lines.filter((line) => line.kind === kind).map((line) => line.step);
  }

  /** Makes a READY pod sandbox through Holdfast. */
  async podSandbox(pod: KubeletPod): Promise<string> {
    return (await this.client.call('RunPodSandbox', pod.runPodSandboxRequest())).pod_sandbox_id;
  }

  /** Ids of the containers a client lists. */
  async listed(client = this.client): Promise<string[]> {
    return (await client.call('ListContainers')).containers.map(({ id }) => id);
  }

  /**
   * Asks for a container and leaves before it is made; then it is made.
   *
   * @returns its id.
   */
  async heldContainer(pod: KubeletPod, podSandboxId: string): Promise<string> {
    const before = this.runtime.containers.length;
    const hold = this.runtime.hold('createContainer');
    const leave = new AbortController();
    const request = pod.createContainerRequest(podSandboxId, { image: 'app' });
    const asked = this.client.call('CreateContainer', request, { signal: leave.signal });
    asked.catch(() => {});
    await hold.arrived();
    leave.abort();
    await this.step('waiter left', 'container');
    hold.release();
    await this.step('held', 'container');
    const [made] = this.runtime.containers.slice(before);
    if (made === undefined) throw new Error('no container was made');
    return made.id;
  }

  async close(): Promise<void> {
    this.client.close();
    this.direct.close();
    await this.holdfast?.close();
    await this.runtime.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #note(line: Line): void {
    this.lines.push(line);
    for (const watcher of this.#watchers) {
      if (this.lines.filter(watcher.matches).length < watcher.count) continue;
      this.#watchers.delete(watcher);
      watcher.resolve();
    }
  }
}
