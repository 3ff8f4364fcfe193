/** Reads the fields of a mapping out of a YAML file; what is wrong is one line that names the field and the file. */
import { ConfigError } from '../../config/config-error.js';
import type { Kind } from '../../config/kinds.js';

type Content = ReadonlyMap<string, unknown>;

export class Fields {
  readonly #content: Content;
  /** Of the file, for messages. */
  readonly #file: string;
  /** Where in the file it is, with a dot at the end; empty at the top. */
  readonly #prefix: string;
  readonly #known = new Set<string>();

  constructor(content: Content, file: string, prefix = '') {
    this.#content = content;
    this.#file = file;
    this.#prefix = prefix;
  }

  /** @throws {ConfigError} It is there and refused, or not there and there is no `fallback`. */
  value<T>(key: string, kind: Kind<T>, fallback?: T): T {
    const value = this.optional(key, kind) ?? fallback;
    if (value === undefined) throw new ConfigError(`${this.#named(key)} is missing: give ${kind.allowed}`);
    return value;
  }

  /** @throws {ConfigError} It is there and refused. */
  optional<T>(key: string, kind: Kind<T>): T | undefined {
    const given = this.#take(key);
    if (given === undefined) return undefined;
    const value = typeof given === 'string' ? kind.parse(given) : undefined;
    if (value === undefined) throw this.refusal(key, kind.allowed);
    return value;
  }

  /** Values written as a list, or as a text with commas. */
  list<T>(key: string, kind: Kind<T>): readonly T[] | undefined {
    const given = this.#take(key);
    if (given === undefined) return undefined;
    const texts: readonly unknown[] = typeof given === 'string' ? given.split(',') : Array.isArray(given) ? given : [];
    const values = texts.map((text) => (typeof text === 'string' ? kind.parse(text.trim()) : undefined));
    if (values.length === 0 || values.includes(undefined)) throw this.refusal(key, `a list of ${kind.allowed}`);
    return values as readonly T[];
  }

  /** @returns The mapping's fields, none where it is not there. */
  mapping(key: string): Fields {
    return this.optionalMapping(key) ?? new Fields(new Map(), this.#file, `${this.#prefix}${key}.`);
  }

  optionalMapping(key: string): Fields | undefined {
    const given = this.#take(key);
    if (given === undefined) return undefined;
    if (!(given instanceof Map)) throw this.refusal(key, 'a mapping');
    return new Fields(given, this.#file, `${this.#prefix}${key}.`);
  }

  /** The fields of each mapping of a list, none where there is no list. */
  mappings(key: string): readonly Fields[] {
    const given = this.#take(key) ?? [];
    if (!Array.isArray(given) || !given.every((item) => item instanceof Map)) {
      throw this.refusal(key, 'a list of mappings');
    }
    return given.map((item, n) => new Fields(item, this.#file, `${this.#prefix}${key}[${n}].`));
  }

  isMapping(key: string): boolean {
    return this.#content.get(key) instanceof Map;
  }

  get keys(): readonly string[] {
    return [...this.#content.keys()];
  }

  refusal(key: string, allowed: string): ConfigError {
    const given = this.#content.get(key);
    const text = JSON.stringify(given instanceof Map ? Object.fromEntries(given) : given);
    return new ConfigError(`${this.#named(key)}: ${text} is not allowed; give ${allowed}`);
  }

  /** @throws {ConfigError} There is a field that nobody has asked for. */
  end(): void {
    const unknown = this.keys.find((key) => !this.#known.has(key));
    if (unknown === undefined) return;
    throw new ConfigError(`${this.#named(unknown)} is not known; allowed are ${[...this.#known].join(', ')}`);
  }

  #take(key: string): unknown {
    this.#known.add(key);
    return this.#content.get(key);
  }

  #named(key: string): string {
    return `${this.#prefix}${key} in ${this.#file}`;
  }
}
