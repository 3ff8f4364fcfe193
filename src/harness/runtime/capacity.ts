/** How long steps of the simulated runtime take, drawn by name and try (draws.ts). Contention is in contention.ts. */
import { draws, type Uniform } from './draws.js';
import type { Duration } from './work.js';

export const fixed = (ms: number): Duration => ms;

/** @param sigma Of the logarithm: 0.5 makes one in a hundred take 3.2 times the median, 1 makes it 10 times. */
export function logNormal(random: Uniform, { medianMs, sigma }: { medianMs: number; sigma: number }): Duration {
  const draw = draws(random);
  return (name) => {
    // Box-Muller; 1 - draw is never 0.
    const normal = Math.sqrt(-2 * Math.log(1 - draw(name))) * Math.cos(2 * Math.PI * draw(name));
    return medianMs * Math.exp(sigma * normal);
  };
}

/** Takes `baseMs`, and `stallMs` more for a share of the calls. */
export function stalling(
  random: Uniform,
  { baseMs, stallMs, share }: { baseMs: Duration; stallMs: number; share: number },
): Duration {
  const draw = draws(random);
  return (name) => (typeof baseMs === 'number' ? baseMs : baseMs(name)) + (draw(name) < share ? stallMs : 0);
}
