/** One log line and one count per step of a creation's or a start's life. Never values of a request: they hold secrets. */
import type { Logger } from 'pino';
import type { Kind, Metrics } from '../admin/metrics.js';
import type { Creation } from '../cache/creation.js';
import type { CreationStep } from '../cache/creation-lives.js';
import type { Start, StartStep } from '../cache/start.js';
import { wedgeRemedy } from './progress-text.js';
import { statusOf } from './rescue.js';

type Detail = Readonly<Record<string, unknown>>;

/** Steps at which an upstream call has ended. */
const outcomes = new Set<string>(['answered', 'shown', 'held', 'failed', 'timed out', 'dropped']);
const warnings = new Set<string>([
  'backing off',
  'failed',
  'timed out',
  'dropped',
  'drift',
  'changed',
  'cannot be told',
  'removal failed',
  'removal given up',
  'in use',
  'given up',
  'name reserved',
  'wedged',
  'guarded',
  'let go',
]);

export class LifeLog {
  readonly #log: Logger;
  readonly #metrics: Metrics;
  /** Calls whose outcome is counted: a creation may be held more than once. */
  readonly #counted = new WeakSet<object>();

  constructor(log: Logger, metrics: Metrics) {
    this.#log = log;
    this.#metrics = metrics;
  }

  creation<O, A>(step: CreationStep, creation: Creation<O, A>, detail: Detail): void {
    const { kind, podSandboxId, made, fingerprint } = creation;
    this.#count(step, kind, creation.call);
    if (step === 'given up') this.#metrics.givenUp.inc({ kind });
    else if (step === 'removal given up') this.#metrics.removalsGivenUp.inc({ kind });
    else if (step === 'wedged' && detail.first === true) this.#metrics.wedges.inc({ kind });
    const holderId = detail.holderId as string | undefined;
    const more = step === 'wedged' ? { ...detail, remedy: wedgeRemedy(kind, holderId) } : detail;
    this.#write(step, { ...fingerprint.identity, id: made?.id, ...(podSandboxId !== '' && { podSandboxId }) }, more);
  }

  start<O, A>(step: StartStep, start: Start<O, A>, detail: Detail): void {
    this.#count(step, 'start', start.call);
    if (step === 'guarded') this.#metrics.guarded.inc();
    this.#write(step, { kind: 'start', id: start.containerId }, detail);
  }

  #count(step: CreationStep | StartStep, kind: Kind, call: object): void {
    const { creations, joins, replays, reaped, drift } = this.#metrics;
    if (step === 'waiter joined') joins.inc({ kind });
    else if (step === 'replayed') replays.inc({ kind });
    else if (step === 'reaped') reaped.inc({ kind });
    else if (step === 'drift') drift.inc({ kind });
    else if (outcomes.has(step) && !this.#counted.has(call)) {
      this.#counted.add(call);
      creations.inc({ kind, outcome: step });
    }
  }

  #write(step: string, who: object, { error, ...detail }: Detail): void {
    const fields: Record<string, unknown> = { step, ...who };
    for (const [name, value] of Object.entries(detail)) {
      fields[name] = name.endsWith('Ms') && typeof value === 'number' ? Math.round(value) : value;
    }
    if (error !== undefined) {
      const { code, message } = statusOf(error);
      Object.assign(fields, { code, error: message });
    }
    this.#log[warnings.has(step) ? 'warn' : 'info'](fields, step);
  }
}
