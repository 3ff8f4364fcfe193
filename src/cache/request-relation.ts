/** How a request relates to a creation of the same pod sandbox or container. What comes of that is said in creation-life.ts. */
import type { Creation } from './creation.js';
import type { RequestRelation } from './creation-life.js';
import { type Fingerprint, hasDrifted } from './fingerprint.js';

export interface RelationOptions {
  readonly onDrift: 'keep' | 'recreate';
  readonly onAttemptBump: 'join' | 'recreate';
}

/** @param asked Of the creation's family. */
export function relationOf(
  { fingerprint: known, keys }: Pick<Creation<unknown, unknown>, 'fingerprint' | 'keys'>,
  asked: Fingerprint,
  { onDrift, onAttemptBump }: RelationOptions,
): RequestRelation {
  const isOther =
    (onDrift === 'recreate' && hasDrifted(known, asked)) ||
    (known.kind === 'container' &&
      asked.kind === 'container' &&
      (known.podSandboxId !== asked.podSandboxId || known.specHash !== asked.specHash));
  if (isOther) return 'other spec hash or pod sandbox';
  if (keys.includes(asked.key)) return 'same request';
  if (asked.kind === 'podSandbox') {
    const isHigher = asked.identity.attempt > known.identity.attempt;
    return isHigher ? 'higher attempt of a pod sandbox' : 'lower attempt of a pod sandbox';
  }
  return onAttemptBump === 'recreate' ? 'other spec hash or pod sandbox' : 'another attempt of a container';
}
