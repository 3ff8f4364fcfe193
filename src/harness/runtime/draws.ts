/**
 * Chance that does not depend on the order of arrival: what is drawn for the n-th try of a name is the same in every run with the
 * same seed, whatever else is drawn in between.
 */
import { createHash } from 'node:crypto';
import { plainName } from './profiles.js';

/** Uniform in [0, 1). */
export type Uniform = () => number;

/** Draws for the next try of a reserved name; uniform in [0, 1). */
export type Draw = (name: string) => number;

/** @param random Drawn from once, so each use of the same generator has draws of its own. */
export function draws(random: Uniform): Draw {
  const salt = random();
  const tries = new Map<string, number>();
  return (name) => {
    const plain = plainName(name);
    const count = (tries.get(plain) ?? 0) + 1;
    tries.set(plain, count);
    const hash = createHash('sha256').update(`${salt} ${plain} ${count}`).digest();
    return hash.readUIntBE(0, 6) / 2 ** 48;
  };
}
