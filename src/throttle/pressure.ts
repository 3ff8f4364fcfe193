/**
 * Linux pressure stall information: for how much of the time some task stood still for want of a resource. Source: the kernel's
 * Documentation/accounting/psi.rst.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

export const resources = ['cpu', 'io', 'memory'] as const;

export type Resource = (typeof resources)[number];

/** @returns `some avg10` in percent. @throws Where it cannot be read. */
export type ReadPressure = (resource: Resource) => number;

/** The average looks back about this far, so a change of the limit shows in it only after as long, in ms. */
export const pressureWindowMs = 10_000;

/** @param cgroup Directory of a cgroup (v2), e.g. /sys/fs/cgroup/kubepods.slice; undefined: the whole machine. */
export function pressureFiles(cgroup: string | undefined): ReadPressure {
  return (resource) => {
    const file = cgroup === undefined ? `/proc/pressure/${resource}` : path.join(cgroup, `${resource}.pressure`);
    const average = /^some avg10=(\d+(?:\.\d+)?) /m.exec(readFileSync(file, 'utf8'))?.[1];
    if (average === undefined) throw new Error(`${file} holds no line "some avg10=…"`);
    return Number(average);
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
  readonly #latest = new Map<Resource, number>();
  readonly #toldOf = new Set<Resource>();
  /** Over their thresholds before there was any work: not for its sake. Until they have been under once. */
  #ofOthers = new Set<Resource>();

  constructor(options: PressureOptions) {
    this.#options = options;
  }

  /** What was last read, in percent. */
  get latest(): ReadonlyMap<Resource, number> {
    return this.#latest;
  }

  /** @param workBegins Nothing has run until now, so that what is read has other reasons. */
  sample(workBegins: boolean): void {
    const { read, thresholds, unavailable } = this.#options;
    for (const resource of resources) {
      if (thresholds[resource] === undefined) continue;
      try {
        this.#latest.set(resource, read(resource));
      } catch (error) {
        this.#latest.delete(resource);
        if (!this.#toldOf.has(resource)) unavailable(resource, error);
        this.#toldOf.add(resource);
      }
    }
    const over = new Set(this.#over.map(([resource]) => resource));
    this.#ofOthers = workBegins ? over : new Set([...this.#ofOthers].filter((resource) => over.has(resource)));
  }

  /** A resource whose pressure was over its threshold when last read, and had not been before there was work. */
  get over(): { readonly resource: Resource; readonly percent: number } | undefined {
    const found = this.#over.find(([resource]) => !this.#ofOthers.has(resource));
    return found && { resource: found[0], percent: found[1] };
  }

  get #over(): [Resource, number][] {
    const { thresholds } = this.#options;
    return [...this.#latest].filter(
      ([resource, percent]) => percent > (thresholds[resource] ?? Number.POSITIVE_INFINITY),
    );
  }
}
