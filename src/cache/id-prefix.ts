/** What a request names by an id or, as both runtimes take it, by a unique prefix of one. */

/** Ids are 64 hex digits in both runtimes: nothing as long as that is a prefix worth a search. */
const fullIdLength = 64;

/** @returns What the only id that begins with this stands for; undefined for the empty one, and where there are several or none. */
export function onlyMatch<T>(prefix: string, ...byId: Iterable<readonly [string, T]>[]): T | undefined {
  if (prefix === '' || prefix.length >= fullIdLength) return undefined;
  const [match, ...more] = byId.flatMap((each) => [...each].filter(([id]) => id.startsWith(prefix)));
  return more.length === 0 ? match?.[1] : undefined;
}
