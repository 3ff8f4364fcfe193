/**
 * Linux pressure stall information: for how much of the time some task stood still for want of a resource. Source: the kernel's
 * Documentation/accounting/psi.rst.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

export const resources = ['cpu', 'io', 'memory'] as const;

export type Resource = (typeof resources)[number];

export interface PressureReading {
  /** `some avg10`, in percent. */
  readonly avg10: number;
  /** `some total`: since the start of the machine or cgroup, in ms. */
  readonly stalledMs: number;
}

/** @throws Where it cannot be read. */
export type ReadPressure = (resource: Resource) => PressureReading;

/** The average looks back about this far, so a change of the limit shows in it only after as long, in ms. */
export const pressureWindowMs = 10_000;

/** Share of the time below which a resource is hardly used. */
const idleShare = 0.1;

/** @param cgroup Directory of a cgroup (v2), e.g. /sys/fs/cgroup/kubepods.slice; undefined: the whole machine. */
export function pressureFiles(cgroup: string | undefined): ReadPressure {
  return (resource) => {
    const file = cgroup === undefined ? `/proc/pressure/${resource}` : path.join(cgroup, `${resource}.pressure`);
    const [, avg10, totalUs] = /^some avg10=(\d+(?:\.\d+)?) .*total=(\d+)$/m.exec(readFileSync(file, 'utf8')) ?? [];
    if (avg10 === undefined) throw new Error(`${file} holds no line "some avg10=… total=…"`);
    return { avg10: Number(avg10), stalledMs: Number(totalUs) / 1000 };
  };
}

export interface PressureOptions {
  readonly read: ReadPressure;
  /** In percent; without one a resource is not looked at. */
  readonly thresholds: Readonly<Partial<Record<Resource, number>>>;
  /** Told once for each resource whose pressure cannot be read. It is tried again all the same: a cgroup may come later. */
  readonly unavailable: (resource: Resource, error: unknown) => void;
}

export class Pressure {
  readonly #options: PressureOptions;
  readonly #latest = new Map<Resource, PressureReading>();
  #sampledMs = 0;
  /** For how much of the time between the last two readings each was short, from 0 to 1. Empty before there was work. */
  #shares: ReadonlyMap<Resource, number> = new Map();
  readonly #toldOf = new Set<Resource>();
  /** Over their thresholds before there was any work: not for its sake. Until they have been under once. */
  #ofOthers = new Set<Resource>();

  constructor(options: PressureOptions) {
    this.#options = options;
  }

  /** `some avg10` when it was last read, in percent. */
  get latest(): ReadonlyMap<Resource, number> {
    return new Map([...this.#latest].map(([resource, { avg10 }]) => [resource, avg10]));
  }

  /** @param workBegins Nothing has run until now, so that what is read has other reasons. */
  sample(nowMs: number, workBegins: boolean): void {
    const { read, thresholds, unavailable } = this.#options;
    const shares = new Map<Resource, number>();
    for (const resource of resources) {
      if (thresholds[resource] === undefined) continue;
      try {
        const reading = read(resource);
        const before = this.#latest.get(resource);
        if (before) shares.set(resource, (reading.stalledMs - before.stalledMs) / (nowMs - this.#sampledMs));
        this.#latest.set(resource, reading);
      } catch (error) {
        this.#latest.delete(resource);
        if (!this.#toldOf.has(resource)) unavailable(resource, error);
        this.#toldOf.add(resource);
      }
    }
    this.#sampledMs = nowMs;
    this.#shares = workBegins ? new Map() : shares;
    const over = new Set(this.#over.map(([resource]) => resource));
    this.#ofOthers = workBegins ? over : new Set([...this.#ofOthers].filter((resource) => over.has(resource)));
  }

  /** Whether nothing at all was short between the last two readings; the average would know only seconds later. */
  get isIdle(): boolean {
    // A resource that is not looked at may be the one that is short.
    const areKnown = this.#shares.size === resources.length;
    return areKnown && [...this.#shares.values()].every((share) => share < idleShare);
  }

  /** Whether a resource was over its threshold between the last two readings, and had not been before there was work. */
  get isShort(): boolean {
    const { thresholds } = this.#options;
    return [...this.#shares].some(
      ([resource, share]) =>
        100 * share > (thresholds[resource] ?? Number.POSITIVE_INFINITY) && !this.#ofOthers.has(resource),
    );
  }

  /** A resource whose pressure was over its threshold when last read, and had not been before there was work. */
  get over(): { readonly resource: Resource; readonly percent: number } | undefined {
    const found = this.#over.find(([resource]) => !this.#ofOthers.has(resource));
    return found && { resource: found[0], percent: found[1] };
  }

  get #over(): [Resource, number][] {
    const { thresholds } = this.#options;
    return [...this.latest].filter(
      ([resource, percent]) => percent > (thresholds[resource] ?? Number.POSITIVE_INFINITY),
    );
  }
}
