/** Breaks by hand: changes that no mutator makes, each with what would be wrong. A claim without a change is still to be written. */

export interface Break {
  /** What the broken program does. */
  readonly claim: string;
  readonly change?: {
    readonly file: string;
    /** Stands there once. */
    readonly text: string;
    readonly by: string;
    /** One of them has to fail. */
    readonly tests: readonly string[];
  };
  /** Why no test has to notice it. */
  readonly why?: string;
}

export const breaks: readonly Break[] = [
  {
    claim: 'a static or critical pod waits among the others of its kind',
    change: {
      file: 'src/throttle/work-queue.ts',
      text: 'return importance ?? kind;',
      by: 'return importance === undefined ? kind : kind;',
      tests: ['test/throttle/admission.test.ts'],
    },
  },
  {
    claim: 'work that has lost its place gives another one back when it ends',
    change: {
      file: 'src/throttle/admission.ts',
      text: 'await this.#whileInPlace(running);',
      by: 'await this.#whileInPlace(running); void running.then(() => { this.#running -= 1; });',
      tests: ['test/throttle/admission.test.ts'],
    },
  },
  {
    claim: 'the least important of what may go goes first',
    change: {
      file: 'src/throttle/work-queue.ts',
      text: 'const next = overdue ?? first;',
      by: 'const next = ready.at(-1) ?? first;',
      tests: ['test/throttle/work-queue.test.ts'],
    },
  },
  {
    claim: 'late work counts once for each piece, not once for all that began before',
    change: {
      file: 'src/throttle/adaptive-limit.ts',
      text: 'if (isLate && (isOfThisRound || isWorse))',
      by: 'if (isLate)',
      tests: ['test/throttle/adaptive-limit.test.ts'],
    },
  },
  {
    claim: 'a deadline is sent to the runtime as a point in time instead of the time that is left',
    change: {
      file: 'src/proxy/relay.ts',
      text: 'Math.max(0, deadlineMs - this.#clock.now())',
      by: 'Math.max(0, deadlineMs)',
      tests: ['test/proxy/relay.test.ts'],
    },
  },
  {
    claim: 'a stream is read as fast as the runtime sends',
    change: {
      file: 'src/proxy/relay.ts',
      text: 'if (Buffer.isBuffer(edited)) await call.send(edited);',
      by: 'if (Buffer.isBuffer(edited)) void call.send(edited);',
      tests: ['test/proxy/relay.test.ts'],
    },
  },
  {
    claim: 'all that waits begins in one turn of the event loop',
    change: {
      file: 'src/proxy/turns.ts',
      text: 'this.#waiting.splice(0, perTurn)',
      by: 'this.#waiting.splice(0)',
      tests: ['test/proxy/turns.test.ts'],
    },
  },
  // Known to have been missed before the stores were written anew; their places are in src/cache and src/proxy.
  { claim: 'a creation that begins without waiters is not hidden while it runs' },
  { claim: 'StopContainer through the proxy keeps the finished start' },
  { claim: 'the end of a container forgets its start by the full id only, not by a unique prefix' },
  { claim: 'the creation found for a lower attempt may be one of a higher attempt' },
  { claim: 'what is evicted for want of room stays in the indexes by id and by family' },
  { claim: 'the pause between tries counts failures of another request' },
  { claim: 'a list that was asked for before a container was reaped shows it when it answers afterwards' },
  { claim: 'a metrics report does not learn the ids of what is hidden by identity' },
  { claim: 'a subscriber to events is never let go of' },
  { claim: 'a waiter that leaves does not count as having asked, so that what it queued is dropped too early' },
  { claim: 'the deadline of what is admitted is a point in time instead of the time that is left' },
  { claim: 'one outcome is counted twice where a creation is held more than once' },
];
