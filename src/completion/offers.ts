/** What can be offered where, the same for every shell. */
import { type Declaration, type Surface, takesValue } from '../commands/surface.js';
import type { Completions } from '../config/kinds.js';

/** What every command understands. */
export const commonOptions: ReadonlyMap<string, Declaration> = new Map([
  ['help', { type: 'boolean', describe: 'Show help' }],
  ['version', { type: 'boolean', describe: 'Show version number' }],
]);

/** Where a value is expected, as `serve:--on-drift`, and what can be offered there: places that are offered the same stand together. */
export function valueOffers(
  surfaces: readonly Surface[],
): { readonly places: readonly string[]; readonly offer: Completions }[] {
  const found = new Map<string, { readonly places: string[]; readonly offer: Completions }>();
  for (const { name, options } of surfaces) {
    for (const [option, declaration] of options) {
      if (!takesValue(declaration)) continue;
      const offer = offerOf(declaration);
      const same = JSON.stringify(offer);
      const entry = found.get(same) ?? { places: [], offer };
      entry.places.push(`${name}:--${option}`);
      found.set(same, entry);
    }
  }
  return [...found.values()];
}

/** For the first positional argument; undefined where there is none. */
export function positionalOffer({ positionals }: Surface): Completions | undefined {
  const [first] = positionals.values();
  return first && offerOf(first);
}

/** A value of which nothing is known may be a file. */
function offerOf({ completions, choices }: Declaration): Completions {
  if (completions !== undefined) return completions;
  return choices === undefined ? { values: [], files: true } : { values: choices.map(String), files: false };
}

/** In single quotes for a shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
