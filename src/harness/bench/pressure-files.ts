/** The pressure files of a simulated node, in the kernel's format (Documentation/accounting/psi.rst), as a cgroup has them. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { systemClock } from '../../clock.js';
import { type Resource, resources } from '../../throttle/pressure.js';
import type { Contention } from '../runtime/contention.js';
import { repeat } from '../sleep.js';

const everyMs = 500;

/**
 * Writes the files, now and until the signal fires.
 *
 * @param directory Is made.
 * @param resource What is short when there is contention.
 */
export function keepPressureFiles(
  directory: string,
  contention: Contention | undefined,
  resource: Resource,
  signal: AbortSignal,
): Promise<void> {
  mkdirSync(directory);
  for (const other of resources) write(directory, other, 0, 0);
  return repeat(systemClock, everyMs, signal, () => {
    if (contention !== undefined) write(directory, resource, contention.avg10, contention.totalStalledMs);
  });
}

/** In one step: who reads meanwhile gets the old text or the new one. */
function write(directory: string, resource: Resource, avg10: number, stalledMs: number): void {
  const file = path.join(directory, `${resource}.pressure`);
  const line = `avg10=${avg10.toFixed(2)} avg60=0.00 avg300=0.00 total=${Math.round(stalledMs * 1000)}`;
  writeFileSync(`${file}.new`, `some ${line}\nfull ${line}\n`);
  renameSync(`${file}.new`, file);
}
