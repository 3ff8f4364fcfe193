/** Reads the config file into names and texts; what the names and texts mean is not known here. */
import { readFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import { ConfigError } from './config-error.js';

/**
 * Reads YAML, of which JSON is a part.
 *
 * Scalars stay as written (YAML's failsafe schema): the usual schema reads `0660` as six hundred and sixty, and a value
 * has to mean the same here as on the command line.
 *
 * @param source How the file was named, for messages: `--config` or HOLDFAST_CONFIG.
 * @param read Gives the text of the file; throws where it cannot be read.
 * @throws {ConfigError} It cannot be read, is not YAML, or is not one mapping with the keys in `known`.
 */
export function readConfigFile(
  path: string,
  source: string,
  known: readonly string[],
  read: (path: string) => string = (file) => readFileSync(file, 'utf8'),
): Map<string, unknown> {
  let content: unknown;
  try {
    const document = parseDocument(read(path), { schema: 'failsafe', logLevel: 'error' });
    if (document.errors[0] !== undefined) throw document.errors[0];
    content = document.toJS({ mapAsMap: true });
  } catch (error) {
    const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
    throw new ConfigError(`${source}: cannot read ${JSON.stringify(path)}: ${line.replace(/:$/, '')}`, {
      cause: error,
    });
  }
  if (content === null || content === '') return new Map();
  if (!(content instanceof Map)) {
    throw new ConfigError(`${source}: ${JSON.stringify(path)} must be a mapping of options to values`);
  }
  for (const key of content.keys()) {
    if (known.includes(key)) continue;
    throw new ConfigError(`unknown key ${JSON.stringify(key)} in ${path}; allowed are ${known.join(', ')}`);
  }
  return content;
}
