/**
 * Where tests take hold of the simulated runtime: steps that can be held, and answers put in a method's mouth. Knows neither
 * gRPC's transport nor what the steps do.
 */
import type * as grpc from '@grpc/grpc-js';
import { untilAborted } from '../sleep.js';

/**
 * A point a call goes through: a method by its name with a small first letter (`createContainer`: the work has begun and nothing
 * of it is visible yet); the name with `Answer` behind it (the work is done and visible, the answer not yet sent); `rollback`
 * (a creation that failed, with its name still reserved).
 */
export type Step = 'rollback' | 'runPodSandbox' | 'createContainer' | 'startContainer' | (string & {});

export interface Hold {
  /** Resolves when `count` calls (default 1) have come to this step since it is held. */
  arrived(count?: number): Promise<void>;
  /** Lets go those that wait and all later ones. */
  release(): void;
}

/** What a call is made to answer; fields left out are the runtime's own. */
export interface InjectedAnswer {
  /** gRPC status code; other than 0: the work fails with it. */
  readonly code?: number;
  readonly details?: string;
  /** Replaces the work: nothing is made, these bytes are the answer. Empty: a message without any field, so an empty id. */
  readonly message?: Buffer;
  /** Initial metadata. */
  readonly headers?: grpc.Metadata;
  readonly trailers?: grpc.Metadata;
  /** Never ends by itself. */
  readonly hang?: boolean;
}

class HeldStep implements Hold {
  readonly matches: (name: string) => boolean;
  readonly released: Promise<void>;
  readonly #release: () => void;
  readonly #watchers = new Set<{ count: number; resolve: () => void }>();
  #arrived = 0;

  constructor(matches: (name: string) => boolean, onRelease: () => void) {
    this.matches = matches;
    const { promise, resolve } = deferred();
    this.released = promise;
    this.#release = () => {
      onRelease();
      resolve();
    };
  }

  arrive(): void {
    this.#arrived += 1;
    for (const watcher of this.#watchers) {
      if (watcher.count > this.#arrived) continue;
      this.#watchers.delete(watcher);
      watcher.resolve();
    }
  }

  arrived(count = 1): Promise<void> {
    if (this.#arrived >= count) return Promise.resolve();
    const { promise, resolve } = deferred();
    this.#watchers.add({ count, resolve });
    return promise;
  }

  release(): void {
    this.#release();
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

export class Gates {
  readonly #holds = new Map<Step, Set<HeldStep>>();
  readonly #answers = new Map<Step, InjectedAnswer[]>();

  /** From now on calls whose name passes `matches` (default: all) wait at this step. */
  hold(step: Step, matches: (name: string) => boolean = () => true): Hold {
    const held = this.#holds.get(step) ?? new Set<HeldStep>();
    this.#holds.set(step, held);
    const hold: HeldStep = new HeldStep(matches, () => held.delete(hold));
    held.add(hold);
    return hold;
  }

  /** Waits until nothing holds this step for `name`, or the signal fires. */
  async pass(step: Step, name: string, signal: AbortSignal): Promise<void> {
    for (const hold of [...(this.#holds.get(step) ?? [])]) {
      if (!hold.matches(name)) continue;
      hold.arrive();
      await untilAborted(hold.released, signal);
    }
  }

  answerNext(step: Step, answer: InjectedAnswer): void {
    this.#answers.set(step, [...(this.#answers.get(step) ?? []), answer]);
  }

  /** The answer injected for the next call of this step, which is used up by it. */
  takeAnswer(step: Step): InjectedAnswer | undefined {
    return this.#answers.get(step)?.shift();
  }
}
