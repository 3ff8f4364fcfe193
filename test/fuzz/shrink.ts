/** Makes a failing case small: what is left out of it had no part in the failure. */
import { type Case, type Outcome, runCase } from './case.js';

/** @returns The smallest case found that breaks the same rule, and what it comes to. */
export async function shrink(failing: Case, rule: string): Promise<{ smallest: Case; outcome: Outcome }> {
  let smallest = failing;
  let outcome = await runCase(failing);
  for (let size = Math.ceil(failing.operations.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < smallest.operations.length; ) {
      const operations = smallest.operations.toSpliced(at, size);
      const tried = await runCase({ ...smallest, operations });
      if (tried.breach?.rule === rule) {
        smallest = { ...smallest, operations };
        outcome = tried;
      } else {
        at += size;
      }
    }
  }
  return { smallest, outcome };
}
