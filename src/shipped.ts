/**
 * The files of this package that the program reads, and what it is started by. It knows their place and not what they mean.
 *
 * The one-file bundle has no files beside it: scripts/bundle.ts puts a module with the same exports and their texts in the place of
 * this one. So nothing else in src/ may look for a file beside itself.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const packageFolder = new URL('../', import.meta.url);

/** What `node` is given to run this program. */
export const executable = fileURLToPath(new URL('bin/holdfast.js', packageFolder));

/**
 * @param file From the root of the package, such as `proto/cri.json`.
 * @throws {Error} There is no such file.
 */
export function shippedText(file: string): string {
  return readFileSync(new URL(file, packageFolder), 'utf8');
}

/** @returns Names of the files in a folder, such as `examples/scenarios`, sorted. */
export function shippedFiles(folder: string): readonly string[] {
  return readdirSync(new URL(folder, packageFolder)).sort();
}
