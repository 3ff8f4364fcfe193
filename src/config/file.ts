/** Reads the config file into names and texts; what the names and texts mean is not known here. */
import { readFileSync, statSync } from 'node:fs';
import { parseDocument, YAMLParseError } from 'yaml';
import { ConfigError } from './config-error.js';
import { didYouMean } from './nearest.js';

/** More than every option with a long list. */
const maxBytes = 1024 * 1024;

/**
 * Reads YAML, of which JSON is a part.
 *
 * Scalars stay as written (YAML's failsafe schema): the usual schema reads `0660` as six hundred and sixty, and a value
 * has to mean the same here as on the command line.
 *
 * @param source How the file was named, for messages: `--config` or HOLDFAST_CONFIG.
 * @param read Gives the content of the file; throws where it cannot be read.
 * @throws {ConfigError} It cannot be read, is not YAML, or is not one mapping with the keys in `known`.
 */
export function readConfigFile(
  path: string,
  source: string,
  known: readonly string[],
  read: (path: string) => Buffer | string = readWhole,
): Map<string, unknown> {
  const content = contentOf(path, source, read);
  if (content === null || content === '') return new Map();
  if (!(content instanceof Map)) {
    throw new ConfigError(`${source}: ${JSON.stringify(path)} must be a mapping of options to values (NAME: VALUE)`);
  }
  for (const key of content.keys()) {
    if (known.includes(key)) continue;
    // Who comes from environment files writes it as there.
    const near = typeof key === 'string' ? didYouMean(key.replace(/^HOLDFAST_/, ''), known) : '';
    const hint = near === '' ? `; allowed are ${known.join(', ')}` : near;
    throw new ConfigError(`unknown key ${shownKey(key)} in ${path}${hint}`);
  }
  return content;
}

/** A pipe may never end, nor begin, and a device fills the memory of the node. @throws It is none that can be read, or too long. */
function readWhole(path: string): Buffer {
  const found = statSync(path);
  if (!found.isFile() && !found.isDirectory()) throw new Error('it is not a regular file');
  if (found.size > maxBytes) throw new Error(`it has ${found.size} bytes, and may have ${maxBytes}`);
  return readFileSync(path);
}

function contentOf(path: string, source: string, read: (path: string) => Buffer | string): unknown {
  const failed = (what: string, why: string, cause: unknown) =>
    new ConfigError(`${source}: cannot ${what} ${JSON.stringify(path)}${why}`, { cause });
  let bytes: Buffer | string;
  let text: string;
  try {
    bytes = read(path);
  } catch (error) {
    throw failed('read', `: ${firstLine(error)}`, error);
  }
  try {
    text = typeof bytes === 'string' ? bytes : new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw failed('parse', ': it is not text in UTF-8', error);
  }
  try {
    const document = parseDocument(text, { schema: 'failsafe', logLevel: 'error' });
    const [error] = document.errors;
    if (error === undefined) return document.toJS({ mapAsMap: true });
    throw error;
  } catch (error) {
    const [at] = error instanceof YAMLParseError ? (error.linePos ?? []) : [];
    const place = at === undefined ? '' : `, line ${at.line}, column ${at.col}`;
    throw failed('parse', `${place}: ${reason(error)}`, error);
  }
}

/** The message of the YAML parser, without the place, and without advice to those who call it. */
function reason(error: unknown): string {
  if (error instanceof YAMLParseError && error.code === 'MULTIPLE_DOCS') return 'a second document begins here';
  return firstLine(error).replace(/ at line \d+, column \d+$/, '');
}

/** What stands before the excerpt that some messages show. */
function firstLine(error: unknown): string {
  const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
  return line.replace(/:$/, '');
}

/** One line, whatever the key is. */
function shownKey(key: unknown): string {
  const text = typeof key === 'string' ? JSON.stringify(key) : 'that is no text';
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
