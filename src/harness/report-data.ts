/**
 * What a run of `holdfast bench` yields. The JSON file, the table and the picture are made of nothing else. Times are in ms since
 * the arm began, figures are medians over the repeats, timelines are those of the first repeat.
 */

export interface Report {
  readonly scenario: string;
  readonly description: string;
  readonly seed: number;
  readonly pods: number;
  readonly repeats: number;
  /** `simulated`, or name and version of the real one. */
  readonly runtime: string;
  readonly arms: readonly ArmReport[];
}

export interface ArmReport {
  readonly name: string;
  /** What it is, in a few words. */
  readonly title: string;
  /** Pods that hang for ever in the simulated runtime, whatever is in front of it. Nobody waits for them. */
  readonly neverRun: number;
  /** Every other pod that was not deleted came to run, in each repeat. */
  readonly converged: boolean;
  /** When half, 95 % and all of those ran; null: that many never did while they were watched. */
  readonly runningMs: Percentiles<'p50' | 'p95' | 'all'>;
  /** The static ones among those; null: there are none. */
  readonly staticPods: OwnPods | null;
  /** Those in kube-system that are not static; null: there are none. */
  readonly criticalPods: OwnPods | null;
  /** Pod sandboxes and containers the runtime began to make ÷ the different ones among them; ideal 1. */
  readonly creationsPerPod: number;
  /** Errors of RunPodSandbox, CreateContainer and StartContainer as the client saw them. */
  readonly deadlineErrors: number;
  readonly reservedErrors: number;
  readonly otherErrors: number;
  /** Containers that ran with an attempt above 0. */
  readonly restarts: number;
  /** Of a container that ran. */
  readonly highestAttempt: number;
  /** Of pods that end by themselves; null: there are none, or the runtime does not tell. */
  readonly work: WorkDone | null;
  /** Containers of which two copies ever ran at once. */
  readonly duplicatesAlive: number;
  /** Pod sandboxes and containers the runtime still had after the client had removed every pod it saw. */
  readonly leftOvers: number;
  /** How long ListPodSandbox and ListContainers took while pods came up. */
  readonly listMs: Percentiles<'p50' | 'p99'>;
  /** What the process of Holdfast used; null: an arm without. */
  readonly holdfast: { readonly cpuMs: number; readonly rssBytes: number } | null;
  /** How long it was watched. */
  readonly durationMs: number;
  readonly timelines: readonly Timeline[];
}

/** Pods that the node itself needs. */
export interface OwnPods {
  readonly pods: number;
  /** How long after it was asked for the last of them ran; null: not all of them did while they were watched. */
  readonly allMs: number | null;
}

/** How often the work of pods was done: that is, each of their containers' processes run. */
export interface WorkDone {
  /** How many there are. */
  readonly pods: number;
  /** Of how many each container ran exactly once. */
  readonly once: number;
  /** Of how many a container ran more than once. */
  readonly more: number;
}

export type Percentiles<Name extends string> = Readonly<Record<Name, number | null>>;

/** One pod. */
export interface Timeline {
  readonly pod: string;
  /** What the client was at: one after the other, without overlap. */
  readonly calls: readonly Span<'podSandbox' | 'container' | 'start' | 'waiting' | 'running' | 'done'>[];
  /** What was done for it behind the client's back: queued in Holdfast, under way in the runtime, or held. */
  readonly work: readonly Work[];
  readonly marks: readonly Mark[];
}

export interface Span<State extends string> {
  readonly fromMs: number;
  readonly toMs: number;
  readonly state: State;
}

export interface Work extends Span<'queued' | 'podSandbox' | 'container' | 'start' | 'held'> {
  /** Its result was rolled back, or removed before anyone got it; where that is known. */
  readonly thrownAway?: boolean;
}

export interface Mark {
  readonly atMs: number;
  readonly kind: 'deadline passed' | 'error' | 'joined' | 'replayed' | 'adopted' | 'deleted';
  readonly text: string;
}
