/**
 * Names the fields in which two requests differ. Keeps names and short hashes of a request, never values: environment
 * variables hold secrets.
 */
import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { type FieldSchema, type MessageSchema, messageSchema } from '../cri/schema.js';
import { type FieldVisitor, type NormalMessage, normalBytes } from './normal-form.js';

/** What is remembered of a request to name its differences from another one. */
export interface Parts {
  /** Name of the request message. */
  readonly message: string;
  /** SHA-256 of the whole normal form, 64 lowercase hex digits; '' for a request that was too large to have one. */
  readonly digest: string;
  /**
   * A name is a path of field numbers and, behind a colon, the key of an entry: `2.6:PATH`. They are kept as runs, joined by
   * line feeds, since most runs are those of many other requests and are kept once.
   */
  readonly nameRuns: readonly string[];
  /** Four characters from U+0000 to U+00FF per name: a string costs less memory than a Buffer. */
  readonly hashes: string;
}

const hashBytes = 4;
const maxNameLength = 128;
/** Entries of one list or map, and unknown fields of one message, that get a name of their own; the rest share one. */
const maxNamesPerField = 256;
const maxUnknownNames = 16;

/** Lists whose elements have a name, which is their field 1. */
const namedElements = new Set(['KeyValue', 'Mount', 'Device', 'CDIDevice', 'HugepageLimit']);

/** Control, format, surrogate and unassigned characters, line and paragraph separators. */
const unprintable = /[\p{C}\p{Zl}\p{Zp}]/gu;
const loneSurrogate = /\p{Cs}/u;

/** Runs of names by themselves, so that equal ones are one string; a million characters at most. */
const runPool = new LRUCache<string, string>({ maxSize: 2 ** 20, sizeCalculation: (run) => run.length });

/** Of a request that is too large for a normal form: nothing is known to differ from it. */
export function unknownParts(message: string): Parts {
  return { message, digest: '', nameRuns: [], hashes: '' };
}

/** Whether the two requests are known to differ in anything but their identity. */
export function hasDrifted(previous: Pick<Parts, 'digest'>, next: Pick<Parts, 'digest'>): boolean {
  return previous.digest !== '' && next.digest !== '' && previous.digest !== next.digest;
}

/** Names and hashes of a request in normal form. */
export function partsOf(request: NormalMessage): Parts {
  const rangesByName = new Map<string, [number, number][]>();
  const keysSeen = new Map<string, number>();
  const unknownSeen = new Map<string, number>();
  const known = request.schema;

  const nameOf = (path: string, key: Buffer | undefined): string => {
    if (key !== undefined) {
      const seen = (keysSeen.get(path) ?? 0) + 1;
      keysSeen.set(path, seen);
      return seen > maxNamesPerField ? path : `${path}:${printable(key)}`;
    }
    if (rangesByName.has(path) || isKnown(known, path)) return path;
    const parent = path.slice(0, path.lastIndexOf('.') + 1);
    const seen = (unknownSeen.get(parent) ?? 0) + 1;
    unknownSeen.set(parent, seen);
    return seen > maxUnknownNames ? `${parent}*` : path;
  };
  const visit: FieldVisitor = (path, key, start, end) => {
    const name = nameOf(path, key);
    const ranges = rangesByName.get(name);
    if (ranges === undefined) rangesByName.set(name, [[start, end]]);
    else ranges.push([start, end]);
  };

  const bytes = normalBytes(request, (element) => (namedElements.has(element.name) ? 1 : undefined), visit);
  let hashes = '';
  for (const ranges of rangesByName.values()) {
    const slices = ranges.map(([start, end]) => bytes.subarray(start, end));
    const [only] = slices;
    const part = slices.length === 1 && only !== undefined ? only : Buffer.concat(slices);
    hashes += hash('sha256', part, 'binary').slice(0, hashBytes);
  }
  return {
    message: request.schema.name,
    digest: hash('sha256', bytes),
    nameRuns: runsOf([...rangesByName.keys()]),
    hashes: Buffer.from(hashes, 'latin1').toString('latin1'),
  };
}

/**
 * Names what differs, such as `config.envs[PATH]`, `config.linux.resources.cpuset_cpus` or, for a field not in the schema,
 * `config.#99`; `order` where nothing but the order of a list does. Each name has at most 128 printable characters.
 *
 * @returns Empty where hasDrifted is false; else at least one name, each once.
 */
export function driftOf(previous: Parts, next: Parts): string[] {
  if (!hasDrifted(previous, next)) return [];
  const before = hashesByName(previous);
  const after = hashesByName(next);
  const differing = [...after].filter(([name, hash]) => before.get(name) !== hash).map(([name]) => name);
  for (const name of before.keys()) if (!after.has(name)) differing.push(name);
  if (differing.length === 0) return ['order'];
  const containing = new Set(differing.flatMap(pathsAbove));
  const schema = messageSchema(next.message);
  return [...new Set(differing.filter((name) => !containing.has(name)).map((name) => render(name, schema)))];
}

/** A run for every list or map, and one for what stands between two of these. */
function runsOf(names: readonly string[]): string[] {
  const runs: string[] = [];
  let run: string[] = [];
  let runPath: string | undefined;
  for (const name of names) {
    const path = name.includes(':') ? pathOf(name) : undefined;
    if (path !== runPath && run.length > 0) {
      runs.push(pooled(run.join('\n')));
      run = [];
    }
    runPath = path;
    run.push(name);
  }
  if (run.length > 0) runs.push(pooled(run.join('\n')));
  return runs;
}

function hashesByName({ nameRuns, hashes }: Parts): Map<string, string> {
  const names = nameRuns.flatMap((run) => run.split('\n'));
  return new Map(names.map((name, index) => [name, hashes.slice(index * hashBytes, (index + 1) * hashBytes)]));
}

/** Without the key. */
function pathOf(name: string): string {
  return name.replace(/:.*/, '');
}

function pathsAbove(name: string): string[] {
  const steps = pathOf(name).split('.');
  return steps.map((_, depth) => steps.slice(0, depth).join('.'));
}

function render(name: string, schema: MessageSchema): string {
  const path = pathOf(name);
  let message: MessageSchema | undefined = schema;
  const steps = path.split('.').map((number) => {
    const field: FieldSchema | undefined = message?.fields.get(Number(number));
    message = field?.message;
    return field?.name ?? `#${number}`;
  });
  const key = path === name ? '' : `[${name.slice(path.length + 1)}]`;
  return clip(steps.join('.') + key);
}

function isKnown(schema: MessageSchema, path: string): boolean {
  let message: MessageSchema | undefined = schema;
  for (const number of path.split('.')) {
    const field: FieldSchema | undefined = message?.fields.get(Number(number));
    if (field === undefined) return false;
    message = field.message;
  }
  return true;
}

function printable(key: Buffer): string {
  return key.subarray(0, maxNameLength).toString().replace(unprintable, '');
}

function clip(name: string): string {
  if (name.length <= maxNameLength) return name;
  return `${name.slice(0, maxNameLength - 1).replace(loneSurrogate, '')}…`;
}

function pooled(run: string): string {
  const known = runPool.get(run);
  if (known !== undefined) return known;
  runPool.set(run, run);
  return run;
}
