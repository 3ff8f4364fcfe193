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
      text: 'counted.hangs();\n        leave();',
      by: 'counted.hangs();\n        leave();\n        void running.then(() => { this.#shared.taken -= 1; });',
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
  {
    claim: 'a container whose waiter left while it was queued is not hidden',
    change: {
      file: 'src/cache/creation-work.ts',
      text: 'if (waiters === 0) this.#lives.hide(creation);',
      by: "if (waiters === 0 && call.phase !== 'queued') this.#lives.hide(creation);",
      tests: ['test/cache/creation-life.test.ts'],
    },
  },
  {
    claim: 'StopContainer through the proxy keeps the finished start',
    change: {
      file: 'src/proxy/call-path.ts',
      text: 'starts.ended(ended.kind, ended.id)',
      by: 'undefined',
      tests: ['test/rules/starts.test.ts', 'test/proxy/call-path.test.ts'],
    },
  },
  {
    claim: 'the end of a container forgets its start by the full id only, not by a unique prefix',
    change: {
      file: 'src/cache/start-index.ts',
      text: 'const start = this.find(idOrPrefix) ?? onlyMatch(idOrPrefix, this.#inFlight, this.#past);',
      by: 'const start = this.find(idOrPrefix);',
      tests: ['test/cache/start-store.test.ts'],
    },
  },
  {
    claim: 'a higher attempt of a pod sandbox joins a lower one',
    change: {
      file: 'src/cache/request-relation.ts',
      text: "return isHigher ? 'higher attempt of a pod sandbox' : 'lower attempt of a pod sandbox';",
      by: "return isHigher ? 'lower attempt of a pod sandbox' : 'lower attempt of a pod sandbox';",
      tests: ['test/cache/creation-life.test.ts'],
    },
  },
  {
    claim: 'what is evicted for want of room stays in the index by id',
    change: {
      file: 'src/cache/creation-index.ts',
      text: 'if (made !== undefined && this.#byId.get(made.id) === creation) this.#byId.delete(made.id);',
      by: '',
      tests: ['test/cache/creation-store.test.ts'],
    },
  },
  {
    claim: 'the pause between tries counts failures of another request',
    change: {
      file: 'src/cache/failure-backoff.ts',
      text: 'found === undefined || hasDrifted(found, fingerprint)',
      by: 'found === undefined',
      tests: ['test/cache/failure-backoff.test.ts'],
    },
  },
  {
    claim: 'a metrics report does not learn the ids of what is hidden by identity',
    change: {
      file: 'src/proxy/hiding.ts',
      text: 'if (idOnlyMethods.has(method.name) && this.#store.hidesUnknownIds) await this.#learnIds(call, isHidden);',
      by: '',
      tests: ['test/rules/hiding.test.ts'],
    },
  },
  {
    claim: 'a subscriber to events is never let go of',
    change: {
      file: 'src/proxy/events.ts',
      text: 'this.#subscribers.delete(subscriber);',
      by: '',
      tests: ['test/proxy/shutdown.test.ts'],
    },
  },
  {
    claim: 'a waiter that leaves does not count as having asked, so that what it queued is dropped too early',
    change: {
      file: 'src/cache/detached-call.ts',
      text: 'waiters.delete(waiter);\n        this.lastAskedMs = this.#clock.now();',
      by: 'waiters.delete(waiter);',
      tests: ['test/cache/creation-store.test.ts'],
    },
  },
  {
    claim: 'the deadline of what is admitted is a point in time instead of the time that is left',
    change: {
      file: 'src/proxy/creation-calls.ts',
      text: 'deadlineMs - this.#parts.clock.now()',
      by: 'deadlineMs',
      tests: ['test/proxy/creation-calls.test.ts'],
    },
  },
  {
    claim: 'one outcome is counted twice where a creation is held more than once',
    change: {
      file: 'src/proxy/life-log.ts',
      text: 'outcomes.has(step) && !this.#counted.has(call)',
      by: 'outcomes.has(step)',
      tests: ['test/proxy/life-log.test.ts'],
    },
  },
  {
    claim: 'a stop that the runtime refused costs what is held',
    change: {
      file: 'src/proxy/call-path.ts',
      text: 'if (!succeeded) return;',
      by: '',
      tests: ['test/rules/creations.test.ts'],
    },
  },
  {
    claim: 'a look at a pod sandbox that nobody was given counts as its use',
    change: {
      file: 'src/cache/creation-store.ts',
      text: "if (creation?.state === 'answered' || creation?.state === 'delivered') this.#lives.on(creation, 'id used');",
      by: "if (creation !== undefined) this.#lives.on(creation, 'id used');",
      tests: ['test/rules/creations.test.ts'],
    },
  },
  {
    claim: 'what is removed is not looked at first',
    change: {
      file: 'src/cache/reaper.ts',
      text: "if (isUsed || !stillWanted()) return 'in use';",
      by: '',
      tests: ['test/cache/reaper.test.ts'],
    },
  },
  {
    claim: 'resources that changed are not given',
    change: {
      file: 'src/cache/creation-handover.ts',
      text: "if (subject !== undefined && resources !== '' && resources !== creation.resources) {",
      by: 'if (subject === undefined) {',
      tests: ['test/cache/resources.test.ts'],
    },
  },
  {
    claim: 'who waits is told nothing before its deadline',
    change: {
      file: 'src/proxy/patience.ts',
      text: 'this.signal.aborted && !this.#call.signal.aborted',
      by: 'false',
      tests: ['test/rules/waiting.test.ts'],
    },
  },
  {
    claim: 'a name that is taken is an error',
    change: {
      file: 'src/proxy/cri-runtime.ts',
      text: 'throw new NameReservedError(error, reserved.holderId);',
      by: 'throw error;',
      tests: ['test/rules/waiting.test.ts'],
    },
  },
  {
    claim: 'the link of a log stays where its attempt gets a log of its own',
    change: {
      file: 'src/proxy/cri-runtime.ts',
      text: "if (fingerprint.kind === 'container') await this.#options.beforeContainer(fingerprint);",
      by: '',
      tests: ['test/rules/waiting.test.ts'],
    },
  },
  {
    claim: 'what is held stays when Holdfast ends',
    change: {
      file: 'src/proxy/holdfast.ts',
      text: 'await Promise.all([drained, within(config.drainTimeoutMs, clock, removeHeld())]);',
      by: 'await drained;',
      tests: ['test/proxy/shutdown.test.ts'],
    },
  },
  {
    claim: 'a queued container of a pod sandbox that was stopped is made',
    change: {
      file: 'src/cache/creation-life.ts',
      text: "    queued: 'gone',\n    running: 'doomed',\n    answered: 'doomed',\n    held: 'doomed',",
      by: "    running: 'doomed',\n    answered: 'doomed',\n    held: 'doomed',",
      tests: ['test/cache/creation-life.test.ts'],
    },
  },
  {
    claim: 'a call that meets a fault of Holdfast before the runtime has heard of it gets no answer',
    change: {
      file: 'src/proxy/creation-calls.ts',
      text: 'if (isNew) await relay.unary(call);',
      by: 'if (isNew) return;',
      tests: ['test/proxy/creation-calls.test.ts'],
    },
  },
  {
    claim: 'what has begun upstream is made once more by a call that meets a fault of Holdfast',
    change: {
      file: 'src/proxy/creation-calls.ts',
      text: '!(entry.call.hasBegun || this.#leftToRuntime.has(entry))',
      by: '!this.#leftToRuntime.has(entry)',
      tests: ['test/proxy/creation-calls.test.ts'],
    },
  },
  {
    claim: 'a creation that runs upstream is forgotten where an operator asks for it, and made a second time',
    change: {
      file: 'src/cache/forget-by-hand.ts',
      text: "if (state === 'running') return { refused: 'running' };",
      by: '',
      tests: ['test/cache/forget-by-hand.test.ts'],
    },
  },
  {
    claim: 'a start that keeps a second copy from being made is forgotten with what failed',
    change: {
      file: 'src/cache/forget-by-hand.ts',
      text: "if (obstacle?.what === 'start') return { refused: 'start in the way' };",
      by: '',
      tests: ['test/cache/forget-by-hand.test.ts'],
    },
  },
  {
    claim: 'Holdfast is ready while the runtime is away',
    change: {
      file: 'src/proxy/runtime-probe.ts',
      text: 'return { answers: false, why };',
      by: 'return { answers: true };',
      tests: ['test/proxy/runtime-probe.test.ts', 'test/proxy/holdfast.test.ts'],
    },
  },
  {
    claim: 'who waits for what meets a fault at its end each time is never answered',
    change: {
      file: 'src/cache/detached-calls.ts',
      text: 'events.faulted?.(error);\n        this.#release(call);',
      by: 'this.#release(call);\n        events.faulted?.(error);',
      tests: ['test/cache/store-faults.test.ts'],
    },
  },
];
