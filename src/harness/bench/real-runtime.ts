/**
 * A container runtime of this machine for the bench: whether it may be used, the pods the bench makes on it, known by a label, and
 * their removal, also of those that a killed run has left. Touches nothing without that label.
 */
import { readdirSync, readFileSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import pLimit from 'p-limit';
import { systemClock } from '../../clock.js';
import { ConfigError } from '../../config/config-error.js';
import { CriCaller } from '../cri-caller.js';
import type { StringMap } from '../runtime/messages.js';
import { repeat, sleep } from '../sleep.js';
import type { NodeUnderTest } from './node-under-test.js';

export interface RealRuntimeOptions {
  readonly socketPath: string;
  /** Undefined: the runtime's pause image. */
  readonly image: string | undefined;
  /** Whether it may be one that a kubelet uses. */
  readonly kubeletToo: boolean;
  /** Told what could not be removed. */
  readonly warn: (text: string) => void;
}

interface Listed {
  readonly id: string;
  readonly state: string;
  readonly metadata: { readonly name: string; readonly namespace: string; readonly attempt: number };
  readonly labels: StringMap;
}

interface ListedImage {
  readonly id: string;
  readonly repo_tags: readonly string[];
  readonly pinned: boolean;
}

const label = 'holdfast.dev/bench';
const podUidLabel = 'io.kubernetes.pod.uid';

const callTimeoutMs = 30_000;
const removalsAtOnce = 16;
/** How long removing everything may take. */
const removalMs = 60_000;
/** Work that was cut off may still come out of it for a moment. */
const quietMs = 1_000;
const lookEveryMs = 250;

const never = new AbortController().signal;

export class RealRuntime {
  /** Name and version. */
  readonly name: string;
  readonly #options: RealRuntimeOptions;
  readonly #caller: CriCaller;
  readonly #image: string;
  readonly #cgroupParent: string;
  /** Value of the label. */
  readonly #run: string;

  private constructor(options: RealRuntimeOptions, caller: CriCaller, name: string, info: string, image: string) {
    this.#options = options;
    this.#caller = caller;
    this.name = name;
    this.#image = image;
    this.#run = `${process.pid}.${startTime(process.pid)}.${crypto.randomUUID().slice(0, 8)}`;
    const isSystemd = /"SystemdCgroup":\s*true/i.test(info);
    this.#cgroupParent = isSystemd ? `${cgroupOf(this.#run)}.slice` : `/${cgroupOf(this.#run)}`;
  }

  /**
   * Looks at the runtime, and removes what a killed run has left on it.
   *
   * @throws {ConfigError} It does not answer, is one that a kubelet uses, or has not got the image.
   */
  static async connect(options: RealRuntimeOptions): Promise<RealRuntime> {
    const { socketPath, kubeletToo } = options;
    const caller = new CriCaller(socketPath);
    try {
      const version = await caller
        .call<{ runtime_name: string; runtime_version: string }>('Version', {}, callTimeoutMs, never)
        .catch((error: Error) => {
          throw new ConfigError(`--runtime: ${socketPath} does not answer: ${error.message}`);
        });
      if (!kubeletToo) await refuseKubelet(socketPath, caller);
      const { info } = await caller.call<{ info: StringMap }>('Status', { verbose: true }, callTimeoutMs, never);
      const config = info.config ?? '';
      const image = await checkedImage(options.image ?? (await sandboxImage(config, caller)), caller);
      const name = `${version.runtime_name} ${version.runtime_version}`;
      const runtime = new RealRuntime(options, caller, name, config, image);
      for (const run of await runtime.#remove((other) => !isAlive(other), 0)) removeCgroup(run);
      return runtime;
    } catch (error) {
      caller.close();
      throw error;
    }
  }

  node(): NodeUnderTest {
    return new RealNode(this.#options.socketPath, this.#caller, {
      imageName: this.#image,
      cgroupParent: this.#cgroupParent,
      labels: { [label]: this.#run },
      removeAll: () => this.#remove((run) => run === this.#run, quietMs),
    });
  }

  close(): void {
    this.#caller.close();
    removeCgroup(this.#run);
  }

  /**
   * Tells what it could not remove.
   *
   * @param which Gets the value of the label.
   * @param quietMs For how long nothing of the kind must have been there at the end.
   * @returns Values of the label that were seen.
   */
  async #remove(which: (run: string) => boolean, quietMs: number): Promise<ReadonlySet<string>> {
    const runs = new Set<string>();
    const endMs = systemClock.now() + removalMs;
    const atOnce = pLimit(removalsAtOnce);
    let lastSeenMs = systemClock.now();
    for (;;) {
      const nowMs = systemClock.now();
      const errors: string[] = [];
      try {
        const sandboxes = (await listed(this.#caller, 'ListPodSandbox', {})).filter(({ labels }) => {
          const run = labels[label];
          if (run === undefined || !which(run)) return false;
          runs.add(run);
          return true;
        });
        if (sandboxes.length === 0 && nowMs - lastSeenMs >= quietMs) return runs;
        if (sandboxes.length > 0) lastSeenMs = nowMs;
        await Promise.all(
          sandboxes.map(({ id }) =>
            atOnce(() => this.#removeSandbox(id)).catch((error: Error) =>
              errors.push(`pod sandbox ${id}: ${error.message}`),
            ),
          ),
        );
      } catch (error) {
        errors.push(`its pod sandboxes: ${error instanceof Error ? error.message : String(error)}`);
      }
      if (nowMs >= endMs) {
        for (const error of errors) this.#options.warn(`could not remove ${error}`);
        return runs;
      }
      await sleep(systemClock, lookEveryMs, never);
    }
  }

  async #removeSandbox(id: string): Promise<void> {
    await this.#caller.call('StopPodSandbox', { pod_sandbox_id: id }, callTimeoutMs, never);
    await this.#caller.call('RemovePodSandbox', { pod_sandbox_id: id }, callTimeoutMs, never);
  }
}

class RealNode implements NodeUnderTest {
  readonly socketPath: string;
  readonly imageName: string;
  readonly podDefaults: { readonly cgroupParent: string; readonly labels: StringMap };
  readonly holdfastArguments: readonly string[] = [];
  readonly #caller: CriCaller;
  readonly #removeAll: () => Promise<unknown>;
  readonly #over = new AbortController();
  #looking: Promise<void> = Promise.resolve();
  readonly #restarted = new Set<string>();
  #highestAttempt = 0;
  readonly #duplicated = new Set<string>();

  constructor(
    socketPath: string,
    caller: CriCaller,
    own: { imageName: string; cgroupParent: string; labels: StringMap; removeAll: () => Promise<unknown> },
  ) {
    this.socketPath = socketPath;
    this.#caller = caller;
    this.imageName = own.imageName;
    this.podDefaults = { cgroupParent: own.cgroupParent, labels: own.labels };
    this.#removeAll = own.removeAll;
  }

  begin(): void {
    this.#looking = repeat(systemClock, lookEveryMs, this.#over.signal, () => this.#look());
  }

  makings(): undefined {
    return undefined;
  }

  restarts(): number {
    return this.#restarted.size;
  }

  highestAttempt(): number {
    return this.#highestAttempt;
  }

  runs(): undefined {
    return undefined;
  }

  duplicatesAlive(): number {
    return this.#duplicated.size;
  }

  async leftOvers(): Promise<number> {
    const { labels } = this.podDefaults;
    const [sandboxes, containers] = await Promise.all([
      listed(this.#caller, 'ListPodSandbox', labels),
      listed(this.#caller, 'ListContainers', labels),
    ]);
    return sandboxes.length + containers.length;
  }

  async close(): Promise<void> {
    this.#over.abort();
    await this.#looking;
    await this.#removeAll();
  }

  async #look(): Promise<void> {
    const containers = await listed(this.#caller, 'ListContainers', this.podDefaults.labels);
    const seen = new Set<string>();
    for (const { id, state, metadata, labels } of containers) {
      if (state !== 'CONTAINER_RUNNING') continue;
      if (metadata.attempt > 0) this.#restarted.add(id);
      this.#highestAttempt = Math.max(this.#highestAttempt, metadata.attempt);
      const identity = `${labels[podUidLabel]} ${metadata.name}`;
      if (seen.has(identity)) this.#duplicated.add(identity);
      seen.add(identity);
    }
  }
}

async function listed(
  caller: CriCaller,
  method: 'ListPodSandbox' | 'ListContainers',
  labels: StringMap,
): Promise<readonly Listed[]> {
  const answer = await caller.call<{ items?: readonly Listed[]; containers?: readonly Listed[] }>(
    method,
    { filter: { label_selector: labels } },
    callTimeoutMs,
    never,
  );
  // Runtimes may not support a filter.
  return (answer.items ?? answer.containers ?? []).filter((item) =>
    Object.entries(labels).every(([key, value]) => item.labels[key] === value),
  );
}

/** @throws {ConfigError} A kubelet runs here, or has pods there. */
async function refuseKubelet(socketPath: string, caller: CriCaller): Promise<void> {
  const toldBy = kubeletPid() ?? (await kubeletPod(caller));
  if (toldBy === undefined) return;
  throw new ConfigError(
    `--runtime: a kubelet may be using ${socketPath}: ${toldBy}; give --yes-this-node to run pods beside its own`,
  );
}

function kubeletPid(): string | undefined {
  const pid = processes().find((candidate) => read(`/proc/${candidate}/comm`)?.trim() === 'kubelet');
  return pid === undefined ? undefined : `process ${pid} is a kubelet`;
}

async function kubeletPod(caller: CriCaller): Promise<string | undefined> {
  const sandboxes = await listed(caller, 'ListPodSandbox', {});
  const foreign = sandboxes.find(({ labels }) => labels[podUidLabel] !== undefined && labels[label] === undefined);
  return foreign && `it has a pod of a kubelet, ${foreign.metadata.namespace}/${foreign.metadata.name}`;
}

/**
 * The verbose status of CRI-O and of containerd 1.x says it. That of containerd 2 does not; there it is the image that is pinned
 * (`pinned_images`), unless others are too.
 */
async function sandboxImage(config: string, caller: CriCaller): Promise<string> {
  const said = /"sandboxImage":\s*"([^"]+)"/.exec(config)?.[1];
  if (said !== undefined) return said;
  const { images } = await caller.call<{ images: readonly ListedImage[] }>('ListImages', {}, callTimeoutMs, never);
  const [image, another] = images.filter(({ pinned }) => pinned);
  if (image !== undefined && another === undefined) return image.repo_tags[0] ?? image.id;
  throw new ConfigError('the runtime does not say what its pause image is: give --image');
}

/** @throws {ConfigError} It is not there. */
async function checkedImage(image: string, caller: CriCaller): Promise<string> {
  const answer = await caller.call<{ image: object | null }>('ImageStatus', { image: { image } }, callTimeoutMs, never);
  if (answer.image !== null) return image;
  throw new ConfigError(`the image ${image} is not on this node: pull it, or give --image with one that is`);
}

/** Whether the run that used this label's value still goes on. */
function isAlive(run: string): boolean {
  const [pid = '', start] = run.split('.');
  return start !== undefined && startTime(Number(pid)) === start;
}

/** When a process started, in clock ticks; with the pid it tells one process from all others (proc(5)). */
function startTime(pid: number): string | undefined {
  return read(`/proc/${pid}/stat`)
    ?.replace(/^.*\) /s, '')
    .split(' ')[19];
}

function processes(): string[] {
  return directories('/proc').filter((name) => /^\d+$/.test(name));
}

/** Above those of a run's pods; without a dash, which systemd takes for a level. */
function cgroupOf(run: string): string {
  return `holdfast_bench_${run.split('.')[2]}`;
}

/** Runtimes remove the cgroups of containers, not those above them; systemd does, of its slices. */
function removeCgroup(run: string): void {
  const root = '/sys/fs/cgroup';
  for (const hierarchy of [root, ...directories(root).map((name) => path.join(root, name))]) {
    removeTree(path.join(hierarchy, cgroupOf(run)));
  }
}

function removeTree(cgroup: string): void {
  for (const child of directories(cgroup)) removeTree(path.join(cgroup, child));
  try {
    rmdirSync(cgroup);
  } catch {
    // There is none, or it is in use.
  }
}

function directories(parent: string): string[] {
  try {
    return readdirSync(parent, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  } catch {
    return [];
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
