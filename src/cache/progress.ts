/** What work that somebody waits for is at, for people. Knows times and ids, and puts nothing into words. */

/** What a creation waits for before it may wait for its turn. */
export type Obstacle =
  /** Another one with its name, or of the same pod, that is to be removed first. */
  | {
      readonly what: 'removal';
      readonly id: string | undefined;
      readonly sinceMs: number;
      /** Why it could not be removed yet. */
      readonly error: () => unknown;
    }
  /** A start of a lower attempt of the same container. */
  | { readonly what: 'start'; readonly containerId: string; readonly attempt: number; readonly sinceMs: number }
  /** It has failed again and again. */
  | { readonly what: 'pause'; readonly failures: number; readonly untilMs: number }
  /** The runtime says that its name is taken. */
  | { readonly what: 'name'; readonly id: string | undefined; readonly sinceMs: number; readonly error: unknown };

/** Times in ms of the clock. */
export type Progress =
  | { readonly at: 'queued'; readonly sinceMs: number; readonly behind: number }
  | { readonly at: 'waiting'; readonly sinceMs: number; readonly for: Obstacle }
  | { readonly at: 'running'; readonly sinceMs: number }
  /** It is made, and the runtime is asked how it is or given its new resources. */
  | { readonly at: 'checked'; readonly sinceMs: number };
