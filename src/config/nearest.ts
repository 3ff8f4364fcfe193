/** Which of some names somebody meant who wrote another one. Knows nothing of what the names are for. */

/** Capitals, underscores and hyphens are all the same to who writes `holdTtl`, `hold_ttl` or `HOLDTTL` for `hold-ttl`. */
function bare(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, '');
}

/**
 * @returns The name that is left with the fewest letters put in, taken out, replaced or swapped; undefined where each of them is
 *   farther than a third of its length, or than one letter of a short one.
 */
export function nearest(given: string, names: Iterable<string>): string | undefined {
  const meant = bare(given);
  let found: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const letters = distance(meant, bare(name));
    if (letters >= least || letters > Math.max(1, Math.floor(Math.min(bare(name).length, meant.length) / 3))) continue;
    least = letters;
    found = name;
  }
  return found;
}

/** What to say behind a name that is not known; empty where nothing is near. */
export function didYouMean(given: string, names: Iterable<string>, prefix = ''): string {
  const name = nearest(given, names);
  return name === undefined ? '' : `; did you mean ${prefix}${name}?`;
}

/** Optimal string alignment: Levenshtein's distance, where two letters that changed places count once. */
function distance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwapped ? (beforeLast[j - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(replaced, swapped, (row[j - 1] ?? 0) + 1, (last[j] ?? 0) + 1));
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length] ?? 0;
}
