/** `holdfast status`: why is my pod stuck? Asks a running Holdfast, once or again and again, and says what it is at. */
import type { ReportedCreation } from '../proxy/creation-report.js';
import { askCreations } from './answers.js';
import { AdminError, type Bypass, readBypass } from './client.js';
import { ofPod } from './pods.js';
import type { CreationsAnswer, Summary } from './routes.js';
import { statusText } from './status-text.js';

/**
 * Exit codes of status and forget beside 0 (all is well), 1 (Holdfast cannot be asked) and 2 (not understood): the node is without Holdfast,
 * something is stuck (of forget: all was refused), and Holdfast knows of no such pod, or of several.
 */
export const exitCodes = { well: 0, cannotAsk: 1, bypassed: 3, stuck: 4, noSuchPod: 5 } as const;

export interface StatusOptions {
  readonly socket: string;
  readonly pod: string | undefined;
  readonly json: boolean;
  readonly watch: boolean;
}

export interface StatusIo {
  readonly stdout: { write(text: string): unknown; readonly isTTY?: boolean };
  readonly stderr: { write(text: string): unknown };
  /** Resolves after a pause, or at once where it is to end: whether to look again. */
  again(): Promise<boolean>;
  /** ISO 8601. */
  now(): string;
}

/** What was found. */
export interface Look {
  readonly bypass: Bypass | undefined;
  /** undefined: Holdfast could not be asked. */
  readonly summary: Summary | undefined;
  /** What is to be shown, the most urgent first. */
  readonly shown: readonly ReportedCreation[];
  /** Why it could not be asked, or that there is no such pod. */
  readonly problem: string | undefined;
  readonly exitCode: number;
}

/** Clears a terminal and goes to its top. Source: ECMA-48, ED and CUP. */
const clear = '\x1b[2J\x1b[H';

/** @returns The exit code. */
export async function runStatus(options: StatusOptions, io: StatusIo): Promise<number> {
  const { json, watch } = options;
  for (;;) {
    const look = await lookAt(options);
    if (json) io.stdout.write(`${JSON.stringify(jsonOf(look), undefined, watch ? undefined : 2)}\n`);
    else if (watch) io.stdout.write(`${io.stdout.isTTY === true ? clear : ''}${io.now()}\n${statusText(look)}\n`);
    else if (look.summary === undefined && look.bypass === undefined) io.stderr.write(`holdfast: ${look.problem}\n`);
    else io.stdout.write(statusText(look));
    if (!watch || !(await io.again())) return look.exitCode;
  }
}

export async function lookAt({ socket, pod }: Pick<StatusOptions, 'socket' | 'pod'>): Promise<Look> {
  const bypass = readBypass(socket);
  let answer: CreationsAnswer;
  try {
    answer = await askCreations(socket, pod !== undefined);
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    const exitCode = bypass === undefined ? exitCodes.cannotAsk : exitCodes.bypassed;
    return { bypass, summary: undefined, shown: [], problem: error.message, exitCode };
  }
  const { summary, creations } = answer;
  const found = pod === undefined ? creations.filter(isOfInterest) : ofPod(creations, pod);
  if (pod !== undefined && found.length === 0) {
    const problem = `Holdfast knows nothing of a pod ${pod}: nothing of it is queued, running, held or remembered. A pod is named by name, namespace/name or the begin of its uid.`;
    return { bypass, summary, shown: [], problem, exitCode: exitCodes.noSuchPod };
  }
  const shown = [...found].sort((a, b) => Number(b.stuck) - Number(a.stuck) || b.ageMs - a.ageMs);
  const isStuck = !summary.runtimeAnswers || shown.some(({ stuck }) => stuck);
  return { bypass, summary, shown, problem: undefined, exitCode: isStuck ? exitCodes.stuck : exitCodes.well };
}

/** What nobody waits for and the kubelet has, or finds, is of interest only where somebody asks for its pod. */
function isOfInterest({ state, stuck, stateForMs }: ReportedCreation): boolean {
  if (state === 'failing') return stuck || stateForMs < 60_000;
  return state !== 'shown' && state !== 'delivered';
}

function jsonOf({ bypass, summary, shown, problem, exitCode }: Look) {
  const holdfast = summary !== undefined ? 'running' : bypass !== undefined ? 'bypassed' : 'unknown';
  return {
    holdfast,
    exitCode,
    problem: problem ?? null,
    bypassed: bypass ?? null,
    summary: summary ?? null,
    creations: shown,
  };
}
