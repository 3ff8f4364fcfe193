/** What a kubelet did for a pod, one thing after the other. */
import * as grpc from '@grpc/grpc-js';

/** What a pod's worker is doing; after `succeeded`, `failed` and `deleted`: nothing any more. */
export type Phase =
  | 'RunPodSandbox'
  | 'CreateContainer'
  | 'StartContainer'
  | 'waiting'
  | 'running'
  | 'succeeded'
  | 'failed'
  | 'deleted';

export interface PodEvent {
  /** Since the start of the run. */
  readonly atMs: number;
  /** From here on. */
  readonly phase: Phase;
  readonly text: string;
  readonly error: boolean;
}

export interface PodHistory {
  readonly name: string;
  readonly uid: string;
  readonly events: readonly PodEvent[];
}

/** Whether all its containers do. */
export function isRunning({ events }: Pick<PodHistory, 'events'>): boolean {
  return events.at(-1)?.phase === 'running';
}

/** The name of the code; the text where that is UNKNOWN. */
export function describe(error: unknown): string {
  const { code, details } = error as Partial<grpc.ServiceError>;
  if (code === undefined || details === undefined) return error instanceof Error ? error.message : String(error);
  return code === grpc.status.UNKNOWN ? details : (grpc.status[code] ?? String(code));
}
