/** A node with a simulated runtime on it, as slow and as faulty as a scenario says: equally so with the same seed. */
import path from 'node:path';
import { systemClock } from '../../clock.js';
import { fixed, logNormal, stalling } from '../runtime/capacity.js';
import { Contention } from '../runtime/contention.js';
import type { Uniform } from '../runtime/draws.js';
import { failing, firstOf, hanging, restartAt } from '../runtime/failures.js';
import type { Profile } from '../runtime/profiles.js';
import type { Duration } from '../runtime/work.js';
import { SimulatedRuntime } from '../simulated-runtime.js';
import type { NodeMaking, NodeUnderTest } from './node-under-test.js';
import { keepPressureFiles } from './pressure-files.js';
import type { RuntimePart, StepTime } from './scenario.js';

export class SimulatedNode implements NodeUnderTest {
  readonly socketPath: string;
  readonly holdfastArguments: readonly string[];
  readonly #runtime: SimulatedRuntime;
  readonly #restarts: RuntimePart['restarts'];
  readonly #over = new AbortController();
  readonly #inBackground: Promise<void>[];

  private constructor(
    directory: string,
    part: RuntimePart,
    hung: ReadonlySet<string>,
    profile: Profile,
    random: Uniform,
  ) {
    this.socketPath = path.join(directory, 'r.sock');
    const shares = { fail: part.failures.share, hang: part.failures.hangShare };
    const contention = part.contention && new Contention(systemClock, part.contention);
    this.#runtime = new SimulatedRuntime({
      socketPath: this.socketPath,
      profile,
      runPodSandboxMs: duration(part.runPodSandbox, random),
      createContainerMs: duration(part.createContainer, random),
      startContainerMs: duration(part.startContainer, random),
      rollbackMs: part.rollbackMs,
      failures: {
        runPodSandbox: firstOf(failing(random, shares), hanging(hung, part.hangs.times ?? Infinity)),
        createContainer: failing(random, shares),
        startContainer: failing(random, shares),
      },
      ...(contention === undefined ? {} : { contention }),
    });
    this.#restarts = part.restarts;
    const cgroup = path.join(directory, 'cgroup');
    this.holdfastArguments = [`--pressure-cgroup=${cgroup}`];
    this.#inBackground = [keepPressureFiles(cgroup, contention, part.contention?.resource ?? 'cpu', this.#over.signal)];
  }

  /**
   * @param directory Of its own, and short: the socket is made in it.
   * @param hung Pods whose sandboxes hang as often as the part says, as podOf says them.
   * @param random Drawn from as often for every profile.
   */
  static async start(
    directory: string,
    part: RuntimePart,
    hung: ReadonlySet<string>,
    profile: Profile,
    random: Uniform,
  ): Promise<SimulatedNode> {
    const node = new SimulatedNode(directory, part, hung, profile, random);
    await node.#runtime.listen();
    return node;
  }

  begin(): void {
    this.#inBackground.push(restartAt(this.#runtime, this.#restarts, systemClock, this.#over.signal));
  }

  makings(): readonly NodeMaking[] {
    const { sandboxes, containers, starts } = this.#runtime.made;
    return [...sandboxes, ...containers, ...starts].sort((a, b) => a.beganMs - b.beganMs);
  }

  restarts(): number {
    return this.#runtime.made.starts.filter(({ attempt, outcome }) => attempt > 0 && outcome === 'finished').length;
  }

  highestAttempt(): number {
    const ran = this.#runtime.made.starts.filter(({ outcome }) => outcome === 'finished');
    return Math.max(0, ...ran.map(({ attempt }) => attempt));
  }

  runs(podUid: string, containerName: string): number {
    return this.#runtime.runs(podUid, containerName);
  }

  duplicatesAlive(): number {
    const containers = new Map(
      this.#runtime.made.containers.map(({ podUid, name }) => [`${podUid} ${containerOf(name)}`, { podUid, name }]),
    );
    return [...containers.values()].filter(
      ({ podUid, name }) => this.#runtime.mostCopies(podUid, containerOf(name)) > 1,
    ).length;
  }

  leftOvers(): Promise<number> {
    return Promise.resolve(this.#runtime.sandboxes.length + this.#runtime.containers.length);
  }

  async close(): Promise<void> {
    this.#over.abort();
    await Promise.all(this.#inBackground);
    await this.#runtime.close();
  }
}

function duration({ medianMs, sigma, stall }: StepTime, random: Uniform): Duration {
  const baseMs = sigma === 0 ? fixed(medianMs) : logNormal(random, { medianMs, sigma });
  return stall === undefined ? baseMs : stalling(random, { baseMs, stallMs: stall.forMs, share: stall.share });
}

/** Out of a reserved name. */
function containerOf(name: string): string {
  return name.replace(/^k8s_/, '').split('_')[0] ?? '';
}
