/** The runtime as the start store needs it: it starts containers, and says whose they are and how. */
import type { ContainerAttempt, ContainerNow } from './second-copy-guard.js';

/** Whose container it is, and where it is. */
export interface StartIdentity extends ContainerAttempt {
  readonly podSandboxId: string;
}

export interface StartRuntime<Origin, Answer> {
  /** The one upstream call. */
  start(bytes: Buffer, origin: Origin, signal: AbortSignal): Promise<Answer>;
  /**
   * Whether an error of `start` says that the container does not run: the runtime's own, and not that it was away, out of time or
   * told to stop.
   */
  isRefusal(error: unknown): boolean;
  /**
   * @returns undefined where the runtime does not know the container, or it is not a pod's.
   * @throws Where it cannot be told.
   */
  identify(containerId: string, origin: Origin, signal: AbortSignal): Promise<StartIdentity | undefined>;
  /** How the container is now. Settles in bounded time. @throws Where it cannot be told. */
  stateOf(containerId: string, origin: Origin, signal: AbortSignal): Promise<ContainerNow>;
}
